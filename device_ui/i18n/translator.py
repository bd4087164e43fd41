"""The words of a page or a mail in the language of whoever reads it.

English is the key. It is what travels: in errors, over the hook's socket, in the ledger, to the console and the log.
Whoever shows it looks the sentence up at the last moment, so nothing beneath a page or a mail knows of languages, and a
reader of English costs neither time nor memory. A sentence that comes with its values in it already is recognised by what
stands between them. What is not found, such as the words of a mail server, stays as it is.

A maker adds the names of his own events, or changes a sentence, in ``ko.toml`` in the etc folder: one ``"English" =
"Korean"`` a line. Pure but for `load`.
"""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from device_ui.errors import MakerFile

log = logging.getLogger(__name__)

# What the device speaks, and what each calls itself.
LANGUAGES = {"en": "English", "ko": "한국어"}
ENGLISH = "en"
PLACE = re.compile(r"\{([A-Za-z_]*)\}")
# What says less of itself is recognised in nothing: " to " stands in half of all that mail servers say.
WEIGHT_MINIMUM = 6
# A value that is a sentence of ours may hold values that are, too; ours go two levels down. What goes on beyond that was made
# up by a stranger: "x is damaged: x is damaged: …".
LEVELS = 3
# A mail server's answer (RFC 5321, 4.2), which is told as it came.
ANSWER = re.compile(r"[2-5][0-9]{2}[ -]")
# Values that are sentences of ours again, and so are looked up, too; every other one is somebody else's.
OURS = frozenset({"reason", "step", "names", "problem", "told", "name", "lowest", "reply", "error", "counts", "when"})


class Translator:
    """The sentences of one language, by the English ones; `code` is as in RFC 5646."""

    def __init__(self, code: str, sentences: Mapping[str, str]) -> None:
        self.code = code
        self._sentences = sentences
        moulds = (_Mould(english, told) for english, told in sentences.items() if PLACE.search(english))
        # What says the most of itself first: "{host} does not answer at port {port}: …" before "{host} port {port}".
        self._moulds = sorted((each for each in moulds if each.weight >= WEIGHT_MINIMUM), key=lambda each: -each.weight)

    def __call__(self, english: str, **values: object) -> str:
        """The sentence in this language. With `values` it is formatted; without, it may hold its values already."""
        if values:
            return self._sentences.get(english, english).format_map(values)
        return self._told(english, LEVELS) if self._sentences else english

    def lines(self, english: str) -> str:
        """A text of several lines, each a sentence of its own."""
        return "\n".join(map(self, english.split("\n")))

    def _told(self, english: str, levels: int) -> str:
        """The sentence, which stands within others if fewer than `LEVELS` are left."""
        known = self._sentences.get(english)
        if known or not levels:
            return known or english
        return self._recognised(english, levels - 1) or self._begun(english, levels) or english

    def _begun(self, english: str, levels: int) -> str:
        """The reason that an error gives, which stands here as a sentence: with a capital letter and a full stop."""
        reason = english[:1].lower() + english[1:-1]
        told = self._told(reason, levels) if english[:1].isupper() and english.endswith(".") else reason
        return f"{told}." if told != reason else ""

    def _recognised(self, english: str, levels: int) -> str:
        if ANSWER.match(english):
            return ""
        is_sentence = english.endswith(".")
        for mould in self._moulds:
            found = None if is_sentence and mould.is_reason else mould.values(english)
            if found is not None:
                told = {name: self._told(value, levels) if name in OURS else value for name, value in found.items()}
                return mould.told.format_map(told)
        return ""


class _Mould:
    """An English sentence with places for values, and what it is called in the other language."""

    def __init__(self, english: str, told: str) -> None:
        self.told = told
        self._parts = PLACE.split(english)[::2]
        self._names = PLACE.findall(english)
        self.weight = sum(map(len, self._parts))
        # What an error says, as it stands within a sentence: no capital letter, no full stop.
        self.is_reason = not english[0].isupper() and not english.endswith(".")

    def values(self, text: str) -> dict[str, str] | None:
        """The values of a text that was made of this sentence, else None. Each part is looked for once: no text, a
        mail server's of some kilobytes, say, takes longer than its length."""
        first, *middle, last = self._parts
        if not (text.startswith(first) and text.endswith(last) and len(text) >= self.weight):
            return None
        place, end, found = len(first), len(text) - len(last), []
        for part in middle:
            at = text.find(part, place, end)
            if at < 0:
                return None
            found.append(text[place:at])
            place = at + len(part)
        return dict(zip(self._names, [*found, text[place:end]], strict=True))


PLAIN = Translator(ENGLISH, {})


@functools.cache
def load(code: str, etc: Path | None = None) -> Translator:
    """The words of a language of `LANGUAGES`, the maker's in `etc` above ours. Raises `MakerFile` for a wrong file."""
    if code == ENGLISH:
        return PLAIN
    return Translator(code, {**_READ[code](), **(_of_the_maker(etc / f"{code}.toml") if etc else {})})


@functools.cache
def spoken(code: str, etc: Path | None) -> Translator:
    """The words of a language, without the maker's where his file is wrong: that is in the log, once a process."""
    try:
        return load(code, etc)
    except MakerFile as error:
        log.error("the maker's words are not used: %s", error)
        return load(code)


def _korean() -> Mapping[str, str]:
    from device_ui.i18n.ko import SENTENCES

    return SENTENCES


# Each file is loaded when its language is first asked for.
_READ = {"ko": _korean}


@functools.lru_cache(maxsize=16)  # a browser says the same each time
def accepted(header: str, default: str) -> str:
    """The first of `LANGUAGES` that an Accept-Language prefers (RFC 9110, 12.5.4), else `default`."""
    ranked = sorted(_ranges(header), key=lambda each: -each[1])
    return next((code for code, weight in ranked if weight > 0 and code in LANGUAGES), default)


def _ranges(header: str) -> Iterable[tuple[str, float]]:
    for each in header[:1000].split(","):
        tag, _, weight = each.partition(";")
        match = re.fullmatch(r"\s*q\s*=\s*([01](?:\.[0-9]{0,3})?)\s*", weight) if weight else None
        if not weight or match:
            yield tag.strip().lower().partition("-")[0], float(match[1]) if match else 1.0


def _of_the_maker(path: Path) -> Mapping[str, str]:
    # Imported here: most devices have no such file.
    from device_ui.storage.toml_file import tables

    try:
        found = tables(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise MakerFile(path, str(error)) from error
    for english, told in found.items():
        places = _places(english)
        is_right = isinstance(told, str) and _places(told) == places
        # A name of the maker's may hold braces that are none of ours, as long as nothing will ever be put into it.
        if not is_right or (places is None and PLACE.search(english)):
            raise MakerFile(path, f'"{english}" needs a text with the same places in braces')
    return found


def _places(text: str) -> list[str] | None:
    """The names of the places in a text, if `str.format_map` sees the very ones that a `_Mould` does; else None."""
    # Imported here, likewise.
    import string

    try:
        found = [each for each in string.Formatter().parse(text) if each[1] is not None]
    except ValueError:  # a brace that stands alone
        return None
    names = sorted(str(name) for _, name, _, _ in found)
    is_plain = all(name and not form for _, name, form, _ in found)
    return names if is_plain and names == sorted(PLACE.findall(text)) else None
