"""How an event is shown to a person, in mails and in the history: its name, text, numbers and times. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from device_ui.i18n.translator import PLAIN, Translator
from device_ui.mail.catalog import MESSAGE, Kind
from device_ui.mail.events import BEFORE, PENDING, Event

# Ranges of numbers that are spelt out.
RANGES_MAXIMUM = 500
NOT_SET = "the device's clock was not set"


def name(event: Event, kind: Kind, words: Translator = PLAIN) -> str:
    """What an event is called: a message of the system by its subject, which stays as it came, any other by its kind."""
    subject = event.text.partition("\n")[0] if kind.code == MESSAGE.code else ""
    return subject or words(kind.name)


def text(event: Event) -> str:
    """What an event says below its name: a message of the system without its subject, which is its first line."""
    return event.text.partition("\n")[2].strip("\n") if event.code == MESSAGE.code else event.text


def numbers(ranges: Sequence[tuple[int, int]], words: Translator = PLAIN) -> str:
    """Numbers as a person reads them: ``2-4012, 4020``."""
    spelt = [str(first) if first == last else f"{first}-{last}" for first, last in ranges[:RANGES_MAXIMUM]]
    left = ranges[RANGES_MAXIMUM:]
    if left:
        count = sum(last - first + 1 for first, last in left)
        spelt.append(words("and {count} more up to {last}", count=count, last=left[-1][1]))
    return ", ".join(spelt)


def moment(seconds: float, clock: str = "") -> str:
    """A time with its zone, as a person reads it: ``2026-11-23 14:03:22 +09:00 (KST)``; `clock` is what it rests on."""
    if clock.startswith(PENDING) and not seconds:
        return f"not known ({NOT_SET})"
    try:
        when = local(seconds)
    except (OverflowError, ValueError, OSError):  # one flipped bit must not hide the whole history
        return "not known (the ledger's date is damaged)"
    zone = f"{when:%z}"
    told = f"{when:%Y-%m-%d %H:%M:%S} {zone[:3]}:{zone[3:]} ({when.tzname()})"
    return f"before {told} ({NOT_SET})" if clock == BEFORE else told


def span(first: float, last: float, words: Translator = PLAIN) -> str:
    if not last:
        return words(f"time not known ({NOT_SET})")
    if int(first) == int(last):
        return words(moment(first))
    return words("{first} to {last}", first=words(moment(first)), last=words(moment(last)))


def local(seconds: float) -> datetime:
    return datetime.fromtimestamp(int(seconds)).astimezone()
