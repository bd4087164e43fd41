"""How events are told to a person, in mails and on pages alike: their times, their numbers, their names. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from device_ui.errors import Message, Text, from_stored
from device_ui.i18n.translator import PLAIN, Translator
from device_ui.mail.catalog import MESSAGE, SERVER_CHANGED, Kind
from device_ui.mail.clock import BEFORE, PENDING
from device_ui.mail.events import Event

# Ranges of numbers that are spelt out.
RANGES_MAXIMUM = 500
NOT_KNOWN = "not known (the device's clock was not set)"


def name(event: Event, kind: Kind, words: Translator = PLAIN) -> str:
    """What an event is called: a message of the system by its subject, which stays as it came, any other by its kind."""
    subject = event.text.partition("\n")[0] if kind.code == MESSAGE.code else ""
    return subject or words(kind.name)


def text(event: Event) -> Text:
    """Return the text of an event; of a message of the system without its first line, which is the subject."""
    return event.text.partition("\n")[2].strip("\n") if event.code == MESSAGE.code else _own(event, event.text)


def source(event: Event) -> Text:
    """Return the source of an event."""
    return _own(event, event.source)


def _own(event: Event, stored: str) -> Text:
    """Return a text of an event: a message where this device raised it."""
    return Message(from_stored(stored)) if event.code == SERVER_CHANGED.code else stored


def numbers(ranges: Sequence[tuple[int, int]], words: Translator = PLAIN) -> str:
    """Numbers as a person reads them: ``2-4012, 4020``."""
    spelt = [str(first) if first == last else f"{first}-{last}" for first, last in ranges[:RANGES_MAXIMUM]]
    left = ranges[RANGES_MAXIMUM:]
    if left:
        count = sum(last - first + 1 for first, last in left)
        spelt.append(words("and {count} more up to {last}", count=count, last=left[-1][1]))
    return ", ".join(spelt)


def moment(seconds: float, clock: str = "") -> Text:
    """A time with its zone, as a person reads it: ``2026-11-23 14:03:22 +09:00 (KST)``; `clock` is what it rests on."""
    if clock.startswith(PENDING) and not seconds:
        return NOT_KNOWN
    try:
        when = local(seconds)
    except (OverflowError, ValueError, OSError):  # one flipped bit must not hide the whole history
        return "not known (the ledger's date is damaged)"
    zone = f"{when:%z}"
    told = f"{when:%Y-%m-%d %H:%M:%S} {zone[:3]}:{zone[3:]} ({when.tzname()})"
    return Message("before {told} (the device's clock was not set)", told=told) if clock == BEFORE else told


def span(first: float, last: float, words: Translator = PLAIN) -> str:
    if not last:
        return words("time not known (the device's clock was not set)")
    if int(first) == int(last):
        return words(moment(first))
    return words("{first} to {last}", first=words(moment(first)), last=words(moment(last)))


def local(seconds: float) -> datetime:
    return datetime.fromtimestamp(int(seconds)).astimezone()
