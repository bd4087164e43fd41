"""Read a catalogue of GNU gettext (``.po``), as a translator's tool writes it.

The file is read as it is and not compiled to ``.mo``: a compiled file would need a build step in the wheel, in ``make
install``, in the Debian package and in a checkout, and each of them could ship one that is out of date. Reading is linear
and takes some 10 ms once a process; only a process that shows a language other than English does it.

Plural forms and contexts (``msgid_plural``, ``msgctxt``) are not supported, since no sentence needs them. As in gettext, an
entry that is ``fuzzy``, obsolete (``#~``) or empty has no translation.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator


def entries(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield each key and its translation, in the order of the file; the first key is ``""``, for the header.

    Raises `ValueError` for a line that does not belong into a catalogue, with its number.
    """
    texts: dict[str, str] = {}
    name, is_fuzzy = "", False
    for number, line in enumerate(lines, 1):
        word, _, quoted = line.strip().partition(" ")
        # A comment ends the entry before it, too: the comments of an entry stand above its msgid.
        is_next = (word == "msgid" or word.startswith("#")) and "msgstr" in texts
        if is_next and not is_fuzzy and texts["msgstr"]:
            yield texts["msgid"], texts["msgstr"]
        if is_next:
            texts, is_fuzzy = {}, False
        if word in ("msgid", "msgstr"):
            name, texts[word] = word, _unquoted(quoted, number)
        elif word.startswith('"') and name:
            texts[name] += _unquoted(line.strip(), number)
        elif word.startswith("#"):
            # A tool marks a guess of its own as fuzzy (gettext manual, "Fuzzy Entries"): it is not shown before a
            # translator has confirmed it. A comment after the mark must not clear it.
            is_fuzzy = (is_fuzzy or (word.startswith("#,") and "fuzzy" in line)) and word != "#~"
        elif word:
            # Not skipped: a catalogue with a lost quote would show English without a word.
            raise ValueError(f"line {number} does not belong into a catalogue")
    # Nothing follows the last entry.
    if texts.get("msgstr") and not is_fuzzy:
        yield texts["msgid"], texts["msgstr"]


def _unquoted(text: str, number: int) -> str:
    # The escapes of C that a catalogue has are those of JSON: \n, \t, \" and \\.
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, str):
        raise ValueError(f"line {number} has no text in quotes")
    return value
