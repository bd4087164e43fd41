"""Debian's own programs as on a device: in namespaces of their own, where the product is ``/usr/sbin/sendmail``.

The product lies there as `make install` left it and runs with Debian's Python. Nothing of the machine's own is touched:
``/run`` is a fresh one, with the hook's socket where a device has it, and files of ``/etc`` and ``/var`` are covered by
the test's. The folder with the settings and keys is covered by an empty one, so that no caller could open the password.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.helpers.product import ROOT, Product

PREFIX = Path("/run/appliance")
# The group that may raise events, a user who is in it, and how setpriv(1) makes one of root.
EVENT_GROUP, MEMBER = "games", "nobody"
AS_MEMBER = ("setpriv", f"--reuid={MEMBER}", "--regid=nogroup", f"--groups={EVENT_GROUP}")
NAMESPACES = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
# Words are pairs of a path and what it covers, then two dashes, then the command.
COVER = """
set -e
mount -t tmpfs tmpfs /run
while [ "$1" != -- ]; do
	case "$2" in /run/*) mkdir "$2" ;; esac
	mount --bind "$1" "$2"
	shift 2
done
shift
exec "$@"
"""


def install(folder: Path) -> Path:
    """Install the product below `folder` as a packager does; the folder that goes to `PREFIX`."""
    words = ["make", "--silent", "install", f"DESTDIR={folder}", f"PREFIX={PREFIX}"]
    subprocess.run(words, cwd=ROOT, check=True, capture_output=True, timeout=60)
    return folder / PREFIX.relative_to("/")


class Appliance:
    """A device with `product` for its mail; `installed` is what `install` gave, `folder` is for the test's files."""

    def __init__(self, product: Product, installed: Path, folder: Path) -> None:
        self.product, self.folder = product, folder
        self._empty = self.file("empty/.keep").parent
        self._covers = {
            "/usr/sbin/sendmail": installed / "bin" / "device-ui",
            str(PREFIX): installed,
            "/run/device-ui": product.folders.run,
            str(product.folders.data): self._empty,
        }

    def file(self, name: str, text: str = "", mode: int = 0o644) -> Path:
        """A file in the test's folder."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        return path

    def words(self, *command: str, covers: Mapping[str, Path] | None = None) -> list[str]:
        """A command line that runs `command` inside; `covers` are more paths there, and what is put over them."""
        pairs = [word for there, here in {**self._covers, **(covers or {})}.items() for word in (str(here), there)]
        return [*NAMESPACES, "sh", "-c", COVER, "sh", *pairs, "--", *command]

    def run(
        self, *command: str, covers: Mapping[str, Path] | None = None, **popen: object
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a command inside to its end, within 30 s."""
        options = {"env": self.environment, "cwd": "/", "capture_output": True, "timeout": 30, **popen}
        return subprocess.run(self.words(*command, covers=covers), **options)  # type: ignore[call-overload]

    @contextlib.contextmanager
    def running(self, *command: str, covers: Mapping[str, Path] | None = None) -> Iterator[None]:
        """A daemon that runs inside for the length of the block; all its children end with it."""
        log = self.folder / "daemon.log"
        with log.open("wb") as stream:
            options = {"env": self.environment, "cwd": "/", "stdin": subprocess.DEVNULL, "stderr": stream}
            process = subprocess.Popen(self.words(*command, covers=covers), stdout=stream, **options)  # type: ignore[call-overload]
        try:
            yield
            assert process.poll() is None, log.read_text()
        finally:
            process.kill()
            process.wait(10)

    @property
    def environment(self) -> dict[str, str]:
        """What an init system gives: with it Debian's Python is found, and nothing of the tests."""
        return {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
