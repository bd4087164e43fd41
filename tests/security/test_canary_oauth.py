"""The client secret, the tokens and the RSA key of OAuth 2.0 go through the whole product; afterwards everything is searched for them.

One device signs in by each grant, from its pages: at a provider that at times repeats all that it was sent, in every spelling, and at
a mail server that repeats the token which it refuses. What is searched is what `test_canary` searches for the password.
"""

from __future__ import annotations

import base64
import json
import subprocess
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization

from device_ui.mail import client
from device_ui.mail.daemon import sign_in_records
from device_ui.mail.ipc.peer_credentials import PAGES
from device_ui.settings.store import Store
from tests.helpers.product import SECONDS, Product, settings_form, wait_for
from tests.security.test_canary import Recorder, base64_forms, files_of, of_kind, seen_of
from tests.security.test_separation import WEB, Installed, fresh, home, python  # noqa: F401  # fixtures
from tests.servers.authority import Certificates
from tests.servers.provider import STRICT, Answer, Provider, Request
from tests.servers.scripted import ScriptedServer

ACCOUNT = "alarm@example.test"
PATHS = ("/smtp", "/smtp/sign-in", "/health", "/history", "/history.csv", "/others/email-content")
# Bytes of a secret in a row that count as a part of it.
PART = 24


class RepeatingProvider(Provider):
    """A provider that repeats what it was sent, while `repeats`, in an error that is no verdict."""

    repeats = False

    def respond(self, request: Request) -> Answer:
        if self.repeats and request.path.endswith("/token"):
            sent = [*request.form.values(), request.headers.get("authorization", "Basic ").partition(" ")[2]]
            said = " ".join(spelt for each in sent for spelt in (each, *spellings(each)))
            return 400, {"error": "invalid_request", "error_description": said}
        return super().respond(request)


def spellings(text: str) -> list[str]:
    """How a server may repeat a text."""
    raw = text.encode()
    return [base64.b64encode(raw).decode(), raw.hex(), urllib.parse.quote(text)]


