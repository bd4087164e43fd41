"""The text of a document, in TOML or JSON, and the error of one that is not applied. Pure.

device_ui = 1
[smtp]
host = "relay.example.com"
…
[recipients]
"noc@example.com" = "fault"
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from device_ui.errors import DeviceUIError, Message
from device_ui.settings.rules import Invalid
from device_ui.storage import toml_file

Table = Mapping[str, Any]

# The name and the value of the line that identifies a document: without it any TOML file would be an empty document, which is
# applied without a word. A later version may change the meaning of a field.
VERSION_NAME, VERSION = "device_ui", 1
# Bytes; a document with 20 recipients and the longest fields has 8 KiB. `tomllib` takes the square of a text's length.
SIZE_MAXIMUM = 64 * 1024

VERSION_SENTENCE = "A document begins with the line device_ui = 1."
UNKNOWN_SENTENCE = "There is nothing of this name."
TABLE_SENTENCE = "This is a table."
FLAG_SENTENCE = "This is true or false."


class Broken(DeviceUIError):
    """A document with broken fields: `fields` has an `Invalid` for each, by its place, such as ``smtp.port``."""

    def __init__(self, fields: Mapping[str, Invalid]) -> None:
        super().__init__("; ".join(self._lines(fields)))
        self.fields = fields

    @property
    def lines(self) -> list[str]:
        """One line a field: its place, its sentence, its hints."""
        return self._lines(self.fields)

    @staticmethod
    def _lines(fields: Mapping[str, Invalid]) -> list[str]:
        return [f"{place}: {' '.join(map(str, (each.sentence, *each.hints)))}" for place, each in fields.items()]


def read(raw: bytes) -> dict[str, Any]:
    """Return the content of a document. Raises `Broken` for what is neither TOML nor JSON."""
    if len(raw) > SIZE_MAXIMUM:
        raise _unreadable(f"it has more than {SIZE_MAXIMUM} bytes")
    try:
        text = raw.decode()
        content = _json(text) if is_json(raw) else _toml(text)
        # JSON can spell a lone surrogate (RFC 8259, 8.2), which no file in UTF-8 can hold.
        json.dumps(content, ensure_ascii=False, default=str).encode()
    except UnicodeError:
        raise _unreadable("it is not UTF-8") from None
    except RecursionError:
        raise _unreadable("it is nested too deeply") from None
    except ValueError as error:
        raise _unreadable(str(error)) from None
    return content


def is_json(raw: bytes) -> bool:
    """Return whether a text is JSON: no TOML begins with a brace."""
    return raw.lstrip()[:1] == b"{"


def to_toml(content: Table) -> str:
    """Return a document in TOML: the plain values first, then one table for each section."""
    # In TOML a plain value after a table would belong to that table.
    lines = [f"{_key(name)} = {_literal(value)}" for name, value in content.items() if not isinstance(value, Mapping)]
    for name, table in content.items():
        if isinstance(table, Mapping):
            lines += ["", f"[{_key(name)}]"]
            lines += [f"{_key(key)} = {_literal(value)}" for key, value in table.items()]
    return "\n".join(lines) + "\n"


def to_json(content: Table) -> str:
    """Return a document in JSON; characters that are not printable are escapes."""
    # A document may be printed on root's terminal, which obeys control characters.
    text = json.dumps(content, ensure_ascii=False, indent=2)
    return "".join(each if each.isprintable() or each == "\n" else json.dumps(each)[1:-1] for each in text) + "\n"


def _json(text: str) -> dict[str, Any]:
    found = json.loads(text, object_pairs_hook=_unique)
    # `json` also reads a text, a number or a list at the top (RFC 8259, 2).
    if not isinstance(found, dict):
        raise ValueError("it is no object")
    return found


def _unique(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object whose names differ: two readers may choose different ones of two (RFC 8259, 4)."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError("it has a name twice")
        found[name] = value
    return found


def _toml(text: str) -> dict[str, Any]:
    # Imported here: a document in JSON does not need it.
    import tomllib

    return tomllib.loads(text)


def _unreadable(reason: str) -> Broken:
    return Broken({"document": Invalid(Message("It cannot be read: {reason}.", reason=reason))})


def _key(name: str) -> str:
    # TOML 1.0, "Keys": an address has an @, so its key is quoted.
    is_bare = name.isascii() and name.replace("_", "a").replace("-", "a").isalnum()
    return name if is_bare else _literal(name)


def _literal(value: toml_file.Value) -> str:
    text = toml_file.literal(value)
    # \U and not \u: one escape for any character, also beyond U+FFFF (TOML 1.0, "String").
    return "".join(each if each.isprintable() else f"\\U{ord(each):08X}" for each in text)
