"""``/usr/sbin/sendmail`` for cron, mdadm, smartd and the like: the message becomes an event.

It relays nothing: the mail goes to the device's own recipients, and its text names those of the message. The caller must be in
the group that may raise events, and has no access to the mail account or its password.

The flags are those of Sendmail and Postfix's sendmail(1); those that tune a queue are ignored, so that no caller fails on
them. Known uses: cron ``-FCronDaemon -i -B8BITMIME -oem USER``, anacron ``-FAnacron -odi``, mdadm and logwatch
``-t``, unattended-upgrades ``-oi -t``, fail2ban ``-f sender dest``, smartd through ``mail``, Symfony and Laravel ``-bs``.
"""

from __future__ import annotations

import email
import email.policy
import email.utils
import getopt
import html
import os
import pwd
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from email.message import EmailMessage, MIMEPart
from functools import partial
from pathlib import Path
from typing import BinaryIO, TypeVar, cast

from device_ui.logging_setup import escaped
from device_ui.mail import client
from device_ui.mail.catalog import MESSAGE
from device_ui.mail.sendmail_smtp import Session

EX_USAGE = 64  # sysexits.h

# Bytes of a message; the rest is read and discarded, so that the caller's pipe does not break. A line has a limit of its own,
# so that an endless header field leaves room for the others and for the text.
MESSAGE_MAXIMUM, LINE_MAXIMUM = 256 * 1024, 64 * 1024
# Characters of one header field: the standard library's parser takes quadratic time.
HEADER_MAXIMUM = 1000
# Characters of sender, subject and text.
SENDER_MAXIMUM, SUBJECT_MAXIMUM, TEXT_MAXIMUM = 60, 200, 9_500
FLAGS = "A:B:b:C:D:d:F:f:Gh:I:iL:mN:nO:o:p:R:r:sTtUV:vX:"
# A message has at least one of these; a text whose first line happens to look like a field has none.
HEADERS = ("From", "To", "Subject", "Date", "MIME-Version", "Content-Type")
# The mode of ``-q``, which sends the queue and reads no message.
QUEUE = "q"
# The mode of ``-bs``.
SESSION = "s"
# A tag and its name; html.parser takes quadratic time for some broken pages.
TAG = re.compile(r"<([/!]?[A-Za-z0-9-]*)[^<>]*>")
EMPTY_LINES = re.compile(r"\A(?:[ \r]*\n)+")
# Elements whose content is not shown.
HIDDEN = frozenset({"style", "script", "title"})
NO_SUBJECT = "(no subject)"
CUT = "\n[… cut]"

T = TypeVar("T")


class Usage(Exception):
    """Unknown flags."""


@dataclass(frozen=True)
class Call:
    """A command line: the sender's `name` (-F), whether a lone dot ends the message, `mode` (-b), recipients."""

    name: str = ""
    dot_ends: bool = True
    mode: str = "m"
    recipients: tuple[str, ...] = ()


@dataclass(frozen=True)
class Message:
    """The parts of a message: `subject` on one line, `text`, its recipients' addresses, its sender's name."""

    subject: str
    text: str
    recipients: tuple[str, ...] = ()
    sender: str = ""


class Bounded(email.policy.EmailPolicy):
    """Header fields of `HEADER_MAXIMUM` characters at most, in the message and in all its parts."""

    def header_source_parse(self, sourcelines: Iterable[str]) -> tuple[str, str]:
        """Return the field's name and its value, cut."""
        name, value = super().header_source_parse(list(sourcelines))
        # A Subject of a megabyte took the parser a gigabyte of memory.
        return name, value[:HEADER_MAXIMUM]


# Policies are generic for type checkers only, so that the class cannot say it.
BOUNDED = cast("email.policy.EmailPolicy[EmailMessage]", Bounded())


def deliver(path: Path, arguments: Sequence[str], stream: BinaryIO) -> int:
    """Raise the message in `stream` as an event. Return the exit code. Raises `HookError`.

    With ``-bs`` `stream` and the standard output are an SMTP session, with any number of messages. An unknown flag is
    `EX_USAGE`, but the event is raised: no unknown flag loses one.
    """
    try:
        code, call = 0, understand(arguments)
    except Usage as error:
        print(escaped(f"sendmail: {error}; the message is kept"), file=sys.stderr)
        # A dot is no end then: whether -i was given is unknown, and a cut message is worse.
        code, call = EX_USAGE, Call(dot_ends=False)
    if call.mode == QUEUE:
        return 0  # the mail hook retries by itself
    if call.mode == SESSION:
        with open(1, "wb", closefd=False) as replies:
            Session(
                stream, replies, lambda named: raise_message(path, replace(call, recipients=tuple(named)), stream)
            ).run()
        return code
    if call.mode != "m":
        print(escaped(f"sendmail: -b{call.mode} is not for this device"), file=sys.stderr)
        return EX_USAGE
    raise_message(path, call, stream)
    return code


def raise_message(path: Path, call: Call, stream: BinaryIO) -> None:
    """Raise one message in `stream` as an event, after reading all of it. Raises `HookError`."""
    message = parse(read(stream, call), call)
    client.raise_event(path, MESSAGE.code, as_text(message), source(call, message))


