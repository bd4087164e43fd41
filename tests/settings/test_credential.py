"""The private key as a credential that systemd decrypts for the hook alone, instead of a file."""

from __future__ import annotations

import configparser
import sys
from pathlib import Path

import pytest

from device_ui.config import Folders
from device_ui.mail import client
from tests.helpers.product import PASSWORD, ROOT, Product, settings_form, wait_for

NAME = "device-ui.private.key"


@pytest.fixture
def given(product: Product) -> Product:
    """A device with settings, whose key file became a credential: what systemd shows the hook, and what it keeps."""
    product.start_hook()
    product.save(**settings_form(2599))
    product.stop("mailhook")
    kept = product.folder / "credstore.encrypted" / NAME
    kept.parent.mkdir()
    kept.write_text("stands for what systemd-creds would make")
    shown = product.folder / "credentials" / NAME
    shown.parent.mkdir()
    product.folders.key_file.rename(shown)
    shown.chmod(0o400)
    return product


def environment(product: Product) -> dict[str, str]:
    """That of a process of a unit with LoadCredentialEncrypted=."""
    return {**product.environment, "CREDENTIALS_DIRECTORY": str(product.folder / "credentials")}


def test_the_hook_opens_the_password_with_its_credential_and_writes_no_key(given):
    given.start_hook(env=environment(given))
    assert given.event("303") == 1
    done = given.command("settings", "--reveal", env=environment(given))
    assert f'"password": "{PASSWORD}"' in done.stdout, done.stderr
    assert not given.folders.key_file.exists()


def test_without_the_credential_nothing_opens_the_password(given):
    done = given.command("settings", "--reveal")
    assert (done.returncode, done.stdout) == (78, "")
    stored = given.folder / "credstore.encrypted" / NAME
    assert done.stderr == (
        "device-ui: the private key is encrypted, and systemd decrypts it for a unit alone; as root: systemd-run --pipe --quiet "
        f"--property=LoadCredentialEncrypted={NAME}:{stored} {sys.executable} -m device_ui settings --reveal\n"
    )


def test_a_damaged_credential_is_told_and_no_other_key_is_made(given):
    """And it costs no alarm: the mail waits for whoever mends it."""
    shown = given.folder / "credentials" / NAME
    sound = shown.read_text()
    shown.chmod(0o600)
    shown.write_text("damaged")
    given.start_hook(env=environment(given))
    assert given.event("303") == 1
    wait_for(lambda: client.state(given.folders.socket)["problem"] == "password", what="the word for it")
    assert "device-ui.private.key is damaged" in given.log("mailhook")
    assert not given.folders.key_file.exists()
    given.stop("mailhook")
    shown.write_text(sound)
    given.start_hook(env=environment(given))
    wait_for(lambda: client.state(given.folders.socket)["problem"] != "password", what="the key")


def test_rotating_says_how(given):
    done = given.command("rotate-key")
    assert done.returncode == 78
    assert "decrypt it to" in done.stderr
    assert str(given.folders.key_file) in done.stderr


def test_a_factory_reset_destroys_the_credential_first(given):
    assert given.command("factory-reset", "--yes").returncode == 0
    assert not (given.folder / "credstore.encrypted" / NAME).exists()
    given.start_hook()
    assert given.folders.key_file.exists()


@pytest.mark.parametrize(
    ("leave", "told"), [(False, "OK    private key: encrypted for"), (True, "FAIL  private key: ")]
)
def test_check_looks_for_what_lies_beside_it(given, leave, told):
    if leave:
        given.folders.key_file.touch()
    assert told in given.command("check").stdout


@pytest.mark.parametrize("folder", ["", "relative", "/nonexistent"])
def test_no_credential_is_taken_from_nowhere(tmp_path, monkeypatch, folder):
    monkeypatch.chdir(tmp_path)
    Path("relative").mkdir()
    Path("relative", NAME).touch()
    Path(NAME).touch()
    found = Folders.find(str(tmp_path), {"CREDENTIALS_DIRECTORY": folder})
    assert (found.credential, found.private_key) == (None, tmp_path / "mail" / "private.key")


def test_the_unit_takes_one_that_is_there_and_does_without():
    """systemd.exec(5): named without a path, it is looked for in the stores, and not missed."""
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(ROOT / "device_ui" / "appliance" / "device-ui-mailhook.service")
    assert unit["Service"]["LoadCredentialEncrypted"] == NAME
