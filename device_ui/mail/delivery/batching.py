"""Decide which mail goes out now, which events wait for a digest, and what the hourly budget delays. Pure.

A thousand events must reach a person as something readable, and the first of them at once. So:

1. The first event of a code goes out alone and opens a window.
2. Later events of that code wait until the window ends. Then every waiting event of its type becomes one digest, and the
   windows open anew: a storm that lasts is one digest a window. Events that have waited for a whole window, because the
   server could not be reached or the budget was used up, are gathered in the same way.
3. A budget limits the mails of an hour. What it delays is in the next digest. Infos may use two thirds of it, so that
   no fault waits behind them, and faults always come first. The last sixth is kept from new faults while something else
   waits: endless faults leave room for an info and for a second try.
4. A mail keeps its events once a recipient has got it: its Message-ID must mean the same in every retry. A deferred
   mail comes after mails that were never tried, or a few mails that a server defers for days would delay all others.
5. A mail that a person sends again comes after every new event and has the infos' part of the budget, whatever its type: who
   asks for one after another must not delay an event.

The thread that accepts events adds them and the worker asks what to send: any thread may call any method.
"""

from __future__ import annotations

import threading
from array import array
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field

from device_ui.errors import Text
from device_ui.mail.catalog import TYPES
from device_ui.mail.delivery.problem import Problem
from device_ui.mail.delivery.retry import RetryState
from device_ui.mail.events import Delivery

# An hour that slides, and not one of the clock: else the budgets of two hours could go out within two minutes.
WINDOW_SECONDS, HOUR = 60, 3600.0
# Providers limit the mails of a day or an hour and suspend an account beyond; a person reads no more than one a minute.
BUDGET = 60
# Infos leave one third of the budget to faults.
FAULT_DIVISOR = 3
# New faults leave one sixth to everything else while there is something else.
OTHER_DIVISOR = 6
FAULT, INFO = TYPES


@dataclass
class QueuedMail:
    """One mail in the queue, with its state.

    `events` are the numbers of its events, all of one `type`; more than one make a digest. `number` names the mail: it is
    the number of the first event, also after retention has removed that one.

    `recipients` are the addresses that the mail names, and `ended` those with a final result on flash, as of the last try.
    `tries` counts the failed ones. `results` are final results that are not on flash yet; `is_done`: no try follows.
    `removed` is how many removed events a delivered mail has reported.

    `deferred_recipients` are those that the server deferred since the last counted try, and why; `is_served` is whether some
    recipient got a final result since then. `is_sent`: a server took the mail for some recipient. `is_repeat`: it sends
    an event again.
    """

    # Compared by these three; the other fields are its state, which does not make it a different mail.
    type: str
    events: tuple[int, ...]
    number: int = 0
    recipients: Sequence[str] = field(default=(), compare=False)
    ended: Collection[str] = field(default=(), compare=False)
    tries: RetryState = field(default_factory=RetryState, compare=False)
    results: list[Delivery] = field(default_factory=list, compare=False)
    is_done: bool = field(default=False, compare=False)
    removed: int = field(default=0, compare=False)
    deferred_recipients: dict[str, Problem] = field(default_factory=dict, compare=False)
    is_served: bool = field(default=False, compare=False)
    is_sent: bool = field(default=False, compare=False)
    is_repeat: bool = field(default=False, compare=False)

    def __post_init__(self) -> None:
        self.number = self.number or self.events[0]

    @property
    def share(self) -> str:
        """The type as which it counts towards the budget."""
        return INFO if self.is_repeat else self.type

    @property
    def open_recipients(self) -> list[str]:
        """The recipients without a final result."""
        ended = {*self.ended, *(result.recipient for result in self.results)}
        # In the order of the list, which is that of the transaction.
        return [address for address in self.recipients if address not in ended]

    def begin_try(self, recipients: Sequence[str], ended: Collection[str]) -> None:
        """Set who the mail is for now, and who has a final result on flash."""
        self.recipients, self.ended = recipients, ended

    def defer(self, now: float, random: float, step: str, reply: Text, advice: Text = "") -> None:
        """Count a failed try, which ended at this step and reply; `now` and `random` as in `RetryState.failed`."""
        self.tries.failed(now, random, has_progress=self.is_served)
        self.tries.describe(step, reply, advice)
        self.deferred_recipients, self.is_served = {}, False

    def postpone(self, until: float) -> None:
        """Set when the next try is due, earlier or later (monotonic seconds), without counting a failed one."""
        self.tries.next = until

    def conclude(self, results: Sequence[Delivery], *, is_done: bool, removed: int = 0) -> None:
        """Add final results that are not on flash yet."""
        self.results = [*self.results, *results]
        self.is_done, self.removed = is_done, self.removed + removed
        self.is_served = self.is_served or bool(results)

    def stored(self) -> None:
        """Note that the results are on flash."""
        self.ended = [*self.ended, *(result.recipient for result in self.results)]
        self.results, self.removed = [], 0


