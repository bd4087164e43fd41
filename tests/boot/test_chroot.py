"""The package in a root file system that is not running: how image builders install it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.boot.image import Image
from tests.boot.packages import Tree, printed

# The first test builds the image and the package.
pytestmark = pytest.mark.timeout(900)

# Of a device that never started: each folder below /var/lib/device-ui, its mode, and who owns it.
FOLDERS = {
    "settings": "2750 device-ui:device-mail",
    "web": "700 device-ui:device-ui",
    "mail": "700 device-mail:device-mail",
    "public": "755 device-mail:device-mail",
    "tls": "700 root:root",
}


@pytest.fixture
def tree(image: Image, tmp_path: Path) -> Iterator[Tree]:
    with Tree(image, tmp_path / "root") as tree:
        yield tree


def owners(tree: Tree) -> dict[str, str]:
    """Mode and owners of the data folders, by the names that the tree's own users have."""
    folders = [f"/var/lib/device-ui/{name}" for name in FOLDERS]
    lines = tree.run("stat", "--format=%n %a %U:%G", *folders).splitlines()
    return {Path(path).name: rest for path, _, rest in (line.partition(" ") for line in lines)}


def enabled(tree: Tree) -> set[str]:
    """The names of the units of ours that start by themselves."""
    return {each.name for each in (tree.path / "etc/systemd/system").glob("*.wants/device-ui*")}


@pytest.mark.parametrize("proc", [False, True], ids=["without /proc", "with /proc"])
def test_a_chroot_takes_it(tree: Tree, package: Path, proc: bool) -> None:
    tree.run("dpkg", "--install", tree.put(package, "/root/device-ui.deb"), proc=proc)
    assert owners(tree) == FOLDERS
    assert "device-ui-web.socket" in enabled(tree)


def test_dpkg_takes_it_into_another_root(tree: Tree, package: Path) -> None:
    printed("dpkg", f"--root={tree.path}", "--force-script-chrootless", "--install", str(package))
    assert owners(tree) == FOLDERS
    assert "device-ui-web.socket" in enabled(tree)


def test_what_was_installed_in_a_chroot_is_purged_there(tree: Tree, package: Path) -> None:
    tree.run("dpkg", "--install", tree.put(package, "/root/device-ui.deb"))
    tree.run("dpkg", "--purge", "device-ui")
    assert enabled(tree) == set()
    assert not (tree.path / "var/lib/device-ui").exists()


def test_a_postinst_that_fails_is_found(tree: Tree, package: Path, tmp_path: Path) -> None:
    opened = tmp_path / "opened"
    printed("dpkg-deb", "--raw-extract", str(package), str(opened))
    (opened / "DEBIAN/postinst").write_text("#!/bin/sh\nset -e\nfalse\n")
    bad = tmp_path / "bad.deb"
    printed("dpkg-deb", "--root-owner-group", "--build", str(opened), str(bad))
    with pytest.raises(RuntimeError, match="post-installation script"):
        tree.run("dpkg", "--install", tree.put(bad, "/root/device-ui.deb"))


def test_the_former_package_is_found_bad(tree: Tree, former_package: Path) -> None:
    with pytest.raises(RuntimeError, match="/proc"):
        tree.run("dpkg", "--install", tree.put(former_package, "/root/device-ui.deb"))
