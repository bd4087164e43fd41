"""What goes out now, what waits for a digest, what the budget holds back. Pure: time is passed in.

A thousand alarms must reach a person as something that can be read, and the first of them at once. So:

1. The first event of a kind (a code) goes out by itself and opens a window.
2. What follows of that kind waits until the window ends; then everything of its type that waits becomes one digest,
   and the windows open anew: a storm that lasts is one digest a window.
3. A budget of mails an hour holds whatever happens. What it held back is in the next digest. Infos may use two thirds
   of it, so that a fault is never held behind them; and faults are always looked at first.
4. A mail that was decided on keeps its events until it is done: its Message-ID must mean the same in every retry.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

WINDOW_SECONDS, HOUR = 60.0, 3600.0
BUDGET = 60
# The part of the budget that infos leave to faults.
FAULT_SHARE = 3
TYPES = ("fault", "info")


@dataclass(frozen=True)
class Mail:
    """One mail: the events it tells of, by number, all of one `type`; more than one make a digest."""

    type: str
    numbers: tuple[int, ...]

    @property
    def id(self) -> int:
        """The mail's name: the number of its first event."""
        return self.numbers[0]

    @property
    def is_digest(self) -> bool:
        """Whether it tells of more than one event."""
        return len(self.numbers) > 1


class Storm:
    """The plan of one device. `window` in seconds (0: every event by itself), `budget` in mails an hour."""

    def __init__(self, window: float = WINDOW_SECONDS, budget: int = BUDGET) -> None:
        self.window, self.budget = window, budget
        # What waits, by type and code, in the order of arrival.
        self._held: dict[str, dict[str, list[int]]] = {kind: {} for kind in TYPES}
        self._windows: dict[str, float] = {}
        self._decided: dict[int, Mail] = {}
        self._sent: deque[tuple[float, str]] = deque()
        self._blocked: set[str] = set()
        self.last = 0

    def learn(self, number: int, code: str, kind: str) -> None:
        """An event of type `kind` that waits for its mail."""
        self.last = max(self.last, number)
        self._held[kind].setdefault(code, []).append(number)

    def resume(self, kind: str, numbers: Iterable[int]) -> None:
        """A digest that was decided on before a restart."""
        mail = Mail(kind, tuple(sorted(numbers)))
        self.last = max(self.last, *mail.numbers)
        self._decided[mail.id] = mail

    def went_out(self, moment: float, kind: str) -> None:
        """A mail that counts towards the budget; also those of the hour before a restart."""
        self._sent.append((moment, kind))

    def next(self, now: float, due: Callable[[int], bool] = lambda _: True) -> Mail | None:
        """The mail to send now. `due` says of a decided mail, by its id, whether it may be tried again."""
        for kind in TYPES:
            again = [mail for mail in self._decided.values() if mail.type == kind and due(mail.id)]
            if again:
                return min(again, key=lambda mail: mail.id)
            mail = self._decide(kind, now)
            if mail:
                self._decided[mail.id] = mail
                return mail
        return None

    def done(self, mail: Mail) -> None:
        """The mail needs no other try."""
        self._decided.pop(mail.id, None)

    def wait(self, now: float) -> float | None:
        """Seconds until something that waits may go out; None when nothing waits for a time."""
        moments = [self._windows.get(code, now) for kind in TYPES for code in self._held[kind]]
        if not moments:
            return None
        blocked = [self._release(kind, now) for kind in TYPES if self._held[kind]]
        return max(0.0, min(moments) - now, min(blocked) - now)

    def _decide(self, kind: str, now: float) -> Mail | None:
        held = self._held[kind]
        if not held:
            return None
        if self._release(kind, now) > now:
            self._blocked.add(kind)
            return None
        if self.window and (kind in self._blocked or any(self._windows.get(code, now + 1) <= now for code in held)):
            return self._digest(kind, now)
        self._blocked.discard(kind)
        fresh = [code for code in held if code not in self._windows or self._windows[code] <= now]
        return self._single(kind, min(fresh, key=lambda code: held[code][0]), now) if fresh else None

    def _digest(self, kind: str, now: float) -> Mail:
        held, self._held[kind] = self._held[kind], {}
        self._blocked.discard(kind)
        for code in held:
            self._windows[code] = now + self.window
        return Mail(kind, tuple(sorted(number for numbers in held.values() for number in numbers)))

    def _single(self, kind: str, code: str, now: float) -> Mail:
        numbers = self._held[kind][code]
        mail = Mail(kind, (numbers.pop(0),))
        if not numbers:
            del self._held[kind][code]
        if self.window:
            self._windows = {each: end for each, end in self._windows.items() if end > now or each in self._held[kind]}
            self._windows[code] = now + self.window
        return mail

    def _release(self, kind: str, now: float) -> float:
        """When the budget lets a mail of this type go: now, or the moment at which enough of them are an hour old."""
        while self._sent and self._sent[0][0] <= now - HOUR:
            self._sent.popleft()
        moments = [now]
        if len(self._sent) >= self.budget:
            moments.append(self._sent[len(self._sent) - self.budget][0] + HOUR)
        if kind == "info":
            infos = [moment for moment, each in self._sent if each == "info"]
            most = self.budget - self.budget // FAULT_SHARE
            if len(infos) >= most:
                moments.append(infos[len(infos) - most] + HOUR)
        return max(moments)
