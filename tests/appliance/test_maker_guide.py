"""The maker's guide: every example of it is put where it says and run, on a device that has them all at once."""

from __future__ import annotations

import email
import email.policy
import io
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from device_ui.cli.demo_server import Mailbox, Server
from device_ui.config import SETTINGS, Device, Folders
from device_ui.web.branding import load
from tests.helpers import document
from tests.helpers.product import PASSWORD, ROOT, SECONDS, Product, free_port, settings_form, wait_for

GUIDE = (ROOT / "docs" / "appliance.md").read_text().partition("## The maker's guide\n")[2]
FIRMWARE = ROOT / "device_ui" / "firmware"
# A path of a device, which the tests put under a folder of theirs.
DEVICE_PATH = re.compile(r"(?<![\w.])/(?:etc|run|sys|usr|var)/[\w./-]+")
# The file that an example goes to: its first line, or the second of a script.
PLACE = re.compile(r"(?:#!.*\n)?(?:#|<!--) (/\S+)(?: -->)?\n")
PROGRAM = "#!{python}\nimport sys\nfrom device_ui.cli.entry import main\nsys.exit(main())\n"
# The demo's server is vouched for by an authority of its own, which no system knows.
MSMTP = '#!/bin/sh\nexec /usr/bin/msmtp --tls-trust-file={ca_file} "$@"\n'


@dataclass(frozen=True)
class Example:
    """One example: the heading that it stands under, its language, its text, and the path it says it goes to."""

    heading: str
    language: str
    text: str

    @property
    def place(self) -> str:
        match = PLACE.match(self.text)
        return match[1] if match else ""


def examples(guide: str) -> list[Example]:
    """Every one, in its order."""
    found, heading = [], ""
    for match in re.finditer(r"^### ([^\n]*)$|^```(\w*)\n(.*?)^```$", guide, re.MULTILINE | re.DOTALL):
        heading = match[1] or heading
        if match[1] is None:
            found.append(Example(heading, match[2], match[3]))
    return found


EXAMPLES = examples(GUIDE)


def device_toml() -> str:
    """The parts of device.toml as one file."""
    return "".join(each.text for each in EXAMPLES if each.place == "/etc/device-ui/device.toml")


