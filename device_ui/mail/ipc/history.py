"""Answer ``history``: check the query of a request, and return each event of the outbox as a row with its results.

A person's input reaches the outbox as parameters of SQL, or chooses one of its conditions and orders. Rows are read a few at
a time, so that a long answer delays no event that is raised meanwhile.
"""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from device_ui.errors import Message, Text
from device_ui.mail.catalog import CODE_PATTERN, TYPES, Catalog
from device_ui.mail.events import Delivery, Event
from device_ui.mail.format import event_name, event_source, event_text, format_time, local_parts, local_time
from device_ui.mail.outbox.outbox import OUTCOMES, SORTS, Bars, Outbox, Query

# Rows that are read from the outbox at a time.
BATCH = 50
# An empty line, which is not sent: the server answers other clients first and then continues.
SOON: Mapping[str, Any] = {}
DATE_PATTERN = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
# Characters of a part of a source or text that is searched for.
PART_MAXIMUM = 200
# The days of the picture where no other time is asked for; the most bars of one day each, and the most bars of more days. A bar
# of more days has a longer link, and the picture has 4 KB.
USUAL_DAYS, DAYS_MAXIMUM, BARS_MAXIMUM = 30, 31, 24
HOUR = 3600
# What a person may ask for an event whose mail waits.
TRY_NOW = "try-now"
# A function of a waiting mail's number and type that returns its recipients, and step and reply of the last try.
WaitDetails = Callable[[int, str], tuple[Sequence[str], str, Text]]
# A function of an event's number that returns the notices of a server change that are still to be sent.
OpenNotices = Callable[[int], Sequence[Delivery]]


@dataclass(frozen=True)
class Live:
    """What the database does not have: answers of the worker (`requests.Worker`), and `now`, seconds since 1970.

    `next_try` returns when the mail of a number is tried: seconds since 1970, 0 for a time that is not known, None for none.
    """

    wait_details: WaitDetails
    open_notices: OpenNotices
    events_with_notices: Sequence[int] = ()
    now: float = 0.0
    next_try: Callable[[int], float | None] = lambda _number: None


class BadQuery(ValueError):
    """A request that cannot be answered; the reason is for a person."""


def read_query(request: Mapping[str, Any]) -> Query:
    """Return the query of a request. Raises `BadQuery`."""
    words = {name: _text(request, name) for name in ("from", "to", "type", "code", "outcome", "source", "text")}
    if words["type"] not in ("", *TYPES):
        raise BadQuery("the type is info or fault")
    if words["code"] and not CODE_PATTERN.fullmatch(words["code"]):
        raise BadQuery("a code has three digits")
    # OUTCOMES has the SQL of each, as SORTS below.
    if words["outcome"] not in ("", *OUTCOMES):
        raise BadQuery(Message("the outcome is one of {outcomes}", outcomes=", ".join(OUTCOMES)))
    for name in ("source", "text"):
        if len(words[name]) > PART_MAXIMUM:
            raise BadQuery(Message("{name} has {most} characters at most", name=Message(name), most=PART_MAXIMUM))
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
        words["outcome"],
        words["source"],
        words["text"],
    )