def understand(arguments: Sequence[str]) -> Call:
    """Return the parsed command line. Raises `Usage`."""
    # Before getopt, since -q may be followed by an interval in the same word (-q30m).
    if any(word.startswith("-q") for word in arguments):
        return Call(mode=QUEUE)
    try:
        flags, recipients = getopt.gnu_getopt(list(arguments), FLAGS)
    except getopt.GetoptError as error:
        raise Usage(str(error)) from error
    given = [(flag, value) for flag, value in flags]
    dots = ("-i", "") in given or any(flag == "-o" and value.startswith("i") for flag, value in given)
    modes = [value for flag, value in given if flag == "-b"]
    names = [value for flag, value in given if flag == "-F"]
    return Call((names or [""])[-1], not dots, (modes or ["m"])[-1], tuple(recipients))


def read(stream: BinaryIO, call: Call) -> bytes:
    """Return the message's bytes, up to `MESSAGE_MAXIMUM` or, unless the call says otherwise, a lone dot; without the
    dots of SMTP."""
    message, begins = bytearray(), True
    for piece in iter(lambda: stream.readline(LINE_MAXIMUM), b""):
        if (call.dot_ends or call.mode == SESSION) and begins and piece.rstrip(b"\r\n") == b".":
            break
        ends = piece.endswith(b"\n")
        # A line beyond the limit is cut, so that an endless Subject leaves room for the text.
        part = piece if begins else b"\n" * ends  # the first piece of a long line
        if call.mode == SESSION and begins:
            part = part.removeprefix(b".")  # RFC 5321, 4.5.2
        # The rest is still read: a caller whose pipe breaks would report a failure, or drop the message.
        message += part[: MESSAGE_MAXIMUM - len(message)]
        begins = ends
    return bytes(message)


def parse(raw: bytes, call: Call) -> Message:
    """Return the readable parts of a message, broken ones too."""
    # An event in a broken message is still an event: whatever the parser does, the text is kept.
    mail = _or_default(lambda: email.message_from_bytes(raw, EmailMessage, policy=BOUNDED), EmailMessage())
    text = _or_default(lambda: _text(mail), "")
    if not text.strip() or not any(name in mail for name in HEADERS):
        # A text whose first line only looks like a header, or no text parts: keep all of it.
        text = raw.decode("utf-8", "replace")
    subject, named, sender = (_or_default(partial(_field, mail, name), "") for name in ("Subject", "To", "From"))
    recipients = call.recipients or tuple(each.strip() for each in named.split(",") if each.strip())
    subject = subject[:SUBJECT_MAXIMUM].rstrip() or NO_SUBJECT
    # A first line that begins with blanks is one of a table; events have no tabs.
    text = EMPTY_LINES.sub("", text.expandtabs()).rstrip()
    return Message(subject, _cut(text), recipients, email.utils.parseaddr(sender)[0])


def as_text(message: Message) -> str:
    """Return the event's text: the subject on the first line, the message in its own layout, the recipients that it names."""
    named = ", ".join(_line(each) for each in message.recipients)[:SUBJECT_MAXIMUM]
    return "\n\n".join(filter(None, (message.subject, message.text, f"(for {named})" if named else "")))


def source(call: Call, message: Message) -> str:
    """Return the event's source: the sender's name (-F, else From), and the user's."""
    # The real user, since "From" is free text: History must show which program wrote this.
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        user = str(os.getuid())
    name = _line(call.name or message.sender)[:SENDER_MAXIMUM]
    return f"{name} ({user})" if name else user


def _or_default(read: Callable[[], T], otherwise: T) -> T:
    """Return the result of `read`, or `otherwise` if the standard library fails on a broken message."""
    try:
        return read()
    except Exception:  # of any kind: no message may be lost for it
        return otherwise


def _field(mail: EmailMessage, name: str) -> str:
    """Return a header field on one line, ``""`` if there is none."""
    return _line(str(mail[name] or ""))


def _text(mail: EmailMessage) -> str:
    part = mail.get_body(("plain", "html"))
    if part is None:
        return ""
    content = part.get_payload(decode=True)
    text = _decoded(content, part) if isinstance(content, bytes) else str(part.get_payload())
    return _words(text) if part.get_content_subtype() == "html" else text


def _decoded(content: bytes, part: MIMEPart) -> str:
    charset = part.get_content_charset("utf-8")
    try:
        # Many programs send UTF-8 without declaring it; by RFC 2045, 5.2 that is us-ascii.
        return content.decode("utf-8" if charset == "us-ascii" else charset, "replace")
    except (LookupError, ValueError):
        return content.decode("utf-8", "replace")


def _line(text: str) -> str:
    return " ".join(text.split())


def _cut(text: str) -> str:
    return text if len(text) <= TEXT_MAXIMUM else text[: TEXT_MAXIMUM - len(CUT)] + CUT


def _words(page: str) -> str:
    """Return the text of an HTML page, one line for each stretch between tags."""
    # The pattern has one group, so split() returns text and tag name in turn.
    first, *rest = TAG.split(page)
    lines, hidden = [first], ""
    for name, stretch in zip(rest[::2], rest[1::2], strict=True):
        # The end tag of the same name ends it, as a browser reads raw text elements (HTML, 13.2.5).
        if not hidden and name.lower() in HIDDEN:
            hidden = f"/{name.lower()}"
        if name.lower() == hidden:
            hidden = ""
        if not hidden:
            lines.append(stretch)
    return "\n".join(line for line in (_line(html.unescape(each)) for each in lines) if line)
