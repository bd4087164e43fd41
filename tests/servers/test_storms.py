"""Storms, budgets and bad servers against the real hook: nothing is lost, nobody waits, and no login is tried twice."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import random
import signal
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from device_ui.errors import HookError
from device_ui.mail import catalog, client
from device_ui.mail.events import Event
from device_ui.mail.outbox.outbox import Outbox
from device_ui.settings.store import Store
from device_ui.storage import files
from tests.helpers.product import SECONDS, Product, settings_form, wait_for
from tests.servers import scripted
from tests.servers.capture import Capture
from tests.servers.keeper import Keeper, Taken, relay_form
from tests.servers.scripted import ScriptedServer

ALARMS = 10_000
FAULTS, INFOS = ("303", "304", "301", "999"), ("054", "055")
WINDOW = 8
# What the specification promises for accepting an event, and how it is measured on a machine that others use too.
BOUND_SECONDS, CALLS, ROUNDS = 0.050, 200, 10
# A mail that does not come within this time is not on its way.
QUIET_SECONDS = 1.5
MANY = 40_000
MIB = 1024 * 1024


def configured(product: Product, **limits: int) -> Product:
    """A device whose maker set these values of [mail]."""
    product.folders.etc.mkdir(exist_ok=True)
    lines = [f"{name} = {value}\n" for name, value in limits.items()]
    ledger = f"[ledger]\nrows = {2 * MANY}\nbytes = {1024 * MIB}\n"
    (product.folders.etc / "device.toml").write_text("".join(["[mail]\n", *lines, ledger]))
    return product


def events(product: Product, **query: object) -> list[dict]:
    """All events of the ledger, the oldest first."""
    asked = {"limit": 0, "descending": False, **query}
    return [line["event"] for line in client.history(product.folders.socket, asked) if "event" in line]


def delivered(product: Product) -> int:
    """How many events the ledger has as delivered."""
    return [each["state"] for each in events(product)].count("delivered")


def is_drained(product: Product) -> bool:
    """Whether nothing waits for its mail."""
    return product.state()["waiting"] == 0


# Ten thousand alarms


def flood(path: Path, codes: Sequence[str]) -> list[int]:
    """Raise events by lines that do not wait for their answers; the numbers told."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(60)
        sock.connect(str(path))
        sender = threading.Thread(target=sock.sendall, args=(b"".join(b"event %s x\n" % c.encode() for c in codes),))
        sender.start()
        with sock.makefile("rb") as answers:
            told = [int(answers.readline().split()[1]) for _ in codes]
        sender.join()
    return told


@dataclass
class Storm:
    """What came of it: when it `began` (monotonic), the numbers `told`, the ledger's `events`, the `mails`."""

    began: float
    told: list[int]
    events: list[dict]
    mails: list[Taken]

    @property
    def digests(self) -> list[Taken]:
        """The mails that tell of more than one event, in the order they came."""
        return [mail for mail in self.mails if len(mail.told) + mail.counted > 1]


