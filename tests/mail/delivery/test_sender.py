"""What becomes of each mail and each recipient, and how many mails a session takes."""

from __future__ import annotations

import dataclasses
import re

from device_ui.mail.events import Delivery, Event
from device_ui.mail.smtp.outcome import Outcome
from device_ui.mail.smtp.scope import Scope
from device_ui.settings.recipients import Recipient
from tests.helpers.delivery import (
    ACCOUNT,
    DAY,
    DELIVERED,
    HOUR,
    LATER,
    MINUTE,
    REFUSED,
    UNREACHABLE,
)


def test_a_delivered_mail_is_over(set_up):
    set_up.raise_events()
    set_up.work()
    assert set_up.outbox.deliveries(1) == [Delivery(ACCOUNT, "delivered", "content", "250 queued", 1.8e9)]
    set_up.work(2 * DAY)
    set_up.restart()
    set_up.work(2 * DAY)
    assert set_up.server.numbers == [1]


def test_with_nobody_listed_mail_goes_to_the_account(set_up):
    set_up.raise_events()
    set_up.work()
    assert set_up.server.tried == [(1, (ACCOUNT,))]


def test_listed_recipients_get_what_they_asked_for(set_up):
    set_up.listed = [Recipient("all@example.com"), Recipient("faults@example.com", "fault")]
    set_up.raise_events(type_="info")
    set_up.raise_events(type_="fault")
    set_up.work()
    assert set_up.server.tried == [(2, ("all@example.com", "faults@example.com")), (1, ("all@example.com",))]


def test_what_nobody_asked_for_is_over_without_a_mail(set_up):
    set_up.listed = [Recipient("faults@example.com", "fault")]
    set_up.raise_events(type_="info")
    set_up.work()
    assert (set_up.server.tried, set_up.waiting) == ([], [])


def test_events_about_mail_are_never_mailed(set_up):
    set_up.raise_events(waiting=False)
    set_up.work(DAY)
    assert set_up.server.connects == []


def test_a_refused_recipient_is_over_and_not_asked_again(set_up):
    set_up.server.answer = lambda number, recipient: REFUSED
    set_up.raise_events()
    set_up.work(2 * DAY)
    assert set_up.server.numbers == [1]
    assert set_up.outbox.deliveries(1) == [Delivery(ACCOUNT, "refused", "recipient", "550 no such user", 1.8e9)]
    assert set_up.waiting == []


def test_a_deferred_recipient_is_tried_again_and_the_others_are_not(set_up):
    answers = {"a@example.com": DELIVERED, "b@example.com": LATER, "c@example.com": REFUSED}
    set_up.listed = [Recipient(each) for each in answers]
    set_up.server.answer = lambda number, recipient: answers[recipient]
    set_up.raise_events()
    set_up.work(HOUR)
    answers["b@example.com"] = DELIVERED
    set_up.restart()
    set_up.work(HOUR)
    assert set_up.server.tried[0] == (1, ("a@example.com", "b@example.com", "c@example.com"))
    assert set(set_up.server.tried[1:]) == {(1, ("b@example.com",))}
    verdicts = {each.recipient: each.verdict for each in set_up.outbox.deliveries(1)}
    assert verdicts == {"a@example.com": "delivered", "b@example.com": "delivered", "c@example.com": "refused"}


def test_every_try_carries_the_same_message_id_and_names_everybody(set_up):
    answers = iter([DELIVERED, LATER, DELIVERED])
    set_up.listed = [Recipient("a@example.com"), Recipient("b@example.com")]
    set_up.server.answer = lambda number, recipient: next(answers)
    set_up.raise_events()
    set_up.work(MINUTE)
    first, second = (mail.partition(b"\r\nFrom: ")[2].partition(b"\r\n\r\n")[0] for mail in set_up.server.mails)
    assert first == second
    assert f"Message-ID: <1.{set_up.outbox.id}@device-ui.internal>".encode() in first
    assert b"To: a@example.com, b@example.com" in first


def test_a_mail_says_the_devices_address(set_up):
    set_up.raise_events()
    set_up.work()
    assert b"192.0.2.7" in set_up.server.mails[0]


def test_a_server_that_refuses_the_recipient_is_no_dead_server(set_up):
    set_up.server.stops = UNREACHABLE
    set_up.raise_events()
    set_up.work()
    set_up.server.stops = None
    set_up.server.answer = lambda number, recipient: REFUSED
    set_up.work(MINUTE)
    assert set_up.problem[:2] == ("refused", "recipient")
    assert len(set_up.server.connects) == 2


def test_what_waits_goes_out_in_one_session(set_up):
    set_up.raise_events(250)
    set_up.work()
    assert set_up.server.numbers == list(range(1, 251))
    assert len(set_up.server.connects) == 1


def test_more_than_a_thousand_events_go_out_in_order(set_up):
    set_up.raise_events(1200)
    set_up.work()
    assert set_up.server.numbers == list(range(1, 1201))


