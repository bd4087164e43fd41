"""Sessions, in memory, by the hash of a random token.

In memory on purpose: nothing on flash can be stolen, and a restart ends every session. Time is the monotonic clock, so
that no jump of the wall clock lengthens a session. bottle's signed cookies are pickles and are not used; the cookie holds
the token alone.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from device_ui.errors import Text

# Short, since a page of an appliance is left open in a control room: the login keeps what was typed (`Session.saved_form`).
IDLE_SECONDS, ABSOLUTE_SECONDS = 10 * 60.0, 12 * 3600.0
# Enough for every browser of every operator; at the limit a login ends the session that was used least recently.
SESSIONS_MAXIMUM = 32
# 256 bits: no guess of a token ever succeeds (ASVS 5.0, 7.2.3, asks for 128).
TOKEN_BYTES = 32
NO_FORM: tuple[str, Mapping[str, str]] = ("", {})
# Of this process, in memory alone.
FINGERPRINT_KEY = secrets.token_bytes(32)


@dataclass
class Session:
    """One login. It was `found` by the last request, and `used` by the last that is a use. `notice` is shown once by the next page, such as ``Saved.``; `undo` are the fields of the form that
    undoes it, if there is one.

    `saved_form` is the page and the fields of a form that was sent after the last session expired, until that page shows
    them. `last_saved` is the fingerprint of the last form that was saved, and the revision it made. `lock` is held while
    a form of this session is being saved.
    """

    begun: float
    used: float
    found: float
    notice: Text = ""
    undo: Mapping[str, str] = field(default_factory=dict)
    saved_form: tuple[str, Mapping[str, str]] = NO_FORM
    last_saved: tuple[bytes, str] = (b"", "")
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    @property
    def idle_left(self) -> float:
        """The seconds from the last request to the end of a session that is not used."""
        return IDLE_SECONDS - (self.found - self.used)

    def remember(self, form: Mapping[str, str], revision: str) -> None:
        """Remember that this form was saved and made `revision`."""
        self.last_saved = (_fingerprint(form), revision)

    def is_duplicate_submit(self, form: Mapping[str, str], revision: str) -> bool:
        """Return whether this form was the last to be saved and its revision is still stored: a double click."""
        # A form that already has the new revision was made from the saved page: it is a second save, not a double click.
        return self.last_saved == (_fingerprint(form), revision) and form.get("revision", "") != revision

    def take_notice(self) -> Text:
        """Return the notice, once."""
        notice, self.notice = self.notice, ""
        return notice

    def take_undo(self) -> Mapping[str, str]:
        """Return the form that undoes what the notice reports, once."""
        undo, self.undo = self.undo, {}
        return undo

    def take_saved_form(self, page: str) -> Mapping[str, str]:
        """Return the fields that were typed on this page before the login, once; empty without any."""
        if self.saved_form[0] != page:
            return {}
        (_, fields), self.saved_form = self.saved_form, NO_FORM
        return fields


class Sessions:
    """The sessions of this process. Thread-safe."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._sessions: dict[bytes, Session] = {}

    def begin(self) -> str:
        """Begin a session and return its new token, for the cookie. A token from a request is never adopted."""
        token = secrets.token_urlsafe(TOKEN_BYTES)
        now = self._monotonic()
        with self._lock:
            self._expire(now)
            while len(self._sessions) >= SESSIONS_MAXIMUM:
                del self._sessions[min(self._sessions, key=lambda key: self._sessions[key].used)]
            self._sessions[_key(token)] = Session(now, now, now)
        return token

    def find(self, token: str, *, is_use: bool = True) -> Session | None:
        """Return the session of a token, and mark it as used if this `is_use`; None when there is none or it has expired."""
        now = self._monotonic()
        with self._lock:
            self._expire(now)
            session = self._sessions.get(_key(token))
            if session:
                session.found = now
                session.used = now if is_use else session.used
            return session

    def is_empty(self) -> bool:
        """Return whether there is no session."""
        with self._lock:
            self._expire(self._monotonic())
            return not self._sessions

    def end(self, token: str) -> bool:
        """End a session; return whether there was one."""
        with self._lock:
            return self._sessions.pop(_key(token), None) is not None

    def end_all(self) -> None:
        """End every session, after a new password."""
        with self._lock:
            self._sessions.clear()

    def _expire(self, now: float) -> None:
        # At each use of the sessions: no thread or timer is needed.
        expired = [
            key
            for key, session in self._sessions.items()
            if now - session.used >= IDLE_SECONDS or now - session.begun >= ABSOLUTE_SECONDS
        ]
        for key in expired:
            del self._sessions[key]


def _fingerprint(form: Mapping[str, str]) -> bytes:
    # Keyed by a secret of the process: the form may hold a password.
    return hmac.digest(FINGERPRINT_KEY, repr(sorted(form.items())).encode("utf-8", "replace"), "sha256")


def _key(token: str) -> bytes:
    # A comparison with the token itself could show its first characters by the time that it takes.
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()
