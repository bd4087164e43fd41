"""Getting in and out: the set-up with the setup code, the login, the logout."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from bottle import HTTPResponse, request, response

from device_ui.errors import Message, NotReadable, NotStored, Text
from device_ui.settings.fields import FIELDS
from device_ui.web import locale
from device_ui.web.auth import administrator, return_path
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
# Of a form that nobody typed anything in, such as the removal of an address.
SESSION_OVER_AGAIN = "Your session had ended, so nothing was changed. Sign in, and do it again."
WAIT = "Too many attempts. Please wait {seconds} s."
# What a form that came too late keeps, by its path: the page that shows it again, and the fields. Never a secret.
_TAB = ("/smtp", ("revision", *(each.name for each in FIELDS if not each.secret)))
KEPT = {"/smtp": _TAB, "/smtp/test": _TAB, "/recipients": ("/recipients", ("do", "address", "lowest", "language"))}
# The fields of the login that carry it along.
PAGE, PREFIX = "kept", "kept-"


def show_setup(site: AppContext) -> str | HTTPResponse:
    """The page that chooses the administrator's password; only on a device that has none."""
    if site.guard.entrance() != "/setup":
        return see_other("/login")
    code = request.query.getunicode("code", "")
    return _setup_page(site, code if code.isprintable() else "", "")


def set_up(site: AppContext) -> str | HTTPResponse:
    """Choose the password, with the code from the console; then in."""
    if site.guard.entrance() != "/setup":
        return see_other("/login")
    form = posted()
    code, password = text(form, "code"), text(form, "password")
    problem = administrator.password_problem(password, site.device.own_words)
    if problem is None and password != text(form, "again"):
        problem = NOT_THE_SAME
    if problem:
        response.status = 422
        return _setup_page(site, code, problem)
    seconds = _count_attempt(site)
    if seconds:
        return _setup_page(site, code, Message(WAIT, seconds=seconds))
    try:
        chosen = site.guard.administrator.set_up(code, password)
    except (NotStored, NotReadable) as error:
        log.error("the administrator's password was not set: %s", error)
        response.status = 507 if isinstance(error, NotStored) else 503
        return _setup_page(site, code, error.sentence)
    if chosen is None:
        log.warning("a setup code from %s was wrong", address())
        response.status = 403
        return _setup_page(site, code, WRONG_CODE)
    log.warning("the administrator's password was chosen from %s", address())
    session = site.guard.sign_in(chosen)
    # At the console another one was chosen meanwhile.
    return _enter(site, session, {}) if session else see_other("/login")


def show_login(site: AppContext) -> str | HTTPResponse:
    """The page that asks for the password."""
    if site.guard.entrance() != "/login":
        return see_other("/setup")
    return _login_page(site, "", {return_path.FIELD: request.query.getunicode(return_path.FIELD, "")})


def come_late(site: AppContext) -> str | HTTPResponse:
    """A form that was sent when no session stood, such as after ten idle minutes: the login, which keeps what was typed."""
    if site.guard.entrance() != "/login":
        return see_other("/setup")
    page, names = KEPT[request.path]
    form = posted()
    response.status = 403
    is_typed = page != "/recipients" or text(form, "do") == "add"
    told = SESSION_OVER if is_typed else SESSION_OVER_AGAIN
    return _login_page(site, told, {PAGE: page, **{PREFIX + name: text(form, name) for name in names}})


def log_in(site: AppContext) -> str | HTTPResponse:
    """Check the password; then in."""
    if site.guard.entrance() != "/login":
        return see_other("/setup")
    form = posted()
    password = text(form, "password")
    seconds = _count_attempt(site)
    if seconds:
        return _login_page(site, Message(WAIT, seconds=seconds), form)
    record = site.guard.administrator.verify(password)
    if record:
        _settle(site)
    session = site.guard.sign_in(record) if record else None
    if session is None:
        log.warning("a login from %s failed", address())
        response.status = 403
        return _login_page(site, WRONG_PASSWORD, form)
    log.info("a login from %s succeeded", address())
    return _enter(site, session, form)


def log_out(site: AppContext) -> HTTPResponse:
    """End the session."""
    if site.guard.sign_out():  # a stranger sends this as often as he likes, and must not fill the log
        log.info("a sign-out from %s", address())
    return see_other("/login")


def _settle(site: AppContext) -> None:
    """The set-up may have told that it was not certain; whoever gets in all the same takes it for done."""
    try:
        site.guard.administrator.settle()
    except (NotStored, NotReadable) as error:  # a full disk keeps nobody out
        log.error("the administrator's password is not certain to be on flash: %s", error)


def _enter(site: AppContext, session: Session, form: Mapping[str, str]) -> HTTPResponse:
    site.guard.succeeded()
    page, names = KEPT.get(text(form, PAGE), ("", ()))
    session.kept = (page, {name: text(form, PREFIX + name) for name in names})
    return see_other(page or return_path.checked(text(form, return_path.FIELD)) or "/smtp")


def _login_page(site: AppContext, problem: Text, form: Mapping[str, str]) -> str:
    """The login; what `form` keeps of another one, or the page that was asked for, goes along in hidden fields.

    Another language leads back here by an address, which tells the page and no fields: with these it cannot be chosen.
    """
    kept = {name: form[name] for name in form if name.startswith(PAGE)}
    page = return_path.checked(text(form, return_path.FIELD))
    carried = {**kept, return_path.FIELD: page} if page else kept
    here = locale.quoted(return_path.leading(page) if page else "/login")
    return site.render("login", problem=problem, kept=carried, here=here, offers_languages=not kept)


def _count_attempt(site: AppContext) -> int:
    """Seconds to wait, or 0 and the attempt counts as failed until it has succeeded: several at once are several."""
    seconds = site.guard.attempt()
    if seconds:
        response.status = 429
        response.set_header("Retry-After", str(seconds))
    return seconds


def _setup_page(site: AppContext, code: str, problem: Text) -> str:
    return site.render("setup", code=code, problem=problem)
