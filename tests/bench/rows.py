"""A row of the table: what the product takes and what its floor takes in the same run, turn by turn, and their ratio."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

HEAD = ("| what | floor | floor takes | here | ratio | to reach |", "| --- | --- | --- | --- | --- | --- |")
UNITS = {
    "ms": (1000.0, 1),
    "MiB": (1.0, 1),
    "/s": (1.0, 0),
    "bytes": (1.0, 0),
    "processes": (1.0, 0),
    "sessions": (1.0, 0),
    "s": (1.0, 1),
}


@dataclass(frozen=True)
class Row:
    """What was measured: `here` and `floors` in the order in which they took turns, in `unit` (seconds for ms)."""

    what: str
    floor: str
    unit: str
    here: Sequence[float]
    floors: Sequence[float]
    reach: float
    at_least: bool = False

    @property
    def ratio(self) -> float:
        """The median of the pairs' ratios: a busy machine slows both halves of a pair. Beside nothing, what there is."""
        return statistics.median(one / (other or 1) for one, other in zip(self.here, self.floors, strict=True))

    def __str__(self) -> str:
        sign, well = ("≥", self.ratio >= self.reach) if self.at_least else ("≤", self.ratio <= self.reach)
        told = " | ".join((self.what, self.floor, self._told(self.floors), self._told(self.here)))
        return f"| {told} | {self.ratio:.2f}{'' if well else ' (missed)'} | {sign} {self.reach:g} |"

    def _told(self, values: Sequence[float]) -> str:
        factor, digits = UNITS[self.unit]
        middle, low, high = (
            f"{each * factor:,.{digits}f}" for each in (statistics.median(values), min(values), max(values))
        )
        return f"{middle} {self.unit}" + ("" if low == high else f" ({low} to {high})")


def turns(times: int, here: Callable[[], float], floor: Callable[[], float]) -> tuple[list[float], list[float]]:
    """Both, one after the other, so many times."""
    pairs = [(here(), floor()) for _ in range(times)]
    return [one for one, _ in pairs], [other for _, other in pairs]


def seconds(work: Callable[[], object]) -> float:
    """How long some work takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun
