"""Two devices from one image share no key, no code and no certificate: an image holds none, each device makes its own at
its first start, and the system's generator is waited for until it has entropy (getrandom(2))."""

from __future__ import annotations

import ast
import contextlib
import filecmp
import re
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from device_ui.mail import client
from device_ui.mail.message import headers
from device_ui.settings import keys
from tests.helpers.product import ADMIN_PASSWORD, PASSWORD, ROOT, Product, settings_form

# What make install writes by itself: the command, and the units with the prefix in place.
WRITTEN = re.compile(r"(bin/device-ui|lib/(systemd/system|sysusers\.d|tmpfiles\.d)/.*|share/device-ui/.*)")
# A key, a code, or a hash of 16 bytes and more.
SECRET = re.compile(
    rb"-----BEGIN [A-Z ]*PRIVATE|\b(?:[2-9A-HJKMNP-TV-Z]{4}-){4}[2-9A-HJKMNP-TV-Z]{4}\b|\b[0-9a-f]{32,}\b"
)


class Device(Product):
    """A device that runs what `make install` put into an image."""

    image: Path
    prefork = None

    @property
    def environment(self) -> dict[str, str]:
        """The environment, with the image's program instead of the checkout's."""
        return {**super().environment, "PYTHONPATH": str(self.image / "lib" / "device-ui")}


@pytest.fixture(scope="module")
def image(tmp_path_factory) -> Path:
    """What ``make install`` puts under /usr."""
    root = tmp_path_factory.mktemp("image")
    subprocess.run(["make", "-s", "-C", ROOT, "install", f"DESTDIR={root}", "PREFIX=/usr"], check=True, timeout=120)
    assert {each.name for each in root.iterdir()} == {"usr"}
    return root / "usr"


def device(image: Path, folder: Path) -> Device:
    folder.mkdir(exist_ok=True)
    made = Device(folder)
    made.image = image
    return made


def begun(image: Path, folder: Path) -> Device:
    """A device after its first start and its set-up: a password typed, one event raised, a certificate made."""
    with device(image, folder) as made:
        made.start()
        code = made.setup_code()
        (folder / "code").write_text(code)
        browser = made.browser()
        chosen = {"password": ADMIN_PASSWORD, "again": ADMIN_PASSWORD}
        assert browser.post("/setup", code=code, **chosen).status == 303
        assert browser.update(**settings_form(2599)).status == 303
        (folder / "token").write_text(browser.cookie)
        client.raise_event(made.folders.socket, "303")
        assert made.command("certificate").returncode == 0
    return made


@pytest.fixture(scope="module")
def one(image, tmp_path_factory) -> Device:
    return begun(image, tmp_path_factory.mktemp("one"))


def secrets(of: Device) -> dict[str, str]:
    """All that makes a device itself, by name."""
    at = of.folders
    opened = {name: (at.tls / name).read_text() for name in ("key.pem", "certificate.pem")}
    serial = ["openssl", "x509", "-noout", "-serial", "-in", at.tls / "certificate.pem"]
    with contextlib.closing(sqlite3.connect(at.ledger)) as ledger:
        (ledger_id,) = ledger.execute("SELECT value FROM fact WHERE name = ?", ["ledger_id"]).fetchone()
    administrator = at.administrator.read_text()
    return opened | {
        "setup code": (of.folder / "code").read_text(),
        "session": (of.folder / "token").read_text(),
        "private key": keys.load_private(at.private_key).private.hex(),
        "public key": keys.load_public(at.public_key).hex(),
        "sealed password": re.search(r"hpke1\.\S+", at.settings.read_text())[0],
        "salt": re.search('salt = "(.*)"', administrator)[1],
        "hash": re.search('hash = "(.*)"', administrator)[1],
        "serial number": subprocess.run(serial, check=True, capture_output=True, text=True).stdout,
        "ledger": ledger_id,
        "Message-ID": headers.message_id(ledger_id, 1),
    }


def shared(one: Device, other: Device) -> list[str]:
    """The names of what two devices have in common."""
    ours, theirs = secrets(one), secrets(other)
    assert all(ours.values())
    return [name for name in ours if ours[name] == theirs[name]]


def test_two_devices_from_one_image_share_nothing(one, image, tmp_path):
    assert shared(one, begun(image, tmp_path)) == []


