"""Play a story, then start the product on every disk that a power cut could have left anywhere in it."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from device_ui.config import Device
from device_ui.errors import DeviceUIError
from tests.power import disk, recovery, story, workloads
from tests.power.disk import Disk, Point, Tree
from tests.power.promises import Known, broken, content_of
from tests.power.stage import CALLS, STRACE, Stage
from tests.power.story import Ack, Asked, Deed, Synced
from tests.power.trace import calls

MEMORY = Path("/dev/shm")
# How a mark begins in the trace, in hexadecimal.
MARK = "".join(f"\\x{each:02x}" for each in b'mark ["disk"')
# Of what SQLite cannot tell apart so many disks are drawn at a second cut.
DRAWN_DEEPER = 60
# Disks whose recovery is recorded under one strace.
BATCH = 200


class NoAcknowledgement(AssertionError):
    """A story in which the product acknowledged nothing proves nothing."""


@dataclass(frozen=True)
class Recording:
    """One story: the disk it began with, its steps, and the device it was played on."""

    name: str
    before: Tree
    steps: Sequence[story.Step]
    known: Known
    maker: Path


@dataclass(frozen=True)
class Cut:
    """A place for a power cut: the disk's `point` and what was `known` to the world by then."""

    chapter: int
    point: Point
    known: Known


@dataclass
class Figures:
    """What was done and found. `states` are the names of the distinct disks of each depth (8 bytes each).

    `exhaustive`: of the cuts (`deep_exhaustive`: of the second ones, which are counted once for disks that SQLite takes for
    the same) those of which every state was tried.
    """

    cuts: int = 0
    exhaustive: int = 0
    deep_cuts: int = 0
    deep_exhaustive: int = 0
    acknowledgements: int = 0
    seconds: float = 0.0
    states: dict[int, set[bytes]] = field(default_factory=lambda: {1: set(), 2: set()})
    violations: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    @property
    def is_every_state(self) -> bool:
        """Whether no cut, and no second one, has a disk that was not tried."""
        return (self.exhaustive, self.deep_exhaustive) == (self.cuts, self.deep_cuts)

    def add(self, other: Figures) -> None:
        """Take in what another worker found."""
        self.cuts += other.cuts
        self.exhaustive += other.exhaustive
        self.deep_cuts += other.deep_cuts
        self.deep_exhaustive += other.deep_exhaustive
        self.acknowledgements += other.acknowledgements
        self.seconds += other.seconds
        self.violations += other.violations
        self.examples = other.examples | self.examples
        for depth, states in other.states.items():
            self.states[depth] |= states

    def report(self, cut: str, lines: Sequence[str]) -> None:
        """Promises that were broken after this cut."""
        for line in lines:
            self.violations[line] += 1
            self.examples.setdefault(line, cut)


def record(sequence: Sequence[str], folder: Path, *, window: int = 0) -> Recording:
    """Play a sequence of actions with real processes under strace in `folder`, which must be new."""
    stage = Stage(folder, tuple(sequence), window=window)
    before = disk.load(stage.flash)
    with stage:
        workloads.play(stage, sequence)
    with stage.trace.open() as lines:
        steps = story.read(lines, stage.flash)
    known = Known.at_start(fresh=workloads.is_fresh(sequence), port=stage.server.port)
    recording = Recording("+".join(sequence), before, steps, known, stage.folders.etc)
    check_model(recording, disk.load(stage.flash))
    return recording


def check_model(recording: Recording, after: Tree) -> None:
    """The model must have seen what the kernel did; else a call was not understood."""
    model = Disk(recording.before)
    for step in recording.steps:
        if isinstance(step, Deed):
            step.do(model)
    seen = model.view.tree()
    wrong = sorted(path for path in seen.keys() | after.keys() if seen.get(path) != after.get(path))
    assert not wrong, f"the model differs from the disk: {wrong}"


def cuts(recording: Recording) -> Iterator[Cut]:
    """The places for a cut: before each sync is done, and at the end. Raises `NoAcknowledgement`."""
    model, known, chapter, acknowledged = Disk(recording.before), recording.known.copy(), 0, 0
    for step in recording.steps:
        match step:
            case Deed(do):
                do(model)
            case Synced():
                yield Cut(chapter, model.point(), known.copy())
                step.do(model)
            case Asked("chapter", (number,)):
                chapter = int(str(number))
            case Asked() | Ack():
                acknowledged += isinstance(step, Ack)
                known.learn(step)
    if not acknowledged:
        raise NoAcknowledgement(recording.name)
    yield Cut(chapter, model.point(), known.copy())


