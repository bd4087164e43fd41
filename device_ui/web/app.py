"""The web process's pages put together: routes, headers, plain error pages, static files.

Headers are added around bottle and not by it, so that no status is without them: bottle's own error pages too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bottle import Bottle, HTTPError, HTTPResponse, SimpleTemplate, response, static_file

import device_ui
from device_ui.device import Device
from device_ui.errors import HookError
from device_ui.mail import client
from device_ui.settings.store import Store
from device_ui.web.administrator import Administrator
from device_ui.web.guard import Guard, own_names, see_other
from device_ui.web.sessions import Sessions
from device_ui.web.throttle import Throttle

PACKAGE = Path(device_ui.__file__).parent
# In a checkout they stand beside the package, in an installation inside it.
ROOTS = (PACKAGE, PACKAGE.parent)

# OWASP Secure Headers. No inline code anywhere; "same-origin" and not "no-referrer", since with the latter browsers
# send "Origin: null" with our own forms (Fetch, 3.1).
HEADERS = (
    (
        "Content-Security-Policy",
        "default-src 'none'; style-src 'self'; img-src 'self'; script-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "same-origin"),
    ("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
)
NO_STORE = ("Cache-Control", "no-store")

# What the page says about each word of `postman.Problem`; {reply} is the server's answer.
MAIL_PROBLEMS = {
    "damaged": "The stored settings are damaged. Mail waits until they are typed again.",
    "unreadable": "The mail service cannot read the settings: {reply}. Mail waits.",
    "password": "The stored password cannot be opened. Mail waits until it is typed again.",
    "login refused": "The mail server refused the login: {reply} Mail waits until the settings change, so that the account is not locked: type the password again and press Update.",
    "server": "Mail could not be delivered yet ({step}): {reply} It is tried again.",
    "storage": "The device's storage has a problem: {reply}. Mail may be late.",
    "fault": "The mail service has a fault; its log tells more. Mail is tried again.",
    "refused": "The last mail was refused for good ({step}): {reply} It is not sent again.",
    "denied": "The mail service does not know this web process's user; the maker sets it in device.toml (users.web).",
    "down": "The mail service is not running. Mail is paused until it starts; events cannot be accepted.",
}


@dataclass
class Site:
    """What the pages share."""

    device: Device
    store: Store
    guard: Guard

    def mail_problem(self) -> str:
        """What keeps mail back, in one sentence; ``""`` when nothing does, or no settings are stored yet."""
        word, details = self.mail_state()
        return MAIL_PROBLEMS.get(word, "").format(step=details.get("step", ""), reply=details.get("reply", ""))

    def mail_state(self) -> tuple[str, dict[str, Any]]:
        """The word for the mail path, ``""`` when well, and what the hook says beside it."""
        try:
            details = dict(client.state(self.device.folders.socket))
        except HookError as error:
            word = {"not-stored": "storage", "denied": "denied"}.get(error.word, "down")
            return word, {"reply": error.reason}
        return str(details["problem"]), details

    def render(self, name: str, **values: Any) -> str:
        """A page of `views/` in the layout."""
        values.setdefault("session", None)
        values.setdefault("mail_problem", "")
        response.content_type = "text/html; charset=UTF-8"
        return str(template(name).render(device=self.device, **values))


def make(device: Device) -> Callable[..., Iterable[bytes]]:
    """The WSGI application of one device."""
    return with_headers(pages(device))


def pages(device: Device, clock: Callable[[], float] = time.monotonic) -> Bottle:
    """Every route of one device; `clock` ends sessions and delays guesses."""
    from device_ui.web.pages import entry, smtp

    store = Store(device.folders.settings)
    guard = Guard(
        Administrator(device.folders.administrator), Sessions(clock), Throttle(clock), own_names(device["web.names"])
    )
    site = Site(device, store, guard)
    app = Bottle()
    app.default_error_handler = partial(error_page, site)
    app.add_hook("before_request", guard.check_request)
    app.route("/", "GET", lambda: see_other("/smtp"))
    app.route("/setup", "GET", partial(entry.show_setup, site))
    app.route("/setup", "POST", partial(entry.set_up, site))
    app.route("/login", "GET", partial(entry.show_login, site))
    app.route("/login", "POST", partial(entry.log_in, site))
    app.route("/logout", "POST", partial(entry.log_out, site))
    app.route("/smtp", "GET", guard.page(partial(smtp.show, site)))
    app.route("/smtp", "POST", guard.page(partial(smtp.update, site)))
    app.route("/health", "GET", partial(health, site))
    app.route("/static/<name:re:[a-z][a-z0-9.-]*>", "GET", static)
    return app


def health(site: Site) -> str:
    """``ok`` or one word for what is wrong with the mail path; no login, nothing else told."""
    response.content_type = "text/plain; charset=UTF-8"
    word, _ = site.mail_state()
    if word:
        response.status = 503
    return (word.replace(" ", "-") or "ok") + "\n"


def static(name: str) -> HTTPResponse:
    """A file of `static/`."""
    return static_file(name, root=str(find("static")))


def find(name: str) -> Path:
    """The folder `static` or `views`."""
    return next(root / name for root in ROOTS if (root / name).is_dir())


_templates: dict[str, SimpleTemplate] = {}


def template(name: str) -> SimpleTemplate:
    """A template of `views/`, compiled once."""
    if name not in _templates:
        _templates[name] = SimpleTemplate(name=f"{name}.tpl", lookup=[str(find("views"))])
    return _templates[name]


def error_page(site: Site, error: HTTPError) -> str:
    """A plain page: what happened, and no more. A fault of ours is in the log (bottle writes it), never on the page."""
    sentence = error.body if error.status_code != 500 else "The device had a fault. Its log tells more."
    return site.render("error", title=error.status_line, sentence=sentence)


def with_headers(app: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
    """The application with `HEADERS` on every answer, and nothing kept by a cache unless the page says so."""

    def wrapped(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            given = {name.lower() for name, _ in headers}
            extra = [pair for pair in (*HEADERS, NO_STORE) if pair[0].lower() not in given]
            return start_response(status, headers + extra, exc_info)

        return app(environ, start)

    return wrapped