def test_a_device_copied_after_its_first_start_is_told_and_made_its_own(one, image, tmp_path):
    shutil.copytree(one.folders.data, tmp_path / "data")
    copy = device(image, tmp_path)
    told = [re.findall(r"private key: key (\w+)|SHA-256 (\S+)", each.call("check").stdout) for each in (one, copy)]
    assert told[0] == told[1]
    assert len(told[0]) == 2
    assert copy.command("factory-reset", "--yes").returncode == 0
    assert shared(one, begun(image, tmp_path)) == []


def test_the_image_holds_the_source_and_nothing_else(image):
    others = []
    for path in (each for each in image.rglob("*") if each.is_file() and each.suffix != ".pyc"):
        source = ROOT / path.relative_to(image / "lib" / "device-ui") if "lib/device-ui/" in str(path) else None
        if source is None or not filecmp.cmp(path, source, shallow=False):
            others.append(str(path.relative_to(image)))
    assert [name for name in others if not WRITTEN.fullmatch(name)] == []
    assert len(others) > 5


def test_no_file_of_the_image_holds_a_secret(image):
    found = {path: SECRET.findall(path.read_bytes()) for path in image.rglob("*") if path.is_file()}
    assert {path: each for path, each in found.items() if each} == {}
    assert len(found) > 100


def test_a_secret_would_be_found(one):
    at = one.folders
    for path in (at.private_key, at.tls / "key.pem", at.administrator, one.folder / "code"):
        assert SECRET.search(path.read_bytes()), path


# Where they come from.

MADE = {
    "codes, salts, tokens, ledgers": """
from device_ui.web.auth import administrator, sessions
administrator.new_code()
administrator._hashed("x")
sessions.Sessions().begin()
""",
    "the mail hook's key": """
from device_ui.settings import seal
seal.new_private_key()
""",
    "the TLS key": """
import datetime, sys
from pathlib import Path
from device_ui.cli import certificate
certificate.make(Path(sys.argv[1]), ["localhost"], [], datetime.datetime.now(datetime.UTC))
""",
}
# Calls that do not wait, and make no secret: the seeds of dict (Python), malloc, HashMap (Rust), and of the module
# `random`, which only spreads retries; 32 bytes of the allocator that Python 3.13 has within it (mimalloc).
UNIMPORTANT = {
    (32, "GRND_NONBLOCK"),
    (24, "GRND_NONBLOCK"),
    (8, "GRND_NONBLOCK"),
    (16, "GRND_INSECURE"),
    (2496, "GRND_NONBLOCK"),
}


@pytest.mark.parametrize("script", MADE.values(), ids=MADE)
def test_every_secret_waits_for_entropy(script, tmp_path):
    trace = tmp_path / "trace"
    words = [
        "strace",
        "-f",
        "--seccomp-bpf",
        "-e",
        "trace=getrandom,openat",
        "-o",
        trace,
        sys.executable,
        "-c",
        script,
        tmp_path / "tls",
    ]
    subprocess.run(words, check=True, cwd=ROOT, timeout=60)
    calls = re.findall(r"getrandom\(.*, ([0-9]+), ([A-Z_|0]+)\) = ", trace.read_text())
    found = {(int(size), flags) for size, flags in calls}
    assert {size for size, flags in found if flags == "0"}, "nothing waited"
    assert {each for each in found if each[1] != "0"} <= UNIMPORTANT
    assert not re.search(r'"/dev/u?random"', trace.read_text())


def test_no_secret_comes_from_anywhere_else():
    """`secrets`, os.urandom and cryptography are all there is."""
    importers: dict[str, set[str]] = {}
    for path in (ROOT / "device_ui").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = (
                [each.name for each in node.names] if isinstance(node, ast.Import) else [getattr(node, "module", "")]
            )
            if isinstance(node, ast.Import | ast.ImportFrom):
                for name in names:
                    importers.setdefault(name or "", set()).add(path.name)
    assert "sessions.py" in importers["secrets"]
    assert {"random", "uuid", "numpy"}.isdisjoint(importers)


def test_passwords_of_the_tests_are_no_defaults(image):
    for path in (each for each in image.rglob("*") if each.is_file()):
        assert PASSWORD.encode() not in path.read_bytes()
        assert ADMIN_PASSWORD.encode() not in path.read_bytes()
