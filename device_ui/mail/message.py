"""Compose the mail of one event, or of a digest, RFC 5322 and MIME. Pure: only the device's time zone is looked up.

Everything a person or the firmware typed goes through RFC 2047 or a base64 body, so nothing typed can add a header.
The header values are put together by `email.header` (folded at characters, never inside one) and not by the newer
`email.policy`, whose folding of quoted names lost commas in several Python versions we run on.
"""

from __future__ import annotations

import functools
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.charset import BASE64, QP, Charset
from email.header import Header
from email.mime.multipart import MIMEMultipart
from email.mime.nonmultipart import MIMENonMultipart
from email.policy import compat32
from email.utils import format_datetime

from device_ui.mail.catalog import Catalog, Kind
from device_ui.mail.outbox import Digest, Event
from device_ui.mail.telling import headed, local, moment, numbers, span
from device_ui.settings.smtp import SmtpSettings

# Headers are folded once, where they are made: the generator would fold anew, inside a quoted name too.
CRLF = compat32.clone(linesep="\r\n", max_line_length=None)
# RFC 5322, 2.1.1: lines are 998 characters at most. RFC 2047, 2: an encoded word has 75, and a blank before it.
HEADER_LINE = 76
# RFC 2045, 6.7: "=_" stands in no quoted-printable text and in no base64, so that no part can hold it. A boundary that is
# made up would be looked for in every part.
BOUNDARY = "=_device-ui"
# A private suffix that no public name can have; the rest makes the Message-ID unique (RFC 5322, 3.6.4).
MESSAGE_ID_SUFFIX = "device-ui.internal"

# Characters of all texts that a digest tells in full, the oldest first; of each text beyond them.
TEXTS_MAXIMUM, EXCERPT_MAXIMUM = 100_000, 200
DEVICE_ROWS = (("Device", "name"), ("Model", "model"), ("Serial number", "serial"), ("Address", "address"))

Rows = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Envelope:
    """What every mail needs beside its events.

    `device` holds ``name``, ``model``, ``serial`` and ``address``. `now` (seconds since 1970, never 1970 itself) dates
    what has no date. `removed`: events that the ledger's limit took before they could be mailed.
    """

    settings: SmtpSettings
    recipients: Sequence[str]
    device: Mapping[str, str]
    ledger_id: str
    now: float = 0.0
    removed: int = 0


def compose(event: Event, kind: Kind, envelope: Envelope) -> bytes:
    """The mail of one event with CRLF line ends, ready for DATA but for dot-stuffing.

    The Message-ID follows from the ledger and the number alone, so that it is the same for every retry.
    """
    event, kind = headed(event, kind)
    rows = [*table(event, kind, envelope.device), *_removed(envelope)]
    title = subject(event, kind, envelope.device["name"])
    texts = (_text(kind.name, [kind.description], rows), _html(title, kind.name, [kind.description], rows))
    return _mail(title, event.accepted, message_id(envelope.ledger_id, event.number), envelope, texts)


def compose_digest(digest: Digest, catalog: Catalog, envelope: Envelope) -> bytes:
    """The mail of many events: a line for each code with its count, all their numbers, and the oldest in full."""
    title = digest_subject(digest, catalog, envelope.device["name"])
    name = "1 event" if digest.count == 1 else f"{digest.count} events"
    rows = [*digest_table(digest, catalog, envelope.device), *_removed(envelope)]
    intro = ["These events came so quickly, or waited so long, that they are told of in one mail."]
    listed = _list(digest.events, catalog)
    if digest.count > len(listed):
        listed.append(f"and {digest.count - len(listed)} more, which the History page lists")
    texts = (_text(name, intro, rows, listed), _html(title, name, intro, rows, listed))
    dated = next((each.accepted for each in digest.events if each.accepted), 0.0)
    return _mail(title, dated, message_id(envelope.ledger_id, digest.number), envelope, texts)


def compose_test(envelope: Envelope, token: str) -> bytes:
    """The mail of ``Send test email``; `token` makes its Message-ID unlike any other."""
    title, device = f"[test] E-mail works · {envelope.device['name']}", envelope.device
    intro = [
        'Somebody pressed "Send test email" on this device, or ran device-ui test. Its alarms will come to you like this.'
    ]
    rows = [("Sent", moment(envelope.now)), *((label, device[name]) for label, name in DEVICE_ROWS if device[name])]
    texts = (_text("E-mail works", intro, rows), _html(title, "E-mail works", intro, rows))
    return _mail(title, envelope.now, f"<test.{token}.{envelope.ledger_id}@{MESSAGE_ID_SUFFIX}>", envelope, texts)


def _mail(title: str, accepted: float, name: str, envelope: Envelope, texts: tuple[str, str]) -> bytes:
    settings = envelope.settings
    mail = MIMEMultipart("alternative", boundary=BOUNDARY)
    del mail["MIME-Version"]
    mail["From"] = _mailbox(settings.sender_name, settings.mail_from)
    mail["To"] = _header("To", ", ".join(envelope.recipients), None)
    mail["Subject"] = _header("Subject", title, "utf-8")
    mail["Date"] = format_datetime(_date(accepted, envelope.now))
    mail["Message-ID"] = name
    mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: no out-of-office answers to a device
    mail["MIME-Version"] = "1.0"
    mail.attach(_part("plain", texts[0]))
    mail.attach(_part("html", texts[1]))
    return mail.as_bytes(policy=CRLF)


