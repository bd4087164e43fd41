"""Who may see a page: the request's host, its origin, and the session behind its cookie.

A page of another site can make a browser post to us, and a name that an attacker owns can be pointed at us; a
session cookie alone stops neither. So every POST must come from our own page, and every request must name us.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from bottle import HTTPError, HTTPResponse, request, response

from device_ui.device import host_name
from device_ui.errors import Damaged, DeviceUIError, NotReadable
from device_ui.web.administrator import Administrator
from device_ui.web.sessions import Session, Sessions
from device_ui.web.throttle import Throttle

COOKIE = "session"
HOST_PATTERN = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]{1,253})(?::[0-9]{1,5})?")
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
    generation: tuple[int, ...] = ()

    def check_request(self) -> None:
        """Before every route: Host and, for a POST, Origin. Raises HTTPError 400, 403 or 421."""
        if not self.is_own_host(request.get_header("Host", "")):
            raise HTTPError(421, "This device does not go by that name. Use its address.")
        if request.method not in ("GET", "HEAD") and not is_same_origin():
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
        generation = self._generation()
        if generation != self.generation:
            self.generation = generation
            self.sessions.end_all()
        return self.sessions.find(request.get_cookie(COOKIE) or "")

    def page(self, show: Callable[[Session], Any]) -> Callable[[], Any]:
        """A route for who is logged in; everybody else is sent to the login or the set-up."""

        def route() -> Any:
            session = self.session()
            if session is None:
                return see_other(self.entrance())
            return show(session)

        return route

    def entrance(self) -> str:
        """Where a visitor without a session goes. Raises HTTPError 503 when only the console can help."""
        try:
            found = self.administrator.load()
        except (Damaged, NotReadable) as error:
            raise HTTPError(503, CLOSED) from error
        if found is None:
            raise HTTPError(503, CLOSED)
        return "/login" if found.is_set_up else "/setup"

    def sign_in(self) -> Session:
        """Begin a session for this browser and give it the cookie."""
        self.sessions.end(request.get_cookie(COOKIE) or "")
        token = self.sessions.begin()
        secure = request.urlparts.scheme == "https"
        response.set_cookie(COOKIE, token, path="/", httponly=True, samesite="strict", secure=secure)
        self.generation = self._generation()
        session = self.sessions.find(token)
        if session is None:  # another login pushed it out at once
            raise HTTPError(503, "Too many logins at once. Please try again.")
        return session

    def sign_out(self) -> None:
        """End the session of this request, if it has one."""
        self.sessions.end(request.get_cookie(COOKIE) or "")
        response.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")

    def too_early(self) -> int:
        """Whole seconds that this address must wait before it tries a login or a code again; 0: none."""
        return int(-(-self.throttle.wait(address()) // 1))

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
    site = request.get_header("Sec-Fetch-Site")
    origin = request.get_header("Origin")
    if site is not None and site != "same-origin":
        return False
    if origin is None:
        return bool(site == "same-origin")
    parts = urlsplit(origin)
    own = (request.urlparts.scheme, request.get_header("Host", "").lower())
    return bool((parts.scheme, parts.netloc.lower()) == own)


def address() -> str:
    """The address that this request came from."""
    return str(request.environ.get("REMOTE_ADDR") or "unknown")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def told(error: DeviceUIError) -> str:
    """An error of ours as a sentence for the page."""
    text = str(error)
    return text[:1].upper() + text[1:] + "."
