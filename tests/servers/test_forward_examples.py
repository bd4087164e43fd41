"""The programs of ``appliance/forward`` against real engines, over TLS: killed, slow, away, and back.

The engine must end up with exactly the numbers of the ledger; copies are allowed. NATS is reached by its MQTT listener, which
acknowledges a message once JetStream has it: Debian has the server, and no client of its own protocol.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.helpers.delivery import MEMORY
from tests.helpers.product import ROOT, free_port, wait_for
from tests.mail.delivery.test_forward_command import Bench, covered
from tests.servers.authority import Authority, Certificates

EXAMPLES = ROOT / "device_ui" / "appliance" / "forward"
USER, PASSWORD = "device-17", "the-password-of-device-17"
SECONDS = 5.0
# Each engine is started a few times, and left to hang until the time limit.
pytestmark = pytest.mark.timeout(600)


class Example:
    """A program of the appliance, copied to `folder` with its configuration beside it; `changes` are what a maker fills in."""

    def __init__(self, folder: Path, name: str, configuration: str, changes: dict[str, str]) -> None:
        self.path = folder / name
        for each in (name, configuration):
            text = (EXAMPLES / each).read_text()
            for old, new in changes.items():
                text = text.replace(old, new)
            (folder / each).write_text(text)
        self.path.chmod(0o755)


class Process:
    """A server in the foreground, started and ended as often as a test needs."""

    def __init__(self, words: Sequence[object], port: int, log: Path) -> None:
        self.words, self.port, self.log = [str(each) for each in words], port, log
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it listens."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.words, stdout=log, stderr=log, cwd="/")
        wait_for(self._listens, 60, f"the start of {self.words[0]}")

    def end(self, number: int = signal.SIGTERM) -> None:
        """End it."""
        if self.process:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(number)
            self.process.wait(60)
            self.process = None

    def pause(self) -> None:
        """Let it answer nothing."""
        assert self.process
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        assert self.process
        self.process.send_signal(signal.SIGCONT)

    def _listens(self) -> bool:
        assert self.process and self.process.poll() is None, self.log.read_text()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False


@contextlib.contextmanager
def ended(*processes: Process) -> Iterator[None]:
    """End these processes at last."""
    try:
        yield
    finally:
        for each in processes:
            each.end(signal.SIGKILL)


@pytest.fixture
def memory():
    """A folder for the ledger: its commits are not what is tested here."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as name:
        yield Path(name)


@pytest.fixture
def certificates(tmp_path):
    """An authority, and chains for localhost."""
    folder = tmp_path / "certificates"
    folder.mkdir()
    found = Certificates("localhost", folder)
    found.authority.write(folder / "authority.pem")
    return found


def key_and_certificate(certificates: Certificates) -> tuple[Path, Path]:
    """The files of a server called localhost."""
    made = certificates.authority.issue(["localhost"])
    key, chain = certificates.folder / "key.pem", certificates.folder / "certificate.pem"
    key.write_bytes(made.key_pem)
    chain.write_bytes(made.cert_pem)
    return key, chain


def numbers(lines: Sequence[str]) -> set[int]:
    """The numbers that the engine has."""
    return {number for line in lines for number in covered(json.loads(line))}


def everything(bench: Bench) -> set[int]:
    """The numbers that the ledger gave."""
    return set(range(1, bench.outbox.last + 1))


def trouble(bench: Bench, away: Callable[[], None], back: Callable[[], None], slow: Callable[[], None]) -> None:
    """An engine that is away, comes back, hangs in the middle, and comes back."""
    bench.accept(3)
    assert bench.forward.round() > 0, "it was away, and nobody noticed"
    back()
    bench.now += 4000
    bench.work()
    slow()
    bench.accept(150)
    assert bench.forward.round() > 0, "it hung, and nobody noticed"
    away()
    bench.accept(20)
    bench.now += 4000
    assert bench.forward.round() > 0
    back()
    bench.now += 4000
    bench.work()
    assert bench.cursor == 173


# MQTT: Mosquitto, and NATS JetStream.


