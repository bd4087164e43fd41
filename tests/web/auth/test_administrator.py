"""One code, one password: what opens the pages, and what never does."""

from __future__ import annotations

import hashlib
import os
import stat
import sys
import threading
import unicodedata

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from device_ui.errors import Damaged
from device_ui.storage import toml_file
from device_ui.web.auth.administrator import Administrator, new_code, password_problem
from tests.helpers.product import ADMIN_PASSWORD as PASSWORD
from tests.helpers.product import choose_password

TOO_SHORT = "Please choose a password of 15 to 128 characters."
TOO_NEAR = "This password is little more than usual words and the device's names: add what nobody can guess."
TOO_PLAIN = "This password is too easy to guess: use more different characters, and no plain row of the keyboard."
NOT_TYPED = "A password cannot hold control characters."


@pytest.fixture
def administrator(tmp_path):
    return Administrator(tmp_path / "web" / "administrator.toml")


@pytest.fixture
def fresh(administrator):
    """An administrator's record with a setup code."""
    administrator.begin(is_new=True)
    return administrator


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    """An administrator's record with `PASSWORD`; not to be changed."""
    administrator = Administrator(tmp_path_factory.mktemp("known") / "administrator.toml")
    administrator.set_password(PASSWORD)
    return administrator


@pytest.fixture(scope="module")
def cheap(tmp_path_factory):
    """The same with a hash that costs nothing."""
    administrator = Administrator(tmp_path_factory.mktemp("cheap") / "administrator.toml")
    choose_password(administrator.path)
    return administrator


def scrypts(work) -> int:
    """How often `work` computed scrypt."""
    calls = []
    sys.setprofile(lambda _frame, event, of: calls.append(of) if event == "c_call" and of is hashlib.scrypt else None)
    try:
        work()
    finally:
        sys.setprofile(None)
    return len(calls)


# The setup code


def test_a_code_is_five_groups_of_four_that_nobody_misreads():
    codes = [new_code() for _ in range(200)]
    assert {tuple(len(group) for group in code.split("-")) for code in codes} == {(4, 4, 4, 4, 4)}
    assert not set("".join(codes)) & set("01ILOU")
    assert len(set("".join(codes)) - {"-"}) == 30


def test_two_devices_have_two_codes(tmp_path):
    codes = [Administrator(tmp_path / name / "a.toml").begin(is_new=True).code for name in ("one", "two")]
    assert codes[0] != codes[1]


def test_the_code_stays_the_same_until_it_is_used(fresh):
    assert fresh.begin(is_new=True) == fresh.begin(is_new=False) == fresh.load()


def test_a_missing_record_of_a_device_in_use_is_no_first_start(administrator):
    assert administrator.begin(is_new=False) is None
    assert not administrator.path.exists()


def test_the_record_and_its_folder_are_for_the_web_process_alone(fresh):
    modes = [stat.S_IMODE(os.stat(path).st_mode) for path in (fresh.path, fresh.path.parent)]
    assert modes == [0o600, 0o700]


@pytest.mark.parametrize(
    "spelt",
    [
        lambda code: code.replace("-", ""),
        lambda code: f"  {code.lower().replace('-', ' - ')}\t",
    ],
)
def test_a_code_is_read_without_case_blanks_and_hyphens(fresh, spelt):
    assert fresh.set_up(spelt(fresh.load().code), PASSWORD)


@pytest.mark.parametrize("wrong", ["", "-", "AAAA-AAAA-AAAA-AAAA-AAAA", "\udcff", "٢" * 20, "x" * 100_000])
def test_a_wrong_code_sets_nothing(fresh, wrong):
    before = fresh.path.read_bytes()
    assert not fresh.set_up(wrong, PASSWORD)
    assert fresh.path.read_bytes() == before


def test_part_of_a_code_sets_nothing(fresh):
    code = fresh.load().code
    assert not any(fresh.set_up(part, PASSWORD) for part in (code[:-1], code[1:], code + "A", code[::-1]))


def test_a_code_is_used_up(fresh):
    code = fresh.load().code
    assert fresh.set_up(code, PASSWORD)
    assert not fresh.set_up(code, "another sentence for tests")
    assert not fresh.set_up("", "another sentence for tests")
    assert fresh.verify(PASSWORD)
    assert code.encode() not in fresh.path.read_bytes()


def test_nothing_is_set_up_where_no_record_is(administrator):
    assert not administrator.set_up("", PASSWORD)
    assert not administrator.path.exists()


def test_of_two_set_ups_at_once_one_holds(fresh):
    code, start = fresh.load().code, threading.Barrier(2)
    passwords, done = ["the first sentence of two", "the second sentence of two"], {}

    def set_up(password: str) -> None:
        start.wait(60)
        done[password] = bool(fresh.set_up(code, password))

    threads = [threading.Thread(target=set_up, args=(password,)) for password in passwords]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(done.values()) == [False, True]
    assert {password: bool(fresh.verify(password)) for password in passwords} == done


