"""Commands in groups (RFC 2920): half the round trips, and every verdict as without; a server that cannot do it loses no mail."""

from __future__ import annotations

import pytest

from device_ui.mail.smtp.outcome import DELIVERED, REFUSED, TRY_LATER
from tests.mail.smtp.test_client import FIRST, MAIL, QUICK, SECOND, THIRD, courier_for, opened
from tests.mail.smtp.test_client import deliver as deliver_by
from tests.servers import scripted
from tests.servers.scripted import Over, ScriptedServer

FEATURES = ("AUTH PLAIN LOGIN", "PIPELINING", "SIZE 1000000")
EVERYBODY = [FIRST, SECOND, THIRD]


def server(script=None, features=FEATURES) -> ScriptedServer:
    """A server that says that it takes groups."""
    return ScriptedServer(script or {}, features=features)


def deliver(there, recipients=EVERYBODY, **options):
    """One session with one mail; the outcomes."""
    return deliver_by(courier_for(there, options=options), recipients)


def verdicts(outcomes) -> list[str]:
    """What became of each recipient."""
    return [each.verdict for each in outcomes.values()]


def lost_after(kept: int):
    """A server that reads a group's first commands and throws away the rest of what it has got by then."""

    def flush(session, _line):
        count = session.server.kept = getattr(session.server, "kept", 0) + 1
        session.say("250 2.0.0 ok")
        if count == kept:
            session._buffer.clear()

    return flush


# What goes well


def test_a_mail_takes_two_round_trips():
    said: list[bytes] = []

    def watch(session, _line):
        session.sock = Watched(session.sock, said)
        session.say("235 2.7.0 welcome")

    with server({"AUTH": watch}) as there:
        assert verdicts(deliver(there)) == [DELIVERED] * 3
    assert [piece.count(b"\r\n") for piece in said[:2]] == [5, MAIL.count(b"\r\n") + 1]


class Watched:
    """The server's socket; what it reads at a time is kept in `said`."""

    def __init__(self, sock, said) -> None:
        self._sock, self._said = sock, said

    def recv(self, most: int) -> bytes:
        self._said.append(self._sock.recv(most))
        return self._said[-1]

    def __getattr__(self, name: str):
        return getattr(self._sock, name)


def test_a_server_that_does_not_offer_it_is_asked_one_by_one():
    def hasty(session, _line):
        assert not session._buffer, "a command came before the answer to the last"
        session.say("250 ok")

    with server({"MAIL": hasty, "RCPT": hasty}, ("AUTH PLAIN LOGIN",)) as there:
        assert verdicts(deliver(there)) == [DELIVERED] * 3


def test_many_mails_in_one_session_are_each_a_group():
    with server() as there, opened(courier_for(there)) as courier:
        assert [verdicts(courier.deliver([FIRST], MAIL)) for _ in range(3)] == [[DELIVERED]] * 3
    assert there.mails == [MAIL] * 3


# Every verdict is the one that it would be without


@pytest.mark.parametrize("features", [FEATURES, ("AUTH PLAIN LOGIN",)], ids=["grouped", "single"])
@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ({"RCPT": ("250 ok", "550 no", "250 ok")}, [DELIVERED, REFUSED, DELIVERED]),
        ({"RCPT": ("450 later", "250 ok", "550 no")}, [TRY_LATER, DELIVERED, REFUSED]),
        ({"RCPT": "550 no"}, [REFUSED] * 3),
        ({"RCPT": "450 later"}, [TRY_LATER] * 3),
        ({"RCPT": ("550 no", "421 going")}, [REFUSED, TRY_LATER, TRY_LATER]),
        ({"MAIL": "451 not now"}, [TRY_LATER] * 3),
        ({"MAIL": "550 not you"}, [TRY_LATER] * 3),
        ({"MAIL": "421 going"}, [TRY_LATER] * 3),
        ({"DATA": "554 no"}, [REFUSED] * 3),
        ({"DATA": "250 what"}, [TRY_LATER] * 3),
        ({"DATA": "421 going"}, [TRY_LATER] * 3),
        ({"content": "554 spam"}, [REFUSED] * 3),
        ({"content": "452 full"}, [TRY_LATER] * 3),
        ({"RCPT": ("250 ok", "550 no", "250 ok"), "content": "554 spam"}, [REFUSED] * 3),
        ({"RCPT": ("251 will forward", "252 will try", "299 odd")}, [DELIVERED] * 3),
        ({"RCPT": ("252 will try", "550 no", "354 odd")}, [DELIVERED, REFUSED, TRY_LATER]),
        ({"MAIL": "252 odd"}, [DELIVERED] * 3),
        ({"content": "252 odd"}, [DELIVERED] * 3),
    ],
)
def test_verdicts_do_not_depend_on_groups(script, expected, features):
    with server(script, features) as there:
        outcomes = deliver(there)
    assert [outcomes[each].verdict for each in EVERYBODY] == expected


