"""What strace wrote, line by line, as calls: `strace -f -y -xx -s BIG -o FILE`, every text in hexadecimal. Pure.

Lines stand in the order in which the tracer saw them, over all processes. A call that others interrupted is in two
lines (``<unfinished ...>``, ``<... resumed>``): it begins at the first and ends at the second.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

LINE = re.compile(r"(\d+) +(.*)")
BEGUN = re.compile(r"(\w+)\((.*?)\s*<unfinished \.\.\.>")
RESUMED = re.compile(r"<\.\.\. (\w+) resumed>(.*)")
WHOLE = re.compile(r"(\w+)\((.*)\)\s+= (-?\d+|\?)(.*)")
TAIL = re.compile(r"(.*)\)\s+= (-?\d+|\?)(.*)")
HEX = r"(?:\\x[0-9a-f]{2})*"
TEXT = re.compile(rf'"({HEX})"(\.\.\.)?')
DESCRIPTOR = re.compile(rf"(?:(-?\d+)|AT_FDCWD)<({HEX})>")


@dataclass(frozen=True)
class Call:
    """One system call that succeeded, or never returned (`result` -1: ``exit_group``); `begins` and `ends` are lines."""

    process: int
    name: str
    arguments: str
    result: int
    begins: int
    ends: int

    @property
    def texts(self) -> list[bytes]:
        """Every text among the arguments, in order."""
        found = TEXT.findall(self.arguments)
        if any(cut for _, cut in found):
            raise ValueError(f"strace cut a text short: {self.arguments[:200]}")
        return [_bytes(text) for text, _ in found]

    @property
    def paths(self) -> list[str]:
        """The path behind every descriptor among the arguments, in order."""
        return [_bytes(path).decode("utf-8", "surrogateescape") for _, path in DESCRIPTOR.findall(self.arguments)]

    @property
    def descriptor(self) -> int:
        """The number of the first descriptor."""
        match = DESCRIPTOR.match(self.arguments)
        return int(match[1]) if match and match[1] else -1

    @property
    def numbers(self) -> list[int]:
        """The plain numbers after the last text or descriptor: counts, offsets, sizes (decimal; modes are octal)."""
        tail = re.split(r'["\]>]', self.arguments)[-1]
        return [int(word, 8 if word.startswith("0") and word != "0" else 10) for word in re.findall(r"\b\d+\b", tail)]


def calls(lines: Iterable[str]) -> Iterator[Call]:
    """The calls that succeeded, in the order in which they ended; ``exit_group`` where it began."""
    begun: dict[int, tuple[str, str, int]] = {}
    for place, line in enumerate(lines):
        match = LINE.match(line)
        if not match:
            continue
        process, rest = int(match[1]), match[2]
        if start := BEGUN.fullmatch(rest):
            begun[process] = (start[1], start[2], place)
            continue
        name, head, first = "", "", place
        if resumed := RESUMED.match(rest):
            name, head, first = begun.pop(process)
            whole = TAIL.match(resumed[2])
            found = (head + whole[1], whole[2]) if whole else None
        else:
            whole = WHOLE.match(rest)
            found = (whole[2], whole[3]) if whole else None
            name = whole[1] if whole else ""
        if found and (name == "exit_group" or (found[1].isdigit())):
            yield Call(process, name, found[0], int(found[1]) if found[1].isdigit() else -1, first, place)


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))
