"""The settings file: revision by revision, and what becomes of one that cannot be trusted."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_ui.errors import Conflict, Damaged, NotStored
from device_ui.settings import store
from device_ui.settings.fields import BY_NAME, SmtpSettings
from device_ui.settings.store import Store, Stored
from device_ui.storage import files, toml_file
from tests.helpers.product import ROOT

STORED = SmtpSettings("mail.example.com", 587, "Storage alarms", "alarm@mail.example.com", sealed="hpke1.sealed")
OTHER = dataclasses.replace(STORED, host="other.example.com")
RELAY = dataclasses.replace(STORED, sign_in="none", security="none", sealed=None)
RAW = store.encode(STORED)


@pytest.fixture
def tab(tmp_path):
    """The store of a device without settings."""
    return Store(tmp_path / "smtp.toml")


def revision(tab: Store) -> str:
    """The revision that stands."""
    return tab.read()[1]


# What is saved is read.


def test_file_can_be_read_by_a_person():
    assert RAW.decode().splitlines()[:-1] == [
        "# device-ui: the SMTP tab. Change it on the page: a file whose checksum is off is set aside.",
        'host = "mail.example.com"',
        "port = 587",
        'sender_name = "Storage alarms"',
        'account = "alarm@mail.example.com"',
        'security = "auto"',
        'sign_in = "manual"',
        'from_address = ""',
        'sealed = "hpke1.sealed"',
    ]


def test_file_holds_every_field_but_the_secret_one_and_those_of_oauth_and_trust():
    needed = {name for name in BY_NAME if not name.startswith(("oauth_", "trust"))}
    assert set(toml_file.decode(RAW)) == {*needed, "sealed"} - {"password"}


def test_relay_without_login_has_no_sealed_line():
    assert b"sealed" not in store.encode(RELAY)


@pytest.mark.parametrize(
    "saved", [STORED, RELAY, dataclasses.replace(STORED, sender_name='"\\ \ud55c\u2028\U0001f4e7')]
)
def test_saved_settings_are_read_back(tab, saved):
    assert tab.save(saved, "")
    assert tab.read()[0] == saved
    assert tab.load() == Stored(saved, revision(tab), None)


VISIBLE = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=100)


@given(VISIBLE.map(str.strip).filter(bool), VISIBLE.map(str.strip).filter(bool), st.integers(1, 49151))
@settings(max_examples=100, deadline=None)
def test_every_good_value_survives_the_file(tmp_path_factory, host, sender_name, port):
    tab = Store(tmp_path_factory.mktemp("store") / "smtp.toml")
    saved = dataclasses.replace(STORED, host=host, sender_name=sender_name, port=port)
    tab.save(saved, "")
    assert tab.read()[0] == saved


def test_no_file_is_no_settings(tab):
    assert tab.read() == (None, "")
    assert tab.load() == Stored(None, "", None)
    assert list(tab.path.parent.iterdir()) == []


# Revisions.


def test_revision_is_the_hash_of_the_file(tab):
    tab.save(STORED, "")
    assert revision(tab) == hashlib.sha256(tab.path.read_bytes()).hexdigest()


def test_second_of_two_editors_overwrites_nothing(tab):
    tab.save(STORED, "")
    seen = revision(tab)
    assert tab.save(OTHER, seen)
    with pytest.raises(Conflict) as caught:
        tab.save(dataclasses.replace(STORED, port=25), seen)
    assert caught.value.revision == revision(tab) != seen
    assert str(caught.value) == "the settings have changed since they were read"
    assert tab.read()[0] == OTHER


@pytest.mark.parametrize("held", ["x", "0" * 64, " "])
def test_revision_that_never_was_saves_nothing(tab, held):
    with pytest.raises(Conflict) as caught:
        tab.save(STORED, held)
    assert caught.value.revision == ""
    assert tab.read() == (None, "")


def test_first_save_of_two_wins(tab):
    tab.save(STORED, "")
    with pytest.raises(Conflict):
        tab.save(OTHER, "")
    assert tab.read()[0] == STORED


def test_settings_deleted_meanwhile_are_a_conflict(tab):
    tab.save(STORED, "")
    seen = revision(tab)
    tab.path.unlink()
    with pytest.raises(Conflict):
        tab.save(OTHER, seen)
    assert tab.read() == (None, "")


def test_saving_what_is_stored_writes_nothing(tab):
    tab.save(STORED, "")
    before = tab.path.stat()
    assert tab.save(STORED, revision(tab)) == revision(tab)
    assert (tab.path.stat().st_ino, tab.path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_saving_the_same_from_an_old_page_is_still_a_conflict(tab):
    tab.save(STORED, "")
    with pytest.raises(Conflict):
        tab.save(STORED, "")


SAVE_MANY = """
import dataclasses, sys
from pathlib import Path
from device_ui.errors import Conflict
from device_ui.settings.fields import SmtpSettings
from device_ui.settings.store import Store
tab = Store(Path(sys.argv[1]))
conflicts = done = 0
while done < 40:
    now, revision = tab.read()
    try:
        tab.save(dataclasses.replace(now, port=now.port + 1), revision)
        done += 1
    except Conflict:
        conflicts += 1