class Explorer:
    """Starts the product on disks of one recording, in memory. Use with `with`."""

    def __init__(self, recording: Recording, figures: Figures) -> None:
        self._recording, self._figures = recording, figures
        self._device = Device.load(recovery.Folders(Path("/none"), Path("/none"), recording.maker))

    def __enter__(self) -> Explorer:
        self.folder = Path(tempfile.mkdtemp(prefix="device-ui-power-", dir=MEMORY))
        (self.folder / "scratch").mkdir()
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.folder)

    def explore(self, most: int, since: int = 0, *, deeper: int = 0) -> None:
        """Every cut from chapter `since` on, with `most` states each; of each state `deeper` states of its recovery."""
        for place, cut in enumerate(self._prepared()):
            name = f"{self._recording.name} cut {place}"
            if cut.chapter < since:
                continue
            self._figures.cuts += 1
            trees = list(cut.point.states(most, name))
            self._figures.exhaustive += cut.point.is_exhausted(most)
            for number, tree in enumerate(trees):
                self.try_one(tree, cut.known, f"{name} state {number}", 1)
            if deeper:
                self._deeper(trees, cut.known, name, deeper)

    def killed(self, most: int, since: int = 0) -> None:
        """After each change of the disk from chapter `since` on both processes die, are started and used; then the power
        fails. What the dead ones had not synced stays in doubt until the living ones sync it."""
        moments = [each for each in _moments(self._recording) if each[0] >= since]
        prepared = self._prepared()
        contents = prepared[-1].known.contents
        stood = next((each.known.keys for each in prepared if each.known.erased), frozenset[bytes]())
        for start in range(0, len(moments), BATCH):
            batch = moments[start : start + BATCH]
            places = [self._built(model.view.tree(), str(number)) for number, (_, model, _) in enumerate(batch)]
            for number, steps in self.recoveries(places, "--use").items():
                _, model, known = batch[number]
                known.contents, known.keys = set(contents), stood
                self._after_kill(model, known, steps, f"{self._recording.name} killed at {start + number}", most)
            for place in places:
                shutil.rmtree(place)

    def _after_kill(self, model: Disk, known: Known, steps: Sequence[story.Step], name: str, most: int) -> None:
        for place, step in enumerate([*steps, Synced("", -1)]):
            if isinstance(step, Deed):
                step.do(model)
            elif isinstance(step, Asked) and step.kind in ("settings", "event"):
                known.learn(Ack(step.kind, step.values[0]))
            elif isinstance(step, Synced):
                trees = list(model.point().states(most, name))
                self._look(trees[0], known)
                for state, tree in enumerate(trees):
                    self.try_one(tree, known, f"{name} cut {place} state {state}", 2)
                step.do(model)

    def _look(self, tree: Tree, known: Known) -> None:
        """Learn what the disk holds when the processes alone end."""
        place = self._built(tree, "disk")
        with contextlib.suppress(DeviceUIError):  # who tries this disk finds and tells it
            seen = recovery.recover(recovery.at(self._device, place))
            known.contents.add(content_of(seen))
            known.look(known.contents, seen.ledger.facts["ledger_id"])
            if known.erased is None:
                known.keys = seen.privates_before
        shutil.rmtree(place)

    def try_one(self, tree: Tree, known: Known, name: str, depth: int) -> None:
        """Start on one disk and report the promises that it breaks."""
        named = disk.digest(tree)[:8]
        self._figures.states[depth].add(named)
        self._figures.report(name, self._wrong(tree, known))

    def _wrong(self, tree: Tree, known: Known) -> list[str]:
        place = self._built(tree, "disk")
        try:
            return broken(known, recovery.recover(recovery.at(self._device, place)), self.folder / "scratch")
        except DeviceUIError as error:
            return [f"the product does not start: {error}"]
        finally:
            shutil.rmtree(place)

    def _prepared(self) -> list[Cut]:
        """Every cut, and what the ledger held between any two transactions: the processes alone end there."""
        found = list(cuts(self._recording))
        contents: set[int] = set()
        ledger_id, stood = "", frozenset[bytes]()
        for cut in found:
            cut.known.contents, cut.known.ledger_id, cut.known.keys = contents, ledger_id, stood
            self._look(next(cut.point.states(1, "")), cut.known)
            ledger_id, stood = cut.known.ledger_id, cut.known.keys
        return found

    def _deeper(self, trees: Sequence[Tree], known: Known, name: str, most: int) -> None:
        """Each place for a second cut but once: the recoveries of different disks go through the same ones."""
        tried, looked = {disk.digest(tree) for tree in trees}, set[bytes]()
        for start in range(0, len(trees), BATCH):
            batch = trees[start : start + BATCH]
            places = [self._built(tree, str(number)) for number, tree in enumerate(batch)]
            for number, steps in self.recoveries(places).items():
                recording = Recording(name, batch[number], steps, known, self._recording.maker)
                for place, point in enumerate(points(recording)):
                    if (called := point.name()) in looked:
                        continue
                    looked.add(called)
                    self._figures.deep_cuts += 1
                    self._figures.deep_exhaustive += point.is_exhausted(most)
                    for state, tree in enumerate(
                        point.states(most, f"{name} {start + number} {place}", drawn_most=DRAWN_DEEPER)
                    ):
                        if disk.digest(tree) not in tried:
                            tried.add(disk.digest(tree))
                            full = f"{name} state {start + number}, again at {place} state {state}"
                            self.try_one(tree, known, full, 2)
            for place in places:
                shutil.rmtree(place)

    def recoveries(self, places: Sequence[Path], *options: str) -> dict[int, list[story.Step]]:
        """The steps of the product's recovery on each of these disks, recorded by strace."""
        trace = self.folder / "trace"
        words = [*STRACE, "-e", f"trace={CALLS}", "-o", str(trace), sys.executable, "-m", "tests.power.recovery"]
        given = "".join(f"{place}\n" for place in places)
        subprocess.run([*words, str(self._recording.maker), *options], input=given, text=True, check=True)
        found: dict[int, list[str]] = {-1: []}
        current = -1
        for line in trace.read_text().splitlines():
            if MARK in line:
                marked = [call.texts[0] for call in calls([line])]
                current = int(marked[0].split()[-1].rstrip(b"]")) if marked else current
            found.setdefault(current, []).append(line)
        return {number: story.read(lines, places[number]) for number, lines in found.items() if number >= 0}

    def _built(self, tree: Tree, name: str) -> Path:
        place = self.folder / name
        place.mkdir()
        disk.build(tree, place)
        return place


