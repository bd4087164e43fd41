"""The table of what an answer decides: for each rule a reply that meets it, and the rules that no row may break."""

from __future__ import annotations

import itertools

import pytest

from device_ui.mail.smtp.scope import NOTHING, RULES, Before, Command, Ruling, Scope, rule

MAIL, RCPT, DATA, CONTENT, AUTH, OPEN = (Command(each) for each in ("MAIL", "RCPT", "DATA", "content", "AUTH", "open"))
# What the server may have done before: accepted recipients before the answer and in all, refused ones, a mail delivered.
BEFORE = [
    NOTHING,
    Before(sized=True),
    Before(delivered=True),
    Before(refused=1),
    Before(refused=1, delivered=True),
    Before(0, 5),
    Before(1, 1),
    Before(5, 5),
    Before(1, 1, delivered=True),
    Before(5, 5, 1, delivered=True),
]
CODES = [
    None,
    -1,
    200,
    235,
    250,
    252,
    334,
    354,
    421,
    450,
    451,
    452,
    454,
    500,
    503,
    521,
    530,
    535,
    538,
    550,
    552,
    554,
    999,
]
ENHANCED = ["", "x.0.0", "x.1.1", "x.1.7", "x.2.1", "x.2.2", "x.2.3", "x.3.2", "x.3.4", "x.4.2", "x.5.1", "x.5.3"]
ENHANCED += ["x.6.0", "x.7.0", "x.7.1", "x.7.8", "x.7.25"]


def every_answer():
    for command, code, enhanced in itertools.product(Command, CODES, ENHANCED):
        yield command, code, enhanced.replace("x", str(code)[0]) if code and 200 <= code < 600 else ""


def test_each_row_has_its_source():
    assert all(row.source.startswith(("RFC ", "the server takes mail")) for row in RULES)


def test_each_row_is_the_first_for_some_answer():
    rows = set()
    for command, code, enhanced in every_answer():
        for before in BEFORE:
            number = "none" if code is None else f"{max(code, 0):03}"
            row = next((each for each in RULES if each.matches(command, number, enhanced or "-", before)), None)
            rows.add(row)
    assert [row for row in RULES if row not in rows] == []


def test_only_a_25x_to_the_content_delivers():
    delivering = {
        (command, code)
        for command, code, enhanced in every_answer()
        if rule(command, code, enhanced, BEFORE[0]).verdict == "delivered"
    }
    assert delivering == {(CONTENT, 250), (CONTENT, 252)}


def test_only_a_5xx_refuses_and_never_for_more_than_the_mail():
    for command, code, enhanced in every_answer():
        for before in BEFORE:
            ruling = rule(command, code, enhanced, before)
            if ruling.verdict == "refused":
                assert code is not None and 500 <= code < 600, (command, code, enhanced)
                assert ruling.scope in (Scope.RECIPIENT, Scope.MAIL)
                assert command in (RCPT, DATA, CONTENT) or ruling.is_size


def test_only_the_login_is_locked_and_only_by_a_5xx():
    for command, code, enhanced in every_answer():
        if rule(command, code, enhanced).scope == Scope.LOGIN:
            assert command == AUTH and code is not None and 500 <= code < 600


def test_what_goes_on_at_once_had_some_progress_before():
    """Otherwise it would go on for ever: a new session follows a delivery, a smaller transaction an answer."""
    for command, code, enhanced in every_answer():
        for before in BEFORE:
            scope = rule(command, code, enhanced, before).scope
            assert scope != Scope.SESSION or before.delivered, (command, code, enhanced, before)
            assert scope != Scope.TRANSACTION or before.accepted or before.refused, (command, code, enhanced, before)


ONE, SEVERAL, LATER_MAIL = Before(1, 1), Before(5, 5), Before(delivered=True)
CASES = [
    (RCPT, 552, "5.5.3 Too many", SEVERAL, "transaction try later"),
    (RCPT, 552, "Too many", SEVERAL, "transaction try later"),
    (RCPT, 452, "", SEVERAL, "transaction try later"),
    (RCPT, 452, "#4.5.3 Too many recipients.", SEVERAL, "transaction try later"),
    (RCPT, 452, "4.2.2 mailbox full", SEVERAL, "recipient try later"),
    (RCPT, 552, "5.2.2 mailbox full", SEVERAL, "recipient refused"),
    (RCPT, 552, "", NOTHING, "recipient refused"),
    (RCPT, 550, "5.5.3", NOTHING, "recipient try later"),
    (RCPT, 452, "", LATER_MAIL, "session try later"),
    (RCPT, 421, "", SEVERAL, "transaction try later"),
    (RCPT, None, "", NOTHING, "server try later"),
    (RCPT, None, "", LATER_MAIL, "session try later"),
    (RCPT, 550, "5.1.1", SEVERAL, "recipient refused"),
    (RCPT, 503, "", Before(0, 0, 1), "transaction try later"),
    (RCPT, 530, "5.7.0", NOTHING, "server try later"),
    (MAIL, 421, "", NOTHING, "server try later"),
    (MAIL, 421, "", LATER_MAIL, "session try later"),
    (MAIL, 552, "", Before(sized=True), "mail refused"),
    (MAIL, 552, "", NOTHING, "server try later"),
    (MAIL, 552, "5.2.2", Before(sized=True), "server try later"),
    (DATA, 554, "", SEVERAL, "transaction try later"),
    (DATA, 554, "", ONE, "mail refused"),
    (DATA, 554, "5.7.1 spam", SEVERAL, "mail refused"),
    (CONTENT, 250, "", ONE, "recipient delivered"),
    (CONTENT, 451, "", ONE, "mail try later"),
    (CONTENT, 451, "", Before(1, 1, delivered=True), "session try later"),
    (CONTENT, 552, "", SEVERAL, "mail refused"),
    (CONTENT, None, "", Before(1, 1, delivered=True), "mail try later"),
    (CONTENT, 421, "", ONE, "server try later"),
    (AUTH, 535, "5.7.8 no", NOTHING, "login try later"),
    (AUTH, 535, "5.7.8 Connection lost to authentication server", NOTHING, "server try later"),
    (AUTH, 454, "4.7.0", NOTHING, "server try later"),
    (OPEN, 554, "", NOTHING, "server try later"),
]


@pytest.mark.parametrize(("command", "code", "text", "before", "expected"), CASES)
def test_an_answer_decides_for_what_it_was_about(command, code, text, before, expected):
    ruling: Ruling = rule(command, code, text, before)
    assert f"{ruling.scope} {ruling.verdict}" == expected
    assert rule(command, code, f"{code} {text}", before) == ruling  # as a whole reply, too
