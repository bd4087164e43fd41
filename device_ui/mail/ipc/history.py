"""Answer ``history``: check the query of a request, and return each event of the outbox as a row with its results.

A person's input reaches the outbox as parameters of SQL, or chooses one of its conditions and orders. Rows are read a few at
a time, so that a long answer delays no event that is raised meanwhile.
"""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from typing import Any

from device_ui.errors import Message, Text
from device_ui.mail.catalog import CODE_PATTERN, TYPES, Catalog
from device_ui.mail.events import Delivery, Event
from device_ui.mail.format import event_name, event_source, event_text, format_time
from device_ui.mail.outbox.outbox import SORTS, Outbox, Query

# Rows that are read from the outbox at a time.
BATCH = 50
# A line that is not sent: the server answers other clients first and then continues.
SOON: Mapping[str, Any] = {}
DATE_PATTERN = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
# Of a waiting mail, by its number and type: its recipients, and step and reply of the last try.
Waits = Callable[[int, str], tuple[Sequence[str], str, Text]]
# Of an event, by its number: the pending notifications of a server change.
Warns = Callable[[int], Sequence[Delivery]]


class BadQuery(ValueError):
    """A request that cannot be answered; the reason is for a person."""


def read_query(request: Mapping[str, Any]) -> Query:
    """Return the query of a request. Raises `BadQuery`."""
    words = {name: _text(request, name) for name in ("from", "to", "type", "code")}
    if words["type"] not in ("", *TYPES):
        raise BadQuery("the type is info or fault")
    if words["code"] and not CODE_PATTERN.fullmatch(words["code"]):
        raise BadQuery("a code has three digits")
    sort, descending = _text(request, "sort") or "number", request.get("descending", True)
    # SORTS has the SQL of each order: an unknown word never gets that far.
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


def answer(query: Query, outbox: Outbox, catalog: Catalog, waits: Waits, warns: Warns) -> Iterator[Mapping[str, Any]]:
    """Return the lines of an answer: ``{"event": …}`` for each, then ``{"end": …}``; `SOON` in between. Raises `NotStored`."""
    search = outbox.find(query, _by_name(catalog))
    while True:
        try:
            next(search)
        except StopIteration as found:
            matched, numbers = found.value
            break
        yield SOON
    batch = iter(numbers)
    while piece := list(itertools.islice(batch, BATCH)):
        yield from _events(piece, outbox, catalog, waits, warns)
    counts = outbox.removed()
    removed = {name: counts[f"removed_{name}"] for name in ("info", "fault", "waiting")}
    # The counts come last: the client learns by this line that the answer is complete.
    end = {"matched": matched, "kept": outbox.count, "removed": removed}
    yield {"end": {**end, "catalog_problem": catalog.problem, "set_aside": outbox.earlier}}


def _events(
    numbers: Sequence[int], outbox: Outbox, catalog: Catalog, waits: Waits, warns: Warns
) -> Iterator[Mapping[str, Any]]:
    events = outbox.events(numbers)
    # One query for all events of the piece; most of a storm share a mail.
    deliveries = outbox.deliveries_of(each.mail or each.number for each in events.values())
    for number in numbers:
        if event := events.get(number):  # the limit may have removed it since
            results = deliveries.get(event.mail or number, [])
            pending = [*(_pending(event, results, waits) if event.waiting else ()), *map(_result, warns(number))]
            yield {"event": _row(event, results, pending, catalog)}


def _row(
    event: Event, results: Sequence[Delivery], pending: Sequence[Mapping[str, Any]], catalog: Catalog
) -> Mapping[str, Any]:
    return {
        "number": event.number,
        "time": format_time(event.time, event.clock),
        "seconds": event.time or None,
        "type": event.type,
        "code": event.code,
        "name": event_name(event, catalog[event.code]),
        "source": event_source(event),
        "text": event_text(event),
        "state": state(event.waiting or bool(pending), [each.verdict for each in results]),
        "mail": event.mail,
        "deliveries": [*map(_result, results), *pending],
    }


def _result(each: Delivery) -> Mapping[str, Any]:
    row = {"recipient": each.recipient, "verdict": each.verdict, "step": each.step, "reply": each.reply}
    return {**row, "time": format_time(each.time) if each.time else "", "seconds": each.time or None}


def _pending(event: Event, results: Sequence[Delivery], waits: Waits) -> Iterator[Mapping[str, Any]]:
    """Return a row for each recipient that the mail is still to be sent to."""
    recipients, step, reply = waits(event.mail or event.number, event.type)
    # A recipient with a result is not tried again, even if others of this mail are.
    final = {each.recipient for each in results}
    for recipient in recipients or [""]:
        if recipient not in final:
            yield _result(Delivery(recipient, "waiting", step, reply, 0.0))


def state(waiting: bool, verdicts: Sequence[str]) -> str:
    """Return the state of an event's mail in one word or two."""
    if waiting:
        return "waiting"
    if not verdicts:
        return "not mailed"
    if "delivered" in verdicts:
        return "delivered" if set(verdicts) == {"delivered"} else "partly delivered"
    return "refused" if "refused" in verdicts else "dropped"


def _by_name(catalog: Catalog) -> str:
    # The database has codes and no names; SQL finds the position of a code in this text.
    names = sorted(catalog.kinds, key=lambda code: (catalog[code].name.lower(), code))
    return f",{','.join(names)},"


def _text(request: Mapping[str, Any], name: str) -> str:
    value = request.get(name, "")
    if not isinstance(value, str):
        raise BadQuery(f"{name} is a text")
    return value.strip()


def _count(request: Mapping[str, Any], name: str, default: int) -> int:
    value = request.get(name, default)
    # Not isinstance: true is an int in Python, and no count in JSON.
    if type(value) is not int or not 0 <= value <= 10**9:
        raise BadQuery(f"{name} is a whole number from 0 on")
    return value


def _day(text: str, name: str, days: int = 0) -> float | None:
    """Return the first second of a day in the device's zone, or of `days` later; None for no text."""
    if not text:
        return None
    try:
        if not DATE_PATTERN.fullmatch(text):
            raise ValueError
        day = date.fromisoformat(text)
        # mktime(3) normalizes the 32nd of a month, and finds whether summer time applies (-1): a day may have 23 hours.
        return time.mktime((day.year, day.month, day.day + days, 0, 0, 0, 0, 0, -1))
    except (ValueError, OverflowError):
        raise BadQuery(Message("{name} is a date, written as 2026-11-23", name=Message(name))) from None
