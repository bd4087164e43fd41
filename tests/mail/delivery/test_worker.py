"""The worker's thread, its faults, any order of answers, and real SMTP sessions."""

from __future__ import annotations

import itertools
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_ui.mail import catalog
from device_ui.mail.events import Event
from device_ui.mail.smtp.outcome import Outcome
from device_ui.settings.recipients import Recipient
from tests.helpers.delivery import (
    DAY,
    DELIVERED,
    HOUR,
    LATER,
    MEMORY,
    MINUTE,
    REFUSED,
    UNREACHABLE,
    Desk,
    dropped,
    plain,
)
from tests.helpers.product import no_thread, wait_for
from tests.servers.scripted import ScriptedServer


def break_code(desk: Desk) -> None:
    """Raise an event of a code whose mail cannot be composed."""
    desk.kinds.kinds["666"] = catalog.Kind("666", "fault", None, None)
    desk.outbox.accept([Event("666", "fault", desk.wall, desk.wall)])


def test_one_event_that_cannot_be_composed_does_not_hold_up_the_others(set_up, caplog):
    set_up.raise_events()
    break_code(set_up)
    set_up.raise_events(2)
    set_up.work()
    assert set_up.server.numbers == [1, 3, 4]
    assert set_up.waiting == [2]
    assert "mail 2 failed; it is tried again later" in caplog.text


def test_an_event_that_cannot_be_composed_is_tried_with_growing_delays_and_given_up(set_up, caplog):
    break_code(set_up)
    set_up.work(5 * DAY + 3 * HOUR, step=600)
    assert 50 < caplog.text.count("failed; it is tried again later") < 200
    assert dropped(set_up) == [1]


def test_events_that_cannot_be_composed_are_told(set_up):
    break_code(set_up)
    set_up.work()
    assert set_up.problem == ("fault", "", "")


@pytest.fixture
def at_work(set_up):
    """The same desk with the worker's own thread running; it is stopped at the end."""
    thread = threading.Thread(target=set_up.worker.run)
    thread.start()
    yield set_up
    set_up.worker.stop()
    thread.join(60)
    assert not thread.is_alive()


def test_the_thread_sends_what_it_is_woken_for(at_work):
    for count in (1, 2, 3):
        at_work.raise_events()
        at_work.worker.wake()
        wait_for(lambda count=count: len(at_work.server.tried) == count, what="the mail")


def test_without_a_thread_for_the_notifications_alarms_go_out(set_up, caplog):
    ready, go = threading.Event(), threading.Event()

    def run() -> None:
        ready.set()
        assert go.wait(60)
        set_up.worker.run()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert ready.wait(60)
        with no_thread():
            go.set()
            set_up.raise_events()
            wait_for(lambda: set_up.server.tried, what="the mail")
    finally:
        set_up.worker.stop()
        thread.join(60)
    assert "notifications of a server change deferred: " in caplog.text


def test_the_thread_wakes_for_new_settings(desk):
    desk.raise_events()
    thread = threading.Thread(target=desk.worker.run)
    thread.start()
    try:
        wait_for(lambda: desk.problem[0] == "unset")
        desk.update()
        wait_for(lambda: desk.waiting == [], what="the mail")
    finally:
        desk.worker.stop()
        thread.join(60)
    assert not thread.is_alive()


def test_a_stumble_is_logged_told_and_survived(at_work, caplog):
    at_work.server.stops = RuntimeError("a bug of ours")
    at_work.raise_events()
    at_work.worker.wake()
    wait_for(lambda: at_work.problem[0] == "fault", what="the stumble")
    assert "round failed; mail is tried again later" in caplog.text
    at_work.server.stops = None
    at_work.worker.settings_changed()
    wait_for(lambda: at_work.waiting == [], what="the mail")
    assert at_work.problem == ("", "", "")


def test_a_state_that_cannot_be_shown_keeps_no_mail_back(at_work, caplog):
    def fail(_state: object) -> None:
        raise RuntimeError("can't start new thread")

    at_work.show = fail
    for count in range(2):
        at_work.raise_events()
        at_work.worker.wake()
        wait_for(lambda: at_work.waiting == [], what="the mail")
        wait_for(lambda count=count: len(caplog.messages) > count, what="the line")
    assert set(caplog.messages) == {"state of the mail path not shown"}


