"""What goes out now, what waits for a digest, what the budget holds back. Pure: time is passed in.

A thousand alarms must reach a person as something that can be read, and the first of them at once. So:

1. The first event of a kind (a code) goes out by itself and opens a window.
2. What follows of that kind waits until the window ends; then everything of its type that waits becomes one digest,
   and the windows open anew: a storm that lasts is one digest a window. What has waited for a whole window, since the
   server could not be reached or the budget was used up, is gathered in the same way.
3. A budget of mails an hour holds whatever happens. What it held back is in the next digest. Infos may use two thirds
   of it, so that a fault is never held behind them; and faults are always looked at first. What was never tried may use
   five sixths while something else waits, so that faults that never end leave room for an info and for a second try.
4. A mail that was decided on keeps its events until it is done: its Message-ID must mean the same in every retry. It
   comes after what was never tried, or a few mails that a server defers for days would hold up all the others.

The thread that accepts events tells of them, another asks what to send: every method may be called from any thread.
"""

from __future__ import annotations

import threading
from array import array
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field

from device_ui.mail.catalog import TYPES

WINDOW_SECONDS, HOUR = 60, 3600.0
BUDGET = 60
# The part of the budget that infos leave to faults.
FAULT_SHARE = 3
# The part that new faults leave to everything else while there is something else.
OTHER_SHARE = 6
# Since when a mail, by its id, may be tried again: 0 when it never was, None when it may not yet.
Tried = Callable[[int], float | None]


@dataclass(frozen=True)
class Batch:
    """One mail: the events it tells of, by number, all of one `type`; more than one make a digest.

    `name` is the number of its first event, also when the ledger's limit has taken that one since; 0: as it stands.
    """

    type: str
    numbers: tuple[int, ...]
    name: int = field(default=0, compare=False)

    @property
    def id(self) -> int:
        """The mail's name."""
        return self.name or self.numbers[0]

    @property
    def is_digest(self) -> bool:
        """Whether it tells of more than one event."""
        return len(self.numbers) > 1


@dataclass
class Held:
    """What waits of one code: the numbers in the order of arrival, and since when the oldest of them does."""

    since: float
    numbers: array[int] = field(default_factory=lambda: array("q"))


