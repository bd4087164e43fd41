"""A refused login stops every attempt until the settings change, across restarts and a full flash."""

from __future__ import annotations

import contextlib
import json
from contextlib import closing

import pytest

from device_ui.mail.delivery.quota import LOGIN_SECONDS, LOGINS
from device_ui.mail.smtp.outcome import SessionError
from device_ui.web.context import LOGIN_RETRIED, MAIL_PROBLEMS
from tests.helpers.delivery import (
    DAY,
    HOUR,
    LOGIN_REFUSED,
    MINUTE,
    plain,
)
from tests.servers.scripted import ScriptedServer


@pytest.fixture
def refused(set_up):
    """A device whose login was refused, with three events waiting."""
    set_up.server.stops = LOGIN_REFUSED
    set_up.raise_events(3)
    set_up.work()
    return set_up


def test_a_refused_login_is_one_attempt_and_none_follows(refused):
    refused.work(6 * DAY, step=600)
    assert len(refused.server.connects) == 1
    assert refused.problem == ("login refused", "login", "535 wrong password")
    assert refused.waiting == [1, 2, 3]


def test_a_refused_login_stops_new_events_too(refused):
    for _ in range(20):
        refused.raise_events()
        refused.worker.wake()
        refused.work(HOUR)
    assert len(refused.server.connects) == 1


def test_a_refused_login_is_remembered_across_restarts(refused):
    for _ in range(3):
        refused.restart()
        refused.work(2 * DAY, step=600)
    assert len(refused.server.connects) == 1
    assert refused.problem == ("login refused", "login", "535 wrong password")


def test_a_refused_login_is_on_flash_before_anything_else_happens(set_up):
    set_up.server.stops = LOGIN_REFUSED
    set_up.raise_events()
    set_up.worker.round()
    set_up.restart()  # killed at once
    set_up.work(DAY, step=600)
    assert len(set_up.server.connects) == 1


def test_after_a_refused_login_new_settings_send_all_in_order(refused):
    refused.restart()
    refused.work(DAY, step=600)
    refused.server.stops = None
    refused.update(sender_name="Mended", sealed="two")
    refused.work()
    assert refused.server.numbers == [1, 2, 3]
    assert all(b'From: "Mended"' in mail for mail in refused.server.mails)
    assert refused.server.connects[-1][1] == "opened two"
    assert (refused.waiting, refused.problem) == ([], ("", "", ""))


def test_after_a_refused_login_changed_settings_free_the_mail_even_if_nobody_tells(refused):
    refused.server.stops = None
    refused.save(sealed="two")
    refused.work(MINUTE)
    assert refused.waiting == []


def test_settings_that_changed_while_the_hook_was_down_free_the_mail(refused):
    refused.server.stops = None
    refused.save(sealed="two")
    refused.restart()
    refused.work()
    assert refused.waiting == []


def test_update_without_a_change_tries_no_refused_login_again(refused):
    """Five impatient clicks would lock the account."""
    for _ in range(5):
        refused.worker.settings_changed()
        refused.work(HOUR, step=600)
    assert len(refused.server.connects) == 1
    assert refused.problem[0] == "login refused"


def test_an_update_is_not_forgotten_by_a_restart(refused):
    """The account works again; after one good login the old refusal must not come back from the ledger."""
    refused.server.stops = None
    refused.save(sealed="two")
    refused.worker.settings_changed()
    refused.work()
    refused.restart()
    refused.raise_events()
    refused.work()
    assert refused.waiting == []


def test_going_back_to_settings_that_were_refused_once_is_a_change(refused):
    first = refused.store.path.read_bytes()
    refused.server.stops = None
    refused.save(sealed="two")
    refused.work(MINUTE)
    refused.store.path.write_bytes(first)
    refused.raise_events()
    refused.work()
    assert refused.waiting == []


def test_damaged_settings_do_not_make_a_refused_login_be_tried_again(refused):
    raw = refused.store.path.read_bytes()
    refused.restart()
    refused.store.path.write_bytes(raw[:-9])
    refused.work(HOUR)
    refused.store.path.write_bytes(raw)
    refused.work(HOUR)
    assert len(refused.server.connects) == 1


def test_a_full_flash_does_not_make_a_refused_login_be_tried_again(set_up):
    set_up.server.stops = LOGIN_REFUSED
    set_up.outbox.full = True
    set_up.raise_events()
    set_up.work(DAY)
    assert (len(set_up.server.connects), set_up.problem[0]) == (1, "storage")
    set_up.outbox.full = False
    set_up.work(DAY)
    set_up.restart()
    set_up.work(DAY)
    assert (len(set_up.server.connects), set_up.problem[0]) == (1, "login refused")


