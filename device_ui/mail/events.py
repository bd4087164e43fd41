"""The records that pass between ipc, outbox, delivery and message: an event, a digest of several, a delivery result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from device_ui.errors import Text

# The `user` of an event that the device itself raises; otherwise it is a uid.
DEVICE = -1
# How certain an event's date is (`Event.clock`). DATED: the clock was right. LATER: the date was computed when the clock became
# right. BEFORE: the event was before the date. PENDING and a moment (see `Clock.stamp`): it has no date yet.
DATED, LATER, BEFORE, PENDING = "", "later", "before", "@"


class Verdict(StrEnum):
    """The result of a mail for one recipient. The database and the hook's socket carry these words."""

    DELIVERED = "delivered"
    TRY_LATER = "try later"
    REFUSED = "refused"
    DROPPED = "dropped"  # by the delivery, after days of *try later*


class Action(StrEnum):
    """What a person asked for an event. The action is a row of the database of its own; this word is the row's text."""

    SEND_AGAIN = "send again"  # the row is a mail, which has the content of the event
    TRY_NOW = "try now"


@dataclass(frozen=True)
class Event:
    """One event. Times are seconds since 1970, 0 without a date: `time` of the event, `accepted` of its acceptance.

    `number` is 0 until the event is stored. `waiting`: its mail is still to be sent; `mail`: the number of the mail that
    contains it (0: not decided); `clock`: the certainty of `time`; `user`: the uid that raised it, or `DEVICE`.

    `about`: 0, or this is no event but an `Action` on the event of that number, whose code and type it has.
    """

    code: str
    # Stored with the event: a later catalogue must not move an event that waits into a mail of the other type.
    type: str
    time: float
    accepted: float
    source: str = ""
    text: str = ""
    waiting: bool = True
    number: int = 0
    mail: int = 0
    clock: str = ""
    user: int = DEVICE
    about: int = 0
    # It waits, and for the daily summary.
    in_summary: bool = False


@dataclass(frozen=True)
class CodeCount:
    """Events of one code in a digest: how many, and the first and last `time` (0: not known)."""

    code: str
    count: int
    first: float
    last: float


@dataclass(frozen=True)
class Digest:
    """The content of one mail: `codes` with counts, `ranges` of numbers from first to last, the oldest `events`."""

    number: int
    type: str
    codes: Sequence[CodeCount]
    ranges: Sequence[tuple[int, int]]
    # The codes and ranges count all events of the mail; these are only as many as are shown in full.
    events: Sequence[Event]
    # The daily summary, which a reader of its subject must not take for what happens now.
    is_summary: bool = False

    @property
    def count(self) -> int:
        """The number of events in the mail."""
        return sum(each.count for each in self.codes)


@dataclass(frozen=True)
class Delivery:
    """The result of a mail for one recipient: the last `verdict`, its `step` and the server's `reply`."""

    recipient: str
    verdict: str
    step: str
    reply: Text
    time: float