def _moments(recording: Recording) -> Iterator[tuple[int, Disk, Known]]:
    """The disk after each change of it, with its chapter and what was known."""
    model, known, chapter = Disk(recording.before), recording.known.copy(), 0
    for step in recording.steps:
        match step:
            case Deed(do):
                do(model)
                yield chapter, model.copy(), known.copy()
            case Synced():
                step.do(model)
            case Asked("chapter", (number,)):
                chapter = int(str(number))
            case Asked() | Ack():
                known.learn(step)


def points(recording: Recording) -> Iterator[Point]:
    """The places for a second cut, in the recovery that was recorded."""
    model = Disk(recording.before)
    for step in recording.steps:
        if isinstance(step, Deed):
            step.do(model)
        elif isinstance(step, Synced):
            yield model.point()
            step.do(model)
    yield model.point()


def run(
    sequence: Sequence[str], most: int, since: int = 0, *, deeper: int = 0, window: int = 0, killed: int = 0
) -> Figures:
    """Play one sequence and try every cut from chapter `since` on; `deeper`: `killed`: states after a second fault."""
    begun, figures = time.monotonic(), Figures()
    folder = Path(tempfile.mkdtemp(prefix="device-ui-power-", dir=MEMORY)) / "stage"
    try:
        recording = record(sequence, folder, window=window)
        figures.acknowledgements = sum(isinstance(step, Ack) for step in recording.steps)
        with Explorer(recording, figures) as explorer:
            explorer.explore(most, since, deeper=deeper)
            if killed:
                explorer.killed(killed, since)
    finally:
        shutil.rmtree(folder.parent)
    figures.seconds = time.monotonic() - begun
    return figures
