"""Compose the mail of one event, of a digest or of a test (RFC 5322, RFC 2045). Pure, but for the device's time zone.

Every mail takes one path: `content` says what it says in each language, `headers` and `render` write it, and `_assemble`
puts it together. All text of a person or the firmware is encoded (RFC 2047, or base64 in a body), so none of it can add a
header.
"""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from email import quoprimime
from email.utils import format_datetime
from pathlib import Path

from device_ui.i18n.translator import ENGLISH, Translator, translator_for
from device_ui.mail.catalog import TYPES, Catalog, Kind
from device_ui.mail.events import Digest, Event
from device_ui.mail.format import event_source, format_ranges, local_time
from device_ui.mail.message import content, headers, render
from device_ui.mail.message.envelope import Envelope
from device_ui.settings.recipients import Recipient

# RFC 2045, section 6.7: "=_" occurs in no quoted-printable text and in no base64, so no part contains this boundary. A
# random one would have to be searched for in every part.
BOUNDARY = "=_device-ui"
FAULT = TYPES[0]
FACT_MAXIMUM = 8000  # characters of a header field for programs
BASE64_BYTES = 57  # in a line of 76 characters (RFC 2045, section 6.8)


@dataclass(frozen=True)
class _Mail:
    """One mail before it is written: its `title`, what it says, its ids, and the header fields for programs.

    `bracket` begins the subject and is English in every language, since filters of mail programs search it. `accepted` is
    seconds since 1970, 0 without a date.
    """

    bracket: str
    title: str
    sections: Sequence[render.Section]
    message_id: str
    accepted: float = 0.0
    thread: str = ""
    is_urgent: bool = False
    facts: Mapping[str, str] = field(default_factory=dict)


def languages(
    addresses: Sequence[str], recipients: Sequence[Recipient], device: Mapping[str, str]
) -> tuple[Translator, ...]:
    """Return the languages of these addresses, each once: that of the recipient, else the device's own.

    `device` has ``language`` and the maker's folder as ``etc``.
    """
    chosen = {each.address: each.language for each in recipients}
    own = device.get("language", ENGLISH)
    # A dict keeps the order of the recipients: the same mail has the same parts at every retry.
    codes = dict.fromkeys(chosen.get(address) or own for address in addresses)
    return tuple(translator_for(code, Path(device["etc"]) if "etc" in device else None) for code in codes or [own])


def compose(event: Event, kind: Kind, envelope: Envelope, mail: int = 0) -> bytes:
    """Return the mail of one event, its lines ended by CRLF, ready for DATA but for dot-stuffing.

    `mail` is the number of the mail where it is not the event's: an event that is sent again has a Message-ID of its own, since
    mail servers and readers drop a second mail with the same one.
    """
    composed = _Mail(
        f"[{event.type} {event.code}]",
        content.event_title(event, kind, envelope),
        content.event_sections(event, kind, envelope),
        headers.message_id(envelope.ledger_id, mail or event.number),
        event.accepted,
        headers.thread_id(envelope.ledger_id, event.code),
        event.type == FAULT,
        {
            "Code": event.code,
            "Number": str(event.number),
            "Type": event.type,
            "Time": _moment(event.time),
            "Source": str(event_source(event)),
        },
    )
    return _assemble(composed, envelope)


def compose_digest(digest: Digest, catalog: Catalog, envelope: Envelope) -> bytes:
    """Return the mail of several events: a line for each code with its count, all numbers, and the oldest in full."""
    codes = [each.code for each in digest.codes]
    moments = [moment for each in digest.codes for moment in (each.first, each.last) if moment]
    first, last = (_moment(min(moments)), _moment(max(moments))) if moments else ("", "")
    mail = _Mail(
        f"[{digest.type} {content.codes(codes)}]",
        content.digest_title(digest, catalog, envelope),
        content.digest_sections(digest, catalog, envelope),
        headers.message_id(envelope.ledger_id, digest.number),
        # The first event with a date: the mail sorts in a mailbox by what happened, and not by its retry.
        next((each.accepted for each in digest.events if each.accepted), 0.0),
        headers.thread_id(envelope.ledger_id, content.most_frequent(digest)),
        digest.type == FAULT,
        {
            "Code": ", ".join(codes),
            "Number": format_ranges(digest.ranges),
            "Count": str(digest.count),
            "Type": digest.type,
            "Time": f"{first}/{last}" if first != last else first,  # ISO 8601, an interval
            "Source": "; ".join(dict.fromkeys(filter(None, (str(event_source(each)) for each in digest.events)))),
        },
    )
    return _assemble(mail, envelope)


