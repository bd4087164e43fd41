"""The Recipients page: addresses and the events that each gets. Add, change and remove are one small form each."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from bottle import HTTPError, request, response

from device_ui import csv_export
from device_ui.errors import Damaged, DeviceUIError, Message, NotReadable, Text
from device_ui.i18n.translator import Translator
from device_ui.settings import recipients, rules
from device_ui.settings.recipients import Recipient, Recipients
from device_ui.settings.rules import Invalid
from device_ui.settings.store import Stored
from device_ui.web.auth import return_path
from device_ui.web.auth.guard import address
from device_ui.web.auth.sessions import Session
from device_ui.web.context import AppContext
from device_ui.web.forms import posted, text
from device_ui.web.pages import delivery_state, test_mail
from device_ui.web.pages.stored_list import StoredList

log = logging.getLogger(__name__)

# The orders of the list by the word in the page's address, and their names.
SORTS = {"": "order of adding", "address": "address", "gets": "what it gets", "result": "last mail"}
# Failures first: they are what one looks for.
RANKS = {"refused": 0, "dropped": 1, "": 2, "delivered": 3}
NOT_LISTED = "This address is not on the list any more."
# A place in the list, from 0: `RECIPIENTS_MAXIMUM` has two digits.
PLACE_PATTERN = re.compile(r"[0-9]{1,2}")


def _changed(form: Mapping[str, str], listed: Recipients) -> tuple[Recipients | Invalid, Message]:
    """Return the list as a form changes it, and the sentence that reports the change. Raises HTTPError 400."""
    who, lowest, spoken = text(form, "address"), text(form, "lowest"), text(form, "language")
    # One form for each action, and a word that says which: a page without JavaScript has no other way.
    match text(form, "do"):
        case "add":
            # The sentence shows the address as it is stored: `add` strips it, too.
            return recipients.add(listed, who, lowest, spoken), Message(
                "{who} is on the list.", who=rules.stripped(who)
            )
        case "change":
            # An unknown word breaks a rule in `change`; the sentence is then not used.
            gets = Message(recipients.LOWEST.get(lowest, lowest))
            return recipients.change(listed, who, lowest, spoken), Message("{who} gets {lowest}.", who=who, lowest=gets)
        case "remove":
            return recipients.remove(listed, who), Message("{who} was removed.", who=who)
        case "restore":
            place = text(form, "place")
            # Without a place at the end: the address counts, and its place is a convenience.
            found = int(place) if PLACE_PATTERN.fullmatch(place) else len(listed)
            return recipients.restore(listed, who, lowest, found, spoken), Message(
                "{who} is on the list again.", who=who
            )
    raise HTTPError(400, "The form does not say what to do.")


def _saved(session: Session, form: Mapping[str, str], before: Recipients, _listed: Recipients) -> None:
    # Without the addresses: a log goes to more readers than this page, and they are personal data.
    log.info("the recipients were changed from %s", address())
    session.undo = _undoing(form, before)


def _undoing(form: Mapping[str, str], before: Recipients) -> Mapping[str, str]:
    """Return the fields of the form that undoes a removal; none for other changes."""
    # An undo instead of a question before each removal: the question would need a script or a page of its own.
    for place, each in enumerate(before):
        if text(form, "do") == "remove" and each.address == text(form, "address"):
            spoken = {"language": each.language} if each.language else {}
            return {"address": each.address, "lowest": each.lowest, "place": str(place), **spoken}
    return {}


def send_test(site: AppContext, session: Session) -> str:
    """Send a test mail to one address of the list; nothing is saved."""
    stored, problem = Stored[Recipients](None, ""), Message(NOT_LISTED)
    try:
        stored = site.recipients.load()
    except DeviceUIError as error:
        problem = Message(error.sentence)
    who = text(posted(), "address")
    # Of the list alone: this form must not send mail to any other address.
    if who not in [each.address for each in stored.settings or ()]:
        response.status = 422
        return _page(site, session, stored, problem=problem)
    result, failure = test_mail.to_address(site, who)
    return _page(site, session, stored, problem=failure, test=result)


def _sort() -> str:
    """Return the order that the page's address asks for, one of `SORTS`."""
    asked = str(request.query.get("sort", ""))
    return asked if asked in SORTS else ""


def _sorted(listed: Recipients, results: Mapping[str, Mapping[str, Any]]) -> list[Recipient]:
    """Return the list in the order that the page's address asks for."""

    def rank(each: Recipient) -> tuple[int, str]:
        # An address without a mail is between failures and deliveries: it is not known to work.
        return RANKS.get(str(results.get(each.address, {}).get("verdict", "")), 2), each.address.lower()

    orders: Mapping[str, Callable[[Recipient], Any]] = {
        "": listed.index,
        "address": lambda each: each.address.lower(),
        "gets": lambda each: (each.lowest != "info", each.address.lower()),
        "result": rank,
    }
    return sorted(listed, key=orders[_sort()])


def _last(words: Translator, results: Mapping[str, Mapping[str, Any]], recipient: str) -> tuple[bool, str]:
    """Return whether the last mail to this address was delivered, and its result in words; ``""`` without a mail."""
    found = results.get(recipient)
    if not found:
        return True, ""
    became = csv_export.result({**found, "recipient": ""}, words)
    line = words("{time}, mail {number}: {became}", time=words(found["time"]), number=found["mail"], became=became)
    return found["verdict"] == delivery_state.DELIVERED, line


def _default(site: AppContext) -> str:
    """Return the recipient while the list is empty; ``""`` while no settings are stored."""
    try:
        settings, _ = site.store.read()
    # The SMTP tab and the banner report it; this page works without it.
    except (Damaged, NotReadable):
        return ""
    return settings.default_recipient if settings else ""


def _page(
    site: AppContext,
    session: Session,
    stored: Stored[Recipients],
    *,
    problem: Text = "",
    notice: Text = "",
    broken: Invalid | None = None,
    typed: Mapping[str, str] | None = None,
    test: Mapping[str, Any] | None = None,
) -> str:
    """Return the page. `test` is the result of a test mail. `typed` is a form that was not saved.

    The values of a new address are shown again.
    """
    state, found = site.delivery()
    results = delivery_state.results(found)
    return site.render(
        "recipients",
        session,
        mail_state=state,
        page="recipients",
        listed=_sorted(stored.settings or (), results),
        last=partial(_last, site.words(), results),
        action=return_path.here("/recipients"),
        sort=_sort(),
        sorts=SORTS,
        test=test,
        maximum=recipients.RECIPIENTS_MAXIMUM,
        lowest=recipients.LOWEST,
        # So that an operator knows who gets the mail before anyone is listed.
        default=_default(site),
        damaged=stored.damaged,
        quarantine_failed=stored.quarantine_failed,
        revision=stored.revision,
        typed=typed if typed and typed.get("do") == "add" else {},
        broken=broken,
        notice=notice,
        # Beside its notice alone, and once.
        undo=session.take_undo() if request.method == "GET" and not typed else {},
        problem=problem,
    )


# `show` and `update` are the routes.
PAGE = StoredList("/recipients", "recipients", lambda site: site.recipients, _changed, _page, _saved)
