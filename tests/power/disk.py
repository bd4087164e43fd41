"""A file system under a power cut: what was asked of it, what is durable, and every state that a cut may leave.

The model is the weakest of those that the literature finds in use (Pillai et al., "All File Systems Are Not Created
Equal", OSDI '14: ALICE's default persistence model; Mohan et al., "Finding Crash-Consistency Bugs with Bounded
Black-Box Crash Testing", OSDI '18: CrashMonkey cuts at points of persistence; POSIX.1-2017 fsync; fsync(2)):

* The bytes and the size of a file are durable after fsync or fdatasync of that file, its mode after fsync; not before.
* A name (made, renamed, removed) is durable after fsync of the folder that holds it: an fsync of the file does not help.
* Of all that is not durable any part may have happened, in any order: a later change without an earlier one, a name
  without its bytes, a size without its bytes (they read as zeros), a write cut at a sector of 512 bytes or at a single
  byte, or a sector of it lost. Only two writes to the very same bytes keep their order: they share a page in the cache.
* A rename happens, or does not, or leaves both names (a link made, the old name not yet gone). The new name never
  points to nothing: the one thing that journalling, log-structured and copy-on-write file systems all promise.
* What was durable stays. A disk that lies about a flush, or loses what it had, is no power cut.

A cut between two points of persistence leaves one of the states of the later point, so states are built there only.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import math
import os
import random
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.power import drawn, wal
from tests.power.wal import LOG

SECTOR = 512
# So many combinations for each state that is asked for are still tried one by one: most are the same disk.
EXHAUSTED = 8
# So many states are drawn of what need not be told apart, beside those that are planned; so many plans are made of changes
# that the log hides.
DRAWN, HIDDEN = 300, 100
# In the name of the file that holds what was sealed to a key pair.
SETTINGS = "smtp.toml"
# Every byte of a write up to this size is a place to tear it; of a larger one some are.
EACH_BYTE = 32
ROOT = 0


@dataclass(frozen=True)
class Write:
    """Bytes put into a file."""

    inode: int
    offset: int
    data: bytes


@dataclass(frozen=True)
class Resize:
    """A file cut or extended; `extend` never cuts (fallocate)."""

    inode: int
    size: int
    extend: bool = False


@dataclass(frozen=True)
class Mode:
    """Permission bits of a file or folder."""

    inode: int
    mode: int


@dataclass(frozen=True)
class Names:
    """Names of one folder that change at once; None: the name goes."""

    inode: int
    names: tuple[tuple[str, int | None], ...]


Change = Write | Resize | Mode | Names
Tree = Mapping[str, tuple[int, bytes | None]]


@dataclass
class Files:
    """Files and folders by number: `contents` of files, `names` in folders, `modes` of both."""

    contents: dict[int, bytes] = field(default_factory=dict)
    names: dict[int, dict[str, int]] = field(default_factory=dict)
    modes: dict[int, int] = field(default_factory=dict)

    def put(self, change: Change) -> None:
        """Make one change."""
        match change:
            case Write(inode, offset, data):
                old = self.contents[inode].ljust(offset, b"\0")
                self.contents[inode] = old[:offset] + data + old[offset + len(data) :]
            case Resize(inode, size, extend):
                old = self.contents[inode]
                self.contents[inode] = old if extend and len(old) >= size else old[:size].ljust(size, b"\0")
            case Mode(inode, mode):
                self.modes[inode] = mode
            case Names(inode, names):
                self.names[inode] = self.names[inode] | {name: to for name, to in names if to is not None}
                for name in (name for name, to in names if to is None):
                    self.names[inode].pop(name, None)

    def copy(self) -> Files:
        """Another, that changes apart from this one."""
        return Files(dict(self.contents), dict(self.names), dict(self.modes))

    def places(self) -> dict[int, str]:
        """The path of every file and folder that can be reached from the root, which is ""."""
        return {ROOT: ""} | self._below(ROOT, "")

    def _below(self, inode: int, path: str) -> dict[int, str]:
        found = {to: f"{path}/{name}".lstrip("/") for name, to in self.names.get(inode, {}).items()}
        for to, below in list(found.items()):
            found |= self._below(to, below)
        return found

    def tree(self) -> Tree:
        """What can be reached from the root: path → mode and bytes (None: a folder), parents first."""
        found: dict[str, tuple[int, bytes | None]] = {}
        ways = [("", ROOT)]
        while ways:
            path, inode = ways.pop()
            for name, to in sorted(self.names[inode].items()):
                found[path + name] = (self.modes[to], self.contents.get(to))
                if to in self.names:
                    ways.append((f"{path}{name}/", to))
        return found


@dataclass
class Point:
    """A moment at which power may fail: what is surely there, and what may be there."""

    durable: Files
    pending: Sequence[Change]

    def is_exhausted(self, most: int) -> bool:
        """Whether `states` builds every combination there is, or all that SQLite can tell apart (see `wal`).

        Of changes of the log alone it sees which is the first that is not whole, and in which way; of changes that the
        log hides it sees none.
        """
        choices = [variants(change) for change in self.pending]
        if self._is_of_the_log():
            return _is_small(choices, most) or len(_plan(choices)) <= most // 2
        shown = [each for each, hidden in zip(choices, self._hidden(), strict=True) if not hidden]
        return _is_small(choices, most) or math.prod(map(len, shown)) <= most // 2

    def name(self) -> bytes:
        """The same for two points that leave the same disks, as far as SQLite can tell, but for what was drawn by chance.

        A number of a file is no part of it: its path is, or its place among those that have none yet.
        """
        called = self.durable.places()
        nameless: list[int] = []

        def call(inode: int | None) -> str | None:
            if inode is not None and inode not in called:
                called[inode] = f"#{len(nameless)}"
                nameless.append(inode)
            return None if inode is None else called[inode]

        tree = self.durable.tree()
        names = {to: name for folder in self._folders() for name, to in folder.items() if to is not None}
        written = [(names.get(each.inode, ""), each.data) for each in self.pending if isinstance(each, Write)]
        stands = [(path, content) for path, (_, content) in tree.items() if content is not None]
        nowhere = [(name, self.durable.contents[to]) for to, name in names.items() if to in self.durable.contents]
        pairs = drawn.Pairs(b"".join(data for name, data in (*stands, *nowhere, *written) if SETTINGS in name))
        told = {path: pairs.without(path, content) for path, content in self._told(tree).items()}
        parts: list[object] = [(path, mode, told.get(path)) for path, (mode, _) in tree.items()]
        for each in self.pending:
            match each:
                case Names(inode, moved):
                    parts.append((call(inode), [(name, call(to)) for name, to in moved]))
                case Write(inode, offset, data):
                    name = names.get(inode, "")
                    parts.append((call(inode), offset, pairs.without(name, drawn.without(name, offset, data))))
                case _:
                    parts.append((type(each).__name__, call(each.inode), dataclasses.replace(each, inode=0)))
        for inode in nameless:  # it grows with what stands in folders that have no name yet
            name = names.get(inode, "")
            content = pairs.without(name, drawn.without(name, 0, self.durable.contents.get(inode, b"")))
            inside = [(name, call(to)) for name, to in sorted(self.durable.names.get(inode, {}).items())]
            parts.append((self.durable.modes[inode], content, inside))
        return hashlib.blake2b(repr(parts).encode(), digest_size=16).digest()

    def _told(self, tree: Tree) -> dict[str, bytes]:
        """What is durable, without what SQLite cannot tell apart now, nor after any of what is pending."""
        contents = {path: content for path, (_, content) in tree.items() if content is not None}
        whole, called = self._whole_logs(), self.durable.places()
        told = wal.seen(contents, {called[inode] for inode in whole})
        return {path: drawn.without(path, 0, content) for path, content in told.items()}

    def _folders(self) -> list[Mapping[str, int | None]]:
        """The names of each folder, and those that are pending."""
        return [*self.durable.names.values(), *(dict(each.names) for each in self.pending if isinstance(each, Names))]

    def _is_of_the_log(self) -> bool:
        logs = {to for folder in self._folders() for name, to in folder.items() if name.endswith(LOG)}
        return all(isinstance(each, Write | Resize) and each.inode in logs for each in self.pending)

    def _hidden(self) -> list[bool]:
        """Which of the changes SQLite cannot see, since it reads what they touch from its log."""
        logs = self._whole_logs()
        return [
            each.inode in logs
            and (
                (isinstance(each, Write) and logs[each.inode].hides(each.offset, len(each.data)))
                or (isinstance(each, Resize) and logs[each.inode].hides_size(each.size))
            )
            for each in self.pending
        ]

    def _whole_logs(self) -> dict[int, wal.Log]:
        """The logs that nothing is pending for, by the number of their ledger."""
        changed = {each.inode for each in self.pending if not isinstance(each, Names)}
        moved = {(each.inode, name) for each in self.pending if isinstance(each, Names) for name, _ in each.names}
        return {
            names[name.removesuffix(LOG)]: wal.read(self.durable.contents[to])
            for folder, names in self.durable.names.items()
            for name, to in names.items()
            if name.endswith(LOG)
            and to not in changed
            and not {(folder, name), (folder, name.removesuffix(LOG))} & moved
            if len(self.durable.contents.get(names.get(name.removesuffix(LOG), ROOT), b"")) > wal.EMPTY
        }

    def states(self, most: int, seed: str, *, drawn_most: int = DRAWN) -> Iterator[Tree]:
        """Distinct trees that a cut here may leave: all of them if `is_exhausted`, or `most` of them, the plainest first.

        The first is the one in which everything happened: what a crash of the processes alone leaves. Of what SQLite cannot
        tell apart `drawn_most` more are drawn by chance.
        """
        choices = [variants(change) for change in self.pending]
        seen: set[bytes] = set()
        draws = drawn_most if self.is_exhausted(most) else 3 * most
        for chosen in _combined(choices, self._hidden(), most, draws, random.Random(seed)):
            files = self.durable.copy()
            for changes in chosen:
                for change in changes:
                    files.put(change)
            tree = files.tree()
            name = digest(tree)
            if name not in seen:
                seen.add(name)
                yield tree
            if len(seen) >= most and not _is_small(choices, most):
                return


class Disk:
    """What the processes see, and beside it what is durable. Paths are below the root, without a leading slash."""

    def __init__(self, tree: Tree) -> None:
        self.view = Files(names={ROOT: {}}, modes={ROOT: 0o755})
        self._last = ROOT
        for path, (mode, content) in tree.items():
            folder, name = self._split(path)
            self.view.names[folder][name] = self._new(mode, content)
        self.durable = self.view.copy()
        self.durable.names = {inode: dict(names) for inode, names in self.view.names.items()}
        self.pending: list[tuple[int, Change]] = []

    def copy(self) -> Disk:
        """Another, that changes apart from this one, for another trace."""
        other = Disk({})
        other.view, other.durable = self.view.copy(), self.durable.copy()
        # All of it was asked for before anything that the other will be asked for.
        other.pending, other._last = [(-1, change) for _, change in self.pending], self._last
        return other

    def find(self, path: str) -> int | None:
        """The number of what stands at a path now."""
        inode = ROOT
        for name in filter(None, path.split("/")):
            if name not in self.view.names.get(inode, {}):
                return None
            inode = self.view.names[inode][name]
        return inode

    def create(self, place: int, path: str, mode: int, *, folder: bool = False) -> None:
        """A new, empty file or folder. Its first mode comes with it; its name is the parent's."""
        parent, name = self._split(path)
        inode = self._new(mode, None if folder else b"")
        for files in (self.durable,):
            files.modes[inode] = mode
            (files.names if folder else files.contents)[inode] = {} if folder else b""  # type: ignore[index,assignment]
        self.change(place, Names(parent, ((name, inode),)))

    def remove(self, place: int, path: str) -> None:
        """A name goes."""
        parent, name = self._split(path)
        self.change(place, Names(parent, ((name, None),)))

    def rename(self, place: int, old: str, new: str) -> None:
        """A name becomes another one of the same folder."""
        inode, (parent, name), (other, fresh) = self.find(old), self._split(old), self._split(new)
        assert parent == other, "no rename between folders is modelled"
        if name != fresh:
            self.change(place, Names(parent, ((fresh, inode), (name, None))))

    def change(self, place: int, change: Change) -> None:
        """A change that the processes see at once; `place` is its line in the trace.

        A mode that a file has already changes nothing: no disk can differ by it.
        """
        if isinstance(change, Mode) and self.view.modes[change.inode] == change.mode:
            return
        self.view.put(change)
        self.pending.append((place, change))

    def sync(self, inode: int, before: int, *, data_only: bool = False) -> None:
        """What was asked of this file or folder before that line is durable now; with `data_only` all but its mode."""
        pending = self.pending
        self.pending = []
        for place, change in pending:
            if change.inode == inode and place < before and not (data_only and isinstance(change, Mode)):
                self.durable.put(change)
            else:
                self.pending.append((place, change))

    def point(self) -> Point:
        """This moment."""
        return Point(self.durable.copy(), [change for _, change in self.pending])

    def _split(self, path: str) -> tuple[int, str]:
        parent, _, name = path.rpartition("/")
        inode = self.find(parent)
        assert inode is not None, f"{parent} is not there"
        return inode, name

    def _new(self, mode: int, content: bytes | None) -> int:
        self._last += 1
        inode = self._last
        self.view.modes[inode] = mode
        if content is None:
            self.view.names[inode] = {}
        else:
            self.view.contents[inode] = content
        return inode


