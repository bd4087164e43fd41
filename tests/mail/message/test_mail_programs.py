"""The HTML part without what mail programs drop (caniemail.com; Word's HTML since Outlook 2007; Gmail's CSS rules).

Outlook for Windows drops `max-width`, `border-radius`, `white-space` and the padding of anything but a cell. Gmail drops a
style element that it does not understand, and clips at 102 KB. So nothing that a mail means may rest on them.
"""

from __future__ import annotations

import re
from email import message_from_bytes, policy
from html.parser import HTMLParser

import pytest

from tests.helpers import mails

# What Word's engine takes in a style attribute, and what may be dropped without harm.
KEPT = set(
    "background-color border border-top border-collapse color font-family font-size font-weight line-height margin "
    "padding text-align text-decoration width display".split()
)
DROPPED = set(
    "border-radius max-height max-width mso-hide overflow overflow-wrap table-layout white-space word-break".split()
)
CLIP_BYTES = 102 * 1024
MAILS = mails.every_kind()


def page(raw: bytes) -> str:
    part = message_from_bytes(raw, policy=policy.default).get_body(("html",))
    return part.get_content().replace("\r\n", "\n")  # type: ignore[union-attr]


class Cells(HTMLParser):
    """Every element with its attributes, and the lines of each cell as a program shows them without `white-space`."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.cells: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag == "td":
            self.cells.append("")
        if tag == "br":
            self.cells[-1] += "\n"

    def handle_data(self, data):
        if self.cells:
            self.cells[-1] += re.sub("[ \n]+", " ", data).replace("\xa0", " ")


def declarations(style: str) -> dict[str, str]:
    return {name.strip(): value for name, _, value in (each.partition(":") for each in style.split(";") if each)}


@pytest.fixture(params=MAILS.values(), ids=list(MAILS))
def html(request) -> str:
    return page(request.param)


def test_the_style_element_has_dark_colours_alone(html):
    (style,) = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
    light, _, dark = style.partition("@media (prefers-color-scheme:dark){")
    assert light.strip() == ":root{color-scheme:light dark;supported-color-schemes:light dark}"
    assert set(re.findall(r"([a-z-]+):[^;}]*", dark)) == {"background-color", "border-color", "color"}


def test_every_inline_style_is_one_that_word_takes_or_that_can_be_dropped(html):
    for _, attributes in Cells(html).elements:
        found = declarations(attributes.get("style", ""))
        assert set(found) <= KEPT | DROPPED
        assert not [value for value in found.values() if "url(" in value or "var(" in value or "calc(" in value]
        assert ("background-color" in found) == ("bgcolor" in attributes)


def test_padding_and_fonts_are_those_of_cells(html):
    for tag, attributes in Cells(html).elements:
        found = declarations(attributes.get("style", ""))
        assert tag in ("td", "th", "body") or "padding" not in found
        assert tag in ("td", "th") or "line-height" not in found or tag in ("h1", "h2")
        if "ink" in attributes.get("class", ""):
            assert {"font-family", "font-size", "color"} <= set(found)


def test_nothing_is_loaded_from_anywhere(html):
    tags = {tag for tag, _ in Cells(html).elements}
    assert tags.isdisjoint({"img", "link", "script", "iframe", "video", "svg", "object", "form", "input"})
    assert all(not {"src", "background", "srcset"} & set(attributes) for _, attributes in Cells(html).elements)
    assert set(re.findall(r"https?://[^/\"<]+", html)) <= {"https://nas-office.example.com"}


def test_word_gets_a_width_of_its_own(html):
    """It ignores max-width; the tables of a conditional comment are closed in one."""
    assert html.count("<!--[if mso]>") == 2 == html.count("<![endif]-->")
    inside = re.findall(r"<!--\[if mso\]>(.*?)<!\[endif\]-->", html)
    assert "".join(inside).count("<table") == "".join(inside).count("</table>") == 1


@pytest.mark.parametrize("languages", [("en",), ("ko",), ("en", "ko")])
def test_a_table_keeps_its_columns_without_white_space(languages):
    lines = mails.TABLE.split("\n")
    for raw in (mails.single(*languages, text=mails.TABLE), mails.message(*languages)):
        shown = [line.rstrip() for line in "\n".join(Cells(page(raw)).cells).split("\n")]
        assert [line for line in shown if line in lines] == lines * len(languages)


def test_a_digest_of_a_hundred_events_is_not_clipped():
    raw = mails.digest("en", codes=["303"] * 100)
    assert 30_000 < len(page(raw)) < CLIP_BYTES


def test_english_raw_lines_are_ascii(html):
    """So that English is quoted-printable and can be searched in the raw mail."""
    assert html.isascii() or 'lang="ko"' in html
