"""Others › Access: the names by which the pages may be reached, besides addresses; an administrator adds and removes them.

Only a request by an address or by a known name reaches this page, so that an unknown name never adds itself.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from bottle import HTTPError

from device_ui.errors import Message, Text
from device_ui.settings import names, rules
from device_ui.settings.names import Names
from device_ui.settings.rules import Invalid
from device_ui.settings.store import Stored
from device_ui.web.auth.guard import address, own_name
from device_ui.web.auth.sessions import Session
from device_ui.web.context import AppContext
from device_ui.web.forms import text
from device_ui.web.pages.stored_list import StoredList

log = logging.getLogger(__name__)

IN_USE = "You reached this page by this name. Use the device’s address to remove it."


def _changed(form: Mapping[str, str], listed: Names) -> tuple[Names | Invalid, Message]:
    """Return the list as a form changes it, and the sentence that reports the change. Raises HTTPError 400."""
    name = text(form, "name")
    match text(form, "do"):
        case "add":
            # The sentence shows the name as it was typed; the list has the form that a browser sends.
            return names.add(listed, name), Message("{name} is on the list.", name=rules.stripped(name))
        case "remove":
            # The answer would be 421: the page could not even show that the name was removed.
            removed = Invalid(IN_USE) if name == own_name() else names.remove(listed, name)
            return removed, Message("{name} was removed.", name=name)
    raise HTTPError(400, "The form does not say what to do.")


def _saved(_session: Session, _form: Mapping[str, str], _before: Names, listed: Names) -> None:
    # A warning, as for a password: a name of an attacker on this list opens the device to DNS rebinding.
    log.warning("the names of this device were changed from %s: %s", address(), ", ".join(listed) or "none")


def _page(
    site: AppContext,
    session: Session,
    stored: Stored[Names],
    *,
    problem: Text = "",
    notice: Text = "",
    broken: Invalid | None = None,
    typed: Mapping[str, str] | None = None,
) -> str:
    """Return the page. `typed` is a form that was not saved: the name of one that adds is shown again."""
    return site.render(
        "access",
        session=session,
        page="others",
        part="access",
        # A damaged list is an empty one: then the pages answer to the device's own names and addresses.
        listed=stored.settings or (),
        maximum=names.NAMES_MAXIMUM,
        damaged=stored.damaged,
        quarantine_failed=stored.quarantine_failed,
        revision=stored.revision,
        typed=text(typed, "name") if typed and typed.get("do") == "add" else "",
        broken=broken,
        notice=notice,
        problem=problem,
        # The head of the Others pages, which `event_codes` shares, has a line for it.
        catalog_problem="",
    )


# `show` and `update` are the routes.
PAGE = StoredList("/others/access", "names", lambda site: site.names, _changed, _page, _saved)
