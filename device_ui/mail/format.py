"""Format events for a person, in mails and in the history: their names, texts, numbers and times.

Pure, but for the device's time zone.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from device_ui.errors import Message, Text, from_stored
from device_ui.i18n.translator import PLAIN, Translator
from device_ui.mail.catalog import MESSAGE, SERVER_CHANGED, Kind
from device_ui.mail.events import BEFORE, PENDING, Event

# Ranges of numbers that are listed; the rest is counted.
RANGES_MAXIMUM = 500
NOT_KNOWN = "not known (the device's clock was not set)"


def event_name(event: Event, kind: Kind, words: Translator = PLAIN) -> str:
    """Return the name of an event: of a message of the system its subject, not translated; else the name of its kind."""
    # Not translated: a subject that equals a sentence of ours would be shown in a different language than it was written in.
    subject = event.text.partition("\n")[0] if kind.code == MESSAGE.code else ""
    return subject or words(kind.name)


def event_text(event: Event) -> Text:
    """Return the text of an event: of a message of the system without its subject, which is the first line."""
    return event.text.partition("\n")[2].strip("\n") if event.code == MESSAGE.code else _own(event, event.text)


def event_source(event: Event) -> Text:
    """Return the source of an event."""
    return _own(event, event.source)


def _own(event: Event, stored: str) -> Text:
    """Return a text of an event: a message where this device raised it."""
    return Message(from_stored(stored)) if event.code == SERVER_CHANGED.code else stored


def format_numbers(ranges: Sequence[tuple[int, int]], words: Translator = PLAIN) -> str:
    """Format numbers: ``2-4012, 4020``."""
    # Events of the other type take the numbers in between, so a storm may have thousands of ranges.
    texts = [str(first) if first == last else f"{first}-{last}" for first, last in ranges[:RANGES_MAXIMUM]]
    left = ranges[RANGES_MAXIMUM:]
    if left:
        count = sum(last - first + 1 for first, last in left)
        texts.append(words("and {count} more up to {last}", count=count, last=left[-1][1]))
    return ", ".join(texts)


def format_time(seconds: float, clock: str = "") -> Text:
    """Format a time with its zone: ``2026-11-23 14:03:22 +09:00 (KST)``; `clock` is that of the event (see `events`)."""
    if clock.startswith(PENDING) and not seconds:
        return NOT_KNOWN
    try:
        when = local_time(seconds)
    except (OverflowError, ValueError, OSError):  # one flipped bit must not hide the whole history
        return "not known (the ledger's date is damaged)"
    # The offset is unambiguous; a name such as IST is not.
    zone = f"{when:%z}"
    text = f"{when:%Y-%m-%d %H:%M:%S} {zone[:3]}:{zone[3:]} ({when.tzname()})"
    return Message("before {time} (the device's clock was not set)", time=text) if clock == BEFORE else text


def format_span(first: float, last: float, words: Translator = PLAIN) -> str:
    """Format the time from `first` to `last`; a `last` of 0 is not known."""
    if not last:
        return words("time not known (the device's clock was not set)")
    # Events of one second are shown with one time.
    if int(first) == int(last):
        return words(format_time(first))
    return words("{first} to {last}", first=words(format_time(first)), last=words(format_time(last)))


def local_time(seconds: float) -> datetime:
    """Return the moment in the device's time zone. Raises OverflowError, ValueError or OSError when it has none."""
    return datetime.fromtimestamp(int(seconds)).astimezone()
