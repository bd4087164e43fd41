"""System calls that fail: strace's injection into a command, a small program or a running server, and what must hold.

A recording of one run without faults tells which calls there are on this device's flash; each is then made to fail by
itself, once and for ever. Only calls on the device's own files are counted: imports are nobody's promise. A fault for
ever is not asked of EINTR, which everybody has to try again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from device_ui.cli import factory_reset
from device_ui.config import Device, Folders
from device_ui.errors import DeviceUIError
from device_ui.mail.events import Delivery, Event
from device_ui.mail.outbox.disk_reserve import Reserve
from device_ui.mail.outbox.outbox import Outbox
from device_ui.settings import keys, rotation, seal
from device_ui.settings.fields import SmtpSettings, parse
from device_ui.settings.recipients import Recipient
from device_ui.settings.store import RecipientStore, Store
from device_ui.web.auth.administrator import Administrator
from device_ui.web.server import prepare
from tests.helpers.product import PASSWORD, ROOT, choose_password, readable, settings_form

ALL = os.environ.get("DEVICE_UI_POWER") == "all"
# Patience with a busy machine, on which strace takes its time.
SECONDS = 120
CALLS = (
    "openat,write,pwrite64,fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat,ftruncate,mkdir,mkdirat,fchmod,"
    "fchown,close"
)
ERRORS = ("EIO", "ENOSPC", "EROFS", "EDQUOT", "EMFILE", "EINTR")
WRITES = ("write", "pwrite64")
STRACE = ("strace", "-f", "-y", "-e", "signal=none", "-e", f"trace={CALLS}")
NEW_PASSWORD = "another plain sentence"
RESERVE = 2048
LINE = re.compile(r"(?:\d+ +)?(\w+)\((.*)\) += +(-?\d+)(<.*?>)?(.*)")
DESCRIPTOR = re.compile(r"(\d+)<([^>]*)>")


@dataclass(frozen=True)
class Injection:
    """The call's `when`-th occurrence fails with `error`; ``"0"``: it is a write that takes nothing. For ever: all after it."""

    call: str
    when: int
    error: str
    is_for_ever: bool

    @property
    def words(self) -> tuple[str, str]:
        """What strace is told."""
        what = "retval=0" if self.error == "0" else f"error={self.error}"
        for_ever = "+" if self.error != "EINTR" else f"..{self.when + 2}"
        return "-e", f"inject={self.call}:{what}:when={self.when}{for_ever if self.is_for_ever else ''}"

    def __str__(self) -> str:
        return f"{self.call} {self.when}{' and after' if self.is_for_ever else ''}: {self.error}"


def injections(recorded: str) -> list[Injection]:
    """Every fault for every call of a recording."""
    counts = Counter(call.name for call in calls(recorded))
    return [
        Injection(name, when, error, is_for_ever)
        for name, count in counts.items()
        for when in range(1, count + 1)
        for error in (*ERRORS, *(["0"] if name in WRITES else []))
        for is_for_ever in (False, True)
    ]


def sampled(found: Sequence[Injection], most: int) -> Sequence[Injection]:
    """All of them under ``make power``, else `most` of them, spread over all."""
    return found if ALL else random.Random(4).sample(found, min(most, len(found)))


@dataclass(frozen=True)
class Call:
    """One call of a trace: its `name`, `arguments` as strace spells them, its result (-1: it failed) and the `rest`."""

    name: str
    arguments: str
    result: int
    rest: str

    @property
    def descriptor(self) -> tuple[int, str]:
        """The first argument: number and path; ``(-1, "")`` when it is none."""
        match = DESCRIPTOR.match(self.arguments)
        return (int(match[1]), match[2].removesuffix("(deleted)")) if match else (-1, "")

    @property
    def named(self) -> list[str]:
        """The paths that the call names, folder and name together."""
        pairs = re.findall(r'(?:(?:\d+|AT_FDCWD)<([^>]*)>, )?"((?:[^"\\]|\\.)*)"', self.arguments)
        return [os.path.join(folder, name) for folder, name in pairs]


