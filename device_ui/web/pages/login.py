"""The set-up with the setup code, the login and the logout."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from bottle import HTTPResponse, request, response

from device_ui.errors import Message, NotReadable, NotStored, Text
from device_ui.settings.fields import FIELDS
from device_ui.settings.notifications import INFOS, SIGN, TIME
from device_ui.web import locale
from device_ui.web.auth import administrator, return_path
from device_ui.web.auth.administrator import Record
from device_ui.web.auth.guard import address, see_other
from device_ui.web.auth.sessions import Session
from device_ui.web.context import AppContext
from device_ui.web.forms import posted, text

log = logging.getLogger(__name__)

WRONG_CODE = "This is not the setup code of this device."
WRONG_PASSWORD = "The password is not correct."
NOT_THE_SAME = "The two passwords are not the same."
SESSION_OVER = (
    "Your session had ended, so nothing was saved. Sign in, and what you typed is there again, passwords excepted."
)
# For a form without typed fields, such as the removal of an address.
SESSION_OVER_AGAIN = "Your session had ended, so nothing was changed. Sign in, and do it again."
WAIT = "Too many attempts. Please wait {seconds} s."
# For a form that was sent after the session expired, by its path: the page that shows it again, and the fields that the
# login carries along. Never a secret.
_TAB = ("/smtp", ("revision", *(each.name for each in FIELDS if not each.secret)))
SAVED_FORMS = {
    "/smtp": _TAB,
    "/smtp/test": _TAB,
    "/smtp/trust": _TAB,
    "/smtp/sign-in": ("/smtp/sign-in", ("do",)),
    "/recipients": ("/recipients", ("do", "address", "lowest", "language")),
    "/history": ("/history", ("send-again", "try-now")),
    "/others/access": ("/others/access", ("do", "name")),
    "/others/event-codes": (
        "/others/event-codes",
        (INFOS, TIME, SIGN, *(f"{code:03}" for code in range(1000))),
    ),
}
# The login's hidden fields for these: the page, and each field with a prefix, so that none is taken for a field of the login.
PAGE, PREFIX = "kept", "kept-"


def show_setup(site: AppContext) -> str | HTTPResponse:
    """Show the form that chooses the administrator's password; only on a device without one."""
    if site.guard.entrance() != "/setup":
        return see_other("/login")
    # The link that `device-ui run` prints has the code, and a label may have both as a QR code.
    code = request.query.getunicode("code", "")
    return _setup_page(site, code if code.isprintable() else "", "")


def set_up(site: AppContext) -> str | HTTPResponse:
    """Store the password, if the setup code is right, and begin a session."""
    record = site.guard.record()
    if record.is_set_up:
        return see_other("/login")
    form = posted()
    code, password = text(form, "code"), text(form, "password")
    # Before the attempt is counted: a mistake in the password says nothing about the code.
    problem = administrator.password_problem(password, site.device.guessable_names)
    if problem is None and password != text(form, "again"):
        problem = NOT_THE_SAME
    if problem:
        response.status = 422
        return _setup_page(site, code, problem)
    seconds = _count_attempt(site, record)
    if seconds:
        return _setup_page(site, code, Message(WAIT, seconds=seconds))
    try:
        chosen = site.guard.administrator.set_up(code, password)
    except (NotStored, NotReadable) as error:
        log.error("the administrator's password was not set: %s", error)
        response.status = 507 if isinstance(error, NotStored) else 503
        return _setup_page(site, code, error.sentence)
    if chosen is None:
        # Not the code itself: a typing error of one character would put nearly the whole secret into the log.
        log.warning("a setup code from %s was wrong", address())
        response.status = 403
        return _setup_page(site, code, WRONG_CODE)
    log.warning("the administrator's password was chosen from %s", address())
    session = site.guard.sign_in(chosen)
    # None if the console set another password meanwhile.
    return _enter(site, session, {}) if session else see_other("/login")


