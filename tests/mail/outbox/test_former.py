"""The sentences of older ledgers are shown in the reader's language: a migration makes messages of them, and of nothing else."""

from __future__ import annotations

import contextlib
import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_ui.errors import Message, from_stored, to_stored
from device_ui.i18n.translator import load
from device_ui.mail.delivery import server_change
from device_ui.mail.events import Delivery, Event
from device_ui.mail.outbox import former
from device_ui.mail.outbox.outbox import Outbox
from tests.mail.outbox.test_outbox import without_actions

KO = load("ko")
SERVERS = (
    "Before: a.example port 25, account one@a.example, security none",
    "Now: b.example port 587, account two@b.example, security auto",
)
NOBODY = "Nobody is warned by mail: no server before this one takes any."


def korean(stored: str) -> str:
    return KO(Message(from_stored(stored)))


@pytest.mark.parametrize(
    ("convert", "stored", "shown"),
    [
        (former.source_of, "SMTP tab, from 192.0.2.7", "SMTP 탭, 192.0.2.7에서"),
        (former.source_of, "not known", "알 수 없음"),
        (
            former.text_of,
            "\n".join(SERVERS),
            "이전: a.example 포트 25, 계정 one@a.example, 보안 none\n현재: b.example 포트 587, 계정 two@b.example, 보안 auto",
        ),
        (
            former.reply_of,
            "given up after 5 days: connect nothing listens at this port",
            "5일 후 포기함: 연결 이 포트에서 응답하는 서버가 없습니다",
        ),
        (former.reply_of, "given up after 5 days: recipient 450 4.2.0 busy", "5일 후 포기함: 수신자 450 4.2.0 busy"),
        (former.reply_of, "given up after 5 days: login", "5일 후 포기함: 로그인 "),
        (former.reply_of, "four warnings an hour are the most", "경고는 한 시간에 네 번까지 보냅니다"),
        (
            former.reply_of,
            to_stored(
                Message(
                    "given up after 5 days: {step} {reply}",
                    step=Message("login"),
                    reply=Message("the mail service had a fault; its log tells more"),
                )
            ),
            None,
        ),
        (former.text_of, "\n".join((*SERVERS, NOBODY)), None),
        (
            former.text_of,
            to_stored(
                Message(
                    "{before}\n{now}\n{nobody}", before=Message("Before"), now=Message("Now"), nobody=Message(NOBODY)
                )
            ),
            None,
        ),
    ],
)
def test_a_sentence_of_an_older_ledger_is_shown_in_korean(convert, stored, shown):
    found = korean(convert(stored))
    assert found == shown or shown is None
    assert not any(word in found for word in ("Nobody", "fault", "Before", "given"))


@pytest.mark.parametrize(
    "stored",
    [
        "550 5.1.1 no such user",
        "the server said: given up after 5 days: login",
        "given up after 5 days: <b>",
        "",
        '{"template": "not ours", "values": {}}',
        '{"a": 1}',
    ],
)
def test_what_is_no_sentence_of_an_older_ledger_stays(stored):
    assert (former.reply_of(stored), former.source_of(stored)) == (stored, stored)


@given(st.text(max_size=60))
def test_any_text_is_kept_word_by_word(text):
    for convert in (former.reply_of, former.source_of, former.text_of):
        assert str(from_stored(convert(text))).rstrip() == str(from_stored(text)).rstrip()


def test_every_reworded_sentence_has_the_present_words_of_its_module():
    present = {server_change.NO_PREVIOUS, server_change.NO_ROOM, server_change.TOO_MANY, server_change.FAULT}
    assert set(former.REWORDED.values()) == present
    assert all(KO(each) != each for each in present)


def test_a_migration_converts_a_ledger_once(tmp_path):
    path = tmp_path / "ledger.sqlite3"
    with contextlib.closing(Outbox(path)) as outbox:
        outbox.accept([Event("902", "info", 1.0, 1.0, "SMTP tab, from 192.0.2.7", "\n".join(SERVERS), waiting=False)])
        outbox.accept([Event("303", "fault", 1.0, 1.0, "SMTP tab, from 192.0.2.7", "\n".join(SERVERS))])
        outbox.record(2, [Delivery("a@b.c", "dropped", "connect", "given up after 5 days: connect x", 1.0)], done=True)
        outbox.record(
            2, [Delivery("b@b.c", "delivered", "content", "given up after 5 days: connect x", 1.0)], done=True
        )
    with contextlib.closing(sqlite3.connect(path)) as old:
        without_actions(old)
    for _ in range(2):
        with contextlib.closing(Outbox(path)) as outbox:
            change, alarm = outbox.event(1), outbox.event(2)
            assert (korean(change.source), korean(change.text)[:3]) == ("SMTP 탭, 192.0.2.7에서", "이전:")
            assert (alarm.source, alarm.text) == ("SMTP tab, from 192.0.2.7", "\n".join(SERVERS))
            dropped, delivered = outbox.deliveries(2)
            assert (KO(dropped.reply)[:2], delivered.reply) == ("5일", "given up after 5 days: connect x")
