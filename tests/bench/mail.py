"""Mail: two hundred to a real Postfix, one on an open connection, new sessions, and a line with 40 ms of round trip."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import functools
import queue
import smtplib
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from device_ui.mail import client
from device_ui.mail.smtp.client import ClientOptions, SmtpClient
from device_ui.mail.smtp.tls import trusted
from device_ui.settings import keys, seal
from device_ui.settings.fields import SmtpSettings
from device_ui.settings.store import Store
from tests.bench.rows import Row, seconds, turns
from tests.bench.stand import Stand, program, resident
from tests.helpers.product import PASSWORD, free_port, settings_form, wait_for
from tests.servers.authority import Authority, Certificates
from tests.servers.postfix import MailServer
from tests.servers.provider import STRICT, Provider
from tests.servers.scripted import ScriptedServer, Session

ALARMS, EVENTS = 200, 100
# What the main job needs of Python and cryptography, whoever writes it.
NEEDED = "import sqlite3, ssl, smtplib, email.message, email.policy\nfrom cryptography.hazmat.primitives import hpke"
ACCOUNT, TO = "alarm@mail.example.com", "keeper@mail.example.com"
MAIL = b"From: <alarm@mail.example.com>\r\nSubject: alarm\r\n\r\n" + (b"x" * 70 + b"\r\n") * 40
# Seconds one way.
FAR = 0.020


def rows() -> Iterator[Row]:
    """Every row about mail."""
    with mail_server() as mails:
        yield one(mails)
        yield mails.sessions()
        yield far(mails)
        yield peak(mails)
        yield from sign_ins(mails.folder)
        yield from alarms(mails)


class Mails:
    """A Postfix, and the ways to reach it. `authority` is the file of its certificate's."""

    def __init__(self, server: MailServer, authority: Path, folder: Path) -> None:
        self.server, self.authority, self.folder = server, authority, folder
        self.context = trusted([str(authority)])

    @contextlib.contextmanager
    def product(self, *, window: int = 0, **hook: Any) -> Iterator[Stand]:
        """A device whose mail hook runs and trusts the server; `window` is that of a digest in seconds."""
        with tempfile.TemporaryDirectory(dir=self.folder) as name, Stand(Path(name)) as product:
            product.maker(f"[mail]\ndigest_window = {window}\nhourly_budget = 1000000\n")
            yield product.start_hook("--ca-file", str(self.authority), **hook)

    @property
    def form(self) -> dict[str, str]:
        """The values of the tab for this server, by STARTTLS and a login."""
        return settings_form(self.server.submission_port, host="localhost", account=ACCOUNT)

    def courier(self, port: int) -> SmtpClient:
        """Ours, with an open session."""
        security = "tls" if port == self.server.tls_port else "starttls"
        settings = SmtpSettings("localhost", port, "Alarms", ACCOUNT, security=security, sealed="x")
        courier = SmtpClient(settings, PASSWORD, ClientOptions(self.context, allow_loopback=True))
        courier.open()
        return courier

    def library(self, port: int) -> smtplib.SMTP:
        """Python's, with an open session."""
        session = smtplib.SMTP("localhost", port, timeout=60)
        session.starttls(context=self.context)
        session.login(ACCOUNT, PASSWORD)
        return session

    def sessions(self) -> Row:
        """A new session to the login, TLS from the first byte against STARTTLS."""

        def took(port: int) -> float:
            begun = time.perf_counter()
            courier = self.courier(port)
            opened = time.perf_counter() - begun
            courier.close()
            return opened

        pairs = turns(15, lambda: took(self.server.tls_port), lambda: took(self.server.submission_port))
        return Row("a new session, TLS from the first byte", "a new STARTTLS one", "ms", *pairs, 1.5)