def show_login(site: AppContext) -> str | HTTPResponse:
    """Show the form that asks for the password."""
    if site.guard.entrance() != "/login":
        return see_other("/setup")
    return _login_page(site, "", {return_path.FIELD: request.query.getunicode(return_path.FIELD, "")})


def session_expired(site: AppContext) -> str | HTTPResponse:
    """Answer a form that was sent without a session, such as after ten idle minutes: the login, which keeps its fields."""
    if site.guard.entrance() != "/login":
        return see_other("/setup")
    page, names = SAVED_FORMS[request.path]
    form = posted()
    # 403 and not a redirect: the form's fields would be lost, and 401 would need WWW-Authenticate (RFC 9110, 11.6.1).
    response.status = 403
    is_typed = page == "/smtp" or text(form, "do") == "add"
    problem = SESSION_OVER if is_typed else SESSION_OVER_AGAIN
    kept = {PAGE: page, **{PREFIX + name: text(form, name) for name in names}}
    # The filter of the History, which its form carries: the event that was to be sent again is found again.
    query = {return_path.FIELD: f"/history?{text(form, 'query')}"} if page == "/history" else {}
    return _login_page(site, problem, kept | query)


def log_in(site: AppContext) -> str | HTTPResponse:
    """Check the password and begin a session."""
    record = site.guard.record()
    if not record.is_set_up:
        return see_other("/setup")
    form = posted()
    # Before the password is checked: guesses that come too early must not cost a fifth of a second each.
    seconds = _count_attempt(site, record)
    if seconds:
        return _login_page(site, Message(WAIT, seconds=seconds), form)
    # Read again: the console may set another password at any time.
    verified = site.guard.administrator.verify(text(form, "password"))
    if verified:
        _settle(site)
    # None, too, if the password was changed during the check: the typed one is then the wrong one.
    session = site.guard.sign_in(verified) if verified else None
    if session is None:
        log.warning("a login from %s failed", address())
        response.status = 403
        return _login_page(site, WRONG_PASSWORD, form)
    log.info("a login from %s succeeded", address())
    return _enter(site, session, form)


def log_out(site: AppContext) -> HTTPResponse:
    """End the session."""
    if site.guard.sign_out():  # only then: a client without a session must not fill the log
        log.info("a sign-out from %s", address())
    return see_other("/login")


def _settle(site: AppContext) -> None:
    """Make the record durable: the set-up may have failed to, and this login shows that the password counts."""
    try:
        site.guard.administrator.settle()
    except (NotStored, NotReadable) as error:  # a full disk does not prevent a login
        log.error("the administrator's password is not certain to be on flash: %s", error)


def _enter(site: AppContext, session: Session, form: Mapping[str, str]) -> HTTPResponse:
    site.guard.succeeded()
    # The hidden fields are input again: only a page of the table, and only its fields, get into the session.
    page, names = SAVED_FORMS.get(text(form, PAGE), ("", ()))
    session.saved_form = (page, {name: text(form, PREFIX + name) for name in names})
    return see_other(return_path.checked(text(form, return_path.FIELD)) or page or "/smtp")


def _login_page(site: AppContext, problem: Text, form: Mapping[str, str]) -> str:
    """Return the login page. Hidden fields carry the fields of an expired form, or the page that was requested.

    The choice of a language returns to an address, which holds the page and no fields: with these it is not offered.
    """
    saved = {name: form[name] for name in form if name.startswith(PAGE)}
    page = return_path.checked(text(form, return_path.FIELD))
    hidden = {**saved, return_path.FIELD: page} if page else saved
    here = locale.quoted(return_path.leading(page) if page else "/login")
    return site.render("login", problem=problem, hidden=hidden, here=here, offers_languages=not saved)


def _count_attempt(site: AppContext, record: Record) -> int:
    """Return the seconds to wait; at 0 the attempt counts as failed until it succeeds, so that parallel ones count."""
    seconds = site.guard.attempt(record)
    if seconds:
        response.status = 429
        response.set_header("Retry-After", str(seconds))
    return seconds


def _setup_page(site: AppContext, code: str, problem: Text) -> str:
    return site.render("setup", code=code, problem=problem)
