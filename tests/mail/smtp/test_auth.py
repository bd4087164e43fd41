"""A token as the login: after the challenge, of any length, and each refusal answered as its mechanism wants it."""

from __future__ import annotations

import base64

import pytest

from device_ui.errors import Message
from device_ui.mail.smtp.outcome import SessionError
from tests.mail.smtp.test_client import ACCOUNT, HOST, PASSWORD, client_for, failure_of, opened
from tests.servers.scripted import ScriptedServer

SHORT = "ya29.a0AfH6SMB"
# As long as `token_client.TOKEN_MAXIMUM`.
LONG = "eyJ0eXAi" + "0aB-_.~+/=" * 818 + "abcd"
REFUSED = "334 " + base64.b64encode(b'{"status":"400","schemes":"Bearer","scope":"https://mail.google.com/"}').decode()
XOAUTH2, OAUTHBEARER = ("AUTH XOAUTH2",), ("AUTH OAUTHBEARER",)


def decoded(line: str) -> str:
    return base64.b64decode(line, validate=True).decode()


def sent(server: ScriptedServer) -> list[str]:
    """The lines from AUTH to the end of the login."""
    lines = server.commands
    begin = next(index for index, line in enumerate(lines) if line.upper().startswith("AUTH"))
    end = next((index for index, line in enumerate(lines) if line.upper() in ("QUIT", "RSET")), len(lines))
    return lines[begin:end]


def refusing(answer: str):
    """A server that asks for one more response before it refuses: its script for `AUTH`."""

    def refuse(session, _line):
        session.say(REFUSED)
        session.commands.append(session.line().decode().rstrip("\r\n"))
        session.say(answer)

    return refuse


@pytest.mark.parametrize("token", [SHORT, LONG], ids=["short", "8 KiB"])
def test_xoauth2_follows_the_challenge(token):
    assert len(LONG) == 8192
    with ScriptedServer(features=XOAUTH2) as server, opened(client_for(server, password=token, sign_in="oauth")):
        pass
    command, response = sent(server)
    assert command == "AUTH XOAUTH2"
    assert decoded(response) == f"user={ACCOUNT}\x01auth=Bearer {token}\x01\x01"


@pytest.mark.parametrize("token", [SHORT, LONG], ids=["short", "8 KiB"])
def test_oauthbearer_follows_the_challenge(token):
    with ScriptedServer(features=OAUTHBEARER) as server, opened(client_for(server, password=token, sign_in="oauth")):
        pass
    command, response = sent(server)
    assert command == "AUTH OAUTHBEARER"
    assert decoded(response) == f"n,a={ACCOUNT},\x01host={HOST}\x01port={server.port}\x01auth=Bearer {token}\x01\x01"
    assert len(response) + 2 <= 12288  # RFC 4954, 4


def test_name_is_escaped_for_oauthbearer():
    with ScriptedServer(features=OAUTHBEARER) as server:
        with opened(client_for(server, password=SHORT, sign_in="oauth", account="a=b,c@example.test")):
            pass
    assert decoded(sent(server)[1]).startswith("n,a=a=3Db=2Cc@example.test,\x01")


@pytest.mark.parametrize(("features", "last"), [(XOAUTH2, ""), (OAUTHBEARER, "AQ==")], ids=["XOAUTH2", "OAUTHBEARER"])
def test_refusal_with_a_reason_is_answered_for_the_verdict(features, last):
    with ScriptedServer({"AUTH": refusing("535 5.7.8 BadCredentials")}, features=features) as server:
        error = failure_of(client_for(server, password=SHORT, sign_in="oauth"))
    assert (error.step, error.problem, error.reply) == ("login", "login refused", "535 5.7.8 BadCredentials")
    assert sent(server)[2:] == [last]


@pytest.mark.parametrize("features", [XOAUTH2, OAUTHBEARER], ids=["XOAUTH2", "OAUTHBEARER"])
def test_refusal_without_a_reason_ends_the_login(features):
    with ScriptedServer({"AUTH": "535 5.7.3 Authentication unsuccessful"}, features=features) as server:
        assert failure_of(client_for(server, password=SHORT, sign_in="oauth")).login_refused
    assert len(sent(server)) == 2


@pytest.mark.parametrize("features", [XOAUTH2, OAUTHBEARER], ids=["XOAUTH2", "OAUTHBEARER"])
def test_server_that_challenges_for_ever_is_left(features):
    def again(session, line):
        while True:
            session.say(REFUSED)
            line = session.line().decode().rstrip("\r\n")
            session.commands.append(line)
            if line.upper() == "QUIT":
                return

    with ScriptedServer({"AUTH": again}, features=features) as server:
        error = failure_of(client_for(server, password=SHORT, sign_in="oauth"))
    assert not error.login_refused
    assert len([line for line in server.commands if line in ("", "AQ==")]) == 1


@pytest.mark.parametrize("offered", ["AUTH PLAIN LOGIN", "AUTH PLAIN", "AUTH SCRAM-SHA-256", "AUTH"])
def test_token_is_never_sent_as_a_password(offered):
    with ScriptedServer(features=(offered,)) as server:
        error = failure_of(client_for(server, password=SHORT, sign_in="oauth"))
    assert (error.step, error.problem) == ("login", "no token login offered")
    assert isinstance(error.reply, Message)
    assert "AUTH" not in server.verbs
    assert SHORT.encode() not in server.received


def test_password_is_never_sent_as_a_token():
    with ScriptedServer(features=("AUTH XOAUTH2 OAUTHBEARER",)) as server:
        assert failure_of(client_for(server, password=PASSWORD)).problem == "no usable login"
    assert "AUTH" not in server.verbs


def test_xoauth2_is_preferred_and_both_passwords_mechanisms_are_left_out():
    with ScriptedServer(features=("AUTH PLAIN LOGIN OAUTHBEARER XOAUTH2",)) as server:
        with opened(client_for(server, password=SHORT, sign_in="oauth")):
            pass
    assert sent(server)[0] == "AUTH XOAUTH2"


@pytest.mark.parametrize("features", [XOAUTH2, OAUTHBEARER], ids=["XOAUTH2", "OAUTHBEARER"])
@pytest.mark.parametrize("token", [SHORT + "x" * 20, LONG], ids=["short", "8 KiB"])
def test_reply_shows_no_part_of_a_token(features, token):
    def echo(session, line):
        said = token.encode().hex()[:200]
        session.say(f"535 5.7.8 not {token[:400]} as {line[-200:]} or {line[100:300]} or {said}")

    with ScriptedServer({"AUTH": echo}, features=features) as server:
        error = failure_of(client_for(server, password=token, sign_in="oauth"))
    shown = str(error.reply)
    blob = sent(server)[1]
    assert "[…]" in shown
    secrets = token, blob, token.encode().hex()
    assert not any(shown[at : at + 11] in secret for secret in secrets for at in range(len(shown) - 10))


def test_no_token_before_tls():
    refused = {"STARTTLS": "454 4.7.0 no TLS now"}
    with ScriptedServer(refused, features=("STARTTLS", "AUTH XOAUTH2")) as server:
        with pytest.raises(SessionError) as caught:
            client_for(server, password=SHORT, sign_in="oauth", security="starttls").open()
    assert caught.value.step == "tls"
    assert SHORT.encode() not in server.received and "AUTH" not in server.verbs
