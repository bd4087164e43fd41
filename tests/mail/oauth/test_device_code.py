"""A person signs in with a code: what the page sees, and how often the provider is asked (RFC 8628)."""

from __future__ import annotations

import threading

import pytest

from device_ui.errors import RequestError
from device_ui.mail.oauth.device_code import DeviceCodeFlow
from tests.mail.oauth.conftest import settings_for, signed_in
from tests.servers.provider import http

PATIENCE = 120.0


class Person:
    """Waits in place of the flow: `acts` holds what happens in each wait, by its number; the clock moves by its seconds."""

    def __init__(self, bench, provider) -> None:
        self.bench, self.provider = bench, provider
        self.now, self.waits = 100.0, []
        self.acts = {}
        self.done, self.calls = threading.Event(), 0
        self.flow = DeviceCodeFlow(bench.sign_in, lambda: bench.client, lambda: self.now, self.called, self.waited)

    def called(self) -> None:
        self.calls += 1

    def waited(self, event, seconds) -> bool:
        return self.wait(event, seconds)

    def wait(self, event, seconds) -> bool:
        self.waits.append(seconds)
        self.now += seconds
        self.acts.get(len(self.waits), lambda: None)()
        return event.is_set()

    def sign_in(self, phase="done") -> None:
        for code in self.provider.codes:
            self.provider.codes[code] = phase

    def run(self, settings) -> dict:
        """Begin, and wait for the end of the flow's thread."""
        self.flow.begin(settings)
        for thread in threading.enumerate():
            if thread.name == "device code":
                thread.join(PATIENCE)
        return self.flow.state()


@pytest.fixture
def person(bench, provider):
    return Person(bench, provider)


def test_code_address_and_seconds_are_shown_and_then_the_grant_is_there(person, bench, provider):
    settings, seen = settings_for(provider), []
    person.acts = {1: lambda: seen.append((person.flow.state(), *provider.codes)), 3: person.sign_in}
    assert person.run(settings)["phase"] == "done"
    ((shown, code),) = seen
    assert (shown["phase"], shown["code"], shown["address"]) == ("waiting", "WDJB-MJHT", f"{provider.issuer}/activate")
    assert shown["seconds"] == 895
    assert code not in str(shown)
    assert person.waits == [5, 5, 5]
    assert person.calls == 1
    assert bench.sign_in.access(settings, "").token == provider.access[-1]
    assert bench.sign_in.state(settings)["person"] == provider.person
    assert provider.forms[0].get("client_secret") is None  # a public client has none (AADSTS700025)


def test_slow_down_adds_five_seconds_for_good(person, provider):
    person.acts = {
        1: lambda: person.sign_in("slow_down"),
        2: lambda: person.sign_in("authorization_pending"),
        3: lambda: person.sign_in("slow_down"),
        4: person.sign_in,
    }
    assert person.run(settings_for(provider))["phase"] == "done"
    assert person.waits == [5, 10, 10, 15]


def test_missing_interval_is_five_seconds(person, provider):
    made = provider.respond

    def without(request):
        status, values = made(request)
        return status, {name: value for name, value in values.items() if name != "interval"}

    provider.respond = without
    person.acts = {1: person.sign_in}
    person.run(settings_for(provider))
    assert person.waits == [5]


def test_time_out_doubles_the_wait(person, provider):
    provider.answers["/token"] = [b"", b""]
    person.acts = {3: person.sign_in}
    assert person.run(settings_for(provider))["phase"] == "done"
    assert person.waits == [5, 10, 20]


def test_time_out_takes_nothing_of_what_slow_down_added(person, provider):
    provider.answers["/token"] = [b"", b"", b"", b"", http(400, {"error": "slow_down"}), b""]
    person.acts = {7: person.sign_in}
    assert person.run(settings_for(provider))["phase"] == "done"
    assert person.waits == [5, 10, 20, 40, 60, 65, 65]