@dataclass
class Life:
    """A device through its sign-ins: `evidence` is what was seen, by place; `secrets` what must not be in it, by name."""

    product: Product
    provider: RepeatingProvider
    server: ScriptedServer
    evidence: dict[str, bytes] = field(default_factory=dict)
    secrets: dict[str, bytes] = field(default_factory=dict)
    refuses: bool = False

    def live(self) -> None:
        """Sign in by each grant, and be refused."""
        self.product.start()
        self.product.logged_in()
        self.browser = Recorder(self.product.port)
        self.browser.answers = self.evidence
        self.browser.cookie = self.product.logged_in().cookie
        for grant in ("secret", "certificate", "device"):
            self._save(grant)
            getattr(self, f"_by_{grant}")()
            self._mail()
            self._be_refused()
            self._look(grant)
        self._keep_secrets()

    def _save(self, grant: str) -> None:
        values = {"host": "127.0.0.1", "port": str(self.server.port), "account": ACCOUNT, "security": "none"}
        oauth = {"sign_in": "oauth", "oauth_provider": "custom", "oauth_grant": grant}
        oauth |= {"oauth_issuer": self.provider.issuer, "oauth_client": self.provider.client, "oauth_scope": ""}
        is_secret = grant == "secret"
        oauth |= {"password": self.provider.secret if is_secret else "", "oauth_until": "2099-01-01" * is_secret}
        answer = self.browser.update(**settings_form(self.server.port) | values | oauth)
        assert answer.status == 303, answer.text

    def _by_secret(self) -> None:
        pass

    def _by_certificate(self) -> None:
        (made,) = client.certificates(self.product.folders.socket)
        self.provider.uploaded = [base64.b64decode(made["der"])]
        self.browser.get(f"/smtp/sign-in/certificate?sha256={made['sha256']}")

    def _by_device(self) -> None:
        assert self.browser.post("/smtp/sign-in", do="begin").status == 303
        wait_for(lambda: self.provider.codes, what="the code")
        self.secrets |= {f"device code {each}": each.encode() for each in self.provider.codes}
        for code in self.provider.codes:
            self.provider.codes[code] = "done"
        wait_for(lambda: self.provider.refresh, what="the person")

    def _mail(self) -> None:
        mails = len(self.server.mails)
        self.product.event("303")
        wait_for(lambda: len(self.server.mails) > mails, what="the mail")

    def _be_refused(self) -> None:
        self.provider.repeats = True
        self._test("400 invalid_request")
        self.product.command("token", "--keep-alive")
        self.provider.repeats, self.refuses = False, True
        self._test("535 5.7.8 not")
        self.refuses = False

    def _test(self, words: str) -> None:
        """Run the test of the tab until the page shows these words: the hook may be busy with a mail."""
        wait_for(lambda: words in self.browser.post("/smtp/test", **self._form()).text, what=words)

    def _form(self) -> dict[str, str]:
        stored = Store(self.product.folders.settings).read()[0]
        assert stored is not None
        names = ("host", "port", "account", "security", "sign_in", "sender_name")
        names += ("oauth_provider", "oauth_grant", "oauth_issuer", "oauth_client", "oauth_until", "oauth_scope")
        return {**{name: str(getattr(stored, name)) for name in names}, "password": ""}

    def _look(self, grant: str) -> None:
        for path in PATHS:
            self.browser.get(path)
        for words in (["settings", "--format", "json"], ["settings", "--format", "msmtprc"], ["check"], ["export"]):
            done = self.product.command(*words)
            self.evidence[f"command {grant} {' '.join(words)}"] = (done.stdout + done.stderr).encode()
        for name, process in self.product.processes.items():
            self.evidence |= {f"{name} {each}, {grant}": raw for each, raw in seen_of(process.pid).items()}
        self.evidence |= {f"{each}, {grant}": raw for each, raw in files_of(self.product.folder).items()}

    def _keep_secrets(self) -> None:
        self.secrets["client secret"] = self.provider.secret.encode()
        self.secrets |= {f"access token {number}": each.encode() for number, each in enumerate(self.provider.access)}
        self.secrets |= {f"refresh token {number}": each.encode() for number, each in enumerate(self.provider.issued)}
        _, record = sign_in_records(self.product.folders)
        der = base64.b64decode(record.open(record.read()))
        private = serialization.load_der_private_key(der, None).private_numbers()  # type: ignore[union-attr]
        for name in ("d", "p", "q"):
            number: int = getattr(private, name)
            self.secrets[f"RSA key, {name}"] = number.to_bytes((number.bit_length() + 7) // 8, "big")


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    certificates = Certificates("localhost", tmp_path_factory.mktemp("provider"))
    lives: list[Life] = []

    def judge(session: Any, line: str) -> None:
        token = base64.b64decode(line).decode()
        is_right = token == f"user={ACCOUNT}\x01auth=Bearer {lives[0].provider.access[-1]}\x01\x01"
        said = " ".join((line, token.replace("\x01", " "), *spellings(token)))
        session.say("235 welcome" if is_right and not lives[0].refuses else f"535 5.7.8 not {said[:400]}")

    with (
        RepeatingProvider(certificates.chain(), STRICT, host="localhost", interval=1) as provider,
        ScriptedServer({"AUTH": judge}, features=("AUTH XOAUTH2",)) as server,
        Product(tmp_path_factory.mktemp("device")) as product,
    ):
        product.prefork = None  # arguments and environment are what an exec leaves
        authority = certificates.authority.write(product.folder / "authority.pem")
        product.maker(f'[mail]\nca_file = "{authority}"\ndigest_window = 0\n[web]\ntests = 1000\n')
        lives.append(Life(product, provider, server))
        lives[0].live()
        lives[0].evidence |= {f"mail {number}": raw for number, raw in enumerate(map(bytes, server.mails))}
        yield lives[0]


def needles(secret: bytes) -> set[bytes]:
    """The parts of a secret, in each form in which a program might have written it; without regard to case."""
    text = secret.decode("latin-1")
    wholes = {secret, secret.hex().encode(), text[::-1].encode("latin-1"), *base64_forms(secret)}
    wholes |= {base64.urlsafe_b64encode(secret).rstrip(b"="), urllib.parse.quote(secret).encode()}
    return {part.lower() for whole in wholes for part in {whole, whole[:PART], whole[-PART:]}}


def found_in(secrets: Mapping[str, bytes], evidence: Mapping[str, bytes]) -> set[tuple[str, str]]:
    """Which secret is where."""
    parts = {name: needles(secret) for name, secret in secrets.items()}
    lowered = {place: content.lower() for place, content in evidence.items()}
    return {
        (place, name)
        for place, content in lowered.items()
        for name, each in parts.items()
        if any(part in content for part in each)
    }


# Nothing is found.

KINDS = ["file ", ".log, device", "page ", "command ", "mailhook cmdline", "mailhook environ", "web environ", "mail "]


@pytest.mark.parametrize("kind", KINDS)
def test_no_token_secret_or_key_is_anywhere(life: Life, kind: str) -> None:
    assert found_in(life.secrets, of_kind(life, kind)) == set()


# The search would have found it.


def test_life_had_all_of_them(life: Life) -> None:
    assert {name.partition(" ")[0] for name in life.secrets} == {"client", "access", "refresh", "device", "RSA"}
    assert len(life.provider.access) >= 5 and len(life.provider.issued) >= 2


def test_servers_did_repeat_them_and_the_pages_showed_what_was_left(life: Life) -> None:
    shown = b"".join(of_kind(life, "/smtp/test").values()).decode()
    assert shown.count("invalid_request") >= 3
    assert shown.count("535 5.7.8 not") >= 3
    assert "[…]" in shown


@pytest.mark.parametrize("name", ["client secret", "access token 0", "refresh token 0", "RSA key, d", "RSA key, p"])
def test_search_finds_each_in_every_form(life: Life, name: str) -> None:
    secret = life.secrets[name]
    planted = {
        "plain": b"x" + secret + b"y",
        "hex": b"x" + secret.hex().encode(),
        "a JSON Web Key": json.dumps({"d": base64.urlsafe_b64encode(secret).rstrip(b"=").decode()}).encode(),
        "base64 of more": base64.b64encode(b"some bytes" + secret + b"more"),
        "cut off": secret[: PART + 3],
    }
    assert {place for place, _ in found_in({name: secret}, planted)} == set(planted)


# A web process that was taken over.

ATTACK = """
import json, os, socket, sys
hook, path, *files = sys.argv[1:]
def read(path):
    try:
        return open(path, "rb").read(100).hex()
    except OSError as error:
        return type(error).__name__
print(json.dumps({each: read(each) for each in [*files, f"/proc/{hook}/mem", f"/proc/{hook}/environ", f"/proc/{hook}/maps"]}))
for word in json.loads(sys.stdin.read()):
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(path)
    sock.sendall(json.dumps(word).encode() + b"\\n")
    sock.shutdown(socket.SHUT_WR)
    said = b"".join(iter(lambda: sock.recv(65536), b""))
    print(json.dumps([word["do"], said.decode()]))
"""
# Every word of the socket, with what it needs; the last two are refused.
WORDS = [{"do": word} for word in sorted(PAGES - {"opens", "test", "try-waiting"})] + [
    {"do": "sign-in", "action": "begin"},
    {"do": "token"},
    {"do": "keep-alive"},
]


def test_taken_over_web_process_gets_none_of_them(fresh: Installed, tmp_path: Path) -> None:  # noqa: F811
    """As its user: each file of the sign-in, the memory of the hook, and every word of the hook's socket."""
    certificates = Certificates("localhost", tmp_path)
    taken = ScriptedServer({"AUTH": lambda session, _line: session.say("235 welcome")}, features=("AUTH XOAUTH2",))
    with Provider(certificates.chain(), STRICT, host="localhost") as provider, taken as server:
        fresh.start_both(certificates.authority.write(fresh.folder / "authority.pem"))
        values = {"host": "127.0.0.1", "account": ACCOUNT, "security": "none", "sign_in": "oauth"}
        oauth = {"oauth_provider": "custom", "oauth_issuer": provider.issuer, "oauth_client": provider.client}
        form = settings_form(server.port) | values | oauth | {"password": "", "oauth_grant": "certificate"}
        assert fresh.logged_in().update(**form).status == 303
        (made,) = client.certificates(fresh.folders.socket)
        provider.uploaded = [base64.b64decode(made["der"])]
        fresh.event()
        wait_for(lambda: server.mails, what="the mail")
        _, record = sign_in_records(fresh.folders)
        secrets = {"key": base64.b64decode(record.open(record.read()))}
        secrets |= {f"access {number}": each.encode() for number, each in enumerate(provider.access)}
        files = [fresh.folders.sign_in, fresh.folders.sign_in_key, fresh.folders.private_key]
        words = [fresh.python, "-c", ATTACK, str(fresh.processes["mailhook"].pid), str(fresh.folders.socket)]
        done = subprocess.run(
            [*words, *map(str, files)],
            input=json.dumps(WORDS),
            env=fresh.environment,
            cwd="/",
            capture_output=True,
            text=True,
            timeout=SECONDS,
            **WEB,
        )
        fresh.stop("web")
        fresh.stop("mailhook")
    assert done.stderr == ""
    read, *answers = map(json.loads, done.stdout.splitlines())
    assert set(read.values()) == {"PermissionError"}
    assert found_in(secrets, {"answers": done.stdout.encode()}) == set()
    refused = {word for word, answer in answers if '"not-allowed"' in answer or '"denied"' in answer}
    assert refused == {"token", "keep-alive"}, answers
    assert len(answers) == len(WORDS)
    assert secrets.keys() >= {"key", "access 0"}
