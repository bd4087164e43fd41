"""The mail hook as a real process: how it starts, how it ends, and what is left when it is killed."""

from __future__ import annotations

import ctypes
import dataclasses
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from device_ui.errors import HookError
from device_ui.mail import client
from device_ui.mail.outbox.outbox import Outbox
from device_ui.mail.smtp.client import DEFAULT_TIMEOUTS
from device_ui.settings import keys, seal
from device_ui.settings.fields import SmtpSettings
from device_ui.settings.notifications import NEVER, Notifications
from device_ui.settings.store import NotificationStore, Store
from tests.helpers.product import PASSWORD, SECONDS, Product, listens, wait_for
from tests.servers import activation
from tests.servers.scripted import ScriptedServer


def save(product: Product, port: int, password: str | None = None, **fields: object) -> None:
    """Put settings for a server on loopback on flash, as the page does, and tell the hook."""
    account = "alarm@mail.example.com"
    values = {"host": "127.0.0.1", "port": port, "sender_name": "Alarms", "account": account, "security": "none"}
    if password is None:
        settings = SmtpSettings(**{**values, "sign_in": "none", **fields})
    else:
        settings = SmtpSettings(**{**values, **fields})
        sealed = seal.seal(password, keys.load_public(product.folders.public_key), settings.bound_to)
        settings = SmtpSettings(**{**values, **fields, "sealed": sealed})
    product.folders.settings.parent.mkdir(exist_ok=True)
    store = Store(product.folders.settings)
    if not store.path.exists():
        # A hook in its first round would find the settings, and hear of them while it tries them: it would begin anew.
        wait_for(lambda: state(product)["problem"] == "unset", what="the first round")
    store.save(settings, store.read()[1])
    client.settings_changed(product.folders.socket, seconds=SECONDS)


def state(product: Product) -> dict[str, object]:
    return dict(client.state(product.folders.socket, seconds=SECONDS))


def raise_event(product: Product, code: str = "303", text: str = "full") -> int:
    return client.raise_event(product.folders.socket, code, text)


def ledger(product: Product) -> dict[int, str]:
    """The text of each event that still waits, by number, as the next process finds it."""
    outbox = Outbox(product.folders.ledger)
    try:
        return {event.number: event.text for event in outbox.waiting(10_000)}
    finally:
        outbox.close()


def history(product: Product) -> list[dict[str, Any]]:
    """Every event as the hook tells it, the oldest first."""
    lines = client.history(product.folders.socket, {"limit": 0, "descending": False})
    return [line["event"] for line in lines if "event" in line]


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def about(product: Product, what: str) -> str:
    """What the system says about the hook's process."""
    return Path("/proc", str(product.processes["mailhook"].pid), what).read_text()


# How it starts


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """A hook under a umask that forbids nothing; its one event is accepted, and its tests change nothing."""
    with Product(tmp_path_factory.mktemp("running")) as product:
        product.start_hook(umask=0)
        raise_event(product)
        yield product


def test_the_private_key_is_for_the_hook_alone(running):
    assert mode(running.folders.private_key) == 0o600
    assert mode(running.folders.private_key.parent) == 0o700
    assert mode(running.folders.ledger) == 0o600


def test_a_core_dump_cannot_be_made(running):
    limits = about(running, "limits")
    line = next(line for line in limits.splitlines() if line.startswith("Max core file size"))
    assert line.split()[4:6] == ["0", "0"]


def test_a_hook_without_mail_has_no_mail_library(running):
    maps = about(running, "maps")
    assert "sqlite3" in maps
    assert "libssl" not in maps and "_ssl." not in maps


def test_it_says_where_it_listens(running):
    wait_for(lambda: "listening at" in running.log("mailhook"))
    assert f"listening at {running.folders.socket}" in running.log("mailhook")


@pytest.fixture(scope="module")
def harmed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """A hook under a umask that forbids others everything, with a catalogue and a ledger that it cannot read."""
    with Product(tmp_path_factory.mktemp("harmed")) as product:
        product.folders.etc.mkdir()
        (product.folders.etc / "events.toml").write_text('[303]\ntype = "alarm"\n')
        product.folders.ledger.parent.mkdir(parents=True)
        product.folders.ledger.write_bytes(bytes(8192))
        product.start_hook(umask=0o077)
        assert raise_event(product) == 1
        yield product


def test_the_public_key_is_for_everybody(harmed):
    assert mode(harmed.folders.public_key) == 0o644
    assert mode(harmed.folders.public_key.parent) == 0o755
    assert mode(harmed.folders.socket) == 0o666


def test_a_broken_catalogue_falls_back_to_the_built_in_one_and_is_told(harmed):
    told = f"{harmed.folders.etc / 'events.toml'}: [303]: type must be info or fault (at line 2, column 1); the built-in catalogue is used"
    assert told in harmed.log("mailhook")
    assert [event["type"] for event in history(harmed)] == ["fault"]