def calls(trace: str) -> list[Call]:
    """The calls of a trace, in order; one that another thread interrupted is put together again."""
    found, begun = [], {}
    for line in trace.splitlines():
        thread = line.partition(" ")[0]
        if line.endswith("<unfinished ...>"):
            begun[thread] = line.removesuffix("<unfinished ...>")
            continue
        resumed = re.match(r"\d+ +<\.\.\. \w+ resumed>(.*)", line)
        match = LINE.fullmatch(begun.pop(thread, "") + resumed[1] if resumed else line)
        if match:
            found.append(Call(match[1], match[2], int(match[3]), match[5]))
    return found


def is_reserve(path: str) -> bool:
    """Whether this is the reserve or its next version: what a power cut takes of it is set aside again at the next start."""
    return Path(path).name in ("reserve", ".reserve.new")


class Durable:
    """What of a trace is not on flash at its end, and which descriptors were synced again after a failed sync."""

    def __init__(self, trace: str) -> None:
        self.unsynced: set[str] = set()
        self.synced_again: list[str] = []
        self._lowest: dict[int, int] = {}  # the lowest offset written to a descriptor since it was last synced
        self._failed: dict[int, int] = {}  # the same of what a failed sync has lost
        for call in calls(trace):
            getattr(self, f"_{call.name}", lambda call: None)(call)
        self.unsynced = {path for path in self.unsynced if not is_reserve(path)}

    def _write(self, call: Call) -> None:
        number, path = call.descriptor
        if call.result > 0:
            self.unsynced.add(path)
            offset = int(call.arguments.rpartition(", ")[2]) if call.name == "pwrite64" else 0
            self._lowest[number] = min(offset, self._lowest.get(number, offset))

    _pwrite64 = _write

    def _ftruncate(self, call: Call) -> None:
        # A -wal that SQLite cuts holds nothing any more that the file does not hold, synced.
        if call.result == 0 and not call.descriptor[1].endswith("-wal"):
            self.unsynced.add(call.descriptor[1])

    def _fsync(self, call: Call) -> None:
        number, path = call.descriptor
        lost = self._failed.pop(number, None)
        is_written_again = number in self._lowest and lost is not None and self._lowest[number] <= lost
        # SQLite writes what a failed sync has lost anew, from the first byte on, before it asks the descriptor again.
        if lost is not None and not (is_written_again and "ledger" in path):
            self.synced_again.append(path)
        if call.result == 0:
            self.unsynced.discard(path)
            self._lowest.pop(number, None)
        elif "EINTR" not in call.rest:  # it says that nothing was decided yet
            self._failed[number] = self._lowest.pop(number, 0)

    _fdatasync = _fsync

    def _close(self, call: Call) -> None:
        self._failed.pop(call.descriptor[0], None)
        self._lowest.pop(call.descriptor[0], None)

    def _openat(self, call: Call) -> None:
        for each in (self._failed, self._lowest):
            each.pop(call.result, None)

    def _renameat(self, call: Call) -> None:
        if call.result == 0:
            old, new = call.named
            if old in self.unsynced:
                self.unsynced = self.unsynced - {old} | {new}
            if not is_reserve(new):
                self.unsynced.add(os.path.dirname(new))

    _rename = _renameat2 = _renameat

    def _unlink(self, call: Call) -> None:
        if call.result == 0 and not is_reserve(call.named[0]):
            self.unsynced.discard(call.named[0])
            self.unsynced.add(os.path.dirname(call.named[0]))

    _unlinkat = _unlink


@dataclass(frozen=True)
class Outcome:
    """What a traced run came to."""

    code: int
    out: str
    err: str
    trace: str

    @property
    def is_hit(self) -> bool:
        """Whether the fault happened."""
        return "(INJECTED)" in self.trace


