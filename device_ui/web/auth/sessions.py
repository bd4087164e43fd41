"""Who is logged in: sessions in memory, one random token each, of which only the hash is kept.

They live in memory on purpose: nothing on flash can be stolen, and a restart signs everybody out. Time is the
monotonic clock, so that no jump of the wall clock lengthens a session. bottle's signed cookies are pickles and are
not used; the cookie holds the token and nothing else.
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

IDLE_SECONDS, ABSOLUTE_SECONDS = 10 * 60.0, 12 * 3600.0
# Enough for every tab of every operator; the oldest goes when a new one comes.
SESSIONS_MAXIMUM = 32
TOKEN_BYTES = 32
NOTHING_KEPT: tuple[str, Mapping[str, str]] = ("", {})
FINGERPRINT_KEY = secrets.token_bytes(32)


@dataclass
class Session:
    """One login. `notice` is what the next page tells once, such as ``Saved.``; `undo` are the fields of the form that
    takes back what it tells of, if that can be.

    `kept` is the page and the fields of a form that was sent when no session stood, until that page shows them. `saved` is the form that was saved last, as a fingerprint, and the revision that it made; `lock` is held while one
    of its forms is being saved.
    """

    begun: float
    used: float
    notice: Text = ""
    undo: Mapping[str, str] = field(default_factory=dict)
    kept: tuple[str, Mapping[str, str]] = NOTHING_KEPT
    saved: tuple[bytes, str] = (b"", "")
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def remember(self, form: Mapping[str, str], revision: str) -> None:
        """This form was saved, and made `revision`."""
        self.saved = (_fingerprint(form), revision)

    def is_repeated(self, form: Mapping[str, str], revision: str) -> bool:
        """Whether this very form was saved last, and what it made still stands: the second half of a double click."""
        return self.saved == (_fingerprint(form), revision) and form.get("revision", "") != revision

    def take_notice(self) -> Text:
        """The notice, once."""
        notice, self.notice = self.notice, ""
        return notice

    def take_undo(self) -> Mapping[str, str]:
        """The form that takes back what the notice tells, once."""
        undo, self.undo = self.undo, {}
        return undo

    def take_kept(self, page: str) -> Mapping[str, str]:
        """What was typed on this page before the login, once; empty when nothing was."""
        if self.kept[0] != page:
            return {}
        (_, fields), self.kept = self.kept, NOTHING_KEPT
        return fields


class Sessions:
    """The sessions of this process, by the hash of their token. Any thread may call."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._sessions: dict[bytes, Session] = {}

    def begin(self) -> str:
        """A new session's token, for the cookie. A token that a browser brought along is never taken over."""
        token = secrets.token_urlsafe(TOKEN_BYTES)
        now = self._clock()
        with self._lock:
            self._expire(now)
            while len(self._sessions) >= SESSIONS_MAXIMUM:
                del self._sessions[min(self._sessions, key=lambda key: self._sessions[key].used)]
            self._sessions[_key(token)] = Session(now, now)
        return token

    def find(self, token: str) -> Session | None:
        """The session of a token, used once more; None when there is none or its time is over."""
        now = self._clock()
        with self._lock:
            self._expire(now)
            session = self._sessions.get(_key(token))
            if session:
                session.used = now
            return session

    def is_empty(self) -> bool:
        """Whether nobody is logged in."""
        with self._lock:
            self._expire(self._clock())
            return not self._sessions

    def end(self, token: str) -> bool:
        """Sign out; whether a session was ended by it."""
        with self._lock:
            return self._sessions.pop(_key(token), None) is not None

    def end_all(self) -> None:
        """Sign everybody out, for a new password."""
        with self._lock:
            self._sessions.clear()

    def _expire(self, now: float) -> None:
        over = [
            key
            for key, session in self._sessions.items()
            if now - session.used >= IDLE_SECONDS or now - session.begun >= ABSOLUTE_SECONDS
        ]
        for key in over:
            del self._sessions[key]


def _fingerprint(form: Mapping[str, str]) -> bytes:
    # Keyed by the process, so that nothing can be told from it about a password.
    return hmac.digest(FINGERPRINT_KEY, repr(sorted(form.items())).encode("utf-8", "replace"), "sha256")


def _key(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()
