"""Who may see a page: the request's host, its origin, and the session behind its cookie.

A page of another site can make a browser post to us, and a name that an attacker owns can be pointed at us; a
session cookie alone stops neither. So every POST must come from our own page, and every request must name us.
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import os
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from bottle import HTTPError, HTTPResponse, request, response

from device_ui.config import host_name
from device_ui.errors import Damaged, DeviceUIError, NotReadable
from device_ui.rate_limit import TokenBucket
from device_ui.web import client_address
from device_ui.web.auth import device_cookie, return_path
from device_ui.web.auth.administrator import Administrator, Record
from device_ui.web.auth.sessions import Session, Sessions
from device_ui.web.auth.throttle import Throttle

log = logging.getLogger(__name__)

# Under TLS the browser itself keeps everybody but this very host from setting it (RFC 6265bis, 4.1.3.2).
COOKIE, COOKIE_UNDER_TLS = "session", "__Host-session"
# RFC 9110, 9.2.1: what changes nothing needs no origin.
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
HOST_PATTERN = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]{1,253})(?::[0-9]{1,5})?")
# Of the request's environment: it is a try to get in.
TRYING = "device_ui.trying"
# Lines about refusals: 20 at once, and one more a minute.
NOTED_AT_HAND, NOTED_SECONDS = 20, 60.0
CLOSED = (
    "The administrator's record of this device is damaged. At the device's console, "
    "device-ui admin set-password chooses a new password."
)


@dataclass
class Guard:
    """The checks of one web process. `names` are what the device is called besides its addresses."""

    administrator: Administrator
    sessions: Sessions
    throttle: Throttle
    names: frozenset[str]
    # Refusals that are worth a line: a stranger sends as many as he likes, and must not fill the log.
    noted: TokenBucket = field(default_factory=lambda: TokenBucket(NOTED_AT_HAND, NOTED_SECONDS))
    generation: tuple[int, ...] = ()
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def check_request(self) -> None:
        """Before every route: Host and, for a POST, Origin. Raises HTTPError 403 or 421."""
        if not self.is_own_host(_header("HOST")):
            self._note("a request for another host")
            raise HTTPError(421, "This device does not go by that name. Use its address.")
        if request.method not in SAFE_METHODS and not is_same_origin():
            self._note("a form of another origin")
            raise HTTPError(403, "This form was not sent by a page of this device.")

    def is_own_host(self, host: str) -> bool:
        """Whether a Host header names this device: an IP address, which nobody can point elsewhere, or its own names."""
        match = HOST_PATTERN.fullmatch(host)
        if not match:
            return False
        name = match[1].rstrip(".").lower()
        return name in self.names or _is_address(name.removeprefix("[").removesuffix("]"))

    def session(self) -> Session | None:
        """The session of this request, None when nobody is logged in. A new password ends every session."""
        with self._lock:
            self._end_all_after_new_password()
        return self.sessions.find(_token())

    def page(self, show: Callable[[Session], Any], late: Callable[[], Any] | None = None) -> Callable[[], Any]:
        """A route for who is logged in; everybody else is sent to the login or the set-up, or answered by `late`."""

        def route() -> Any:
            session = self.session()
            if session is None:
                return late() if late else see_other(return_path.entrance(self.entrance()))
            return show(session)

        return route

    def entrance(self) -> str:
        """Where a visitor without a session goes. Raises HTTPError 503 when only the console can help."""
        found = self._record()
        return "/login" if found.is_set_up else "/setup"

    def _record(self) -> Record:
        try:
            found = self.administrator.load()
        except (Damaged, NotReadable) as error:
            raise HTTPError(503, CLOSED) from error
        if found is None:
            raise HTTPError(503, CLOSED)
        return found

    def sign_in(self, record: Record) -> Session | None:
        """Begin a session for this browser and give it the cookies; None if another record than this stands by now.
        Raises HTTPError 503 when only the console can tell.

        To check a password takes a while. A new one may be set in it, and must not let in who knows the one before.
        """
        with self._lock:
            self._end_all_after_new_password()  # first, or this login would hide the change from the sessions before it
            if self._record() != record:
                return None
            self.sessions.end(_token())
            token = self.sessions.begin()
        response.set_cookie(_cookie(), token, path="/", httponly=True, samesite="strict", secure=is_tls())
        self._introduce(record)
        session = self.sessions.find(token)
        if session is None:  # another login pushed it out at once
            raise HTTPError(503, "Too many logins at once. Please try again.")
        return session

    def sign_out(self) -> bool:
        """End the session of this request, if it has one: whether it had."""
        is_ended = self.session() is not None and self.sessions.end(_token())
        response.delete_cookie(_cookie(), path="/", httponly=True, samesite="strict", secure=is_tls())
        return is_ended

    def attempt(self) -> int:
        """Whole seconds that this address must wait before it tries a login or a code; 0: none, and it has tried."""
        seconds = int(-(-self.throttle.attempt(address(), self._browser()) // 1))
        if seconds:
            self._note("a login that came too early")
        else:
            request.environ[TRYING] = True
        return seconds

    def succeeded(self) -> None:
        """The try was the owner's: forget what this address and this browser did before."""
        self.throttle.succeeded(address(), self._browser())

    def finish_request(self) -> None:
        """After every route: a try to get in is over with its request."""
        if request.environ.pop(TRYING, False):
            self.throttle.finished()

    def _introduce(self, record: Record) -> None:
        """Let this browser be known for a year: a place before strangers at the login, no way in."""
        kept = {"path": "/", "max_age": device_cookie.COOKIE_SECONDS, "httponly": True, "samesite": "strict"}
        response.set_cookie(_browser_cookie(), device_cookie.introduced(record), secure=is_tls(), **kept)

    def _browser(self) -> str:
        """The name of this request's browser if the owner got in with it before, else ``""``."""
        token = cookie(_browser_cookie())
        return device_cookie.recognized(token, self._standing()) if token else ""

    def _standing(self) -> Record | None:
        with contextlib.suppress(DeviceUIError):  # only the console can help; the page says so
            return self.administrator.load()
        return None

    def _note(self, what: str) -> None:
        if not self.noted.take():
            log.warning("%s was refused, from %s", what, address())

    def may_rest(self) -> bool:
        """Whether the process may end and be started again: nobody is logged in, and no failed login is forgotten."""
        return self.sessions.is_empty() and self.noted.is_full() and self.throttle.settle()

    def _end_all_after_new_password(self) -> None:
        """While `_lock` is held."""
        generation = self._generation()
        if generation != self.generation:
            self.generation = generation
            self.sessions.end_all()

    def _generation(self) -> tuple[int, ...]:
        try:
            found = os.stat(self.administrator.path)
        except OSError:
            return ()
        return (found.st_ino, found.st_mtime_ns, found.st_size)


