"""Access to pages: the request's host, its origin, and the session behind its cookie.

Another site can make a browser post to this device, and an attacker can point a name of their own at it (DNS
rebinding); a session cookie prevents neither. So every POST must come from a page of this device, and every request
must name this device.
"""

from __future__ import annotations

import ipaddress
import logging
import math
import os
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from bottle import HTTPError, HTTPResponse, request, response

from device_ui.config import host_name
from device_ui.errors import Damaged, NotReadable
from device_ui.rate_limit import TokenBucket
from device_ui.web import client_address
from device_ui.web.auth import device_cookie, return_path
from device_ui.web.auth.administrator import Administrator, Record
from device_ui.web.auth.sessions import Session, Sessions
from device_ui.web.auth.throttle import Throttle

log = logging.getLogger(__name__)

# Under TLS the prefix keeps every other host and page without TLS from setting it (RFC 6265bis, 4.1.3.2).
COOKIE, COOKIE_UNDER_TLS = "session", "__Host-session"
# RFC 9110, 9.2.1: a method that changes nothing needs no origin.
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
HOST_PATTERN = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]{1,253})(?::[0-9]{1,5})?")
# In the environment of a request that tries a password: the name of its browser, "" without a device cookie.
ATTEMPT = "device_ui.attempt"
# Log lines about refusals: 20 at once, and one more a minute. A client must not fill the log.
LINES_AT_ONCE, LINE_SECONDS = 20, 60.0
CLOSED = (
    "The administrator's record of this device is damaged. At the device's console, "
    "device-ui admin set-password chooses a new password."
)