class Scene:
    """A device in `folder`, with its files as `make_used` left them, or new."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folders = Folders(folder / "data", folder / "run", folder / "etc")

    def restore(self, base: Path | None) -> None:
        """Put the files of another device in place; None: a new device's, which has none."""
        shutil.rmtree(self.folders.data, ignore_errors=True)
        if base:
            shutil.copytree(base, self.folders.data)
        else:
            self.folders.data.mkdir(parents=True)

    @property
    def watched(self) -> list[str]:
        """The paths whose calls are counted, for strace."""
        at = self.folders
        files = [at.settings, at.recipients, at.administrator, at.private_key, at.public_key, at.ledger, at.sign_in]
        files += [at.ledger.with_name(name) for name in ("reserve", "ledger.sqlite3.made")]
        rooms = sorted({each.parent for each in files})
        beside = [each.with_name(f".{each.name}.new") for each in (*files, *rooms)]
        ledger = [each for end in ("-wal", "-journal", "-shm") for each in [at.ledger.with_name(at.ledger.name + end)]]
        paths = [at.data, at.data / factory_reset.MARK, *rooms, *files, *beside, *ledger]
        return [word for path in paths for word in ("-P", str(path))]

    @property
    def environment(self) -> dict[str, str]:
        """The environment of its processes."""
        folders = {"DATA": self.folders.data, "RUN": self.folders.run, "ETC": self.folders.etc}
        return {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            **{f"DEVICE_UI_{name}": str(path) for name, path in folders.items()},
        }

    def run(self, words: Sequence[str], given: str = "", faults: Sequence[str] = (), *, fsize: int = -1) -> Outcome:
        """Run ``python -m WORDS`` under strace with faults, or with a limit of bytes for a file."""
        trace = self.folder / "trace"
        limited = ["prlimit", f"--fsize={fsize}"] if fsize >= 0 else []
        # Without its filter strace stops at every call, which is slow.
        traced = [*STRACE, "--seccomp-bpf", "-qq", "-o", str(trace), *self.watched, *faults, *limited]
        done = subprocess.run(
            [*traced, sys.executable, "-m", *words],
            env=self.environment, cwd="/", input=given, capture_output=True, text=True, timeout=SECONDS, check=False,
        )  # fmt: skip
        return Outcome(done.returncode, done.stdout, done.stderr, trace.read_text(errors="replace"))

    @contextlib.contextmanager
    def attached(self, process: int, faults: Sequence[str] = ()) -> Iterator[Path]:
        """Faults in a running process for as long as this lasts; the path of the trace."""
        trace = self.folder / "trace"
        words = [*STRACE, "-o", str(trace), *self.watched, *faults, "-p", str(process)]
        with subprocess.Popen(words, stderr=subprocess.PIPE) as strace:
            assert strace.stderr is not None
            assert readable(strace.stderr.fileno(), SECONDS)
            assert b"attached" in strace.stderr.readline()
            try:
                yield trace
            finally:
                strace.send_signal(signal.SIGINT)
                strace.wait(SECONDS)


@dataclass(frozen=True)
class Program:
    """What is run on a device in use, or on a new one; `before`: what that one has done already.

    `holds` lists what is wrong afterwards, knowing whether it was acknowledged; `again` must succeed.
    """

    words: Sequence[str]
    holds: Callable[[Scene, Outcome], list[str]]
    again: Callable[[Scene], object]
    given: str = ""
    is_new: bool = False
    before: Callable[[Scene], object] = lambda scene: None

    def lay(self, scene: Scene, used: Path) -> None:
        """Put in place what it begins with; `used` are the files of a device in use."""
        scene.restore(None if self.is_new else used)
        self.before(scene)


def wrong(program: Program, scene: Scene, outcome: Outcome) -> list[str]:
    """Every promise that a run with a fault has broken."""
    found = program.holds(scene, outcome)
    durable = Durable(outcome.trace)
    found += [f"{path} was synced again" for path in durable.synced_again]
    found += [f"{path.name} was set aside" for path in scene.folders.data.glob("*/*.damaged-*")]
    if outcome.code == 0:
        found += [f"{path} is not on flash" for path in sorted(durable.unsynced)]
    elif not re.fullmatch(r"((device-ui|refused): [^\n]+\n)+", outcome.err):
        found.append(f"not told in a line: {outcome.err[-200:]!r}")
    try:
        program.again(scene)
    except DeviceUIError as error:
        found.append(f"no recovery: {error}")
    else:
        found += [f"after the recovery: {each}" for each in program.holds(scene, dataclasses.replace(outcome, code=0))]
    return found


def make_used(folders: Folders) -> None:
    """A device in use, made in this process: set up, settings saved, some events in the ledger."""
    device = Device.plain(folders)
    for path, mode, _ in (*device.layout("web"), *device.layout("mail")):
        path.mkdir(mode, parents=True, exist_ok=True)
    pair = keys.load_pair(folders.private_key, folders.public_key)
    choose_password(folders.administrator)
    draft = parse(settings_form(2525), None)
    assert draft.settings is not None, draft.broken
    sealed = seal.seal(PASSWORD, pair.public, draft.settings.bound_to)
    Store(folders.settings).save(dataclasses.replace(draft.settings, sealed=sealed), "")
    outbox = Outbox(folders.ledger)
    outbox.accept([Event("303", "fault", 1e9, 1e9, "", f"old {number}") for number in range(1, 4)])
    outbox.close()