@pytest.fixture(scope="module")
def storm(tmp_path_factory) -> Iterator[Storm]:
    chance = random.Random(3)
    shares = [chance.choices((*FAULTS, *INFOS), k=ALARMS // 4) for _ in range(4)]
    with Product(tmp_path_factory.mktemp("storm")) as product, Keeper() as keeper:
        configured(product, digest_window=WINDOW).start_hook().save(**relay_form(keeper.port))
        began = time.monotonic()
        with ThreadPoolExecutor(4) as pool:
            told = [
                number
                for each in pool.map(lambda codes: flood(product.folders.socket, codes), shares)
                for number in each
            ]
        wait_for(lambda: is_drained(product), 60, "the end of the storm")
        storm = Storm(began, told, events(product), keeper.mails)
        product.stop("mailhook")
        yield storm


def test_every_number_is_told_once_without_a_gap(storm):
    assert sorted(storm.told) == list(range(1, ALARMS + 1))
    assert [each["number"] for each in storm.events] == list(range(1, ALARMS + 1))


def test_every_number_is_in_exactly_one_mail(storm):
    """A digest spells five hundred ranges and counts the rest: the ledger says which they are."""
    balance = {mail.id.removeprefix("<").partition(".")[0]: (set(mail.told), mail.counted) for mail in storm.mails}
    assert len(balance) == len(storm.mails)
    for name, (spelt, counted) in balance.items():
        kept = {each["number"] for each in storm.events if str(each["mail"] or each["number"]) == name}
        assert spelt <= kept
        assert len(spelt) + counted == len(kept)
    assert sum(len(spelt) + counted for spelt, counted in balance.values()) == ALARMS


def test_every_event_is_delivered(storm):
    assert {each["state"] for each in storm.events} == {"delivered"}


def test_ten_thousand_alarms_are_a_handful_of_mails(storm):
    print(f"{ALARMS} alarms: {len(storm.mails)} mails, {len(storm.digests)} of them digests")
    assert len(storm.mails) <= 2 * len((*FAULTS, *INFOS))


@pytest.mark.parametrize("code", ["303", "999"])
def test_the_first_of_a_kind_comes_at_once(storm, code):
    """Before any digest: these come when a window ends, and a mail takes a fraction of one even on a busy machine."""
    came = min(mail.at for mail in storm.mails if mail.subject.startswith(f"[fault {code}]"))
    print(f"the first {code} after {came - storm.began:.3f} s")
    assert came < min(mail.at for mail in storm.digests)


def test_faults_come_before_infos(storm):
    types = [mail.subject[1:].split()[0] for mail in storm.digests]
    assert types == sorted(types)
    assert set(types) == {"fault", "info"}


# The budget


def test_the_budget_holds_across_a_restart_and_what_it_held_is_in_the_next_mail(product):
    with Keeper() as keeper:
        configured(product, hourly_budget=3, digest_window=1).start_hook().save(**relay_form(keeper.port))
        for number, code in enumerate(FAULTS, 1):
            client.raise_event(product.folders.socket, code)
            done = min(number, 3)  # one after another: events that come at once may share a mail
            wait_for(lambda done=done: delivered(product) == done, what=f"{done} mails")
        product.stop("mailhook", signal.SIGKILL)
        product.start_hook()
        for code in FAULTS:
            client.raise_event(product.folders.socket, code)
        more = threading.Event()
        keeper.taken = more.set
        assert not more.wait(QUIET_SECONDS + 1)
        held = {each["number"] for each in events(product) if each["state"] == "waiting"}
        product.stop("mailhook")
        configured(product, hourly_budget=60, digest_window=1).start_hook()
        wait_for(lambda: is_drained(product), what="the drain")
        product.stop("mailhook")
        later = [number for mail in keeper.mails[3:] for number in mail.told]
    assert len(held) >= 4
    assert sorted(later) == sorted(held)
    assert len(keeper.mails) <= 5


def test_a_storm_beyond_the_budget_is_mailed_or_held_in_exact_balance(product):
    with Keeper() as keeper:
        configured(product, hourly_budget=4, digest_window=1).start_hook().save(**relay_form(keeper.port))
        told = flood(product.folders.socket, random.Random(7).choices((*FAULTS, *INFOS), k=2000))
        wait_for(lambda: len(keeper.mails) == 4, what="four mails")
        # The four mails may have all of a storm that a busy machine raised slowly.
        told += flood(product.folders.socket, FAULTS)
        more = threading.Event()
        keeper.taken = more.set
        assert not more.wait(QUIET_SECONDS)
        held = {each["number"] for each in events(product) if each["state"] == "waiting"}
        assert product.state()["waiting"] == len(held)
        product.stop("mailhook")
    mailed = sum(len(mail.told) + mail.counted for mail in keeper.mails)
    assert mailed + len(held) == len(told) == 2000 + len(FAULTS)
    assert held.isdisjoint(number for mail in keeper.mails for number in mail.told)
    assert held


# Accepting, whatever the server does


def accepts_promptly(path: Path) -> bool:
    """Whether 99 of 100 calls of `raise_event` take at most the bound, or ten times an echo of this machine, in a round.

    An echo over a socket pair, before each call, is what the machine's load costs: both wait for a processor twice. A machine
    that runs a browser beside may be slow for a round; a hook that waits for a server is slow in all of them.
    """
    here, there = socket.socketpair()
    with here, there:
        threading.Thread(target=echo, args=(there,), daemon=True).start()
        for _ in range(ROUNDS):
            echoes, calls = [], []
            for _ in range(CALLS):
                began = time.perf_counter()
                here.sendall(b"x")
                here.recv(1)
                echoed = time.perf_counter()
                client.raise_event(path, "303", "full")
                echoes.append(echoed - began)
                calls.append(time.perf_counter() - echoed)
            floor, taken = (sorted(times)[int(CALLS * 0.99)] for times in (echoes, calls))
            print(f"99 of 100 calls: {1000 * taken:.1f} ms, echoes: {1000 * floor:.1f} ms")
            if taken < max(BOUND_SECONDS, 10 * floor):
                return True
        here.shutdown(socket.SHUT_WR)
    return False


def echo(sock: socket.socket) -> None:
    """Send back each byte until the other end closes."""
    with contextlib.suppress(OSError):
        while byte := sock.recv(1):
            sock.sendall(byte)


@pytest.mark.parametrize(
    ("step", "behaviour"),
    [
        ("greeting", scripted.silent),
        ("EHLO", scripted.endless),
        ("AUTH", "454 4.7.0 later"),
        ("RCPT", scripted.reset),
        ("DATA", scripted.drip),
        ("content", scripted.silent),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_accepting_waits_for_no_server(product, step, behaviour):
    with ScriptedServer({step: behaviour}) as server, Capture(server.port) as relay:
        configured(product, digest_window=0, hourly_budget=100_000).start_hook()
        product.save(**settings_form(relay.port, security="none"))
        client.raise_event(product.folders.socket, "303")
        wait_for(lambda: server.sessions, what="the first attempt")
        assert accepts_promptly(product.folders.socket)
        assert product.state()["waiting"] >= CALLS
        product.stop("mailhook", signal.SIGKILL)
        server.stopping.set()


def test_accepting_waits_for_no_test(product):
    with ScriptedServer({"EHLO": scripted.silent}) as server, Capture(server.port) as relay:
        product.start_hook()
        product.save(**settings_form(relay.port, security="none"))
        lines = client.test(product.folders.socket)
        assert next(lines)["step"]["name"] == "name"
        assert accepts_promptly(product.folders.socket)
        lines.close()
        product.stop("mailhook", signal.SIGKILL)


def processor_seconds(pid: int) -> float:
    """What a process has used of the processor, its threads included."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_test_that_waits_for_its_server_uses_no_processor(product):
    with ScriptedServer({"EHLO": scripted.silent}) as server, Capture(server.port) as relay:
        product.start_hook()
        product.save(**settings_form(relay.port, security="none"))
        lines = client.test(product.folders.socket)
        while next(lines)["step"]["name"] != "greeting":
            pass
        pid = product.processes["mailhook"].pid
        before = processor_seconds(pid)
        threading.Event().wait(1)
        assert processor_seconds(pid) - before < 0.2
        lines.close()
        product.stop("mailhook", signal.SIGKILL)


# A restart


def test_a_restart_while_the_server_is_silent_never_says_ok(product, tmp_path):
    """Page, /health, check and the maker's program: mail that failed before still waits."""
    words, show = tmp_path / "words", tmp_path / "show"
    show.write_text(f'#!/bin/sh\necho "$DEVICE_UI_MAIL_STATE" >> {words}\n')
    show.chmod(0o755)
    product.maker(f'[mail]\nstate_command = "{show}"\n')
    with ScriptedServer({"greeting": "421 4.3.2 later"}) as server:
        product.start().save(**settings_form(server.port, security="none"))
        product.event()
        wait_for(lambda: product.state()["problem"] == "server", what="the first try")
        product.stop("mailhook", signal.SIGKILL)
        words.unlink()
        tried, server.script["greeting"] = len(server.sessions), scripted.silent
        product.start_hook()
        wait_for(lambda: len(server.sessions) > tried, what="the try after the restart")
        browser = product.logged_in()
        health, page = browser.get("/health").text, browser.get("/smtp").text
        check = product.call("check")
        product.stop("mailhook")
    # After a minute of silence it is the server's problem; a busy machine may take so long until here.
    assert health.strip() in ("queued", "server")
    assert "Mail: late" in page
    assert "1 events wait for their mail" in check.stdout
    shown = words.read_text().split()
    assert (shown[-1], "ok" in shown) == ("down", False)


# A history of forty thousand


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Iterator[Product]:
    """A hook with forty thousand events that are settled."""
    with Product(tmp_path_factory.mktemp("archive")) as product:
        configured(product)
        files.make_folder(product.folders.ledger.parent, 0o700)
        outbox = Outbox(product.folders.ledger, rows_maximum=2 * MANY, bytes_maximum=1024 * MIB)
        codes = sorted(catalog.built_in().kinds)
        for start in range(0, MANY, 10_000):
            kinds = [catalog.built_in()[codes[number % len(codes)]] for number in range(100)]
            outbox.accept(
                [
                    Event(
                        kinds[n % 100].code, kinds[n % 100].type, 1.79e9 + n, 1.79e9 + n, "s", "x" * 100, waiting=False
                    )
                    for n in range(start, start + 10_000)
                ]
            )
        outbox.close()
        yield product.start_hook()


def reader(product: Product, request: dict[str, object]) -> socket.socket:
    """A caller who has asked for the history and reads nothing yet."""
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(60)
    sock.connect(str(product.folders.socket))
    sock.sendall(json.dumps({"do": "history", **request}).encode() + b"\n")
    return sock


def resident(pid: int) -> int:
    """Bytes of memory that a process holds."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_long_answer_that_is_read_slowly_takes_little_memory(archive):
    pid = archive.processes["mailhook"].pid
    before, most = resident(pid), 0
    with reader(archive, {"limit": 0}) as sock:
        for _ in range(2000):
            assert sock.recv(1024)
            most = max(most, resident(pid))
    print(f"memory: {before / MIB:.1f} MiB, while an answer was read {most / MIB:.1f} MiB")
    assert most - before < 30 * MIB


def test_accepting_waits_for_no_history(archive):
    read, over = [], threading.Event()

    def read_all() -> None:
        while not over.is_set():
            for _ in client.history(archive.folders.socket, {"limit": 0, "sort": "number"}):
                read.append(1)
                if over.is_set():
                    return

    thread = threading.Thread(target=read_all)
    thread.start()
    try:
        wait_for(lambda: read, what="the first line")
        assert accepts_promptly(archive.folders.socket)
        assert thread.is_alive()
    finally:
        over.set()
        thread.join(SECONDS)


def test_sixty_readers_at_once_and_events_are_accepted_meanwhile(archive):
    readers = [reader(archive, {"limit": 400, "sort": "number", "descending": False}) for _ in range(60)]
    before = client.raise_event(archive.folders.socket, "303")
    numbers = [client.raise_event(archive.folders.socket, "303") for _ in range(20)]
    assert numbers == list(range(before + 1, before + 21))
    whole = 0
    for sock in readers:
        with sock, sock.makefile() as lines:
            first = json.loads(lines.readline())
            if first.get("error") == "busy":
                continue
            told = [first, *(json.loads(lines.readline()) for _ in range(400))]
        assert [line["event"]["number"] for line in told[:-1]] == list(range(1, 401))
        assert "end" in told[-1]
        whole += 1
    assert whole >= 4  # no more at once: each holds what it found


@pytest.mark.parametrize("sort", ["number", "time", "type", "code", "name", "source", "state"])
def test_a_page_in_any_order_comes_soon(archive, sort):
    before = processor_seconds(archive.processes["mailhook"].pid)
    lines = list(client.history(archive.folders.socket, {"sort": sort, "limit": 50}))
    taken = processor_seconds(archive.processes["mailhook"].pid) - before
    print(f"by {sort}: {1000 * taken:.0f} ms")
    assert len(lines) == 51
    assert taken < 1.5


# A wrong password


@pytest.fixture
def locked_out(product) -> Iterator[tuple[Product, ScriptedServer, Capture]]:
    """A device whose login was refused once, and the server that did it."""
    with ScriptedServer({"AUTH": "535 5.7.8 wrong"}) as server, Capture(server.port) as relay:
        configured(product, digest_window=0, hourly_budget=1000).start_hook()
        product.save(**settings_form(relay.port, security="none"))
        client.raise_event(product.folders.socket, "303")
        wait_for(lambda: product.state()["problem"] == "login refused", what="the refusal")
        yield product, server, relay
        if "mailhook" in product.processes:
            product.stop("mailhook")


def logins(server: ScriptedServer) -> int:
    """How many logins reached the server."""
    return server.verbs.count("AUTH")


def test_a_refused_login_is_not_tried_again_however_much_happens(locked_out):
    product, server, _ = locked_out
    for _ in range(2):
        for code in (*FAULTS, *INFOS):
            client.raise_event(product.folders.socket, code)
        client.settings_changed(product.folders.socket)
        product.stop("mailhook")
        product.start_hook()
        client.settings_changed(product.folders.socket)
        wait_for(lambda: product.state()["problem"] == "login refused", what="the refusal remembered")
    threading.Event().wait(QUIET_SECONDS)
    assert logins(server) == 1
    assert len(server.sessions) == 1
    assert product.state()["waiting"] == 13


def test_after_the_settings_change_all_that_waited_goes_out_under_the_new_name(locked_out):
    product, server, relay = locked_out
    numbers = [1, *(client.raise_event(product.folders.socket, code) for code in FAULTS)]
    server.script["AUTH"] = "235 2.7.0 welcome"
    product.save(**settings_form(relay.port, security="none", sender_name="Mended"))
    wait_for(lambda: is_drained(product), what="the drain")
    mails = [Taken(raw, 0, 0.0) for raw in server.mails]
    assert sorted(number for mail in mails for number in mail.told) == numbers
    assert {mail.sender for mail in mails} == {"Mended"}
    assert logins(server) == 2


def test_a_test_that_succeeds_with_the_stored_settings_frees_what_waited(locked_out):
    product, server, _ = locked_out
    server.script["AUTH"] = "235 2.7.0 welcome"
    *_, last = client.test(product.folders.socket)
    assert last["result"]["verdict"] == "delivered"
    wait_for(lambda: is_drained(product), what="the drain")
    assert [b"Subject: [test]" in each for each in server.mails] == [True, False]
    assert product.state()["problem"] == ""


def test_a_test_that_is_refused_frees_nothing(locked_out):
    product, server, _ = locked_out
    *_, last = client.test(product.folders.socket)
    assert (last["result"]["step"], last["result"]["problem"]) == ("login", "login refused")
    threading.Event().wait(QUIET_SECONDS)
    assert logins(server) == 2
    assert product.state()["waiting"] == 1


def test_a_test_of_other_settings_frees_nothing(locked_out):
    product, server, _ = locked_out
    server.script["AUTH"] = "235 2.7.0 welcome"
    stored = Store(product.folders.settings).load().settings
    typed = dataclasses.asdict(dataclasses.replace(stored, sender_name="Somebody else"))
    *_, last = client.test(product.folders.socket, typed)
    assert last["result"]["verdict"] == "delivered"
    threading.Event().wait(QUIET_SECONDS)
    assert product.state()["problem"] == "login refused"
    assert logins(server) == 2


def test_the_next_test_is_busy_while_one_runs(product):
    with ScriptedServer({"EHLO": scripted.silent}) as server, Capture(server.port) as relay:
        product.start_hook()
        product.save(**settings_form(relay.port, security="none"))
        lines = client.test(product.folders.socket)
        next(lines)
        with pytest.raises(HookError, match="^another test is running$") as caught:
            list(client.test(product.folders.socket))
        assert caught.value.word == "busy"
        lines.close()
        product.stop("mailhook", signal.SIGKILL)