def test_five_deferrals_in_a_row_end_the_session(set_up):
    set_up.server.answer = lambda number, recipient: LATER
    set_up.raise_events(20)
    set_up.work()
    assert set_up.server.numbers == [1, 2, 3, 4, 5]
    set_up.work(29)
    assert len(set_up.server.tried) == 5


def test_deferrals_between_deliveries_do_not_end_it(set_up):
    set_up.server.answer = lambda number, recipient: DELIVERED if number % 5 == 0 else LATER
    set_up.raise_events(20)
    set_up.work()
    assert set_up.server.numbers == list(range(1, 21))


def test_deferrals_of_one_recipient_do_not_hold_up_another(set_up):
    """A full mailbox for days; the other recipient's mail goes out at once all the same."""
    set_up.listed = [Recipient("works@example.com"), Recipient("full@example.com")]
    set_up.server.answer = lambda number, recipient: LATER if recipient.startswith("full") else DELIVERED
    set_up.raise_events(20)
    set_up.work()
    assert set_up.server.numbers == list(range(1, 21))
    set_up.work(DAY, step=600)
    set_up.raise_events()
    set_up.work(HOUR)
    assert [each.recipient for each in set_up.outbox.deliveries(21)] == ["works@example.com"]


def test_mails_that_are_deferred_for_days_do_not_starve_the_others(set_up):
    set_up.server.answer = lambda number, recipient: LATER if number <= 100 else DELIVERED
    set_up.raise_events(100)
    set_up.work(2 * DAY, step=600)
    set_up.raise_events(10)
    set_up.work(2 * HOUR)
    assert [number for number in set_up.waiting if number > 100] == []


def test_each_deferred_mail_gets_its_turn(set_up):
    of_this_mail = dataclasses.replace(LATER, step="content", scope=Scope.MAIL)
    set_up.server.answer = lambda number, recipient: of_this_mail
    set_up.raise_events(30)
    set_up.work(DAY, step=60)
    assert set(set_up.server.numbers) == set(range(1, 31))
    set_up.server.tried.clear()
    set_up.work(DAY, step=60)
    assert set(set_up.server.numbers) == set(range(1, 31))


def test_a_sender_that_the_server_does_not_want_now_ends_the_session(set_up):
    set_up.server.answer = lambda number, recipient: Outcome("try later", "sender", "451 not now", scope="server")
    set_up.raise_events(20)
    set_up.work()
    assert set_up.server.numbers == [1]
    assert set_up.problem == ("server", "sender", "451 not now")


def test_a_connection_lost_in_the_middle_of_a_mail_backs_off(set_up):
    set_up.server.answer = lambda number, recipient: Outcome("try later", "content", "the server closed the connection")
    set_up.server.closes_after = lambda number: True
    set_up.raise_events(20)
    set_up.work(29)
    assert len(set_up.server.connects) == 1


def test_a_server_that_takes_one_mail_a_session_gets_all(set_up):
    set_up.server.closes_after = lambda number: True
    set_up.raise_events(12)
    set_up.work()
    assert set_up.server.numbers == list(range(1, 13))
    assert len(set_up.server.connects) == 12


def test_events_raised_during_a_session_go_out_in_it(set_up):
    def answer(number: int, recipient: str) -> Outcome:
        if number < 10:
            set_up.raise_events()
        return DELIVERED

    set_up.server.answer = answer
    set_up.raise_events()
    set_up.work()
    assert set_up.server.numbers == list(range(1, 11))
    assert len(set_up.server.connects) == 1


def test_update_during_a_session_ends_it_for_the_new_settings(set_up):
    def answer(number: int, recipient: str) -> Outcome:
        if number == 2:
            set_up.update(sender_name="New name")
        return DELIVERED

    set_up.server.answer = answer
    set_up.raise_events(4)
    set_up.work()
    assert [b"New name" in mail for mail in set_up.server.mails] == [False, False, True, True]
    assert len(set_up.server.connects) == 2


def test_an_event_that_nobody_wants_needs_no_server(desk):
    desk.save()
    desk.listed = [Recipient("faults@example.com", "fault")]
    desk.outbox.accept([Event("101", "info", 0.0, 0.0), Event("303", "fault", 0.0, 0.0)])
    desk.server.stops = UNREACHABLE
    desk.work()
    assert [event.code for event in desk.outbox.waiting()] == ["303"]


def test_each_mail_goes_to_the_recipients_at_its_time(set_up):
    set_up.raise_led(3)

    def answer(number: int, _: str) -> Outcome:
        set_up.listed = [Recipient(f"after-{number}@example.com")]
        return DELIVERED

    set_up.server.answer = answer
    set_up.work()
    to = [re.search(rb"\r\nTo: (.*)\r\n", each)[1].decode() for each in set_up.server.mails]
    assert to == [ACCOUNT, "after-1@example.com", "after-2@example.com"]
