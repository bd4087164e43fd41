"""The state of the mail path: what it reports, and for how long."""

from __future__ import annotations

import pytest

from device_ui.mail.events import Delivery, Event
from device_ui.settings.recipients import Recipient
from tests.helpers.delivery import (
    DELIVERED,
    HOUR,
    LATER,
    LOGIN_REFUSED,
    MINUTE,
    REFUSED,
    UNREACHABLE,
)


def test_the_problem_is_cleared_by_the_first_success(set_up):
    answers = iter([LATER, DELIVERED])
    set_up.server.answer = lambda number, recipient: next(answers)
    set_up.raise_events()
    set_up.work()
    assert set_up.problem == ("server", "recipient", "450 mailbox busy")
    set_up.work(MINUTE)
    assert set_up.problem == ("", "", "")


def test_a_mail_that_was_refused_is_told_until_one_is_delivered_across_a_restart_too(set_up):
    set_up.server.answer = lambda number, recipient: REFUSED
    set_up.raise_events()
    set_up.work()
    set_up.restart()
    assert set_up.problem == ("refused", "recipient", REFUSED.reply)
    set_up.server.answer = lambda number, recipient: DELIVERED
    set_up.raise_events()
    set_up.work()
    assert set_up.problem == ("", "", "")


def test_an_update_takes_back_what_was_told_of_the_server_before(set_up):
    set_up.server.stops = UNREACHABLE
    set_up.raise_events()
    set_up.work()
    set_up.server.stops = None
    set_up.worker.settings_changed()
    set_up.work()
    assert set_up.problem == ("", "", "")
    assert set_up.waiting == []


def test_a_password_for_another_key_is_told_before_an_alarm_needs_it(desk):
    desk.save()
    desk.can_unseal = lambda settings: False
    desk.work()
    assert desk.problem[0] == "password"


def test_the_state_counts_what_waits(set_up):
    set_up.server.stops = UNREACHABLE
    set_up.raise_events(7)
    set_up.work()
    state = set_up.worker.state()
    assert {**state, "advice": str(state["advice"])} == {
        "problem": "server",
        "step": "connect",
        "reply": "nothing listens at this port",
        "waiting": 7,
        "is_retried": False,
        "advice": "Nothing listens at port 587 of mail.example.com: change SMTP Port, usually to 587, or to 465.",
        "set_aside": "",
        "removed": 0,
        "clock": "",
    }


def test_the_state_tells_of_a_damaged_ledger(set_up):
    set_up.outbox.close()
    set_up.outbox.path.write_bytes(bytes(8192))
    set_up.restart()
    assert set_up.worker.state()["set_aside"] == "ledger.sqlite3.damaged-1"


def test_a_problem_that_is_over_does_not_come_back_after_something_passing(set_up):
    raw = set_up.store.path.read_bytes()
    told = []
    set_up.server.stops = UNREACHABLE
    set_up.raise_events()
    set_up.work()
    for _ in range(2):
        told.append(set_up.problem[0])
        set_up.store.path.write_bytes(b"x")
        set_up.work(HOUR)
        told.append(set_up.problem[0])
        set_up.store.path.write_bytes(raw)
        set_up.server.stops = None
        set_up.work(HOUR)
    assert told == ["server", "damaged", "", "damaged"]
    assert set_up.problem[0] == ""


def test_nothing_comes_back_from_beneath_a_refused_login(set_up):
    raw = set_up.store.path.read_bytes()
    set_up.server.stops = UNREACHABLE
    set_up.raise_events()
    set_up.work()
    set_up.store.path.write_bytes(b"x")
    set_up.work(HOUR)
    set_up.store.path.write_bytes(raw)
    set_up.server.stops = None
    set_up.work(HOUR)
    set_up.server.stops = LOGIN_REFUSED
    set_up.raise_events()
    set_up.work(HOUR)
    assert set_up.problem[0] == "login refused"
    set_up.server.stops = None
    set_up.worker.settings_verified(set_up.store.read()[0])
    set_up.work(HOUR)
    assert (set_up.problem[0], set_up.waiting) == ("", [])


def test_an_update_does_not_take_back_that_a_mail_was_lost(set_up):
    set_up.server.answer = lambda number, recipient: REFUSED
    set_up.raise_events()
    set_up.work()
    set_up.worker.settings_changed()
    set_up.work(HOUR)
    assert set_up.problem == ("refused", "recipient", REFUSED.reply)


def test_what_passes_does_not_hide_what_lasts(set_up):
    set_up.server.stops = UNREACHABLE
    set_up.raise_events()
    set_up.work()
    told, whole = set_up.problem, set_up.store.path.read_bytes()
    set_up.store.path.write_bytes(b"nonsense")
    set_up.worker.round()
    assert set_up.problem[0] == "damaged"
    set_up.store.path.write_bytes(whole)
    set_up.worker.round()
    assert set_up.problem == told


