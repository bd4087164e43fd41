"""Who gets the mail of an event."""

from __future__ import annotations

import pytest

from device_ui.errors import Damaged
from device_ui.settings import recipients
from device_ui.settings.fields import SmtpSettings
from device_ui.settings.recipients import Recipient, addresses
from device_ui.settings.rules import Invalid
from device_ui.settings.store import RecipientStore
from device_ui.storage import toml_file

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


# The list and its file

GOOD = ["alarm@mail.example.com", "a.b-c@x.y", "!#$%&'+/=^_`{|}~?@a-b.co.kr", " spaced@example.com "]
BAD = [
    "",
    "a",
    "a@b",
    "a@@b.c",
    "a b@c.d",
    "a@b.c\r\nRCPT TO:<x@y.z>",
    "<a@b.c>",
    "a@b.c,d@e.f",
    "김@b.c",
    "x" * 97 + "@b.c",
]


@pytest.mark.parametrize("address", GOOD)
def test_an_address_is_added_at_the_end(address):
    assert recipients.add((FAULTS,), address, "info") == (FAULTS, Recipient(address.strip()))


@pytest.mark.parametrize("address", BAD)
def test_what_is_no_address_is_refused(address):
    found = recipients.add((), address, "info")
    assert isinstance(found, Invalid)
    assert found.sentence == "Please enter an e-mail address, such as name@example.com."


def test_nobody_is_listed_twice():
    again = recipients.add((FAULTS,), "FAULTS@mail.example.com", "info")
    assert again == Invalid("This address is on the list already.")


def test_the_list_ends_at_twenty():
    listed: tuple[Recipient, ...] = ()
    for number in range(20):
        listed = recipients.add(listed, f"a{number}@b.c", "info")  # type: ignore[assignment]
    assert len(listed) == 20
    full = recipients.add(listed, "one@more.example", "info")
    assert isinstance(full, Invalid)
    assert str(full.sentence) == "The list holds 20 addresses at most. Remove one first."


@pytest.mark.parametrize("lowest", ["", "all", "INFO"])
def test_a_lowest_type_is_one_of_two(lowest):
    assert recipients.add((), "a@b.c", lowest) == Invalid("Please choose one of the values listed.")
    assert recipients.change((FAULTS,), FAULTS.address, lowest) == Invalid("Please choose one of the values listed.")


def test_one_entry_is_changed_and_the_others_are_not():
    changed = recipients.change((EVERYTHING, FAULTS), FAULTS.address, "info")
    assert changed == (EVERYTHING, Recipient(FAULTS.address, "info"))


def test_one_entry_is_removed_and_the_others_are_not():
    assert recipients.remove((EVERYTHING, FAULTS), EVERYTHING.address) == (FAULTS,)
    assert recipients.remove((FAULTS,), "nobody@example.com") == (FAULTS,)


def test_the_file_reads_back_as_it_was_written(tmp_path):
    store = RecipientStore(tmp_path / "recipients.toml")
    assert store.read() == (None, "")
    assert store.save((EVERYTHING, FAULTS), "")
    assert store.read()[0] == (EVERYTHING, FAULTS)
    text = store.path.read_text()
    assert 'recipient_01 = "info all@mail.example.com"' in text
    assert 'recipient_02 = "fault faults@mail.example.com"' in text


@pytest.mark.parametrize(
    "values",
    [
        {"recipient_02": "info a@b.c"},
        {"recipient_01": "a@b.c"},
        {"recipient_01": "all a@b.c"},
        {"recipient_01": "info a@b.c", "recipient_02": "info A@b.c"},
        {"recipient_01": "info  a@b.c"},
        {"recipient_01": 1},
        {f"recipient_{number:02}": f"info a{number}@b.c" for number in range(1, 22)},
    ],
)
def test_a_file_that_the_page_could_not_have_written_is_damage(tmp_path, values):
    path = tmp_path / "recipients.toml"
    path.write_bytes(toml_file.encode("x", values))
    with pytest.raises(Damaged):
        RecipientStore(path).read()
    assert RecipientStore(path).load().damaged == tmp_path / "recipients.toml.damaged-1"
