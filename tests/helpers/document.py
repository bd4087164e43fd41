"""A page as a tree of elements, read with the standard library, and what is wrong with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import urlsplit

from html5lib import HTMLParser as HTMLParser5

VOID = frozenset({"input", "link", "meta", "br", "img", "hr", "source"})
# Elements that HTML does not let stand in a <p> (HTML, 4.4.1).
BLOCKS = frozenset({"p", "div", "ul", "ol", "form", "h1", "h2", "details", "header", "main", "nav"})
URLS = frozenset({"href", "src", "action", "formaction", "srcset", "data", "poster", "cite", "background"})
REFERENCES = ("aria-describedby", "aria-labelledby", "aria-controls", "aria-errormessage")


@dataclass
class Element:
    """One element: its name, attributes, parent and content (texts and elements)."""

    name: str
    attributes: dict[str, str]
    parent: Element | None = None
    content: list[Element | str] = field(default_factory=list)

    def walk(self) -> Iterator[Element]:
        """This element and all in it, in the order of the page."""
        yield self
        for each in self.content:
            if isinstance(each, Element):
                yield from each.walk()

    @property
    def text(self) -> str:
        """All text in it, blanks folded."""
        return " ".join("".join(each if isinstance(each, str) else each.text + " " for each in self.content).split())

    @property
    def own_text(self) -> str:
        """The text that stands in it directly, blanks folded."""
        return " ".join("".join(each for each in self.content if isinstance(each, str)).split())

    def all(self, name: str, /, **attributes: str) -> list[Element]:
        """The elements in it with this name and these attributes."""
        return [each for each in self.walk() if each.name == name and attributes.items() <= each.attributes.items()]

    def by_id(self, name: str) -> Element:
        """The one element with this id."""
        (found,) = [each for each in self.walk() if each.attributes.get("id") == name]
        return found

    def by_class(self, name: str) -> list[Element]:
        """The elements of a class."""
        return [each for each in self.walk() if name in each.attributes.get("class", "").split()]


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = self.open = Element("", {})
        self.wrong: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = Counter(name for name, _ in attrs)
        self.wrong += [f"<{tag}> has {name} twice" for name, count in names.items() if count > 1]
        if tag in BLOCKS and self.open.name == "p":
            self.wrong.append(f"<{tag}> in <p>")
        made = Element(tag, {name: value or "" for name, value in attrs}, self.open)
        self.open.content.append(made)
        if tag not in VOID:
            self.open = made

    def handle_endtag(self, tag: str) -> None:
        if self.open.name != tag or self.open.parent is None:
            self.wrong.append(f"</{tag}> closes <{self.open.name}>")
            return
        self.open = self.open.parent

    def handle_data(self, data: str) -> None:
        self.open.content.append(data)


def read(page: str) -> Element:
    """The page's tree; a page whose tags are not balanced fails the test."""
    reader = _read(page)
    assert not reader.wrong, reader.wrong
    return reader.root


def problems(page: str) -> list[str]:
    """What is wrong with a page: tags, ids, labels, references, inline code, addresses of other hosts."""
    parser = HTMLParser5()
    parser.parse(page)
    reader = _read(page)
    elements = list(reader.root.walk())
    ids = Counter(each.attributes["id"] for each in elements if "id" in each.attributes)
    wrong = [*reader.wrong, *(code for _, code, _ in parser.errors)]
    wrong += [*(f"id {name} is there twice" for name, count in ids.items() if count > 1)]
    if not page.lower().startswith("<!doctype html>"):
        wrong.append("no doctype")
    if [each.attributes.get("lang") for each in reader.root.all("html")] not in (["en"], ["ko"]):
        wrong.append("no language")
    for name in ("title", "main", "h1"):
        if len(reader.root.all(name)) != 1 or not reader.root.all(name)[0].text:
            wrong.append(f"not one {name}")
    labelled = {each.attributes.get("for", "") for each in reader.root.all("label")}
    for each in elements:
        wrong += _wrong_with(each, frozenset(ids), labelled)
    return wrong


def _wrong_with(each: Element, ids: frozenset[str], labelled: set[str]) -> list[str]:
    given = each.attributes
    wrong = [f"{name} on <{each.name}>" for name in given if name.startswith("on") or name == "style"]
    if each.name == "style" or (each.name == "script" and (each.text or "src" not in given)):
        wrong.append(f"inline <{each.name}>")
    for name in REFERENCES:
        wrong += [f"{name} names no id: {one}" for one in given.get(name, "").split() if one not in ids]
    if each.name == "label" and given.get("for") not in ids:
        wrong.append(f"a label for nothing: {given.get('for')}")
    if each.name in ("input", "select", "textarea") and given.get("type") != "hidden":
        wrong += [f"no label: {given.get('name')}"] if given.get("id", "-") not in labelled else []
    for name in URLS & set(given):
        parts = urlsplit(given[name])
        if parts.scheme or parts.netloc:
            wrong.append(f"<{each.name}> leads to another host: {given[name]}")
        if parts.fragment and not parts.path and parts.fragment not in ids:
            wrong.append(f"a link to no id: {given[name]}")
    return wrong


def _read(page: str) -> _Reader:
    reader = _Reader()
    reader.feed(page)
    reader.close()
    if reader.open is not reader.root:
        reader.wrong.append(f"<{reader.open.name}> stays open")
    return reader
