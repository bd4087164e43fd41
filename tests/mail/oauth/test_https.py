"""A provider that misbehaves: each exchange ends in time, at a step with a problem, and nothing is lost or leaked."""

from __future__ import annotations

import base64
import time

import pytest

from device_ui.mail.oauth.outcome import TokenError
from device_ui.mail.smtp.tls import trusted
from tests.mail.oauth.conftest import HOST, settings_for
from tests.servers.authority import Authority
from tests.servers.provider import Provider, drip, drip_body, endless, endless_head, half, http, silent
from tests.servers.scripted import chain_file, leading_to

DEADLINE = 2.0
IN_TIME = 60.0  # far above the deadline, with room for a busy machine; a drip would take hours
MEGABYTE = "x" * 1_000_000


def failure(bench, settings, secret="secret") -> TokenError:
    began = time.monotonic()
    with pytest.raises(TokenError) as caught:
        bench.sign_in.access(settings, secret)
    assert time.monotonic() - began < IN_TIME
    return caught.value


@pytest.mark.parametrize(
    ("answer", "problem", "wait"),
    [
        (endless, "endless", 0),
        (endless_head, "endless", 0),
        (half, "closed", 0),
        (b"", "closed", 0),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "not understood", 0),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 5000 + b"\r\n", "not understood", 0),
        (http(200, ""), "not understood", 0),
        (http(200, "<html>Sign in</html>"), "not understood", 0),
        (http(200, "[" * 20_000), "not understood", 0),
        (http(200, []), "not understood", 0),
        (http(200, {"error": "access_token"}), "not understood", 0),
        (http(200, {"access_token": ""}), "not understood", 0),
        (http(200, {"access_token": None}), "not understood", 0),
        (http(200, {"access_token": "two words"}), "not understood", 0),
        (http(200, {"access_token": "line\r\nMAIL FROM:<x>"}), "not understood", 0),
        (http(200, {"access_token": "x" * 8193}), "not understood", 0),
        (http(200, {"access_token": MEGABYTE}), "endless", 0),
        (http(200, {"access_token": "good", "refresh_token": "x" * 8193}), "not understood", 0),
        (http(302, "", "Location: https://evil.example.test/token"), "redirected", 0),
        (http(307, "", "Location: https://login.example.test/other"), "redirected", 0),
        (http(503, ""), "busy", 0),
        (http(503, "busy", "Retry-After: 120"), "busy", 120),
        (
            http(503, "", "Date: Fri, 15 Jan 2027 12:00:00 GMT", "Retry-After: Fri, 15 Jan 2027 12:10:00 GMT"),
            "busy",
            600,
        ),
        (http(503, "", "Retry-After: 99999999999999"), "busy", 0),
        (http(503, "", "Retry-After: 999999999"), "busy", 86400),
        (http(503, "", "Retry-After: -5"), "busy", 0),
        (http(503, "", "Retry-After: soon"), "busy", 0),
        (http(429, {"error": "slow_down"}, "Retry-After: 7"), "busy", 7),
        (http(400, ""), "not understood", 0),
        (http(400, {"error": "invalid_grant"}), "grant ended", 3600),
        (http(400, {"error": "interaction_required"}), "grant ended", 3600),
        (http(401, {"error": "invalid_client"}), "client refused", 3600),
        (http(403, ""), "client refused", 3600),
        # soundcloud/api#489, planningcenter/developers#1310: a firewall in front of the provider.
        (http(403, "<html><h1>403 ERROR</h1>The request could not be satisfied.</html>"), "not understood", 0),
        (http(401, {"error": "something_new"}), "client refused", 3600),
        (http(400, {"error": "something_new"}), "answer", 0),
        (http(400, {"error": "invalid_resource"}), "client refused", 3600),
        (http(500, {"error": "access_denied", "error_description": "Global limit has been reached"}), "busy", 0),
        (http(400, {"error": "temporarily_unavailable"}), "busy", 0),
        (http(400, {"error": ["invalid_grant"]}), "not understood", 0),
    ],
)
def test_answer_of_the_token_endpoint(bench, provider, answer, problem, wait):
    provider.answers["/token"] = answer
    error = failure(bench, settings_for(provider, "secret"))
    assert (error.step, error.problem, error.retry_after) == ("token answer", problem, wait)
    assert len(provider.forms) == 1  # no redirect is followed, and nothing is sent twice


TOKEN = b'{"access_token": "good"}'


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\n\r\n" + TOKEN,
        b"HTTP/1.0 200 OK\r\n\r\n" + TOKEN,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n18\r\n" + TOKEN + b"\r\n0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 24\r\n\r\n" + TOKEN,
        b"HTTP/1.1 201 Created\r\ncontent-length: 24\r\nContent-Type: text/html\r\n\r\n" + TOKEN,
    ],
    ids=["until the end", "HTTP/1.0", "chunked", "after 100", "another type"],
)
def test_body_is_read_however_it_ends(bench, provider, answer):
    provider.answers["/token"] = answer
    assert bench.sign_in.access(settings_for(provider, "secret"), provider.secret).token == "good"


