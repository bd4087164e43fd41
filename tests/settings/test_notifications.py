"""What is mailed, and when: the choices, their rules, and their file."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_ui.errors import Conflict, Damaged
from device_ui.settings import notifications
from device_ui.settings.notifications import Notifications, from_values, parse, to_values, with_codes
from device_ui.settings.store import NotificationStore

EVERY_CODE = [f"{code:03}" for code in range(1000) if f"{code:03}" not in notifications.WITHOUT_CHOICE]
CODES = st.sampled_from(EVERY_CODE)
TIMES = st.integers(0, 1439).map(lambda minute: f"{minute // 60:02}:{minute % 60:02}")
CHOSEN = st.builds(
    lambda infos, at, sign, codes: with_codes(Notifications(infos, at, sign), codes),
    st.booleans(),
    TIMES,
    st.sampled_from(list(notifications.SIGNS)),
    st.dictionaries(CODES, st.sampled_from(list(notifications.CHOICES)), max_size=5),
)


def test_at_first_everything_is_mailed_at_once():
    assert [Notifications().decide(code, kind) for code in ("303", "999") for kind in ("info", "fault")] == 4 * [
        "at-once"
    ]


@pytest.mark.parametrize(
    ("infos", "choice", "of_info", "of_fault"),
    [
        (True, "at-once", "at-once", "at-once"),
        (True, "summary", "summary", "summary"),
        (True, "never", "never", "never"),
        (False, "at-once", "never", "at-once"),
        (False, "summary", "never", "summary"),
        (False, "never", "never", "never"),
    ],
)
def test_decisions(infos, choice, of_info, of_fault):
    chosen = with_codes(Notifications(infos), {"303": choice})
    assert (chosen.decide("303", "info"), chosen.decide("303", "fault")) == (of_info, of_fault)


@pytest.mark.parametrize(
    ("given", "broken"),
    [
        ({"infos": "yes"}, {"infos": "This is true or false."}),
        ({"infos": 1}, {"infos": "This is true or false."}),
        ({"sign_of_life": "hourly"}, {"sign_of_life": "Please choose one of the values listed."}),
        ({"303": "later"}, {"303": "Please choose one of the values listed."}),
        ({"303": True}, {"303": "Please choose one of the values listed."}),
        ({"303": [], "sign_of_life": {}}, dict.fromkeys(("sign_of_life", "303"), "Please choose one of the values listed.")),
        ({"3": "never"}, {"3": "A code has three digits."}),
        ({"153": "never", "905": "at-once"}, {
            "153": "Events of this code are kept in the history and never mailed, so it has no choice.",
            "905": "The sign of life is mailed as sign_of_life says, so its code has no choice.",
        }),
        ({"٣٠٣": "never"}, {"٣٠٣": "A code has three digits."}),
        ({"3034": "never", "infos": None, "summary_time": ""}, {
            "infos": "This is true or false.",
            "summary_time": "Please enter a time of day, such as 08:00.",
            "3034": "A code has three digits.",
        }),
    ],
)  # fmt: skip
def test_everything_that_is_broken_is_named(given, broken):
    found = parse(given)
    assert {name: each.sentence for name, each in found.items()} == broken


@pytest.mark.parametrize("text", ["8:00", "24:00", "08:60", "08", "0800", "08:00:00", "８:００", "08:0a", "-1:00", 800])
def test_a_time_that_is_none(text):
    assert set(parse({"summary_time": text})) == {"summary_time"}


@pytest.mark.parametrize(("text", "minute"), [("00:00", 0), ("08:00", 480), (" 23:59\t", 1439)])
def test_a_time_of_day(text, minute):
    assert parse({"summary_time": text}).minute == minute


@given(CHOSEN)
def test_the_file_has_what_was_chosen(chosen):
    assert from_values(to_values(chosen)) == chosen


@given(CHOSEN, CODES)
def test_choosing_at_once_is_no_choice(chosen, code):
    assert with_codes(with_codes(chosen, {code: "never"}), {code: "at-once"}) == with_codes(chosen, {code: "at-once"})


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"infos": True, "summary_time": "08:00", "sign_of_life": "off", "code_303": "at-once"},
        {"infos": True, "summary_time": " 08:00", "sign_of_life": "off"},
        {"infos": True, "summary_time": "08:00", "sign_of_life": "off", "303": "never"},
        {"infos": True, "summary_time": "08:00", "sign_of_life": "off", "colour": "red"},
    ],
)
def test_values_that_no_file_of_ours_has_are_damage(values):
    assert not isinstance(from_values(values), Notifications)


def test_every_code_fits_into_the_file(tmp_path):
    store = NotificationStore(tmp_path / "notifications.toml")
    chosen = with_codes(Notifications(), dict.fromkeys(EVERY_CODE, "summary"))
    store.save(chosen, "")
    assert store.read()[0] == chosen


def test_the_second_of_two_writers_is_refused_and_a_flipped_bit_is_damage(tmp_path):
    store = NotificationStore(tmp_path / "notifications.toml")
    store.save(Notifications(), "")
    with pytest.raises(Conflict):
        store.save(Notifications(infos=False), "")
    store.path.write_bytes(store.path.read_bytes().replace(b"true", b"tru!"))
    with pytest.raises(Damaged):
        store.read()
