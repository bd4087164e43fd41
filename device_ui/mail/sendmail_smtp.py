"""``sendmail -bs``: an SMTP session on standard input and output, in which each mail becomes an event.

Swift Mailer, Symfony and Laravel call sendmail so by default. The server of RFC 5321 without extensions: HELO, EHLO, MAIL, RCPT,
DATA, RSET, NOOP, VRFY and QUIT. It relays nothing: the recipients are named in the event, which goes to the device's own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import BinaryIO

from device_ui.errors import HookError

# Bytes of a command line (RFC 5321, 4.5.3.1.4), and commands that are no SMTP before the session is closed.
COMMAND_MAXIMUM, ERRORS_MAXIMUM = 512, 20
# Recipients of one mail (RFC 5321, 4.5.3.1.8).
RECIPIENTS_MAXIMUM = 100
OK, DENIED = "250 2.0.0 Ok", "550 5.7.1 This user may not raise events"
# RFC 5321, 4.1.2: a path with its parameters; the source route before the address is ignored (appendix C).
PATH = r"\s*<(?:@[^<>:]*:)?([^<>]*)>(?:\s.*)?"
MAIL, RCPT = re.compile(rf"FROM:{PATH}", re.IGNORECASE), re.compile(rf"TO:{PATH}", re.IGNORECASE)


class Session:
    """One session.

    `accept` receives the recipients of a mail, reads its content from `stream` up to the lone dot, and stores it. It raises
    `HookError` when the mail is not stored.
    """

    def __init__(self, stream: BinaryIO, replies: BinaryIO, accept: Callable[[Sequence[str]], None]) -> None:
        self._stream, self._replies, self._accept = stream, replies, accept
        # None: no MAIL yet (RFC 5321, 4.1.4).
        self._recipients: list[str] | None = None
        self._errors = 0
        self._verbs: dict[str, Callable[[str], str]] = {
            "HELO": lambda _: self._reset("250 device-ui"),
            "EHLO": lambda _: self._reset("250-device-ui\r\n250-8BITMIME\r\n250 SMTPUTF8"),
            "MAIL": self._mail,
            "RCPT": self._rcpt,
            "DATA": self._data,
            "RSET": lambda _: self._reset(OK),
            "NOOP": lambda _: OK,
            "VRFY": lambda _: "252 2.5.0 Send some mail, it will be tried",
        }

    def run(self) -> None:
        """Serve until QUIT or the end of the input."""
        self._reply("220 device-ui ESMTP; every mail becomes an event of this device")
        while line := self._stream.readline(COMMAND_MAXIMUM):
            verb, _, rest = line.decode("utf-8", "replace").strip().partition(" ")
            if not line.endswith(b"\n"):
                self._skip()
                self._reply(self._error("500 5.5.2 Line too long"))
            elif verb.upper() == "QUIT":
                self._reply("221 2.0.0 Bye")
                return
            else:
                known = self._verbs.get(verb.upper())
                self._reply(known(rest) if known else self._error("500 5.5.2 Command not known"))
            if self._errors >= ERRORS_MAXIMUM:
                self._reply("421 4.7.0 Too many errors")
                return

    def _reset(self, reply: str) -> str:
        self._recipients = None
        return reply

    def _mail(self, rest: str) -> str:
        if not MAIL.fullmatch(rest):
            return self._error("501 5.5.4 Syntax: MAIL FROM:<address>")
        if self._recipients is not None:
            return self._error("503 5.5.1 Nested MAIL command")
        self._recipients = []
        return "250 2.1.0 Ok"

    def _rcpt(self, rest: str) -> str:
        found = RCPT.fullmatch(rest)
        if self._recipients is None:
            return self._error("503 5.5.1 Send MAIL first")
        if not found or not found[1]:
            return self._error("501 5.5.4 Syntax: RCPT TO:<address>")
        if len(self._recipients) >= RECIPIENTS_MAXIMUM:
            return "452 4.5.3 Too many recipients"
        self._recipients.append(found[1])
        return "250 2.1.5 Ok"

    def _data(self, _: str) -> str:
        if not self._recipients:
            return self._error("503 5.5.1 Send RCPT first")
        self._reply("354 End with a line that is a dot alone")
        try:
            self._accept(self._recipients)
        except HookError as error:
            reply = DENIED if error.word == "denied" else "451 4.3.0 The event is not stored; try again later"
        else:
            reply = OK
        return self._reset(reply)

    def _error(self, reply: str) -> str:
        self._errors += 1
        return reply

    def _skip(self) -> None:
        """Read the rest of a line that is too long."""
        while (piece := self._stream.readline(COMMAND_MAXIMUM)) and not piece.endswith(b"\n"):
            pass

    def _reply(self, text: str) -> None:
        self._replies.write(f"{text}\r\n".encode())
        self._replies.flush()