@contextlib.contextmanager
def mail_server() -> Iterator[Mails]:
    """A Postfix with a folder beside it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        authority = Authority("Bench authority")
        certificate = authority.issue(["localhost", "127.0.0.1"])
        with MailServer(folder=folder / "postfix", certificate=certificate, accounts={ACCOUNT: PASSWORD}) as server:
            yield Mails(server, authority.write(folder / "ca.pem"), folder)


def peak(mails: Mails) -> Row:
    """The hook's main job: 100 events, most of them in a digest, by STARTTLS and a login."""

    def here() -> float:
        with mails.product(window=2) as product:
            product.save(**mails.form)
            raise_all(product.folders.socket, EVENTS)
            wait_for(lambda: product.state()["waiting"] == 0, 600, "the delivery")
            return resident(product.processes["mailhook"], "VmHWM")

    def floor() -> float:
        with program(NEEDED) as process:
            return resident(process, "VmHWM")

    what = f"mail hook, peak memory over {EVENTS} events, a digest, TLS, login"
    return Row(what, "`python -c` with the imports that it needs", "MiB", *turns(3, here, floor), 1.25)


def sign_ins(folder: Path) -> Iterator[Row]:
    """One mail by STARTTLS with each sign-in by OAuth 2.0, against one with a password."""
    certificates = Certificates("localhost", folder)
    authority = certificates.authority.write(folder / "local.pem")

    def peak_with(grant: str) -> float:
        features = ("AUTH PLAIN XOAUTH2",)
        with (
            tempfile.TemporaryDirectory(dir=folder) as name,
            Provider(certificates.chain(), STRICT, host="localhost", interval=1) as provider,
            ScriptedServer({"AUTH": takes_all}, features_in_tls=features, chain=certificates.chain()) as server,
            Stand(Path(name)) as product,
        ):
            product.start_hook("--ca-file", str(authority))
            save(product, server.port, provider, grant)
            if grant == "certificate":
                provider.uploaded = [base64.b64decode(client.certificates(product.folders.socket)[0]["der"])]
            if grant == "device":
                client.sign_in(product.folders.socket, "begin")
                wait_for(lambda: provider.codes, what="the code")
                provider.codes = dict.fromkeys(provider.codes, "done")
                wait_for(lambda: provider.refresh, what="the tokens")
            client.raise_event(product.folders.socket, "303", "disk 3 is full")
            wait_for(lambda: server.mails and product.state()["waiting"] == 0, 600, "the delivery")
            return resident(product.processes["mailhook"], "VmHWM")

    for grant, name in {"certificate": "a certificate", "secret": "a client secret", "device": "a code"}.items():
        pairs = turns(3, functools.partial(peak_with, grant), functools.partial(peak_with, ""))
        yield Row(f"mail hook, peak memory over a mail, OAuth 2.0 by {name}", "by a password", "MiB", *pairs, 1.25)


def takes_all(session: Session, line: str) -> None:
    """Accept every login."""
    session.say("235 welcome")


def save(product: Stand, port: int, provider: Provider, grant: str) -> None:
    """Save the settings of a grant, or of a password, as the page does."""
    values: dict[str, Any] = {"host": "localhost", "port": port, "sender_name": "Alarms", "account": ACCOUNT}
    if grant:
        values |= {
            "sign_in": "oauth",
            "oauth_provider": "custom",
            "oauth_grant": grant,
            "oauth_issuer": provider.issuer,
        }
        values |= {"oauth_client": provider.client, "oauth_until": "2099-01-01" if grant == "secret" else ""}
    settings = SmtpSettings(**values)
    if settings.needs_secret:
        public = keys.load_public(product.folders.public_key)
        secret = provider.secret if grant else PASSWORD
        settings = dataclasses.replace(settings, sealed=seal.seal(secret, public, settings.bound_to))
    product.folders.settings.parent.mkdir(exist_ok=True)
    Store(product.folders.settings).save(settings, "")
    client.settings_changed(product.folders.socket)


