"""Before a certificate ends, an event warns: 30, 14, 7 and 1 days before, each once, while mail still works."""

from __future__ import annotations

import json
from email import message_from_bytes

import pytest

from device_ui.errors import NotStored, from_stored
from device_ui.mail.delivery.certificate_watch import KEPT, METADATA
from device_ui.mail.smtp.outcome import SessionError
from device_ui.mail.smtp.trust import InUse
from device_ui.settings.notifications import NEVER, NOTIFICATIONS_FILE, Notifications
from device_ui.settings.store import NotificationStore
from tests.helpers.delivery import DAY, Desk, Session, dropped
from tests.servers.authority import Authority

NOW = 1.8e9
YEAR = 365 * DAY
KEY = "0f" * 32
PIN = {"trust": "pin", "trust_key": KEY}
OWN = {"trust": "ca", "trust_ca": Authority("Our own").pem.decode().strip()}


def ending(days: float, role: str = "server", life: float = YEAR) -> InUse:
    """A certificate that ends so many days from the beginning of the test."""
    return InUse(role, NOW + days * DAY - life, NOW + days * DAY)


def shows(desk: Desk, *certificates: InUse) -> None:
    """Let each session rely on these from now on."""
    Showing = type("Showing", (Session,), {"certificates": certificates})
    desk.server.connect = lambda settings, password: Showing(desk.server, settings, password)


def deliver(desk: Desk, days: float = 0) -> None:
    """Deliver one alarm, so many days from the beginning."""
    desk.wall = NOW + days * DAY
    desk.raise_events()
    desk.work()
    assert desk.waiting == []


def warnings(desk: Desk) -> list[str]:
    rows = desk.outbox.read("SELECT text FROM event WHERE code = '906' ORDER BY number", ())
    return [str(from_stored(text)) for (text,) in rows]


def days_of(desk: Desk) -> list[str]:
    return [text.partition(" in ")[2].partition(" days")[0] for text in warnings(desk)]


def test_each_warning_comes_once(set_up):
    shows(set_up, ending(40))
    for day in (0, 9, 10, 11, 25, 26, 32, 33, 34, 38, 39):
        deliver(set_up, day + 0.5)
        deliver(set_up, day + 0.6)
    assert days_of(set_up) == ["29", "13", "6", "0"]


def test_warning_is_mailed_in_the_session_that_saw_it(set_up):
    shows(set_up, ending(14))
    set_up.raise_events()
    set_up.work()
    subjects = [str(message_from_bytes(mail)["Subject"]) for mail in set_up.server.mails]
    assert len(set_up.server.connects) == 1
    assert [subject for subject in subjects if subject.startswith("[fault 906]")] != []


def test_warnings_survive_a_restart(set_up):
    shows(set_up, ending(7))
    deliver(set_up)
    set_up.restart()
    deliver(set_up, 0.5)
    assert len(warnings(set_up)) == 1


def test_event_and_note_are_one_commit(set_up):
    """A full flash takes neither, and holds up no mail; with room again the warning comes."""
    shows(set_up, ending(7))
    set_up.raise_events()
    set_up.outbox.full = True
    with pytest.raises(NotStored):  # the results of the mail, not the warning
        set_up.outbox.set_metadata("anything", "1")
    set_up.worker.round()
    assert len(set_up.server.mails) == 1
    assert (warnings(set_up), METADATA in set_up.outbox.metadata()) == ([], False)
    set_up.outbox.full = False
    deliver(set_up)
    assert len(warnings(set_up)) == 1


def test_event_and_note_are_there_together(set_up):
    """For a reader of the ledger between any two commits: with the event is its note."""
    shows(set_up, ending(7))
    set_up.raise_events()
    found = []
    accept = set_up.outbox.accept

    def accept_and_look(*given, **named):
        numbers = accept(*given, **named)
        found.append((len(warnings(set_up)), METADATA in set_up.outbox.metadata()))
        return numbers

    set_up.outbox.accept = accept_and_look
    set_up.work()
    assert (1, True) in found and (1, False) not in found


def test_renewed_certificate_warns_anew(set_up):
    shows(set_up, ending(7))
    deliver(set_up)
    shows(set_up, ending(371))
    deliver(set_up, 1)
    assert len(warnings(set_up)) == 1
    deliver(set_up, 364.5)
    assert len(warnings(set_up)) == 2


