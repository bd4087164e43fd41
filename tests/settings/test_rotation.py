"""The key changes and the stored password stays readable, wherever the power fails; what was begun is finished."""

from __future__ import annotations

import dataclasses
import signal

import pytest

from device_ui.errors import CannotOpen, Damaged, NoKey
from device_ui.settings import keys, rotation, seal
from device_ui.settings.fields import SmtpSettings
from device_ui.settings.store import Store
from device_ui.storage import files

PASSWORD = "Kp7!vRw2#Zt9"
PLAIN = SmtpSettings("mail.example.com", 587, "Storage", "alarm@mail.example.com")


class Device:
    """A device's keys and settings, without processes."""

    def __init__(self, folders) -> None:
        self.folders = folders
        for path in (folders.settings, folders.private_key, folders.public_key):
            files.make_folder(path.parent, 0o755)
        self.store = Store(folders.settings)
        self.files = (folders.private_key, folders.public_key)
        self.first = keys.load_pair(*self.files)

    def save(self) -> None:
        _, revision = self.store.read()
        sealed = seal.seal(PASSWORD, keys.load_public(self.folders.public_key), PLAIN.bound_to)
        self.store.save(dataclasses.replace(PLAIN, sealed=sealed), revision)

    def opened(self) -> str:
        """The password, by the key that the private file has for it."""
        settings, _ = self.store.read()
        pairs = {pair.id: pair for pair in keys.load_pairs(self.folders.private_key)}
        return seal.unseal(settings.sealed, pairs[seal.sealed_for(settings.sealed)].private, settings.bound_to)

    def is_told_readable(self) -> bool:
        """What the page believes."""
        settings, _ = self.store.read()
        return seal.sealed_for(settings.sealed) in keys.public_ids(self.folders.public_key)


@pytest.fixture
def saved(folders):
    device = Device(folders)
    device.save()
    return device


def test_after_a_rotation_there_is_a_new_key_and_the_same_password(saved):
    key_id = rotation.rotate(saved.store, *saved.files)
    assert key_id == keys.load_private(saved.folders.private_key).id != saved.first.id
    assert seal.key_id(keys.load_public(saved.folders.public_key)) == key_id
    assert saved.opened() == PASSWORD


def test_nothing_of_the_old_key_stays(saved):
    rotation.rotate(saved.store, *saved.files)
    for path in saved.files:
        assert saved.first.private.hex() not in path.read_text()
        assert saved.first.id not in path.read_text()


def test_a_device_without_settings_rotates_too(folders):
    device = Device(folders)
    assert rotation.rotate(device.store, *device.files) != device.first.id


def test_a_device_that_never_started_has_no_key_to_rotate(folders):
    with pytest.raises(NoKey):
        rotation.rotate(Store(folders.settings), folders.private_key, folders.public_key)


def test_between_the_two_halves_the_password_opens_and_the_page_knows(saved):
    keys.begin_rotation(*saved.files)
    assert (saved.opened(), saved.is_told_readable()) == (PASSWORD, True)


def test_a_password_typed_in_between_is_sealed_to_the_new_key_and_kept(saved):
    keys.begin_rotation(*saved.files)
    saved.save()
    rotation.rotate(saved.store, *saved.files)
    assert saved.opened() == PASSWORD


def test_a_rotation_that_was_cut_short_is_gone_on_with_and_not_begun_anew(saved):
    keys.begin_rotation(*saved.files)
    begun = keys.load_private(saved.folders.private_key).id
    assert rotation.rotate(saved.store, *saved.files) == begun
    assert saved.opened() == PASSWORD


def test_a_start_does_not_forget_the_key_that_the_password_needs(saved):
    keys.begin_rotation(*saved.files)
    rotation.finish(saved.store, *saved.files)
    assert saved.opened() == PASSWORD


def test_a_start_forgets_a_key_that_nothing_needs(saved):
    keys.begin_rotation(*saved.files)
    saved.save()
    rotation.finish(saved.store, *saved.files)
    assert len(keys.load_pairs(saved.folders.private_key)) == 1
    assert saved.opened() == PASSWORD


def test_a_start_without_a_rotation_writes_nothing(saved):
    before = [path.stat().st_mtime_ns for path in saved.files]
    rotation.finish(saved.store, *saved.files)
    assert [path.stat().st_mtime_ns for path in saved.files] == before


def test_a_password_that_does_not_open_stops_the_rotation_with_both_keys_there(saved):
    settings, revision = saved.store.read()
    saved.store.save(dataclasses.replace(settings, host="other.example.com"), revision)
    with pytest.raises(CannotOpen):
        rotation.rotate(saved.store, *saved.files)
    assert saved.first.id in {pair.id for pair in keys.load_pairs(saved.folders.private_key)}


def test_damaged_settings_stop_the_rotation_with_both_keys_there(saved):
    saved.folders.settings.write_bytes(b"nonsense")
    with pytest.raises(Damaged):
        rotation.rotate(saved.store, *saved.files)
    assert saved.first.id in {pair.id for pair in keys.load_pairs(saved.folders.private_key)}


def test_the_running_hook_mails_with_the_new_key_and_with_the_old(product):
    from tests.helpers.product import settings_form, wait_for
    from tests.servers.scripted import ScriptedServer

    with ScriptedServer() as server:
        product.start_hook()
        product.save(**settings_form(server.port, security="none"))
        assert product.command("rotate-key").returncode == 0
        product.event("303", "after the rotation")
        wait_for(lambda: server.mails, what="the mail")
        product.stop("mailhook")
    assert b"after the rotation" in server.mails[0]


def test_a_rotation_that_is_killed_anywhere_leaves_a_password_that_opens(saved, product):
    kills, is_killed = 0, True
    while is_killed:  # at the first fsync, the second, and so on, until it ends by itself
        injection = f"inject=fsync:signal=SIGKILL:when={kills + 1}"
        is_killed = product.command_under_strace(injection, "rotate-key") == -signal.SIGKILL
        kills += is_killed
        assert (saved.opened(), saved.is_told_readable()) == (PASSWORD, True)
        assert product.call("rotate-key").returncode == 0
        assert saved.opened() == PASSWORD
        assert len(keys.load_pairs(saved.folders.private_key)) == 1
    assert kills >= 6  # three files, each with its folder
