"""The first document of a device: applied once, by the maker's leave."""

from __future__ import annotations

import dataclasses

import pytest

from device_ui.cli import commands, parser, provision
from device_ui.config import Device
from device_ui.provisioning import document, sections
from tests.helpers.product import PASSWORD
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
