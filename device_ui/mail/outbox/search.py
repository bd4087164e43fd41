"""Finds events by date, type and code, in any order, a piece of the ledger at a time.

One query over 100,000 events, sorted, would hold the ledger for the tenth of a second, on a small processor for one; an
event that is raised meanwhile would wait as long. So every piece is a short query of its own, and what was found is merged.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from device_ui.mail.outbox.outbox import Outbox

# Events looked at in one query.
PIECE = 2000
# The least and the greatest verdict of an event's mail: with these the events of one `state` stand together.
VERDICTS = "SELECT min(verdict) || max(verdict) FROM delivery WHERE delivery.number = iif(mail, mail, event.number)"
# How the answer can be sorted; :names holds the codes in the order of their names. Equal ones by number.
SORTS = {
    "number": "number",
    "time": "time",
    "type": "type",
    "code": "code",
    "name": "instr(:names, ',' || code || ',')",
    "source": "lower(source)",
    "state": f"iif(waiting, 'waiting', coalesce(({VERDICTS}), ''))",
}
# Nothing to tell yet, but soon: the others get their turn.
SOON: Mapping[str, object] = {}


@dataclass(frozen=True)
class Query:
    """What is asked: seconds since 1970 from `begin` up to but without `end`, exact `type` and `code`, order, page.

    `limit` 0: to the last.
    """

    begin: float | None = None
    end: float | None = None
    type: str = ""
    code: str = ""
    sort: str = "number"
    descending: bool = True
    offset: int = 0
    limit: int = 50

    @property
    def where(self) -> str:
        """The conditions within a piece, as SQL over the values of `values` and ``first``, ``last``."""
        conditions = {
            "time >= :begin": self.begin is not None,
            "time > 0 AND time < :end": self.end is not None,
            "type = :type": bool(self.type),
            "code = :code": bool(self.code),
        }
        return " AND ".join(["number BETWEEN :first AND :last", *(text for text, given in conditions.items() if given)])

    def values(self, names: str) -> dict[str, object]:
        """The values of `where` and of the order; `names`: the codes in the order of their names, between commas."""
        return {"begin": self.begin, "end": self.end, "type": self.type, "code": self.code, "names": names}


def find(query: Query, outbox: Outbox, names: str) -> Generator[Mapping[str, object], None, tuple[int, Iterable[int]]]:
    """How many events match, and the numbers of the page that is asked for, in order. Raises `NotStored`.

    Yields `SOON` between two pieces.
    """
    direction = "DESC" if query.descending else "ASC"
    order = f"ORDER BY {SORTS[query.sort]} {direction}, number {direction}"
    last = query.offset + query.limit if query.limit else None
    matched = 0
    pieces: list[Any] = []
    for place in _pieces(outbox):
        values = {**query.values(names), "first": place[0], "last": place[1], "most": -1 if last is None else last}
        counted = outbox.read(f"SELECT count(*) FROM event WHERE {query.where}", values)
        matched += int(counted[0][0])
        pieces.append(
            outbox.read(
                f"SELECT {SORTS[query.sort]}, number FROM event WHERE {query.where} {order} LIMIT :most", values
            )
            if query.sort != "number"
            else outbox.numbers(f"SELECT number FROM event WHERE {query.where} {order} LIMIT :most", values)
        )
        yield SOON
    page = itertools.islice(heapq.merge(*pieces, reverse=query.descending), query.offset, last)
    return matched, (each if isinstance(each, int) else each[1] for each in page)


def _pieces(outbox: Outbox) -> Iterable[tuple[int, int]]:
    """First and last number of each piece; there may be gaps where the ledger's limit took some."""
    after, last = 0, outbox.last
    while after < last:
        found = outbox.read(
            "SELECT number FROM event WHERE number > ? ORDER BY number LIMIT 1 OFFSET ?", (after, PIECE - 1)
        )
        until = int(found[0][0]) if found else last
        yield after + 1, until
        after = until
