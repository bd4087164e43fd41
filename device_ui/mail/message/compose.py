"""Compose the mail of one event, of a digest or of a test (RFC 5322, RFC 2045). Pure, but for the device's time zone.

All text of a person or the firmware is encoded (RFC 2047, or base64 in a body), so none of it can add a header. Headers
are made by `email.header`, which folds between characters, and not by `email.policy`, whose folding of quoted names loses
commas in several supported versions of Python.
"""

from __future__ import annotations

import functools
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from email import base64mime, quoprimime
from email.errors import HeaderParseError
from email.header import Header
from email.mime.multipart import MIMEMultipart
from email.mime.nonmultipart import MIMENonMultipart
from email.policy import Compat32
from email.utils import format_datetime
from pathlib import Path

from device_ui.errors import Message, Text
from device_ui.i18n.translator import ENGLISH, PLAIN, Translator, translator_for
from device_ui.mail.catalog import Catalog, Kind
from device_ui.mail.events import Digest, Event
from device_ui.mail.format import (
    event_name,
    event_source,
    event_text,
    format_numbers,
    format_span,
    format_time,
    local_time,
)
from device_ui.settings.fields import SmtpSettings
from device_ui.settings.recipients import Recipient


class _AlreadyFolded(Compat32):
    """Writes headers as they were folded when they were made; the generator would fold again, inside a quoted name too."""

    def fold_binary(self, name: str, value: str) -> bytes:
        """Return the header unchanged. Raises HeaderParseError if one of its lines would be a header of its own."""
        first, *others = value.split("\n")
        if "\r" in value or any(not each.strip() or each[0] not in " \t" for each in others):
            raise HeaderParseError(f"a line of {name} would be no part of it")
        return self.linesep.join([f"{name}: {first}", *others, ""]).encode("ascii")


CRLF = _AlreadyFolded(linesep="\r\n")
# RFC 2047, section 2: a line with an encoded word has 76 characters at most. (RFC 5322, section 2.1.1 allows 998.)
HEADER_LINE = 76
# RFC 2045, section 6.7: "=_" occurs in no quoted-printable text and in no base64, so no part contains this boundary. A
# random one would have to be searched for in every part.
BOUNDARY = "=_device-ui"
# A private suffix that no public name has; the rest makes the Message-ID unique (RFC 5322, section 3.6.4).
# .internal is reserved for private use (ICANN, 2024).
MESSAGE_ID_SUFFIX = "device-ui.internal"

# Characters of all texts that a digest contains in full, the oldest first; of each text after those.
TEXTS_MAXIMUM, EXCERPT_MAXIMUM = 100_000, 200
REMOVED = "{count} events were removed before they could be mailed: the ledger was full."
TEST_INTRO = '"Send test email" was pressed on this device, or device-ui test was run. Mails about its events look like this one.'
DEVICE_ROWS = (("Device", "name"), ("Model", "model"), ("Serial number", "serial"), ("Address", "address"))

Rows = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Envelope:
    """What every mail needs besides its events.

    `device` holds ``name``, ``model``, ``serial`` and ``address``. `now` (seconds since 1970, never 0) dates an event
    without a date. `removed` counts the events that the ledger's limit removed before they were mailed.

    `languages` are those of the recipients. If they differ, one mail has the content in each of them, one after the other.
    So it stays one mail, with one Message-ID, one transaction, one record in the ledger and one place in the budget. A mail
    for each language would be two halves that a power cut, a retry or the budget could separate.
    """

    settings: SmtpSettings
    recipients: Sequence[str]
    device: Mapping[str, str]
    ledger_id: str
    now: float = 0.0
    removed: int = 0
    languages: Sequence[Translator] = (PLAIN,)


@dataclass(frozen=True)
class Part:
    """The content of a mail in the language of `words`: a heading, paragraphs, a table, and the events of a digest."""

    words: Translator
    name: str
    intro: Sequence[str]
    rows: Rows
    items: Sequence[str] = ()


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


def compose(event: Event, kind: Kind, envelope: Envelope) -> bytes:
    """Return the mail of one event, its lines ended by CRLF, ready for DATA but for dot-stuffing."""
    parts = [
        Part(
            words,
            event_name(event, kind, words),
            [words(kind.description)],
            [*table(event, kind, envelope.device, words), *_removed(envelope, words)],
        )
        for words in envelope.languages
    ]
    title = subject(event, kind, envelope.device["name"], envelope.languages)
    return _assemble(title, event.accepted, message_id(envelope.ledger_id, event.number), envelope, parts)


def compose_digest(digest: Digest, catalog: Catalog, envelope: Envelope) -> bytes:
    """Return the mail of several events: a line for each code with its count, all numbers, and the oldest in full."""
    title = digest_subject(digest, catalog, envelope.device["name"])
    parts = [_digest_part(digest, catalog, envelope, words) for words in envelope.languages]
    # The first event with a date: the mail sorts in a mailbox by what happened, and not by its retry.
    dated = next((each.accepted for each in digest.events if each.accepted), 0.0)
    return _assemble(title, dated, message_id(envelope.ledger_id, digest.number), envelope, parts)


