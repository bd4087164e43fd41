"""The form of Others › Event Codes: what is mailed, and when. The table of codes has a choice for each, of this same form.

A code that a form does not have keeps its choice: a page may show a part of the table.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping
from typing import Any

from bottle import HTTPResponse, response

from device_ui.errors import Conflict, DeviceUIError, HookError, Message, NotReadable, NotStored, Text
from device_ui.mail import client
from device_ui.settings import notifications
from device_ui.settings.notifications import CODE_PATTERN, INFOS, SIGN, TIME, Notifications
from device_ui.settings.rules import Invalid
from device_ui.settings.store import Stored
from device_ui.web.auth.guard import address, see_other
from device_ui.web.auth.sessions import Session
from device_ui.web.context import AppContext
from device_ui.web.forms import posted, text
from device_ui.web.pages import event_codes

log = logging.getLogger(__name__)

PATH = "/others/event-codes"
# The choices for infos, in words.
INFO_CHOICES = {"on": "mailed as their codes say", "off": "not mailed, whatever their codes say"}
SAVED = "Saved."
NOT_SAVED = "Nothing was changed. {reason}"
IN_DOUBT = "It is not certain that this was saved. {reason} Please look at the choices and try again."
KEPT = "Nothing was changed yet: you were not signed in. Please do it again."
CHANGED_MEANWHILE = "The choices have changed since you opened this page, so nothing was saved. These are your own values; save them to replace the others."


def show(site: AppContext, session: Session) -> str:
    """Show the form with what is stored, and the table."""
    stored, problem = _load(site)
    kept = session.take_saved_form(PATH)
    if kept:
        return _page(site, session, stored, problem or KEPT, typed=kept)
    return _page(site, session, stored, problem, notice=session.take_notice())


def update(site: AppContext, session: Session) -> str | HTTPResponse:
    """Save the choices; they are durable before the page says so."""
    form = posted()
    with session.lock:  # a double click sends the form twice at once
        stored, problem = _load(site)
        if problem:
            log.error("what is mailed was not saved: %s", problem)
            response.status = 503
            return _page(site, session, stored, problem, typed=form)
        if session.is_duplicate_submit(form, stored.revision):
            session.notice = SAVED
            return see_other("/others/event-codes")
        return _update(site, session, form, stored)


def _update(
    site: AppContext, session: Session, form: Mapping[str, str], stored: Stored[Notifications]
) -> str | HTTPResponse:
    chosen = _chosen(form, stored.settings or Notifications())
    if isinstance(chosen, dict):
        response.status = 422
        return _page(site, session, stored, typed=form, broken=chosen)
    try:
        if text(form, "revision") != stored.revision:
            raise Conflict(stored.revision)
        revision = site.notifications.save(chosen, stored.revision)
    except Conflict:
        response.status = 409
        return _page(site, session, _load(site)[0], CHANGED_MEANWHILE, typed=form)
    except (NotStored, NotReadable) as error:
        log.error("what is mailed was not saved: %s", error)
        response.status = 507 if isinstance(error, NotStored) else 503
        sentence = IN_DOUBT if getattr(error, "in_doubt", False) else NOT_SAVED
        return _page(site, session, _load(site)[0], Message(sentence, reason=error.sentence), typed=form)
    with contextlib.suppress(HookError):  # it reads the file in each of its rounds
        client.settings_changed(site.device.folders.socket)
    log.info("what is mailed was changed from %s", address())
    session.remember(form, revision)
    session.notice = SAVED
    return see_other("/others/event-codes")


def _chosen(form: Mapping[str, str], stored: Notifications) -> Notifications | dict[str, Invalid]:
    """Return the choices of a form over the stored ones, or the broken fields."""
    codes = {name: value for name, value in form.items() if CODE_PATTERN.fullmatch(name)}
    infos: object = {"on": True, "off": False}.get(text(form, INFOS))
    found = notifications.parse({INFOS: infos, TIME: text(form, TIME), SIGN: text(form, SIGN), **codes})
    if isinstance(found, dict):
        return found
    return notifications.with_codes(found, {**dict(stored.codes), **codes})


def _load(site: AppContext) -> tuple[Stored[Notifications], Text]:
    try:
        return site.notifications.load(), ""
    except DeviceUIError as error:
        return Stored(None, ""), error.sentence


def _page(
    site: AppContext,
    session: Session,
    stored: Stored[Notifications],
    problem: Text = "",
    *,
    notice: Text = "",
    typed: Mapping[str, str] | None = None,
    broken: Mapping[str, Invalid] | None = None,
) -> str:
    """Return the page; `typed` is a form that was not saved, whose values are shown again."""
    chosen = stored.settings or Notifications()
    shown = {
        INFOS: "on" if chosen.infos else "off",
        TIME: chosen.summary_time,
        SIGN: chosen.sign_of_life,
        **dict(chosen.codes),
        **(typed or {}),
    }
    values: dict[str, Any] = {
        "form": shown,
        "unsaved": bool(typed),
        "broken": broken or {},
        "notice": notice,
        "revision": stored.revision,
        "damaged": stored.damaged,
        "quarantine_failed": stored.quarantine_failed,
        "infos": INFO_CHOICES,
        "signs": notifications.SIGNS,
        "choices": notifications.CHOICES,
    }
    return event_codes.show_codes(site, session, problem, values)