def compose_test(envelope: Envelope, token: str, example: tuple[Event, Kind]) -> bytes:
    """Return the mail of ``Send test email``, which shows `example` as an alarm looks; `token` makes its Message-ID unique."""
    mail = _Mail(
        "[test]",
        content.test_title(envelope),
        content.test_sections(envelope, example),
        headers.test_message_id(envelope.ledger_id, token),
        envelope.now,
        headers.thread_id(envelope.ledger_id, "test"),
        facts={"Type": "test"},
    )
    return _assemble(mail, envelope)


def _assemble(mail: _Mail, envelope: Envelope) -> bytes:
    settings, device = envelope.settings, envelope.device
    fields = {
        "Content-Type": f'multipart/alternative; boundary="{BOUNDARY}"',
        "From": headers.mailbox(settings.sender_name, settings.mail_from),
        "To": headers.addresses("To", ", ".join(envelope.recipients)),
        "Subject": headers.unstructured("Subject", mail.title, mail.bracket),
        # RFC 5322, 3.6.1: a mail has a date; an event without one gets that of its composition.
        "Date": format_datetime(_date(mail.accepted, envelope.now)),
        "Message-ID": mail.message_id,
        "References": mail.thread,
        "Auto-Submitted": "auto-generated",  # RFC 3834, section 5: no out-of-office replies to a device
        "X-Auto-Response-Suppress": "All",  # the same for Exchange ([MS-OXCMAIL], 2.2.3.2.14)
    }
    if mail.is_urgent and device.get("importance"):
        fields["Importance"] = device["importance"]  # RFC 2156, section 5.3.4
    facts = {f"Event-{name}": value for name, value in mail.facts.items()}
    for name, value in {**facts, "Name": device["name"], "Serial": device.get("serial", "")}.items():
        if line := render.one_line(value, FACT_MAXIMUM):
            fields[f"X-Device-{name}"] = headers.unstructured(f"X-Device-{name}", line)
    fields["MIME-Version"] = "1.0"
    # RFC 2046, section 5.1.1. `email.generator` would hold a large digest once more.
    boundary = f"\r\n--{BOUNDARY}".encode("ascii")
    return boundary.join(
        (
            headers.lines(fields),
            _mime_part("plain", render.as_text(mail.sections)),
            _mime_part("html", render.as_html(f"{mail.bracket} {mail.title}", mail.sections)),
            b"--\r\n",
        )
    )


def _moment(seconds: float) -> str:
    """Return a time as programs read it (RFC 3339), ``""`` where there is none."""
    try:
        return local_time(seconds).isoformat() if seconds else ""
    except (OverflowError, ValueError, OSError):  # damaged in the database
        return ""


def _date(accepted: float, now: float) -> datetime:
    try:
        return local_time(accepted or now)
    except (OverflowError, ValueError, OSError):  # damaged in the database; the event is mailed all the same
        return local_time(now)


def _mime_part(subtype: str, text: str) -> bytes:
    """Return a part as it follows its boundary."""
    # Quoted-printable keeps English readable in the raw mail; base64 is shorter for Korean.
    coding = "quoted-printable" if text.isascii() else "base64"
    fields = {
        "Content-Type": f'text/{subtype}; charset="utf-8"',
        "MIME-Version": "1.0",
        "Content-Transfer-Encoding": coding,
    }
    head = b"\r\n" + headers.lines(fields) + b"\r\n"
    if text.isascii():
        return head + quoprimime.body_encode(text, eol="\r\n").encode("ascii")
    raw, part = text.replace("\n", "\r\n").encode(), bytearray(head)
    for start in range(0, len(raw), BASE64_BYTES):
        part += b2a_base64(raw[start : start + BASE64_BYTES], newline=False) + b"\r\n"
    return bytes(part)