class Maker(Product):
    """A device below `root`, where everything lies at the path that it has on an appliance."""

    prefork = None

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.folders = Folders(root / "var/lib/device-ui", root / "run/device-ui", root / "etc/device-ui")
        self.mailbox = Mailbox(root / "mail", io.StringIO())
        self.server = Server(self.mailbox, free_port())
        self.server.start()
        for folder in ("run", "usr/sbin", "sys/class/leds/mail", self.folders.data, self.folders.etc):
            (root / folder).mkdir(parents=True, exist_ok=True)
        self.put("/usr/bin/device-ui", PROGRAM.format(python=sys.executable), 0o755)
        self.put("/usr/bin/msmtp", MSMTP.format(ca_file=self.mailbox.ca_file), 0o755)

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        self.server.shutdown()
        self.server.server_close()

    @property
    def environment(self) -> dict[str, str]:
        path = [str(self.folder / each) for each in ("usr/bin", "usr/sbin")]
        return {**super().environment, "PATH": os.pathsep.join([*path, os.environ["PATH"]])}

    def at(self, path: str) -> Path:
        """Where a path of an appliance is here."""
        return self.folder / path.lstrip("/")

    def here(self, text: str) -> str:
        """A text with its paths below the root."""
        return DEVICE_PATH.sub(lambda match: str(self.at(match[0])), text)

    def put(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file of the appliance."""
        self.at(path).parent.mkdir(parents=True, exist_ok=True)
        self.at(path).write_text(text)
        self.at(path).chmod(mode)

    def shell(self, script: str, *before: str) -> str:
        """Run lines of a shell, which end at the first that fails; what they print."""
        words = [*before, "sh", "-ec", self.here(script)]
        done = subprocess.run(words, env=self.environment, cwd="/", capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def events(self) -> list[dict[str, str]]:
        """The history, newest first."""
        return [json.loads(line) for line in self.command("history", "--json").stdout.splitlines()]

    def mailed(self, text: str) -> None:
        """Wait until a mail with this text is at the mail server."""
        wait_for(lambda: any(text in each for each in self.mails()), what=text)

    def mails(self) -> list[str]:
        """The text of every mail that is there."""
        paths = [path for path in self.mailbox.folder.glob("*.eml") if path.stat().st_size]
        found = [email.message_from_bytes(path.read_bytes(), policy=email.policy.default) for path in paths]
        return [each.get_body(("plain",)).get_content() for each in found]  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def maker(tmp_path_factory) -> Iterator[Maker]:
    """A device with every file of the guide, at work, set up with the demo's mail server."""
    with Maker(tmp_path_factory.mktemp("m")) as maker:
        for each in EXAMPLES:
            if each.place and each.place != "/etc/device-ui/device.toml":
                is_script = each.text.startswith("#!")
                maker.put(each.place, maker.here(each.text) if is_script else each.text, 0o755 if is_script else 0o644)
        maker.put("/etc/device-ui/device.toml", maker.here(device_toml()))
        maker.start("--ca-file", str(maker.mailbox.ca_file))
        form = settings_form(maker.server.port, account=maker.mailbox.account, password=maker.mailbox.password)
        assert maker.logged_in().update(**form).status == 303
        yield maker


# What each example must do.


def name(maker: Maker, _: Example) -> None:
    assert maker.browser().get("/login", **{"Accept-Language": "fr"}).text.count('lang="ko"') == 1
    maker.event("101", "the name of the device")
    maker.mailed("4P-000017")


def brand(maker: Maker, _: Example) -> None:
    page = document.read(maker.browser().get("/login").text)
    assert page.by_class("brand")[0].text == "한빛 Storage NAS-4"
    found = load(Device.load(maker.folders))
    assert (found.problems, set(found.accents)) == ([], {"accent", "accent_dark"})


def logo(maker: Maker, example: Example) -> None:
    page = document.read(maker.browser().get("/login").text)
    answer = maker.browser().get(page.all("img")[0].attributes["src"])
    assert (answer.status, answer.text, answer.headers["content-type"]) == (200, example.text, "image/svg+xml")


def codes(maker: Maker, _: Example) -> None:
    page = maker.logged_in().get("/others/event-codes", **{"Accept-Language": "en"}).text
    assert "Fan: stopped" in page and "Fan: turning again" in page and "101" not in page


def program_in_c(maker: Maker, example: Example) -> None:
    source, program = maker.folder / "example.c", maker.folder / "example"
    source.write_text(example.text)
    words = ["gcc", "-std=c99", "-Wall", "-Wextra", "-Werror", f"-I{FIRMWARE}", "-o", str(program), str(source)]
    subprocess.run([*words, str(FIRMWARE / "device_event.c")], check=True, timeout=60)
    assert subprocess.run([program], env=maker.environment, timeout=60).returncode == 0
    newest = maker.events()[0]
    assert (newest["code"], newest["name"], newest["text"]) == ("703", "Fan: stopped", "fan 2 stands still")


def korean(maker: Maker, example: Example) -> None:
    page = maker.logged_in().get("/others/event-codes", **{"Accept-Language": "ko"}).text
    lines = re.findall(r'^"(.*)" = "(.*)"$', example.text, re.MULTILINE)
    assert len(lines) == 4
    for english, told in lines:
        assert told in page and english not in page


def limits(maker: Maker, _: Example) -> None:
    device = Device.load(maker.folders)
    assert (device["ledger.rows"], device["web.tests"]) == (20000, 5)
    reserve = (maker.folders.ledger.parent / "reserve").stat()
    assert reserve.st_size == 262144
    assert maker.browser().get("/login", Host="nas.example.com").status == 200
    assert maker.browser().get("/login", Host="nas.example.org").status == 421


def locks(maker: Maker, _: Example) -> None:
    root = document.read(maker.logged_in().get("/smtp").text)
    assert ["disabled" in root.by_id(each).attributes for each in ("security", "sign_in")] == [True, True]


def light(maker: Maker, _: Example) -> None:
    brightness = maker.at("/sys/class/leds/mail/brightness")
    wait_for(lambda: brightness.exists() and brightness.read_text() == "0\n", what="the light's end")
    maker.stop("mailhook")
    assert brightness.read_text() == "1\n"
    maker.start_hook("--ca-file", str(maker.mailbox.ca_file))
    wait_for(lambda: brightness.read_text() == "0\n", what="the light's end")


def drop_in(maker: Maker, example: Example) -> None:
    unit = "device-ui-mailhook.service"
    for each in (unit, unit.replace("service", "socket"), "device-ui-reset.service"):
        text = (ROOT / "device_ui" / "appliance" / each).read_text()
        maker.at(f"/etc/systemd/system/{each}").write_text(text.replace("/usr/bin/device-ui", "/bin/true"))
    folder = maker.at("/etc/systemd/system")
    environment = {**maker.environment, "SYSTEMD_UNIT_PATH": f"{folder}:"}
    words = ["systemd-analyze", "verify", "--man=no", unit]

    def complaints() -> list[str]:
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60)
        return [line for line in done.stderr.splitlines() if "light.conf" in line]

    assert complaints() == []
    written = maker.at(example.place)
    before = written.read_text()
    written.write_text(before + "ReadWritePath=/\n")  # that it is read at all
    assert len(complaints()) == 1
    written.write_text(before)


