"""The files of `static/` and of the maker's brand: read, made small, named by their content and compressed at the start.

A page names each file with a part of its hash (`url`), so that a browser keeps it for ever without a request; the plain
name works too, with a request each time. Pages are never compressed: the length would reveal what they hold (BREACH).
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bottle import HTTPError, HTTPResponse, request

from device_ui.resources import find

KINDS = {
    ".css": "text/css; charset=UTF-8",
    ".js": "text/javascript; charset=UTF-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".webp": "image/webp",
}
# A picture loads nothing.
NOTHING = "default-src 'none'; frame-ancestors 'none'"
# An SVG that is opened by itself is a document. It may use its own style, but not run a script, load a file or send a form.
ALONE = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; sandbox"
# Hexadecimal digits of the SHA-256 in a name: enough that no two versions share one.
HASH_DIGITS = 10
# RFC 8246: no request, not even at a reload. A plain name is requested each time, and answered with 304.
FOR_EVER, ASK_AGAIN = "public, max-age=31536000, immutable", "no-cache"
# Bytes that compression must save: its header fields take some 50.
WORTH_IT = 100
# RFC 1952, without name and time: the same bytes at every start. Files of less than 8 KiB need no larger window, and the
# usual one takes a quarter of a MiB.
LEVEL, WINDOW, MEMORY = 9, 16 + 13, 5
TEXT_IN_QUOTES = re.compile(rb'("[^"]*")')
# A blank beside a bracket, a semicolon, a comma or a child combinator, or after the colon of a declaration. One before a
# colon separates a descendant (`.list :focus`).
CSS_BLANK = re.compile(rb" ?([{};,>]) ?|(:) ")


@dataclass(frozen=True)
class Asset:
    """One file: its bytes, the same compressed with gzip (None where that saves nothing), and what names its content."""

    name: str
    plain: bytes
    zipped: bytes | None
    digest: str

    @property
    def unique(self) -> str:
        """The name with a part of the content's hash."""
        stem, dot, ending = self.name.rpartition(".")
        return f"{stem}-{self.digest}{dot}{ending}"

    def answer(self, cached: str) -> HTTPResponse:
        """Return the response to this request, 304 where the browser has the content."""
        zipped = self.zipped if _takes_gzip(request.environ.get("HTTP_ACCEPT_ENCODING", "")) else None
        # RFC 9110, 8.8.3.3: two codings of one content have two tags.
        tag = f'"{self.digest}-gzip"' if zipped else f'"{self.digest}"'
        headers = {"Cache-Control": cached, "ETag": tag, **({"Vary": "Accept-Encoding"} if self.zipped else {})}
        # Of a 304, too: its header fields replace the stored ones (RFC 9111, 4.3.4).
        if KINDS[Path(self.name).suffix].startswith("image/"):
            headers["Content-Security-Policy"] = ALONE if self.name.endswith(".svg") else NOTHING
        if _has(tag, request.environ.get("HTTP_IF_NONE_MATCH", "")):
            return HTTPResponse(status=304, headers=headers)
        headers["Content-Type"] = KINDS[Path(self.name).suffix]
        if zipped:
            headers["Content-Encoding"] = "gzip"
        return HTTPResponse(zipped or self.plain, headers=headers)


def minify_js(script: bytes) -> bytes:
    """Return a script without whole-line comments, empty lines and indentation.

    No text in `static/app.js` spans lines (tests/web/test_static_files.py), so that no other line is changed.
    """
    lines = (line.strip() for line in script.splitlines())
    return b"\n".join(line for line in lines if line and not line.startswith(b"//")) + b"\n"


def minify_css(style: bytes) -> bytes:
    """Return a style sheet without comments and needless blanks; texts in quotes stay as they are."""
    parts = TEXT_IN_QUOTES.split(re.sub(rb"/\*.*?\*/", b"", style, flags=re.DOTALL))
    for place in range(0, len(parts), 2):
        parts[place] = CSS_BLANK.sub(lambda match: match[1] or match[2], re.sub(rb"\s+", b" ", parts[place]))
    return b"".join(parts).replace(b";}", b"}").strip()


MINIFIERS = {".js": minify_js, ".css": minify_css}


def read(path: Path) -> Asset:
    """Return a file as it is served, made small if it is a script or a style sheet."""
    raw = path.read_bytes()
    return packed(path.name, MINIFIERS[path.suffix](raw) if path.suffix in MINIFIERS else raw)


def packed(name: str, plain: bytes) -> Asset:
    """Return an asset with these bytes, and compressed if that saves `WORTH_IT` bytes."""
    packer = zlib.compressobj(LEVEL, zlib.DEFLATED, WINDOW, MEMORY)
    zipped = packer.compress(plain) + packer.flush()
    # Of the plain bytes: a different level of compression is the same content.
    digest = hashlib.sha256(plain).hexdigest()[:HASH_DIGITS]
    return Asset(name, plain, zipped if len(zipped) + WORTH_IT <= len(plain) else None, digest)


def _takes_gzip(accepted: str) -> bool:
    """Return whether Accept-Encoding names gzip, with any weight but 0 (RFC 9110, 12.5.3)."""
    for each in accepted.lower().split(","):
        coding, _, weight = each.partition(";")
        if coding.strip() in ("gzip", "x-gzip"):
            # q=0 means "not acceptable", in any number of zeros.
            return weight.replace(" ", "").strip("0.") != "q="
    return False


def _has(tag: str, known: str) -> bool:
    """Return whether If-None-Match names this tag (RFC 9110, 13.1.2, weak comparison)."""
    tags = [each.strip().removeprefix("W/") for each in known.split(",")]
    return tag in tags or tags == ["*"]


# Read once at the import: a file that is replaced during an upgrade must not be served under the hash of the old one.
def _every() -> Mapping[str, Asset]:
    return {path.name: read(path) for path in find("static").iterdir() if path.suffix in KINDS}


ASSETS = _every()


class StaticFiles:
    """The files that the pages of one device load: those of `static/`, and `more` beside or instead of them."""

    def __init__(self, more: Iterable[Asset] = ()) -> None:
        self._named = {**ASSETS, **{each.name: each for each in more}}
        self._unique = {each.unique: each for each in self._named.values()}

    def url(self, name: str) -> str:
        """Return the path of a file for a page."""
        return f"/static/{self._named[name].unique}"

    def serve(self, name: str) -> HTTPResponse:
        """Return a file by either name. Raises HTTPError 404."""
        # The name with the hash changes with the content, so it may be kept for ever; the plain one may not.
        if name in self._unique:
            return self._unique[name].answer(FOR_EVER)
        if name in self._named:
            return self._named[name].answer(ASK_AGAIN)
        raise HTTPError(404)


PLAIN = StaticFiles()
