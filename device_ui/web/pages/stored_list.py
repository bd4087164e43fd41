"""A page of one stored list, which small forms change: loading and saving, the same for `recipients` and `access`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from bottle import HTTPResponse, request, response

from device_ui.errors import Conflict, DeviceUIError, Message, NotReadable, NotStored, Text
from device_ui.settings.rules import Invalid
from device_ui.settings.store import RecordStore, Stored
from device_ui.web.auth.guard import see_other
from device_ui.web.auth.sessions import Session
from device_ui.web.context import AppContext
from device_ui.web.forms import posted, text

log = logging.getLogger(__name__)

NOT_SAVED = "Nothing was changed. {reason}"
IN_DOUBT = "It is not certain that this was saved. {reason} Please look at the list and try again."
# After a login that came in between.
KEPT = "Nothing was changed yet: you were not signed in. Please do it again."
CHANGED_MEANWHILE = (
    "The list has changed since you opened this page, so nothing was saved. This is the list as it is now."
)

Item = TypeVar("Item")


class Render(Protocol[Item]):
    """Return the page. `typed` is a form that was not saved, `broken` the rule that it broke."""

    def __call__(
        self,
        site: AppContext,
        session: Session,
        stored: Stored[tuple[Item, ...]],
        *,
        problem: Text = "",
        notice: Text = "",
        broken: Invalid | None = None,
        typed: Mapping[str, str] | None = None,
    ) -> str:
        """Return the HTML of the page."""


@dataclass(frozen=True)
class StoredList(Generic[Item]):
    """The page at `path`; `subject` is the list in log lines, `store` returns its file.

    `change` returns the list as a form changes it, or the broken rule, and the sentence that reports the change. `saved` is
    called after each save with the session, the form, the list before and the list now.
    """

    path: str
    subject: str
    store: Callable[[AppContext], RecordStore[tuple[Item, ...]]]
    change: Callable[[Mapping[str, str], tuple[Item, ...]], tuple[tuple[Item, ...] | Invalid, Message]]
    render: Render[Item]
    saved: Callable[[Session, Mapping[str, str], tuple[Item, ...], tuple[Item, ...]], None]

    def show(self, site: AppContext, session: Session) -> str:
        """Show the list, with a form for each item and one for a new item."""
        stored, problem = self._load(site)
        # HEAD must not use up what is shown once.
        if request.method != "GET":
            return self.render(site, session, stored, problem=problem)
        typed = session.take_saved_form(self.path)
        # The notice stays for the next page: "Saved." beside a form that is not saved would mislead.
        if typed:
            return self.render(site, session, stored, problem=problem or KEPT, typed=typed)
        return self.render(site, session, stored, problem=problem, notice=session.take_notice())

    def update(self, site: AppContext, session: Session) -> str | HTTPResponse:
        """Change the list; it is durable before the page says so."""
        form = posted()
        with session.lock:  # a double click sends the form twice at once
            stored, problem = self._load(site)
            # A list that cannot be read has no revision: saving could replace a list that is only unreadable for now.
            if problem:
                log.error("the %s were not saved: %s", self.subject, problem)
                response.status = 503
                return self.render(site, session, stored, problem=problem)
            # The first of the two forms was saved; the second gets the same answer, and not a conflict.
            if session.is_duplicate_submit(form, stored.revision):
                session.notice = self.change(form, ())[1]
                return see_other(self.path)
            return self._update(site, session, form, stored)

    def _update(
        self, site: AppContext, session: Session, form: Mapping[str, str], stored: Stored[tuple[Item, ...]]
    ) -> str | HTTPResponse:
        if text(form, "revision") != stored.revision:  # before the rules: the form was made for a different list
            return self._conflict(site, session, form)
        before = stored.settings or ()
        listed, done = self.change(form, before)
        if isinstance(listed, Invalid):
            response.status = 422
            return self.render(site, session, stored, broken=listed, typed=form)
        try:
            revision = self.store(site).save(listed, text(form, "revision"))
        # Saved by another thread, or at the console, since it was loaded.
        except Conflict:
            return self._conflict(site, session, form)
        except (NotStored, NotReadable) as error:
            log.error("the %s were not saved: %s", self.subject, error)
            # RFC 4918, 11.5: a full or read-only disk is 507; a client may repeat a 503 later.
            response.status = 507 if isinstance(error, NotStored) else 503
            sentence = IN_DOUBT if getattr(error, "in_doubt", False) else NOT_SAVED
            problem = Message(sentence, reason=error.sentence)
            # Loaded again: the list in doubt may be the new one.
            return self.render(site, session, self._load(site)[0], problem=problem, typed=form)
        # For the duplicate of a double click, and for the page that the redirect leads to.
        session.remember(form, revision)
        session.notice = done
        self.saved(session, form, before, listed)
        return see_other(self.path)

    def _conflict(self, site: AppContext, session: Session, form: Mapping[str, str]) -> str:
        response.status = 409
        return self.render(site, session, self._load(site)[0], problem=CHANGED_MEANWHILE, typed=form)

    def _load(self, site: AppContext) -> tuple[Stored[tuple[Item, ...]], Text]:
        """Return the list, and why it cannot be read, else ``""``."""
        try:
            return self.store(site).load(), ""
        except DeviceUIError as error:
            return Stored(None, ""), error.sentence