"""


def test_two_processes_that_save_at_once_lose_nothing(tab):
    tab.save(dataclasses.replace(STORED, port=1000), "")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    both = [subprocess.Popen([sys.executable, "-c", SAVE_MANY, str(tab.path)], env=environment) for _ in range(2)]
    try:
        assert [each.wait(60) for each in both] == [0, 0]
    finally:
        for each in both:
            each.kill()
            each.wait()
    assert tab.read()[0] == dataclasses.replace(STORED, port=1080)


# Damage.


def hand_edited(**changes: object) -> bytes:
    """A file whose checksum is right and whose values are not."""
    values = {**toml_file.decode(RAW), **changes}
    return toml_file.encode(store.COMMENT, {name: value for name, value in values.items() if value is not None})


def test_file_cut_anywhere_is_damaged(tab):
    for length in range(len(RAW)):
        tab.path.write_bytes(RAW[:length])
        with pytest.raises(Damaged):
            tab.read()


def test_every_flipped_bit_is_damage_in_the_comment_too(tab):
    for bit in range(8 * len(RAW)):
        changed = bytearray(RAW)
        changed[bit // 8] ^= 1 << bit % 8
        tab.path.write_bytes(changed)
        with pytest.raises(Damaged):
            tab.read()


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "it is empty"),
        (RAW.replace(b"587", b"465"), "its checksum does not match"),
        (RAW.replace(b"\n", b"\r\n"), "its last line is no checksum"),
        (RAW + b"\n", "its last line is no checksum"),
        (RAW * 2, "its checksum does not match"),
        (RAW + bytes(100_000), "its last line is no checksum"),
        (hand_edited(port=0), "port breaks its rule"),
        (hand_edited(port="587"), "port breaks its rule"),
        (hand_edited(host=None), "host breaks its rule"),
        (hand_edited(account="a@b.c\r\nBcc: x@y.z"), "account breaks its rule"),
        (hand_edited(sign_in="none"), "a password is kept without a login"),
        (hand_edited(sealed=None), "the password is missing"),
        (hand_edited(security="none"), "the connection security is “No encryption” with a login"),
        (hand_edited(password="Kp7!vRw2#Zt9"), "it holds a name that is no field"),
        (hand_edited(revision=1), "it holds a name that is no field"),
        (toml_file.encode("x", {}), "sign_in is not one of the choices"),
    ],
)
def test_file_that_cannot_be_trusted_is_damaged_and_says_why(tab, raw, reason):
    tab.path.write_bytes(raw)
    with pytest.raises(Damaged) as caught:
        tab.read()
    assert (caught.value.path, str(caught.value.reason)) == (tab.path, reason)
    assert str(caught.value) == f"smtp.toml is damaged: {reason}"
    assert tab.path.read_bytes() == raw


def test_damage_is_told_without_the_values(tab):
    tab.path.write_bytes(hand_edited(password="Kp7!vRw2#Zt9", port=0))
    with pytest.raises(Damaged) as caught:
        tab.read()
    assert "Kp7!vRw2#Zt9" not in str(caught.value) + repr(vars(caught.value))


def test_damaged_file_is_set_aside_with_its_content_and_told_until_new_settings_stand(tab):
    tab.path.write_bytes(b"damaged")
    aside = tab.path.with_name("smtp.toml.damaged-1")
    assert [tab.load(), tab.load()] == [Stored(None, "", aside)] * 2
    assert aside.read_bytes() == b"damaged"
    tab.save(STORED, "")
    assert tab.load() == Stored(STORED, revision(tab), None)
    assert aside.read_bytes() == b"damaged"


def test_every_damaged_file_is_kept_and_the_last_one_told(tab):
    for number in range(1, 12):
        tab.path.write_bytes(b"damaged %d" % number)
        assert tab.load().damaged == tab.path.with_name(f"smtp.toml.damaged-{number}")
    assert [path.read_bytes() for path in files.quarantined_files(tab.path)] == [
        b"damaged %d" % n for n in range(1, 12)
    ]
    assert tab.load().damaged == tab.path.with_name("smtp.toml.damaged-11")


def test_reading_alone_sets_nothing_aside(tab):
    tab.path.write_bytes(b"damaged")
    with pytest.raises(Damaged):
        tab.read()
    assert [path.name for path in tab.path.parent.iterdir()] == ["smtp.toml"]


READ_ONLY = """
import subprocess, sys
from pathlib import Path
from device_ui.errors import NotStored
from device_ui.settings.fields import SmtpSettings
from device_ui.settings.store import Store
folder = Path(sys.argv[1])
subprocess.run(["mount", "--bind", folder, folder], check=True)
subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)
store = Store(folder / "smtp.toml")
print(store.load())
try:
    store.save(SmtpSettings("mail.example.com", 587, "A", "a@b.cc"), store.load().revision)