def test_a_stumble_backs_off_as_a_dead_server_does(at_work):
    """Whatever failed may have been a login."""
    at_work.server.stops = RuntimeError("a bug of ours")
    at_work.raise_events()
    at_work.worker.wake()
    wait_for(lambda: at_work.problem[0] == "fault", what="the stumble")
    rounds: list[object] = []
    at_work.show = rounds.append
    for count in range(20):
        at_work.worker.wake()
        wait_for(lambda count=count: len(rounds) > count, what="a round")
    assert len(at_work.server.connects) == 1
    assert at_work.problem[0] == "fault"


def test_stop_ends_the_thread_in_the_middle_of_a_queue(set_up):
    def answer(number: int, recipient: str) -> Outcome:
        if number == 3:
            set_up.worker.stop()
        return DELIVERED

    set_up.server.answer = answer
    set_up.raise_events(10)
    set_up.worker.run()
    assert set_up.server.numbers == [1, 2, 3]
    assert set_up.waiting == list(range(4, 11))


WORDS = {"delivered": DELIVERED, "refused": REFUSED, "later": LATER}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([*WORDS, "closes", "dead", "restart", "full", "event"]), max_size=60))
def test_whatever_happens_every_mail_is_settled_once(words):
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as name:
        desk = Desk(Path(name))
        script = iter(words)
        desk.save()
        desk.listed = [Recipient("a@example.com"), Recipient("b@example.com")]
        settled: list[tuple[int, str]] = []

        def answer(number: int, recipient: str) -> Outcome:
            word = next(script, "delivered")
            desk.server.stops = UNREACHABLE if word == "dead" else None
            desk.server.closes_after = lambda number: word == "closes"
            if word == "event":
                desk.raise_events()
            desk.outbox.full = word == "full"
            outcome = WORDS.get(word, LATER)
            if outcome is not LATER:
                settled.append((number, recipient))
            return outcome

        desk.server.answer = answer
        desk.raise_events(3)
        for _ in range(100):
            desk.work(HOUR, step=600)
            desk.server.stops, desk.outbox.full = None, False
            if not desk.waiting:
                break
            if next(script, "") == "restart":
                desk.work(HOUR, step=600)  # what could not be recorded is, before the process ends
                while desk.problem[0] == "storage":
                    desk.outbox.full = False
                    desk.worker.round()
                desk.restart()
        count = desk.outbox.accept([Event("153", "info", 1.0, 1.0, waiting=False)])[0] - 1
        everything = sorted(itertools.product(range(1, count + 1), ["a@example.com", "b@example.com"]))
        waiting = desk.waiting
        desk.outbox.close()
    assert waiting == []
    assert sorted(settled) == everything


def test_a_real_session_delivers_all(real):
    with ScriptedServer() as server:
        real.save(**plain(server))
        real.raise_events(3)
        real.work()
    assert [each.verdict for each in real.outbox.deliveries(3)] == ["delivered"]
    assert len(server.sessions) == 1
    assert len(server.mails) == 3
    assert b"127.0.0.1" in server.mails[0]


def test_a_real_server_that_defers_gets_the_mail_again(real):
    with ScriptedServer({"RCPT": "450 busy"}) as server:
        real.save(**plain(server))
        real.raise_events()
        real.work()
        server.script.clear()
        real.work(MINUTE)
    assert real.waiting == []
    assert len(server.sessions) == 2


def test_a_real_server_that_closes_gets_the_mail_again(real):
    with ScriptedServer({"content": "421 going down"}) as server:
        real.save(**plain(server))
        real.raise_events(2)
        real.work()
        server.script.clear()
        real.work(MINUTE)
    assert real.waiting == []
    assert b"".join(server.mails).count(b"Message-ID: <1.") == 2


def test_a_port_where_nothing_listens_is_told(real):
    with ScriptedServer() as server:
        real.save(**plain(server))
    real.raise_events()
    real.work()
    assert real.problem == ("server", "connect", "nothing listens at this port")
