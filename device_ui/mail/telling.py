"""How events are told to a person, in mails and on pages alike: their times, their numbers, their names. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from device_ui.language import PLAIN, Words
from device_ui.mail.catalog import MESSAGE, Kind
from device_ui.mail.clock import BEFORE, PENDING
from device_ui.mail.outbox import Event
from device_ui.shape import replace

# Ranges of numbers that are spelt out.
RANGES_MAXIMUM = 500
NOT_SET = "the device's clock was not set"


def headed(event: Event, kind: Kind) -> tuple[Event, Kind]:
    """For a message of the system: its own subject, which is its first line, in the place of the kind's name."""
    if kind.code != MESSAGE.code:
        return event, kind
    name, _, text = event.text.partition("\n")
    return replace(event, text=text.strip("\n")), replace(kind, name=name or kind.name)


def numbers(ranges: Sequence[tuple[int, int]], words: Words = PLAIN) -> str:
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


def span(first: float, last: float, words: Words = PLAIN) -> str:
    if not last:
        return words(f"time not known ({NOT_SET})")
    if int(first) == int(last):
        return words(moment(first))
    return words("{first} to {last}", first=words(moment(first)), last=words(moment(last)))


def local(seconds: float) -> datetime:
    return datetime.fromtimestamp(int(seconds)).astimezone()