def test_two_machines_behind_one_name_warn_once_each(set_up):
    for _ in range(3):
        for machine in (ending(7), ending(6)):
            shows(set_up, machine)
            deliver(set_up)
    assert len(warnings(set_up)) == 2


def test_notes_are_bounded(set_up):
    for number in range(KEPT + 5):
        shows(set_up, ending(7 - number / 100))
        deliver(set_up)
    assert set_up.outbox.metadata()[METADATA].count("server mail.example.com") == KEPT


@pytest.mark.parametrize(
    ("life", "left", "warns"),
    [(90, 30, False), (90, 29, False), (90, 14, True), (47, 15, False), (6, 2, False), (6, 1, True), (91, 30, True)],
)
def test_certificate_that_is_renewed_by_itself_is_no_fault(life, left, warns, set_up):
    """A public certificate is renewed when a third of its life is left; a warning before that would come with each."""
    shows(set_up, ending(left, life=life * DAY))
    deliver(set_up)
    assert bool(warnings(set_up)) == warns


@pytest.mark.parametrize(
    ("life", "left", "warns"),
    [
        (90, 31, False),
        (90, 30, True),
        (47, 30, False),
        (47, 14, True),
        (30, 14, False),
        (30, 7, True),
        (7, 6, False),
        (7, 1, True),
    ],
)
@pytest.mark.parametrize("trust", [PIN, OWN], ids=["key", "authority"])
def test_certificate_that_a_person_replaces_has_each_warning(trust, life, left, warns, set_up):
    """The letter of the rule for a life of 90 days and more. A shorter one is renewed by a program: an early warning is no fault."""
    set_up.save(**trust)
    shows(set_up, ending(left, life=life * DAY))
    deliver(set_up)
    assert bool(warnings(set_up)) == warns


@pytest.mark.parametrize(
    ("ahead", "right"),
    [(199.5, (101, 170.5, 186.5)), (199.5, (170.5, 186.5)), (170.5, (101, 170.5, 186.5))],
    ids=["right long before", "right in its last month", "the same day again"],
)
def test_clock_that_was_ahead_uses_up_no_warning(ahead, right, set_up):
    shows(set_up, ending(200))
    for day in (100, ahead, *right):
        deliver(set_up, day)
    assert days_of(set_up)[1:] == ["29", "13"]


def test_authority_that_issues_for_a_day_causes_no_fault_a_day(set_up):
    set_up.save(**OWN)
    for day in range(5):
        shows(set_up, ending(day + 1, life=DAY), ending(1000, "authority", 9 * YEAR))
        deliver(set_up, day + 0.9)
    assert warnings(set_up) == []


def test_each_certificate_has_its_own_words(set_up):
    shows(set_up, ending(7), ending(14, "authority"))
    deliver(set_up)
    server, authority = warnings(set_up)
    assert server.startswith("The certificate of mail.example.com ends on 2027-01-22, in 7 days.")
    assert "no mail goes out" in server
    assert authority.startswith("The trusted authority for mail.example.com ends on 2027-01-29, in 14 days.")


def test_trusted_key_outlives_its_certificate_and_the_state_says_so(set_up):
    set_up.save(**PIN)
    shows(set_up, ending(1))
    deliver(set_up, 0.5)
    assert "Its key is trusted, so mail goes on" in warnings(set_up)[0]
    assert set_up.problem == ("", "", "")
    deliver(set_up, 1.5)
    assert set_up.problem == ("certificate", "certificate", "it ended on 2027-01-16")
    set_up.restart()
    set_up.work()
    assert set_up.problem == ("certificate", "certificate", "it ended on 2027-01-16")
    assert len(warnings(set_up)) == 1


def test_certificate_that_has_ended_already_is_warned_of_once(set_up):
    set_up.save(**PIN)
    shows(set_up, ending(-100))
    deliver(set_up)
    deliver(set_up, 1)
    (text,) = warnings(set_up)
    assert text.startswith("The certificate of mail.example.com ended on")


