"""What cron, mdadm, smartd and their like expect of ``/usr/sbin/sendmail``: the message becomes an event.

It is no relay: whoever is named as recipient, the mail goes to the device's own list, and what was named is told in it.
The caller needs to be in the group that may raise events, and never meets the mail account or its password.

Flags are those of Sendmail and Postfix's sendmail(1); what only tunes a queue is taken and ignored, so that no caller
fails on it. Called for: cron ``-FCronDaemon -i -B8BITMIME -oem USER``, anacron ``-FAnacron -odi``, mdadm and logwatch
``-t``, unattended-upgrades ``-oi -t``, fail2ban ``-f sender dest``, smartd through ``mail``.
"""

from __future__ import annotations

import email
import email.message
import email.policy
import getopt
import html.parser
import os
import pwd
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from device_ui.mail import client
from device_ui.mail.catalog import MESSAGE

EX_USAGE = 64  # sysexits.h

# Bytes that are read of a message; what follows is taken and thrown away, so that the caller's pipe does not break.
MESSAGE_MAXIMUM = 1024 * 1024
# Characters of subject and text that are kept.
SUBJECT_MAXIMUM, TEXT_MAXIMUM = 200, 9_500
FLAGS = "A:B:b:C:D:d:F:f:Gh:I:iL:mN:nO:o:p:R:r:sTtUV:vX:q"
HEADERS = ("From", "To", "Subject", "Date", "MIME-Version", "Content-Type")
NO_SUBJECT = "(no subject)"
CUT = "\n[… cut]"


class Usage(Exception):
    """Flags that this door does not know."""


@dataclass(frozen=True)
class Call:
    """How it was called: the sender's `name` (-F), whether a lone dot ends the message, `mode` (-b), recipients."""

    name: str = ""
    dot_ends: bool = True
    mode: str = "m"
    recipients: tuple[str, ...] = ()


@dataclass(frozen=True)
class Message:
    """What is kept of a message: one line of `subject`, `text`, and the addresses that it named."""

    subject: str
    text: str
    recipients: tuple[str, ...] = ()


def deliver(path: Path, arguments: Sequence[str], stream: BinaryIO) -> int:
    """Hand the message in `stream` to the hook at `path`; the exit code. Raises `HookError`."""
    try:
        call = understand(arguments)
    except Usage as error:
        print(f"sendmail: {error}", file=sys.stderr)
        return EX_USAGE
    if call.mode != "m":
        print(f"sendmail: -b{call.mode} is not for this device", file=sys.stderr)
        return EX_USAGE
    client.raise_event(path, MESSAGE.code, as_text(parse(read(stream, call), call)), source(call))
    return 0


def understand(arguments: Sequence[str]) -> Call:
    """Read the command line. Raises `Usage`."""
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
    """The message's bytes from standard input, up to `MESSAGE_MAXIMUM` or, unless told otherwise, a lone dot."""
    kept, size = [], 0
    for line in iter(lambda: stream.readline(65536), b""):
        if call.dot_ends and line.rstrip(b"\r\n") == b".":
            break
        if size < MESSAGE_MAXIMUM:
            kept.append(line)
        size += len(line)
    return b"".join(kept)[:MESSAGE_MAXIMUM]


def parse(raw: bytes, call: Call) -> Message:
    """A message of any kind, broken ones too: what can be read of it."""
    try:
        mail = email.message_from_bytes(raw, policy=email.policy.default)
        subject, text, named = str(mail["Subject"] or ""), _text(mail), str(mail["To"] or "")
        if not text.strip() or not any(name in mail for name in HEADERS):
            # A text whose first line only looks like a header, or parts that are no text: keep what came.
            text = raw.decode("utf-8", "replace")
    except Exception:  # the parser fails on some broken messages in ways of its own; none may be lost
        subject, text, named = "", raw.decode("utf-8", "replace"), ""
    recipients = call.recipients or tuple(each.strip() for each in named.split(",") if each.strip())
    return Message(_line(subject)[:SUBJECT_MAXIMUM] or NO_SUBJECT, _cut(text.strip()), recipients)


def as_text(message: Message) -> str:
    """The event's text: the subject on the first line, what the message named, the message."""
    named = ", ".join(_line(each) for each in message.recipients)[:SUBJECT_MAXIMUM]
    return "\n".join([message.subject, *([f"To: {named}"] if named else []), "", message.text])


def source(call: Call) -> str:
    """Who called: the name it gave, else its user's."""
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        user = str(os.getuid())
    return f"{call.name} ({user})" if call.name else user


def _text(mail: email.message.EmailMessage) -> str:
    part = mail.get_body(("plain", "html"))
    if part is None:
        return ""
    content = part.get_payload(decode=True)
    text = _decoded(content, part) if isinstance(content, bytes) else str(part.get_payload())
    return _Words.of(text) if part.get_content_subtype() == "html" else text


def _decoded(content: bytes, part: email.message.Message) -> str:
    charset = part.get_content_charset("utf-8")
    try:
        return content.decode("utf-8" if charset == "us-ascii" else charset, "replace")
    except (LookupError, ValueError):
        return content.decode("utf-8", "replace")


def _line(text: str) -> str:
    return " ".join(text.split())


def _cut(text: str) -> str:
    return text if len(text) <= TEXT_MAXIMUM else text[: TEXT_MAXIMUM - len(CUT)] + CUT


class _Words(html.parser.HTMLParser):
    """The words of an HTML part."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []

    @classmethod
    def of(cls, text: str) -> str:
        found = cls()
        found.feed(text)
        found.close()
        return "\n".join(line for line in (" ".join(each.split()) for each in found.words) if line)

    def handle_data(self, data: str) -> None:
        self.words.append(data)
