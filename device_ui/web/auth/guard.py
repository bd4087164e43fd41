"""Access to pages: the request's host, its origin, and the session behind its cookie.

Another site can make a browser post to this device, and an attacker can point a name of their own at it (DNS
rebinding); a session cookie prevents neither. So every POST must come from a page of this device, and every request
must name this device.

The evidence that a page of this device sent a form, the strongest first. The first one that a request has decides alone:

- Sec-Fetch-Site, the browser's own verdict, which no page can set. It survives a proxy that changes Host. Browsers send it
  over TLS and to localhost only.
- Origin, which browsers send with every POST (Fetch, 3.1).
- Referer, which text browsers send, unless they are configured not to.
- The form's token, for a browser that sends none of these: a hash of its session cookie, which no other site can read.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import ipaddress
import logging
import math
import os
import re
import secrets
import threading
from collections.abc import Callable, Container
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
from device_ui.web.auth.sessions import TOKEN_BYTES, Session, Sessions
from device_ui.web.auth.throttle import Throttle
from device_ui.web.forms import posted

log = logging.getLogger(__name__)

# The names of the cookies, which `Guard.cookie_name` completes.
COOKIE = "session"
# Under TLS the prefix keeps every other host and page without TLS from setting them (RFC 6265bis, 4.1.3.2).
TLS_PREFIX = "__Host-"
# The prefixes of the two hashes: without them, the token of a form could equal the name of a cookie.
COOKIE_PURPOSE, TOKEN_PURPOSE = b"device-ui: the cookies of a device\0", b"device-ui: the forms of a browser\0"
# The form of `secrets.token_urlsafe(TOKEN_BYTES)`: 32 bytes in base64url without padding.
COOKIE_PATTERN = re.compile(r"[A-Za-z0-9_-]{43}")
# The hidden field of every form.
TOKEN = "token"
DEFAULT_PORTS = {"http": ":80", "https": ":443"}
PORT_PATTERN = re.compile(r":[0-9]{1,5}\Z")
ORIGIN_PATTERN = re.compile(r"([A-Za-z]+)://([^/?#]+)")
# The query of a page that a browser loads again by itself: the session of a page that is left open must end.
REFRESH = "refresh"
# RFC 9110, 9.2.1: a method that changes nothing needs no origin.
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
HOST_PATTERN = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]{1,253})(?::[0-9]{1,5})?")
# In the environment of a request that tries a password: the name of its browser, "" without a device cookie.
ATTEMPT = "device_ui.attempt"
# Log lines about refusals: 20 at once, and one more a minute. A client must not fill the log.
LINES_AT_ONCE, LINE_SECONDS = 20, 60.0
HEALTH = "/health"
STRANGER = "This device does not go by that name. Use its address. There an administrator can add the name, under Others, Access."
CLOSED = (
    "The administrator's record of this device is damaged. At the device's console, "
    "device-ui admin set-password chooses a new password."
)


@dataclass
class Guard:
    """The checks of one web process. `names` are those of the device besides its addresses, in lower case."""

    administrator: Administrator
    sessions: Sessions
    throttle: Throttle
    names: Container[str]
    # The inode, time and size of the record's file when it was last looked at: a new password, which ends the sessions, changes them.
    _generation: tuple[int, ...] = field(default=(), init=False)
    # The record's code or salt, which no second device has: the names of the cookies depend on it.
    _identity: str = field(default="", init=False, repr=False)
    _lines: TokenBucket = field(default_factory=lambda: TokenBucket(LINES_AT_ONCE, LINE_SECONDS), init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def check_request(self) -> None:
        """Check Host and, for a POST, where its form is from; called before every route. Raises HTTPError 400, 403 or 421."""
        if "HTTP_HOST" not in request.environ:
            # A request of HTTP/1.0, such as a load balancer's check: it may read the one page that is public.
            if request.path == HEALTH and request.method in SAFE_METHODS:
                return
            raise HTTPError(400, "A request names one host.")
        # Host first: of a page under an attacker's name, every form is of the same origin.
        if not self.is_own_host(_header("HOST")):
            self._log("a request for another host")
            raise HTTPError(421, STRANGER)
        if request.method not in SAFE_METHODS and not self.is_same_origin():
            self._log("a form of another origin")
            raise HTTPError(403, "This form was not sent by a page of this device.")

    def is_own_host(self, host: str) -> bool:
        """Return whether a Host header names this device: by one of its names, or by any IP address.

        An attacker can point a name at this device, but no address.
        """
        name = plain_name(host)
        return bool(name) and (_is_address(name.removeprefix("[").removesuffix("]")) or name in self.names)

    def is_same_origin(self) -> bool:
        """Return whether a page of this origin sent the request, by the strongest evidence that it has."""
        site = request.environ.get("HTTP_SEC_FETCH_SITE")
        # Not "same-site": a second device of the same domain is a different origin. Nor "none": no address bar sends a form.
        if site is not None:
            return bool(site == "same-origin")
        for name, pattern in (("HTTP_ORIGIN", ORIGIN_PATTERN.fullmatch), ("HTTP_REFERER", ORIGIN_PATTERN.match)):
            if name in request.environ:
                found = pattern(request.environ[name])
                return found is not None and _is_own_origin(found[1].lower(), found[2].lower())
        return self._has_token()

    def _has_token(self) -> bool:
        """Return whether the form has the token of this browser's session cookie."""
        value = self._session_cookie()
        try:
            given = posted().get(TOKEN, "")
        except HTTPError:  # no form of ours
            return False
        return bool(value) and hmac.compare_digest(given.encode(), _form_token(value).encode())

    def form_token(self) -> str:
        """Return the token of the forms of the page that is being made.

        A browser without a session cookie gets one that is no session: a login begins one under a new token. A page for a
        name that is not the device's sets none.
        """
        value = self._session_cookie()
        if not COOKIE_PATTERN.fullmatch(value) and self.is_own_host(_header("HOST")):
            value = secrets.token_urlsafe(TOKEN_BYTES)
            self._set_session_cookie(value)
        return _form_token(value)

    def cookie_name(self, kind: str) -> str:
        """Return the name of a cookie of this device at this port.

        Cookies are shared among the ports of a host (RFC 6265, 8.5): two devices behind one name must not overwrite each
        other's, nor must another program. The name depends on the administrator's record, which each device has its own of.
        """
        with self._lock:
            self._follow_record()
            identity = self._identity
        port = PORT_PATTERN.search(_header("HOST"))
        digest = hashlib.sha256(COOKIE_PURPOSE + f"{identity}{port[0] if port else ''}".encode()).hexdigest()
        return f"{TLS_PREFIX if is_tls() else ''}{kind}-{digest[:8]}"

    def _session_cookie(self) -> str:
        return cookie(self.cookie_name(COOKIE))

    def _set_session_cookie(self, value: str) -> None:
        response.set_cookie(
            self.cookie_name(COOKIE), value, path="/", httponly=True, samesite="strict", secure=is_tls()
        )

    def session(self) -> Session | None:
        """Return the session of this request, None without one. A new password ends every session.

        The request is a use of it, unless its query is `REFRESH`.
        """
        return self.sessions.find(self._session_cookie(), is_use=request.environ.get("QUERY_STRING") != REFRESH)

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
        # Its session ends with this login: a token that was known before a login must not be worth more after it (session fixation).
        former = self._session_cookie()
        with self._lock:
            self._follow_record()  # first, or this login would hide the change from earlier sessions
            if self.record() != record:
                return None
            self.sessions.end(former)
            token = self.sessions.begin()
        self._set_session_cookie(token)
        # Device cookie: login priority only, grants no access.
        lifetime = {"path": "/", "max_age": device_cookie.COOKIE_SECONDS, "httponly": True, "samesite": "strict"}
        name = self.cookie_name(device_cookie.COOKIE)
        response.set_cookie(name, device_cookie.issue(record), secure=is_tls(), **lifetime)
        session = self.sessions.find(token)
        if session is None:  # evicted by other logins at once
            raise HTTPError(503, "Too many logins at once. Please try again.")
        return session

    def sign_out(self) -> bool:
        """End the session of this request; return whether it had one."""
        is_ended = self.session() is not None and self.sessions.end(self._session_cookie())
        name = self.cookie_name(COOKIE)
        response.delete_cookie(name, path="/", httponly=True, samesite="strict", secure=is_tls())
        return is_ended

    def attempt(self, record: Record) -> int:
        """Count a try of a password or a code; return 0, or the whole seconds to wait before it may be checked."""
        browser = device_cookie.verify(cookie(self.cookie_name(device_cookie.COOKIE)), record)
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
        # `settle` is last: it may write the file, which a process that stays need not do yet.
        return self.sessions.is_empty() and self._lines.is_full() and self.throttle.settle()

    def _log(self, refused: str) -> None:
        if not self._lines.take():
            log.warning("%s was refused, from %s", refused, address())

    def _follow_record(self) -> None:
        """If the record's file has changed, end every session and take its identity. Called with `_lock` held."""
        # A stat for each request, and no read: the file is replaced by a rename, so a new record is a new inode.
        try:
            found = os.stat(self.administrator.path)
            generation: tuple[int, ...] = (found.st_ino, found.st_mtime_ns, found.st_size)
        except OSError:
            generation = ()
        if generation != self._generation:
            self._generation = generation
            self.sessions.end_all()
            with contextlib.suppress(Damaged, NotReadable):
                found_record = self.administrator.load()
                self._identity = (found_record.code or found_record.salt) if found_record else ""


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


