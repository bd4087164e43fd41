"""A storm of alarms: the first at once, the rest readable, nothing lost, the budget held."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_ui.mail.delivery.batching import Batcher, QueuedMail

HOUR = 3600


def run(batcher: Batcher, arrivals: dict[int, list[tuple[str, str]]], seconds: int) -> list[tuple[int, QueuedMail]]:
    """Let events arrive second by second and send whatever the plan says; (second, mail) in order."""
    sent: list[tuple[int, QueuedMail]] = []
    number = 0
    for now in range(seconds):
        for code, kind in arrivals.get(now, []):
            number += 1
            batcher.add(number, code, kind, now)
        while found := batcher.next(now):
            mail = found[0]
            batcher.remove(mail)
            batcher.count_sent(now, mail.type)
            sent.append((now, mail))
    return sent


def numbers(sent: list[tuple[int, QueuedMail]]) -> list[int]:
    return sorted(number for _, mail in sent for number in mail.events)


def test_the_first_event_of_a_kind_goes_out_at_once_and_alone():
    assert run(Batcher(), {5: [("303", "fault")]}, 10) == [(5, QueuedMail("fault", (1,)))]


def test_what_follows_within_the_window_is_one_digest_at_its_end():
    sent = run(Batcher(), {0: [("303", "fault")] * 3, 30: [("303", "fault")] * 2}, 200)
    assert sent == [(0, QueuedMail("fault", (1,))), (60, QueuedMail("fault", (2, 3, 4, 5)))]


def test_a_digest_gathers_every_kind_of_its_type_but_no_other():
    arrivals = {0: [("303", "fault"), ("304", "fault"), ("101", "info")] * 2}
    sent = run(Batcher(), arrivals, 100)
    assert [mail for second, mail in sent if second] == [QueuedMail("fault", (4, 5)), QueuedMail("info", (6,))]


def test_a_storm_that_lasts_is_one_digest_a_window():
    sent = run(Batcher(), {second: [("303", "fault")] for second in range(600)}, 700)
    assert [second for second, _ in sent] == [0, *range(60, 601, 60)]
    assert numbers(sent) == list(range(1, 601))


def test_a_kind_that_was_quiet_for_a_window_goes_out_at_once_again():
    assert [second for second, _ in run(Batcher(), {0: [("303", "fault")], 61: [("303", "fault")]}, 100)] == [0, 61]


def test_a_kind_that_was_quiet_brings_no_digest_of_another_before_its_window_ends():
    arrivals = {0: [("303", "fault")], 30: [("304", "fault")], 40: [("304", "fault")], 70: [("303", "fault")]}
    sent = run(Batcher(), arrivals, 200)
    assert [(second, mail.events) for second, mail in sent] == [(0, (1,)), (30, (2,)), (70, (4,)), (90, (3,))]


def test_without_a_window_every_event_is_a_mail():
    sent = run(Batcher(window=0), {0: [("303", "fault")] * 50}, 2)
    assert [mail.events for _, mail in sent] == [(number,) for number in range(1, 51)]


def test_faults_go_before_infos():
    sent = run(Batcher(), {0: [("101", "info"), ("303", "fault")]}, 1)
    assert [mail.type for _, mail in sent] == ["fault", "info"]


def test_infos_leave_a_third_of_the_budget_to_faults():
    infos = [(f"{code:03}", "info") for code in range(200)]
    sent = run(Batcher(budget=60), {0: infos, 10: [("900", "fault")]}, 20)
    assert sum(mail.type == "info" for _, mail in sent) == 40
    assert (10, QueuedMail("fault", (201,))) in sent


def test_what_the_budget_held_back_is_in_the_next_digest():
    faults = {second: [(f"{second % 100:03}", "fault")] for second in range(100)}
    sent = run(Batcher(budget=5), faults, HOUR + 100)
    assert len([second for second, _ in sent if second < HOUR]) == 5
    assert sent[5] == (HOUR, QueuedMail("fault", tuple(range(6, 101))))


def test_the_budget_of_the_hour_before_a_restart_still_counts():
    batcher = Batcher(budget=3)
    for moment in (-10, -5, -1):
        batcher.count_sent(moment, "fault")
    sent = run(batcher, {0: [("303", "fault")]}, HOUR)
    assert [second for second, _ in sent] == [HOUR - 10]


def test_a_deferred_mail_keeps_its_events_and_is_tried_when_it_is_due():
    batcher = Batcher()
    batcher.add(1, "303", "fault", 0)
    assert batcher.next(0) == (QueuedMail("fault", (1,)), True)
    batcher.add(2, "303", "fault", 0)
    batcher.mail(1).defer(0, 0.0, "", "")
    assert batcher.next(39) is None
    assert batcher.next(40) == (QueuedMail("fault", (1,)), False)


def test_a_mail_of_before_a_restart_keeps_its_events():
    batcher = Batcher()
    batcher.reload([(5, "303", "fault", 5, False), (6, "304", "fault", 5, False), (8, "303", "fault", 0, False)], -60)
    assert batcher.next(0) == (QueuedMail("fault", (5, 6)), False)
    assert batcher.last == 8


def test_a_mail_keeps_its_name_when_the_limit_took_its_first_event():
    batcher = Batcher()
    batcher.reload([(6, "303", "fault", 5, False)], 0)
    mail, _ = batcher.next(0)
    assert (mail.number, mail.events) == (5, (6,))
    batcher.remove(mail)
    assert batcher.next(0) is None


def test_a_mail_keeps_its_tries_when_the_ledger_is_read_again():
    batcher, waiting = Batcher(), [(1, "303", "fault", 1, False)]
    batcher.reload(waiting, 0)
    batcher.mail(1).defer(0, 0.0, "recipient", "450 busy")
    batcher.reload(waiting, 0)
    assert batcher.next(39) is None
    assert batcher.mail(1).tries.reply == "450 busy"


def test_what_waited_through_a_restart_is_one_digest():
    batcher = Batcher()
    batcher.reload([(number, f"{number:03}", "fault", 0, False) for number in range(1, 31)], -60)
    assert batcher.next(0) == (QueuedMail("fault", tuple(range(1, 31))), True)


def test_what_was_never_tried_goes_before_what_the_server_deferred():
    batcher = Batcher()
    batcher.reload([(1, "303", "fault", 1, False), (2, "304", "fault", 2, False)], 0)
    batcher.mail(1).defer(2, 0.0, "", "")
    batcher.mail(2).defer(1, 0.0, "", "")
    batcher.add(3, "101", "info", 0)
    order = []
    while found := batcher.next(50):
        order.append(found[0].number)
        batcher.remove(found[0])
    assert order == [3, 2, 1]


@pytest.mark.parametrize(
    ("before", "arrivals", "leads"),
    [
        ([], [("303", "fault")], [True]),
        ([], [("303", "fault"), ("304", "fault"), ("101", "info")], [True, False, True]),
        ([(1, "304", "fault", 0)], [("303", "fault"), ("101", "info")], [False, True]),
        ([(1, "304", "fault", 1)], [("303", "fault")], [False]),
        ([(1, "101", "info", 0)], [("303", "fault")], [True]),
    ],
    ids=["idle", "one of a type", "one is held", "one is under way", "another type is held"],
)
def test_an_event_leads_only_where_nothing_of_its_type_waits(before, arrivals, leads):
    batcher = Batcher()
    for each in before:
        batcher.add(each[0], each[1], each[2], 0, each[3])
    assert batcher.choose_singles(arrivals, 0) == leads


def test_an_event_within_the_window_does_not_lead():
    batcher = Batcher()
    batcher.add(1, "303", "fault", 0, 1)
    batcher.remove(QueuedMail("fault", (1,)))
    assert batcher.choose_singles([("303", "fault"), ("304", "fault")], 59) == [False, False]
    assert batcher.choose_singles([("304", "fault")], 59) == [True]
    assert batcher.choose_singles([("303", "fault")], 60) == [True]


def test_an_event_beyond_the_budget_does_not_lead():
    batcher = Batcher(budget=1)
    batcher.count_sent(0, "fault")
    assert batcher.choose_singles([("303", "fault")], HOUR - 1) == [False]
    assert batcher.choose_singles([("303", "fault")], HOUR) == [True]


def test_without_a_window_every_event_leads():
    assert Batcher(window=0).choose_singles([("303", "fault")] * 3, 0) == [True] * 3


def test_what_waits_for_the_clock_goes_out_once_it_is_released():
    batcher = Batcher()
    batcher.add(1, "303", "fault", 0, pending=True)
    batcher.add(2, "304", "fault", 0)
    assert batcher.next(0) == (QueuedMail("fault", (2,)), True)
    batcher.remove(QueuedMail("fault", (2,)))
    assert (batcher.next(300), batcher.wait(300)) == (None, None)
    batcher.release({1}, 300)
    assert batcher.next(300) is None
    batcher.release(set(), 300)
    batcher.release(set(), 300)
    assert batcher.next(300) == (QueuedMail("fault", (1,)), True)


def test_an_event_that_is_learnt_twice_is_mailed_once():
    batcher = Batcher(window=0)
    for number in (1, 2, 1, 2):
        batcher.add(number, "303", "fault", 0)
    batcher.add(2, "303", "fault", 0, 2)
    sent = []
    while found := batcher.next(0):
        sent.append(found[0].number)
        batcher.remove(found[0])
    assert sent == [1, 2]


def test_the_budget_holds_waiting_mails_too():
    batcher = Batcher(budget=1)
    batcher.add(1, "303", "fault", 0, 1)
    batcher.count_sent(0, "fault")
    assert batcher.next(HOUR - 1) is None
    assert batcher.next(HOUR) == (QueuedMail("fault", (1,)), False)


@pytest.mark.parametrize(
    ("arrive", "now", "wait"), [([], 0, None), ([("303", "fault")] * 2, 10, 50), ([("303", "fault")], 0, None)]
)
def test_the_wait_ends_when_something_may_go(arrive, now, wait):
    batcher = Batcher()
    for number, (code, kind) in enumerate(arrive, 1):
        batcher.add(number, code, kind, 0)
    while found := batcher.next(0):
        batcher.remove(found[0])
    assert batcher.wait(now) == wait


def test_the_wait_ends_when_a_deferred_mail_may_be_tried():
    batcher = Batcher()
    batcher.add(1, "303", "fault", 0, 1)
    batcher.mail(1).defer(0, 0.0, "", "")
    assert batcher.wait(10) == 30
    assert not batcher.is_ready(10)
    assert batcher.is_ready(40)


def test_the_wait_ends_when_the_budget_does():
    batcher = Batcher(budget=1)
    batcher.count_sent(0, "fault")
    batcher.add(1, "303", "fault", 0)
    assert batcher.next(100) is None
    assert batcher.wait(100) == HOUR - 100


def test_ten_thousand_alarms_in_a_minute_are_a_handful_of_mails_in_exact_balance():
    kinds = [("303", "fault"), ("304", "fault"), ("101", "info")]
    arrivals = {second: [kinds[(second + each) % 3] for each in range(167)] for second in range(60)}
    sent = run(Batcher(), arrivals, 300)
    assert len(sent) == 5
    assert numbers(sent) == list(range(1, 60 * 167 + 1))


arrival = st.tuples(st.sampled_from(["303", "304", "101", "102", "050"]), st.sampled_from(["fault", "info"]))
storms = st.dictionaries(st.integers(0, 300), st.lists(arrival, max_size=20), max_size=30)


@given(storms, st.integers(3, 20), st.sampled_from([0, 10, 60]))
@settings(max_examples=100, deadline=None)
def test_every_number_goes_out_once_and_the_budget_holds(arrivals, budget, window):
    # Enough hours for what a budget of three can carry by digests; without a window every event is a mail.
    total = sum(map(len, arrivals.values()))
    hours = 4 if window else 2 + 3 * total // budget
    batcher = Batcher(window, budget)
    sent: list[tuple[int, QueuedMail]] = []
    number = 0
    for now in sorted({*range(0, 420, 5), *arrivals, *range(420, hours * HOUR, 60)}):
        for code, kind in arrivals.get(now, []):
            number += 1
            batcher.add(number, code, kind, now)
        while found := batcher.next(now):
            mail = found[0]
            batcher.remove(mail)
            batcher.count_sent(now, mail.type)
            sent.append((now, mail))
    assert numbers(sent) == list(range(1, number + 1))
    moments = [second for second, _ in sent]
    assert all(moments[index + budget] - moments[index] >= HOUR for index in range(len(moments) - budget))


def test_faults_that_never_end_leave_room_for_an_info():
    batcher, sent = Batcher(), []
    batcher.add(1, "101", "info", 0)
    for number, now in enumerate(range(0, 2 * HOUR, 10), 2):
        batcher.add(number, "303", "fault", now)
        while found := batcher.next(now):
            batcher.remove(found[0])
            batcher.count_sent(now, found[0].type)
            sent.append(found[0].type)
    assert sent.index("info") < 60


def test_faults_that_never_end_leave_room_for_a_second_try():
    batcher, again = Batcher(budget=12), []
    for number, now in enumerate(range(0, 3 * HOUR, 10), 1):
        batcher.add(number, "303", "fault", now)
        while found := batcher.next(now):
            batcher.count_sent(now, "fault")
            if found[0].number == 1:
                again.append(now)
                found[0].defer(now, 0.0, "", "")
                break
            batcher.remove(found[0])
    assert len(again) >= 3


@pytest.mark.parametrize("budget", [2, 3, 4])
def test_a_fault_is_not_held_behind_infos_by_a_small_budget(budget):
    batcher = Batcher(budget=budget)
    for number in range(1, 11):
        batcher.add(number, f"{number:03}", "info", 0)
        while found := batcher.next(0):
            batcher.remove(found[0])
            batcher.count_sent(0, found[0].type)
    batcher.add(99, "303", "fault", 1)
    assert batcher.next(1) == (QueuedMail("fault", (99,)), True)


def test_events_that_no_recipient_wants_are_discarded():
    batcher = Batcher(window=0)
    batcher.add(1, "101", "info", 0, 1)
    batcher.add(2, "102", "info", 0)
    batcher.add(3, "103", "info", 0, pending=True)
    batcher.add(4, "303", "fault", 0)
    batcher.discard("info")
    batcher.release(set(), 0)
    assert [batcher.next(0)[0].events, batcher.remove(QueuedMail("fault", (4,))), batcher.next(0)] == [(4,), None, None]
