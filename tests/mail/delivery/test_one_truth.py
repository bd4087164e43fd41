"""One truth about the mail path, as reports of other products have it: a status that says "ok" while mail waits, or flaps.

Each situation is watched at every round and before every mail: while an alarm waits that was tried, the word is never "", and
the words come in the order that is expected, none of them twice in a row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import groupby

import pytest

from device_ui.errors import NotStored
from device_ui.mail.smtp.outcome import Outcome, SessionError
from device_ui.settings.recipients import Recipient
from tests.helpers.delivery import DELIVERED, HOUR, LATER, LOGIN_REFUSED, MINUTE, REFUSED, UNREACHABLE, Desk

NOT_CHECKED = SessionError("login", "answer", "454 4.7.0 Temporary authentication failure: generic failure")
BUSY = SessionError("greeting", "answer", "421 4.3.2 too many connections")
GREYLISTED = Outcome("try later", "recipient", "450 4.7.1 greylisted")
FULL = Outcome("try later", "content", "452 4.3.1 insufficient system storage")
PAIR = ("a@example.com", "b@example.com")
Answer = Callable[[int, str], Outcome]


def then_delivered(*outcomes: Outcome) -> Answer:
    """These outcomes for the first tries, whatever mail they are of, and then a delivery."""
    rest = list(outcomes)
    return lambda number, recipient: rest.pop(0) if rest else DELIVERED


def breaks(number: int, recipient: str) -> Outcome:
    raise ValueError("undefined method `find_by_id'")


@dataclass(frozen=True)
class Situation:
    """What a server does to some `events`, more of them each minute (`later`), for some hours; and the `words` in order.

    `closes`: it ends the session after each mail. `budget`: mails an hour. `ends_at`: when the server is well (minutes).
    """

    words: list[str]
    answer: Answer = lambda number, recipient: DELIVERED
    stops: Exception | None = None
    events: int = 1
    later: int = 0
    recipients: tuple[str, ...] = ()
    closes: bool = False
    budget: int = 10**6
    ends_at: int = 10**6
    minutes: int = 60


SITUATIONS = {
    # Nothing goes out, and nothing is counted as failed.
    "PicPeak/picpeak#1262": Situation(["server"], stops=UNREACHABLE, events=5),
    "flanksource/mission-control#2683": Situation(["server"], stops=NOT_CHECKED, events=3),
    "postalserver/postal#1371": Situation(["fault"], breaks),
    "fluent-smtp#380": Situation(["login refused"], stops=LOGIN_REFUSED, later=1),
    "postalserver/postal#1082": Situation(["server", ""], stops=BUSY, events=3, ends_at=30),
    # Some mail waits beside mail that goes out.
    "zone-mta#139": Situation(["server"], lambda number, _: LATER if number == 1 else DELIVERED, later=1, closes=True),
    "baruwa#50": Situation(["server"], lambda number, _: LATER if number % 2 else DELIVERED, events=4, later=1),
    "webmin#2210": Situation(["server", ""], then_delivered(GREYLISTED, GREYLISTED), later=1),
    "Notifuse/notifuse#26": Situation(["server", ""], then_delivered(*[FULL] * 20), events=12, minutes=180),
    "chatmail/relay#946": Situation(
        ["server"], lambda _, recipient: LATER if recipient == PAIR[1] else DELIVERED, later=1, recipients=PAIR
    ),
    # A verdict that is over, and one that is not.
    "alphagov/email-alert-api#235": Situation(["server", ""], then_delivered(LATER, FULL, LATER)),
    "viridIT/vSMTP#424": Situation(["server", ""], then_delivered(*[LATER] * 5), closes=True),
    "OpenSMTPD#586": Situation(
        ["refused"], lambda _, recipient: REFUSED if recipient == PAIR[1] else DELIVERED, later=1, recipients=PAIR
    ),
    "wpmgr#381": Situation(["refused"], lambda *_: REFUSED, later=1),
    # A limit of the product itself holds alarms back.
    "postalserver/postal#144": Situation(["", "budget", ""], events=7, budget=5),
    "scobal/seyren#46": Situation(["", "budget"], later=3, budget=60),
    "PoracleJS#369": Situation(["server", "", "budget"], then_delivered(LATER), later=4, budget=30),
}


def watch(desk: Desk, situation: Situation, *, restarts: bool = False) -> list[str]:
    """Return the words that were shown, without repeats, and assert that none of them hides an alarm.

    `restarts`: the process ends and starts again each minute, or the settings change.
    """
    words: list[str] = []

    def look(*_: object) -> None:
        word = desk.problem[0]
        tried = {number for number, _ in desk.server.tried}
        assert word or not tried.intersection(desk.waiting), f"{len(words)}: said to be well"
        words.append(word)

    desk.server.begins = look
    for minute in range(situation.minutes):
        if minute == situation.ends_at:
            desk.server.stops = None
        for _ in range(4):
            desk.work(MINUTE / 4)
            look()
        desk.raise_events(situation.later) if situation.later else None
        if restarts:
            desk.restart() if minute % 2 else desk.update(sender_name=str(minute))
            look()
    return [word for word, _ in groupby(words)]


def begin(desk: Desk, situation: Situation) -> None:
    """Let a device begin in this situation, with its events."""
    desk.budget = situation.budget
    desk.restart()
    desk.save()
    desk.listed = [Recipient(each) for each in situation.recipients]
    desk.server.answer, desk.server.stops = situation.answer, situation.stops
    desk.server.closes_after = lambda number: situation.closes
    desk.raise_events(situation.events)


@pytest.mark.parametrize("report", SITUATIONS)
def test_no_alarm_that_waits_is_hidden_and_no_word_flaps(report, desk):
    situation = SITUATIONS[report]
    begin(desk, situation)
    words = watch(desk, situation)
    # Until the first mail was tried, nothing is known of the mail path.
    assert words[not words[0] and situation.words[0] != "" :] == situation.words


@pytest.mark.parametrize("report", SITUATIONS)
def test_no_restart_and_no_update_hides_an_alarm_that_waits(report, desk):
    situation = replace(SITUATIONS[report], minutes=12)
    begin(desk, situation)
    watch(desk, situation, restarts=True)


def test_an_alarm_that_the_budget_holds_back_is_shown_until_the_budget_has_room_again(desk):
    desk.budget = 2
    desk.restart()
    desk.save()
    desk.raise_events(3)
    desk.work()
    assert (len(desk.server.tried), desk.problem) == (2, ("budget", "", ""))
    desk.now += HOUR
    desk.work()
    assert (desk.waiting, desk.problem[0]) == ([], "")


def test_an_info_that_the_budget_holds_back_is_no_problem(desk):
    desk.budget = 3
    desk.restart()
    desk.save()
    desk.raise_events()
    desk.raise_events(4, "info")
    desk.work()
    assert (len(desk.server.tried), len(desk.waiting), desk.problem[0]) == (3, 2, "")


def test_an_alarm_that_the_server_defers_is_shown_rather_than_the_budget(desk):
    """The server's reply says what to change; the budget has room again by itself."""
    desk.budget = 2
    desk.restart()
    desk.save()
    desk.server.answer = lambda number, recipient: LATER if number == 1 else DELIVERED
    desk.raise_events(4)
    desk.work()
    assert (desk.waiting, desk.problem[0]) == ([1, 4], "server")