def test_an_update_on_a_full_flash_is_not_lost(refused):
    refused.server.stops = None
    refused.outbox.full = True
    refused.save(sealed="two")
    refused.worker.settings_changed()
    refused.work(HOUR)
    refused.outbox.full = False
    refused.work(HOUR)
    assert refused.waiting == []


@pytest.fixture
def exhausted(refused):
    """The same after as many refused logins as are counted; the settings have the right password now."""
    for number in range(LOGINS - 1):
        refused.update(sealed=f"wrong {number}")
        refused.work()
    assert len(refused.server.connects) == LOGINS
    refused.server.stops = None
    refused.update(sealed="right")
    refused.work()
    return refused


def test_the_right_password_after_too_many_wrong_ones_waits_twenty_minutes_and_the_state_says_so(exhausted):
    assert len(exhausted.server.connects) == LOGINS
    assert exhausted.problem == ("too many logins", "login", "")
    assert f"up to {LOGIN_SECONDS / MINUTE:.0f} minutes" in MAIL_PROBLEMS["too many logins"]
    exhausted.work(LOGIN_SECONDS - MINUTE)
    assert len(exhausted.server.connects) == LOGINS
    exhausted.work(2 * MINUTE)
    assert (exhausted.waiting, exhausted.problem) == ([], ("", "", ""))


def test_a_test_of_the_right_password_ends_the_wait_and_a_restart_brings_none_back(exhausted):
    exhausted.worker.settings_verified(exhausted.store.read()[0])
    exhausted.work()
    assert (exhausted.waiting, exhausted.problem) == ([], ("", "", ""))
    exhausted.restart()
    exhausted.raise_events()
    exhausted.work()
    assert (exhausted.waiting, exhausted.problem) == ([], ("", "", ""))


def test_settings_without_a_login_wait_for_no_refused_one(exhausted):
    exhausted.update(sign_in="none", sealed=None)
    exhausted.work()
    assert (exhausted.waiting, exhausted.problem) == ([], ("", "", ""))


@pytest.mark.parametrize("own", [{"sealed": "own"}, {"sign_in": "none", "sealed": None}], ids=["login", "relay"])
def test_mail_through_an_attackers_own_server_gives_no_refused_login_back(exhausted, own):
    exhausted.update(host="attacker.example.net", **own)
    exhausted.worker.settings_verified(exhausted.store.read()[0])
    exhausted.work()
    assert exhausted.waiting == []
    exhausted.update(sealed="a guess")
    exhausted.raise_events()
    exhausted.work(LOGIN_SECONDS - MINUTE)
    assert exhausted.problem == ("too many logins", "login", "")
    assert "opened a guess" not in [password for _, password in exhausted.server.connects]


def test_a_test_proves_the_settings_that_it_was_made_with_and_no_others(exhausted):
    exhausted.save(host="attacker.example.net", sealed="own")
    exhausted.worker.settings_verified(exhausted.store.read()[0])
    exhausted.save(sealed="a guess")
    exhausted.work()
    assert "opened a guess" not in [password for _, password in exhausted.server.connects]
    assert exhausted.problem == ("too many logins", "login", "")


@pytest.mark.parametrize("fact", ["", "{", "[]", "7", '"x"', "{}", '{"reply": "535"}', "\ufffd"])
def test_a_damaged_note_of_a_refusal_does_not_stop_mail(set_up, fact):
    set_up.outbox.set_metadata("login_refused", fact)
    set_up.raise_events()
    set_up.work()
    assert set_up.waiting == []


def test_a_login_that_was_put_off_is_tried_again(set_up):
    set_up.server.stops = SessionError("login", "answer", "454 temporary failure")
    set_up.raise_events()
    set_up.work()
    assert set_up.problem == ("server", "login", "454 temporary failure")
    set_up.server.stops = None
    set_up.work(MINUTE)
    assert set_up.waiting == []


def test_a_login_refused_while_update_is_pressed_does_not_hold_the_new_settings(set_up):
    class Pressed(SessionError):
        @property
        def login_refused(self) -> bool:
            set_up.server.stops = None
            set_up.update(sealed="two")
            return True

    set_up.server.stops = Pressed("login", "login refused", "535")
    set_up.raise_events()
    set_up.work()
    set_up.work()
    assert set_up.waiting == []


