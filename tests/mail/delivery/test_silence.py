"""A server that has the mail and does not answer is reported, and delays no Update."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.helpers.delivery import (
    DAY,
    HOUR,
    Desk,
)


def test_a_server_that_is_silent_about_a_mail_is_told_after_a_minute_and_forgotten_with_its_word(set_up):
    set_up.raise_events()
    seen = []

    def waits(on_wait: Callable[[float], None]) -> None:
        for seconds in (25, 50, 75):
            on_wait(seconds)
            seen.append(set_up.problem)

    set_up.server.waits = waits
    set_up.work()
    assert seen == [("", "", ""), ("", "", ""), ("server", "content", "the server does not answer in time")]
    assert (set_up.problem, set_up.waiting) == (("", "", ""), [])


def slow(set_up: Desk) -> None:
    """Let the server say nothing of a mail for more than a minute."""

    def waits(on_wait: Callable[[float], None]) -> None:
        set_up.now += 61
        on_wait(61)

    set_up.server.waits = waits


def test_the_lamp_hears_of_a_silent_server_while_it_is_silent(set_up):
    lit = []
    set_up.show = lambda state: lit.append(state["problem"])
    set_up.raise_events()
    slow(set_up)
    set_up.work()
    assert lit == ["server", ""]


def test_a_silent_server_is_not_told_of_after_its_word_when_the_ledger_was_full(set_up):
    set_up.raise_events()
    slow(set_up)
    set_up.outbox.full = True
    set_up.work(HOUR)
    assert set_up.problem[0] == "storage"
    set_up.outbox.full = False
    set_up.work(HOUR)
    assert (set_up.problem, set_up.server.numbers) == (("", "", ""), [1])


@pytest.mark.usefixtures("no_advice")
def test_a_mail_that_a_slow_server_takes_is_sent_once_whatever_cannot_be_told_of_it(set_up, caplog):
    set_up.raise_events()
    slow(set_up)
    set_up.work(DAY)
    assert (set_up.server.numbers, set_up.waiting) == ([1], [])
    assert "silent server not reported" in caplog.text


def test_an_update_waits_for_a_silent_server_a_minute_at_most(set_up):
    set_up.raise_events()

    def waits(on_wait: Callable[[float], None]) -> None:
        set_up.server.waits = lambda _: None
        set_up.update(host="other.example.com")
        for seconds in (25, 50, 75):
            set_up.now += 25
            on_wait(seconds)

    set_up.server.waits = waits
    set_up.work(HOUR)
    assert [settings.host for settings, _ in set_up.server.connects] == ["mail.example.com", "other.example.com"]
    assert (set_up.problem, set_up.waiting) == (("", "", ""), [])