def test_rounds_go_on_until_the_budget_has_room_so_that_its_end_is_published(desk):
    """A program of the maker hears of the end of a problem in a round, though no mail waits any more."""
    desk.budget = 2
    desk.restart()
    desk.save()
    desk.raise_events()
    desk.work(HOUR / 2)
    desk.raise_events(2)
    desk.work(HOUR / 2 + MINUTE)
    assert (desk.waiting, desk.problem[0]) == ([], "budget")
    assert desk.worker.round() is not None
    desk.work(HOUR / 2 + MINUTE)
    assert (desk.problem[0], desk.worker.round()) == ("", None)


def test_after_a_restart_mail_that_waits_is_shown_until_it_is_tried(set_up):
    """A try writes nothing, so the ledger does not know why it waits; the first session may be ten minutes away."""
    set_up.server.stops = UNREACHABLE
    set_up.raise_events()
    set_up.work()
    set_up.restart()
    set_up.worker.spread_start(600)
    words = [set_up.problem[0]]
    for _ in range(12):
        set_up.worker.round()
        words.append(set_up.problem[0])
        set_up.now += MINUTE
    set_up.server.stops = None
    set_up.work(HOUR)
    words.append(set_up.problem[0])
    assert [word for word, _ in groupby(words)] == ["queued", "server", ""]


