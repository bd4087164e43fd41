"""The History page: every event with its deliveries, filtered, sorted and paged; and all of it as a CSV file.

An event can be sent again, and a waiting mail tried now: the hook stores the action before it answers.
"""

from __future__ import annotations

import itertools
import logging
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any
from urllib.parse import parse_qsl, urlencode

from bottle import HTTPError, HTTPResponse, html_escape, request, response

from device_ui import csv_export
from device_ui.errors import HookError, Message, Text
from device_ui.i18n.translator import Translator
from device_ui.mail import client
from device_ui.settings.rules import stripped
from device_ui.web.auth.guard import address, see_other
from device_ui.web.auth.sessions import Session
from device_ui.web.context import AppContext
from device_ui.web.forms import posted, text
from device_ui.web.pages import delivery_state, picture
from device_ui.web.pages.stored_list import KEPT

log = logging.getLogger(__name__)

# One piece of the hook's reads (`mail.ipc.history.BATCH`).
PAGE_EVENTS = 50
# Bounded: SQLite steps over the events of all earlier pages.
PAGE_PATTERN = re.compile(r"[1-9][0-9]{0,5}")
# The names of the hook's query, which are also those of the form.
FILTERS = ("from", "to", "type", "code", "outcome", "source", "text")
# One day in the place of two dates, since the picture has thirty such links in 4 KB.
DAY = "day"
TYPES = {"": "All", "info": "info", "fault": "fault"}
# What became of an event, each with its mark: a word and a sign, and not a colour alone.
MARKS = {
    "waiting": "…",
    "delivered": "✓",
    "partly delivered": "!",
    "refused": "✗",
    "dropped": "✗",
    "not mailed": "–",
}
OUTCOMES = {"": "All", "not delivered": "not delivered (refused or dropped)", **{word: word for word in MARKS}}
# The hook's name of a column to sort by, and its head.
COLUMNS = {
    "number": "Number",
    "time": "Time",
    "type": "Type",
    "code": "Code",
    "name": "Name",
    "source": "Source",
    "state": "Delivery",
}
# Characters of an event's text that its row shows; the rest is folded.
EXCERPT = 160
# What can be asked for an event: the request of the hook, the button, what the page says afterwards, and what the entry says.
ACTIONS = {
    "send-again": (
        client.send_again,
        "Send again",
        "Event {number} is sent again. Its row shows the result.",
        "Sent again",
    ),
    "try-now": (client.try_event_now, "Try now", "The mail of event {number} is tried now.", "Tried at once"),
}
NUMBER_PATTERN = re.compile(r"[1-9][0-9]{0,17}")
# By `HookError.word`.
NOT_DONE = {
    "gone": "This event is not in the history any more.",
    "waiting": "The mail of this event waits already.",
    "not-waiting": "The mail of this event does not wait any more.",
    "not-mailed": "This event was not mailed.",
    "held": delivery_state.NOTHING_TRIED,
    "too-many": "Too many at once. Please wait {seconds} s.",
}
NOTHING_DONE = "Nothing was sent. {reason}"
STATUSES = {
    "bad-request": 422,
    "too-many": 429,
    **dict.fromkeys(("gone", "waiting", "not-waiting", "not-mailed", "held"), 409),
}
# A message of the system, which has its subject for a name, and the name of one without (`mail.catalog.MESSAGE`).
MESSAGE_CODE, MESSAGE_NAME = "901", "Message from the system"
NOT_SHOWN = "The history cannot be shown. {reason}"
NOT_FILTERED = "Please change the filter. {reason}"
# The page itself sends seven; `parse_qsl` would read any number of them.
QUERY_FIELDS_MAXIMUM = 20

# Bytes of a file that are sent at once: a row at a time would be a system call for each of 100,000 events.
CSV_PIECE = 16 * 1024
# What the database's limit removed, in words.
REMOVED = {"info": "{count} infos", "fault": "{count} faults", "waiting": "{count} still waiting for their mail"}