@pytest.mark.parametrize("status", [429, 500])
def test_overloaded_provider_ends_no_code(person, provider, status):
    """Auth0: 500, access_denied, "Global limit has been reached"."""
    provider.answers["/token"] = [
        http(status, {"error": "access_denied"}),
        http(status, {"error": "too_many_requests"}),
    ]
    person.acts = {3: person.sign_in}
    assert person.run(settings_for(provider))["phase"] == "done"
    assert person.waits == [5, 10, 20]


def test_code_that_ends_is_asked_for_no_longer(person, provider):
    assert person.run(settings_for(provider))["phase"] == "expired"
    assert len(provider.forms) == 179  # 900 seconds, one request in five, none at the end
    assert person.calls == 0


@pytest.mark.parametrize(
    ("error", "phase"),
    [
        ("access_denied", "declined"),
        ("authorization_declined", "declined"),
        ("expired_token", "expired"),
        ("bad_verification_code", "expired"),
        ("invalid_grant", "failed"),
        ("invalid_client", "failed"),
        ("something_new", "failed"),
    ],
)
def test_each_end_has_its_phase(person, provider, error, phase):
    person.acts = {1: lambda: person.sign_in(error)}
    state = person.run(settings_for(provider))
    assert (state["phase"], state["code"]) == (phase, "")
    assert len(provider.forms) == 1


def test_answer_without_a_refresh_token_is_a_failure_and_keeps_the_former_sign_in(person, bench, provider):
    settings = signed_in(bench, provider)
    before = bench.file(bench.folders.sign_in)
    provider.answers["/token"] = http(200, {"access_token": "access", "token_type": "Bearer", "expires_in": 3600})
    state = person.run(settings)
    assert (state["phase"], state["step"], state["problem"]) == ("failed", "token answer", "not signed in")
    assert str(state["reply"]) == (
        "the provider gave no refresh token, without which the sign-in ends with its first access token: "
        "add offline_access to the scope, and have the provider allow refresh tokens for this application"
    )
    assert (person.calls, bench.file(bench.folders.sign_in)) == (0, before)


def test_cancelled_flow_asks_no_longer_and_keeps_nothing(person, bench, provider):
    person.acts = {2: person.flow.cancel}
    assert person.run(settings_for(provider))["phase"] == "cancelled"
    assert len(provider.forms) == 1
    assert not bench.folders.sign_in.exists()
    assert not person.flow.is_open


def test_provider_without_a_code_says_so(person, provider):
    provider.answers["/device"] = http(400, {"error": "unauthorized_client", "error_description": "no device flow"})
    state = person.run(settings_for(provider))
    assert (state["phase"], state["problem"]) == ("failed", "client refused")
    assert "no device flow" in str(state["reply"])
    assert str(state["advice"]).startswith("The provider does not allow this grant to the application: ")


@pytest.mark.parametrize(
    "address", ["javascript:alert(1)", "http://login.example.test/", "", None, "https://" + "x" * 600]
)
def test_address_that_a_page_must_not_show_is_refused(person, provider, address):
    values = {"device_code": "secret-code", "user_code": "ABCD", "verification_uri": address, "expires_in": 900}
    provider.answers["/device"] = http(200, values)
    state = person.run(settings_for(provider))
    assert (state["phase"], state["problem"], state["address"]) == ("failed", "not understood", "")


def test_new_flow_follows_one_that_was_cancelled(person, provider):
    person.acts = {1: person.flow.cancel, 2: person.sign_in}
    assert person.run(settings_for(provider))["phase"] == "cancelled"
    assert person.run(settings_for(provider))["phase"] == "done"


def test_flows_one_after_another_are_few(person, provider):
    person.wait = lambda event, seconds: True
    for _ in range(10):
        person.run(settings_for(provider))
    with pytest.raises(RequestError) as caught:
        person.flow.begin(settings_for(provider))
    assert (caught.value.word, caught.value.seconds) == ("too-many", 30)
    assert len(provider.requests) == 20


@pytest.mark.parametrize("grant", ["certificate", "secret"])
def test_other_grants_need_no_code(person, provider, grant):
    with pytest.raises(RequestError):
        person.flow.begin(settings_for(provider, grant))
    assert provider.requests == []
