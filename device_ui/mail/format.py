"""Format events for a person, in mails and in the history: their names, texts, numbers and times.

Pure, but for the device's time zone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime

from device_ui.errors import Message, Text, from_stored
from device_ui.i18n.translator import PLAIN, Translator
from device_ui.mail.catalog import MESSAGE, OF_DEVICE, Kind
from device_ui.mail.events import BEFORE, PENDING, Event

# Ranges of numbers that are listed; the rest is counted.
RANGES_MAXIMUM = 500
# Those before a text: its first line may begin with blanks, as a table does.
EMPTY_LINES = re.compile(r"\A(?: *\n)+")
NOT_KNOWN = "not known (the device's clock was not set)"


def event_name(event: Event, kind: Kind, words: Translator = PLAIN) -> str:
    """Return the name of an event: of a message of the system its subject, not translated; else the name of its kind."""
    # Not translated: a subject that equals a sentence of the catalogue must stay in the language it was written in.
    subject = event.text.partition("\n")[0] if kind.code == MESSAGE.code and not event.about else ""
    return subject or words(kind.name)


def event_text(event: Event) -> Text:
    """Return the text of an event: of a message of the system without its subject, which is the first line."""
    is_message = event.code == MESSAGE.code and not event.about
    return event.text.partition("\n")[2].strip("\n") if is_message else _own(event, event.text)


def event_lines(event: Event, words: Translator = PLAIN) -> tuple[str, str]:
    """Return what happened as one line and as a text whose layout counts, either of them ``""``.

    The line is the subject of a message of the system, or the first line of a text if an empty one follows or nothing does.
    """
    text = EMPTY_LINES.sub("", words(event_text(event))).rstrip()
    if event.code == MESSAGE.code and (subject := event.text.partition("\n")[0]):
        return subject, text
    first, _, rest = text.partition("\n")
    return (first, EMPTY_LINES.sub("", rest)) if not rest or rest.startswith("\n") else ("", text)


def event_source(event: Event) -> Text:
    """Return the source of an event."""
    return _own(event, event.source)


def _own(event: Event, stored: str) -> Text:
    """Return a text of an event: a message where this device raised it."""
    return Message(from_stored(stored)) if event.code in OF_DEVICE or event.about else stored


def format_numbers(ranges: Sequence[tuple[int, int]], words: Translator = PLAIN) -> str:
    """Format numbers: ``2-4012, 4020``."""
    listed, left = format_ranges(ranges), ranges[RANGES_MAXIMUM:]
    if not left:
        return listed
    count = sum(last - first + 1 for first, last in left)
    return ", ".join([listed, words("and {count} more up to {last}", count=count, last=left[-1][1])])


def format_ranges(ranges: Sequence[tuple[int, int]]) -> str:
    """Format the first `RANGES_MAXIMUM` ranges of numbers for a program: ``2-4012, 4020``."""
    # Events of the other type take the numbers in between, so a storm may have thousands of ranges.
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges[:RANGES_MAXIMUM])


def format_time(seconds: float, clock: str = "") -> Text:
    """Format a time with its zone: ``2026-11-23 14:03:22 +09:00 (KST)``; `clock` is that of the event (see `events`)."""
    if clock.startswith(PENDING) and not seconds:
        return NOT_KNOWN
    try:
        when = local_time(seconds)
    except (OverflowError, ValueError, OSError):  # one flipped bit must not hide the whole history
        return "not known (the ledger's date is damaged)"
    text = f"{when:%Y-%m-%d %H:%M:%S} {_offset(when)} ({when.tzname()})"
    return Message("before {time} (the device's clock was not set)", time=text) if clock == BEFORE else text


def format_clock(seconds: float, clock: str, day: str) -> Text:
    """Format a time beside others of the `day` (``2026-11-23``, as `format_day`): without its zone, and the day only if
    it differs."""
    if clock or not seconds:
        return format_time(seconds, clock)
    own = format_day(seconds)
    if not own:
        return format_time(seconds)
    return f"{local_time(seconds):%H:%M:%S}" if own == day else f"{local_time(seconds):%Y-%m-%d %H:%M:%S}"


def format_minute(seconds: float, clock: str = "") -> str:
    """Format a time without its seconds and its zone's name: ``2026-11-23 14:03 +09:00``; ``""`` where it is not certain."""
    if clock or not format_day(seconds):
        return ""
    when = local_time(seconds)
    return f"{when:%Y-%m-%d %H:%M} {_offset(when)}"


def format_day(seconds: float) -> str:
    """Return the day of a time in the device's zone: ``2026-11-23``; ``""`` when it has none."""
    parts = local_parts(seconds)
    return parts[0] if parts else ""


def local_parts(seconds: float) -> tuple[str, str, str] | None:
    """Return date, time and zone: ``2026-11-23``, ``14:03:22``, ``+09:00 (KST)``; None for a time that has no date."""
    try:
        when = local_time(seconds) if seconds else None
    except (OverflowError, ValueError, OSError):
        return None
    return (f"{when:%Y-%m-%d}", f"{when:%H:%M:%S}", f"{_offset(when)} ({when.tzname()})") if when else None


def format_span(first: float, last: float, words: Translator = PLAIN) -> str:
    """Format the time from `first` to `last`; a `last` of 0 is not known."""
    if not last:
        return words("time not known (the device's clock was not set)")
    # Events of one second are shown with one time.
    if int(first) == int(last):
        return words(format_time(first))
    return words("{first} to {last}", first=words(format_time(first)), last=words(format_time(last)))


def _offset(when: datetime) -> str:
    # The offset is unambiguous; a name such as IST is not.
    zone = f"{when:%z}"
    return f"{zone[:3]}:{zone[3:]}"


def local_time(seconds: float) -> datetime:
    """Return the moment in the device's time zone. Raises OverflowError, ValueError or OSError when it has none."""
    return datetime.fromtimestamp(int(seconds)).astimezone()
