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
from email import base64mime, quoprimime
from email.errors import HeaderParseError
from email.header import Header
from email.mime.multipart import MIMEMultipart
from email.mime.nonmultipart import MIMENonMultipart
from email.policy import Compat32
from email.utils import format_datetime
from pathlib import Path

from device_ui.i18n.translator import ENGLISH, PLAIN, Translator, spoken
from device_ui.mail.catalog import SERVER_CHANGED, Catalog, Kind
from device_ui.mail.events import Digest, Event
from device_ui.mail.format import event_name, event_text, format_numbers, format_span, format_time, local_time
from device_ui.settings.fields import SmtpSettings
from device_ui.settings.recipients import Recipient


class _Folded(Compat32):
    """Headers are folded once, where they are made: the generator would fold anew, inside a quoted name too."""

    def fold_binary(self, name: str, value: str) -> bytes:
        """The header as it stands. Raises HeaderParseError when a line of it would be a header of its own."""
        first, *others = value.split("\n")
        if "\r" in value or any(not each.strip() or each[0] not in " \t" for each in others):
            raise HeaderParseError(f"a line of {name} would be no part of it")
        return self.linesep.join([f"{name}: {first}", *others, ""]).encode("ascii")


CRLF = _Folded(linesep="\r\n")
# RFC 5322, 2.1.1: lines are 998 characters at most. RFC 2047, 2: an encoded word has 75, and a blank before it.
HEADER_LINE = 76
# RFC 2045, 6.7: "=_" stands in no quoted-printable text and in no base64, so that no part can hold it. A boundary that is
# made up would be looked for in every part.
BOUNDARY = "=_device-ui"
# A private suffix that no public name can have; the rest makes the Message-ID unique (RFC 5322, 3.6.4).
MESSAGE_ID_SUFFIX = "device-ui.internal"

# Characters of all texts that a digest tells in full, the oldest first; of each text beyond them.
TEXTS_MAXIMUM, EXCERPT_MAXIMUM = 100_000, 200
REMOVED = "{count} events were removed before they could be mailed: the ledger was full."
TEST_INTRO = (
    'Somebody pressed "Send test email" on this device, or ran device-ui test. Its alarms will come to you like this.'
)
DEVICE_ROWS = (("Device", "name"), ("Model", "model"), ("Serial number", "serial"), ("Address", "address"))

Rows = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Envelope:
    """What every mail needs beside its events.

    `device` holds ``name``, ``model``, ``serial`` and ``address``. `now` (seconds since 1970, never 1970 itself) dates
    what has no date. `removed`: events that the ledger's limit took before they could be mailed.

    `languages` are those of the recipients. Where they differ, one mail tells everything in each of them, one after the
    other: so it stays one mail, with one Message-ID, in one transaction that the ledger records as one, and the budget
    counts it once. A mail for each language would be two halves that a power cut, a retry or the budget can part.
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
    """What a mail tells in the language of `words`."""

    words: Translator
    name: str
    intro: Sequence[str]
    rows: Rows
    listed: Sequence[str] = ()


def languages(
    recipients: Sequence[str], listed: Sequence[Recipient], device: Mapping[str, str]
) -> tuple[Translator, ...]:
    """The languages of these addresses; `device` has its own as ``language``, and the maker's folder as ``etc``."""
    chosen = {each.address: each.language for each in listed}
    own = device.get("language", ENGLISH)
    codes = dict.fromkeys(chosen.get(address) or own for address in recipients)
    return tuple(spoken(code, Path(device["etc"]) if "etc" in device else None) for code in codes or [own])


def compose(event: Event, kind: Kind, envelope: Envelope) -> bytes:
    """The mail of one event with CRLF line ends, ready for DATA but for dot-stuffing.

    The Message-ID follows from the ledger and the number alone, so that it is the same for every retry.
    """
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
    return _mail(title, event.accepted, message_id(envelope.ledger_id, event.number), envelope, parts)


def compose_digest(digest: Digest, catalog: Catalog, envelope: Envelope) -> bytes:
    """The mail of many events: a line for each code with its count, all their numbers, and the oldest in full."""
    title = digest_subject(digest, catalog, envelope.device["name"])
    parts = [_digest_part(digest, catalog, envelope, words) for words in envelope.languages]
    dated = next((each.accepted for each in digest.events if each.accepted), 0.0)
    return _mail(title, dated, message_id(envelope.ledger_id, digest.number), envelope, parts)


def _digest_part(digest: Digest, catalog: Catalog, envelope: Envelope, words: Translator) -> Part:
    name = words("1 event") if digest.count == 1 else words("{count} events", count=digest.count)
    listed = _list(digest.events, catalog, words)
    if digest.count > len(listed):
        listed.append(words("and {count} more, which the History page lists", count=digest.count - len(listed)))
    intro = [words("These events came so quickly, or waited so long, that they are told of in one mail.")]
    rows = [*digest_table(digest, catalog, envelope.device, words), *_removed(envelope, words)]
    return Part(words, name, intro, rows, listed)


def compose_test(envelope: Envelope, token: str) -> bytes:
    """The mail of ``Send test email``; `token` makes its Message-ID unlike any other."""
    title, device = f"[test] E-mail works · {envelope.device['name']}", envelope.device
    parts = [
        Part(
            words,
            words("E-mail works"),
            [words(TEST_INTRO)],
            _spoken([("Sent", format_time(envelope.now)), *_device_rows(device)], words),
        )
        for words in envelope.languages
    ]
    return _mail(title, envelope.now, f"<test.{token}.{envelope.ledger_id}@{MESSAGE_ID_SUFFIX}>", envelope, parts)


