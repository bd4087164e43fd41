"""A device that has been in use with the former package is upgraded under load, and loses nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.boot.image import Image
from tests.boot.machine import Machine
from tests.boot.packages import FORMER, Tree
from tests.boot.site import ACCOUNT, Load, Site, Visitor, answers, numbers_in_history, until
from tests.helpers.product import ADMIN_PASSWORD

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def device(
    image: Image, former_package: Path, site: Site, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Machine]:
    """A booted machine with the former package, nginx configured."""
    folder = tmp_path_factory.mktemp("upgrade")
    with Tree(image, folder / "root") as tree:
        tree.run("dpkg", "--install", tree.put(former_package, "/root/former.deb"), proc=True)
        tree.configure(site.files)
        disk = tree.disk(folder / "disk.img")
    with Machine(image, disk, site.port) as machine:
        yield machine.start()


def test_the_former_package_is_found_bad(device: Machine) -> None:
    assert "device-ui-certificate.service" in device.settled()
    assert not answers(device)


def test_an_upgrade_under_load_loses_nothing(device: Machine, package: Path, site: Site) -> None:
    # As the maker would have helped themselves.
    device.run("device-ui certificate && systemctl restart nginx")
    visitor = Visitor(device)
    visitor.set_up(device.run("device-ui setup-code"))
    assert visitor.update(**site.form).status == 303
    device.write("/root/new.deb", package.read_bytes())
    with Load(device) as load:
        until(lambda: len(load.accepted) > 20, 120, "events before the upgrade")
        device.run("dpkg --install /root/new.deb")
        after = len(load.accepted)
        until(lambda: len(load.accepted) > after + 20, 120, "events after the upgrade")
    assert set(load.accepted) <= numbers_in_history(device)
    until(lambda: set(load.accepted) <= site.numbers(), 240, "a mail about every event")


def test_what_was_set_is_taken_over(device: Machine) -> None:
    device.reboot()
    assert device.settled() == "running"
    visitor = Visitor(device)
    visitor.post("/login", password=ADMIN_PASSWORD)
    assert f'value="{ACCOUNT}"' in visitor.get("/smtp").text
    assert device.tried("device-ui test")[0] == 0, f"the password sealed by {FORMER} opens"
