"""The format of the files that only this product writes: TOML lines under a comment, a checksum last. Pure.

The checksum covers every byte above it, so a flipped bit in a port number is damage and not a different port. It is no
protection against an attacker: each process reads files that the user of the other process writes. So they have a narrow
reader, in linear time. `tomllib` needs 26 s for some texts of 64 KiB, with a right checksum; it reads the maker's files only,
which root owns.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from device_ui.storage.sha256 import sha256

Value = str | int | bool
CHECKSUM = "sha256"
# The first character of a value: a string, a number, true, false.
VALUE_STARTS = frozenset('"-0123456789tf')
# The integers that every TOML reader accepts.
INTEGERS = range(-(2**63), 2**63)


def encode(comment: str, values: Mapping[str, Value]) -> bytes:
    """Return the bytes of a file: `comment` (one line), one ``name = value`` a line, the checksum.

    A JSON string is a TOML basic string as long as control characters are escaped, which json.dumps does for all
    but DEL. Strings, whole numbers and booleans are written alike in both.
    """
    lines = [f"# {comment}", *(f"{name} = {literal(value)}" for name, value in values.items())]
    body = ("\n".join(lines) + "\n").encode()
    return body + f'{CHECKSUM} = "{sha256(body).hexdigest()}"\n'.encode()


def decode(raw: bytes) -> dict[str, Value]:
    """Return the values of a file that `encode` wrote. Raises ValueError, with one line, for any other."""
    # The checksum first: a flipped bit is reported as damage, and not as a wrong value.
    body, found = _split(raw)
    if sha256(body).hexdigest() != found:
        raise ValueError("its checksum does not match")
    values = _parsed(body.decode())
    # A correct checksum proves nothing: any user can compute one.
    if values is None:
        raise ValueError("it holds a line that this program does not write")
    if not all(isinstance(value, str) or value in INTEGERS for value in values.values()):
        raise ValueError("it holds a number that is too long")
    return values


def _parsed(text: str) -> dict[str, Value] | None:
    """Return the values of comments and ``name = value`` lines; None if a line is not spelt as `encode` spells it."""
    found: dict[str, Value] = {}
    for line in text.split("\n"):
        name, is_value, value = line.partition(" = ")
        if not line or (line[0] == "#" and line.isprintable()):
            continue
        if not (is_value and _is_name(name) and name not in found and _is_canonical(value)):
            return None
        found[name] = json.loads(value)
    return found


def _is_name(text: str) -> bool:
    return bool(text) and text.isascii() and text.replace("-", "").replace("_", "a").isalnum()


def _is_canonical(text: str) -> bool:
    # Before the parser: an array or object of 64 KiB would be read to its end, only to be refused.
    if text[:1] not in VALUE_STARTS:
        return False
    try:
        value = json.loads(text)
    except ValueError:
        return False
    # One spelling for each value: equal settings are equal bytes, which `storage.files` does not write again.
    return isinstance(value, Value) and literal(value) == text


def literal(value: Value) -> str:
    """Return a value as TOML writes it; a text on one line."""
    # A person who opens the file can read a Korean sender name; TOML forbids DEL in a string as it is.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _split(raw: bytes) -> tuple[bytes, str]:
    if not raw:
        raise ValueError("it is empty")
    # From the end: a value may contain the same text.
    head, mark, tail = raw.rpartition(f'{CHECKSUM} = "'.encode())
    if not mark or not tail.endswith(b'"\n') or not head.endswith(b"\n"):
        raise ValueError("its last line is no checksum")
    return head, tail[:-2].decode("ascii", "replace")