def variants(change: Change) -> list[tuple[Change, ...]]:
    """What may become of one change that is not durable: all of it (first), nothing (second), or parts."""
    whole: list[tuple[Change, ...]] = [(change,), ()]
    match change:
        case Names(inode, ((fresh, to), (_, None))):
            return [*whole, (Names(inode, ((fresh, to),)),)]
        case Write(inode, offset, data):
            return [*whole, *dict.fromkeys(_torn(inode, offset, data))]
    return whole


def _torn(inode: int, offset: int, data: bytes) -> Iterator[tuple[Change, ...]]:
    size = Resize(inode, offset + len(data), extend=True)
    yield (size,)
    for cut in _sectors(offset, len(data)):
        yield (Write(inode, offset, data[:cut]),)
        yield (Write(inode, offset, data[:cut]), size)
        yield (Write(inode, offset + cut, data[cut:]),)
        after = cut + SECTOR
        if after < len(data):
            yield (Write(inode, offset, data[:cut]), Write(inode, offset + after, data[after:]))
    for cut in _bytes(len(data)):
        yield (Write(inode, offset, data[:cut]),)


def _sectors(offset: int, length: int) -> range:
    return range(SECTOR - offset % SECTOR, length, SECTOR)


def _bytes(length: int) -> list[int]:
    if length <= EACH_BYTE:
        return list(range(1, length))
    return [1, length // 3, length // 2 + 1, length - 1]


Choices = Sequence[Sequence[tuple[Change, ...]]]


def _combined(
    choices: Choices, hidden: Sequence[bool], most: int, draws: int, chance: random.Random
) -> Iterator[tuple[tuple[Change, ...], ...]]:
    """One variant for each change: every combination where these are few, else a plan (see `_planned`), then `draws` by chance.

    Where the log hides some, every combination of the others with some plans of the hidden ones, the first of which is all.
    """
    if _is_small(choices, most):
        yield from itertools.product(*choices)
        return
    shown = [each[:1] if is_hidden else each for each, is_hidden in zip(choices, hidden, strict=True)]
    if any(hidden) and math.prod(map(len, shown)) <= most // 2:
        parts = [each for each, is_hidden in zip(choices, hidden, strict=True) if is_hidden]
        for plan, combined in itertools.product(_planned(parts, min(most, HIDDEN), chance), itertools.product(*shown)):
            given = iter(plan)
            yield tuple(next(given) if is_hidden else each for each, is_hidden in zip(combined, hidden, strict=True))
    else:
        yield from _planned(choices, most, chance)
    for _ in range(draws):
        yield tuple(each[_drawn(len(each), chance)] for each in choices)


def _is_small(choices: Choices, most: int) -> bool:
    return math.prod(len(each) for each in choices) <= EXHAUSTED * most


def _planned(choices: Choices, most: int, chance: random.Random) -> Iterator[tuple[tuple[Change, ...], ...]]:
    """All, nothing, each prefix; then each change in each variant with all, none or only the earlier of the others.

    Where that is too much for half of `most`, an even choice of it.
    """
    full, none = [each[0] for each in choices], [each[1] for each in choices]
    yield tuple(full)
    yield tuple(none)
    for place in range(1, len(choices)):
        yield (*full[:place], *none[place:])
        yield (*none[:place], *full[place:])
    plan = _plan(choices)
    yield from plan if len(plan) <= most // 2 else chance.sample(plan, most // 2)


def _plan(choices: Choices) -> list[tuple[tuple[Change, ...], ...]]:
    full, none = [each[0] for each in choices], [each[1] for each in choices]
    single = [
        (*before[:place], variant, *after[place + 1 :])
        for place, each in enumerate(choices)
        for variant in each
        for before, after in ((full, full), (none, none), (full, none))
    ]
    pairs = [
        tuple(none[each] if each in pair else full[each] for each in range(len(choices)))
        for pair in itertools.combinations(range(len(choices)), 2)
    ]
    return [*single, *pairs]


def _drawn(count: int, chance: random.Random) -> int:
    """A half of all changes happened, a quarter did not, a quarter is torn."""
    dice = chance.randrange(4)
    return 0 if dice < 2 else 1 if dice == 2 else chance.randrange(count)


def digest(tree: Tree) -> bytes:
    """The name of a whole tree: 16 bytes."""
    hashed = hashlib.blake2b(digest_size=16)
    for path in sorted(tree):
        mode, content = tree[path]
        hashed.update(f"{path}\0{mode:o}\0".encode())
        hashed.update(b"" if content is None else _content_digest(content))
    return hashed.digest()


# The disks of one cut share most of their contents.
@functools.lru_cache(256)
def _content_digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()


def load(folder: Path) -> Tree:
    """The tree that stands in a real folder."""
    found: dict[str, tuple[int, bytes | None]] = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        content = None if stat.S_ISDIR(status.st_mode) else path.read_bytes()
        found[str(path.relative_to(folder))] = (stat.S_IMODE(status.st_mode), content)
    return found


def build(tree: Tree, folder: Path) -> None:
    """Make a tree in an empty real folder."""
    for path, (mode, content) in tree.items():
        place = os.path.join(folder, path)
        if content is None:
            os.mkdir(place)
            os.chmod(place, mode)
            continue
        descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.write(descriptor, content)
            os.fchmod(descriptor, mode)
        finally:
            os.close(descriptor)
