"""The Recipients page: addresses and the events that each gets. Add, change and remove are one small form each."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping

from bottle import HTTPError, HTTPResponse, request, response

from device_ui.errors import Conflict, Damaged, DeviceUIError, Message, NotReadable, NotStored, Text
from device_ui.settings import recipients, rules
from device_ui.settings.recipients import Recipients
from device_ui.settings.rules import Invalid
from device_ui.settings.store import Stored
from device_ui.web.auth.guard import address, see_other
from device_ui.web.auth.sessions import Session
from device_ui.web.context import AppContext
from device_ui.web.forms import posted, text

log = logging.getLogger(__name__)

PLACE_PATTERN = re.compile(r"[0-9]{1,2}")
NOT_SAVED = "Nothing was changed. {reason}"
IN_DOUBT = "It is not certain that this was saved. {reason} Please look at the list and try again."
KEPT = "Nothing was changed yet: you were not signed in. Please do it again."
CHANGED_MEANWHILE = (
    "The list has changed since you opened this page, so nothing was saved. This is the list as it is now."
)


def show(site: AppContext, session: Session) -> str:
    """Show the list, with a form for each address and one for a new address."""
    stored, problem = _load(site)
    if request.method != "GET":
        return _page(site, session, stored, problem=problem)
    kept = session.take_saved_form("/recipients")
    if kept:
        return _page(site, session, stored, problem=problem or KEPT, typed=kept)
    undo = session.take_undo()
    return _page(site, session, stored, notice=session.take_notice(), undo=undo, problem=problem)


def update(site: AppContext, session: Session) -> str | HTTPResponse:
    """Change the list; it is durable before the page says so."""
    form = posted()
    with session.lock:  # a double click sends the form twice at once
        stored, problem = _load(site)
        if problem:
            log.error("the recipients were not saved: %s", problem)
            response.status = 503
            return _page(site, session, stored, problem=problem)
        if session.is_duplicate_submit(form, stored.revision):
            session.notice = _changed(form, ())[1]
            return see_other("/recipients")
        return _update(site, session, form, stored)


def _update(site: AppContext, session: Session, form: dict[str, str], stored: Stored[Recipients]) -> str | HTTPResponse:
    if text(form, "revision") != stored.revision:  # before the rules: the form was made for a different list
        return _conflict(site, session, form)
    listed, done = _changed(form, stored.settings or ())
    if isinstance(listed, Invalid):
        response.status = 422
        return _page(site, session, stored, broken=listed, typed=form)
    try:
        revision = site.recipients.save(listed, text(form, "revision"))
    except Conflict:
        return _conflict(site, session, form)
    except (NotStored, NotReadable) as error:
        log.error("the recipients were not saved: %s", error)
        response.status = 507 if isinstance(error, NotStored) else 503
        sentence = IN_DOUBT if getattr(error, "in_doubt", False) else NOT_SAVED
        return _page(site, session, _load(site)[0], problem=Message(sentence, reason=error.sentence), typed=form)
    log.info("the recipients were changed from %s", address())
    session.remember(form, revision)
    session.notice, session.undo = done, _undoing(form, stored.settings or ())
    return see_other("/recipients")


def _conflict(site: AppContext, session: Session, form: dict[str, str]) -> str:
    response.status = 409
    return _page(site, session, _load(site)[0], problem=CHANGED_MEANWHILE, typed=form)


def _changed(form: dict[str, str], listed: Recipients) -> tuple[Recipients | Invalid, Message]:
    """Return the list as a form changes it, and the sentence that reports the change."""
    who, lowest, spoken = text(form, "address"), text(form, "lowest"), text(form, "language")
    match text(form, "do"):
        case "add":
            return recipients.add(listed, who, lowest, spoken), Message(
                "{who} is on the list.", who=rules.stripped(who)
            )
        case "change":
            gets = Message(recipients.LOWEST.get(lowest, lowest))
            return recipients.change(listed, who, lowest, spoken), Message("{who} gets {lowest}.", who=who, lowest=gets)
        case "remove":
            return recipients.remove(listed, who), Message("{who} was removed.", who=who)
        case "restore":
            place = text(form, "place")
            found = int(place) if PLACE_PATTERN.fullmatch(place) else len(listed)
            return recipients.restore(listed, who, lowest, found, spoken), Message(
                "{who} is on the list again.", who=who
            )
    raise HTTPError(400, "The form says not what to do.")


def _undoing(form: Mapping[str, str], before: Recipients) -> Mapping[str, str]:
    """Return the fields of the form that undoes a removal; none for other changes."""
    for place, each in enumerate(before):
        if text(form, "do") == "remove" and each.address == text(form, "address"):
            kept = {"language": each.language} if each.language else {}
            return {"address": each.address, "lowest": each.lowest, "place": str(place), **kept}
    return {}


def _load(site: AppContext) -> tuple[Stored[Recipients], Text]:
    try:
        return site.recipients.load(), ""
    except DeviceUIError as error:
        return Stored(None, ""), error.sentence


def _default(site: AppContext) -> str:
    """Return the recipient while the list is empty; "" while no settings are stored."""
    try:
        settings, _ = site.store.read()
    except (Damaged, NotReadable):
        return ""
    return settings.default_recipient if settings else ""


def _page(
    site: AppContext,
    session: Session,
    stored: Stored[Recipients],
    *,
    notice: Text = "",
    undo: Mapping[str, str] | None = None,
    problem: Text = "",
    broken: Invalid | None = None,
    typed: Mapping[str, str] | None = None,
) -> str:
    """Return the page. `typed` is a form that was refused: the values of a new address are shown again."""
    kept = typed if typed and typed.get("do") == "add" else {}
    return site.render(
        "recipients",
        session=session,
        page="recipients",
        listed=stored.settings or (),
        maximum=recipients.RECIPIENTS_MAXIMUM,
        lowest=recipients.LOWEST,
        default=_default(site),
        damaged=stored.damaged,
        quarantine_failed=stored.quarantine_failed,
        revision=stored.revision,
        typed=kept,
        broken=broken,
        notice=notice,
        undo=undo or {},
        problem=problem,
    )
