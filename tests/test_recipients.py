"""Who gets the mail of an event."""

from __future__ import annotations

import pytest

from device_ui.settings.recipients import Recipient, addresses
from device_ui.settings.smtp import SmtpSettings

SETTINGS = SmtpSettings("mail.example.com", 587, "Storage alarms", "alarm@mail.example.com", sealed="x")
EVERYTHING = Recipient("all@mail.example.com")
FAULTS = Recipient("faults@mail.example.com", "fault")


@pytest.mark.parametrize("event_type", ["info", "fault"])
def test_with_nobody_listed_everything_goes_to_the_account(event_type):
    assert addresses(event_type, [], SETTINGS) == ["alarm@mail.example.com"]


def test_with_nobody_listed_and_a_login_that_is_no_address_it_goes_to_the_from_address():
    provider = SmtpSettings(
        "mail.example.com", 587, "x", "apikey", sign_in="provider", from_address="a.b@c.d", sealed="x"
    )
    assert addresses("info", [], provider) == ["a.b@c.d"]


@pytest.mark.parametrize(
    ("event_type", "expected"),
    [
        ("info", ["all@mail.example.com"]),
        ("fault", ["faults@mail.example.com", "all@mail.example.com"]),
    ],
)
def test_faults_go_to_everybody_and_the_rest_to_who_wants_everything(event_type, expected):
    assert addresses(event_type, [FAULTS, EVERYTHING], SETTINGS) == expected


def test_whoever_is_listed_for_faults_alone_gets_no_information_and_nobody_else_does():
    assert addresses("info", [FAULTS], SETTINGS) == []


@pytest.mark.parametrize(
    ("lowest", "event_type", "wanted"),
    [("info", "info", True), ("info", "fault", True), ("fault", "fault", True), ("fault", "info", False)],
)
def test_lowest_type_says_what_is_wanted(lowest, event_type, wanted):
    assert Recipient("a@b.c", lowest).wants(event_type) is wanted
