"""What a mail says, in each language of its readers: titles, and sections in the order in which they are read. Pure.

A title is the subject after its bracket: the device, what happened, and in brackets the name of the event, so that a lock
screen shows which disk it is. A section begins with what happened, in the words of the program that raised it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from device_ui.errors import Message, Text
from device_ui.i18n.translator import Translator
from device_ui.mail.catalog import MESSAGE, TYPES, Catalog, Kind
from device_ui.mail.events import CodeCount, Digest, Event
from device_ui.mail.format import (
    event_lines,
    event_name,
    event_source,
    format_clock,
    format_day,
    format_minute,
    format_numbers,
    format_span,
    format_time,
)
from device_ui.mail.message.envelope import Envelope
from device_ui.mail.message.render import Entry, Group, Row, Rows, Section, one_line

# Characters of what happened in a subject, and of a name there: the subject of a message of the system has no limit.
HAPPENED_MAXIMUM, NAME_MAXIMUM = 60, 200
# Codes of a digest that its subject has; the rest is counted. The header field has all.
CODES_MAXIMUM = 8
# Characters of all texts that a digest contains in full, the oldest first; of each text after those.
TEXTS_MAXIMUM, EXCERPT_MAXIMUM = 100_000, 200

FAULT = TYPES[0]
REMOVED = "{count} events were removed before they could be mailed: the ledger was full."
TEST_INTRO = (
    '"Send test email" was pressed on this device, or device-ui test was run. Mail from this device arrives here. '
    "Alarms look like the example below."
)
BELOW = "The text in English is below."  # translated: the text in that language
DEVICE_ROWS = (
    ("Device", "name"),
    ("Model", "model"),
    ("Serial number", "serial"),
    ("Host name", "host_name"),
    ("Address", "address"),
)


def event_title(event: Event, kind: Kind, envelope: Envelope) -> str:
    """Return the subject of one event's mail after its bracket."""
    words = envelope.languages[0]
    names = _each(envelope, lambda each: one_line(event_name(event, kind, each), NAME_MAXIMUM))
    headline, layout = event_lines(event, words)
    if _is_headed(event, kind):
        return _title(envelope, names)
    return _title(envelope, names, one_line(headline or layout, HAPPENED_MAXIMUM))


def event_sections(event: Event, kind: Kind, envelope: Envelope) -> list[Section]:
    """Return what the mail of one event says."""
    return _marked([_event_section(event, kind, envelope, words) for words in envelope.languages])


def digest_title(digest: Digest, catalog: Catalog, envelope: Envelope) -> str:
    """Return the subject of a digest after its bracket: how many events, and the most frequent one's name."""

    def counted(words: Translator) -> str:
        name, others = words(catalog[most_frequent(digest)].name), len(digest.codes) - 1
        if others:
            more = words("1 other kind") if others == 1 else words("{count} other kinds", count=others)
            name = words("{name} and {more}", name=name, more=more)
        events = f"{_counted(digest, words)} ({name})"
        return words("Daily summary: {events}", events=events) if digest.is_summary else events

    return f"{_device(envelope)}: {_each(envelope, counted)}"


def digest_sections(digest: Digest, catalog: Catalog, envelope: Envelope) -> list[Section]:
    """Return what a digest says: a group for each code with its oldest events."""
    return _marked([_digest_section(digest, catalog, envelope, words) for words in envelope.languages])


def test_title(envelope: Envelope) -> str:
    """Return the subject of the test mail after its bracket."""
    return _title(envelope, _each(envelope, lambda words: words("E-mail works")))


def test_sections(envelope: Envelope, example: tuple[Event, Kind]) -> list[Section]:
    """Return what the test mail says: that mail arrives, and an example of an alarm as alarms look."""
    sections = []
    for words in envelope.languages:
        alarm = _event_section(*example, envelope, words)
        label = words("Example: {label}", label=alarm.label)
        sections += [
            Section(
                words,
                "test",
                words("TEST"),
                _device(envelope),
                format_minute(envelope.now),
                words("E-mail works"),
                paragraphs=[words(TEST_INTRO)],
                rows=_translated([("Sent", format_time(envelope.now)), *_device_rows(envelope, words)], words),
            ),
            Section(
                words,
                alarm.tone,
                label,
                alarm.device,
                alarm.time,
                alarm.headline,
                alarm.layout,
                alarm.name,
                alarm.paragraphs,
            ),
        ]
    return _marked(sections)


