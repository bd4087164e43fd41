"""The story that a trace tells: changes of the disk, syncs, what was asked for and what was acknowledged, in one order.

An acknowledgement stands where the product began to say it, a change where it was asked for, a sync where it returned.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.power.disk import Disk, Mode, Resize, Write
from tests.power.trace import Call, calls

SAVED = b"HTTP/1.1 303"
SETUP_CODE = re.compile(rb"setup code: (\S+)")
ACCEPTED = re.compile(rb'accepted"?:? (\d+)')
# The acknowledgement of what a user asks for by HTTP is the answer 303.
BY_PAGE = ("settings", "recipients", "password")
# That of what is asked for at the console is the exit code 0 of the command with this word.
BY_COMMAND = {b"apply": "document", b"set-password": "password", b"rotate-key": "rotation", b"factory-reset": "reset"}


@dataclass(frozen=True)
class Asked:
    """The user asks for a value of a kind from here on."""

    kind: str
    values: tuple[object, ...]


@dataclass(frozen=True)
class Ack:
    """The product said so: ``settings``, ``recipients`` or ``password`` with a number, ``event`` and ``delivered`` with
    the event's, ``document`` with the numbers of its settings and its list, ``forwarded`` with a line that the engine has,
    ``result`` with that of an event of which not every recipient has got the mail, a recipient and a verdict,
    ``code`` with the setup code, ``rotation`` and ``reset``."""

    kind: str
    value: object


@dataclass(frozen=True)
class Synced:
    """A file or folder was synced, with all that was asked of it before that line; `data_only`: by fdatasync."""

    path: str
    before: int
    data_only: bool = False

    def do(self, disk: Disk) -> None:
        """Make it durable on a model of the disk."""
        disk.sync(_there(disk, self.path), self.before, data_only=self.data_only)


@dataclass(frozen=True)
class Deed:
    """A change of the disk; `do` makes it on a model of it."""

    do: Callable[[Disk], None]


Step = Asked | Ack | Synced | Deed


class NotUnderstood(Exception):
    """The trace holds a call on the disk that this model does not know."""


def read(lines: Iterable[str], flash: Path) -> list[Step]:
    """The steps of a trace, in order; only what lies below `flash` is the disk."""
    reader = Reader(str(flash.absolute()))
    found = [(place, step) for call in calls(lines) for place, step in reader.steps(call)]
    return [step for _, step in sorted(found, key=lambda each: each[0])]


class Reader:
    """Reads call by call; knows what was asked for last, and how far each open file was written."""

    def __init__(self, flash: str) -> None:
        self._flash = flash
        self._engine, self._rest = f"{flash.rpartition('/')[0]}/engine", b""
        self._asked: Asked | None = None
        self._left: list[object] = []
        self._commands: dict[int, list[bytes]] = {}
        self._offsets: dict[tuple[int, str], int] = {}

    def steps(self, call: Call) -> Iterator[tuple[int, Step]]:
        """What one call means."""
        if call.name == "execve":
            self._commands[call.process] = call.texts
        elif call.name == "exit_group":
            yield from self._exited(call)
        elif call.name in ("sendto", "sendmsg"):
            yield from self._said(call)
        elif call.name == "write" and call.paths[0] == "/dev/null" and call.texts[0].startswith(b"mark "):
            kind, *values = json.loads(call.texts[0][5:])
            asked = Asked(kind, tuple(values))
            if kind not in ("chapter", "disk"):
                self._asked, self._left = asked, list(values)
            yield call.begins, asked
        elif call.name == "write" and call.paths[0] == self._engine:
            # Before it exits with 0, and so before the cursor moves. A pipe ends in the middle of a line.
            *lines, self._rest = (self._rest + call.texts[0]).split(b"\n")
            yield from ((call.begins, Ack("forwarded", json.loads(line))) for line in lines)
        elif call.name == "write" and self._inside(call.paths[0]) is None:
            yield from ((call.begins, Ack("code", code.decode())) for code in SETUP_CODE.findall(call.texts[0]))
        else:
            yield from self._disk(call)

    def _exited(self, call: Call) -> Iterator[tuple[int, Step]]:
        words = self._commands.get(call.process, [])
        for word, kind in BY_COMMAND.items():
            if word in words and call.numbers == [0] and self._asked and self._asked.kind == kind:
                values = self._asked.values
                yield call.begins, Ack(kind, values if kind == "document" else next(iter(values), None))

    def _said(self, call: Call) -> Iterator[tuple[int, Step]]:
        for text in call.texts[:1]:
            if text.startswith(SAVED) and self._asked and self._asked.kind in BY_PAGE and self._left:
                yield call.begins, Ack(self._asked.kind, self._left.pop(0))
            for number in ACCEPTED.findall(text):
                told = self._left.pop(0) if self._asked and self._asked.kind == "event" and self._left else None
                yield call.begins, Ack("event", (int(number), told))
            if b'"delivered"' in text:
                yield from ((call.begins, Ack("delivered", number)) for number in _delivered(text))
            if b'"refused"' in text:
                yield from ((call.begins, Ack("result", result)) for result in _results(text))

    def _disk(self, call: Call) -> Iterator[tuple[int, Step]]:
        paths = self._paths(call)
        if not any(path is not None for path in paths):
            return
        path = paths[0]
        assert path is not None
        if call.name in ("fsync", "fdatasync"):
            yield call.ends, Synced(path, call.begins, call.name == "fdatasync")
        elif call.name in ("write", "writev"):
            key = (call.descriptor, path)
            offset = self._offsets.get(key, 0)
            self._offsets[key] = offset + call.result
            yield call.begins, _write(path, offset, b"".join(call.texts)[: call.result], call.begins)
        elif call.name == "lseek":
            self._offsets[call.descriptor, path] = call.result
        elif call.name in ("openat", "open", "creat"):
            self._offsets[call.result, path] = 0
            yield call.ends, _opened(call, path)
        elif call.name in CALLS:
            yield call.begins, CALLS[call.name](call, [each for each in paths if each is not None])
        else:
            raise NotUnderstood(f"{call.name}({call.arguments[:300]})")

    def _paths(self, call: Call) -> list[str | None]:
        """Every path that the call names, below the flash; None for one that lies elsewhere."""
        named = call.texts if call.name not in ("write", "pwrite64", "writev", "pwritev") else []
        folders = call.paths
        if not named:
            return [self._inside(path) for path in folders]
        found = []
        for place, text in enumerate(named):
            path = text.decode("utf-8", "surrogateescape")
            base = folders[min(place, len(folders) - 1)] if folders else ""
            found.append(self._inside(path if path.startswith("/") else f"{base}/{path}"))
        return found

    def _inside(self, path: str) -> str | None:
        if path == self._flash:
            return ""
        return path.removeprefix(f"{self._flash}/") if path.startswith(f"{self._flash}/") else None


def _delivered(text: bytes) -> Iterator[int]:
    for line in text.split(b"\n"):
        with contextlib.suppress(ValueError):
            event = json.loads(line).get("event", {})
            if event.get("state") == "delivered":
                yield int(event["number"])


def _results(text: bytes) -> Iterator[tuple[int, str, str]]:
    """The final results of events that were refused for some recipient."""
    for line in text.split(b"\n"):
        with contextlib.suppress(ValueError):
            event = json.loads(line).get("event", {})
            found = {each["recipient"]: each["verdict"] for each in event.get("deliveries", ())}
            if "refused" in found.values():
                yield from ((int(event["number"]), *each) for each in found.items() if each[1] != "waiting")


def _opened(call: Call, path: str) -> Deed:
    flags = call.arguments.rsplit('"', 1)[1]
    mode = call.numbers[-1] if "O_CREAT" in flags else 0

    def do(disk: Disk) -> None:
        inode = disk.find(path)
        if inode is None and "O_CREAT" in flags:
            disk.create(call.ends, path, mode & ~0o022)
        elif inode is not None and "O_TRUNC" in flags and disk.view.contents[inode]:
            disk.change(call.ends, Resize(inode, 0))

    return Deed(do)


def _write(path: str, offset: int, data: bytes, place: int) -> Deed:
    return Deed(lambda disk: disk.change(place, Write(_there(disk, path), offset, data)))


def _pwrite(call: Call, paths: Sequence[str]) -> Deed:
    return _write(paths[0], call.numbers[-1], b"".join(call.texts)[: call.result], call.begins)


def _resize(call: Call, paths: Sequence[str]) -> Deed:
    size = call.numbers[-1]
    return Deed(lambda disk: disk.change(call.begins, Resize(_there(disk, paths[0]), size)))


def _allocate(call: Call, paths: Sequence[str]) -> Deed:
    start, length = call.numbers[-2:]
    return Deed(lambda disk: disk.change(call.begins, Resize(_there(disk, paths[0]), start + length, extend=True)))


def _chmod(call: Call, paths: Sequence[str]) -> Deed:
    mode = call.numbers[-1] if call.name == "fchmod" else int(call.arguments.rsplit(", 0", 1)[1].split(",")[0], 8)
    return Deed(lambda disk: disk.change(call.begins, Mode(_there(disk, paths[0]), mode)))


def _rename(call: Call, paths: Sequence[str]) -> Deed:
    return Deed(lambda disk: disk.rename(call.begins, paths[0], paths[1]))


def _unlink(call: Call, paths: Sequence[str]) -> Deed:
    return Deed(lambda disk: disk.remove(call.begins, paths[0]))


def _mkdir(call: Call, paths: Sequence[str]) -> Deed:
    # mkdir(2): the umask takes its bits, and Linux the set-group-ID bit.
    return Deed(lambda disk: disk.create(call.begins, paths[0], call.numbers[-1] & 0o755, folder=True))


def _there(disk: Disk, path: str) -> int:
    inode = disk.find(path)
    assert inode is not None, f"{path} is not there"
    return inode


CALLS: Mapping[str, Callable[[Call, Sequence[str]], Deed]] = {
    "pwrite64": _pwrite,
    "ftruncate": _resize,
    "fallocate": _allocate,
    **dict.fromkeys(("chmod", "fchmod", "fchmodat"), _chmod),
    **dict.fromkeys(("rename", "renameat", "renameat2"), _rename),
    **dict.fromkeys(("unlink", "unlinkat", "rmdir"), _unlink),
    **dict.fromkeys(("mkdir", "mkdirat"), _mkdir),
}