def test_after_an_update_mail_that_failed_is_shown_until_it_is_tried_again(set_up):
    set_up.server.stops = UNREACHABLE
    set_up.raise_events()
    set_up.work()
    seen = []
    set_up.server.stops, set_up.server.begins = None, lambda number: seen.append(set_up.problem[0])
    set_up.update(host="mx.example.com")
    set_up.work()
    assert (seen, set_up.problem[0]) == (["queued"], "")


def test_a_start_without_mail_is_well(desk):
    desk.save()
    desk.raise_events()
    desk.work()
    desk.restart()
    assert desk.problem[0] == ""


def test_an_update_while_nothing_failed_is_no_problem(set_up):
    """An event that waits for its digest was not tried."""
    set_up.budget = 2
    set_up.restart()
    set_up.raise_events(4, "info")
    set_up.work()
    set_up.update(sender_name="Other alarms")
    set_up.work()
    assert (len(set_up.waiting), set_up.problem[0]) == (3, "")


def test_a_loss_lasts_while_the_next_mail_has_reached_only_some_of_its_recipients(set_up):
    """OpenSMTPD#586: the mail may still be lost for the others."""
    set_up.listed = [Recipient(each) for each in PAIR]
    set_up.server.answer = lambda number, recipient: REFUSED
    set_up.raise_events()
    set_up.work()
    one_a_transaction = [Outcome("try later", "recipient", "452 too many", scope="transaction")]
    set_up.server.answer = lambda number, recipient: (
        one_a_transaction.pop() if recipient == PAIR[1] and one_a_transaction else DELIVERED
    )
    seen = []
    set_up.server.begins = lambda number: seen.append(set_up.problem[0])
    set_up.raise_events()
    set_up.work()
    assert seen == ["refused", "refused"]
    assert set_up.problem[0] == ""


# Between an Update and the round that reads it, which is when the page is loaded that says "Saved.".


@pytest.mark.parametrize("count, word", [(0, ""), (1, "queued")])
def test_right_after_an_update_no_problem_of_the_former_settings_is_shown(desk, count, word):
    desk.work()
    assert desk.problem[0] == "unset"
    desk.raise_events(count)
    desk.update()
    assert desk.problem[0] == word
    desk.work()
    assert desk.problem[0] == ""


def test_right_after_an_update_a_refused_login_is_over(set_up):
    set_up.server.stops = LOGIN_REFUSED
    set_up.raise_events()
    set_up.work()
    assert set_up.problem[0] == "login refused"
    set_up.update(sealed="two")
    assert set_up.problem[0] == "queued"
    set_up.work()
    assert set_up.problem[0] == "login refused"


def test_right_after_a_test_that_got_through_a_refused_login_is_over(set_up):
    set_up.server.stops = LOGIN_REFUSED
    set_up.raise_events()
    set_up.work()
    set_up.server.stops = None
    set_up.worker.settings_verified(set_up.store.read()[0])
    assert set_up.problem[0] == "queued"
    set_up.work()
    assert set_up.problem[0] == ""


def test_message_of_settings_that_were_read_hides_no_problem(set_up):
    set_up.server.stops = LOGIN_REFUSED
    set_up.raise_events()
    set_up.work()
    revision = set_up.store.read()[1]
    for repeated in (revision, "", revision):
        set_up.worker.settings_changed(repeated)
        assert set_up.problem[0] == "login refused"


def test_right_after_an_update_a_loss_is_still_shown(set_up):
    set_up.server.answer = lambda number, recipient: REFUSED
    set_up.raise_events()
    set_up.work()
    set_up.update(host="mx.example.com")
    assert set_up.problem[0] == "refused"


def test_an_update_during_a_session_ends_its_problem_until_the_next_round(set_up):
    seen = []

    def answer(number, recipient):
        set_up.update(host="mx.example.com")
        seen.append(set_up.problem[0])
        return LATER

    set_up.server.answer = answer
    set_up.raise_events()
    set_up.worker.round()
    assert (seen, set_up.problem[0]) == (["queued"], "queued")
    set_up.server.answer = lambda number, recipient: LATER
    set_up.worker.round()
    assert set_up.problem[0] == "server"


def test_flash_that_fails_right_after_an_update_is_shown(set_up, monkeypatch):
    def tidy():
        raise NotStored(set_up.store.path, OSError("database or disk is full"))

    set_up.raise_events()
    set_up.update(host="mx.example.com")
    monkeypatch.setattr(set_up.outbox, "tidy", tidy)
    set_up.worker.round()
    assert set_up.problem[0] == "storage"
