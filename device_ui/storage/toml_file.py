"""A small text file that a person can read and a program can trust: TOML lines under a comment, a checksum last.

The checksum covers every byte above it, so a flipped bit in a port number is damage and not another port. It keeps nobody from
writing one: a file crosses from one user to another, so it is read by `_plain` alone, in linear time. `tomllib` takes the square
of the length of some texts (26 s for 64 KiB) and reads the maker's files only, which are root's. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from device_ui.storage.sha256 import sha256

Value = str | int | bool
CHECKSUM = "sha256"
# How a value begins that `encode` wrote: a string, a number, true, false.
VALUE_STARTS = frozenset('"-0123456789tf')
# What every reader of TOML must take.
INTEGERS = range(-(2**63), 2**63)


def encode(comment: str, values: Mapping[str, Value]) -> bytes:
    """The file's bytes: `comment` (one line), one ``name = value`` a line, the checksum.

    A JSON string is a TOML basic string as long as control characters are escaped, which json.dumps does for all
    but DEL. Strings, whole numbers and booleans are written alike in both.
    """
    lines = [f"# {comment}", *(f"{name} = {_written(value)}" for name, value in values.items())]
    body = ("\n".join(lines) + "\n").encode()
    return body + f'{CHECKSUM} = "{sha256(body).hexdigest()}"\n'.encode()


def decode(raw: bytes) -> dict[str, Value]:
    """The values of a file that `encode` wrote. Raises ValueError, with one line, for anything else."""
    body, found = _split(raw)
    if sha256(body).hexdigest() != found:
        raise ValueError("its checksum does not match")
    values = _plain(body.decode())
    if values is None or not all(isinstance(value, Value) for value in values.values()):
        raise ValueError("it holds a line that this program does not write")
    if not all(isinstance(value, str) or value in INTEGERS for value in values.values()):
        raise ValueError("it holds a number that is too long")
    return values


def tables(text: str) -> dict[str, Any]:
    """Return what a TOML text of the maker's says. Raises ValueError, with one line, for anything else."""
    found = _plain(text)
    if found is not None:
        return found
    # Imported here: with `typing`, it holds 0.6 MiB, and files are seldom written otherwise than we write them.
    import tomllib

    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _plain(text: str) -> dict[str, Any] | None:
    """The same for a text of comments, ``[section]`` and ``name = value`` alone, each spelt as `encode` spells it; None for
    any other, be it right or wrong."""
    found: dict[str, Any] = {}
    section = found
    for line in text.split("\n"):
        name, is_value, value = line.partition(" = ")
        if not line or (line[0] == "#" and line.isprintable()):
            continue
        if not is_value and line[0] == "[" and line[-1] == "]" and _is_name(line[1:-1]) and line[1:-1] not in found:
            section = found[line[1:-1]] = {}
        elif is_value and _is_name(name) and name not in section and _is_written(value):
            section[name] = json.loads(value)
        else:
            return None
    return found


def _is_name(text: str) -> bool:
    return bool(text) and text.isascii() and text.replace("-", "").replace("_", "a").isalnum()


def _is_written(text: str) -> bool:
    if text[:1] not in VALUE_STARTS:
        return False
    try:
        value = json.loads(text)
    except ValueError:
        return False
    return isinstance(value, Value) and _written(value) == text


def _written(value: Value) -> str:
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _split(raw: bytes) -> tuple[bytes, str]:
    if not raw:
        raise ValueError("it is empty")
    head, mark, tail = raw.rpartition(f'{CHECKSUM} = "'.encode())
    if not mark or not tail.endswith(b'"\n') or not head.endswith(b"\n"):
        raise ValueError("its last line is no checksum")
    return head, tail[:-2].decode("ascii", "replace")