@dataclass
class Guard:
    """The checks of one web process. `names` are those of the device besides its addresses."""

    administrator: Administrator
    sessions: Sessions
    throttle: Throttle
    names: frozenset[str]
    # What the record's file was when sessions were last checked: a new password ends them.
    _generation: tuple[int, ...] = field(default=(), init=False)
    _lines: TokenBucket = field(default_factory=lambda: TokenBucket(LINES_AT_ONCE, LINE_SECONDS), init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def check_request(self) -> None:
        """Check Host and, for a POST, Origin; called before every route. Raises HTTPError 403 or 421."""
        if not self.is_own_host(_header("HOST")):
            self._log("a request for another host")
            raise HTTPError(421, "This device does not go by that name. Use its address.")
        if request.method not in SAFE_METHODS and not is_same_origin():
            self._log("a form of another origin")
            raise HTTPError(403, "This form was not sent by a page of this device.")

    def is_own_host(self, host: str) -> bool:
        """Return whether a Host header names this device: by one of its names, or by any IP address.

        An attacker can point a name at this device, but no address.
        """
        match = HOST_PATTERN.fullmatch(host)
        if not match:
            return False
        name = match[1].rstrip(".").lower()
        return name in self.names or _is_address(name.removeprefix("[").removesuffix("]"))

    def session(self) -> Session | None:
        """Return the session of this request, None without one. A new password ends every session."""
        with self._lock:
            self._end_all_after_new_password()
        return self.sessions.find(_token())

    def require_session(
        self, show: Callable[[Session], Any], expired: Callable[[], Any] | None = None
    ) -> Callable[[], Any]:
        """Return a route that calls `show` with the session; without one it calls `expired` or redirects to the login."""

        def route() -> Any:
            session = self.session()
            if session is None:
                return expired() if expired else see_other(return_path.entrance(self.entrance()))
            return show(session)

        return route

    def entrance(self) -> str:
        """Return the page that leads to a session: the login or the set-up. Raises HTTPError 503 as `record` does."""
        return "/login" if self.record().is_set_up else "/setup"

    def record(self) -> Record:
        """Return the administrator's record. Raises HTTPError 503 when it is damaged or lost: only the console helps."""
        try:
            record = self.administrator.load()
        except (Damaged, NotReadable) as error:
            raise HTTPError(503, CLOSED) from error
        if record is None:
            raise HTTPError(503, CLOSED)
        return record

    def sign_in(self, record: Record) -> Session | None:
        """Begin a session for this browser and set its cookies; None when `record` is no longer the stored one.

        Checking a password takes a while. A password that is changed meanwhile must not admit the old one. Raises
        HTTPError 503 as `record` does, or when too many logins come at once.
        """
        with self._lock:
            self._end_all_after_new_password()  # first, or this login would hide the change from earlier sessions
            if self.record() != record:
                return None
            self.sessions.end(_token())
            token = self.sessions.begin()
        response.set_cookie(_cookie(), token, path="/", httponly=True, samesite="strict", secure=is_tls())
        # Device cookie: login priority only, grants no access.
        lifetime = {"path": "/", "max_age": device_cookie.COOKIE_SECONDS, "httponly": True, "samesite": "strict"}
        response.set_cookie(_device_cookie(), device_cookie.issue(record), secure=is_tls(), **lifetime)
        session = self.sessions.find(token)
        if session is None:  # evicted by other logins at once
            raise HTTPError(503, "Too many logins at once. Please try again.")
        return session

    def sign_out(self) -> bool:
        """End the session of this request; return whether it had one."""
        is_ended = self.session() is not None and self.sessions.end(_token())
        response.delete_cookie(_cookie(), path="/", httponly=True, samesite="strict", secure=is_tls())
        return is_ended

    def attempt(self, record: Record) -> int:
        """Count a try of a password or a code; return 0, or the whole seconds to wait before it may be checked."""
        browser = device_cookie.verify(cookie(_device_cookie()), record)
        seconds = math.ceil(self.throttle.attempt(address(), browser))
        if seconds:
            self._log("a login that came too early")
        else:
            request.environ[ATTEMPT] = browser
        return seconds

    def succeeded(self) -> None:
        """Forget the failures of this request's address and browser: its try was the owner's."""
        self.throttle.succeeded(address(), request.environ[ATTEMPT])

    def finish_request(self) -> None:
        """End the try of this request, if it was one; called after every route."""
        if request.environ.pop(ATTEMPT, None) is not None:
            self.throttle.finished()

    def may_exit(self) -> bool:
        """Return whether the process can exit without losing a session, a failed login or a limit of log lines."""
        return self.sessions.is_empty() and self._lines.is_full() and self.throttle.settle()

    def _log(self, refused: str) -> None:
        if not self._lines.take():
            log.warning("%s was refused, from %s", refused, address())

    def _end_all_after_new_password(self) -> None:
        """End every session if the record's file has changed. Called with `_lock` held."""
        try:
            found = os.stat(self.administrator.path)
            generation: tuple[int, ...] = (found.st_ino, found.st_mtime_ns, found.st_size)
        except OSError:
            generation = ()
        if generation != self._generation:
            self._generation = generation
            self.sessions.end_all()


def see_other(path: str) -> HTTPResponse:
    """Return a 303 to a page of this device, with the cookies that this response sets."""
    answer = response.copy(cls=HTTPResponse)
    answer.status = 303
    answer.set_header("Location", path)
    return answer


def own_names(configured: list[str]) -> frozenset[str]:
    """Return the names of the device in a URL: the maker's, the host name, its .local form, localhost."""
    name = host_name()
    return frozenset({"localhost", name, f"{name.partition('.')[0]}.local", *(each.lower() for each in configured)})


def is_same_origin() -> bool:
    """Return whether a page of this origin sent the request. Browsers send Origin with every POST (Fetch, 3.1)."""
    site, origin = request.environ.get("HTTP_SEC_FETCH_SITE"), request.environ.get("HTTP_ORIGIN")
    if site is not None and site != "same-origin":
        return False
    if origin is None:
        return bool(site == "same-origin")
    # Compared as text: an origin has no path, and both omit the default port.
    return bool(origin.lower() == f"{'https' if is_tls() else 'http'}://{_header('HOST')}".lower())


def is_tls() -> bool:
    """Return whether the browser's connection is TLS, terminated by the trusted proxy in front."""
    return bool(request.environ.get("wsgi.url_scheme") == "https")


def address() -> str:
    """Return the client's address in its usual spelling, ``unknown`` when the proxy in front gives none."""
    return client_address.plain(str(request.environ.get("REMOTE_ADDR", "")))


def _header(name: str) -> str:
    # Not by bottle, which raises for bytes that are not UTF-8.
    return str(request.environ.get(f"HTTP_{name}", ""))


def _cookie() -> str:
    return COOKIE_UNDER_TLS if is_tls() else COOKIE


def cookie(name: str) -> str:
    """Return the value of this request's first cookie of this name, ``""`` without one."""
    # Not by http.cookies, which stops or raises at a malformed cookie of another program on this host: cookies are shared
    # among ports (RFC 6265, 8.5).
    header = _header("COOKIE")
    if name not in header:
        return ""
    pairs = (each.strip().partition("=") for each in header.split(";"))
    return next((value for each, _, value in pairs if each == name), "")


def _device_cookie() -> str:
    return device_cookie.COOKIE_UNDER_TLS if is_tls() else device_cookie.COOKIE


def _token() -> str:
    return cookie(_cookie())


@lru_cache(maxsize=16)
def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