def subscriber(folder: Path, certificates: Certificates, port: int, topic: str) -> tuple[list[str], Path]:
    """The command of an engine that keeps every message, and its file."""
    words = [
        "mosquitto_sub",
        "-h",
        "localhost",
        "-p",
        port,
        "--cafile",
        certificates.folder / "authority.pem",
        "-c",
        "-i",
        "engine",
    ]
    return [
        str(each) for each in (*words, "-q", 1, "-u", USER, "-P", PASSWORD, "-t", topic, "-F", "%p")
    ], folder / "engine"


@contextlib.contextmanager
def subscribed(words: Sequence[str], path: Path) -> Iterator[None]:
    """Run an engine, which connects again by itself."""
    with path.open("ab") as file, subprocess.Popen(words, stdout=file, stderr=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.kill()


def mqtt_example(folder: Path, certificates: Certificates, port: int) -> Example:
    """The program, as a maker sets it up."""
    authority = str(certificates.folder / "authority.pem")
    changes = {"broker.example.com": "localhost", "8883": str(port), "/etc/ssl/certs/ca-certificates.crt": authority}
    return Example(folder, "mqtt", "mosquitto_pub", changes)


def test_mosquitto_has_every_event(tmp_path, memory, certificates):
    key, chain = key_and_certificate(certificates)
    port = free_port()
    passwords = tmp_path / "passwords"
    subprocess.run(["mosquitto_passwd", "-b", "-c", passwords, USER, PASSWORD], check=True, timeout=60)
    (tmp_path / "mosquitto.conf").write_text(
        f"user root\nlistener {port} 127.0.0.1\ncertfile {chain}\nkeyfile {key}\nallow_anonymous false\n"
        f"password_file {passwords}\npersistence true\npersistence_location {tmp_path}/\nmax_queued_messages 0\n"
    )
    broker = Process(["mosquitto", "-c", tmp_path / "mosquitto.conf"], port, tmp_path / "mosquitto.log")
    bench = Bench(memory, mqtt_example(tmp_path, certificates, port), seconds=SECONDS)
    words, engine = subscriber(tmp_path, certificates, port, "site/+/events")
    with ended(broker):
        broker.start()
        subprocess.run([*words, "-E"], check=True, timeout=60)  # the engine's subscription, which the broker keeps
        broker.end()
        trouble(bench, broker.end, broker.start, broker.pause)
        with subscribed(words, engine):
            wait_for(lambda: numbers(engine.read_text().splitlines()) == everything(bench), 60, "the last event")


def test_wrong_password_and_wrong_certificate_hand_over_nothing(tmp_path, memory, certificates):
    key, chain = key_and_certificate(certificates)
    port = free_port()
    passwords = tmp_path / "passwords"
    subprocess.run(["mosquitto_passwd", "-b", "-c", passwords, USER, "another"], check=True, timeout=60)
    (tmp_path / "mosquitto.conf").write_text(
        f"user root\nlistener {port} 127.0.0.1\ncertfile {chain}\nkeyfile {key}\nallow_anonymous false\npassword_file {passwords}\n"
    )
    broker = Process(["mosquitto", "-c", tmp_path / "mosquitto.conf"], port, tmp_path / "mosquitto.log")
    example = mqtt_example(tmp_path, certificates, port)
    bench = Bench(memory, example, seconds=SECONDS)
    bench.accept()
    with ended(broker):
        broker.start()
        assert bench.forward.round() > 0
        options = tmp_path / "mosquitto_pub"
        stranger = Authority("Another authority").write(tmp_path / "stranger.pem")
        options.write_text(
            options.read_text()
            .replace(PASSWORD, "another")
            .replace(str(certificates.folder / "authority.pem"), str(stranger))
        )
        bench.now += 4000
        assert bench.forward.round() > 0
    assert bench.cursor == 0


def test_what_mosquitto_refuses_counts_only_once_it_takes_it(tmp_path, memory, certificates):
    key, chain = key_and_certificate(certificates)
    port = free_port()
    passwords, rights, configuration = (tmp_path / each for each in ("passwords", "rights", "mosquitto.conf"))
    subprocess.run(["mosquitto_passwd", "-b", "-c", passwords, USER, PASSWORD], check=True, timeout=60)

    def permit(topic: str, size: int) -> None:
        rights.write_text(f"user {USER}\ntopic readwrite {topic}\n")
        configuration.write_text(
            f"user root\nlistener {port} 127.0.0.1\ncertfile {chain}\nkeyfile {key}\nallow_anonymous false\n"
            f"password_file {passwords}\nacl_file {rights}\nmessage_size_limit {size}\n"
        )

    broker = Process(["mosquitto", "-c", configuration], port, tmp_path / "mosquitto.log")
    bench = Bench(memory, mqtt_example(tmp_path, certificates, port), seconds=SECONDS)
    bench.accept(1, text="x" * 5000)
    with ended(broker):
        for topic, size in (("site/another/events", 0), ("site/device-17/events", 2000)):
            permit(topic, size)
            broker.start()
            assert bench.forward.round() > 0, "it refused the event, and nobody noticed"
            broker.end()
            bench.now += 4000
            assert bench.cursor == 0
        permit("site/device-17/events", 0)
        broker.start()
        bench.work()
    assert bench.cursor == 1


def test_nats_jetstream_has_every_event(tmp_path, memory, certificates):
    key, chain = key_and_certificate(certificates)
    port, client = free_port(), free_port()
    (tmp_path / "nats.conf").write_text(
        f'server_name: one\nlisten: "127.0.0.1:{client}"\njetstream {{ store_dir: "{tmp_path}/jetstream" }}\n'
        f'authorization {{ users: [ {{ user: "{USER}", password: "{PASSWORD}" }} ] }}\n'
        f'mqtt {{ listen: "127.0.0.1:{port}", tls {{ cert_file: "{chain}", key_file: "{key}" }} }}\n'
    )
    server = Process(["nats-server", "-c", tmp_path / "nats.conf"], port, tmp_path / "nats.log")
    bench = Bench(memory, mqtt_example(tmp_path, certificates, port), seconds=SECONDS)
    options = tmp_path / "mosquitto_pub"
    options.write_text(options.read_text().replace("-V mqttv5\n", "-V mqttv311\n"))
    words, engine = subscriber(tmp_path, certificates, port, "site/+/events")
    with ended(server):
        server.start()
        subprocess.run([*words, "-E"], check=True, timeout=60)  # the engine's subscription, which JetStream keeps
        server.end()
        trouble(bench, lambda: server.end(signal.SIGKILL), server.start, server.pause)
        with subscribed(words, engine):
            wait_for(lambda: numbers(engine.read_text().splitlines()) == everything(bench), 60, "the last event")


# Syslog.


def test_syslog_server_has_every_event_over_tls(tmp_path, memory, certificates):
    key, chain = key_and_certificate(certificates)
    port, events, received = free_port(), tmp_path / "events.sock", tmp_path / "received"
    authority = certificates.folder / "authority.pem"
    (tmp_path / "server.conf").write_text(
        f'global(maxMessageSize="128k" workDirectory="{tmp_path}" DefaultNetstreamDriverCAFile="{authority}" '
        f'DefaultNetstreamDriverCertFile="{chain}" DefaultNetstreamDriverKeyFile="{key}")\n'
        'module(load="imtcp" StreamDriver.Name="gtls" StreamDriver.Mode="1" StreamDriver.AuthMode="anon")\n'
        f'input(type="imtcp" address="127.0.0.1" port="{port}")\ntemplate(name="text" type="string" string="%msg%\\n")\n'
        f'action(type="omfile" file="{received}" template="text" asyncWriting="off" flushOnTXEnd="on")\n'
    )
    changes = {"logs.example.com": "localhost", "6514": str(port), "/etc/ssl/certs/ca-certificates.crt": str(authority)}
    changes |= {"/run/device-ui-events.sock": str(events), "/run/device-ui-events.end": str(tmp_path / "events.end")}
    changes |= {"64m": "2m"}  # some 60 events of 30 kB
    example = Example(tmp_path, "syslog", "rsyslog.conf", changes)
    spool = memory / "spool"
    spool.mkdir()
    (tmp_path / "device.conf").write_text(
        f'global(maxMessageSize="128k" workDirectory="{spool}")\ninclude(file="{tmp_path}/rsyslog.conf")\n'
    )

    os.mkfifo(tmp_path / "events.end")

    def rsyslogd(name: str) -> list[object]:
        return ["rsyslogd", "-n", "-iNONE", "-f", tmp_path / f"{name}.conf"]

    @contextlib.contextmanager
    def device() -> Iterator[subprocess.Popen[bytes]]:
        with (tmp_path / "device.log").open("ab") as log:
            with subprocess.Popen([str(each) for each in rsyslogd("device")], stdout=log, stderr=log) as running:
                try:
                    wait_for(events.exists, what="the socket of rsyslog")
                    yield running
                finally:
                    running.kill()

    server = Process(rsyslogd("server"), port, tmp_path / "server.log")
    bench = Bench(memory, example, seconds=SECONDS)
    bench.accept(3)
    assert bench.forward.round() > 0, "no rsyslog ran, and nobody noticed"
    with ended(server):
        with device() as running:
            bench.now += 4000
            bench.work()  # the server is away: the events are in the queue of this device
            bench.accept(120)
            bench.accept(1, text="한" * 10_000)
            bench.work()
            # Until the queue is full: from then on no event counts, and none that counted is dropped for a new one.
            bench.accept(100, text="x" * 30_000)
            taken = 0
            while bench.cursor > taken:
                taken = bench.cursor
                bench.forward.round()
            assert bench.outbox.last - 90 < taken < bench.outbox.last - 10
            bench.now += 4000
            assert bench.forward.round() > 0, "the queue was full, and nobody noticed"
            # Killed: what counted is on the disk.
        events.unlink()
        server.start()
        with device() as running:
            bench.now += 4000
            bench.work()
            wait_for(lambda: received.exists() and numbers(_texts(received)) == everything(bench), 60, "the last event")
            server.end(signal.SIGTERM)
            running.send_signal(signal.SIGSTOP)
            bench.accept(20)
            assert bench.forward.round() > 0, "rsyslog hung, and nobody noticed"
            running.send_signal(signal.SIGCONT)
            server.start()
            bench.now += 4000
            bench.work()
            wait_for(lambda: numbers(_texts(received)) == everything(bench), 60, "the last event")


def _texts(path: Path) -> list[str]:
    """The messages of a file; the last one may be half written."""
    return [line for line in path.read_text().splitlines() if line.endswith("}")]


# A web hook.


class Hook(http.server.BaseHTTPRequestHandler):
    """Answers with the next of `answers`, then with 204; 0 is a client that waits in vain. Keeps what it took."""

    answers: list[int] = []
    taken: list[str] = []
    tokens: set[str | None] = set()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.tokens.add(self.headers["Authorization"])
        status = self.answers.pop(0) if self.answers else 204
        if status == 0:
            self.close_connection = True
            return
        if status < 300:
            self.taken.extend(body.splitlines())
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_webhook_that_answers_500_for_a_while_has_every_event(tmp_path, memory, certificates):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.chain())
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        changes = {"engine.example.com": f"localhost:{server.server_address[1]}"}
        example = Example(tmp_path, "webhook", "curl.conf", changes)
        bench = Bench(memory, example, seconds=20.0)
        bench.accept(150)
        try:
            assert bench.forward.round() > 0, "a certificate of nobody was trusted"
            with (tmp_path / "curl.conf").open("a") as file:
                file.write(f'cacert = "{certificates.folder}/authority.pem"\n')
            Hook.answers[:] = [500, 502, 302, 0, 404, 200, 503]
            for _ in range(5):
                bench.now += 4000
                assert bench.forward.round() > 0
            bench.now += 4000
            bench.work()
        finally:
            server.shutdown()
    assert numbers(Hook.taken) == everything(bench) and Hook.tokens == {"Bearer the-token-of-device-17"}
    assert bench.cursor == 150 and len(Hook.taken) == 150


def test_every_example_is_one_of_these():
    programs = {path.name for path in EXAMPLES.iterdir() if os.access(path, os.X_OK)}
    assert programs == {"mqtt", "syslog", "webhook"}
    assert all(shutil.which(name) for name in ("mosquitto_pub", "logger", "curl"))