# Of two verdicts, what the clock said: one is not set, goes on, is set back.
@pytest.mark.parametrize("moments", [(0.0, 0.0), (100.0, 0.0), (100.0, 200.0), (4.0e9, 200.0)])
@pytest.mark.parametrize("numbers", [(1, 2), (2, 1)])
@pytest.mark.parametrize(
    ("verdicts", "told"),
    [(("delivered", "refused"), "refused"), (("refused", "dropped"), "dropped"), (("dropped", "delivered"), "")],
)
def test_the_newest_verdict_is_told_after_a_restart_whatever_its_number_and_the_clock(
    set_up, verdicts, told, numbers, moments
):
    set_up.outbox.accept([Event("303", "fault", 0.0, 0.0), Event("303", "fault", 0.0, 0.0)])
    for number, verdict, moment in zip(numbers, verdicts, moments, strict=True):
        set_up.outbox.record(number, [Delivery("a@b.c", verdict, "recipient", "550 no", moment)], done=True)
    set_up.restart()
    assert set_up.problem == ((told, "recipient", "550 no") if told else ("", "", ""))


def test_a_loss_lasts_until_a_mail_reached_all_its_recipients(set_up):
    set_up.outbox.accept([Event("303", "fault", 0.0, 0.0), Event("303", "fault", 0.0, 0.0)])
    set_up.outbox.record(1, [Delivery("a@b.c", "refused", "recipient", "550 no", 0.0)], done=True)
    set_up.outbox.record(2, [Delivery("a@b.c", "delivered", "content", "250 ok", 0.0)], done=False)
    set_up.restart()
    assert set_up.problem == ("refused", "recipient", "550 no")
    set_up.outbox.record(2, [Delivery("d@e.f", "delivered", "content", "250 ok", 0.0)], done=True)
    set_up.restart()
    assert set_up.problem == ("", "", "")


@pytest.mark.parametrize("fact", ["", "nonsense", "7", "[]", '["dropped"]'])
def test_what_is_damaged_of_a_loss_is_told_of_nobody(set_up, fact):
    set_up.outbox.set_metadata("last_loss", fact)
    set_up.restart()
    assert set_up.problem == ("", "", "")


# One truth about the mail path: what the page, `/health`, `check` and the state command say.


def sampled(desk, seconds, step=15.0):
    """Work so long; return the words that the page and the state command showed, at every moment."""
    page, shown = [], []
    desk.show = lambda state: shown.append(state["problem"])
    desk.server.begins = lambda number: page.append(desk.problem[0])
    end = desk.now + seconds
    while desk.now < end:
        desk.work(step)
        shown.append(desk.worker.state()["problem"])
        page.append(desk.problem[0])
    return page, shown


def test_an_alarm_that_was_tried_and_waits_is_told_though_others_go_through(set_up):
    """anonaddy#209, zone-mta#139, maddy#326, baruwa#50, cyclescape#221: deferred mail that nothing shows."""
    set_up.server.answer = lambda number, recipient: LATER if number == 1 else DELIVERED
    set_up.raise_events()
    set_up.work()
    set_up.raise_events(3)
    words = set()
    for _ in range(10):
        page, shown = sampled(set_up, MINUTE)
        words |= {*page, *shown}
        set_up.raise_events()
    assert words == {"server"}
    assert set_up.waiting[:1] == [1]


def test_a_recipient_that_waits_is_told_though_the_other_got_it(set_up):
    set_up.listed = [Recipient("a@example.com"), Recipient("b@example.com")]
    set_up.server.answer = lambda number, recipient: LATER if recipient.startswith("b") else DELIVERED
    set_up.raise_events()
    set_up.work()
    assert {*sum(sampled(set_up, HOUR), [])} == {"server"}
    set_up.server.answer = lambda number, recipient: DELIVERED
    set_up.work(2 * HOUR)
    assert set_up.problem == ("", "", "")


def test_it_is_well_at_once_when_the_last_alarm_that_was_tried_is_delivered(set_up):
    answers = {1: [LATER, LATER, DELIVERED], 2: [LATER, DELIVERED]}
    set_up.server.answer = lambda number, recipient: answers[number].pop(0)
    set_up.raise_events(2)
    set_up.work()
    told = []
    while set_up.waiting:
        set_up.work(10)
        told.append((bool(set_up.waiting), set_up.problem[0]))
    assert set(told) == {(True, "server"), (False, "")}


def test_a_loss_for_one_recipient_stays_told_when_the_mail_reaches_the_next(set_up):
    set_up.listed = [Recipient("a@example.com"), Recipient("b@example.com")]
    set_up.server.answer = lambda number, recipient: REFUSED if recipient.startswith("a") else LATER
    set_up.raise_events()
    set_up.work()
    set_up.server.answer = lambda number, recipient: DELIVERED
    set_up.work(2 * MINUTE)
    assert (set_up.waiting, set_up.problem) == ([], ("refused", "recipient", REFUSED.reply))
    set_up.restart()
    assert set_up.problem == ("refused", "recipient", REFUSED.reply)


def test_a_dead_server_is_told_steadily_and_forgotten_when_nothing_waits_for_it(set_up):
    set_up.server.stops = UNREACHABLE
    set_up.raise_events()
    set_up.work()
    assert {*sum(sampled(set_up, 3 * HOUR, 60.0), [])} == {"server"}
    set_up.listed = [Recipient("a@example.com", "fault")]
    set_up.server.stops = None
    set_up.work(HOUR)
    assert (set_up.waiting, set_up.problem) == ([], ("", "", ""))