def mailer(maker: Maker, example: Example) -> None:
    maker.shell(example.text)
    maker.mailed("412 GB in 3 hours")
    assert maker.at("/run/nas-msmtprc").stat().st_mode & 0o777 == 0o600


def sendmail(maker: Maker, example: Example) -> None:
    maker.shell(example.text)
    maker.mailed("12 minutes are left.")
    newest = maker.events()[0]
    assert newest["code"] == "901"
    assert "12 minutes are left." in newest["text"]


def key(_: Maker, example: Example) -> None:
    """systemd-creds of this machine encrypts and decrypts; its own key lies in a folder of the test's."""
    # Not below /tmp, which may be in memory: systemd-creds makes no key there.
    with tempfile.TemporaryDirectory(dir=sys.prefix, prefix="k") as folder, Maker(Path(folder)) as maker:
        maker.start_hook()
        maker.save(**settings_form(2599))
        # There is no systemd here: this is what the two calls do.
        pid = maker.processes["mailhook"].pid
        maker.put("/usr/bin/systemctl", f'#!/bin/sh\n[ "$1" = start ] || kill {pid}\n', 0o755)
        own = Path(folder) / "systemd"
        own.mkdir()
        private = ("unshare", "--mount", "sh", "-ec", f'mount --bind {own} /var/lib/systemd; exec "$@"', "sh")
        maker.shell(example.text, *private)
        assert maker.processes.pop("mailhook").wait(SECONDS) == 0
        assert not maker.folders.key_file.exists()
        shown = Path(folder) / "credentials" / "device-ui.private.key"
        shown.parent.mkdir()
        kept = "/etc/credstore.encrypted/device-ui.private.key"
        maker.shell(f"systemd-creds decrypt {kept} {shown}", *private)
        environment = {**maker.environment, "CREDENTIALS_DIRECTORY": str(shown.parent)}
        maker.start_hook(env=environment)
        assert f'"password": "{PASSWORD}"' in maker.command("settings", "--reveal", env=environment).stdout
        assert not maker.folders.key_file.exists()


RUN: dict[tuple[str, str], Callable[[Maker, Example], None]] = {
    ("The device's name", "toml"): name,
    ("Brand", "toml"): brand,
    ("Brand", "svg"): logo,
    ("Event codes", "toml"): codes,
    ("Event codes", "c"): program_in_c,
    ("Another language", "toml"): korean,
    ("Limits", "toml"): limits,
    ("Locks", "toml"): locks,
    ("A light for the mail path", "toml"): light,
    ("A light for the mail path", "sh"): light,
    ("A light for the mail path", "ini"): drop_in,
    ("A mailer of your own", "sh"): mailer,
    ("sendmail", "sh"): sendmail,
    ("The key, encrypted", "sh"): key,
}


def test_every_example_is_run_and_no_other():
    assert [(each.heading, each.language) for each in EXAMPLES] == list(RUN)
    assert GUIDE.count("```") == 2 * len(EXAMPLES)


@pytest.mark.parametrize("example", EXAMPLES, ids=[f"{each.heading} {each.language}" for each in EXAMPLES])
def test_an_example_does_what_the_guide_says(maker, example):
    RUN[example.heading, example.language](maker, example)


@pytest.mark.parametrize(
    "example",
    [each for each in EXAMPLES if each.place == "/etc/device-ui/device.toml"],
    ids=lambda each: each.heading,
)
def test_each_part_of_device_toml_is_right_by_itself(product, example):
    device = Device.load(product.maker(example.text).folders)
    assert dict(device.settings) != {each: default for each, default, _ in SETTINGS}
    assert device.left_out == ()


def test_check_finds_nothing_wrong_with_all_of_them_together(maker):
    done = maker.command("check")
    assert [line for line in done.stdout.splitlines() if line.startswith(("WARN", "FAIL"))] == []
