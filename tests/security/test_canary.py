"""A password that exists nowhere else goes through the whole product; afterwards everything is searched for it.

The device lives one life: set-up, Update, a password kept, mails, a wrong form beside the password, a device that
cannot seal, a refused login and a refused recipient at servers that say back what they were told. `Life.evidence` is
everything that was written, sent or could be seen of the processes meanwhile, by where it was found.
"""

from __future__ import annotations

import base64
import contextlib
import html
import io
import json
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from device_ui.cli.demo_server import Mailbox, Server, Session
from tests.helpers.product import ADMIN_PASSWORD, Browser, Page, Product, settings_form, wait_for

# Twelve letters and digits that no escaping changes, then characters that every escaping changes.
CORE = "Zx7Qw4Km9Tr2"
CANARY = CORE + '!"<é&\\'


def base64_forms(raw: bytes) -> Iterator[bytes]:
    """The middle of what base64 makes of `raw` behind 0, 1 and 2 other bytes: what every alignment must hold."""
    for before in range(3):
        whole = base64.b64encode(bytes(before) + raw + bytes(2))
        yield whole[-(-before * 8 // 6) : (before + len(raw)) * 8 // 6]


def spellings(text: str) -> dict[str, bytes]:
    """Every form in which a program might have written `text`, by its name."""
    raw = text.encode()
    written = {
        "plain": text,
        "hex": raw.hex(),
        "escaped bytes": "".join(f"\\x{byte:02x}" for byte in raw),
        "URL": urllib.parse.quote(text, safe=""),
        "URL, every byte": "".join(f"%{byte:02X}" for byte in raw),
        "JSON": json.dumps(text)[1:-1],
        "JSON, every character": "".join(f"\\u{ord(each):04x}" for each in text),
        "HTML": html.escape(text),
        "HTML, decimal": "".join(f"&#{ord(each)};" for each in text),
        "HTML, hexadecimal": "".join(f"&#x{ord(each):x};" for each in text),
        "reversed": text[::-1],
        "repr": repr(text)[1:-1],
    }
    forms = {name: each.encode() for name, each in written.items()}
    forms |= {f"base64, {before} bytes in": each for before, each in enumerate(base64_forms(raw))}
    for name, wide in (("UTF-16 LE", text.encode("utf-16-le")), ("UTF-16 BE", text.encode("utf-16-be"))):
        forms |= {name: wide, f"hex of {name}": wide.hex().encode()}
        forms |= {f"base64 of {name}, {before} bytes in": each for before, each in enumerate(base64_forms(wide))}
    return forms


# The halves, too: an escaping that nobody thought of leaves the core as it is, and half a secret is one.
NEEDLES = {
    f"{name} of the {what}": needle.lower()
    for what, text in (("whole", CANARY), ("core", CORE), ("end", CANARY.removeprefix(CORE)))
    for name, needle in spellings(text).items()
}


def found_in(evidence: Mapping[str, bytes]) -> set[tuple[str, str]]:
    """Where the canary is, and in which form; without regard to case."""
    return {
        (place, form)
        for place, content in evidence.items()
        for lowered in [content.lower()]
        for form, needle in NEEDLES.items()
        if needle in lowered
    }


class Echo(Session):
    """A session of a server that says what it was told: in its refusal of a login, or of a recipient."""

    def _auth(self, rest: str) -> str:
        answer = super()._auth(rest)
        self._told = rest
        return answer if answer.startswith("235") else f"535 5.7.8 Not known: {self._everything()}"

    def _rcpt(self, _: str) -> str:
        return f"550 5.1.1 No such mailbox; {self._everything()}"

    def _everything(self) -> str:
        raw = CANARY.encode()
        spelt = base64.b64encode(raw).decode(), raw.hex(), urllib.parse.quote(CANARY)
        return " ".join((self._told, CANARY, *spelt))


class Recorder(Browser):
    """A client that keeps every answer."""

    answers: dict[str, bytes]

    def request(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Page:
        page = super().request(method, path, body, headers)
        lines = [f"{name}: {value}" for name, value in page.headers.items()]
        self.answers[f"page {len(self.answers)} {method} {path} {page.status}"] = "\n".join(
            [*lines, "", page.text]
        ).encode()
        return page


@dataclass
class Life:
    """One device through its life: `evidence` is what was seen, by place; `revealed` is what the hook's user may see."""

    product: Product
    mailbox: Mailbox
    server: Server
    evidence: dict[str, bytes] = field(default_factory=dict)
    revealed: str = ""

    def live(self) -> None:
        """Everything that a password goes through."""
        self.product.maker("[mail]\ndigest_window = 0\n")  # a mail for each event
        self.product.start("--ca-file", str(self.mailbox.ca_file))
        browser = Recorder(self.product.port)
        browser.answers = self.evidence
        self._type_in(browser)
        self._send()
        self.revealed = self._command("settings", "--reveal", keep=False)
        for words in ("json", "env", "msmtprc"):
            self._command("settings", "--format", words)
        self._be_refused()
        for path in ("/smtp", "/health", "/login", "/recipients", "/history", "/history.csv", "/others/email-content"):
            browser.get(path)
        self._command("check")
        self._command("test")
        self._command("history", "--json")
        self._command("setup-code")
        self.look_at_processes("refused")
        self.look_at_files("running")

    def _type_in(self, browser: Browser) -> None:
        code = self.product.setup_code()
        browser.post("/setup", code=code, password=ADMIN_PASSWORD, again=ADMIN_PASSWORD)
        form = settings_form(self.server.port, account=self.mailbox.account, password=CANARY)
        assert browser.update(**form | {"port": "0", "sender_name": ""}).status == 422
        public_key = self.product.folders.public_key
        with_key = public_key.read_bytes()
        public_key.unlink()
        assert browser.update(**form).status == 503
        public_key.write_bytes(with_key)
        assert browser.update(**form).status == 303
        self.look_at_processes("saved")
        assert browser.update(**form | {"password": "", "sender_name": "A new name"}).status == 303
        assert browser.update(**form | {"password": "", "host": "localhost"}).status == 422
        assert browser.update(**form | {"revision": "0" * 64}).status == 409
        assert browser.update(**form | {CANARY: "a field with that name"}).status == 303

    def _send(self) -> None:
        self.product.event("303", "the first")
        mail = self.mailbox.folder / "0001.eml"
        wait_for(lambda: mail.exists() and mail.stat().st_size, what="the mail")
        self.look_at_processes("mailed")

    def _be_refused(self) -> None:
        # Each mail has a session of its own, since nothing else waits.
        self.server.RequestHandlerClass = Echo
        self.product.event("303", "the second")
        wait_for(lambda: "No such mailbox" in self.product.log("mailhook"), what="a refused recipient")
        self.mailbox.password = "another one"
        self.product.event("303", "the third")
        wait_for(lambda: "Not known" in self.product.log("mailhook"), what="a refused login")

    def _command(self, *words: str, keep: bool = True) -> str:
        done = self.product.command(*words)
        if keep:
            self.evidence[f"command {' '.join(words)}"] = (done.stdout + done.stderr).encode()
        return done.stdout

    def look_at_processes(self, when: str) -> None:
        """Keep arguments and environment of both processes and of their children."""
        for name, process in self.product.processes.items():
            self.evidence |= {f"{name} {each}, {when}": raw for each, raw in seen_of(process.pid).items()}

    def look_at_files(self, when: str) -> None:
        """Keep every file of the device and both logs, and the names of all."""
        self.evidence |= {f"{each}, {when}": raw for each, raw in files_of(self.product.folder).items()}


def seen_of(pid: int) -> dict[str, bytes]:
    """Arguments and environment of a process, of its children, grandchildren, …"""
    seen = {}
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a child may have ended meanwhile
        seen = {f"{what} {pid}": Path(f"/proc/{pid}/{what}").read_bytes() for what in ("cmdline", "environ")}
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                seen |= seen_of(int(child))
    return seen


def files_of(folder: Path) -> dict[str, bytes]:
    """The name and the content of everything in a folder."""
    found = {f"name {path}": str(path).encode() for path in folder.rglob("*")}
    return found | {f"file {path}": path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    """A device that has lived; its processes have ended. The password that the server knows is in memory only."""
    mailbox = Mailbox(tmp_path_factory.mktemp("server") / "mail", out=io.StringIO())
    mailbox.password = CANARY
    server = Server(mailbox)
    server.start()
    try:
        with Product(tmp_path_factory.mktemp("device")) as product:
            product.prefork = None  # arguments and environment are what an exec leaves
            life = Life(product, mailbox, server)
            life.live()
        life.look_at_files("ended")
        life.evidence |= {f"mail {path.name}": path.read_bytes() for path in mailbox.folder.glob("*.eml")}
        yield life
    finally:
        server.shutdown()
        server.server_close()


def of_kind(life: Life, kind: str) -> dict[str, bytes]:
    """The evidence of one kind; there must be some."""
    found = {place: content for place, content in life.evidence.items() if kind in place}
    assert found
    return found


# Nothing is found.

KINDS = ["name ", "file ", ".log, ended", "page ", "command ", "mailhook cmdline", "mailhook environ"]


@pytest.mark.parametrize("kind", [*KINDS, "web cmdline", "web environ", "mail "])
def test_password_is_nowhere(life, kind):
    assert found_in(of_kind(life, kind)) == set()


# The search would have found it.


@pytest.mark.parametrize("form", NEEDLES)
@pytest.mark.parametrize("before", [b"", b"x", b"xy"])
def test_search_finds_a_planted_password_in_every_form(form, before):
    planted = {"here": before + NEEDLES[form] + b"z"}
    assert ("here", form) in found_in(planted)


@pytest.mark.parametrize("before", [b"", b"x", b"xy", b"\0operator@mail.demo.example\0"])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode, base64.encodebytes])
def test_search_finds_a_planted_password_in_base64_of_more(before, encode):
    assert found_in({"here": encode(before + CANARY.encode() + b"after")})


def test_search_finds_a_planted_password_in_a_file(life, tmp_path):
    planted = tmp_path / "deep" / "down" / "backup"
    planted.parent.mkdir(parents=True)
    planted.write_bytes(bytes(100_000) + CANARY.encode("utf-16-le"))
    assert {place for place, _ in found_in(files_of(tmp_path))} == {f"file {planted}"}


@pytest.mark.parametrize("where", ["cmdline", "environ"])
def test_search_finds_a_planted_password_at_a_grandchild(where):
    code = (
        "import subprocess, sys; subprocess.run([sys.executable, '-c', 'print(1, flush=True); input()', *sys.argv[1:]])"
    )
    words, environment = ([CANARY], {}) if where == "cmdline" else ([], {"SECRET": CANARY})
    process = subprocess.Popen(
        [sys.executable, "-c", code, *words],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with process:
        process.stdout.readline()
        places = {place.split()[0] for place, _ in found_in(seen_of(process.pid)) if str(process.pid) not in place}
        process.stdin.close()
    assert places == {where}


def test_password_was_stored_all_the_same(life):
    assert json.loads(life.revealed)["password"] == CANARY


def test_search_finds_what_is_revealed(life):
    assert found_in({"revealed": life.revealed.encode()})


@pytest.mark.parametrize(
    ("kind", "known"),
    [
        ("smtp.toml, running", b"hpke1."),
        ("ledger.sqlite3, ended", b"No such mailbox"),
        ("mailhook.log, ended", b"Not known"),
        ("web.log, ended", b"the SMTP settings were saved"),
        ("page ", b"Please enter a sender name."),
        ("page ", "The mail server refused the login, which worked before: “535 5.7.8 Not known".encode()),
        ("page ", b"set-cookie: session-"),
        ("command check", b"Not known"),
        ("command settings --format msmtprc", b"user "),
        ("mailhook cmdline", b"mailhook"),
        ("web environ", b"DEVICE_UI_DATA="),
        ("mail ", b"Subject: "),
    ],
)
def test_evidence_holds_what_was_looked_for(life, kind, known):
    assert any(known in content for content in of_kind(life, kind).values())


def test_what_a_server_says_back_is_struck_out_and_nothing_else(life):
    log = life.product.log("mailhook")
    assert "535 5.7.8 Not known: PLAIN […]" in log
