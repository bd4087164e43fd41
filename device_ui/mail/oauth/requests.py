"""The requests of the hook's socket about the sign-in. Each reads files or asks a provider, so none runs in the hook's loop.

``sign-in`` (`action`: ``begin``, ``cancel``, or none for the state) and ``certificate`` are for the page, which never gets a token.
``token`` and ``keep-alive`` are for the hook's own user and root.
"""

from __future__ import annotations

import base64
import logging
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from device_ui.errors import Damaged, DeviceUIError, Message, NotReadable, RequestError
from device_ui.mail.oauth.outcome import TokenError
from device_ui.rate_limit import TokenBucket

if TYPE_CHECKING:
    from device_ui.mail.oauth.device_code import DeviceCodeFlow
    from device_ui.mail.oauth.sign_in import SignIn
    from device_ui.settings.fields import SmtpSettings
    from device_ui.settings.store import Store

log = logging.getLogger(__name__)

Answer = Mapping[str, Any]

# Keys that are made at once, and seconds until one more. Each change of the settings can ask for one, and each costs the
# processor seconds and the flash a write, so the web process must not have them made without end.
NEW_KEYS, NEW_KEY_SECONDS = 10, 300.0


class SignInRequests:
    """The requests of one device. `unseal` opens a client secret; `changed` is called when the sign-in may work again."""

    def __init__(
        self,
        store: Store,
        sign_in: SignIn,
        flow: DeviceCodeFlow,
        unseal: Callable[[SmtpSettings], str],
        changed: Callable[[], None],
    ) -> None:
        self._store, self._sign_in, self._flow = store, sign_in, flow
        self._unseal, self._changed = unseal, changed
        self._new_keys = TokenBucket(NEW_KEYS, NEW_KEY_SECONDS, time.monotonic)

    @property
    def quick(self) -> Mapping[str, Callable[[Mapping[str, Any]], Answer]]:
        """The requests that read files only, by their words."""
        return {"sign-in": self.sign_in}

    @property
    def slow(self) -> Mapping[str, Callable[[Mapping[str, Any]], Answer]]:
        """The requests that ask a provider or make a key, by their words."""
        return {"certificate": self.certificate, "token": self.token, "keep-alive": self.keep_alive}

    def sign_in(self, request: Mapping[str, Any]) -> Answer:
        """Begin or cancel a sign-in by a code; return its phase and what is known of the sign-in. Raises `RequestError`."""
        settings, action = self._settings(), request.get("action", "")
        if action == "begin":
            self._flow.begin(settings)
        elif action == "cancel":
            self._flow.cancel()
        elif action:
            raise RequestError("bad-request", "an action is begin or cancel")
        try:
            return {"sign_in": {**self._sign_in.state(settings), "flow": self._flow.state()}}
        except NotReadable as error:
            raise RequestError("not-stored", error.message) from error

    def certificate(self, _request: Mapping[str, Any]) -> Answer:
        """Return the certificates in base64 with their SHA-256 and their ends; make the first one. Raises `RequestError`."""
        settings = self._settings()
        if settings.oauth_grant != "certificate":
            raise RequestError("bad-request", "the stored sign-in needs no certificate")
        try:
            if not self._sign_in.keys.certificates(settings) and (wait := self._new_keys.take()):
                reason = Message("too many certificates one after another; wait {seconds} seconds", seconds=wait)
                raise RequestError("too-many", reason, wait)
            made = self._sign_in.keys.make(settings)
        except RequestError:
            raise
        except DeviceUIError as error:
            log.error("certificate not made: %s", error)
            raise RequestError("not-stored", error.message) from error
        listed = [
            {"der": base64.b64encode(each.der).decode(), "sha256": each.sha256, "ends": each.ends} for each in made
        ]
        return {"certificates": listed}

    def token(self, _request: Mapping[str, Any]) -> Answer:
        """Return an access token for the stored settings. Raises `RequestError`."""
        settings = self._settings()
        try:
            access = self._sign_in.access(settings, self._unseal(settings))
        except DeviceUIError as error:
            raise RequestError("no-token", _words(error)) from error
        return {"token": access.token}

    def keep_alive(self, _request: Mapping[str, Any]) -> Answer:
        """Renew or try the sign-in, and warn of its end. Raises `RequestError` when it has a problem."""
        settings = self._readable()
        if settings is None or settings.sign_in != "oauth":
            return {"ok": True}
        try:
            self._sign_in.keep_alive(settings, self._unseal(settings))
        except DeviceUIError as error:
            raise RequestError("no-token", _words(error)) from error
        finally:
            # After a failure, too: mail that waits for the sign-in gets the new reason.
            self._changed()
        return {"ok": True}

    def _settings(self) -> SmtpSettings:
        settings = self._readable()
        if settings is None or settings.sign_in != "oauth":
            raise RequestError("unset", "the stored settings have no sign-in by OAuth 2.0")
        return settings

    def _readable(self) -> SmtpSettings | None:
        try:
            return self._store.read()[0]
        except (Damaged, NotReadable) as error:
            raise RequestError("unset", error.message) from error


def _words(error: DeviceUIError) -> Any:
    return error.reply or error.message if isinstance(error, TokenError) else error.message