# Small programs: what the servers do, with an acknowledgement that can be seen. Each is tried twice in one process.


def twice(work: Callable[[], object]) -> int:
    """Try, and try again when it is refused, as a person would."""
    for _ in range(2):
        try:
            work()
        except DeviceUIError as error:
            print(f"refused: {error}", file=sys.stderr, flush=True)
        else:
            return 0
    return 74


def renamed(store: Store) -> None:
    settings, revision = store.read()
    assert settings is not None
    store.save(dataclasses.replace(settings, sender_name="Second"), revision)


def save(folders: Folders) -> int:
    return twice(lambda: renamed(Store(folders.settings)))


def opened(folders: Folders) -> Outbox:
    return Outbox(folders.ledger, reserve=Reserve(folders.ledger.with_name("reserve"), RESERVE))


def listed(store: RecipientStore) -> None:
    _, revision = store.read()
    store.save((Recipient("second@example.com"),), revision)


def save_recipients(folders: Folders) -> int:
    return twice(lambda: listed(RecipientStore(folders.recipients)))


def set_up(folders: Folders) -> int:
    return twice(lambda: choose(folders))


def choose(folders: Folders) -> None:
    """What the set-up's page does with the code of the console."""
    administrator = Administrator(folders.administrator)
    found = administrator.load()
    if found and not found.is_set_up:
        assert administrator.set_up(found.code, NEW_PASSWORD)
    administrator.settle()  # as a login does


def use_ledger(folders: Folders, work: Callable[[Outbox], object]) -> int:
    # Left as a killed process leaves it: what the acknowledgement rests on is there already, or never.
    held: list[Outbox] = []
    return twice(lambda: held.append(opened(folders))) or twice(lambda: work(held[0]))


def new_event() -> Event:
    return Event("303", "fault", 1e9, 1e9, "", "new")


def accept(folders: Folders) -> int:
    return use_ledger(folders, lambda outbox: outbox.accept([new_event()]))


def deliver(folders: Folders) -> int:
    delivery = Delivery("a@example.com", "delivered", "content", "250 ok", 1e9)
    return use_ledger(folders, lambda outbox: outbox.record(2, [delivery], done=True))


def load(folders: Folders) -> int:
    return twice(lambda: RecipientStore(folders.recipients).load())


SMALL = {
    "save": save,
    "save-recipients": save_recipients,
    "set-up": set_up,
    "load": load,
    "accept": accept,
    "deliver": deliver,
}


# What must hold after each.


def stored(scene: Scene) -> SmtpSettings:
    settings, _ = Store(scene.folders.settings).read()
    assert settings is not None
    return settings


def save_holds(scene: Scene, outcome: Outcome) -> list[str]:
    name = stored(scene).sender_name
    return [] if name == "Second" or (outcome.code and name == "Storage alarms") else [f"the name is {name}"]


def recipients_hold(scene: Scene, outcome: Outcome) -> list[str]:
    listed, _ = RecipientStore(scene.folders.recipients).read()
    addresses = [each.address for each in listed or ()]
    is_old = outcome.code and not addresses
    return [] if addresses == ["second@example.com"] or is_old else [f"{addresses} are listed"]


def set_up_holds(scene: Scene, outcome: Outcome) -> list[str]:
    administrator = Administrator(scene.folders.administrator)
    found = administrator.load()
    if outcome.code and (found is None or not found.is_set_up):
        return []
    return [] if administrator.verify(NEW_PASSWORD) else ["the chosen password opens nothing"]


def password_holds(scene: Scene, outcome: Outcome) -> list[str]:
    administrator = Administrator(scene.folders.administrator)
    if outcome.code:  # each verification takes as long as a whole run
        found = administrator.load()
        return [] if found and found.is_set_up else ["there is no password any more"]
    return [] if administrator.verify(NEW_PASSWORD) else ["the password was not changed"]


def code_holds(scene: Scene, outcome: Outcome) -> list[str]:
    found = Administrator(scene.folders.administrator).load()
    told = outcome.out.strip()
    return ["the code that was told is not the device's"] if told and (found is None or found.code != told) else []