@pytest.mark.parametrize("change", [{}, {**PIN, "trust_key": "1f" * 32}, {**PIN, "host": "other.example.com"}])
def test_other_settings_have_no_such_problem(change, set_up):
    set_up.save(**PIN)
    shows(set_up, ending(-1))
    deliver(set_up)
    assert set_up.problem[0] == "certificate"
    set_up.update(**change)
    set_up.work()
    assert set_up.problem[0] == ""


def test_renewed_certificate_of_the_trusted_key_ends_the_problem(set_up):
    set_up.save(**PIN)
    shows(set_up, ending(-1))
    deliver(set_up)
    shows(set_up, ending(300))
    deliver(set_up)
    assert set_up.problem[0] == ""


def test_clock_that_is_wrong_warns_of_nothing(set_up):
    set_up.wall = 1000.0
    shows(set_up, InUse("server", set_up.wall - YEAR, set_up.wall + 7 * DAY))
    set_up.raise_events()
    set_up.work(1200)
    assert warnings(set_up) == []


def test_operator_decides_whether_the_warning_is_mailed(set_up):
    chosen = NotificationStore(set_up.folder / NOTIFICATIONS_FILE)
    chosen.save(Notifications(codes=(("906", NEVER),)), "")
    shows(set_up, ending(7))
    deliver(set_up)
    assert (len(warnings(set_up)), len(set_up.server.mails)) == (1, 1)


@pytest.mark.parametrize("note", ["", "[]", '{"warned": 1}', '{"warned": {"x": "y"}, "pinned": ["", 0]}', "{}"])
def test_damaged_note_costs_a_warning_and_no_mail(note, set_up):
    set_up.outbox.set_metadata(METADATA, note)
    shows(set_up, ending(7))
    deliver(set_up)
    assert len(warnings(set_up)) == 1


# The certificate of a trusted key, for the words of a changed one.


def seen_by(desk: Desk) -> InUse | None:
    return desk.worker.certificate_last_seen(desk.store.read()[0])


def test_certificate_of_a_trusted_key_is_known_from_the_last_session(set_up):
    set_up.save(**PIN)
    assert seen_by(set_up) is None
    for shown in (ending(90), ending(300)):
        shows(set_up, shown)
        deliver(set_up)
        assert seen_by(set_up) == shown
    set_up.restart()
    assert seen_by(set_up) == ending(300)


@pytest.mark.parametrize("change", [{**PIN, "trust_key": "1f" * 32}, {**PIN, "host": "other.example.com"}])
def test_certificate_of_other_settings_is_not_that_of_these(change, set_up):
    set_up.save(**PIN)
    shows(set_up, ending(90))
    deliver(set_up)
    set_up.save(**change)
    assert seen_by(set_up) is None


def test_note_of_a_former_version_keeps_its_end_and_gets_the_beginning(set_up):
    set_up.save(**PIN)
    former = {"warned": {}, "pinned": [f"mail.example.com 587 {KEY}", NOW - 5 * DAY]}
    set_up.outbox.set_metadata(METADATA, json.dumps(former))
    set_up.work()
    assert (set_up.problem[2], seen_by(set_up)) == ("it ended on 2027-01-10", None)
    shows(set_up, ending(-5))
    deliver(set_up)
    assert seen_by(set_up) == ending(-5)


def test_ledger_that_cannot_be_read_costs_the_dates_and_no_session(set_up):
    set_up.save(**PIN)
    set_up.outbox.close()
    assert seen_by(set_up) is None


# A certificate that is not the trusted one.

CHANGED = SessionError("certificate", "key changed", "the trusted key is 0f; the server shows the key 1f")


def test_mail_of_a_changed_key_waits_for_as_long_as_it_takes(set_up):
    set_up.save(**PIN)
    set_up.server.stops = CHANGED
    set_up.raise_events(2)
    set_up.work(20 * DAY, step=1800)
    assert (dropped(set_up), set_up.waiting) == ([], [1, 2])
    assert set_up.problem == ("server", "certificate", str(CHANGED.reply))
    set_up.server.stops = None
    set_up.work(2 * 3600)
    assert set_up.waiting == []


def test_mail_of_a_certificate_that_the_system_refuses_is_given_up_as_before(set_up):
    set_up.server.stops = SessionError("certificate", "expired", "certificate has expired")
    set_up.raise_events()
    set_up.work(6 * DAY, step=1800)
    assert dropped(set_up) == [1]
