"""The Others pages: the catalogue of event codes, and a sample of the mail of each code: single and digest, light and dark."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bottle import HTTPError, response

from device_ui.errors import HookError, Message, Text
from device_ui.i18n.translator import Translator
from device_ui.mail import client
from device_ui.settings.rules import stripped
from device_ui.web.auth.sessions import Session
from device_ui.web.context import AppContext
from device_ui.web.pages.history import TYPES, asked

if TYPE_CHECKING:
    Kinds = list[Mapping[str, Any]]

log = logging.getLogger(__name__)


FILTERS = ("type", "code", "text")
NOT_SHOWN = "The event codes cannot be shown. {reason}"
NO_CONTENT = "The mail cannot be shown. {reason}"
KEPT_ONLY = "Events of the code {code} are kept in the history and never mailed."
# The two forms of a mail by their names in the query, and how many events each sample has.
SINGLE, DIGEST = "single", "digest"
FORMS = {SINGLE: "One event", DIGEST: "Several events in one mail"}
EVENTS = {SINGLE: 1, DIGEST: 3}
SCHEMES = {"light": "HTML, light", "dark": "HTML, dark"}
# What the document of a mail may do: have inline styles, in a frame of this device's own pages.
FRAMED = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'self'; sandbox",
    "X-Frame-Options": "SAMEORIGIN",
}
# By `HookError.word`; any other word is shown with the hook's own reason.
CONTENT_PROBLEMS = {"unset": "The mail cannot be shown before the SMTP tab is saved: it names the sender."}


def show_codes(site: AppContext, session: Session, problem: Text, values: Mapping[str, Any]) -> str:
    """Show the kinds of the catalogue that the query selects, as a table, with the `values` of the form of `notifications`."""
    kinds, catalog_problem, not_shown = _catalog(site)
    query = asked()
    typed = {name: text for name in FILTERS if (text := stripped(query.get(name, "")))}
    shown = {"kinds": filtered(kinds, typed, site.words()), "count": len(kinds), "typed": typed, "types": TYPES}
    return _page(
        site, session, "codes", catalog_problem=catalog_problem, problem=problem or not_shown, **shown, **values
    )


def filtered(kinds: Kinds, typed: Mapping[str, str], words: Translator) -> Kinds:
    """Return the kinds of a type and a code whose code, name or description has a text, in English or in the reader's language."""
    part = typed.get("text", "").casefold()

    def has_part(kind: Mapping[str, Any]) -> bool:
        texts = [str(kind[name]) for name in ("code", "name", "description")]
        # In both languages: a Korean reader may look for a name that a program or a mail's headers have in English.
        return any(part in text.casefold() for text in (*texts, *map(words, texts)))

    exact = [(name, typed[name]) for name in ("type", "code") if name in typed]
    return [kind for kind in kinds if all(kind[name] == value for name, value in exact) and has_part(kind)]


def show_content(site: AppContext, session: Session) -> str:
    """Show the mail of the code in the query, or of the first code that is mailed."""
    kinds, catalog_problem, problem = _catalog(site)
    # The choice has the codes that are mailed: a code that is only kept has no mail to show.
    mailed = [kind for kind in kinds if kind["mail"]]
    query = asked()
    # Without a code in the address the page is not empty: it opens from the navigation.
    code = stripped(query.get("code", "")) or (str(mailed[0]["code"]) if mailed else "")
    form = query.get("form", "") if query.get("form") in FORMS else SINGLE
    mail: Mapping[str, Any] = {}
    if any(kind["code"] == code and not kind["mail"] for kind in kinds):
        problem = Message(KEPT_ONLY, code=code)
    # Not after a problem: a hook that did not answer is not asked a second time, for two more seconds.
    elif code and not problem:
        mail, problem = _content(site, code, form)
    shown = {"mail": mail, "forms": FORMS, "form": form, "schemes": SCHEMES}
    return _page(
        site, session, "content", kinds=mailed, code=code, catalog_problem=catalog_problem, problem=problem, **shown
    )


def show_html(site: AppContext, _session: Session) -> str:
    """Return the HTML part of a mail as a document of its own, which only the page above can frame.

    Its styles are inline, which no page of this device allows, and it can do nothing else.
    """
    query = asked()
    mail, problem = _content(site, stripped(query.get("code", "")), query.get("form", SINGLE))
    if problem:
        raise HTTPError(response.status_code, site.words()(problem))
    response.content_type = "text/html; charset=UTF-8"
    for name, value in FRAMED.items():
        response.set_header(name, value)
    scheme = query.get("scheme", "") if query.get("scheme") in SCHEMES else "light"
    html = str(mail.get("html", "")).replace("(prefers-color-scheme:dark)", "all" if scheme == "dark" else "not all")
    return html.replace("color-scheme:light dark", f"color-scheme:{scheme}")


def _catalog(site: AppContext) -> tuple[Kinds, str, Text]:
    """Return every kind, why the maker's file is not used, and why the catalogue cannot be shown."""
    kinds: Kinds = []
    end: Mapping[str, Any] = {}
    # From the hook and not from the files: it shows the catalogue by which events are mailed now.
    try:
        for line in client.kinds(site.device.folders.socket):
            # The last line has the problem of the maker's file, if there is one.
            kinds += [line["kind"]] if "kind" in line else []
            end = line.get("end", end)
    except HookError as error:
        log.warning("the event codes cannot be shown: %s", error)
        response.status = 503
        return [], "", Message(NOT_SHOWN, reason=error.sentence)
    return kinds, str(end.get("problem", "")), ""


def _content(site: AppContext, code: str, form: str) -> tuple[Mapping[str, Any], Text]:
    try:
        return client.content(site.device.folders.socket, code, EVENTS.get(form, 1)), ""
    except HookError as error:
        # A person can type a code into the address.
        response.status = 422 if error.word == "bad-request" else 503
        return {}, CONTENT_PROBLEMS.get(error.word) or Message(NO_CONTENT, reason=error.sentence)


def _page(site: AppContext, session: Session, name: str, **values: Any) -> str:
    return site.render(name, session=session, page="others", part=name, wide=True, **values)