def _digest_part(digest: Digest, catalog: Catalog, envelope: Envelope, words: Translator) -> Part:
    name = words("1 event") if digest.count == 1 else words("{count} events", count=digest.count)
    items = _items(digest.events, catalog, words)
    # The History has the rest; a mail of 10,000 texts would be refused for its size (RFC 1870).
    if digest.count > len(items):
        items.append(words("and {count} more, which the History page lists", count=digest.count - len(items)))
    intro = [words("These events came within a short time, or had waited, so this one mail reports them all.")]
    rows = [*digest_table(digest, catalog, envelope.device, words), *_removed(envelope, words)]
    return Part(words, name, intro, rows, items)


def compose_test(envelope: Envelope, token: str) -> bytes:
    """Return the mail of ``Send test email``; `token` makes its Message-ID unique."""
    title, device = f"[test] E-mail works · {envelope.device['name']}", envelope.device
    parts = [
        Part(
            words,
            words("E-mail works"),
            [words(TEST_INTRO)],
            _translated([("Sent", format_time(envelope.now)), *_device_rows(device)], words),
        )
        for words in envelope.languages
    ]
    return _assemble(title, envelope.now, f"<test.{token}.{envelope.ledger_id}@{MESSAGE_ID_SUFFIX}>", envelope, parts)


def _assemble(title: str, accepted: float, name: str, envelope: Envelope, parts: Sequence[Part]) -> bytes:
    settings = envelope.settings
    mail = MIMEMultipart("alternative", boundary=BOUNDARY)
    del mail["MIME-Version"]
    mail["From"] = _mailbox(settings.sender_name, settings.mail_from)
    # ASCII by the rules of an address: no charset, so that a character beyond it would be an error.
    mail["To"] = _header("To", ", ".join(envelope.recipients), None)
    mail["Subject"] = _header("Subject", title, "utf-8")
    # RFC 5322, 3.6.1: a mail has a date; an event without one gets that of its composition.
    mail["Date"] = format_datetime(_date(accepted, envelope.now))
    mail["Message-ID"] = name
    mail["Auto-Submitted"] = "auto-generated"  # RFC 3834, section 5: no out-of-office replies to a device
    mail["MIME-Version"] = "1.0"
    mail.attach(_mime_part("plain", "\n".join(map(_text, parts))))
    mail.attach(_mime_part("html", _html(title, parts)))
    return mail.as_bytes(policy=CRLF)


def message_id(ledger_id: str, number: int) -> str:
    """Return the Message-ID of an event; it depends on the ledger and the number alone, so every retry has the same."""
    return f"<{number}.{ledger_id}@{MESSAGE_ID_SUFFIX}>"


def subject(event: Event, kind: Kind, device_name: str, languages: Sequence[Translator] = (PLAIN,)) -> str:
    """Return the subject: type and code, the event's name in every language, the device's name.

    The part in brackets is always English, since filter rules of mail readers match it.
    """
    # dict.fromkeys: a name that two languages share is there once.
    names = " / ".join(dict.fromkeys(event_name(event, kind, words) for words in languages))
    return f"[{event.type} {event.code}] {names} · {device_name}"


def table(event: Event, kind: Kind, device: Mapping[str, str], words: Translator = PLAIN) -> Rows:
    """Return the table of a mail: labels and values, without empty values."""
    rows = (
        ("Event", f"{event.code} {event_name(event, kind, words)}"),
        ("Type", words(event.type)),
        ("Time", words(format_time(event.time, event.clock))),
        ("Source", event_source(event)),
        ("Text", event_text(event)),
        *_device_rows(device),
        ("Event number", str(event.number)),
    )
    return _translated(rows, words)


def _device_rows(device: Mapping[str, str]) -> Rows:
    return [(label, device[name]) for label, name in DEVICE_ROWS]


def _translated(rows: Sequence[tuple[str, Text]], words: Translator) -> Rows:
    # Texts of the firmware and the system are not translated.
    return [(words(label), words(value) if isinstance(value, Message) else value) for label, value in rows if value]


def digest_subject(digest: Digest, catalog: Catalog, device_name: str) -> str:
    """Return the subject of a digest: count and type, the most frequent event's name, the device's name."""
    # The subject names one code: mail readers show some 60 characters of it.
    most = max(digest.codes, key=lambda code: code.count)
    others = len(digest.codes) - 1
    more = "" if not others else f" and {others} other {'kind' if others == 1 else 'kinds'}"
    counted = f"{digest.count} {digest.type}" + ("" if digest.count == 1 else "s")
    return f"[{counted}] {catalog[most.code].name}{more} · {device_name}"


def digest_table(digest: Digest, catalog: Catalog, device: Mapping[str, str], words: Translator = PLAIN) -> Rows:
    """Return the table of a digest: each code with its count, first and last time, then the device."""
    codes = [
        (
            words("Event {code}", code=each.code),
            f"{words(catalog[each.code].name)}: {_times(each.count, words)}, {format_span(each.first, each.last, words)}",
        )
        for each in digest.codes
    ]
    rows = (
        ("Type", words(digest.type)),
        *codes,
        *_device_rows(device),
        ("Event numbers", format_numbers(digest.ranges, words)),
    )
    return _translated(rows, words)


