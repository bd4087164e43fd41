"""A session with a mail server that signs in by OAuth 2.0: `smtp.client.SmtpClient` with an access token of `SignIn`.

A refused token may be one that the provider has ended before its time, so a stored one is renewed once and the session opened
anew. A new one that is refused is a matter of the account, its permissions or time: `TokenError`, tried again hourly, then daily.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from device_ui.mail.smtp.connection import Deadline, OnStep
from device_ui.mail.smtp.outcome import Outcome, SessionError, Step

if TYPE_CHECKING:
    from device_ui.mail.oauth.sign_in import SignIn
    from device_ui.mail.smtp.address_policy import AddressInfo
    from device_ui.mail.smtp.client import SmtpClient
    from device_ui.mail.smtp.trust import InUse
    from device_ui.settings.fields import SmtpSettings


class OAuthSession:
    """As `SmtpClient`; `connect` makes one of settings and a token, `secret` is the client secret.

    `on_step` receives the steps to the token. `renews`: a new token is asked for in any case, as a test does.
    """

    def __init__(
        self,
        settings: SmtpSettings,
        secret: str,
        sign_in: SignIn,
        connect: Callable[[SmtpSettings, str], SmtpClient],
        on_step: OnStep = lambda _step, _details: None,
        *,
        renews: bool = False,
    ) -> None:
        self._settings, self._secret, self._sign_in = settings, secret, sign_in
        self._connect, self._on_step, self._renews = connect, on_step, renews
        self._client = connect(settings, "")

    @property
    def host(self) -> str:
        """As `SmtpClient.host`."""
        return self._client.host

    @property
    def address(self) -> AddressInfo | None:
        """As `SmtpClient.address`."""
        return self._client.address

    @property
    def certificates(self) -> tuple[InUse, ...]:
        """As `SmtpClient.certificates`."""
        return self._client.certificates

    @property
    def deadline(self) -> Deadline:
        """As `SmtpClient.deadline`."""
        return self._client.deadline

    @property
    def is_open(self) -> bool:
        """As `SmtpClient.is_open`."""
        return self._client.is_open

    @property
    def local_address(self) -> str:
        """As `SmtpClient.local_address`."""
        return self._client.local_address

    @property
    def size_maximum(self) -> int:
        """As `SmtpClient.size_maximum`."""
        return self._client.size_maximum

    @property
    def step(self) -> Step:
        """As `SmtpClient.step`."""
        return self._client.step

    def open(self, on_wait: Callable[[float], None] = lambda _seconds: None) -> None:
        """Get a token, then go through the steps from the name to the login; `on_wait` as `SmtpClient.open`'s. Raises
        `SessionError`."""
        access = self._sign_in.access(self._settings, self._secret, self._on_step, renews=self._renews)
        try:
            self._open(access.token, on_wait)
        except SessionError as error:
            if not error.login_refused:
                raise
            if access.is_new:
                raise self._sign_in.refused(self._settings, error.reply) from None
            self._open_anew(on_wait)
        self._sign_in.accepted(self._settings)

    def deliver(
        self, recipients: Sequence[str], message: bytes, *, on_wait: Callable[[float], None] = lambda _seconds: None
    ) -> dict[str, Outcome]:
        """As `SmtpClient.deliver`."""
        return self._client.deliver(recipients, message, on_wait=on_wait)

    def end_wait(self) -> None:
        """As `SmtpClient.end_wait`."""
        self._client.end_wait()

    def close(self) -> None:
        """As `SmtpClient.close`."""
        self._client.close()

    def _open_anew(self, on_wait: Callable[[float], None]) -> None:
        access = self._sign_in.access(self._settings, self._secret, self._on_step, renews=True)
        try:
            self._open(access.token, on_wait)
        except SessionError as error:
            if error.login_refused:
                raise self._sign_in.refused(self._settings, error.reply) from None
            raise

    def _open(self, token: str, on_wait: Callable[[float], None]) -> None:
        self._client = self._connect(self._settings, token)
        self._client.open(on_wait)
