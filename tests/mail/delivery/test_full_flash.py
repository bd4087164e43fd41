"""A flash that takes nothing: no mail goes out twice."""

from __future__ import annotations

from device_ui.settings.recipients import Recipient
from tests.helpers.delivery import (
    DAY,
    DELIVERED,
    HOUR,
    LATER,
)


def test_a_mail_whose_delivery_cannot_be_recorded_is_not_sent_twice(set_up):
    set_up.raise_events(2)
    set_up.outbox.full = True
    set_up.work(DAY)
    assert set_up.server.numbers == [1]
    assert set_up.problem == ("storage", "", "database or disk is full")
    set_up.outbox.full = False
    set_up.work(HOUR)
    assert set_up.server.numbers == [1, 2]
    assert (set_up.waiting, set_up.problem) == ([], ("", "", ""))
    assert [each.verdict for each in set_up.outbox.deliveries(1)] == ["delivered"]


def test_the_result_of_a_mail_is_on_flash_before_the_next_one_begins(set_up):
    set_up.raise_led(3)
    seen = []
    set_up.server.begins = lambda number: seen.append([each for each in (1, 2, 3) if set_up.outbox.deliveries(each)])
    set_up.work()
    assert seen == [[], [1], [1, 2]]


def test_a_half_delivered_mail_that_cannot_be_recorded_is_finished_later(set_up):
    answers = {"a@example.com": DELIVERED, "b@example.com": LATER}
    set_up.listed = [Recipient(each) for each in answers]
    set_up.server.answer = lambda number, recipient: answers[recipient]
    set_up.raise_events()
    set_up.outbox.full = True
    set_up.work(HOUR)
    set_up.outbox.full, answers["b@example.com"] = False, DELIVERED
    set_up.work(HOUR)
    assert set_up.server.tried == [(1, ("a@example.com", "b@example.com")), (1, ("b@example.com",))]
    assert set_up.waiting == []
