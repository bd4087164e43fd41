"""What kind of picture some bytes are, and how large it is drawn: by their first bytes, whatever the file is called. Pure."""

from __future__ import annotations

import re
from typing import NamedTuple

# Pixels of a side: a few bytes of PNG or WebP can stand for more than a phone has memory.
SIDE_MAXIMUM = 4096
# An SVG has a shape and no pixels; this is how high it is drawn, about.
SVG_HEIGHT = 32
# Where the element `svg` of an SVG begins at the latest, in bytes: after the XML declaration, a type and a comment.
SVG_HEAD = 4096
# Possessive: a file of ten comments and no svg is not read in a thousand ways.
SVG_BEGIN = re.compile(rb"(?:\s|<\?xml\b[^>]*>|<!DOCTYPE\b[^>\[]*>|<!--.*?-->)*+(<svg\b[^>]*>)", re.DOTALL)
SVG_NAMESPACE = re.compile(rb"""\bxmlns\s*=\s*["']http://www\.w3\.org/2000/svg["']""")
NUMBER = rb"([0-9]{1,6}(?:\.[0-9]{1,6})?)"
VIEW_BOX = re.compile(rb"""\bviewBox\s*=\s*["']\s*[-0-9.]+[\s,]+[-0-9.]+[\s,]+""" + NUMBER + rb"[\s,]+" + NUMBER)
SIDES = tuple(
    re.compile(rb"(?<![-\w:])" + side + rb"""\s*=\s*["']\s*""" + NUMBER + rb"""(?:px)?\s*["']""")
    for side in (b"width", b"height")
)


class Picture(NamedTuple):
    """The ending that its kind has (``.png``, ``.svg``, ``.webp``), and its size in pixels of CSS."""

    ending: str
    width: int
    height: int


def look(raw: bytes) -> Picture:
    """The kind and the size of a picture. Raises ValueError, with one line, for anything else."""
    if raw.startswith(b"\x89PNG\r\n\x1a\n"):  # W3C PNG, 5.2: the signature, and IHDR first of all
        found = Picture(".png", _big(raw[16:20]), _big(raw[20:24]))
    elif raw[:4] == b"RIFF" and raw[8:12] == b"WEBP":
        found = Picture(".webp", *_webp(raw))
    elif (svg := SVG_BEGIN.match(raw.removeprefix(b"\xef\xbb\xbf")[:SVG_HEAD])) is not None:
        found = Picture(".svg", *_svg(svg[1]))
    else:
        raise ValueError("it is no SVG, PNG or WebP")
    if not (0 < found.width <= SIDE_MAXIMUM and 0 < found.height <= SIDE_MAXIMUM):
        raise ValueError(f"it tells no size from 1 to {SIDE_MAXIMUM} pixels")
    return found


def _webp(raw: bytes) -> tuple[int, int]:
    """RFC 9649, 2.4 to 2.7: the first chunk tells the size, each kind in its own way."""
    if raw[12:16] == b"VP8 " and raw[23:26] == b"\x9d\x01\x2a":
        return _little(raw[26:28]) & 0x3FFF, _little(raw[28:30]) & 0x3FFF
    if raw[12:16] == b"VP8L" and raw[20:21] == b"\x2f" and len(raw) > 25:
        bits = _little(raw[21:25])
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if raw[12:16] == b"VP8X" and len(raw) > 30:
        return _little(raw[24:27]) + 1, _little(raw[27:30]) + 1
    return 0, 0


def _svg(tag: bytes) -> tuple[int, int]:
    """The size of an SVG by its first tag; (0, 0) where that tells none."""
    if not SVG_NAMESPACE.search(tag):
        raise ValueError('its first tag has no xmlns="http://www.w3.org/2000/svg", so that browsers do not draw it')
    box = VIEW_BOX.search(tag)
    sides = [each.search(tag) for each in SIDES]
    told = [each[1] for each in sides if each]
    width, height = map(float, told if len(told) == 2 else box.groups() if box else ("0", "0"))
    return (round(SVG_HEIGHT * width / height), SVG_HEIGHT) if height else (0, 0)


def _big(raw: bytes) -> int:
    return int.from_bytes(raw, "big")


def _little(raw: bytes) -> int:
    return int.from_bytes(raw, "little")