def codes(every: Sequence[str]) -> str:
    """Return the codes of a digest for its subject."""
    left = len(every) - CODES_MAXIMUM
    return " ".join([*every[:CODES_MAXIMUM], *([f"+{left}"] if left > 0 else [])])


def most_frequent(digest: Digest) -> str:
    """Return the code of most of the events; of several, the first."""
    # The subject names one code: mail readers show some 60 characters of it.
    return max(digest.codes, key=lambda code: code.count).code


def _event_section(event: Event, kind: Kind, envelope: Envelope, words: Translator) -> Section:
    headline, layout = event_lines(event, words)
    name = words(kind.name) if _is_headed(event, kind) else event_name(event, kind, words)
    rows = (
        ("Event", f"{event.code} {name}"),
        ("Type", words(event.type)),
        ("Time", words(format_time(event.time, event.clock))),
        ("Source", event_source(event)),
        *_device_rows(envelope, words),
        ("Event number", str(event.number)),
        *_removed(envelope),
    )
    return Section(
        words,
        event.type,
        f"{words(event.type).upper()} {event.code}",
        _device(envelope),
        format_minute(event.time, event.clock),
        headline or ("" if layout else name),
        layout,
        name if headline or layout else "",
        [words(kind.description)],
        link=_link(
            words("Open event {number} on the device", number=event.number),
            envelope,
            {"code": event.code, "from": format_day(event.time), "to": format_day(event.time)},
            f"#event-{event.number}",
        ),
        rows=_translated(rows, words, {"Event": _code_url(event.code, envelope)}),
    )


def _digest_section(digest: Digest, catalog: Catalog, envelope: Envelope, words: Translator) -> Section:
    moments = [moment for each in digest.codes for moment in (each.first, each.last) if moment]
    first, last = (min(moments), max(moments)) if moments else (0.0, 0.0)
    rows = (
        ("Type", words(digest.type)),
        ("Time", format_span(first, last, words)),
        *_device_rows(envelope, words),
        ("Event numbers", format_numbers(digest.ranges, words)),
        *_removed(envelope),
    )
    return Section(
        words,
        digest.type,
        _counted(digest, words).upper(),
        _device(envelope),
        format_minute(first),
        groups=[
            replace(group, url=_code_url(each.code, envelope))
            for each, group in zip(digest.codes, _groups(digest, catalog, format_day(first), words), strict=True)
        ],
        link=_link(
            words("Open these events on the device"),
            envelope,
            {
                "code": digest.codes[0].code if len(digest.codes) == 1 else "",
                "type": digest.type,
                "from": format_day(first),
                "to": format_day(last),
            },
        ),
        rows=_translated(rows, words),
    )


def _groups(digest: Digest, catalog: Catalog, day: str, words: Translator) -> list[Group]:
    """Return a group for each code with its listed events: in full while `TEXTS_MAXIMUM` lasts, else as excerpts."""
    entries: dict[str, list[Entry]] = {each.code: [] for each in digest.codes}
    left = TEXTS_MAXIMUM
    for event in digest.events:
        text = "\n\n".join(filter(None, event_lines(event, words)))  # either may be one long line
        shown = text if len(text) <= max(left, EXCERPT_MAXIMUM) else _excerpt(text)
        left = max(0, left - len(shown))
        source = f" ({words(event_source(event))})" if event.source else ""
        head = f"{event.number}: {words(format_clock(event.time, event.clock, day))}{source}"
        entries.setdefault(event.code, []).append(Entry(head, shown))
    return [_group(each, catalog, entries[each.code], day, words) for each in digest.codes]