def test_a_refused_login_is_told_before_a_slow_quit(set_up):
    told = []
    set_up.server.stops = LOGIN_REFUSED
    set_up.server.closes = lambda: told.append(set_up.problem)
    set_up.raise_events()
    set_up.work()
    assert told == [("login refused", "login", LOGIN_REFUSED.reply)]


@pytest.mark.usefixtures("no_advice")
def test_a_refused_login_is_not_tried_again_whatever_cannot_be_told_of_it(set_up):
    set_up.raise_events()
    set_up.server.stops = LOGIN_REFUSED
    for _ in range(6):
        with contextlib.suppress(OSError):
            set_up.worker.round()
        set_up.now += HOUR
    assert len(set_up.server.connects) == 1


def test_a_real_refused_login_is_one_attempt(real):
    with ScriptedServer({"AUTH": "535 5.7.8 wrong"}) as server:
        real.save(**plain(server))
        real.raise_events(3)
        real.work(DAY, step=600)
        real.restart()
        real.work(DAY, step=600)
    assert server.verbs.count("AUTH") == 1
    assert real.problem == ("login refused", "login", "535 5.7.8 wrong")


def test_the_note_of_a_refusal_holds_no_secret(real):
    with ScriptedServer({"AUTH": "535 opened one is wrong"}) as server:
        real.save(**plain(server))
        real.raise_events()
        real.work()
    with closing(real.outbox):
        note = real.outbox.metadata()["login_refused"]
    assert "opened one" not in note
    assert json.loads(note)["reply"] == "535 […] is wrong"


# A login that worked before is tried again slowly (OpenSMTPD#65).


@pytest.fixture
def once_worked(set_up):
    """A device whose login worked and is refused since, with an event waiting."""
    set_up.raise_events()
    set_up.work()
    set_up.server.connects.clear()
    set_up.server.stops = LOGIN_REFUSED
    set_up.raise_events()
    set_up.work()
    assert len(set_up.server.connects) == 1
    return set_up


def test_a_login_that_worked_before_is_tried_again_after_an_hour_and_mail_goes_out(once_worked):
    once_worked.work(HOUR - 2 * MINUTE)
    assert len(once_worked.server.connects) == 1
    once_worked.server.stops = None
    once_worked.work(3 * MINUTE)
    assert (once_worked.waiting, once_worked.problem) == ([], ("", "", ""))


def test_a_login_that_worked_before_is_tried_a_few_times_a_day_and_no_more(once_worked):
    tries = []
    for _ in range(5):
        once_worked.server.connects.clear()
        once_worked.work(DAY, step=MINUTE)
        tries.append(len(once_worked.server.connects))
    assert 4 <= tries[0] <= 6
    assert set(tries[1:]) <= {3, 4}


def test_a_refusal_noted_by_a_clock_that_was_decades_ahead_ends_no_slow_try(once_worked):
    fact = json.loads(once_worked.outbox.metadata()["login_refused"])
    once_worked.outbox.set_metadata("login_refused", json.dumps({**fact, "at": "2400000000 earlier 100"}))
    once_worked.server.stops = None
    once_worked.restart()
    once_worked.work(MINUTE)
    assert (once_worked.waiting, once_worked.problem) == ([], ("", "", ""))


def test_a_login_that_worked_before_is_tried_no_more_often_across_restarts(once_worked):
    for _ in range(50):
        once_worked.restart()
        once_worked.work(MINUTE)
    assert len(once_worked.server.connects) == 1


def test_the_state_of_a_login_that_is_tried_again_says_so_and_is_steady(once_worked):
    seen = {once_worked.worker.state()["is_retried"]}
    once_worked.server.closes = lambda: seen.add(once_worked.problem[0])
    for _ in range(30):
        once_worked.work(HOUR)
        seen.add(once_worked.problem[0])
    assert seen == {True, "login refused"}
    assert "a few times a day" in LOGIN_RETRIED


def test_a_login_that_never_worked_is_not_said_to_be_tried_again(refused):
    assert refused.worker.state()["is_retried"] is False


def test_update_tries_a_login_that_worked_before_at_once_when_it_changed(once_worked):
    once_worked.server.stops = None
    once_worked.update(sealed="two")
    once_worked.work()
    assert once_worked.waiting == []


def test_update_without_a_change_does_not_hasten_a_slow_try(once_worked):
    for _ in range(5):
        once_worked.worker.settings_changed()
        once_worked.work(MINUTE)
    assert len(once_worked.server.connects) == 1
