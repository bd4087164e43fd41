"""What became of every event, asked by date, type and code, in any order, page by page.

A person's words come in and go into the query as values, or choose among the conditions and orders that stand here.
Rows are read a few at a time, so that a long answer holds up no event that is raised meanwhile.
"""

from __future__ import annotations

import itertools
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from typing import Any

from device_ui.mail import format
from device_ui.mail.catalog import CODE_PATTERN, TYPES, Catalog
from device_ui.mail.events import Delivery, Event
from device_ui.mail.format import moment
from device_ui.mail.outbox.outbox import Outbox
from device_ui.mail.outbox.search import SOON, SORTS, Query, find

# Rows that are read of the ledger at a time.
BATCH = 50
LISTED = "SELECT value FROM json_each(?)"
DATE_PATTERN = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
__all__ = ["SOON", "SORTS", "BadQuery", "Query", "answer", "read_query", "state"]
# Of a mail that waits, by its number and type: who is still to get it, the step and the answer the last try ended at.
Waits = Callable[[int, str], tuple[Sequence[str], str, str]]
# Of an event by its number: who is still to be warned of it (see `announcement`).
Warns = Callable[[int], Sequence[Delivery]]


class BadQuery(ValueError):
    """A question that cannot be answered; the reason is for a person."""


def read_query(request: Mapping[str, Any]) -> Query:
    """A request's words as a query. Raises `BadQuery`."""
    words = {name: _text(request, name) for name in ("from", "to", "type", "code")}
    if words["type"] not in ("", *TYPES):
        raise BadQuery("the type is info or fault")
    if words["code"] and not CODE_PATTERN.fullmatch(words["code"]):
        raise BadQuery("a code has three digits")
    sort, descending = _text(request, "sort") or "number", request.get("descending", True)
    if sort not in SORTS:
        raise BadQuery(f"it can be sorted by {', '.join(SORTS)}")
    if not isinstance(descending, bool):
        raise BadQuery("descending is true or false")
    return Query(
        _day(words["from"], "from"),
        _day(words["to"], "to", days=1),
        words["type"],
        words["code"],
        sort,
        descending,
        _count(request, "offset", 0),
        _count(request, "limit", BATCH),
    )


def answer(
    query: Query, outbox: Outbox, catalog: Catalog, waits: Waits, warns: Warns, problem: str
) -> Iterator[Mapping[str, Any]]:
    """The lines of an answer: ``{"event": …}`` for each, then ``{"end": …}``; `SOON` in between. Raises `NotStored`."""
    matched, numbers = yield from find(query, outbox, _by_name(catalog))
    batch = iter(numbers)
    while piece := list(itertools.islice(batch, BATCH)):
        yield from _events(piece, outbox, catalog, waits, warns)
    removed = outbox.removed()
    told = {
        name.removeprefix("removed_"): removed[name] for name in ("removed_info", "removed_fault", "removed_waiting")
    }
    counts = {"matched": matched, "kept": outbox.count, "removed": told}
    yield {"end": {**counts, "catalog_problem": problem, "set_aside": outbox.earlier}}


def _events(
    numbers: Sequence[int], outbox: Outbox, catalog: Catalog, waits: Waits, warns: Warns
) -> Iterator[Mapping[str, Any]]:
    found = {each.number: each for each in outbox.select(f"number IN ({LISTED})", (json.dumps(list(numbers)),))}
    mails = json.dumps([each.mail or each.number for each in found.values()])
    deliveries: dict[int, list[Delivery]] = {}
    for number, *row in outbox.read(
        f"SELECT number, recipient, verdict, step, reply, time FROM delivery WHERE number IN ({LISTED})",
        (mails,),
    ):
        deliveries.setdefault(number, []).append(Delivery(*row))
    for number in numbers:
        if number in found:  # the limit may have taken it since
            event = found[number]
            became = deliveries.get(event.mail or number, [])
            open_ = [*(_open(event, became, waits) if event.waiting else ()), *map(_delivery, warns(number))]
            yield {"event": _told(event, became, open_, catalog)}


def _told(
    event: Event, deliveries: Sequence[Delivery], open_: Sequence[Mapping[str, Any]], catalog: Catalog
) -> Mapping[str, Any]:
    return {
        "number": event.number,
        "time": moment(event.time, event.clock),
        "seconds": event.time or None,
        "type": event.type,
        "code": event.code,
        "name": format.name(event, catalog[event.code]),
        "source": event.source,
        "text": format.text(event),
        "state": state(event.waiting or bool(open_), [each.verdict for each in deliveries]),
        "mail": event.mail,
        "deliveries": [*map(_delivery, deliveries), *open_],
    }


def _delivery(each: Delivery) -> Mapping[str, Any]:
    told = {"recipient": each.recipient, "verdict": each.verdict, "step": each.step, "reply": each.reply}
    return {**told, "time": moment(each.time) if each.time else "", "seconds": each.time or None}


def _open(event: Event, deliveries: Sequence[Delivery], waits: Waits) -> Iterator[Mapping[str, Any]]:
    """Who still waits for the mail."""
    recipients, step, reply = waits(event.mail or event.number, event.type)
    final = {each.recipient for each in deliveries}
    for recipient in recipients or [""]:
        if recipient not in final:
            yield {
                "recipient": recipient,
                "verdict": "waiting",
                "step": step,
                "reply": reply,
                "time": "",
                "seconds": None,
            }


def state(waiting: bool, verdicts: Sequence[str]) -> str:
    """One word for what became of an event's mail."""
    if waiting:
        return "waiting"
    if not verdicts:
        return "not mailed"
    if "delivered" in verdicts:
        return "delivered" if set(verdicts) == {"delivered"} else "partly delivered"
    return "refused" if "refused" in verdicts else "dropped"


def _by_name(catalog: Catalog) -> str:
    names = sorted(catalog.kinds, key=lambda code: (catalog[code].name.lower(), code))
    return f",{','.join(names)},"


def _text(request: Mapping[str, Any], name: str) -> str:
    value = request.get(name, "")
    if not isinstance(value, str):
        raise BadQuery(f"{name} is a text")
    return value.strip()


def _count(request: Mapping[str, Any], name: str, default: int) -> int:
    value = request.get(name, default)
    if type(value) is not int or not 0 <= value <= 10**9:
        raise BadQuery(f"{name} is a whole number from 0 on")
    return value


def _day(text: str, name: str, days: int = 0) -> float | None:
    """The first second of a day in the device's zone, or of `days` later; None for no text."""
    if not text:
        return None
    try:
        if not DATE_PATTERN.fullmatch(text):
            raise ValueError
        day = date.fromisoformat(text)
        return time.mktime((day.year, day.month, day.day + days, 0, 0, 0, 0, 0, -1))
    except (ValueError, OverflowError):
        raise BadQuery(f"{name} is a date, written as 2026-11-23") from None
