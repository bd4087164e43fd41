"""A session with a mail server by token: one renewal for a stored token that is refused, and no lockout."""

from __future__ import annotations

import base64

import pytest

from device_ui.mail.oauth.outcome import TokenError
from device_ui.mail.oauth.session import OAuthSession
from device_ui.mail.smtp.client import ClientOptions, SmtpClient
from device_ui.mail.smtp.connection import Timeouts
from device_ui.mail.smtp.outcome import SmtpProblem
from tests.mail.oauth.conftest import settings_for
from tests.servers.scripted import ScriptedServer, leading_to

MAIL = b"From: <alarm@example.test>\r\nSubject: one\r\n\r\nhello\r\n"


def session(bench, provider, server, secret="", **more) -> OAuthSession:
    settings = settings_for(provider, "secret", port=server.port, security="none", host="localhost")
    options = ClientOptions(bench.context, "", True, leading_to("127.0.0.1"))

    def connect(settings, token):
        return SmtpClient(settings, token, options, Timeouts(attempt=120.0))

    return OAuthSession(settings, secret or provider.secret, bench.sign_in, connect, bench.on_step, **more)


def taking(provider):
    """A mail server's verdict: it takes the newest token alone."""

    def judge(smtp, line):
        token = base64.b64decode(line).decode().partition("Bearer ")[2].rstrip("\x01")
        smtp.say(
            "235 welcome" if token == provider.access[-1] and provider.access[-1] != refused[0] else "535 5.7.3 no"
        )

    refused = [""]
    judge.refused = refused
    return judge


def test_mail_goes_out_by_token(bench, provider):
    with ScriptedServer({"AUTH": taking(provider)}, features=("AUTH XOAUTH2",)) as server:
        one = session(bench, provider, server)
        one.open()
        outcomes = one.deliver(["you@example.test"], MAIL)
        one.close()
    assert outcomes["you@example.test"].verdict == "delivered"
    assert bench.steps[:1] == ["token name"] and bench.steps[-1] == "token answer"


def test_stored_token_that_is_refused_is_renewed_once(bench, provider):
    judge = taking(provider)
    with ScriptedServer({"AUTH": judge}, features=("AUTH XOAUTH2",)) as server:
        one = session(bench, provider, server)
        one.open()
        one.close()
        judge.refused[0] = provider.access[-1]  # revoked
        two = session(bench, provider, server)
        two.open()
        two.close()
    assert len(provider.forms) == 2
    assert server.verbs.count("AUTH") == 3


def test_new_token_that_is_refused_is_no_refused_login(bench, provider):
    with ScriptedServer({"AUTH": "535 5.7.3 Authentication unsuccessful"}, features=("AUTH XOAUTH2",)) as server:
        with pytest.raises(TokenError) as caught:
            session(bench, provider, server).open()
        assert server.verbs.count("AUTH") == 1
        with pytest.raises(TokenError):
            session(bench, provider, server).open()
        assert server.verbs.count("AUTH") == 2
    error = caught.value
    assert (error.step, error.problem) == ("login", SmtpProblem.TOKEN_REFUSED)
    assert not error.login_refused
    assert error.retry_after == 3600


def test_test_of_a_user_asks_for_a_new_token(bench, provider):
    with ScriptedServer({"AUTH": taking(provider)}, features=("AUTH XOAUTH2",)) as server:
        for _ in range(2):
            one = session(bench, provider, server, renews=True)
            one.open()
            one.close()
    assert len(provider.forms) == 2


def test_without_a_token_no_mail_server_is_called(bench, provider):
    provider.secret = "another one"
    with ScriptedServer(features=("AUTH XOAUTH2",)) as server:
        one = session(bench, provider, server, secret="wrong")
        with pytest.raises(TokenError) as caught:
            one.open()
        one.close()
    assert caught.value.step == "token answer"
    assert server.sessions == []