except NotStored as error:
    print(error)
"""


def run(code: str, *arguments: object, before: tuple[str, ...] = ()) -> str:
    """What a child printed."""
    done = subprocess.run(
        [*before, sys.executable, "-c", code, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_damaged_file_on_a_read_only_flash_is_told_where_it_is(tab):
    tab.path.write_bytes(b"damaged")
    printed = run(READ_ONLY, tab.path.parent, before=("unshare", "--mount"))
    standing = hashlib.sha256(b"damaged").hexdigest()
    told = "smtp.toml could not be stored: Read-only file system"
    assert printed == f"{Stored(None, standing, tab.path, quarantine_failed=True)}\n{told}\n"
    assert tab.path.read_bytes() == b"damaged"


def test_what_is_damaged_is_set_aside_before_it_is_written_over(tab):
    """The page was shown while the flash took nothing; by the time of the Update it does again."""
    tab.path.write_bytes(b"damaged")
    assert tab.save(STORED, hashlib.sha256(b"damaged").hexdigest())
    assert tab.path.with_name("smtp.toml.damaged-1").read_bytes() == b"damaged"
    assert tab.load() == Stored(STORED, revision(tab), None)


def test_what_is_damaged_is_set_aside_for_one_of_two_alone(tab, monkeypatch):
    """Both saw it damaged; what the first was told is saved stands."""
    tab.path.write_bytes(b"damaged")
    seen, other = hashlib.sha256(b"damaged").hexdigest(), Store(tab.path)
    quarantine = files.quarantine

    def late(path: Path, *more: object) -> Path:
        monkeypatch.setattr(files, "quarantine", quarantine)
        assert other.save(STORED, seen)
        return quarantine(path, *more)

    monkeypatch.setattr(files, "quarantine", late)
    with pytest.raises(Conflict):
        tab.save(dataclasses.replace(STORED, sender_name="The second"), seen)
    assert tab.load().settings == STORED
    assert [each.name for each in files.quarantined_files(tab.path)] == ["smtp.toml.damaged-1"]


def test_what_was_damaged_since_is_a_conflict(tab):
    tab.save(STORED, "")
    before = revision(tab)
    tab.path.write_bytes(b"damaged")
    with pytest.raises(Conflict):
        tab.save(STORED, before)
    assert tab.path.read_bytes() == b"damaged"


# What cannot be read is not "no settings".

AS_NOBODY = """
import os, sys
from pathlib import Path
from device_ui.errors import NotReadable
from device_ui.settings.fields import SmtpSettings
from device_ui.settings.store import Store
descriptor = os.open(sys.argv[1], os.O_PATH)
os.seteuid(65534)
tab = Store(Path(f"/proc/self/fd/{descriptor}/smtp.toml"))
settings = SmtpSettings("mail.example.com", 587, "x", "a@b.c", sealed="x")
for act in (tab.read, tab.load, lambda: tab.save(settings, "")):
    try:
        print(act())
    except NotReadable as error:
        print("NotReadable:", error.reason)
os.seteuid(0)
"""


def test_file_of_another_user_is_not_readable_and_never_no_settings(tab):
    tab.save(STORED, "")
    tab.path.chmod(0o600)
    tab.path.parent.chmod(0o777)
    assert run(AS_NOBODY, tab.path.parent) == "NotReadable: Permission denied\n" * 3
    assert [path.name for path in tab.path.parent.iterdir()] == ["smtp.toml"]
    assert tab.read()[0] == STORED


def test_folder_in_the_files_place_is_damage_and_set_aside_with_what_it_holds(tab):
    (tab.path / "inner").mkdir(parents=True)
    with pytest.raises(Damaged, match=r"^smtp\.toml is damaged: it is no regular file$"):
        tab.read()
    found = tab.load()
    assert (found.settings, found.revision, (found.damaged / "inner").is_dir()) == (None, "", True)
    assert tab.save(STORED, "") and tab.read()[0] == STORED


def test_missing_folder_is_told_when_saving(tmp_path):
    with pytest.raises(NotStored, match=r"^smtp\.toml could not be stored: No such file or directory$"):
        Store(tmp_path / "missing" / "smtp.toml").save(STORED, "")
