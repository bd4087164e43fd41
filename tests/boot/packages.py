"""The Debian packages that `make boot` installs, and root file systems that have one installed as image builders do it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.boot.image import DISK_SIZE, Image
from tests.helpers.product import ROOT

# The last commit whose package was installed on devices: its data must survive the upgrade, and its units must be found bad.
FORMER = "866d0f8"
# Root may look at a checkout of another user.
GIT = ("git", "-c", "safe.directory=*", "-C", str(ROOT))
DEB_SECONDS = 300.0


def suite() -> str:
    """The release of Debian in the guest: that of this machine, since the package is for this machine's Python."""
    found = re.search(r"^VERSION_CODENAME=(\S+)$", Path("/etc/os-release").read_text(), re.MULTILINE)
    return os.environ.get("SUITE") or (found[1] if found else "bookworm")


def current(folder: Path) -> Path:
    """Build the package of this checkout, or take the one that PACKAGE= names. Raises `CalledProcessError`."""
    return Path(os.environ["PACKAGE"]) if os.environ.get("PACKAGE") else _built(ROOT, folder)


def has_former() -> bool:
    """Return whether this clone has the commit of the former package: a shallow one has not."""
    return (
        subprocess.run([*GIT, "cat-file", "-e", f"{FORMER}^{{commit}}"], capture_output=True, check=False).returncode
        == 0
    )


def former(folder: Path) -> Path:
    """Build the package of `FORMER`. Raises `CalledProcessError`."""
    source = folder / "former"
    source.mkdir()
    archive = subprocess.run([*GIT, "archive", FORMER], capture_output=True, check=True)
    subprocess.run(["tar", "-x", "-C", source], input=archive.stdout, check=True)
    (source / ".venv").symlink_to(ROOT / ".venv")
    return _built(source, folder)


def _built(source: Path, folder: Path) -> Path:
    done = subprocess.run(
        ["sh", ".ci/deb", folder, "bundled"],
        cwd=source,
        capture_output=True,
        text=True,
        timeout=DEB_SECONDS,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f".ci/deb: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return Path(done.stdout.split()[-1])


class Tree:
    """A root file system in a folder, to install into; a copy of the image's. It is removed when the block ends."""

    def __init__(self, image: Image, folder: Path) -> None:
        self._image, self.path = image, folder

    def __enter__(self) -> Tree:
        subprocess.run(["cp", "-a", self._image.root, self.path], check=True)
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.path)

    def run(self, *words: str, proc: bool = False) -> str:
        """Run a program as root of the tree, with /proc mounted or not; what it printed, both streams. Raises `RuntimeError`."""
        mount = f"mount -t proc proc {self.path}/proc &&" if proc else ""
        script = f'{mount} exec chroot {self.path} "$@"'
        return printed("unshare", "--mount", "--", "sh", "-c", script, "sh", *words)

    def put(self, source: Path, name: str) -> str:
        """Copy a file into the tree; its path there."""
        shutil.copy(source, self.path / name.lstrip("/"))
        return name

    def configure(self, files: Mapping[str, bytes]) -> None:
        """Write the maker's files, and put nginx in front of the pages, as docs/appliance.md has it."""
        for name, content in files.items():
            (self.path / name.lstrip("/")).write_bytes(content)
        shutil.copy(self.path / "usr/share/device-ui/nginx.conf", self.path / "etc/nginx/conf.d/device-ui.conf")
        (self.path / "etc/nginx/sites-enabled/default").unlink()

    def disk(self, made: Path) -> Path:
        """Make a raw ext4 disk of the tree."""
        printed("mkfs.ext4", "-q", "-d", str(self.path), str(made), DISK_SIZE)
        return made


def printed(*words: str) -> str:
    """Run a program; what it printed, both streams. Raises `RuntimeError` when its exit code is not 0."""
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}\nexit code {done.returncode}\n{done.stdout}")
    return done.stdout