def test_a_damaged_ledger_is_kept_told_and_replaced(harmed):
    assert "ledger damaged; it is kept as ledger.sqlite3.damaged-1" in harmed.log("mailhook")
    assert state(harmed)["set_aside"] == "ledger.sqlite3.damaged-1"
    assert [event["number"] for event in history(harmed)] == [1]
    assert harmed.folders.ledger.with_name("ledger.sqlite3.damaged-1").read_bytes() == bytes(8192)


def test_the_makers_catalogue_decides(product):
    product.folders.etc.mkdir()
    text = '[700]\ntype = "info"\nname = "Fan"\ndescription = "A fan."\nmail = false\n'
    (product.folders.etc / "events.toml").write_text(text)
    product.start_hook()
    raise_event(product, "700")
    assert state(product)["waiting"] == 0


def test_a_handed_socket_is_used_and_nothing_is_made(product):
    """As systemd does it: descriptor 3, LISTEN_PID, LISTEN_FDS."""
    product.folders.run.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(product.folders.run / "handed.sock"))
        listener.listen()
        program = (
            "import os, sys\n"
            "os.dup2(int(sys.argv[1]), 3); os.set_inheritable(3, True)\n"
            "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1')\n"
            "os.execv(sys.executable, [sys.executable, '-m', 'device_ui', 'mailhook'])\n"
        )
        words = [sys.executable, "-c", program, str(listener.fileno())]
        process = subprocess.Popen(
            words, env=product.environment, cwd="/", pass_fds=[listener.fileno()], stderr=subprocess.DEVNULL
        )
        try:
            assert client.raise_event(product.folders.run / "handed.sock", "303", seconds=SECONDS) == 1
            assert not product.folders.socket.exists()
        finally:
            process.terminate()
            assert process.wait(SECONDS) == 0


# A second one


@pytest.fixture(scope="module")
def second(running: Product) -> tuple[subprocess.CompletedProcess[str], list[tuple[int, int]]]:
    """How a second hook ended, and the inode and change of the socket before and after."""
    before = running.folders.socket.stat()
    done = running.command("mailhook")
    after = running.folders.socket.stat()
    return done, [(each.st_ino, each.st_ctime_ns) for each in (before, after)]


def test_a_second_hook_ends_with_one_line_and_leaves_the_first_alone(running, second):
    done, _ = second
    assert done.returncode in (74, 75)
    assert done.stderr == "device-ui: ledger.sqlite3 could not be stored: database is locked\n"
    newest = len(history(running))
    assert raise_event(running) == newest + 1
    assert list(running.folders.ledger.parent.glob("*damaged*")) == []


def test_a_second_hook_does_not_take_the_socket_for_a_moment(second):
    _, (before, after) = second
    assert before == after


def test_a_folder_that_cannot_be_made_is_one_line(product):
    product.folders.data.write_text("a file")
    done = product.command("mailhook")
    assert done.returncode == 74
    assert done.stderr == "device-ui: data could not be stored: Not a directory\n"


# How it ends


