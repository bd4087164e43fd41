"""The first document of a device: applied once, by the maker's leave."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
import urllib.parse

import pytest
import yaml

from device_ui.cli import commands, parser, provision
from device_ui.config import Device
from device_ui.provisioning import document, sections
from device_ui.settings.store import RecipientStore, Store
from tests.helpers.product import PASSWORD, ROOT, Product
from tests.provisioning.test_apply import LIST, WHOLE, new_device


@pytest.fixture
def device(tmp_path) -> Device:
    """A new device with a first document, which its maker permits."""
    made = new_device(tmp_path)
    made.folders.etc.mkdir()
    made.folders.first.write_text(document.to_toml(WHOLE))
    return dataclasses.replace(made, settings={**made.settings, "apply.first": True})


def listed(device: Device) -> dict[str, str]:
    return sections.export(device)["recipients"]


def test_it_is_applied_once(device, capsys):
    assert provision.apply_first(device) == 0
    assert listed(device) == LIST
    assert PASSWORD not in capsys.readouterr().out
    device.folders.first.write_text('device_ui = 1\n[recipients]\n"new@example.com" = "info"\n')
    assert provision.apply_first(device) == 0
    assert capsys.readouterr().out == "Nothing changed.\n"
    assert listed(device) == LIST


def test_without_the_makers_leave_it_is_not(device, capsys):
    device = dataclasses.replace(device, settings={**device.settings, "apply.first": False})
    assert provision.apply_first(device) == 0
    assert (listed(device), device.folders.first_applied.exists()) == ({}, False)
    assert "device.toml does not permit it" in capsys.readouterr().out


def test_a_broken_one_is_reported_and_tried_again(device, capsys):
    device.folders.first.write_text('device_ui = 1\n[recipients]\n"nobody" = "info"\n')
    assert provision.apply_first(device) == 65
    assert "recipients.nobody: Please enter an e-mail address" in capsys.readouterr().err
    device.folders.first.write_text(document.to_toml(WHOLE))
    assert provision.apply_first(device) == 0
    assert listed(device) == LIST


def test_a_start_that_a_power_cut_ended_changes_nothing_more(device):
    """The settings are on flash, and the note is not."""
    assert provision.apply_first(device) == 0
    before = {path: path.stat().st_ino for path in device.folders.settings.parent.iterdir()}
    device.folders.first_applied.unlink()
    assert provision.apply_first(device) == 0
    assert {path: path.stat().st_ino for path in before if path != device.folders.first_applied} == {
        path: number for path, number in before.items() if path != device.folders.first_applied
    }


def test_a_start_without_a_mark_keeps_what_an_operator_saved(device):
    """The first start ended before the mark: a power cut, a full disk or the end of the unit's 60 seconds."""
    assert provision.apply_first(device) == 0
    device.folders.first_applied.unlink()
    server, recipients = Store(device.folders.settings), RecipientStore(device.folders.recipients)
    settings, revision = server.read()
    server.save(dataclasses.replace(settings, host="operator.example.com", sign_in="none", sealed=None), revision)
    recipients.save((), recipients.read()[1])
    saved = [device.folders.settings.read_bytes(), device.folders.recipients.read_bytes()]
    assert provision.apply_first(device) == 0
    assert [device.folders.settings.read_bytes(), device.folders.recipients.read_bytes()] == saved
    assert device.folders.first_applied.exists()


def test_a_start_that_ended_between_two_sections_is_completed(device):
    assert provision.apply_first(device) == 0
    device.folders.first_applied.unlink()
    device.folders.recipients.unlink()
    settings = device.folders.settings.read_bytes()
    assert provision.apply_first(device) == 0
    assert (device.folders.settings.read_bytes(), listed(device)) == (settings, LIST)
    assert device.folders.first_applied.exists()


def test_a_damaged_section_is_left_to_the_page(device):
    assert provision.apply_first(device) == 0
    device.folders.first_applied.unlink()
    device.folders.recipients.write_bytes(b"damaged")
    assert provision.apply_first(device) == 0
    assert (device.folders.recipients.read_bytes(), device.folders.first_applied.exists()) == (b"damaged", True)


def test_without_a_file_there_is_nothing_to_do(device):
    device.folders.first.unlink()
    assert provision.apply_first(device) == 0
    assert not device.folders.first_applied.exists()


def test_a_link_to_a_boot_partition_serves(device, tmp_path):
    boot = tmp_path / "boot"
    boot.mkdir()
    device.folders.first.rename(boot / "device-ui.toml")
    device.folders.first.symlink_to(boot / "device-ui.toml")
    assert provision.apply_first(device) == 0
    assert listed(device) == LIST


def test_the_command_of_the_unit_does_it(device):
    options = parser.parser().parse_args(["apply", "--first"])
    assert options.function is commands.apply
    assert commands.apply(device, options) == 0
    assert listed(device) == LIST


# What provisions the images of others: the examples of the guide, as each tool reads them, and the command of the real unit.

GUIDE = (ROOT / "docs" / "appliance.md").read_text()
UNIT = (ROOT / "device_ui" / "appliance" / "device-ui-first.service").read_text()


def cloud_init() -> list[tuple[str, int, str]]:
    """The files of the example for cloud-init: path, mode, content (its module write_files)."""
    [text] = re.findall(r"^```yaml\n(#cloud-config\n.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
    return [
        (each["path"], int(each["permissions"], 8), each["content"]) for each in yaml.safe_load(text)["write_files"]
    ]


def ignition() -> list[tuple[str, int, str]]:
    """The files of the example for Ignition: path, mode, content (its specification 3.4.0, "storage")."""
    [text] = re.findall(r'^```json\n(\{"ignition".*?)^```$', GUIDE, re.MULTILINE | re.DOTALL)
    config = json.loads(text)
    assert config["ignition"]["version"] == "3.4.0"
    return [
        (each["path"], each["mode"], urllib.parse.unquote(each["contents"]["source"].removeprefix("data:,")))
        for each in config["storage"]["files"]
    ]


@pytest.mark.parametrize("tool", [cloud_init, ignition], ids=lambda tool: tool.__name__)
def test_what_a_provisioning_tool_writes_is_applied_by_the_command_of_the_unit(tool, product: Product):
    product.maker("[apply]\nfirst = true\n")
    for path, mode, content in tool():
        # The unit runs for this path alone, and nobody but root may read a password in it.
        assert f"ConditionPathExists={path}\n" in UNIT and mode == 0o600
        file = product.folders.etc / path.removeprefix("/etc/device-ui/")
        file.write_text(content)
        file.chmod(mode)
    [words] = re.findall("^ExecStart=/usr/bin/device-ui (.*)$", UNIT, re.MULTILINE)
    done = product.command(*shlex.split(words))
    assert (done.returncode, done.stdout) == (0, "recipients: added noc@example.com\n"), done.stderr
    assert json.loads(product.command("export", "--json").stdout)["recipients"] == {"noc@example.com": "fault"}