def test_a_password_from_the_console_is_not_replaced_by_a_set_up_under_way(fresh):
    class Overtaken(Administrator):
        """The console sets the password between the look of a set-up and its write."""

        def load(self):
            found = super().load()
            fresh.set_password(PASSWORD)
            return found

    assert Overtaken(fresh.path).set_up(fresh.load().code, "another sentence for tests") is None
    assert fresh.verify(PASSWORD)


def test_of_two_first_starts_at_once_both_tell_the_same_code(tmp_path):
    """The console prints a code while the web process starts: the printed one must open the device."""
    path, printed = tmp_path / "administrator.toml", []

    class Late(Administrator):
        """Another process makes its code between our look and our write."""

        def load(self):
            found = super().load()
            if found is None:
                printed.append(Administrator(path).begin(is_new=True))
            return found

    assert [Late(path).begin(is_new=True)] == printed == [Administrator(path).load()]


# The password


def test_the_password_opens_and_no_other_does(known, cheap):
    assert known.verify(PASSWORD) and cheap.verify(PASSWORD)
    assert not any(cheap.verify(wrong) for wrong in ("", PASSWORD + " ", PASSWORD.upper(), PASSWORD[:-1]))
    assert not known.verify(PASSWORD[:-1])


def test_a_syllable_opens_however_the_keyboard_composes_it(administrator):
    password = "한국어로 된 관리자 비밀번호는 길다"
    administrator.set_password(unicodedata.normalize("NFD", password))
    assert unicodedata.normalize("NFD", password) != password
    assert administrator.verify(unicodedata.normalize("NFC", password))


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize(("count", "problem"), [(14, TOO_SHORT), (15, None), (128, None), (129, TOO_SHORT)])
def test_a_syllable_is_one_character_however_the_keyboard_composes_it(form, count, problem):
    text = ("가나다라마바사아자차카타파하거너더러" * 8)[:count]
    assert password_problem(unicodedata.normalize(form, text)) == problem


@pytest.mark.parametrize(
    "good",
    [
        "abcdefghijklmn!",
        "correct horse battery staple",
        "qwertyuiopasdfg",
        "x1y2z3" * 3,
        "🔒🔑🗝🚪🏠🛡 and 9 more",
        "한국어로 된 비밀번호 열다섯 자",
        "a\u00a0b c d e f g h i j",
        "abcdef" + "a" * 122,
    ],
)
def test_a_good_password_is_taken(good):
    assert password_problem(good) is None


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        ("", TOO_SHORT),
        ("abcdefghijkl!?", TOO_SHORT),
        ("x y z 1 2 3 4 5" * 10, TOO_SHORT),
        ("a" * 15, TOO_PLAIN),
        ("abcde" * 3, TOO_PLAIN),
        ("AbCdEaBcDeAbCdE", TOO_PLAIN),
        ("abcdefghijklmno", TOO_PLAIN),
        ("ABCDEFGHIJKLMNO", TOO_PLAIN),
        ("onmlkjihgfedcba", TOO_PLAIN),
        ("123456789012345", TOO_PLAIN),
        ("543210987654321", TOO_PLAIN),
        ("0123456789" * 12, TOO_PLAIN),
        ("xyzabcdefghijklmnop", TOO_PLAIN),
        ("qwertyuiop[]\\qwe", TOO_PLAIN),
        ("correct horse\nbattery", NOT_TYPED),
        ("correct horse\0battery", NOT_TYPED),
        ("correct horse\x7fbattery", NOT_TYPED),
        ("correct horse \udcff battery", NOT_TYPED),
    ],
)
def test_a_bad_password_is_refused_in_words(bad, problem):
    assert password_problem(bad) == problem


@pytest.mark.parametrize(
    "bad",
    [
        "passwordpassword",
        "Administrator123",
        "admin-admin-admin-admin",
        "Storage appliance 1",
        "StoreMaster9000!",
        "nas.example.com 123",
        "SN12345678 SN12345678",
        "devicepasswordlogin",
    ],
)
def test_usual_words_and_the_devices_names_are_no_password(bad):
    names = ("Storage appliance", "StoreMaster 9000", "SN12345678", "nas.example.com")
    assert password_problem(bad, names) == TOO_NEAR


def test_a_sentence_may_hold_usual_words():
    assert password_problem("the password of my storage is blue", ("Storage appliance",)) is None


def test_a_new_password_closes_the_old_one_out(administrator):
    administrator.set_password(PASSWORD)
    administrator.set_password("another sentence for tests")
    assert [bool(administrator.verify(each)) for each in (PASSWORD, "another sentence for tests")] == [False, True]