@pytest.fixture(scope="module", params=[signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def ended(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Product:
    """A hook that ended by a signal, after one event."""
    with Product(tmp_path_factory.mktemp("ended")) as product:
        product.start_hook()
        raise_event(product)
        assert product.stop("mailhook", request.param) == 0
        return product


def test_a_signal_ends_it_soon_and_well(ended):
    assert "Traceback" not in ended.log("mailhook")


def test_the_ledger_is_closed_when_it_ends(ended):
    # SQLite takes the -wal into the file, and removes it, when the last connection is closed.
    assert [each.name for each in ended.folders.ledger.parent.glob("ledger*-*")] == []
    assert ledger(ended) == {1: "full"}


def test_after_it_ended_the_hook_is_down(ended):
    with pytest.raises(HookError) as told:
        raise_event(ended)
    assert told.value.word == "down"


def test_a_signal_that_no_wait_notices_ends_it_too(product):
    """One that comes just before the wait; or, as here, one that another thread than the waiting one gets."""
    hook = product.start_hook().processes["mailhook"]
    wait_for(lambda: state(product)["problem"] == "unset", what="the first round")
    others = [int(task.name) for task in Path(f"/proc/{hook.pid}/task").iterdir() if task.name != str(hook.pid)]
    assert ctypes.CDLL(None).tgkill(hook.pid, others[0], signal.SIGTERM) == 0
    assert hook.wait(SECONDS) == 0


def test_a_silent_mail_server_does_not_keep_it_from_ending(product):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(SECONDS)
        product.start_hook()
        save(product, listener.getsockname()[1])
        raise_event(product)
        connection, _ = listener.accept()
        with connection:
            # `stop` waits a minute; the hook waits five for a greeting, and an hour for a whole attempt.
            assert DEFAULT_TIMEOUTS.greeting > 2 * SECONDS
            assert product.stop("mailhook") == 0
    assert ledger(product) == {1: "full"}


def test_what_was_accepted_outlives_a_kill(product):
    """Killed in the middle of a storm: every number that was told is there afterwards."""
    product.start_hook()
    told: dict[int, str] = {}

    def storm(name: int) -> None:
        for count in range(10_000):
            text = f"{name} {count}"
            try:
                told[raise_event(product, text=text)] = text
            except HookError:
                return

    callers = [threading.Thread(target=storm, args=[name]) for name in range(4)]
    for caller in callers:
        caller.start()
    wait_for(lambda: len(told) >= 100, what="a hundred events")
    product.stop("mailhook", signal.SIGKILL)
    for caller in callers:
        caller.join(SECONDS)
    kept = ledger(product)
    assert told.items() <= kept.items()
    assert list(kept) == list(range(1, len(kept) + 1))


def test_after_a_kill_it_starts_again_and_mails_what_waits(product):
    product.start_hook()
    numbers = [raise_event(product, text=f"alarm {count}") for count in range(3)]
    product.stop("mailhook", signal.SIGKILL)
    with ScriptedServer() as server:
        product.start_hook()
        assert raise_event(product) == numbers[-1] + 1
        save(product, server.port)
        wait_for(lambda: state(product)["waiting"] == 0, what="the mail")
        product.stop("mailhook")
    # Which of them share a mail hangs on when the last one came.
    found = [re.search(rb"Event numbers?: +([0-9]+)-?([0-9]*)", mail).groups() for mail in server.mails]
    told = [number for first, last in found for number in range(int(first), int(last or first) + 1)]
    assert sorted(told) == [1, 2, 3, 4]


class Activated:
    """A hook that is started by whoever calls, as systemd does it."""

    def __init__(self, product: Product) -> None:
        product.folders.run.mkdir(parents=True)
        self.product = product
        listen = ["systemd-socket-activate", "--listen", str(product.folders.socket)]
        words = [*listen, "--setenv=PYTHONPATH", *(f"--setenv=DEVICE_UI_{each}" for each in ("DATA", "RUN", "ETC"))]
        self.process = subprocess.Popen(
            [*words, sys.executable, "-m", "device_ui", "mailhook"],
            env=product.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_for(product.folders.socket.exists, what="the socket")

    def __enter__(self) -> Activated:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()


def test_a_hook_that_somebody_else_starts_answers_the_line_that_started_it(product):
    with Activated(product):
        assert raise_event(product) == 1
        assert raise_event(product) == 2


# As systemd starts it, with less than the product's minute of idle time.
IDLE = """
from device_ui.config import Device, Folders
from device_ui.mail.daemon import Daemon
Daemon(Device.load(Folders.find(None, os.environ)), idle_seconds=0.1).run()
"""


def activated(folder: Path) -> tuple[Product, activation.Activated]:
    """A device in this folder, whose hook ends when it is idle."""
    folder.mkdir()
    product = Product(folder).maker("[mail]\ndigest_window = 0\n")
    product.folders.run.mkdir()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(product.folders.socket))
    listener.listen()
    return product, activation.Activated(listener, IDLE, product.environment, folder / "hook.log")


def test_a_hook_with_mail_that_waits_does_not_end(tmp_path):
    product, hook = activated(tmp_path / "with mail")
    other, idle = activated(tmp_path / "without mail")
    with hook, idle:
        raise_event(product)
        # The other one begins later, has no mail, and meanwhile ends twice.
        for count in (1, 2):
            assert state(other)["waiting"] == 0
            wait_for(lambda count=count: len(idle.codes) == count, what="the end of an idle hook")
        assert (hook.codes, state(product)["waiting"]) == ([], 1)


# A disk that takes its time for the file of what is mailed.
SLOW_CHOICES = """
import threading
from device_ui.mail.delivery.worker import DeliveryWorker
read = DeliveryWorker.read_choices
DeliveryWorker.read_choices = lambda worker: (threading.Event().wait(0.5), read(worker))
"""


def test_the_event_that_starts_the_hook_is_mailed_as_the_operator_chose(product):
    product.folders.run.mkdir()
    product.folders.notifications.parent.mkdir(parents=True)
    store = NotificationStore(product.folders.notifications)
    store.save(Notifications(codes=(("303", NEVER),)), store.read()[1])
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(product.folders.socket))
    listener.listen()
    with activation.Activated(listener, SLOW_CHOICES + IDLE, product.environment, product.folder / "hook.log"):
        assert raise_event(product) == 1
        assert state(product)["waiting"] == 0


def test_a_hook_whose_worker_fails_ends_as_a_failure(product):
    code = (
        "import sys\nfrom device_ui.cli.parser import main\nfrom device_ui.mail.delivery.worker import DeliveryWorker\n"
    )
    code += "DeliveryWorker.round = lambda _: sys.exit(0)\nsys.exit(main(['mailhook']))"
    run = {"env": product.environment, "cwd": "/", "capture_output": True, "text": True, "timeout": SECONDS}
    done = subprocess.run([sys.executable, "-c", code], **run)
    assert done.returncode == 70, done.stderr
    assert "worker failed; the mail hook ends" in done.stderr
    assert "SystemExit: 0\n" in done.stderr


# Mail


@pytest.fixture(scope="module")
def mailed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Product, ScriptedServer]:
    """A device that its maker gave a name, after it mailed an event with a password; and the server."""
    with Product(tmp_path_factory.mktemp("mailed")) as product, ScriptedServer() as server:
        product.maker('[mail]\nhelo_name = "nas7.example.com"\n').start_hook()
        save(product, server.port, PASSWORD)
        raise_event(product)
        wait_for(lambda: server.mails, what="the mail")
        wait_for(lambda: state(product)["waiting"] == 0)
        product.stop("mailhook")
        return product, server


def test_a_mail_arrives_with_the_sealed_password(mailed):
    product, server = mailed
    assert b"Subject: [fault 303] Storage" in server.mails[0]
    assert server.verbs.count("AUTH") == 1
    assert PASSWORD not in product.log("mailhook")


def test_the_device_tells_its_name_where_it_has_one(mailed):
    _, server = mailed
    assert "EHLO nas7.example.com" in [command.replace("ehlo", "EHLO") for command in server.commands]


def test_a_server_on_the_device_itself_is_refused_unless_it_is_allowed(product):
    with ScriptedServer() as server:
        product.spawn("mailhook")  # without --allow-loopback
        wait_for(lambda: listens(product.folders.socket), what="the hook's start")
        save(product, server.port)
        raise_event(product)
        wait_for(lambda: state(product)["problem"] == "server", what="the refusal")
        assert state(product)["step"] == "address"
        product.stop("mailhook")
    assert server.sessions == []


def test_a_refused_login_is_told_and_tried_once_across_a_restart(product):
    with ScriptedServer({"AUTH": "535 5.7.8 wrong"}) as server:
        product.start_hook()
        save(product, server.port, PASSWORD)
        raise_event(product)
        wait_for(lambda: state(product)["problem"] == "login refused", what="the refusal")
        product.stop("mailhook")
        product.start_hook()
        raise_event(product)
        wait_for(lambda: state(product)["problem"] == "login refused", what="the refusal again")
        product.stop("mailhook")
    assert server.verbs.count("AUTH") == 1
    assert ledger(product) == {1: "full", 2: "full"}


def test_a_key_that_is_lost_is_told_and_mail_waits(product):
    with ScriptedServer() as server:
        product.start_hook()
        save(product, server.port, PASSWORD)
        product.stop("mailhook")
        product.folders.private_key.write_bytes(b"damaged")
        product.start_hook()
        raise_event(product)
        wait_for(lambda: state(product)["problem"] == "password", what="the word")
        product.stop("mailhook")
    assert server.sessions == []
    assert product.folders.private_key.with_name("private.key.damaged-1").read_bytes() == b"damaged"


def test_a_missing_certificate_file_of_the_makers_is_told_and_alarms_are_accepted(product):
    product.start_hook("--ca-file", str(product.folder / "missing.pem"))
    save(product, 1)
    assert raise_event(product) == 1
    wait_for(lambda: state(product)["problem"] == "fault", what="the fault")
    assert raise_event(product) == 2


@pytest.mark.parametrize(("is_test", "verdict"), [(False, "delivered"), (True, "try later")])
def test_a_server_may_be_slow_with_its_word_about_an_alarm_and_not_about_a_test(product, is_test, verdict):
    """The daemon's SMTP clients, with half a second for an attempt instead of a minute."""
    from device_ui.config import Device
    from device_ui.mail.daemon import SmtpClients

    def slow(session, _line):
        session.server.stopping.wait(0.8)
        session.say("250 taken")

    clients = SmtpClients(Device.load(product.folders), allow_loopback=True)
    clients.last_seen = lambda settings: None
    with ScriptedServer({"content": slow}) as server:
        settings = SmtpSettings("127.0.0.1", server.port, "Alarms", "a@example.com", security="none", sign_in="none")
        client = clients.for_test(settings, "", lambda *_: None) if is_test else clients.for_queue(settings, "")
        client.timeouts = dataclasses.replace(client.timeouts, attempt=0.5)
        client.open()
        outcome = client.deliver(["b@example.com"], b"Subject: one\r\n\r\nhello\r\n")["b@example.com"]
        client.close()
    assert outcome.verdict == verdict
