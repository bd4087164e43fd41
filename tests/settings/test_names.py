"""The names that an administrator added: what is a name, and what the file of the list holds."""

from __future__ import annotations

import pytest

from device_ui.errors import Damaged, Message
from device_ui.settings import names
from device_ui.settings.rules import Invalid
from device_ui.settings.store import NameStore

SENTENCE = "Please enter a host name, such as nas.example: no address, no scheme, no port."


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("nas.lan", "nas.lan"),
        ("NAS", "nas"),
        ("\tnas.lan\u200b ", "nas.lan"),
        ("nas_1.fritz.box", "nas_1.fritz.box"),
        ("나스.lan", "xn--910b755a.lan"),
        ("a" * 63 + ".lan", "a" * 63 + ".lan"),
    ],
)
def test_a_name_is_kept_as_a_browser_sends_it(typed, name):
    assert names.add((), typed) == (name,)


@pytest.mark.parametrize(
    "typed",
    [
        *(
            "",
            " ",
            "nas.lan:8080",
            "http://nas.lan",
            "nas.lan/",
            "nas..lan",
            ".lan",
            "nas.",
            "*.lan",
            "*",
            "na s",
            "a@b",
        ),
        *(
            "192.0.2.1",
            "127.1",
            "0x7f.1",
            "2130706433",
            "[::1]",
            "::1",
            "nas.lan\n",
            "nas\0",
            "a" * 254,
            "나" * 64,
            "\ud800",
        ),
    ],
)
def test_what_is_no_name_is_refused(typed):
    found = names.add((), typed)
    assert isinstance(found, Invalid) and found.sentence == SENTENCE


def test_none_is_listed_twice_and_ten_are_enough():
    assert names.add(("nas.lan",), "NAS.lan") == Invalid("This name is on the list already.")
    full = tuple(f"nas{number}" for number in range(10))
    found = names.add(full, "one.more")
    assert isinstance(found, Invalid) and str(found.sentence) == "The list holds 10 names at most. Remove one first."


def test_a_name_is_removed_and_no_other():
    assert names.remove(("a", "b"), "a") == ("b",)
    assert names.remove(("a", "b"), "c") == ("a", "b")


def test_the_file_comes_back_as_it_was_written(tmp_path):
    store = NameStore(tmp_path / "names.toml")
    store.save(("nas.lan", "nas"), "")
    assert store.read()[0] == ("nas.lan", "nas")


@pytest.mark.parametrize(
    "values",
    [
        {"name_01": "NAS"},
        {"name_02": "nas"},
        {"name_01": "nas", "name_02": "nas"},
        {"name_01": "evil.example:80"},
        {"name_01": 1},
        {"name": "nas"},
        {f"name_{number:02}": f"nas{number}" for number in range(1, 12)},
    ],
)
def test_a_file_that_no_page_wrote_is_damage(values):
    assert isinstance(names.from_values(values), Message)


def test_a_changed_byte_is_damage(tmp_path):
    store = NameStore(tmp_path / "names.toml")
    store.save(("nas.lan",), "")
    store.path.write_bytes(store.path.read_bytes().replace(b"nas.lan", b"evl.lan"))
    with pytest.raises(Damaged):
        store.read()
