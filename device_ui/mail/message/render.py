"""Write what a mail says as its text part and as its HTML part. Pure, but for the template, which is read once.

The template is ``views/mail.html``. It is filled by `string.Template`, which the mail hook has loaded already: bottle's
templates would add 1.5 MiB and 75 ms to the process that mails an event.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import Template
from typing import NamedTuple

from device_ui.i18n.translator import LANGUAGES, Translator
from device_ui.resources import find

# The bar of each tone, with 4.5:1 at least for its white words (WCAG 2.2, 1.4.3).
COLOURS = {"fault": "#b42318", "info": "#475467", "test": "#175cd3"}
BLOCK = re.compile(r"^=== (\w+)\n", re.MULTILINE)
# A blank that a program without `white-space` would drop: before a blank, or at the begin of a line.
BLANK = re.compile(r" (?= )|^ ", re.MULTILINE)
# Characters of the preview; programs show 150 at most.
PREVIEW_MAXIMUM = 200
# What `html.escape` replaces; the module `html` has half a MiB of names that no mail needs.
ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#x27;"})
# Characters of what happened that are large.
LARGE_MAXIMUM = 160


class Row(NamedTuple):
    """A row of the table below a mail; `url` is the page that the value leads to."""

    label: str
    value: str
    url: str = ""


Rows = Sequence[Row]


@dataclass(frozen=True)
class Entry:
    """One event of a digest: number, time and source in one line, and its text."""

    head: str
    text: str


@dataclass(frozen=True)
class Group:
    """The events of one code in a digest: the code's name, how many and when, those that are listed, and how many are not.

    `url` is the page of the code.
    """

    name: str
    summary: str
    entries: Sequence[Entry] = ()
    more: str = ""
    url: str = ""


@dataclass(frozen=True)
class Section:
    """What a mail says in the language of `words`, in the order in which it is read.

    `tone` is a key of `COLOURS`, and `label` says the same in words. `headline` is what happened, in one line; `layout` are
    lines whose blanks count. `link` is its text and its address.
    """

    words: Translator
    tone: str
    label: str
    device: str
    time: str = ""
    headline: str = ""
    layout: str = ""
    name: str = ""
    paragraphs: Sequence[str] = ()
    groups: Sequence[Group] = ()
    link: tuple[str, str] | None = None
    rows: Rows = ()


def one_line(text: str, maximum: int) -> str:
    """Return a text on one line, cut to this number of characters."""
    line = " ".join(text.split())
    return line if len(line) <= maximum else line[: maximum - 3].rstrip() + "..."


def as_text(sections: Sequence[Section]) -> str:
    """Return the text part: ASCII where the sections are, and columns by the cells that a terminal gives a character."""
    first = sections[0].words.code
    marked, texts = {first}, []
    for section in sections:
        if section.words.code not in marked:
            marked.add(section.words.code)
            texts.append(f"--- {LANGUAGES[section.words.code]} ---\n")
        texts.append(_text(section))
    return "\n".join(texts)


def as_html(title: str, sections: Sequence[Section]) -> str:
    """Return the HTML part."""
    first = sections[0]
    return _filled(
        "page",
        language=first.words.code,
        title=escaped(title),
        preview=escaped(preview(first)),
        sections="".join(map(_html, sections)),
    )


def preview(section: Section) -> str:
    """Return what a list of mails shows beside the subject: what happened, where, and the description."""
    texts = [entry.text for group in section.groups for entry in group.entries]
    happened = [section.headline, section.layout, *texts[:5]]
    shown = [*happened, section.device, section.name, *section.paragraphs]
    return one_line(" - ".join(filter(None, shown)), PREVIEW_MAXIMUM)


def _text(section: Section) -> str:
    blocks = [" - ".join(filter(None, (section.label, section.device, section.time)))]
    blocks += [each for each in (section.headline, section.layout) if each]
    # After the description of the code and not in the row that the HTML part links: the row is indented, and a narrow program would
    # break the address, which then leads nowhere.
    description, others, urls = section.paragraphs[:1], section.paragraphs[1:], [row.url for row in section.rows]
    blocks += ["\n".join(filter(None, (section.name, *description, *urls, *others)))]
    blocks += map(_group_text, section.groups)
    blocks += [":\n".join(section.link) if section.link else "", _columns(section.rows)]
    return "\n\n".join(filter(None, blocks)) + "\n"


def _group_text(group: Group) -> str:
    lines = [*filter(None, (group.name, group.summary, group.url))]
    for entry in group.entries:
        lines += [entry.head, *([_indented(entry.text, 4)] if entry.text else [])]
    return "\n".join([*lines, *([group.more] if group.more else [])])


def _indented(text: str, width: int) -> str:
    # A further line of a text is indented, so that it cannot look like a row of the table.
    blanks = " " * width
    return blanks + text.replace("\n", "\n" + blanks)


def _columns(rows: Rows) -> str:
    width = max((_cells(row.label) for row in rows), default=0) + 2
    return "\n".join(
        f"{row.label}:{' ' * (width - 1 - _cells(row.label))}" + row.value.replace("\n", "\n" + " " * width)
        for row in rows
    )


def _cells(text: str) -> int:
    """Return how many cells of a terminal a text takes (Unicode, UAX 11)."""
    return sum(2 if unicodedata.east_asian_width(each) in "WF" else 1 for each in text)


def _html(section: Section) -> str:
    # Blanks and no sign between device and time: on a phone the time is in a line of its own, and a sign would be left over.
    time = f'&nbsp;&nbsp; <span style="white-space:nowrap">{escaped(section.time)}</span>' if section.time else ""
    content = [
        *_some("headline" if len(section.headline) <= LARGE_MAXIMUM else "paragraph", section.headline),
        *_some("layout", section.layout),
        *_some("name", section.name),
        *(_filled("paragraph", text=escaped(each)) for each in section.paragraphs),
        *map(_group_html, section.groups),
        *([_filled("button", text=escaped(section.link[0]), url=escaped(section.link[1]))] if section.link else []),
        *([_filled("table", rows="".join(map(_row, section.rows)))] if section.rows else []),
    ]
    return _filled(
        "section",
        language=section.words.code,
        colour=COLOURS[section.tone],
        label=escaped(section.label),
        place=escaped(section.device) + time,
        content="".join(content),
    )


def _group_html(group: Group) -> str:
    parts = [_filled("group", name=_linked(escaped(group.name), group.url), summary=escaped(group.summary))]
    for entry in group.entries:
        block = "entry_layout" if "\n" in entry.text else "entry"
        parts.append(_filled(block, head=escaped(entry.head), text=laid_out(entry.text)))
    return "".join([*parts, *([_filled("entry", head=escaped(group.more), text="")] if group.more else [])])


def _row(row: Row) -> str:
    return _filled("row", label=escaped(row.label), value=_linked(laid_out(row.value), row.url))


def _linked(shown: str, url: str) -> str:
    """Return HTML as a link, in the colour of the text around it: a program's own blue is too dark on a dark card."""
    return f'<a href="{escaped(url)}" style="color:inherit">{shown}</a>' if url else shown


def escaped(text: str) -> str:
    """Return the text as HTML, also for an attribute."""
    return text.translate(ESCAPES)


def laid_out(text: str) -> str:
    """Return a text as HTML that keeps its lines and its blanks in programs without `white-space`, too."""
    # Escaped first: the only markup in a value is ours.
    return BLANK.sub("&nbsp;", escaped(text)).replace("\n", "<br>")


def _some(block: str, text: str) -> list[str]:
    return [_filled(block, text=laid_out(text))] if text else []


def _filled(block: str, **values: str) -> str:
    """Return a block; a value is put in once and never searched for places."""
    return _blocks()[block].substitute(values)


@functools.cache
def _blocks() -> Mapping[str, Template]:
    _, *parts = BLOCK.split((find("views") / "mail.html").read_text(encoding="utf-8"))
    return {name: Template(text.strip("\n") + "\n") for name, text in zip(parts[::2], parts[1::2], strict=True)}