@dataclass
class CollectedEvents:
    """The events of one code that wait to become a mail: their numbers in order, and since when the oldest of them waits."""

    since: float
    # 8 bytes a number, where a list of integers takes some 40: after a hook was away 100,000 events may wait.
    numbers: array[int] = field(default_factory=lambda: array("q"))


class Batcher:
    """The events and mails that wait. `window` in seconds (0: every event is a mail), `budget` in mails an hour.

    `now` is monotonic seconds everywhere.
    """

    def __init__(self, window: float = WINDOW_SECONDS, budget: int = BUDGET) -> None:
        self.window, self.budget = window, budget
        # Reentrant: `reload` adds events by `add`.
        self._lock = threading.RLock()
        self._sent: deque[tuple[float, str]] = deque()
        # The mails sent since this start; `restore_sent` replaces all others, again when the clock gets right.
        self._sent_since_start: deque[tuple[float, str]] = deque(maxlen=budget)
        self._windows: dict[str, float] = {}
        self._is_over_budget = False
        self._clear()

    def _clear(self) -> None:
        self._collected: dict[str, dict[str, CollectedEvents]] = {event_type: {} for event_type in TYPES}
        self._mails: dict[int, QueuedMail] = {}
        self._pending: dict[int, tuple[str, str]] = {}
        self.last = 0

    def reload(self, waiting: Iterable[tuple[int, str, str, int, bool]], since: float) -> None:
        """Replace all waiting events: number, code, type, mail (0: none yet), and whether it waits for the clock.

        Mails keep their tries, and the windows and the budget stay.
        """
        with self._lock:  # the thread that accepts events must not add newer numbers first
            tries = {number: mail.tries for number, mail in self._mails.items()}
            self._clear()
            mails: dict[int, tuple[str, array[int], bool]] = {}
            for number, code, event_type, mail, pending in waiting:
                if mail:
                    mails.setdefault(mail, (event_type, array("q"), not code))[1].append(number)
                    self.last = number
                else:
                    self.add(number, code, event_type, since, pending=pending)
            for number, (event_type, numbers, is_repeat) in mails.items():
                mail_tries = tries.get(number, RetryState())
                self._mails[number] = QueuedMail(
                    event_type, tuple(numbers), number, tries=mail_tries, is_repeat=is_repeat
                )

    def choose_singles(self, arrivals: Sequence[tuple[str, str]], now: float) -> list[bool]:
        """Return which of some events (code and type) that arrive together become a mail of their own at once.

        Only where nothing else of their type waits. Then it takes no other commit than the one that accepts them, and a
        server that cannot be reached meets one such mail and not one for every code.
        """
        if not self.window:
            return [True] * len(arrivals)
        # Reversed, so that of several events of a type the first one remains in the mapping.
        first = {event_type: place for place, (_, event_type) in reversed([*enumerate(arrivals)])}
        with self._lock:
            return [
                place == first[event_type] and self._is_free(code, event_type, now)
                for place, (code, event_type) in enumerate(arrivals)
            ]

    def add(self, number: int, code: str, event_type: str, now: float, mail: int = 0, *, pending: bool = False) -> None:
        """Add an event that waits since `now`. `mail` is its own number if it is a mail of its own, else 0.

        Numbers come in their order; one that is not higher than the last is known already. A `pending` event waits for
        the wall clock first, until `release`. An empty `code` is that of an event that is sent again: it opens no window.
        """
        with self._lock:
            # The thread that accepts events and the worker, which reads the database, may both pass the same event.
            if number <= self.last:
                return
            self.last = number
            if mail:
                self._mails[mail] = QueuedMail(event_type, (number,), mail, is_repeat=not code)
                if code:
                    self._open_window(code, now)
            elif pending:
                self._pending[number] = (code, event_type)
            else:
                self._collect(number, code, event_type, now)

    def release(self, pending: Collection[int], now: float) -> None:
        """Let every event go whose number is not `pending` any more."""
        with self._lock:
            for number in [number for number in self._pending if number not in pending]:
                code, event_type = self._pending.pop(number)
                self._collect(number, code, event_type, now)

    def discard(self, event_type: str) -> None:
        """Remove all waiting events of this type: no recipient wants them."""
        with self._lock:
            self._collected[event_type] = {}
            self._mails = {number: mail for number, mail in self._mails.items() if mail.type != event_type}
            self._pending = {number: event for number, event in self._pending.items() if event[1] != event_type}

    def count_sent(self, now: float, event_type: str) -> None:
        """Count a mail towards the budget."""
        with self._lock:
            self._sent_since_start.append((now, event_type))
            self._sent.append((now, event_type))

    def restore_sent(self, before: Sequence[tuple[float, str]]) -> None:
        """Set the mails before this start that count towards the budget."""
        with self._lock:
            self._sent = deque(sorted([*before, *self._sent_since_start]))

    def next(self, now: float) -> tuple[QueuedMail, bool] | None:
        """Return the mail to send now, and whether it is new: then the database has to store its events first."""
        with self._lock:
            # New mails first: the mails that a server defers for days must not delay an event.
            return self._never_tried(now) or self._deferred(now)

    def is_ready(self, now: float) -> bool:
        """Return whether `next` would return a mail."""
        with self._lock:
            return any(
                self._budget_free_at(event_type, now) <= now
                and (
                    self._is_due(event_type, now) or any(mail.tries.is_due(now) for mail in self._mails_of(event_type))
                )
                for event_type in TYPES
            )

    def is_over_budget(self, now: float) -> bool:
        """Return whether the budget delays a new fault. Once it did, the answer stays until it has room and no new fault waits."""
        with self._lock:
            has_room, waits = self._budget_free_at(FAULT, now) <= now, self._has_new_fault(now)
            # In between it stays: in a storm each mail that goes out uses up the room that it waited for, and the state of the
            # mail path must not change with every one of them.
            if has_room != waits:
                self._is_over_budget = waits
            return self._is_over_budget

    def wait(self, now: float) -> float | None:
        """Return seconds until there may be a mail to send; None when nothing waits."""
        with self._lock:
            moments = [
                max(self._budget_free_at(event_type, now), self._window_end(event_type, now))
                for event_type in TYPES
                if self._collected[event_type]
            ]
            moments += [max(self._budget_free_at(mail.share, now), mail.tries.next) for mail in self._mails.values()]
            return max(0.0, min(moments) - now) if moments else None

    def mail(self, number: int) -> QueuedMail | None:
        """Return a mail that waits, by its number."""
        # Without the lock: one look-up in a dict is one step of the interpreter.
        return self._mails.get(number)

    def tried(self) -> QueuedMail | None:
        """Return the first mail that was tried and still waits."""
        with self._lock:
            return min((mail for mail in self._mails.values() if mail.tries.count), key=_number, default=None)

    def postpone(self, end: Callable[[Collection[str]], float]) -> None:
        """Set the next try of the deferred mails all of whose recipients wait, as `Schedule.postpone`."""
        with self._lock:
            for mail in self._mails.values():
                until = end(mail.open_recipients) if mail.tries.count else 0.0
                if until:
                    mail.postpone(until)

    def split(self, mail: QueuedMail, middle: int, number: int) -> None:
        """Make a mail of its own of the events from `middle` on, with its `number` (0: retention removed these events).

        Neither half counts as tried.
        """
        with self._lock:
            # By the number of an event, and not by halves: retention may have removed some of either.
            second = tuple(event for event in mail.events if event >= middle)
            mail.events = tuple(event for event in mail.events if event < middle)
            mail.tries = RetryState()
            if number:
                self._mails[number] = QueuedMail(mail.type, second, number)

    def expired(self, now: float) -> list[QueuedMail]:
        """Return the mails whose own tries have failed for five days."""
        with self._lock:
            return [mail for mail in self._mails.values() if mail.tries.has_expired(now)]

    def remove(self, mail: QueuedMail) -> None:
        """Remove a mail that is done."""
        with self._lock:
            self._mails.pop(mail.number, None)

    def reset_tries(self) -> None:
        """Make every mail due at once, as if it was never tried."""
        with self._lock:
            for mail in self._mails.values():
                mail.tries = RetryState()

    def try_all(self) -> None:
        """Make every mail due at once. Its failed tries stay counted, so that it is given up on the same day."""
        with self._lock:
            for mail in self._mails.values():
                mail.postpone(0.0)

    def _collect(self, number: int, code: str, event_type: str, now: float) -> None:
        collected = self._collected[event_type]
        # A window that ended before this event has delayed nothing: it must not make a digest of what other windows delay.
        if code not in collected and self._windows.get(code, now) <= now:
            self._windows.pop(code, None)
        collected.setdefault(code, CollectedEvents(now)).numbers.append(number)

    def _is_free(self, code: str, event_type: str, now: float) -> bool:
        return (
            not self._collected[event_type]
            and all(mail.is_repeat for mail in self._mails_of(event_type))
            and self._windows.get(code, now) <= now
            and self._budget_free_at(event_type, now) <= now
        )

    def _never_tried(self, now: float) -> tuple[QueuedMail, bool] | None:
        for event_type in TYPES:
            if self._budget_free_at(event_type, now) > now or (event_type == FAULT and self._must_leave_room(now)):
                continue
            mails = (mail for mail in self._mails_of(event_type) if not mail.is_repeat)
            if first := _first_untried(mails):
                return first, False
            if self._is_due(event_type, now):
                mail = self._take(event_type, now)
                self._mails[mail.number] = mail
                return mail, True
        repeat = _first_untried(mail for mail in self._mails.values() if mail.is_repeat)
        return (repeat, False) if repeat and self._budget_free_at(repeat.share, now) <= now else None

    def _has_new_fault(self, now: float) -> bool:
        return self._is_due(FAULT, now) or _first_untried(self._mails_of(FAULT)) is not None

    def _deferred(self, now: float) -> tuple[QueuedMail, bool] | None:
        for event_type in TYPES:
            due = [mail for mail in self._mails_of(event_type) if mail.tries.is_due(now)]
            # The longest due first, or one of two mails could be tried again and again.
            if due and self._budget_free_at(event_type, now) <= now:
                # Of those that wait for one recipient, a different one asks for it each time.
                return min(due, key=lambda mail: (mail.tries.next, mail.tries.count)), False
        return None

    def _mails_of(self, event_type: str) -> list[QueuedMail]:
        return [mail for mail in self._mails.values() if mail.share == event_type]

    def _must_leave_room(self, now: float) -> bool:
        """Return whether the hour has no more room than what is kept from new faults, and something else waits and could go now."""
        if len(self._sent) < self.budget - max(1, self.budget // OTHER_DIVISOR):
            return False
        # Room that nothing else can use now is not kept: faults then have the whole budget.
        has_info = self._is_due(INFO, now) or any(mail.tries.is_due(now) for mail in self._mails_of(INFO))
        return (has_info and self._budget_free_at(INFO, now) <= now) or any(
            mail.tries.count and mail.tries.is_due(now) for mail in self._mails_of(FAULT)
        )

    def _is_due(self, event_type: str, now: float) -> bool:
        return bool(self._collected[event_type]) and self._window_end(event_type, now) <= now

    def _window_end(self, event_type: str, now: float) -> float:
        """Return when collected events of this type may become a mail: at once where no window is open for their code."""
        return min(self._windows.get(code, now) for code in self._collected[event_type])

    def _take(self, event_type: str, now: float) -> QueuedMail:
        """Make a mail of all collected events if a digest is due, else of the oldest whose code has no open window."""
        collected = self._collected[event_type]
        if self.window and self._is_digest_due(collected, now):
            return self._take_digest(event_type, now)
        codes = [code for code in collected if self._windows.get(code, now) <= now]
        oldest = min(codes, key=lambda code: collected[code].numbers[0])
        return self._take_single(event_type, oldest, now)

    def _is_digest_due(self, collected: dict[str, CollectedEvents], now: float) -> bool:
        """Return whether a window ended that delayed events, or events waited for as long as one."""
        return any(
            # No window of the code at all delayed nothing: such an event is a mail of its own.
            (code in self._windows and self._windows[code] <= now) or events.since <= now - self.window
            for code, events in collected.items()
        )

    def _take_digest(self, event_type: str, now: float) -> QueuedMail:
        collected, self._collected[event_type] = self._collected[event_type], {}
        for code in collected:
            self._open_window(code, now)
        return QueuedMail(
            event_type, tuple(sorted(number for events in collected.values() for number in events.numbers))
        )

    def _take_single(self, event_type: str, code: str, now: float) -> QueuedMail:
        numbers = self._collected[event_type][code].numbers
        mail = QueuedMail(event_type, (numbers.pop(0),))
        if not numbers:
            del self._collected[event_type][code]
        self._open_window(code, now)
        return mail

    def _open_window(self, code: str, now: float) -> None:
        if self.window:
            # A window that ended is kept while its code has collected events: its end is what makes them a digest.
            collected = {code for event_type in TYPES for code in self._collected[event_type]}
            self._windows = {code: end for code, end in self._windows.items() if end > now or code in collected}
            self._windows[code] = now + self.window

    def _budget_free_at(self, event_type: str, now: float) -> float:
        """Return when the budget admits a mail of this type: now, or when enough of the sent ones are an hour old."""
        # Forgotten when read, so that no timer is needed.
        while self._sent and self._sent[0][0] <= now - HOUR:
            self._sent.popleft()
        moments = [now]
        if len(self._sent) >= self.budget:
            moments.append(self._sent[len(self._sent) - self.budget][0] + HOUR)
        # Counted apart: infos leave a third of the hour to faults, however many of either were sent.
        if event_type == INFO:
            infos = [moment for moment, sent_type in self._sent if sent_type == INFO]
            maximum = max(1, self.budget - max(1, self.budget // FAULT_DIVISOR))
            if len(infos) >= maximum:
                moments.append(infos[len(infos) - maximum] + HOUR)
        return max(moments)


def _first_untried(mails: Iterable[QueuedMail]) -> QueuedMail | None:
    return next((mail for mail in mails if not mail.tries.count), None)


def _number(mail: QueuedMail) -> int:
    return mail.number