def see_other(path: str) -> HTTPResponse:
    """303 to another page of ours, with the cookies that this answer sets."""
    answer = response.copy(cls=HTTPResponse)
    answer.status = 303
    answer.set_header("Location", path)
    return answer


def own_names(configured: list[str]) -> frozenset[str]:
    """What the device may be called in a URL: the maker's names, the host name, its .local form, localhost."""
    name = host_name()
    return frozenset({"localhost", name, f"{name.partition('.')[0]}.local", *(each.lower() for each in configured)})


def is_same_origin() -> bool:
    """Whether a request was sent by a page of this very origin. Browsers always say so with a POST."""
    site, origin = request.environ.get("HTTP_SEC_FETCH_SITE"), request.environ.get("HTTP_ORIGIN")
    if site is not None and site != "same-origin":
        return False
    if origin is None:
        return bool(site == "same-origin")
    # Compared as text: an origin has no path, both leave out the default port, and what cannot be parsed is not ours.
    return bool(origin.lower() == f"{'https' if is_tls() else 'http'}://{_header('HOST')}".lower())


def is_tls() -> bool:
    """Whether the browser speaks TLS, to the trusted proxy in front."""
    return bool(request.environ.get("wsgi.url_scheme") == "https")


def address() -> str:
    """The address that this request came from, in its usual spelling; ``unknown`` when the proxy in front told none."""
    return client_address.plain(str(request.environ.get("REMOTE_ADDR", "")))


def _header(name: str) -> str:
    # Not by bottle, which raises at bytes that are no UTF-8.
    return str(request.environ.get(f"HTTP_{name}", ""))


def _cookie() -> str:
    return COOKIE_UNDER_TLS if is_tls() else COOKIE


def cookie(name: str) -> str:
    """The value of this request's first cookie of this name, ``""`` when it has none."""
    # By hand: http.cookies gives up, or raises, at an odd cookie of another program on this host, and cookies know
    # no ports (RFC 6265, 8.5).
    header = _header("COOKIE")
    if name not in header:
        return ""
    pairs = (each.strip().partition("=") for each in header.split(";"))
    return next((value for each, _, value in pairs if each == name), "")


def _browser_cookie() -> str:
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