class Query:
    """The query of a History address: `filters` (without empty ones), `sort`, `descending`, `page` (from 1)."""

    def __init__(self, given: Mapping[str, str]) -> None:
        day = stripped(given.get(DAY, ""))
        filters = {name: stripped(given.get(name, "")) for name in FILTERS} | ({"from": day, "to": day} if day else {})
        self.filters = {name: text for name, text in filters.items() if text}
        self.sort = given["sort"] if given.get("sort") in COLUMNS else "number"
        self.descending = given.get("order") != "up"
        self.page = int(given["page"]) if PAGE_PATTERN.fullmatch(given.get("page", "")) else 1

    @property
    def asked(self) -> dict[str, Any]:
        """The hook's request for all of it."""
        return {**self.filters, "sort": self.sort, "descending": self.descending, "offset": 0, "limit": 0}

    @property
    def asked_page(self) -> dict[str, Any]:
        """The hook's request for this page of it."""
        return {**self.asked, "offset": (self.page - 1) * PAGE_EVENTS, "limit": PAGE_EVENTS, "bars": True}

    def link(self, path: str = "/history", **changes: object) -> str:
        """Return the address of this query with `changes` (``sort``, ``order``, ``page``)."""
        same = {**self.filters, "sort": self.sort, "order": "down" if self.descending else "up"}
        return f"{path}?{urlencode({**same, **changes})}"

    @property
    def own(self) -> str:
        """The query of this very page, for the form that returns to it."""
        return self.link("", page=self.page).removeprefix("?")

    def of_bar(self, bar: Mapping[str, Any]) -> str:
        """Return the address of a bar's days, with the filters; ``""`` for an hour, whose day is shown already."""
        if bar["hour"]:
            return ""
        # The filter's own days would contradict those of the bar.
        kept = {name: value for name, value in self.filters.items() if name not in ("from", "to")}
        days = {DAY: bar["from"]} if bar["from"] == bar["to"] else {"from": bar["from"], "to": bar["to"]}
        return f"?{urlencode({**days, **kept})}"

    def sorted_by(self, column: str) -> str:
        """Return the address of the first page, sorted by this column; reversed if it already is."""
        is_reversed = column == self.sort and self.descending
        return self.link(sort=column, order="up" if is_reversed else "down")


def asked() -> dict[str, str]:
    """Return the query of this request; of a repeated name, the last value. Raises HTTPError 400."""
    return _fields(request.query_string)


def _fields(query: str) -> dict[str, str]:
    # "replace": a person may have typed the address, and a wrong escape only finds nothing.
    try:
        return dict(parse_qsl(query, errors="replace", max_num_fields=QUERY_FIELDS_MAXIMUM))
    except ValueError:
        raise HTTPError(400, "The address holds too many fields.") from None


def show(site: AppContext, session: Session) -> str:
    """Show one page of the events that the query selects."""
    # A form that was sent after the session's end is not repeated by itself: a mail may have gone out since.
    return _page(site, session, Query(asked()), KEPT if session.take_saved_form("/history") else "")


def act(site: AppContext, session: Session) -> str | HTTPResponse:
    """Send an event again, or try its waiting mail now. Raises HTTPError 400."""
    form = posted()
    word = next((name for name in ACTIONS if name in form), "")
    number = text(form, word)
    if not NUMBER_PATTERN.fullmatch(number):
        raise HTTPError(400, "The form does not say what to do.")
    query = Query(_fields(text(form, "query")))
    request_of, _, done, _ = ACTIONS[word]
    with session.lock:  # a double click sends the form twice at once
        try:
            request_of(site.device.folders.socket, int(number), address())
        except HookError as error:
            # By the second click of two, the first one's mail waits.
            if (word, error.word) != ("send-again", "waiting"):
                return _not_done(site, session, query, error)
        session.notice = Message(done, number=number)
    log.info("event %s: %s, from %s", number, word, address())
    return see_other(f"/history?{query.own}#event-{number}")


def _not_done(site: AppContext, session: Session, query: Query, error: HookError) -> str:
    log.warning("an action on an event was refused: %s", error)
    if error.seconds:
        response.set_header("Retry-After", str(error.seconds))
    reason = NOT_DONE.get(error.word)
    sentence = Message(reason, seconds=error.seconds) if reason else Message(NOTHING_DONE, reason=error.sentence)
    page = _page(site, session, query, sentence)
    response.status = STATUSES.get(error.word, 503)
    return page


def _page(site: AppContext, session: Session, query: Query, problem: Text = "") -> str:
    wrong: Text = ""
    events: list[Mapping[str, Any]] = []
    end: Mapping[str, Any] = {}
    # Bounded in bytes, unlike the export, which holds one line at a time.
    try:
        *events, end = client.history(
            site.device.folders.socket, query.asked_page, bytes_maximum=client.ANSWERS_MAXIMUM
        )
    except HookError as error:
        response.status = _status(error)
        reason, wrong = _reasons(error)
        problem = problem or reason
    words, found = site.words(), [line["event"] for line in events]
    zone = _zone(found)
    shown = _shown(query, end.get("end", {}), words)
    shown |= {
        "entries": [_entry(words, each, zone) for each in found],
        "zone": zone,
        "problem": problem,
        "wrong": wrong,
    }
    return site.render("history", session, notice=session.take_notice(), **shown)