def rotation_holds(scene: Scene, outcome: Outcome) -> list[str]:
    at, settings = scene.folders, stored(scene)
    pair = keys.load_opening(at.private_key, settings.sealed or "")
    found = [] if seal.unseal(settings.sealed or "", pair.private, settings.bound_to) == PASSWORD else ["lost"]
    if outcome.code == 0 and len(keys.load_pairs(at.private_key)) != 1:
        found.append("the pair before is still there")
    return found


def reset_holds(scene: Scene, outcome: Outcome) -> list[str]:
    left = [path.name for path in scene.folders.data.rglob("*") if path.is_file()]
    if outcome.code == 0:
        return [f"{name} is left" for name in left]
    is_begun = factory_reset.MARK in left
    is_whole = len(left) >= 5 and scene.folders.private_key.exists()
    return [] if is_begun or is_whole or not left else [f"half of a device without a mark: {left}"]


def texts(scene: Scene) -> list[str]:
    outbox = Outbox(scene.folders.ledger)
    try:
        return [event.text for event in outbox.select("1 ORDER BY number", ())]
    finally:
        outbox.close()


def accept_holds(scene: Scene, outcome: Outcome) -> list[str]:
    found = texts(scene)
    right = found[:3] == ["old 1", "old 2", "old 3"] and set(found[3:]) <= {"new"}
    return [] if right and (outcome.code or found[3:]) else [f"the ledger holds {found}"]


def deliver_holds(scene: Scene, outcome: Outcome) -> list[str]:
    outbox = Outbox(scene.folders.ledger)
    waiting, known = [event.number for event in outbox.waiting()], len(outbox.deliveries(2))
    outbox.close()
    is_new, is_old = (waiting, known) == ([1, 3], 1), (waiting, known) == ([1, 2, 3], 0)
    return [] if is_new or (outcome.code and is_old) else [f"{waiting} wait, {known} deliveries"]


def rotate_again(scene: Scene) -> str:
    at = scene.folders
    return rotation.rotate(Store(at.settings), at.private_key, at.public_key)


def small(name: str) -> list[str]:
    return ["tests.power.faults", name]


def ledger_again(work: Callable[[Outbox], object]) -> Callable[[Scene], object]:
    def again(scene: Scene) -> None:
        outbox = opened(scene.folders)
        work(outbox)
        outbox.close()

    return again


DELIVERY = Delivery("a@example.com", "delivered", "content", "250 ok", 1e9)
PROGRAMS = {
    "save": Program(small("save"), save_holds, lambda scene: renamed(Store(scene.folders.settings))),
    "save-recipients": Program(
        small("save-recipients"), recipients_hold, lambda scene: listed(RecipientStore(scene.folders.recipients))
    ),
    "set-up": Program(
        small("set-up"),
        set_up_holds,
        lambda scene: choose(scene.folders),
        is_new=True,
        before=lambda scene: prepare(Device.plain(scene.folders), quiet=True),
    ),
    "load": Program(small("load"), lambda *_: [], lambda scene: RecipientStore(scene.folders.recipients).load()),
    "accept": Program(small("accept"), accept_holds, ledger_again(lambda outbox: outbox.accept([new_event()]))),
    "deliver": Program(
        small("deliver"), deliver_holds, ledger_again(lambda outbox: outbox.record(2, [DELIVERY], done=True))
    ),
    "admin set-password": Program(
        ["device_ui", "admin", "set-password"],
        password_holds,
        lambda scene: Administrator(scene.folders.administrator).set_password(NEW_PASSWORD),
        given=f"{NEW_PASSWORD}\n",
    ),
    "setup-code": Program(
        ["device_ui", "setup-code"],
        code_holds,
        lambda scene: prepare(Device.plain(scene.folders), quiet=True),
        is_new=True,
    ),
    "rotate-key": Program(["device_ui", "rotate-key"], rotation_holds, rotate_again),
    "factory-reset": Program(
        ["device_ui", "factory-reset", "--yes"], reset_holds, lambda scene: factory_reset.reset(scene.folders)
    ),
}

if __name__ == "__main__":
    sys.stdout.flush()
    os._exit(SMALL[sys.argv[1]](Folders.find(None, os.environ)))