def test_only_a_salted_scrypt_hash_is_kept(known):
    values = toml_file.decode(known.path.read_bytes())
    assert {name: values[name] for name in ("n", "r", "p")} == {"n": 8192, "r": 8, "p": 10}
    salt = bytes.fromhex(values["salt"])
    assert len(salt) == 16
    found = hashlib.scrypt(PASSWORD.encode(), salt=salt, n=8192, r=8, p=10, maxmem=2**25, dklen=32)
    assert values["hash"] == found.hex()
    assert set(values) == {"n", "r", "p", "salt", "hash"}


def test_the_same_password_twice_is_two_hashes(administrator, known):
    administrator.set_password(PASSWORD)
    mine, other = administrator.load(), known.load()
    assert mine.salt != other.salt
    assert mine.hash != other.hash


def test_older_scrypt_parameters_still_open(administrator):
    """An update of the firmware may raise them; the hash on flash says how it was made."""
    salt = bytes(range(16))
    made = hashlib.scrypt(PASSWORD.encode(), salt=salt, n=1024, r=4, p=1, dklen=32)
    values = {"salt": salt.hex(), "hash": made.hex(), "n": 1024, "r": 4, "p": 1}
    administrator.path.parent.mkdir()
    administrator.path.write_bytes(toml_file.encode("older", values))
    assert administrator.verify(PASSWORD)


def test_a_wrong_password_costs_one_scrypt_like_the_right_one(cheap):
    assert [scrypts(lambda password=each: cheap.verify(password)) for each in (PASSWORD, "wrong", "")] == [1, 1, 1]


def test_no_password_yet_costs_one_scrypt_too(administrator):
    assert scrypts(lambda: administrator.verify(PASSWORD)) == 1
    administrator.begin(is_new=True)
    assert scrypts(lambda: administrator.verify(PASSWORD)) == 1


def test_no_password_opens_a_device_that_has_none(administrator):
    assert not administrator.verify("")
    administrator.begin(is_new=True)
    assert not any(administrator.verify(each) for each in ("", administrator.load().code))


# Damage


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"code": ""},
        {"code": "AAAA", "hash": "00" * 32},
        {"salt": "00" * 16, "hash": "00" * 31, "n": 8192, "r": 8, "p": 10},
        {"salt": "00" * 16, "hash": "", "n": 8192, "r": 8, "p": 10},
        {"salt": "00" * 16, "hash": "zz" * 32, "n": 8192, "r": 8, "p": 10},
        {"salt": "00" * 16, "hash": 5, "n": 8192, "r": 8, "p": 10},
        {"salt": "00" * 16, "hash": "00" * 32},
    ],
)
def test_a_record_that_says_something_else_is_damage(administrator, values):
    administrator.path.parent.mkdir()
    administrator.path.write_bytes(toml_file.encode("a record", values))
    with pytest.raises(Damaged):
        administrator.load()


@pytest.mark.parametrize("content", [b"", b"\n", b"\0" * 300, b'code = "AAAA"\n', b"\xff\xfe"])
def test_a_file_that_is_no_record_is_damage(administrator, content):
    administrator.path.parent.mkdir()
    administrator.path.write_bytes(content)
    with pytest.raises(Damaged):
        administrator.begin(is_new=True)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_no_flipped_bit_and_no_cut_opens_the_device(known, tmp_path, data):
    whole = known.path.read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    flipped = bytearray(whole)
    flipped[place] ^= 1 << data.draw(st.integers(0, 7))
    damaged = Administrator(tmp_path / "administrator.toml")
    for content in (bytes(flipped), whole[:place]):
        damaged.path.write_bytes(content)
        with pytest.raises(Damaged):
            damaged.load()


def test_a_record_that_is_no_file_is_not_a_missing_one(administrator):
    administrator.path.mkdir(parents=True)
    with pytest.raises(Damaged):
        administrator.begin(is_new=True)


def test_the_console_repairs_a_damaged_record(administrator):
    administrator.path.parent.mkdir()
    administrator.path.write_bytes(b"damaged")
    administrator.set_password(PASSWORD)
    assert administrator.verify(PASSWORD)


@pytest.mark.parametrize(
    "code",
    [
        "\x1b[2J",
        "2345-6789-ABCD-EFGH-JKMN\n",
        "2345-6789-ABCD-EFGH",
        "2345-6789-ABCD-EFGH-JKM0",
        "2345-6789-abcd-efgh-jkmn",
        1,
        True,
    ],
)
def test_a_code_that_was_not_made_here_is_damage(tmp_path, code):
    path = tmp_path / "administrator.toml"
    path.write_bytes(toml_file.encode("x", {"code": code}))
    with pytest.raises(Damaged):
        Administrator(path).load()