def export(site: AppContext, _session: Session) -> Iterator[bytes]:
    """Return all events that the query selects, as a file. Raises HTTPError 422 or 503 when the first line fails."""
    lines = client.history(site.device.folders.socket, Query(asked()).asked)
    # The first line before the status: afterwards an error can only end the file early.
    try:
        first = next(lines)
    except HookError as error:
        raise HTTPError(_status(error), next(filter(None, _reasons(error)))) from error
    # An attachment, so that no browser shows a text of the firmware as a page of this device (RFC 6266).
    response.content_type = "text/csv; charset=UTF-8"
    response.set_header("Content-Disposition", 'attachment; filename="history.csv"')
    return pieces(rows(itertools.chain([first], lines)))


def rows(lines: Iterable[Mapping[str, Any]]) -> Iterator[bytes]:
    """Yield the file's rows; the last one says so if the hook's answer breaks off."""
    try:
        yield from csv_export.rows(lines)
    except HookError as error:
        log.warning("a history file is not complete: %s", error)


def pieces(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the same bytes in pieces of `CSV_PIECE` or a little more."""
    gathered = bytearray()
    for part in parts:
        gathered += part
        if len(gathered) >= CSV_PIECE:
            yield bytes(gathered)
            gathered.clear()
    yield bytes(gathered)


def _shown(query: Query, end: Mapping[str, Any], words: Translator) -> dict[str, Any]:
    """Return what the template shows besides the events."""
    matched = end.get("matched", 0)
    return {
        "page": "history",
        "wide": True,
        "query": query,
        "typed": query.filters,
        "types": TYPES,
        "outcomes": OUTCOMES,
        "columns": COLUMNS,
        "actions": {word: label for word, (_, label, _, _) in ACTIONS.items()},
        **_picture(query, end.get("bars", [])),
        "first": (query.page - 1) * PAGE_EVENTS + 1,
        "matched": matched,
        "kept": end.get("kept", 0),
        "pages": -(-matched // PAGE_EVENTS),
        "removed": _removed(end.get("removed", {}), words),
        "catalog_problem": end.get("catalog_problem", ""),
        "set_aside": ", ".join(end.get("set_aside", ())),
    }


def _picture(query: Query, bars: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what the template shows of the bars; no picture without an event."""
    totals = {name: sum(int(bar[name]) for bar in bars) for name in ("fault", "info", "lost")}
    is_empty = not totals["fault"] + totals["info"]
    return {
        "bars": [] if is_empty else bars,
        "svg": "" if is_empty else picture.svg(bars, query.of_bar),
        "totals": totals,
        "of_bar": query.of_bar,
        "is_usual": not {"from", "to"} & set(query.filters),
    }


def _zone(events: Sequence[Mapping[str, Any]]) -> str:
    """Return the zone of most times of the page, which it names once; ``""`` without a date."""
    # The zone of most, and not of the first: a database may span a change to summer time.
    zones = Counter(zone for each in events if (zone := _local(each)[2]))
    return zones.most_common(1)[0][0] if zones else ""


def _local(event: Mapping[str, Any]) -> Sequence[str]:
    """Return date, time and zone of an event or a delivery, empty ones without a date."""
    found = event.get("local")
    return [str(each) for each in found] if isinstance(found, list) and len(found) == 3 else ("", "", "")


def _entry(words: Translator, event: Mapping[str, Any], zone: str) -> dict[str, Any]:
    """Return what the row of an event shows."""
    when = partial(moment, words, zone=zone)
    title, rest = _title(words, event)
    text = words(event["text"]) if isinstance(event["text"], Message) else str(event["text"])
    source = words(event["source"]) if isinstance(event["source"], Message) else str(event["source"])
    name = _named(words, event)
    deliveries = csv_export.deliveries(event)
    differ = len({(each["verdict"], each["step"], str(each["reply"])) for each in deliveries}) > 1
    failed = any(each["verdict"] in ("refused", "dropped") for each in deliveries)
    # What waits for one reason has one line for all; what was delivered needs none.
    has_one_reason = event["state"] == "waiting" and deliveries and not differ
    reason = (
        csv_export.result({**deliveries[0], "recipient": "", "verdict": "", "step": ""}, words)
        if has_one_reason
        else ""
    )
    return {
        "number": event["number"],
        "when": when(event),
        "type": event["type"],
        "code": event["code"],
        "title": title,
        "whole": text if rest else "",
        # The title is the beginning of the text, and not a subject.
        "is_cut": rest and title != name,
        # A title that is the name already needs no name beside it.
        "sub": " · ".join(filter(None, (name if title != name else "", source))),
        "state": event["state"],
        "mark": MARKS.get(str(event["state"]), ""),
        "mail": event["mail"] if event["mail"] not in (0, event["number"]) else 0,
        "results": [_result(words, each, zone) for each in deliveries],
        "is_folded": bool(deliveries) and not failed and not (differ and event["state"] != "delivered"),
        "reason": " · ".join(filter(None, (reason, _next_try(words, event)))),
        "again": [_again(words, each, zone) for each in event.get("again", ())],
        "can": event["can"] if str(event.get("can")) in ACTIONS else "",
    }


def _next_try(words: Translator, event: Mapping[str, Any]) -> str:
    """Return when the waiting mail of an event is tried; ``""`` for an event without one."""
    if "next" not in event:
        return ""
    return f"{words('Next try')}: {words(delivery_state.planned(event['next'], time.time()))}"


def _title(words: Translator, event: Mapping[str, Any]) -> tuple[str, bool]:
    """Return what happened in two lines, and whether there is more."""
    text = words(event["text"]) if isinstance(event["text"], Message) else str(event["text"])
    # A message of the system has its subject for a name.
    if not text.strip() or event["code"] == MESSAGE_CODE:
        return _named(words, event), bool(text.strip())
    lines = [line for line in text.strip().split("\n") if line.strip()]
    # Two lines: one may hold no more than a name, and a row has to stay short.
    title = "\n".join(lines[:2])
    is_cut = len(lines) > 2 or len(title) > EXCERPT
    return (f"{title[:EXCERPT].rstrip()} …" if is_cut else title), is_cut


def _again(words: Translator, action: Mapping[str, Any], zone: str) -> dict[str, Any]:
    """Return what the entry says of an action: one line, and the results of its mail."""
    label = ACTIONS[word][3] if (word := str(action["action"]).replace(" ", "-")) in ACTIONS else str(action["action"])
    source = words(action["source"]) if isinstance(action["source"], Message) else str(action["source"])
    line = " · ".join((html_escape(words(label)), moment(words, action, zone=zone), html_escape(source)))
    return {"line": line, "results": [_result(words, each, zone) for each in csv_export.deliveries(action)]}


def _named(words: Translator, event: Mapping[str, Any]) -> str:
    """Return the name of an event. The subject of a message of the system is not translated."""
    is_subject = event["code"] == MESSAGE_CODE and event["name"] != MESSAGE_NAME
    return str(event["name"]) if is_subject else words(event["name"])


def moment(words: Translator, event: Mapping[str, Any], *, zone: str = "") -> str:
    """Return the time of an event or a delivery as HTML, with its date for the browser (HTML, 2.3.5.7) if there is one.

    Without its zone where that is the `zone` that the page names.
    """
    day, clock, own_zone = _local(event)
    # A message says more than the time, such as that the clock was not set.
    is_plain = zone and own_zone == zone and not isinstance(event["time"], Message)
    text: str = html_escape(f"{day} {clock}" if is_plain else words(event["time"]))
    try:
        when = datetime.fromtimestamp(int(event["seconds"]), UTC)
    except (TypeError, ValueError, OverflowError, OSError):  # no date yet, or a damaged one
        return text
    return f'<time datetime="{when:%Y-%m-%dT%H:%M:%SZ}">{text}</time>'


def _result(words: Translator, delivery: Mapping[str, Any], zone: str) -> str:
    """Return one recipient's result as HTML."""
    outcome = html_escape(csv_export.result(delivery, words))
    return ", ".join(filter(None, (outcome, moment(words, delivery, zone=zone))))


def _status(error: HookError) -> int:
    return 422 if error.word == "bad-request" else 503


def _reasons(error: HookError) -> tuple[Text, Text]:
    """Return what the page shows above the events, and what beside the filters; one of them is empty."""
    if error.word == "bad-request":
        return "", Message(NOT_FILTERED, reason=error.sentence)
    log.warning("the history cannot be shown: %s", error)
    return Message(NOT_SHOWN, reason=error.sentence), ""


def _removed(counts: Mapping[str, int], words: Translator) -> str:
    """Return what the limit removed: ``3 infos, 2 faults``; ``""`` for nothing."""
    return ", ".join(words(sentence, count=counts[name]) for name, sentence in REMOVED.items() if counts.get(name))
