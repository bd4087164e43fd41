"""The sentences of pages and mails in the language of their reader.

English is the key, as in gettext. Errors, the hook's socket and the database carry a text or a `Message`, which is translated
when it is shown. A text that no catalogue has, such as a mail server's answer, stays as it is.

The catalogues are ``*.po`` beside this module; the name of a language is in its header (``X-Language-Name``), so a new file is
a new language. The maker adds the names of his own events, or changes a sentence, in ``ko.toml`` in the etc folder: one
``"English" = "Korean"`` a line.
"""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from device_ui import maker_file
from device_ui.errors import PLACE_PATTERN, MakerFile, Message, Text
from device_ui.i18n import po_file

log = logging.getLogger(__name__)

FOLDER = Path(__file__).parent
ENGLISH = "en"
PLACE = re.compile(PLACE_PATTERN)
NAME = re.compile("^X-Language-Name: (.+)$", re.MULTILINE)


def _name(path: Path) -> str:
    """Return the name by which a language calls itself."""
    with path.open(encoding="utf-8") as lines:
        _, header = next(po_file.entries(lines))
    found = NAME.search(header)
    return found[1] if found else path.stem


# The languages of the pages and mails by their codes (RFC 5646), each with its own name. Only the header of each catalogue is
# read here; its sentences are loaded for a reader of that language.
LANGUAGES = {ENGLISH: "English", **{path.stem: _name(path) for path in sorted(FOLDER.glob("*.po"))}}


class Translator:
    """The sentences of one language; `code` is as in RFC 5646. Calling it translates."""

    def __init__(self, code: str, sentences: Mapping[str, str]) -> None:
        self.code = code
        self._sentences = sentences

    def __call__(self, text: Text, **values: object) -> str:
        """Return a text or a message in this language, with `values` in the places of a text."""
        return Message(text, **values).render(self._translate) if values else self._shown(text)

    def _shown(self, text: Text) -> str:
        return text.render(self._translate) if isinstance(text, Message) else self._translate(text)

    def _translate(self, template: str) -> str:
        return self._sentences.get(template, template)


PLAIN = Translator(ENGLISH, {})


# A process shows few languages, and a catalogue of them takes 10 ms to read.
@functools.cache
def load(code: str, etc: Path | None = None) -> Translator:
    """Return the translator of a language of `LANGUAGES`; the maker's sentences in `etc` replace those of the catalogue.

    Raises `MakerFile`.
    """
    if code == ENGLISH:
        return PLAIN
    with (FOLDER / f"{code}.po").open(encoding="utf-8") as lines:
        _, *sentences = po_file.entries(lines)
    return Translator(code, {**dict(sentences), **(_makers_sentences(etc / f"{code}.toml") if etc else {})})


# Cached with its failure: a wrong file is read and logged once a process, and not with every page.
@functools.cache
def translator_for(code: str, etc: Path | None) -> Translator:
    """Return the translator of a language; without the maker's sentences where his file is wrong, which is logged once."""
    try:
        return load(code, etc)
    except MakerFile as error:
        log.error("maker's sentences not used: %s", error)
        return load(code)


@functools.lru_cache(maxsize=16)  # a browser sends the same header each time
def accepted(header: str, default: str) -> str:
    """Return the first of `LANGUAGES` that an Accept-Language header prefers (RFC 9110, 12.5.4), else `default`."""
    # sorted() is stable: of two languages with the same weight the first one counts.
    ranked = sorted(_ranges(header), key=lambda each: -each[1])
    return next((code for code, weight in ranked if weight > 0 and code in LANGUAGES), default)


def _ranges(header: str) -> Iterable[tuple[str, float]]:
    # A browser's header has some 50 characters; a client may send 8 KiB of them.
    for each in header[:1000].split(","):
        tag, _, weight = each.partition(";")
        # A weight is 0 to 1 with three decimals at most (RFC 9110, 12.4.2). A range with any other parameter is left
        # out.
        match = re.fullmatch(r"\s*q\s*=\s*([01](?:\.[0-9]{0,3})?)\s*", weight) if weight else None
        if not weight or match:
            # The catalogues are for whole languages: "ko-KR" is read as "ko" (RFC 4647, 3.4, lookup).
            yield tag.strip().lower().partition("-")[0], float(match[1]) if match else 1.0


def _makers_sentences(path: Path) -> Mapping[str, str]:
    found = maker_file.load(path) or {}
    for english, translation in found.items():
        # A translation without a place would lose a value; one with a place of its own would show its name to the
        # reader.
        if not isinstance(translation, str) or places(translation) != places(english):
            raise MakerFile(path, f'"{english}" needs a text with the same places in braces')
    return found


def places(text: str) -> set[str]:
    """Return the names of the places in a template."""
    return set(PLACE.findall(text))
