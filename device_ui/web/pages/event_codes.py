"""The Others pages: the catalogue of event codes, and a sample of the mail of each code."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bottle import response

from device_ui.errors import HookError, Message, Text
from device_ui.mail import client
from device_ui.settings.rules import stripped
from device_ui.web.auth.sessions import Session
from device_ui.web.context import AppContext
from device_ui.web.pages.history import asked

if TYPE_CHECKING:
    Kinds = list[Mapping[str, Any]]

log = logging.getLogger(__name__)


NOT_SHOWN = "The event codes cannot be shown. {reason}"
NO_CONTENT = "The mail cannot be shown. {reason}"
KEPT_ONLY = "Events of the code {code} are kept in the history and never mailed."
# By `HookError.word`; what is not here is told in the hook's own words.
CONTENT_PROBLEMS = {"unset": "The mail cannot be shown before the SMTP tab is saved: it names the sender."}


def show_codes(site: AppContext, session: Session) -> str:
    """Show the catalogue as a table."""
    kinds, catalog_problem, problem = _catalog(site)
    return _page(site, session, "codes", kinds=kinds, catalog_problem=catalog_problem, problem=problem)


def show_content(site: AppContext, session: Session) -> str:
    """Show the mail of the code in the query, or of the first code that is mailed."""
    kinds, catalog_problem, problem = _catalog(site)
    mailed = [kind for kind in kinds if kind["mail"]]
    code = stripped(asked().get("code", "")) or (str(mailed[0]["code"]) if mailed else "")
    mail: Mapping[str, Any] = {}
    if any(kind["code"] == code and not kind["mail"] for kind in kinds):
        problem = Message(KEPT_ONLY, code=code)
    elif code and not problem:
        mail, problem = _content(site, code)
    return _page(
        site, session, "content", kinds=mailed, code=code, mail=mail, catalog_problem=catalog_problem, problem=problem
    )


def _catalog(site: AppContext) -> tuple[Kinds, str, Text]:
    """Return every kind, why the maker's file is not used, and why the catalogue cannot be shown."""
    kinds: Kinds = []
    end: Mapping[str, Any] = {}
    try:
        for line in client.kinds(site.device.folders.socket):
            kinds += [line["kind"]] if "kind" in line else []
            end = line.get("end", end)
    except HookError as error:
        log.warning("the event codes cannot be shown: %s", error)
        response.status = 503
        return [], "", Message(NOT_SHOWN, reason=error.sentence)
    return kinds, str(end.get("problem", "")), ""


def _content(site: AppContext, code: str) -> tuple[Mapping[str, Any], Text]:
    try:
        return client.content(site.device.folders.socket, code), ""
    except HookError as error:
        response.status = 422 if error.word == "bad-request" else 503
        return {}, CONTENT_PROBLEMS.get(error.word) or Message(NO_CONTENT, reason=error.sentence)


def _page(site: AppContext, session: Session, name: str, **values: Any) -> str:
    return site.render(name, session=session, page="others", part=name, wide=True, **values)