def _mail(title: str, accepted: float, name: str, envelope: Envelope, parts: Sequence[Part]) -> bytes:
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
    mail.attach(_part("plain", "\n".join(map(_text, parts))))
    mail.attach(_part("html", _html(title, parts)))
    return mail.as_bytes(policy=CRLF)


def message_id(ledger_id: str, number: int) -> str:
    """The Message-ID of an event: made of what never changes, and so kept for every retry."""
    return f"<{number}.{ledger_id}@{MESSAGE_ID_SUFFIX}>"


def subject(event: Event, kind: Kind, device_name: str, languages: Sequence[Translator] = (PLAIN,)) -> str:
    """The subject line: type and code, name of the event in every language, name of the device.

    What stands in brackets is English for everybody: people's mail rules look for it.
    """
    names = " / ".join(dict.fromkeys(event_name(event, kind, words) for words in languages))
    return f"[{event.type} {event.code}] {names} · {device_name}"


def table(event: Event, kind: Kind, device: Mapping[str, str], words: Translator = PLAIN) -> Rows:
    """What the mail tells, row by row; what is empty is left out."""
    # What the firmware and the system say stays as it came.
    own = words.lines if event.code == SERVER_CHANGED.code else str
    rows = (
        ("Event", f"{event.code} {event_name(event, kind, words)}"),
        ("Type", words(event.type)),
        ("Time", words(format_time(event.time, event.clock))),
        ("Source", own(event.source)),
        ("Text", own(event_text(event))),
        *_device_rows(device),
        ("Event number", str(event.number)),
    )
    return _spoken(rows, words)


def _device_rows(device: Mapping[str, str]) -> Rows:
    return [(label, device[name]) for label, name in DEVICE_ROWS]


def _spoken(rows: Rows, words: Translator) -> Rows:
    return [(words(label), value) for label, value in rows if value]


def digest_subject(digest: Digest, catalog: Catalog, device_name: str) -> str:
    """The subject line of a digest: count and type, the name that came most often, name of the device."""
    most = max(digest.codes, key=lambda each: each.count)
    others = len(digest.codes) - 1
    more = "" if not others else f" and {others} other {'kind' if others == 1 else 'kinds'}"
    counted = f"{digest.count} {digest.type}" + ("" if digest.count == 1 else "s")
    return f"[{counted}] {catalog[most.code].name}{more} · {device_name}"


def digest_table(digest: Digest, catalog: Catalog, device: Mapping[str, str], words: Translator = PLAIN) -> Rows:
    """What a digest tells, row by row: each code with its count, first and last time, then the device."""
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
    return _spoken(rows, words)


def _list(events: Sequence[Event], catalog: Catalog, words: Translator) -> list[str]:
    """Each event with its text: a message of the system must be told in full even when another came before it."""
    listed, left = [], TEXTS_MAXIMUM
    for each in events:
        # A message of the system may be all first line, and so all name.
        parts = event_name(each, catalog[each.code], words), event_text(each)
        name, text = (part if len(part) <= max(left, EXCERPT_MAXIMUM) else _excerpt(part) for part in parts)
        left = max(0, left - len(name) - len(text))
        source = f" ({each.source})" if each.source else ""
        listed.append(f"{each.number}: {words(format_time(each.time, each.clock))}, {each.code} {name}{source}")
        listed[-1] += f"\n{text}" if text else ""
    return listed


def _date(accepted: float, now: float) -> datetime:
    try:
        return local_time(accepted or now)
    except (OverflowError, ValueError, OSError):  # damaged in the ledger: no reason to keep an alarm back
        return local_time(now)


def _times(count: int, words: Translator) -> str:
    return words("once") if count == 1 else words("{count} times", count=count)


def _excerpt(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= EXCERPT_MAXIMUM else line[:EXCERPT_MAXIMUM] + " […]"


def _removed(envelope: Envelope, words: Translator) -> Rows:
    return [(words("Not mailed"), words(REMOVED, count=envelope.removed))] if envelope.removed else []


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
    lines = [f"{label + ':':<{width}} {value.replace(chr(10), indent)}" for label, value in part.rows]
    told = [each.replace("\n", "\n    ") for each in part.listed]
    return "\n".join([part.name, "", *part.intro, "", *lines, "", *told, *([""] if told else [])])


def _html(title: str, parts: Sequence[Part]) -> str:
    first, *others = parts
    more = "".join(f'<div lang="{each.words.code}">\n{_section(each)}</div>\n' for each in others)
    return (
        f'<!DOCTYPE html>\n<html lang="{first.words.code}">\n'
        f'<head><meta charset="utf-8"><title>{html.escape(title)}</title></head>\n'
        f"<body>\n{_section(first)}{more}</body>\n</html>\n"
    )


def _section(part: Part) -> str:
    cells = "\n".join(
        f'<tr><th align="left" valign="top">{html.escape(label)}</th><td>{_lines(value)}</td></tr>'
        for label, value in part.rows
    )
    told = "".join(f"<p>{html.escape(each)}</p>\n" for each in part.intro)
    items = "".join(f"<li>{_lines(each)}</li>\n" for each in part.listed)
    return f'<h1>{html.escape(part.name)}</h1>\n{told}<table cellpadding="4">\n{cells}\n</table>\n' + (
        f"<ul>\n{items}</ul>\n" if items else ""
    )


def _lines(value: str) -> str:
    return html.escape(value).replace("\n", "<br>\n")