def _group(code: CodeCount, catalog: Catalog, entries: Sequence[Entry], day: str, words: Translator) -> Group:
    times = words("once") if code.count == 1 else words("{count} times", count=code.count)
    if not code.last:
        span = words("time not known (the device's clock was not set)")
    elif int(code.first) == int(code.last):
        span = words(format_clock(code.first, "", day))
    else:
        first, last = (words(format_clock(each, "", day)) for each in (code.first, code.last))
        span = words("{first} to {last}", first=first, last=last)
    # The History has the rest; a mail of 10,000 texts would be refused for its size (RFC 1870).
    left = code.count - len(entries)
    more = words("and {count} more, which the History page lists", count=left) if left > 0 else ""
    return Group(f"{code.code} {words(catalog[code.code].name)}", f"{times}, {span}", entries, more)


def _is_headed(event: Event, kind: Kind) -> bool:
    """Return whether this is a message of the system with a subject of its own."""
    return kind.code == MESSAGE.code and bool(event.text.partition("\n")[0])


def _device(envelope: Envelope) -> str:
    return one_line(envelope.device["name"], NAME_MAXIMUM)


def _title(envelope: Envelope, names: str, happened: str = "") -> str:
    is_new = happened and happened != names
    return f"{_device(envelope)}: " + (f"{happened} ({names})" if is_new else names)


def _each(envelope: Envelope, text: Callable[[Translator], str]) -> str:
    """Return a text in every language of the readers, each once."""
    # dict.fromkeys: a name that two languages share is there once.
    return " / ".join(dict.fromkeys(map(text, envelope.languages)))


def _counted(digest: Digest, words: Translator) -> str:
    if digest.type == FAULT:
        return words("1 fault") if digest.count == 1 else words("{count} faults", count=digest.count)
    return words("1 info") if digest.count == 1 else words("{count} infos", count=digest.count)


def _marked(sections: list[Section]) -> list[Section]:
    """Return the sections; the first one says in which further languages the mail goes on."""
    first, *rest = sections
    others = {each.words.code: each.words(BELOW) for each in rest if each.words.code != first.words.code}
    return [replace(first, paragraphs=[*first.paragraphs, *others.values()]), *rest]


def _link(text: str, envelope: Envelope, query: Mapping[str, str], place: str = "") -> tuple[str, str] | None:
    """Return a link to events of the History page; None where the device's address is not known."""
    filters = "&".join(f"{name}={value}" for name, value in query.items() if value)
    return (text, f"{envelope.pages}/history?{filters}{place}") if envelope.pages else None


def _code_url(code: str, envelope: Envelope) -> str:
    """Return the address of a code on the page of the event codes, ``""`` where the device's address is not known."""
    return f"{envelope.pages}/others/event-codes?code={code}" if envelope.pages else ""


def _device_rows(envelope: Envelope, words: Translator) -> Sequence[tuple[str, Text]]:
    """Return the device's rows, once in a mail of several languages."""
    is_first = words is envelope.languages[0]
    return [(label, envelope.device.get(name, "")) for label, name in DEVICE_ROWS] if is_first else []


def _removed(envelope: Envelope) -> Sequence[tuple[str, Text]]:
    return [("Not mailed", Message(REMOVED, count=envelope.removed))] if envelope.removed else []


def _translated(
    rows: Sequence[tuple[str, Text]], words: Translator, urls: Mapping[str, str] = MappingProxyType({})
) -> Rows:
    """Return the rows that have a value; `urls` are the pages that values lead to, by their labels."""
    # Texts of the firmware and the system are not translated.
    return [
        Row(words(label), words(value) if isinstance(value, Message) else value, urls.get(label, ""))
        for label, value in rows
        if value
    ]


def _excerpt(text: str) -> str:
    # One line, so that an excerpt takes one line in the list.
    line = " ".join(text.split())
    return line if len(line) <= EXCERPT_MAXIMUM else line[:EXCERPT_MAXIMUM] + " […]"