@pytest.mark.parametrize("after", ["250 2.0.0 queued", "554 5.5.1 no valid recipients"])
@pytest.mark.parametrize("data", ["354 go ahead", "503 5.5.1 no valid recipients"])
def test_nobody_who_takes_the_mail_gets_none_of_it(data, after):
    script = {"RCPT": "550 no", "DATA": data, "content": after, ".": after}
    with server(script) as there, opened(courier_for(there)) as courier:
        assert verdicts(courier.deliver([FIRST], MAIL)) == [REFUSED]
        assert courier.is_open
        there.script.clear()
        assert verdicts(courier.deliver([FIRST], MAIL)) == [DELIVERED]
    assert there.received.count(MAIL) == 1
    assert there.verbs.count(".") == (data[:3] == "354")


def test_a_server_that_takes_a_mail_for_nobody_gets_no_second_one():
    halting: set[tuple[str, int]] = set()
    with server({"RCPT": "450 later", "DATA": "354 go ahead", "content": "250 queued", ".": "250 queued"}) as there:
        for _ in range(3):
            assert verdicts(deliver(there, halting=halting)) == [TRY_LATER] * 3
    assert there.verbs.count("DATA") == 1


# Servers that say it and cannot do it


@pytest.mark.parametrize("kept", [1, 2, 4])
def test_a_server_that_loses_part_of_a_group_gets_the_next_mail_word_by_word(kept):
    halting: set[tuple[str, int]] = set()
    flush = lost_after(kept)
    with server({"MAIL": flush, "RCPT": flush}) as there:
        assert verdicts(deliver(there, attempt_seconds=QUICK, halting=halting)) == [TRY_LATER] * 3
        there.script.clear()
        assert halting == {("mail.example.test", there.port)}
        assert verdicts(deliver(there, halting=halting)) == [DELIVERED] * 3
    assert len(there.mails) == 1


@pytest.mark.parametrize("step", ["MAIL", "RCPT", "DATA"])
@pytest.mark.parametrize("code", [500, 501, 502, 503, 504])
def test_a_refusal_that_may_mean_another_command_refuses_no_mail(step, code):
    halting: set[tuple[str, int]] = set()
    with server({step: f"{code} bad sequence"}) as there:
        outcomes = deliver(there, halting=halting)
        assert set(verdicts(outcomes)) == {TRY_LATER} and len(outcomes) == 3
        assert halting
        assert set(verdicts(deliver(there, halting=halting))) == {TRY_LATER if step == "MAIL" else REFUSED}
    assert there.mails == []


@pytest.mark.parametrize(
    "behaviour", [scripted.silent, scripted.close, scripted.reset, scripted.half_line, scripted.garbage]
)
@pytest.mark.parametrize("step", ["MAIL", "RCPT", "DATA"])
def test_whatever_goes_wrong_within_a_group_is_tried_again(step, behaviour):
    with server({step: behaviour}) as there:
        outcomes = deliver(there, attempt_seconds=QUICK)
    assert verdicts(outcomes) == [TRY_LATER] * 3
    assert MAIL not in there.received


def test_a_server_that_goes_after_a_group_is_told_nothing_more():
    def gone(session, _line):
        session.say("421 4.3.2 going")
        raise Over

    with server({"MAIL": gone}) as there:
        outcomes = deliver(there)
    assert outcomes[FIRST].reply == "421 4.3.2 going"
    assert there.received.endswith(b"data\r\n")