def message_id(ledger_id: str, number: int) -> str:
    """The Message-ID of an event: made of what never changes, and so kept for every retry."""
    return f"<{number}.{ledger_id}@{MESSAGE_ID_SUFFIX}>"


def subject(event: Event, kind: Kind, device_name: str) -> str:
    """The subject line: type and code, name of the event, name of the device."""
    return f"[{event.type} {event.code}] {kind.name} · {device_name}"


def table(event: Event, kind: Kind, device: Mapping[str, str]) -> Rows:
    """What the mail tells, row by row; what is empty is left out."""
    rows = (
        ("Event", f"{event.code} {kind.name}"),
        ("Type", event.type),
        ("Time", moment(event.time, event.clock)),
        ("Source", event.source),
        ("Text", event.text),
        *((label, device[name]) for label, name in DEVICE_ROWS),
        ("Event number", str(event.number)),
    )
    return [(label, value) for label, value in rows if value]


def digest_subject(digest: Digest, catalog: Catalog, device_name: str) -> str:
    """The subject line of a digest: count and type, the name that came most often, name of the device."""
    most = max(digest.codes, key=lambda each: each.count)
    others = len(digest.codes) - 1
    more = "" if not others else f" and {others} other {'kind' if others == 1 else 'kinds'}"
    counted = f"{digest.count} {digest.type}" + ("" if digest.count == 1 else "s")
    return f"[{counted}] {catalog[most.code].name}{more} · {device_name}"


def digest_table(digest: Digest, catalog: Catalog, device: Mapping[str, str]) -> Rows:
    """What a digest tells, row by row: each code with its count, first and last time, then the device."""
    codes = [
        (f"Event {each.code}", f"{catalog[each.code].name}: {_times(each.count)}, {span(each.first, each.last)}")
        for each in digest.codes
    ]
    rows = (
        ("Type", digest.type),
        *codes,
        *((label, device[name]) for label, name in DEVICE_ROWS),
        ("Event numbers", numbers(digest.ranges)),
    )
    return [(label, value) for label, value in rows if value]


def _list(events: Sequence[Event], catalog: Catalog) -> list[str]:
    """Each event with its text: a message of the system must be told in full even when another came before it."""
    listed, left = [], TEXTS_MAXIMUM
    for each in events:
        event, kind = headed(each, catalog[each.code])
        # A message of the system may be all first line, and so all name.
        name, text = (
            part if len(part) <= max(left, EXCERPT_MAXIMUM) else _excerpt(part) for part in (kind.name, event.text)
        )
        left = max(0, left - len(name) - len(text))
        source = f" ({event.source})" if event.source else ""
        listed.append(f"{event.number}: {moment(event.time, event.clock)}, {event.code} {name}{source}")
        listed[-1] += f"\n{text}" if text else ""
    return listed


def _date(accepted: float, now: float) -> datetime:
    try:
        return local(accepted or now)
    except (OverflowError, ValueError, OSError):  # damaged in the ledger: no reason to keep an alarm back
        return local(now)


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _excerpt(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= EXCERPT_MAXIMUM else line[:EXCERPT_MAXIMUM] + " […]"


def _removed(envelope: Envelope) -> Rows:
    if not envelope.removed:
        return []
    return [("Not mailed", f"{envelope.removed} events were removed before they could be mailed: the ledger was full.")]


# A thousand mails of a storm differ in their numbers and times alone, and folding these takes a third of a mail's time.
@functools.lru_cache(maxsize=16)
def _header(name: str, value: str, charset: str | None) -> str:
    return Header(value, charset, HEADER_LINE, name).encode()


@functools.lru_cache(maxsize=16)
def _mailbox(name: str, address: str) -> str:
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
    return header.encode()


def _part(subtype: str, content: str) -> MIMENonMultipart:
    # Quoted-printable keeps English readable in the raw mail; base64 is the shorter one for Korean.
    charset = Charset("utf-8")
    charset.body_encoding = QP if content.isascii() else BASE64
    part = MIMENonMultipart("text", subtype, charset="utf-8")
    part.set_payload(content if content.isascii() else content.replace("\n", "\r\n"), charset)
    return part


def _text(name: str, intro: Sequence[str], rows: Rows, listed: Sequence[str] = ()) -> str:
    width = max(len(label) for label, _ in rows) + 1
    indent = "\n" + " " * (width + 1)
    lines = [f"{label + ':':<{width}} {value.replace(chr(10), indent)}" for label, value in rows]
    told = [each.replace("\n", "\n    ") for each in listed]
    return "\n".join([name, "", *intro, "", *lines, "", *told, *([""] if told else [])])


def _html(title: str, name: str, intro: Sequence[str], rows: Rows, listed: Sequence[str] = ()) -> str:
    cells = "\n".join(
        f'<tr><th align="left" valign="top">{html.escape(label)}</th><td>{_lines(value)}</td></tr>'
        for label, value in rows
    )
    told = "".join(f"<p>{html.escape(each)}</p>\n" for each in intro)
    items = "".join(f"<li>{_lines(each)}</li>\n" for each in listed)
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head><meta charset="utf-8"><title>{html.escape(title)}</title></head>\n'
        f"<body>\n<h1>{html.escape(name)}</h1>\n{told}"
        f'<table cellpadding="4">\n{cells}\n</table>\n'
        + (f"<ul>\n{items}</ul>\n" if items else "")
        + "</body>\n</html>\n"
    )


def _lines(value: str) -> str:
    return html.escape(value).replace("\n", "<br>\n")