@pytest.mark.parametrize("path", ["/token", "oauth-authorization-server/realm"])
@pytest.mark.parametrize("answer", [silent, drip, drip_body], ids=lambda answer: answer.__name__)
def test_slow_server_ends_with_the_deadline(bench, provider, path, answer):
    bench.seconds = DEADLINE
    provider.answers[path] = answer
    assert failure(bench, settings_for(provider, "secret")).problem == "silent"


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (http(200, {"issuer": "https://evil.example.test"}), "another issuer"),
        (http(200, {"issuer": 7}), "another issuer"),
        (http(200, ""), "not understood"),
        (http(301, "", "Location: https://evil.example.test/"), "redirected"),
        (http(503, ""), "busy"),
        (endless, "endless"),
    ],
)
def test_answer_of_the_issuer(bench, provider, answer, problem):
    provider.answers["oauth-authorization-server/realm"] = answer
    error = failure(bench, settings_for(provider, "secret"))
    assert (error.step, error.problem) == ("token answer", problem)
    assert provider.forms == []


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://login.example.test/token",
        "https://",
        "https:///x",
        "https://a@b/x",
        7,
        None,
        "https://h:0/",
        "https://h:x/",
    ],
)
def test_endpoint_that_is_no_https_address_gets_nothing(bench, provider, endpoint):
    values = {"issuer": provider.issuer, "token_endpoint": endpoint}
    provider.answers["oauth-authorization-server/realm"] = http(200, values)
    assert failure(bench, settings_for(provider, "secret")).problem == "not understood"
    assert provider.forms == []


def test_issuer_is_the_one_that_was_typed_to_the_letter(bench, provider):
    settings = settings_for(provider, "secret", oauth_issuer=f"{provider.issuer}/")
    assert failure(bench, settings).problem == "another issuer"


@pytest.mark.parametrize("status", [404, 400, 401, 403, 405])
def test_metadata_of_openid_serves_where_the_other_is_not(bench, provider, status):
    """Cognito answers 400 where it has no document, gateways in front of others 401 and 403 (typescript-sdk#804 and #2783)."""
    made = provider.respond

    def only_openid(request):
        if request.path == "/realm/.well-known/openid-configuration":
            return 200, {"issuer": provider.issuer, "token_endpoint": f"{provider.issuer}/token"}
        return (status, {}) if "well-known" in request.path else made(request)

    provider.respond = only_openid
    assert bench.sign_in.access(settings_for(provider, "secret"), provider.secret).is_new


# Before anything is sent


@pytest.mark.parametrize(
    ("names", "step", "problem"),
    [
        (["other.example.test"], "token certificate", "another name"),
        ([HOST], "token certificate", "issuer missing"),
    ],
    ids=["another name", "issuer missing"],
)
def test_wrong_certificate_gets_no_secret(bench, certificates, tmp_path, names, step, problem):
    authority = certificates.authority if problem == "another name" else Authority("Of somebody else")
    with Provider(chain_file(authority.issue(names), tmp_path / "chain.pem")) as provider:
        error = failure(bench, settings_for(provider, "secret"))
        assert (error.step, error.problem) == (step, problem)
        assert provider.requests == []


@pytest.mark.parametrize("address", ["127.0.0.1", "169.254.169.254", "0.0.0.0"])
def test_address_of_the_device_itself_is_refused(bench, provider, address):
    bench.allow_loopback, bench.resolver = False, leading_to(address)
    bench.restart()
    error = failure(bench, settings_for(provider, "secret"))
    assert (error.step, error.problem) == ("token address", "not allowed")
    assert provider.requests == []


def test_nothing_listens(bench, provider):
    settings = settings_for(provider, "secret", oauth_issuer="https://login.example.test:1")
    error = failure(bench, settings)
    assert (error.step, error.problem) == ("token connect", "refused")


def test_environment_sets_no_proxy(bench, provider, monkeypatch):
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert bench.sign_in.access(settings_for(provider, "secret"), provider.secret).is_new


def test_context_verifies_names_and_authorities(certificates):
    assert trusted().check_hostname


# Steps as data, and words without a secret


def test_steps_are_reported_in_order(bench, provider):
    bench.sign_in.access(settings_for(provider, "secret"), provider.secret, bench.on_step)
    assert list(dict.fromkeys(bench.steps)) == [
        "token name",
        "token address",
        "token connect",
        "token tls",
        "token certificate",
        "token answer",
    ]


@pytest.mark.parametrize(
    "spell",
    [
        lambda secret: secret,
        lambda secret: base64.b64encode(secret.encode()).decode(),
        lambda secret: base64.b64encode(f"device-1:{secret}".encode()).decode(),
        lambda secret: secret.encode().hex(),
    ],
    ids=["plain", "base64", "the header", "hexadecimal"],
)
def test_provider_that_repeats_the_secret_shows_none_of_it(bench, provider, spell):
    said = spell(provider.secret)
    provider.answers["/token"] = http(400, {"error": "invalid_request", "error_description": f"not {said}!"})
    error = failure(bench, settings_for(provider, "secret"), provider.secret)
    shown = str(error.reply)
    assert "[…]!" in shown
    assert not any(said[at : at + 8] in shown for at in range(len(said) - 7))


@pytest.mark.parametrize(
    "values",
    [
        {
            "error": "invalid_client",
            "error_codes": [7000222],
            "error_description": "AADSTS7000222: The keys are expired.",
        },
        {"error": "invalid_client", "error_description": "AADSTS7000222: The provided client secret keys are expired."},
    ],
    ids=["as a number", "in the text"],
)
def test_number_of_microsoft_comes_first(bench, provider, values):
    provider.answers["/token"] = http(401, values)
    error = failure(bench, settings_for(provider, "secret"))
    assert str(error.reply).startswith("AADSTS7000222 401 invalid_client: AADSTS7000222")
    assert error.problem == "client refused"


def test_number_decides_no_verdict(bench, provider):
    provider.answers["/token"] = http(503, {"error": "invalid_grant", "error_codes": [7000222]})
    assert failure(bench, settings_for(provider, "secret")).problem == "busy"