def alarms(mails: Mails) -> Iterator[Row]:
    """All that waits goes out, a mail for each: beside what most appliances do, and beside what a program does at best."""
    port = mails.server.submission_port
    msmtprc = mails.folder / "msmtprc"
    msmtprc.write_text(
        f"account default\nhost localhost\nport {port}\nfrom {ACCOUNT}\nauth plain\nuser {ACCOUNT}\n"
        f'password "{PASSWORD}"\ntls on\ntls_starttls on\ntls_trust_file {mails.authority}\n'
    )
    msmtprc.chmod(0o600)

    def here() -> tuple[float, float]:
        """Seconds in all, and mails a second from the first mail on: a fresh process imports what it needs to send."""
        with mails.product() as product:
            raise_all(product.folders.socket, ALARMS)
            product.save(**mails.form)
            begun = time.perf_counter()
            wait_for(lambda: product.state()["waiting"] < ALARMS, 600, "the first mail")
            first, left = time.perf_counter(), product.state()["waiting"]
            wait_for(lambda: product.state()["waiting"] == 0, 600, "the delivery")
            ended = time.perf_counter()
            return ended - begun, left / (ended - first)

    def msmtp() -> float:
        words = ["msmtp", f"--file={msmtprc}", TO]
        return seconds(lambda: [subprocess.run(words, input=MAIL, check=True) for _ in range(ALARMS)])

    def library() -> float:
        with mails.library(port) as session:
            return ALARMS / seconds(lambda: [session.sendmail(ACCOUNT, [TO], MAIL) for _ in range(ALARMS)])

    what = f"{ALARMS} alarms delivered to Postfix, STARTTLS and login, a mail each"
    yield Row(what, "msmtp, a process a mail", "s", *turns(2, lambda: here()[0], msmtp), 0.1)
    what = "the same from the first mail on, mails a second"
    yield Row(what, "smtplib, one open connection", "/s", *turns(5, lambda: here()[1], library), 0.4, at_least=True)


def raise_all(path: Path, count: int) -> None:
    """So many alarms on one connection; without settings their mail waits."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(path))
        answers = sock.makefile("rb")
        for number in range(count):
            sock.sendall(f"event 101 disk {number} is full\n".encode())
            if number % 50 == 49:
                assert all(answers.readline().startswith(b"accepted ") for _ in range(50))


def one(mails: Mails) -> Row:
    """One mail to the server's 250 on an open connection."""
    port = mails.server.submission_port
    courier = mails.courier(port)
    with contextlib.closing(courier), mails.library(port) as session:
        here = lambda: seconds(lambda: courier.deliver([TO], MAIL))  # noqa: E731
        pairs = turns(40, here, lambda: seconds(lambda: session.sendmail(ACCOUNT, [TO], MAIL)))
    return Row("one mail to the server's 250, open connection", "smtplib, the same", "ms", *pairs, 1.7)


def far(mails: Mails) -> Row:
    """The same at a round trip of 40 ms."""
    with Far(mails.server.submission_port) as line:
        courier = mails.courier(line.port)
        with contextlib.closing(courier), mails.library(line.port) as session:
            here = lambda: seconds(lambda: courier.deliver([TO], MAIL))  # noqa: E731
            pairs = turns(10, here, lambda: seconds(lambda: session.sendmail(ACCOUNT, [TO], MAIL)))
    return Row("the same at 40 ms round trip", "smtplib, the same", "ms", *pairs, 1.1)


class Far:
    """A port on loopback that leads to another and delays every byte, each way, without holding up those behind it."""

    def __init__(self, port: int) -> None:
        self._target, self.port, self._stopping = port, free_port(), threading.Event()
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._open: list[socket.socket] = []

    def __enter__(self) -> Far:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for sock in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while not self._stopping.is_set():
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
                self._open += [near, far]
                for source, target in ((near, far), (far, near)):
                    source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    threading.Thread(target=self._carry, args=(source, target), daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        late: queue.Queue[tuple[float, bytes]] = queue.Queue()
        threading.Thread(target=self._put, args=(target, late), daemon=True).start()
        with contextlib.suppress(OSError):
            while chunk := source.recv(65536):
                late.put((time.monotonic() + FAR, chunk))

    def _put(self, target: socket.socket, late: queue.Queue[tuple[float, bytes]]) -> None:
        with contextlib.suppress(OSError, queue.Empty):
            while not self._stopping.is_set():
                due, chunk = late.get(timeout=60)
                self._stopping.wait(max(0.0, due - time.monotonic()))
                target.sendall(chunk)
