"""Others › Access: the names by which the pages may be reached, besides addresses; an administrator adds and removes them.

Only a request by an address or by a known name reaches this page, so that an unknown name never adds itself.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from bottle import HTTPError, HTTPResponse, response

from device_ui.errors import Conflict, DeviceUIError, Message, NotReadable, NotStored, Text
from device_ui.settings import names, rules
from device_ui.settings.names import Names
from device_ui.settings.rules import Invalid
from device_ui.settings.store import Stored
from device_ui.web.auth.guard import address, own_name, see_other
from device_ui.web.auth.sessions import Session
from device_ui.web.context import AppContext
from device_ui.web.forms import posted, text

log = logging.getLogger(__name__)

NOT_SAVED = "Nothing was changed. {reason}"
IN_DOUBT = "It is not certain that this was saved. {reason} Please look at the list and try again."
KEPT = "Nothing was changed yet: you were not signed in. Please do it again."
CHANGED_MEANWHILE = (
    "The list has changed since you opened this page, so nothing was saved. This is the list as it is now."
)
IN_USE = "You reached this page by this name. Use the device’s address to remove it."


def show(site: AppContext, session: Session) -> str:
    """Show the list, with a form for each name and one for a new name."""
    stored, problem = _load(site)
    typed = session.take_saved_form("/others/access")
    notice = "" if typed else session.take_notice()
    return _page(site, session, stored, problem or (KEPT if typed else ""), notice=notice, typed=typed)


def update(site: AppContext, session: Session) -> str | HTTPResponse:
    """Change the list; it is durable before the page says so."""
    form = posted()
    with session.lock:  # a double click sends the form twice at once
        stored, problem = _load(site)
        if problem:
            log.error("the names were not saved: %s", problem)
            response.status = 503
            return _page(site, session, stored, problem)
        if session.is_duplicate_submit(form, stored.revision):
            session.notice = _changed(form, ())[1]
            return see_other("/others/access")
        return _update(site, session, form, stored)


def _update(site: AppContext, session: Session, form: dict[str, str], stored: Stored[Names]) -> str | HTTPResponse:
    if text(form, "revision") != stored.revision:  # before the rules: the form was made for a different list
        return _conflict(site, session, form)
    listed, done = _changed(form, stored.settings or ())
    if isinstance(listed, Invalid):
        response.status = 422
        return _page(site, session, stored, broken=listed, typed=form)
    try:
        revision = site.names.save(listed, text(form, "revision"))
    except Conflict:
        return _conflict(site, session, form)
    except (NotStored, NotReadable) as error:
        log.error("the names were not saved: %s", error)
        response.status = 507 if isinstance(error, NotStored) else 503
        sentence = IN_DOUBT if getattr(error, "in_doubt", False) else NOT_SAVED
        return _page(site, session, _load(site)[0], Message(sentence, reason=error.sentence), typed=form)
    log.warning("the names of this device were changed from %s: %s", address(), ", ".join(listed) or "none")
    session.remember(form, revision)
    session.notice = done
    return see_other("/others/access")


def _conflict(site: AppContext, session: Session, form: dict[str, str]) -> str:
    response.status = 409
    return _page(site, session, _load(site)[0], CHANGED_MEANWHILE, typed=form)


def _changed(form: dict[str, str], listed: Names) -> tuple[Names | Invalid, Message]:
    """Return the list as a form changes it, and the sentence that reports the change."""
    name = text(form, "name")
    match text(form, "do"):
        case "add":
            return names.add(listed, name), Message("{name} is on the list.", name=rules.stripped(name))
        case "remove":
            removed = Invalid(IN_USE) if name == own_name() else names.remove(listed, name)
            return removed, Message("{name} was removed.", name=name)
    raise HTTPError(400, "The form says not what to do.")


def _load(site: AppContext) -> tuple[Stored[Names], Text]:
    try:
        return site.names.load(), ""
    except DeviceUIError as error:
        return Stored(None, ""), error.sentence


def _page(
    site: AppContext,
    session: Session,
    stored: Stored[Names],
    problem: Text = "",
    *,
    notice: Text = "",
    broken: Invalid | None = None,
    typed: Mapping[str, str] | None = None,
) -> str:
    """Return the page. `typed` is a form that was refused: the name of one that adds is shown again."""
    is_added = bool(typed) and typed is not None and typed.get("do") == "add"
    return site.render(
        "access",
        session=session,
        page="others",
        part="access",
        listed=stored.settings or (),
        maximum=names.NAMES_MAXIMUM,
        damaged=stored.damaged,
        quarantine_failed=stored.quarantine_failed,
        revision=stored.revision,
        typed=text(typed, "name") if typed and is_added else "",
        broken=broken,
        notice=notice,
        problem=problem,
        catalog_problem="",
    )
