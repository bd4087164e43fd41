"""A mail server on loopback that takes every mail, keeps it and knows in which session it came: what a balance is made of."""

from __future__ import annotations

import re
import socketserver
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from email import message_from_bytes, policy
from functools import cached_property

from tests.helpers.product import SECONDS, free_port, wait_for

NUMBERS = re.compile(r"^Event numbers?: +(.+)$", re.MULTILINE)
ROW = re.compile(r"([0-9]+)(?:-([0-9]+))?")
MORE = re.compile(r"and ([0-9]+) more up to [0-9]+")


@dataclass(frozen=True)
class Taken:
    """A mail that the server answered 250 for: its bytes, its session, when it came (monotonic seconds), and for whom."""

    raw: bytes
    session: int
    at: float
    recipients: tuple[str, ...] = ()

    @cached_property
    def subject(self) -> str:
        """The subject as a reader shows it."""
        return str(self._parsed["subject"])

    @cached_property
    def sender(self) -> str:
        """The display name it is from."""
        return str(self._parsed["from"].addresses[0].display_name)

    @cached_property
    def id(self) -> str:
        """The Message-ID."""
        return str(self._parsed["message-id"])

    @cached_property
    def told(self) -> list[int]:
        """The event numbers that the mail spells out, in order."""
        found: list[int] = []
        for each in self._row.split(", "):
            if spelt := ROW.fullmatch(each):
                found += range(int(spelt[1]), int(spelt[2] or spelt[1]) + 1)
        return found

    @cached_property
    def counted(self) -> int:
        """How many numbers more it counts without spelling them out."""
        more = MORE.search(self._row)
        return int(more[1]) if more else 0

    @cached_property
    def _row(self) -> str:
        body = self._parsed.get_body(("plain",))
        row = NUMBERS.search(body.get_content())
        assert row, self.raw
        return row[1].strip()

    @cached_property
    def _parsed(self):
        return message_from_bytes(self.raw, policy=policy.default)


class Keeper(socketserver.ThreadingTCPServer):
    """Serves between `with` and the end of its block. `taken` is called when a mail is kept and not yet answered.

    `objection` returns the reply to a recipient that is not taken, ``""`` for one that is.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", free_port()), Conversation)
        self.mails: list[Taken] = []
        self.sessions = self.open = 0
        self.taken: Callable[[], None] = lambda: None
        self.objection: Callable[[str], str] = lambda address: ""
        self.lock = threading.Lock()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,), name="keeper")

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.server_address[1])

    def __enter__(self) -> Keeper:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self._thread.join(SECONDS)
        self.server_close()

    def wait_until_alone(self) -> None:
        """Wait until every client has gone, and what it sent last was looked at."""
        wait_for(lambda: self.open == 0, what="the end of the session")


class Conversation(socketserver.StreamRequestHandler):
    """One session: every command is answered well, but for the recipients that the server objects to."""

    server: Keeper
    timeout = 60.0

    def handle(self) -> None:
        with self.server.lock:
            self.server.sessions += 1
            self.server.open += 1
            self._session = self.server.sessions
        self._recipients: list[str] = []
        try:
            self._talk()
        except OSError:  # the client was killed
            pass
        finally:
            with self.server.lock:
                self.server.open -= 1

    def _talk(self) -> None:
        self._say("220 keeper.example.test ESMTP")
        while line := self.rfile.readline():
            verb = line.split()[0].upper()
            if verb == b"DATA":
                self._say("354 go ahead")
                self._take()
            elif verb == b"RCPT":
                self._recipient(line.decode().partition("<")[2].partition(">")[0])
            else:
                self._recipients = []
                self._say("221 bye" if verb == b"QUIT" else "250 ok")

    def _recipient(self, address: str) -> None:
        objection = self.server.objection(address)
        if not objection:
            self._recipients.append(address)
        self._say(objection or "250 ok")

    def _take(self) -> None:
        lines = []
        while (line := self.rfile.readline()) != b".\r\n":
            if not line:
                return  # killed within the mail: nothing was taken
            lines.append(line[1:] if line.startswith(b".") else line)
        self.server.mails.append(Taken(b"".join(lines), self._session, time.monotonic(), (*self._recipients,)))
        self.server.taken()
        self._say("250 2.0.0 kept")

    def _say(self, line: str) -> None:
        self.wfile.write(line.encode() + b"\r\n")


def relay_form(port: int, **fields: str) -> dict[str, str]:
    """The tab's fields for a relay on loopback that wants no login."""
    values = {"host": "127.0.0.1", "port": str(port), "sender_name": "Storage alarms"}
    return {**values, "account": "alarm@mail.example.com", "security": "none", "sign_in": "none", **fields}