def plain_name(host: str) -> str:
    """Return the name of a Host header in lower case, without port and final dot; ``""`` when it is malformed."""
    match = HOST_PATTERN.fullmatch(host)
    return match[1].rstrip(".").lower() if match else ""


def own_name() -> str:
    """Return the name by which this request reached the device."""
    return plain_name(_header("HOST"))


def _is_own_origin(scheme: str, authority: str) -> bool:
    """Return whether an origin is the one of this request: the host of Host, and the scheme of the connection.

    An https origin is also accepted on a connection without TLS: a proxy that the device does not know may have terminated TLS,
    and only the owner of the name has a certificate for it. An http origin is refused on a connection with TLS: an attacker in
    the network can make such a page.
    """
    if scheme != "https" and (scheme != "http" or is_tls()):
        return False
    # As text: an origin has no path, and a default port may be written out.
    port = DEFAULT_PORTS[scheme]
    return authority.removesuffix(port) == _header("HOST").lower().removesuffix(port)


def _form_token(value: str) -> str:
    """Return the token for a session cookie: 20 characters of its SHA-256, which do not reveal the cookie."""
    # 15 bytes are 20 characters of base64 without padding, and 120 bits.
    digest = hashlib.sha256(TOKEN_PURPOSE + value.encode("utf-8", "replace")).digest()
    return base64.urlsafe_b64encode(digest[:15]).decode()


def is_tls() -> bool:
    """Return whether the browser's connection is TLS, terminated by the trusted proxy in front."""
    return bool(request.environ.get("wsgi.url_scheme") == "https")


def address() -> str:
    """Return the client's address in its usual spelling, ``unknown`` when the proxy in front gives none."""
    return client_address.plain(str(request.environ.get("REMOTE_ADDR", "")))


def _header(name: str) -> str:
    # Not by bottle, which raises for bytes that are not UTF-8.
    return str(request.environ.get(f"HTTP_{name}", ""))


def cookie(name: str) -> str:
    """Return the value of this request's first cookie of this name, ``""`` without one."""
    # Not by http.cookies, which stops or raises at a malformed cookie of another program on this host: cookies are shared
    # among ports (RFC 6265, 8.5).
    header = _header("COOKIE")
    if name not in header:
        return ""
    pairs = (each.strip().partition("=") for each in header.split(";"))
    return next((value for each, _, value in pairs if each == name), "")


# A browser sends the same host with every request.
@lru_cache(maxsize=16)
def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
