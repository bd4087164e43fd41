"""Compose the mail of one event, RFC 5322 and MIME. Pure: the device's time zone is the only thing looked up.

Everything a person or the firmware typed goes through RFC 2047 or a base64 body, so nothing typed can add a header.
The header values are put together by `email.header` (folded at characters, never inside one) and not by the newer
`email.policy`, whose folding of quoted names lost commas in several Python versions we run on.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from email.charset import BASE64, QP, Charset
from email.header import Header
from email.mime.multipart import MIMEMultipart
from email.mime.nonmultipart import MIMENonMultipart
from email.policy import compat32
from email.utils import format_datetime

from device_ui.mail.catalog import MESSAGE, Kind
from device_ui.mail.outbox import Event
from device_ui.settings.smtp import SmtpSettings

# Headers are folded once, where they are made: the generator would fold anew, inside a quoted name too.
CRLF = compat32.clone(linesep="\r\n", max_line_length=None)
# RFC 5322, 2.1.1: lines are 998 characters at most. RFC 2047, 2: an encoded word has 75, and a blank before it.
HEADER_LINE = 76
# A private suffix that no public name can have; the rest makes the Message-ID unique (RFC 5322, 3.6.4).
MESSAGE_ID_SUFFIX = "device-ui.internal"

Rows = Sequence[tuple[str, str]]


def compose(
    event: Event,
    kind: Kind,
    settings: SmtpSettings,
    recipients: Sequence[str],
    device: Mapping[str, str],
    ledger_id: str,
) -> bytes:
    """The whole mail with CRLF line ends, ready for DATA but for dot-stuffing.

    `device` holds ``name``, ``model``, ``serial`` and ``address``. The Message-ID follows from the ledger and the
    number alone, so that it is the same for every retry without writing anything.
    """
    event, kind = headed(event, kind)
    rows = table(event, kind, device)
    mail = MIMEMultipart("alternative")
    del mail["MIME-Version"]
    mail["From"] = _mailbox(settings.sender_name, settings.mail_from).encode()
    mail["To"] = Header(", ".join(recipients), None, HEADER_LINE, "To").encode()
    mail["Subject"] = Header(subject(event, kind, device["name"]), "utf-8", HEADER_LINE, "Subject").encode()
    mail["Date"] = format_datetime(_local(event.accepted))
    mail["Message-ID"] = message_id(ledger_id, event.number)
    mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: no out-of-office answers to a device
    mail["MIME-Version"] = "1.0"
    mail.attach(_part("plain", _text(kind, rows)))
    mail.attach(_part("html", _html(subject(event, kind, device["name"]), kind, rows)))
    return mail.as_bytes(policy=CRLF)


def message_id(ledger_id: str, number: int) -> str:
    """The Message-ID of an event: made of what never changes, and so kept for every retry."""
    return f"<{number}.{ledger_id}@{MESSAGE_ID_SUFFIX}>"


def headed(event: Event, kind: Kind) -> tuple[Event, Kind]:
    """For a message of the system: its own subject, which is its first line, in the place of the kind's name."""
    if kind.code != MESSAGE.code:
        return event, kind
    name, _, text = event.text.partition("\n")
    return replace(event, text=text.strip("\n")), replace(kind, name=name or kind.name)


def subject(event: Event, kind: Kind, device_name: str) -> str:
    """The subject line: type and code, name of the event, name of the device."""
    return f"[{event.type} {event.code}] {kind.name} · {device_name}"


def table(event: Event, kind: Kind, device: Mapping[str, str]) -> Rows:
    """What the mail tells, row by row; what is empty is left out."""
    rows = (
        ("Event", f"{event.code} {kind.name}"),
        ("Type", event.type),
        ("Time", moment(event.time)),
        ("Source", event.source),
        ("Text", event.text),
        ("Device", device["name"]),
        ("Model", device["model"]),
        ("Serial number", device["serial"]),
        ("Address", device["address"]),
        ("Event number", str(event.number)),
    )
    return [(label, value) for label, value in rows if value]


def moment(seconds: float) -> str:
    """A time with its zone, as a person reads it: ``2026-11-23 14:03:22 +09:00 (KST)``."""
    local = _local(seconds)
    zone = f"{local:%z}"
    return f"{local:%Y-%m-%d %H:%M:%S} {zone[:3]}:{zone[3:]} ({local.tzname()})"


def _local(seconds: float) -> datetime:
    return datetime.fromtimestamp(int(seconds)).astimezone()


def _mailbox(name: str, address: str) -> Header:
    header = Header(header_name="From", maxlinelen=HEADER_LINE)
    # What looks like an encoded word would be decoded by readers, quoted or not.
    if name.isascii() and "=?" not in name:
        escaped = name.replace("\\", "\\\\").replace('"', '\\"')
        # A quoted string (RFC 5322, 3.2.4) may be 100 characters and must not be folded inside.
        header = Header(f'"{escaped}" <{address}>', header_name="From", maxlinelen=998)
    else:
        # Header takes these two for line ends; in a name they are blanks.
        header.append(name.translate({0x2028: " ", 0x2029: " "}), "utf-8")
        header.append(f"<{address}>", "us-ascii")
    return header


def _part(subtype: str, content: str) -> MIMENonMultipart:
    # Quoted-printable keeps English readable in the raw mail; base64 is the shorter one for Korean.
    charset = Charset("utf-8")
    charset.body_encoding = QP if content.isascii() else BASE64
    part = MIMENonMultipart("text", subtype, charset="utf-8")
    part.set_payload(content if content.isascii() else content.replace("\n", "\r\n"), charset)
    return part


def _text(kind: Kind, rows: Rows) -> str:
    width = max(len(label) for label, _ in rows) + 1
    indent = "\n" + " " * (width + 1)
    lines = [f"{label + ':':<{width}} {value.replace(chr(10), indent)}" for label, value in rows]
    return "\n".join([kind.name, "", kind.description, "", *lines, ""])


def _html(title: str, kind: Kind, rows: Rows) -> str:
    cells = "\n".join(
        f'<tr><th align="left" valign="top">{html.escape(label)}</th><td>{_lines(value)}</td></tr>'
        for label, value in rows
    )
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head><meta charset="utf-8"><title>{html.escape(title)}</title></head>\n'
        f"<body>\n<h1>{html.escape(kind.name)}</h1>\n<p>{html.escape(kind.description)}</p>\n"
        f'<table cellpadding="4">\n{cells}\n</table>\n</body>\n</html>\n'
    )


def _lines(value: str) -> str:
    return html.escape(value).replace("\n", "<br>\n")