class Batcher:
    """The plan of one device. `window` in seconds (0: every event by itself), `budget` in mails an hour."""

    def __init__(self, window: float = WINDOW_SECONDS, budget: int = BUDGET) -> None:
        self.window, self.budget = window, budget
        self._lock = threading.RLock()
        self._sent: deque[tuple[float, str]] = deque()
        # Those of this start; the others were restored, and may be again when the clock is right.
        self._own: deque[tuple[float, str]] = deque(maxlen=budget)
        self._windows: dict[str, float] = {}
        self.forget()

    def forget(self) -> None:
        """Forget what waits, to learn it anew from the ledger; the windows and the budget stand."""
        with self._lock:
            self._held: dict[str, dict[str, Held]] = {kind: {} for kind in TYPES}
            self._decided: dict[int, Batch] = {}
            self._pending: dict[int, tuple[str, str]] = {}
            self.last = 0

    def relearn(self, waiting: Iterable[tuple[int, str, str, int, bool]], since: float) -> None:
        """Forget what waits, then learn all of it: number, code, type, mail, and whether it waits for the clock."""
        with self._lock:  # whoever accepts events meanwhile must not tell of newer ones first
            self.forget()
            digests: dict[int, tuple[str, array[int]]] = {}
            for number, code, kind, mail, pending in waiting:
                if mail:
                    digests.setdefault(mail, (kind, array("q")))[1].append(number)
                    self.last = number
                else:
                    self.learn(number, code, kind, since, pending=pending)
            for mail, (kind, numbers) in digests.items():
                self._decided[mail] = Batch(kind, tuple(numbers), mail)

    def leads(self, arrivals: Sequence[tuple[str, str]], now: float) -> list[bool]:
        """Which of some events (code and type) that arrive together can be a mail of their own at once.

        Only where nothing else of their type waits: so it takes no other commit than the one that accepts them, and a
        server that cannot be reached meets one such mail and not one for every kind.
        """
        if not self.window:
            return [True] * len(arrivals)
        first = {kind: place for place, (_, kind) in reversed([*enumerate(arrivals)])}
        with self._lock:
            return [
                place == first[kind] and self._is_free(code, kind, now) for place, (code, kind) in enumerate(arrivals)
            ]

    def learn(self, number: int, code: str, kind: str, now: float, mail: int = 0, *, pending: bool = False) -> None:
        """An event that waits for its mail since `now`; `mail` is its own number where it led, else 0.

        Numbers come in their order; one that is not higher than the last is known already. A `pending` one waits for
        the clock first, until it is `released`.
        """
        with self._lock:
            if number <= self.last:
                return
            self.last = number
            if mail:
                self._decided[mail] = Batch(kind, (number,), mail)
                self._open_window(code, now)
            elif pending:
                self._pending[number] = (code, kind)
            else:
                self._held[kind].setdefault(code, Held(now)).numbers.append(number)

    def release(self, pending: Collection[int], now: float) -> None:
        """Only these numbers still wait for the clock."""
        with self._lock:
            for number in [each for each in self._pending if each not in pending]:
                code, kind = self._pending.pop(number)
                self._held[kind].setdefault(code, Held(now)).numbers.append(number)

    def settled(self, kind: str) -> None:
        """Nobody wants what waits of this type."""
        with self._lock:
            self._held[kind] = {}
            self._decided = {name: mail for name, mail in self._decided.items() if mail.type != kind}
            self._pending = {number: each for number, each in self._pending.items() if each[1] != kind}

    def went_out(self, now: float, kind: str) -> None:
        """A mail that counts towards the budget."""
        with self._lock:
            self._own.append((now, kind))
            self._sent.append((now, kind))

    def restore(self, before: Sequence[tuple[float, str]]) -> None:
        """The mails of before this start that count towards the budget, in the place of those told before."""
        with self._lock:
            self._sent = deque(sorted([*before, *self._own]))

    def next(self, now: float, tried: Tried = lambda _: 0.0) -> tuple[Batch, bool] | None:
        """The mail to send now, and whether it was only decided now, so that the ledger must be told first."""
        with self._lock:
            return self._fresh(now, tried) or self._again(now, tried)

    def following(self, mail: Batch, tried: Tried) -> Batch | None:
        """The mail that `next` will probably give when this one is done, if it is decided already."""
        with self._lock:
            others = (each for each in self._decided.values() if each.type == mail.type and each.id != mail.id)
            return next((each for each in others if tried(each.id) == 0), None)

    def is_ready(self, now: float, tried: Tried) -> bool:
        """Whether `next` would give a mail."""
        with self._lock:
            return any(
                self._release(kind, now) <= now
                and (self._is_due(kind, now) or any(tried(mail.id) is not None for mail in self._of(kind)))
                for kind in TYPES
            )

    def done(self, mail: Batch) -> None:
        """The mail needs no other try."""
        with self._lock:
            self._decided.pop(mail.id, None)

    def wait(self, now: float, again: Callable[[int], float]) -> float | None:
        """Seconds until there may be a mail to send; None when nothing waits.

        `again` says of a mail, by its id, when it may be tried.
        """
        with self._lock:
            moments = [max(self._release(kind, now), self._moment(kind, now)) for kind in TYPES if self._held[kind]]
            moments += [max(self._release(mail.type, now), again(mail.id)) for mail in self._decided.values()]
            return max(0.0, min(moments) - now) if moments else None

    def _is_free(self, code: str, kind: str, now: float) -> bool:
        return (
            not self._held[kind]
            and not self._of(kind)
            and self._windows.get(code, now) <= now
            and self._release(kind, now) <= now
        )

    def _fresh(self, now: float, tried: Tried) -> tuple[Batch, bool] | None:
        for kind in TYPES:
            if self._release(kind, now) > now or (kind == TYPES[0] and self._is_others_turn(now, tried)):
                continue
            first = next((mail for mail in self._decided.values() if mail.type == kind and tried(mail.id) == 0), None)
            if first:
                return first, False
            if self._is_due(kind, now):
                mail = self._decide(kind, now)
                self._decided[mail.id] = mail
                return mail, True
        return None

    def _again(self, now: float, tried: Tried) -> tuple[Batch, bool] | None:
        for kind in TYPES:
            again = [(moment, mail) for mail in self._of(kind) if (moment := tried(mail.id)) is not None]
            if again and self._release(kind, now) <= now:
                return min(again, key=lambda pair: pair[0])[1], False
        return None

    def _of(self, kind: str) -> list[Batch]:
        return [mail for mail in self._decided.values() if mail.type == kind]

    def _is_others_turn(self, now: float, tried: Tried) -> bool:
        """Whether new faults have used up their part of the hour, and something else waits and could go now."""
        info, fault = TYPES[1], TYPES[0]
        if len(self._sent) < self.budget - max(1, self.budget // OTHER_SHARE):
            return False
        infos = self._is_due(info, now) or any(tried(mail.id) is not None for mail in self._of(info))
        return (infos and self._release(info, now) <= now) or any(tried(mail.id) for mail in self._of(fault))

    def _is_due(self, kind: str, now: float) -> bool:
        return bool(self._held[kind]) and self._moment(kind, now) <= now

    def _moment(self, kind: str, now: float) -> float:
        """When something that is held of this type may be decided on: at once where no window is open for its code."""
        return min(self._windows.get(code, now) for code in self._held[kind])

    def _decide(self, kind: str, now: float) -> Batch:
        held = self._held[kind]
        if self.window and self._is_digest_due(held, now):
            return self._digest(kind, now)
        fresh = [code for code in held if self._windows.get(code, now) <= now]
        return self._single(kind, min(fresh, key=lambda code: held[code].numbers[0]), now)

    def _is_digest_due(self, held: dict[str, Held], now: float) -> bool:
        return any(
            self._windows.get(code, now + 1) <= now or each.since <= now - self.window for code, each in held.items()
        )

    def _digest(self, kind: str, now: float) -> Batch:
        held, self._held[kind] = self._held[kind], {}
        for code in held:
            self._open_window(code, now)
        return Batch(kind, tuple(sorted(number for each in held.values() for number in each.numbers)))

    def _single(self, kind: str, code: str, now: float) -> Batch:
        numbers = self._held[kind][code].numbers
        mail = Batch(kind, (numbers.pop(0),))
        if not numbers:
            del self._held[kind][code]
        self._open_window(code, now)
        return mail

    def _open_window(self, code: str, now: float) -> None:
        if self.window:
            held = {each for kind in TYPES for each in self._held[kind]}
            self._windows = {each: end for each, end in self._windows.items() if end > now or each in held}
            self._windows[code] = now + self.window

    def _release(self, kind: str, now: float) -> float:
        """When the budget lets a mail of this type go: now, or the moment at which enough of them are an hour old."""
        while self._sent and self._sent[0][0] <= now - HOUR:
            self._sent.popleft()
        moments = [now]
        if len(self._sent) >= self.budget:
            moments.append(self._sent[len(self._sent) - self.budget][0] + HOUR)
        if kind == "info":
            infos = [moment for moment, each in self._sent if each == "info"]
            most = max(1, self.budget - max(1, self.budget // FAULT_SHARE))
            if len(infos) >= most:
                moments.append(infos[len(infos) - most] + HOUR)
        return max(moments)
