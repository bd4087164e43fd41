"""The routes of the web process: pages, static files, health, and plain error pages.

`web.http.response` adds the security headers to every response, bottle's own error pages included.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from bottle import Bottle, HTTPError, request, response

from device_ui.config import Device
from device_ui.settings.store import NameStore, NotificationStore, RecipientStore, Store
from device_ui.web.auth.administrator import Administrator
from device_ui.web.auth.guard import HEALTH, Guard, own_names, see_other
from device_ui.web.auth.known_names import KnownNames
from device_ui.web.auth.metrics_token import MetricsToken
from device_ui.web.auth.sessions import Sessions
from device_ui.web.auth.throttle import Throttle
from device_ui.web.context import AppContext
from device_ui.web.pages import (
    access,
    event_codes,
    history,
    language,
    login,
    metrics,
    notifications,
    recipients,
    sign_in,
    smtp,
    test_mail,
)

if TYPE_CHECKING:
    from device_ui.web.branding import Brand

log = logging.getLogger(__name__)

# Instead of bottle's own sentences, which quote the path: a page must not repeat the text of a stranger's link.
SENTENCES = {404: "This device has no such page.", 500: "The device had a fault. Its log has the details."}


def site(device: Device, monotonic: Callable[[], float] = time.monotonic) -> AppContext:
    """Return what the pages of one device share; the `monotonic` clock ends sessions and delays guesses."""
    folders = device.folders
    names = NameStore(folders.names)
    stores = (Store(folders.settings), RecipientStore(folders.recipients), names)
    guard = Guard(
        Administrator(folders.administrator),
        Sessions(monotonic),
        Throttle(monotonic, folders.administrator.with_name("throttle.toml")),
        KnownNames(own_names(device["web.names"]), names),
    )
    return AppContext(device, *stores, NotificationStore(folders.notifications), guard, brand(device))


def brand(device: Device) -> Brand | None:
    """Return the maker's brand, None without one. What is wrong with it is logged."""
    if not device.is_branded:
        return None
    # Imported here: most devices have no brand of their own.
    from device_ui.web.branding import load

    found = load(device)
    for problem in found.problems:
        log.error("%s; not used", problem)
    return found


def routes(site: AppContext) -> Bottle:
    """Return the application: every route of the pages."""
    guard, app = site.guard, Bottle()
    expired = partial(login.session_expired, site)
    app.default_error_handler = partial(error_page, site)
    # Before every route, so that no page can forget the checks of host, origin and session cookie.
    app.add_hook("before_request", guard.check_request)
    app.add_hook("after_request", guard.finish_request)
    app.route("*", "OPTIONS", methods)
    app.route("/", "GET", lambda: see_other("/smtp"))
    app.route("/setup", "GET", partial(login.show_setup, site))
    app.route("/setup", "POST", partial(login.set_up, site))
    app.route("/login", "GET", partial(login.show_login, site))
    app.route("/login", "POST", partial(login.log_in, site))
    app.route("/logout", "POST", partial(login.log_out, site))
    app.route("/smtp", "GET", guard.require_session(partial(smtp.show, site)))
    app.route("/smtp", "POST", guard.require_session(partial(smtp.update, site), expired))
    app.route("/smtp/try", "GET", guard.require_session(lambda _: see_other("/smtp")))
    app.route("/smtp/try", "POST", guard.require_session(partial(smtp.try_now, site)))
    app.route("/smtp/test", "GET", guard.require_session(lambda _: see_other("/smtp")))
    app.route("/smtp/test", "POST", guard.require_session(partial(test_mail.run, site), expired))
    app.route("/smtp/trust", "GET", guard.require_session(lambda _: see_other("/smtp")))
    app.route("/smtp/trust", "POST", guard.require_session(partial(smtp.trust, site), expired))
    app.route(sign_in.PATH, "GET", guard.require_session(partial(sign_in.show, site)))
    app.route(sign_in.PATH, "POST", guard.require_session(partial(sign_in.update, site), expired))
    app.route(f"{sign_in.PATH}/certificate", "GET", guard.require_session(partial(sign_in.certificate, site)))
    app.route("/recipients", "GET", guard.require_session(partial(recipients.PAGE.show, site)))
    app.route("/recipients", "POST", guard.require_session(partial(recipients.PAGE.update, site), expired))
    app.route("/recipients/test", "GET", guard.require_session(lambda _: see_other("/recipients")))
    app.route("/recipients/test", "POST", guard.require_session(partial(recipients.send_test, site)))
    app.route("/history", "GET", guard.require_session(partial(history.show, site)))
    app.route("/history", "POST", guard.require_session(partial(history.act, site), expired))
    app.route("/history.csv", "GET", guard.require_session(partial(history.export, site)))
    app.route("/others", "GET", guard.require_session(lambda _: see_other("/others/event-codes")))
    app.route("/others/event-codes", "GET", guard.require_session(partial(notifications.show, site)))
    app.route("/others/event-codes", "POST", guard.require_session(partial(notifications.update, site), expired))
    app.route("/others/email-content", "GET", guard.require_session(partial(event_codes.show_content, site)))
    app.route("/others/email-content/html", "GET", guard.require_session(partial(event_codes.show_html, site)))
    app.route("/others/access", "GET", guard.require_session(partial(access.PAGE.show, site)))
    app.route("/others/access", "POST", guard.require_session(partial(access.PAGE.update, site), expired))
    app.route("/language", "GET", guard.require_session(lambda _: see_other("/smtp")))
    app.route("/language", "POST", language.choose)
    app.route(HEALTH, "GET", partial(health, site))
    app.route("/metrics", "GET", partial(metrics.show, site, MetricsToken(site.device.folders.metrics_token)))
    # A pattern without a slash or a leading dot: no name can lead to a different folder.
    app.route("/static/<name:re:[a-z][a-z0-9.-]*>", "GET", site.static_files.serve)
    return app


def health(site: AppContext) -> str:
    """Return ``ok`` or one word for the problem of the mail path; without a login, and nothing else."""
    response.content_type = "text/plain; charset=UTF-8"
    # For a monitoring program, which has no session: a word of a fixed list, and no address or answer of a server.
    word, _ = site.mail_state()
    if word:
        response.status = 503
    return (word.replace(" ", "-") or "ok") + "\n"


def methods(allowed: str = "GET,POST") -> str:
    """Answer OPTIONS for a page, or for the whole device (RFC 9110, 9.3.7)."""
    response.status = 204
    _allow(allowed)
    return ""


def _allow(methods: str) -> None:
    # bottle answers HEAD wherever it answers GET, and does not list it.
    served = {"OPTIONS", *methods.split(","), *(["HEAD"] if "GET" in methods else [])}
    response.set_header("Allow", ", ".join(sorted(served)))


def error_page(site: AppContext, error: HTTPError) -> str:
    """Return the page of an error: its status and one sentence. bottle logs the traceback of a fault."""
    if error.status_code == 405:
        found = str(error.get_header("Allow"))
        if request.method == "OPTIONS":
            return methods(found)
        _allow(found)
    # A page raises its own sentence as the body.
    sentence = SENTENCES.get(error.status_code, error.body)
    return site.render("error", title=error.status_line, sentence=sentence)
