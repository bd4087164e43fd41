"""A person sends an event again or tries its mail now: each recipient gets exactly what was asked for, after a restart too."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_ui.mail.delivery.batching import Batcher
from device_ui.mail.events import Action, Event
from device_ui.settings.recipients import Recipient
from tests.helpers.delivery import DELIVERED, HOUR, LATER, LOGIN_REFUSED, MINUTE, REFUSED, UNREACHABLE, Desk

ONE, TWO = "one@example.com", "two@example.com"


def act(desk: Desk, number: int, action: Action = Action.SEND_AGAIN) -> int:
    """Do what the hook does with an action: commit it, then pass it on."""
    event = desk.outbox.event(number)
    asked = replace(event, about=number, text=action, waiting=action == Action.SEND_AGAIN, number=0, mail=0)
    singles = desk.worker.choose_singles([asked])
    (made,) = desk.outbox.accept([asked], singles)
    desk.worker.add([(made, asked, singles[0])])
    return made


def verdicts(desk: Desk, number: int) -> dict[str, str]:
    return {each.recipient: each.verdict for each in desk.outbox.deliveries(number)}


def test_what_was_refused_is_sent_again_to_those_who_did_not_get_it(set_up):
    set_up.listed = [Recipient(ONE, "fault"), Recipient(TWO, "fault")]
    set_up.server.answer = lambda number, recipient: REFUSED if recipient == TWO else DELIVERED
    set_up.raise_events()
    set_up.work()
    set_up.server.answer = lambda number, recipient: DELIVERED
    assert act(set_up, 1) == 2
    set_up.work()
    assert set_up.server.tried == [(1, (ONE, TWO)), (2, (TWO,))]
    assert (verdicts(set_up, 1), verdicts(set_up, 2)) == ({ONE: "delivered", TWO: "refused"}, {TWO: "delivered"})
    assert set_up.waiting == []


def test_what_is_sent_again_has_the_content_of_its_event_and_a_message_id_of_its_own(set_up):
    set_up.raise_events()
    set_up.work()
    act(set_up, 1)
    set_up.work()
    first, second = (re.sub(rb"Message-ID: <[0-9]+", b"Message-ID: <N", each) for each in set_up.server.mails)
    assert first == second
    assert set_up.server.numbers == [1, 2]


def test_a_restart_sends_it_to_the_same_recipients_under_the_same_name(set_up):
    set_up.listed = [Recipient(ONE, "fault"), Recipient(TWO, "fault")]
    set_up.server.answer = lambda number, recipient: REFUSED if recipient == TWO else DELIVERED
    set_up.raise_events()
    set_up.work()
    set_up.server.stops = UNREACHABLE
    act(set_up, 1)
    set_up.work()
    set_up.server.stops = None
    set_up.restart()
    set_up.work(HOUR)
    assert set_up.server.tried[1:] == [(2, (TWO,))]


def test_where_the_others_left_the_list_it_is_sent_to_who_got_it_before(set_up):
    """It was asked for, and the page says that it is sent."""
    set_up.listed = [Recipient(ONE, "fault"), Recipient(TWO, "fault")]
    set_up.server.answer = lambda number, recipient: REFUSED if recipient == TWO else DELIVERED
    set_up.raise_events()
    set_up.work()
    set_up.listed = [Recipient(ONE, "fault")]
    assert act(set_up, 1) == 2
    set_up.work()
    assert set_up.server.tried[1:] == [(2, (ONE,))]
    assert (verdicts(set_up, 2), set_up.waiting) == ({ONE: "delivered"}, [])


def test_who_is_new_on_the_list_gets_it_alone(set_up):
    set_up.listed = [Recipient(ONE, "fault")]
    set_up.raise_events()
    set_up.work()
    set_up.listed = [Recipient(ONE, "fault"), Recipient(TWO, "fault")]
    act(set_up, 1)
    set_up.work()
    assert set_up.server.tried[1:] == [(2, (TWO,))]


def test_an_event_that_the_limit_took_is_not_sent_again(set_up):
    set_up.raise_events()
    set_up.work()
    act(set_up, 1)
    set_up.outbox.write(lambda cursor: cursor.execute("DELETE FROM event WHERE number = 1"))
    set_up.work()
    assert (set_up.server.numbers, set_up.waiting) == ([1], [])


def test_a_new_event_of_the_code_does_not_wait_for_one_that_is_sent_again():
    batcher = Batcher()
    batcher.add(2, "", "fault", 0.0, mail=2)
    batcher.remove(batcher.mail(2))
    assert batcher.choose_singles([("303", "fault")], 1.0) == [True]
    batcher.add(3, "303", "fault", 1.0, mail=3)
    batcher.remove(batcher.mail(3))
    assert batcher.choose_singles([("303", "fault")], 2.0) == [False]


def test_what_is_sent_again_comes_after_every_new_event_and_keeps_none_from_being_a_mail_at_once():
    batcher = Batcher()
    batcher.add(2, "", "fault", 0.0, mail=2)
    assert batcher.choose_singles([("303", "info"), ("404", "fault")], 1.0) == [True, True]
    batcher.add(3, "303", "info", 1.0, mail=3)
    sent = []
    while found := batcher.next(1.0):
        batcher.remove(found[0])
        sent.append(found[0].number)
    assert sent == [3, 2]


def test_what_is_sent_again_is_never_part_of_a_digest(set_up):
    """Also while other mail of its type waits, and before the clock is right."""
    schedule = set_up.schedule
    set_up.batcher.window = 60.0
    set_up.batcher.add(1, "303", "fault", set_up.now)
    event = Event("303", "fault", 0.0, 0.0, clock="@boot 5.000")
    assert schedule.choose_singles([event, replace(event, about=1)]) == [False, True]


@pytest.mark.parametrize("restarts", [False, True])
def test_mails_that_are_sent_again_hold_up_no_alarm(restarts, set_up):
    """A client that may ask, such as a web process that was taken over, asks as often as it may, for hours."""

    def begin() -> None:
        set_up.batcher.window, set_up.batcher.budget = MINUTE, 60

    begin()
    set_up.raise_events(100, waiting=False)
    for minute in range(240):
        for turn in range(2):
            act(set_up, 1 + (2 * minute + turn) % 100)
        set_up.work(MINUTE)
        set_up.wall += MINUTE
    if restarts:
        set_up.restart()
        begin()
        set_up.work()
    for code in ("404", "405"):
        alarm = Event(code, "fault", set_up.wall, set_up.wall, "raid", "disk 4 failed")
        singles = set_up.worker.choose_singles([alarm])
        [number] = set_up.outbox.accept([alarm], singles)
        set_up.worker.add([(number, alarm, singles[0])])
        set_up.work()
        assert set_up.server.numbers[-1] == number
    assert len(set_up.waiting) > 100  # what was asked for too often is what waits


def test_what_was_sent_again_is_in_the_infos_part_of_the_hour_after_a_restart(set_up):
    set_up.raise_events()
    set_up.work()
    act(set_up, 1)
    set_up.work()
    assert [kind for _, kind in set_up.outbox.sent_since(0.0)] == ["fault", "info"]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from([DELIVERED, REFUSED, LATER]), min_size=3, max_size=3), min_size=1, max_size=5),
    st.booleans(),
)
def test_each_recipient_has_one_result_for_each_time_it_was_sent_to(tmp_path_factory, rounds, restarts):
    """The balance: a delivered result is a mail that the server took, and no one gets a mail that was not asked for."""
    desk = Desk(tmp_path_factory.mktemp("balance"))
    try:
        desk.save()
        names = [ONE, TWO, "three@example.com"]
        desk.listed = [Recipient(name, "fault") for name in names]
        taken: Counter[tuple[int, str]] = Counter()
        asked: dict[int, set[str]] = {1: set(names)}
        desk.raise_events()
        for number, outcomes in enumerate(rounds, 1):
            answers = dict(zip(names, outcomes, strict=True))

            def answer(mail, recipient, answers=answers, taken=taken):
                outcome = answers[recipient]
                answers[recipient] = DELIVERED if outcome is LATER else outcome
                taken[mail, recipient] += outcome is DELIVERED
                return outcome

            desk.server.answer = answer
            desk.work()
            if restarts:
                desk.restart()
            desk.work(2 * HOUR)
            results = [verdicts(desk, mail) for mail in asked]
            assert [set(each) for each in results] == [*asked.values()]
            got = {name for each in results for name, verdict in each.items() if verdict == "delivered"}
            if number < len(rounds):
                asked[act(desk, 1)] = set(names) - got or set(names)
        delivered = {
            (mail, name) for mail in asked for name, verdict in verdicts(desk, mail).items() if verdict == "delivered"
        }
        assert {key: count for key, count in taken.items() if count} == dict.fromkeys(delivered, 1)
        assert desk.waiting == []
    finally:
        desk.outbox.close()


# Try now


def test_a_mail_is_tried_at_once_and_its_failed_tries_count_on(set_up):
    set_up.server.answer = lambda number, recipient: LATER
    set_up.raise_events(2)
    set_up.work(2 * HOUR)
    tried = len(set_up.server.tried)
    before = set_up.schedule.mail(1).tries.count
    act(set_up, 1, Action.TRY_NOW)
    set_up.work()
    assert set_up.server.numbers[tried:] == [1]
    assert set_up.schedule.mail(1).tries.count == before + 1
    assert set_up.outbox.actions([1])[1][0].waiting is False


def test_a_server_that_did_not_answer_is_called_at_once(set_up):
    set_up.server.stops = UNREACHABLE
    set_up.raise_events()
    set_up.work(5 * HOUR)
    set_up.server.stops = None
    act(set_up, 1, Action.TRY_NOW)
    set_up.work()
    assert set_up.waiting == []


def test_what_is_sent_again_and_waits_is_tried_at_once_too(set_up):
    set_up.raise_events()
    set_up.work()
    set_up.server.answer = lambda number, recipient: LATER
    act(set_up, 1)
    set_up.work(2 * HOUR)
    set_up.server.answer = lambda number, recipient: DELIVERED
    act(set_up, 1, Action.TRY_NOW)
    set_up.work()
    assert (set_up.server.numbers[-1], set_up.waiting) == (2, [])


def test_a_refused_login_is_not_tried_again(set_up):
    set_up.server.stops = LOGIN_REFUSED
    set_up.raise_events()
    set_up.work()
    for _ in range(20):
        act(set_up, 1, Action.TRY_NOW)
        set_up.work()
    assert len(set_up.server.connects) == 1