def _items(events: Sequence[Event], catalog: Catalog, words: Translator) -> list[str]:
    """Return each event with its text, in full while `TEXTS_MAXIMUM` lasts, else as an excerpt."""
    items, left = [], TEXTS_MAXIMUM
    for event in events:
        # A message of the system may be one long line, which is its name.
        parts = event_name(event, catalog[event.code], words), str(event_text(event))
        name, text = (part if len(part) <= max(left, EXCERPT_MAXIMUM) else _excerpt(part) for part in parts)
        left = max(0, left - len(name) - len(text))
        source = f" ({event.source})" if event.source else ""
        items.append(f"{event.number}: {words(format_time(event.time, event.clock))}, {event.code} {name}{source}")
        items[-1] += f"\n{text}" if text else ""
    return items


def _date(accepted: float, now: float) -> datetime:
    try:
        return local_time(accepted or now)
    except (OverflowError, ValueError, OSError):  # damaged in the ledger; the alarm is mailed all the same
        return local_time(now)


def _times(count: int, words: Translator) -> str:
    return words("once") if count == 1 else words("{count} times", count=count)


def _excerpt(text: str) -> str:
    # One line, so that an excerpt takes one line in the list.
    line = " ".join(text.split())
    return line if len(line) <= EXCERPT_MAXIMUM else line[:EXCERPT_MAXIMUM] + " […]"


def _removed(envelope: Envelope, words: Translator) -> Rows:
    return [(words("Not mailed"), words(REMOVED, count=envelope.removed))] if envelope.removed else []


# The mails of a storm differ in numbers and times alone, and folding a header takes a third of a mail's time.
@functools.lru_cache(maxsize=16)
def _header(name: str, value: str, charset: str | None) -> str:
    return Header(value, charset, HEADER_LINE, name).encode()


@functools.lru_cache(maxsize=16)
def _mailbox(name: str, address: str) -> str:
    header = Header(header_name="From", maxlinelen=HEADER_LINE)
    # Mail readers decode anything that looks like an encoded word, even in quotes.
    if name.isascii() and "=?" not in name:
        escaped = name.replace("\\", "\\\\").replace('"', '\\"')
        # A quoted string (RFC 5322, section 3.2.4) may be 100 characters here and must not be folded inside.
        header = Header(f'"{escaped}" <{address}>', header_name="From", maxlinelen=998)
    else:
        # `Header` treats these two as line ends; in a name they are blanks.
        header.append(name.translate({0x2028: " ", 0x2029: " "}), "utf-8")
        header.append(f"<{address}>", "us-ascii")
    return header.encode()


def _mime_part(subtype: str, content: str) -> MIMENonMultipart:
    # Quoted-printable keeps English readable in the raw mail; base64 is shorter for Korean.
    part = MIMENonMultipart("text", subtype, charset="utf-8")
    part["Content-Transfer-Encoding"] = "quoted-printable" if content.isascii() else "base64"
    part.set_payload(
        quoprimime.body_encode(content)
        if content.isascii()
        else base64mime.body_encode(content.replace("\n", "\r\n").encode())
    )
    return part


def _text(part: Part) -> str:
    width = max(len(label) for label, _ in part.rows) + 1
    indent = "\n" + " " * (width + 1)
    # A further line of a value is indented, so that it cannot look like a row of the table.
    lines = [f"{label + ':':<{width}} {value.replace(chr(10), indent)}" for label, value in part.rows]
    items = [each.replace("\n", "\n    ") for each in part.items]
    return "\n".join([part.name, "", *part.intro, "", *lines, "", *items, *([""] if items else [])])


def _html(title: str, parts: Sequence[Part]) -> str:
    first, *others = parts
    # Each language is declared, so that a screen reader changes its voice (WCAG 2.2, 3.1.2).
    more = "".join(f'<div lang="{each.words.code}">\n{_section(each)}</div>\n' for each in others)
    return (
        f'<!DOCTYPE html>\n<html lang="{first.words.code}">\n'
        f'<head><meta charset="utf-8"><title>{html.escape(title)}</title></head>\n'
        f"<body>\n{_section(first)}{more}</body>\n</html>\n"
    )


def _section(part: Part) -> str:
    # Attributes and no style sheet: several mail readers drop styles, and the table stays readable.
    cells = "\n".join(
        f'<tr><th align="left" valign="top">{html.escape(label)}</th><td>{_with_breaks(value)}</td></tr>'
        for label, value in part.rows
    )
    intro = "".join(f"<p>{html.escape(each)}</p>\n" for each in part.intro)
    items = "".join(f"<li>{_with_breaks(each)}</li>\n" for each in part.items)
    return f'<h1>{html.escape(part.name)}</h1>\n{intro}<table cellpadding="4">\n{cells}\n</table>\n' + (
        f"<ul>\n{items}</ul>\n" if items else ""
    )


def _with_breaks(value: str) -> str:
    # Escaped first: the only markup in a value is ours.
    return html.escape(value).replace("\n", "<br>\n")