def edges(query: Query, now: float) -> list[float]:
    """Return the moments between the bars of a picture, with the first and the last: of hours for one day, else of days.

    It shows the days of the query, else the last `USUAL_DAYS` up to its last day or to `now` (seconds since 1970).
    """
    try:
        last = local_time(max(now, query.begin or 0) if query.end is None else query.end - 1).date()
        first = last - timedelta(USUAL_DAYS - 1) if query.begin is None else local_time(query.begin).date()
        days = (last - first).days + 1
        step = 1 if days <= DAYS_MAXIMUM else -(-days // BARS_MAXIMUM)
        if days == 1:
            begin, end = _midnight(first), _midnight(first, 1)
            return [*range(int(begin), int(end), HOUR), end]  # 23 to 25 of them
        return [_midnight(first, min(place, days)) for place in range(0, days + step, step)] if days > 0 else []
    except (ValueError, OverflowError, OSError):  # a year that this system has no dates for: no picture
        return []


def answer(
    query: Query, outbox: Outbox, catalog: Catalog, live: Live, *, has_bars: bool = False
) -> Iterator[Mapping[str, Any]]:
    """Return the lines of an answer: ``{"event": …}`` for each, then ``{"end": …}``; `SOON` in between. Raises `NotStored`.

    `has_bars`: with the counts of a picture.
    """
    moments = edges(query, live.now) if has_bars else []
    bars = Bars(moments) if moments else None
    search = outbox.find(query, _by_name(catalog), live.events_with_notices, bars)
    while True:
        try:
            next(search)
        except StopIteration as found:
            matched, numbers = found.value
            break
        yield SOON
    batch = iter(numbers)
    while piece := list(itertools.islice(batch, BATCH)):
        yield from _events(piece, outbox, catalog, live)
    counts = outbox.removed()
    removed = {name: counts[f"removed_{name}"] for name in ("info", "fault", "waiting")}
    # The counts come last: the client learns by this line that the answer is complete.
    end = {"matched": matched, "kept": outbox.count, "removed": removed}
    if bars:
        end["bars"] = [
            {**_bar(begin, until), **counts}
            for (begin, until), counts in zip(itertools.pairwise(bars.edges), bars.counts, strict=True)
        ]
    yield {"end": {**end, "catalog_problem": catalog.problem, "set_aside": outbox.earlier}}


def _bar(begin: float, until: float) -> Mapping[str, Any]:
    """Return the days of a bar, first and last, and the hour of one that is no whole day."""
    first, last = local_parts(begin), local_parts(until - 1)
    hour = first[1][:5] if first and until - begin <= HOUR else ""
    return {"from": first[0] if first else "", "to": last[0] if last else "", "hour": hour}


def _events(numbers: Sequence[int], outbox: Outbox, catalog: Catalog, live: Live) -> Iterator[Mapping[str, Any]]:
    events, actions = outbox.events(numbers), outbox.actions(numbers)
    mails = [*events.values(), *itertools.chain.from_iterable(actions.values())]
    # One query for all events of the piece; most of a storm share a mail.
    deliveries = outbox.deliveries_of(each.mail or each.number for each in mails)
    for number in numbers:
        if event := events.get(number):  # the limit may have removed it since
            results = deliveries.get(event.mail or number, [])
            ended = {each.recipient for each in results}
            pending = [
                *(_pending(event, ended, live) if event.waiting else ()),
                *map(_result, live.open_notices(number)),
            ]
            later = [_action(each, deliveries.get(each.number, []), outbox, live) for each in actions.get(number, ())]
            row = _row(event, results, pending, later, catalog)
            yield {
                "event": {**row, "next": live.next_try(_waiting_mail(event, later))} if row["can"] == TRY_NOW else row
            }


def _waiting_mail(event: Event, later: Sequence[Mapping[str, Any]]) -> int:
    """Return the number of the mail that an event waits for."""
    return next((each["number"] for each in later if each["waiting"]), event.mail or event.number)


def _action(action: Event, results: Sequence[Delivery], outbox: Outbox, live: Live) -> Mapping[str, Any]:
    """Return what a person asked for an event, and the results of the mail that it led to."""
    # A query of its own for each: few events have an action, and fewer one that waits.
    recipients, *_ = live.wait_details(action.number, action.type) if action.waiting else ((),)
    pending = _pending(action, outbox.ended(action.number, recipients), live) if action.waiting else ()
    return {
        "number": action.number,
        "action": action.text,
        "time": format_time(action.time, action.clock),
        "seconds": action.time or None,
        "local": local_parts(action.time),
        "source": event_source(action),
        "waiting": action.waiting,
        "deliveries": [*map(_result, results), *pending],
    }


def _row(
    event: Event,
    results: Sequence[Delivery],
    pending: Sequence[Mapping[str, Any]],
    later: Sequence[Mapping[str, Any]],
    catalog: Catalog,
) -> Mapping[str, Any]:
    is_waiting = event.waiting or bool(pending) or any(each["waiting"] for each in later)
    return {
        "number": event.number,
        "time": format_time(event.time, event.clock),
        "seconds": event.time or None,
        "local": local_parts(event.time),
        "type": event.type,
        "code": event.code,
        "name": event_name(event, catalog[event.code]),
        "source": event_source(event),
        "text": event_text(event),
        "state": state(is_waiting, _verdicts(results, later)),
        "mail": event.mail,
        "deliveries": [*map(_result, results), *pending],
        "again": later,
        "can": _possible(event, later, catalog[event.code].mail and bool(results)),
    }


def _verdicts(results: Sequence[Delivery], later: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the best verdict of each recipient that still counts (see `outbox.VERDICTS`, which filters by the same)."""
    # `delivered` is the first by the alphabet.
    best, newest = {each.recipient: str(each.verdict) for each in results}, {each.recipient for each in results}
    for action in later:
        ended = {each["recipient"]: each["verdict"] for each in action["deliveries"] if each["verdict"] != "waiting"}
        best |= {who: min(verdict, best.get(who, verdict)) for who, verdict in ended.items()}
        newest = set(ended) or newest
    return [verdict for who, verdict in best.items() if verdict == "delivered" or who in newest]


def _possible(event: Event, later: Sequence[Mapping[str, Any]], is_mailed: bool) -> str:
    """Return what a person may ask for an event, as the word of the request; ``""`` for nothing."""
    if event.in_summary:
        return ""  # it has its time
    if event.waiting or any(each["waiting"] for each in later):
        return TRY_NOW
    return "send-again" if is_mailed else ""


def _result(each: Delivery) -> Mapping[str, Any]:
    row = {"recipient": each.recipient, "verdict": each.verdict, "step": each.step, "reply": each.reply}
    time = format_time(each.time) if each.time else ""
    return {**row, "time": time, "seconds": each.time or None, "local": local_parts(each.time)}


def _pending(event: Event, ended: Collection[str], live: Live) -> Iterator[Mapping[str, Any]]:
    """Return a row for each recipient that the mail is still to be sent to."""
    recipients, step, reply = live.wait_details(event.mail or event.number, event.type)
    if event.in_summary:
        step, reply = "", Message("in the next daily summary")
    # A recipient with a result is not tried again, even if others of this mail are.
    for recipient in recipients or [""]:
        if recipient not in ended:
            yield _result(Delivery(recipient, "waiting", step, reply, 0.0))


def state(waiting: bool, verdicts: Sequence[str]) -> str:
    """Return the state of an event's mail in one word or two."""
    # A mail with one refusal is never "delivered": a person would not look at its recipients.
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
        return _midnight(date.fromisoformat(text), days)
    except (ValueError, OverflowError):
        raise BadQuery(Message("{name} is a date, written as 2026-11-23", name=Message(name))) from None


def _midnight(day: date, days: int = 0) -> float:
    """Return the first second of a day in the device's zone, or of `days` later. Raises ValueError or OverflowError."""
    # mktime(3) normalizes the 32nd of a month, and finds whether summer time applies (-1): a day may have 23 hours.
    return time.mktime((day.year, day.month, day.day + days, 0, 0, 0, 0, 0, -1))
