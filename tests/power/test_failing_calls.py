"""Every durable call fails: nothing is acknowledged that is not on flash, the user is told, and all is well afterwards."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from device_ui.errors import HookError
from device_ui.mail import client
from device_ui.mail.outbox.outbox import Outbox
from tests.helpers.product import Product, settings_form, wait_for
from tests.power.faults import (
    ALL,
    PROGRAMS,
    STRACE,
    Durable,
    Injection,
    Scene,
    injections,
    make_used,
    sampled,
    stored,
    texts,
    wrong,
)

# Faults for each program, for each running server and for each start of one, in the ordinary tests.
FEW, FEW_LIVE, FEW_STARTS = 2, 6, 2
# A start has ten times as many calls, and takes ten times as long.
MANY_STARTS = 150
# Bytes of a file after which a write is cut short and the next one fails.
SIZES = range(0, 1200, 50) if ALL else (1, 700)
# To reach under `make power`: the figure.
WANTED = 1000
MAKER = "[ledger]\nreserve = 2048\n"
INJECTED: list[str] = []


@pytest.fixture(scope="module")
def used(tmp_path_factory):
    """The files of a device in use."""
    scene = Scene(tmp_path_factory.mktemp("used"))
    make_used(scene.folders)
    return scene.folders.data


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_call_that_fails_acknowledges_nothing_and_is_recovered_from(name, used, tmp_path):
    program, scene = PROGRAMS[name], Scene(tmp_path)
    program.lay(scene, used)
    clean = scene.run(program.words, program.given)
    assert (clean.code, wrong(program, scene, clean)) == (0, [])
    faults = sampled(injections(clean.trace), FEW)
    INJECTED.extend(map(str, faults))
    # All of them are thousands: several at once, each on a device of its own.
    at_once = (os.cpu_count() or 1) if ALL else 1
    folders = [tmp_path / str(place) for place in range(at_once)]
    work = [(name, used, folder, faults[place::at_once]) for place, folder in enumerate(folders)]
    if ALL:
        with ProcessPoolExecutor(at_once, multiprocessing.get_context("spawn")) as pool:
            found = [line for lines in pool.map(under, *zip(*work, strict=True)) for line in lines]
    else:
        found = under(*work[0])
    assert not found, "\n".join(found)


def under(name: str, used: Path, folder: Path, faults: Sequence[Injection]) -> list[str]:
    """What is wrong after each of some faults, on a device in `folder`."""
    folder.mkdir()
    program, scene, found = PROGRAMS[name], Scene(folder), []
    for fault in faults:
        program.lay(scene, used)
        outcome = scene.run(program.words, program.given, fault.words)
        missed = [] if outcome.is_hit else ["missed"]
        found += [f"{fault}: {each}" for each in missed + wrong(program, scene, outcome)]
    return found


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", ["save", "admin set-password", "rotate-key"])
def test_a_write_that_is_cut_short_acknowledges_nothing(name, used, tmp_path):
    program, scene, found = PROGRAMS[name], Scene(tmp_path), []
    for size in SIZES:
        scene.restore(used)
        outcome = scene.run(program.words, program.given, fsize=size)
        INJECTED.append(f"{name} up to {size} bytes")
        found += [f"{size} bytes: {each}" for each in wrong(program, scene, outcome)]
    assert not found, "\n".join(found)


@pytest.fixture
def product(tmp_path):
    """A device in use, in the folder of `Scene(tmp_path)`."""
    with Product(tmp_path) as product:
        make_used(product.maker(MAKER).folders)
        yield product


def update_under(product: Product, fault: Injection, browser, number: int) -> list[str]:
    """Press Update while calls fail: what is wrong with the page, the log and what stands."""
    scene, name = Scene(product.folder), f"Save {number}"
    form = settings_form(2525, sender_name=name, revision=browser.get("/smtp").revision)
    before = stored(scene).sender_name
    logged = product.log("web").count("the settings were not saved: ")
    with scene.attached(product.processes["web"].pid, fault.words) as trace:
        page = browser.post("/smtp", **form)
    durable, after = Durable(trace.read_text()), stored(scene).sender_name
    found = [f"{path} was synced again" for path in durable.synced_again]
    found += [] if "(INJECTED)" in trace.read_text() else ["missed"]
    if page.status == 303:
        return found + [f"{path} is not on flash" for path in durable.unsynced] + [after] * (after != name)
    is_logged = product.log("web").count("the settings were not saved: ") > logged
    is_told = page.status in (503, 507) and is_logged
    sentence = re.search(
        "Nothing was saved. .*The settings are as before.|It is not certain that this was saved.", page.text
    )
    if not (is_told and sentence) or (sentence[0].startswith("Nothing") and after != before):
        found.append(f"status {page.status}, {sentence and sentence[0]}, {before} became {after}")
    return found


@pytest.mark.timeout(3600)
def test_the_running_pages_say_what_was_not_saved_and_save_when_the_fault_ends(product):
    browser, scene, found = product.start().logged_in(), Scene(product.folder), []
    form = settings_form(2525, sender_name="Save", revision=browser.get("/smtp").revision)
    with scene.attached(product.processes["web"].pid) as trace:
        assert browser.post("/smtp", **form).status == 303
    for number, fault in enumerate(sampled(injections(trace.read_text()), FEW_LIVE)):
        INJECTED.append(f"page: {fault}")
        found += [f"{fault}: {each}" for each in update_under(product, fault, browser, number)]
        again = browser.update(**settings_form(2525, sender_name=f"Again {number}"))
        if (again.status, stored(scene).sender_name) != (303, f"Again {number}"):
            found.append(f"{fault}: no recovery, {again.status}")
    assert not found, "\n".join(found)


def event_under(product: Product, fault: Injection, text: str) -> tuple[bool, list[str]]:
    """Raise an event while calls fail: whether it was accepted, and what is wrong."""
    logged, is_accepted, told = product.log("mailhook").count("not accepted: "), True, []
    with Scene(product.folder).attached(product.processes["mailhook"].pid, fault.words) as trace:
        try:
            client.raise_event(product.folders.socket, "303", text)
        except HookError as error:
            is_accepted = False
            told = [] if error.word == "not-stored" and "\n" not in error.reason else [f"{error.word}: {error.reason}"]
            told += [] if product.log("mailhook").count("not accepted: ") > logged else ["not in the log"]
    durable = Durable(trace.read_text())
    told += [f"{path} was synced again" for path in durable.synced_again]
    # What SQLite takes from the -wal into the file, after the acknowledgement, stays in the -wal until it is synced.
    unsynced = durable.unsynced - {str(product.folders.ledger)}
    told += [f"{path} is not on flash" for path in unsynced if is_accepted]
    return is_accepted, told + ([] if "(INJECTED)" in trace.read_text() else ["missed"])


@pytest.mark.timeout(3600)
def test_the_running_hook_refuses_what_it_cannot_store_and_accepts_when_the_fault_ends(product):
    product.folders.settings.unlink()  # nothing is mailed: the ledger alone is written
    product.start_hook()
    accepted, found = ["old 1", "old 2", "old 3", "one", "two"], []
    client.raise_event(product.folders.socket, "303", "one")
    with Scene(product.folder).attached(product.processes["mailhook"].pid) as trace:
        client.raise_event(product.folders.socket, "303", "two")
    # The postman looks at other files meanwhile, in a thread of its own.
    recorded = "\n".join(line for line in trace.read_text().splitlines() if "-wal" in line)
    for number, fault in enumerate(sampled(injections(recorded), FEW_LIVE)):
        INJECTED.append(f"hook: {fault}")
        is_accepted, told = event_under(product, fault, f"event {number}")
        client.raise_event(product.folders.socket, "303", f"after {number}")
        accepted += [f"event {number}"] * is_accepted + [f"after {number}"]
        found += [f"{fault}: {each}" for each in told]
    product.stop("mailhook")
    assert not found, "\n".join(found)
    assert texts(Scene(product.folder)) == accepted


def answers(where: Path | int) -> bool:
    """Whether somebody listens at a path, or at a port of loopback."""
    kind, address = (socket.AF_INET, ("127.0.0.1", where)) if isinstance(where, int) else (socket.AF_UNIX, str(where))
    with socket.socket(kind) as sock:
        return sock.connect_ex(address) == 0


def end_of(product: Product, name: str) -> str:
    """Wait until a process that was started answers or has ended; its last line if it has ended, badly told or not."""
    process = product.processes[name]
    port_or_path = product.folders.socket if name == "mailhook" else product.port
    wait_for(lambda: process.poll() is not None or answers(port_or_path), what=f"the start of {name}")
    return product.log(name) if process.poll() is not None else ""


def started_under(product: Product, name: str, fault: Injection) -> list[str]:
    """Start a server while calls fail: it serves, or ends with one line; what was there is there."""
    options = {"mailhook": ["--allow-loopback"], "web": ["--listen", f"127.0.0.1:{product.port}"]}[name]
    scene, log = Scene(product.folder), product.folder / f"{name}.log"
    product.logs[name] = log
    # With -D the traced program is our child, and not strace.
    traced = [*STRACE, "-D", "--seccomp-bpf", "-qq", "-o", str(scene.folder / "trace"), *scene.watched, *fault.words]
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*traced, sys.executable, "-m", "device_ui", name, *options], env=scene.environment, stdout=out, stderr=out
        )
    product.processes[name] = process
    found, accepted = [], []
    if ended := end_of(product, name):
        found += (
            []
            if process.returncode and "Traceback" not in ended
            else [f"ended with {process.returncode}: {ended[-300:]}"]
        )
        found += [] if re.search(r"^device-ui: [^\n]+\n\Z", ended, re.MULTILINE) else [f"no line: {ended[-300:]!r}"]
    elif name == "mailhook":
        with contextlib.suppress(HookError):
            client.raise_event(product.folders.socket, "303", "new")
            accepted = ["new"]
    product.stop(name, signal.SIGKILL)
    product.folders.socket.unlink(missing_ok=True)
    held = texts(scene)
    found += (
        [] if held[:3] == ["old 1", "old 2", "old 3"] and set(accepted) <= set(held) else [f"the ledger holds {held}"]
    )
    return found + [f"{path.name} was set aside" for path in product.folders.data.glob("*/*.damaged-*")]


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", ["mailhook", "web"])
def test_a_server_starts_or_ends_with_a_line_and_starts_when_the_fault_ends(name, product, used):
    scene, found = Scene(product.folder), []
    assert started_under(product, name, Injection("close", 10_000, "EIO", False)) == []
    for fault in sampled(injections((scene.folder / "trace").read_text()), FEW_STARTS)[:MANY_STARTS]:
        scene.restore(used)
        INJECTED.append(f"start of {name}: {fault}")
        found += [f"{fault}: {each}" for each in started_under(product, name, fault)]
        if {path: path.read_bytes() for path in scene.folders.data.glob("web/*")} != {
            scene.folders.administrator: (used / "web" / "administrator.toml").read_bytes()
        }:
            found.append(f"{fault}: the administrator's record is another one")
    assert not found, "\n".join(found)


def test_what_a_killed_hook_left_is_on_flash_before_anything_is_built_on_it(used, tmp_path):
    """After a failed sync it may be in the cache only, and what follows it in the -wal would go with it."""
    scene = Scene(tmp_path)
    scene.restore(used)
    assert scene.run(PROGRAMS["accept"].words).code == 0
    wal = scene.folders.ledger.with_name("ledger.sqlite3-wal")
    assert wal.stat().st_size > 0
    outbox = Outbox(scene.folders.ledger)
    assert wal.stat().st_size == 0
    assert [event.text for event in outbox.select("1 ORDER BY number", ())][3:] == ["new"]
    outbox.close()


def test_a_sound_ledger_that_opens_for_reading_only_is_not_set_aside(used, tmp_path):
    """SQLite tries that by itself when it cannot open it for writing."""
    scene, program = Scene(tmp_path), PROGRAMS["accept"]
    scene.restore(used)
    assert scene.run(program.words).code == 0
    outcome = scene.run(program.words, faults=Injection("openat", 2, "EMFILE", False).words)
    assert outcome.is_hit
    assert list(scene.folders.ledger.parent.glob("*.damaged-*")) == []
    assert texts(scene)[:4] == ["old 1", "old 2", "old 3", "new"]


def test_enough_was_injected(capsys):
    with capsys.disabled():
        print(f"\n{len(INJECTED)} injections")
    assert len(INJECTED) >= (WANTED if ALL else 40)
