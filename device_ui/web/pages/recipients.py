"""The Recipients page: addresses and the events that each gets. Add, change and remove are one small form each."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from bottle import HTTPError, HTTPResponse, request, response

from device_ui import csv_export
from device_ui.errors import Conflict, Damaged, DeviceUIError, Message, NotReadable, NotStored, Text
from device_ui.i18n.translator import Translator
from device_ui.settings import recipients, rules
from device_ui.settings.recipients import Recipient, Recipients
from device_ui.settings.rules import Invalid
from device_ui.settings.store import Stored
from device_ui.web.auth.guard import address, see_other
from device_ui.web.auth.sessions import Session
from device_ui.web.context import AppContext
from device_ui.web.forms import posted, text
from device_ui.web.pages import delivery_state, test_mail

log = logging.getLogger(__name__)

# The orders of the list by the word in the page's address, and their names.
SORTS = {"": "order of adding", "address": "address", "gets": "what it gets", "result": "last mail"}
# Failures first: they are what one looks for.
RANKS = {"refused": 0, "dropped": 1, "": 2, "delivered": 3}
NOT_LISTED = "This address is not on the list any more."
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
            return see_other(_here())
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
    return see_other(_here())


def send_test(site: AppContext, session: Session) -> str:
    """Send a test mail to one address of the list; nothing is saved."""
    stored, problem = _load(site)
    who = text(posted(), "address")
    # Of the list alone: the page must not send mail to anybody else.
    if not problem and who not in [each.address for each in stored.settings or ()]:
        problem = NOT_LISTED
    if problem:
        response.status = 422
        return _page(site, session, stored, problem=problem)
    result, problem = test_mail.to_address(site, who)
    return _page(site, session, stored, problem=problem, test=result)


def _sort() -> str:
    """Return the order that the page's address asks for, one of `SORTS`."""
    asked = str(request.query.get("sort", ""))
    return asked if asked in SORTS else ""


def _here() -> str:
    """Return the page's address in its order, which a change of the list keeps."""
    return f"/recipients?sort={_sort()}" if _sort() else "/recipients"


def _sorted(listed: Recipients, results: Mapping[str, Mapping[str, Any]]) -> list[Recipient]:
    """Return the list in the order that the page's address asks for."""

    def rank(each: Recipient) -> tuple[int, str]:
        return RANKS.get(str(results.get(each.address, {}).get("verdict", "")), 2), each.address.lower()

    orders: Mapping[str, Callable[[Recipient], Any]] = {
        "": listed.index,
        "address": lambda each: each.address.lower(),
        "gets": lambda each: (each.lowest != "info", each.address.lower()),
        "result": rank,
    }
    return sorted(listed, key=orders[_sort()])


def _last(words: Translator, results: Mapping[str, Mapping[str, Any]], recipient: str) -> tuple[bool, str]:
    """Return whether the last mail to this address was delivered, and what became of it in words; ``""`` for none."""
    found = results.get(recipient)
    if not found:
        return True, ""
    became = csv_export.result({**found, "recipient": ""}, words)
    line = words("{time}, mail {number}: {became}", time=words(found["time"]), number=found["mail"], became=became)
    return found["verdict"] == delivery_state.DELIVERED, line


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
    test: Mapping[str, Any] | None = None,
) -> str:
    """Return the page. `test` is the result of a test mail. `typed` is a form that was refused: the values of a new address are shown again."""
    results = delivery_state.results(site)
    kept = typed if typed and typed.get("do") == "add" else {}
    return site.render(
        "recipients",
        session=session,
        page="recipients",
        listed=_sorted(stored.settings or (), results),
        last=partial(_last, site.words(), results),
        action=_here(),
        sort=_sort(),
        sorts=SORTS,
        test=test,
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
