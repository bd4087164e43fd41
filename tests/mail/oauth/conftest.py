"""A device whose sign-in goes to a provider on loopback, with clocks that the test moves."""

from __future__ import annotations

from pathlib import Path

import pytest

from device_ui.mail.clock import Clock
from device_ui.mail.daemon import sign_in_records
from device_ui.mail.oauth.https import Exchange
from device_ui.mail.oauth.record import SignInRecord
from device_ui.mail.oauth.sign_in import SignIn
from device_ui.mail.oauth.signing_key import SigningKeys
from device_ui.mail.oauth.token_client import TokenClient
from device_ui.mail.smtp.client import ClientOptions
from device_ui.settings import keys
from device_ui.settings.fields import SmtpSettings
from tests.servers.authority import Certificates
from tests.servers.provider import SAME, Provider
from tests.servers.scripted import leading_to

HOST = "login.example.test"


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    return Certificates(HOST, tmp_path_factory.mktemp("provider"))


@pytest.fixture
def provider(certificates):
    with Provider(certificates.chain()) as provider:
        yield provider


class Bench:
    """One device. `restart` starts its hook anew; `wall` and `boot` are its clocks, in seconds; `events` are those it raised."""

    # For an exchange, on a machine that is busy with other things.
    seconds = 120.0

    def __init__(self, folders, context) -> None:
        self.folders, self.context = folders, context
        self.wall, self.boot, self.boot_id = 1.8e9, 1000.0, "first"
        self.events: list[tuple[str, str]] = []
        folders.key_file.parent.mkdir(parents=True, mode=0o700)
        folders.public_key.parent.mkdir(parents=True)
        keys.load_pair(folders.private_key, folders.public_key)
        self.steps: list[str] = []
        self.resolver = leading_to("127.0.0.1")
        self.allow_loopback = True
        self.restart()

    def restart(self) -> None:
        clock = Clock(wall=lambda: self.wall, boot=lambda: self.boot, boot_id=self.boot_id, synchronized=lambda: True)
        tokens, key = sign_in_records(self.folders)
        self.record = SignInRecord(tokens)
        self.keys = SigningKeys(key, clock.now)
        self.client = TokenClient(self.exchange, self.keys, HOST)
        self.sign_in = SignIn(self.record, self.keys, lambda: self.client, clock, self._raise)

    def exchange(self, *on_step) -> Exchange:
        options = ClientOptions(self.context, "", self.allow_loopback, self.resolver)
        return Exchange(options, *(on_step or (self.on_step,)), seconds=self.seconds)

    def on_step(self, step, details) -> None:
        self.steps.append(str(step))

    def later(self, seconds: float) -> None:
        self.wall, self.boot = self.wall + seconds, self.boot + seconds

    def file(self, path: Path) -> bytes:
        return path.read_bytes()

    def _raise(self, kind, text) -> None:
        self.events.append((kind.code, str(text)))


@pytest.fixture
def bench(folders, certificates):
    return Bench(folders, certificates.context)


def settings_for(provider: Provider, grant: str = "device", **changes) -> SmtpSettings:
    values = {
        "host": "mail.example.test",
        "port": 587,
        "sender_name": "Lamp",
        "account": "alarm@example.test",
        "sign_in": "oauth",
        "oauth_provider": "custom",
        "oauth_grant": grant,
        "oauth_issuer": provider.issuer,
        "oauth_client": provider.client,
        "oauth_until": "2027-06-01" if grant == "secret" else "",
        "sealed": "sealed" if grant == "secret" else None,
    }
    return SmtpSettings(**{**values, **changes})


def signed_in(bench: Bench, provider: Provider, rotation: str = SAME, lives: float = 0, **changes) -> SmtpSettings:
    """The settings of a person who signed in; the provider says that the refresh token `lives` so many seconds, 0: nothing."""
    settings = settings_for(provider, **changes)
    provider.rotation = rotation
    from device_ui.mail.oauth.token_client import Tokens

    made = Tokens("access-first", provider.sign_in(), 3600, int(lives), provider.person)
    bench.sign_in.signed_in(settings, made)
    return settings
