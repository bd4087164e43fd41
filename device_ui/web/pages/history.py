"""The History page: every event with its deliveries, filtered, sorted and paged; and all of it as a CSV file."""

from __future__ import annotations

import itertools
import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any
from urllib.parse import parse_qsl, urlencode

from bottle import HTTPError, html_escape, request, response

from device_ui import csv_export
from device_ui.errors import HookError, Message, Text
from device_ui.i18n.translator import Translator
from device_ui.mail import client
from device_ui.settings.rules import stripped
from device_ui.web.auth.sessions import Session
from device_ui.web.context import AppContext

log = logging.getLogger(__name__)

PAGE_EVENTS = 50
# Bounded: SQLite steps over the events of all earlier pages.
PAGE_PATTERN = re.compile(r"[1-9][0-9]{0,5}")
FILTERS = ("from", "to", "type", "code")
TYPES = {"": "All", "info": "info", "fault": "fault"}
# The hook's name of a column to sort by, and its head.
COLUMNS = {
    "number": "Number",
    "time": "Time",
    "type": "Type",
    "code": "Code",
    "name": "Name",
    "source": "Source",
    "state": "What became of it",
}
# A message of the system, which has its subject for a name, and the name of one without (`mail.catalog.MESSAGE`).
MESSAGE_CODE, MESSAGE_NAME = "901", "Message from the system"
NOT_SHOWN = "The history cannot be shown. {reason}"
NOT_FILTERED = "Please change the filter. {reason}"
QUERY_FIELDS_MAXIMUM = 20

# Bytes of a file that are sent at once.
CSV_PIECE = 16 * 1024
# What the ledger's limit removed, in words.
REMOVED = {"info": "{count} infos", "fault": "{count} faults", "waiting": "{count} still waiting for their mail"}


class Query:
    """The query of a History address: `filters` (without empty ones), `sort`, `descending`, `page` (from 1)."""

    def __init__(self, given: Mapping[str, str]) -> None:
        filters = {name: stripped(given.get(name, "")) for name in FILTERS}
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
        return {**self.asked, "offset": (self.page - 1) * PAGE_EVENTS, "limit": PAGE_EVENTS}

    def link(self, path: str = "/history", **changes: object) -> str:
        """Return the address of this query with `changes` (``sort``, ``order``, ``page``)."""
        same = {**self.filters, "sort": self.sort, "order": "down" if self.descending else "up"}
        return f"{path}?{urlencode({**same, **changes})}"

    def sorted_by(self, column: str) -> str:
        """Return the address of the first page, sorted by this column; reversed if it already is."""
        turned = column == self.sort and self.descending
        return self.link(sort=column, order="up" if turned else "down")


def asked() -> dict[str, str]:
    """Return the query of this request; of a repeated name, the last value. Raises HTTPError 400."""
    try:
        return dict(parse_qsl(request.query_string, errors="replace", max_num_fields=QUERY_FIELDS_MAXIMUM))
    except ValueError:
        raise HTTPError(400, "The address holds too many fields.") from None


def show(site: AppContext, session: Session) -> str:
    """Show one page of the events that the query selects."""
    query = Query(asked())
    problem: Text = ""
    wrong: Text = ""
    events: list[Mapping[str, Any]] = []
    end: Mapping[str, Any] = {}
    try:
        *events, end = client.history(site.device.folders.socket, query.asked_page, most=client.ANSWERS_MAXIMUM)
    except HookError as error:
        response.status = _status(error)
        problem, wrong = _told(error)
    told = {"events": [line["event"] for line in events], "problem": problem, "wrong": wrong}
    return site.render("history", session=session, **_shown(query, end.get("end", {}), site.words()), **told)


def export(site: AppContext, _session: Session) -> Iterator[bytes]:
    """Return all events that the query selects, as a file. Raises HTTPError 422 or 503 when the first line fails."""
    lines = client.history(site.device.folders.socket, Query(asked()).asked)
    try:
        first = next(lines)
    except HookError as error:
        raise HTTPError(_status(error), next(filter(None, _told(error)))) from error
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
    """What the template shows besides the events."""
    matched = end.get("matched", 0)
    return {
        "page": "history",
        "wide": True,
        "query": query,
        "typed": query.filters,
        "types": TYPES,
        "columns": COLUMNS,
        "deliveries": csv_export.deliveries,
        "result": partial(_result, words),
        "moment": partial(moment, words),
        "own": lambda text: words(text) if isinstance(text, Message) else text,
        "named": partial(_named, words),
        "first": (query.page - 1) * PAGE_EVENTS + 1,
        "matched": matched,
        "kept": end.get("kept", 0),
        "pages": -(-matched // PAGE_EVENTS),
        "removed": _removed(end.get("removed", {}), words),
        "catalog_problem": end.get("catalog_problem", ""),
        "set_aside": ", ".join(end.get("set_aside", ())),
    }


def _named(words: Translator, event: Mapping[str, Any]) -> str:
    """What an event is called; what the system said stays as it came."""
    is_said = event["code"] == MESSAGE_CODE and event["name"] != MESSAGE_NAME
    return str(event["name"]) if is_said else words(event["name"])


def moment(words: Translator, event: Mapping[str, Any]) -> str:
    """Return the time of an event or a delivery as HTML, with its date for the browser (HTML, 2.3.5.7) if there is one."""
    text: str = html_escape(words(event["time"]))
    try:
        when = datetime.fromtimestamp(int(event["seconds"]), UTC)
    except (TypeError, ValueError, OverflowError, OSError):  # no date yet, or a damaged one
        return text
    return f'<time datetime="{when:%Y-%m-%dT%H:%M:%SZ}">{text}</time>'


def _result(words: Translator, delivery: Mapping[str, Any]) -> str:
    """Return one recipient's result as HTML."""
    return ", ".join(filter(None, (html_escape(csv_export.result(delivery, words)), moment(words, delivery))))


def _status(error: HookError) -> int:
    return 422 if error.word == "bad-request" else 503


def _told(error: HookError) -> tuple[Text, Text]:
    """What is told above the page, and what beside the filters: one of them is empty."""
    if error.word == "bad-request":
        return "", Message(NOT_FILTERED, reason=error.sentence)
    log.warning("the history cannot be shown: %s", error)
    return Message(NOT_SHOWN, reason=error.sentence), ""


def _removed(counts: Mapping[str, int], words: Translator) -> str:
    """``3 infos, 2 faults``; ``""`` when nothing was removed."""
    return ", ".join(words(told, count=counts[name]) for name, told in REMOVED.items() if counts.get(name))
