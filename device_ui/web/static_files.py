"""The files of `static/`, and the maker's in their place: read, named by their content and compressed once, at the start.

A page names each file with a part of its hash (`url`), so that a browser keeps it for ever and asks for nothing again;
the plain name works too and is asked for again. Pages themselves are never compressed: their length would tell of what
they hold (BREACH), and they are small.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bottle import HTTPError, HTTPResponse, request

import device_ui

PACKAGE = Path(device_ui.__file__).parent
# In a checkout `static` and `views` stand beside the package, in an installation inside it.
ROOTS = (PACKAGE, PACKAGE.parent)
KINDS = {
    ".css": "text/css; charset=UTF-8",
    ".js": "text/javascript; charset=UTF-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".webp": "image/webp",
}
# An SVG that is opened by itself is a document: it may draw with its own style, and run, load and send nothing.
ALONE = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; sandbox"
# Hexadecimal digits of the SHA-256 in a name: enough that no two versions share one.
HASH_DIGITS = 10
# RFC 8246: not even a reload asks again. A plain name is asked for each time, and answered with 304.
FOR_EVER, ASK_AGAIN = "public, max-age=31536000, immutable", "no-cache"
# Bytes that it must save: the headers that tell of it take some 50.
WORTH_IT = 100
# RFC 1952, without name and time: the same bytes at every start. Files of less than 8 KiB need no larger window, and the
# usual one takes a quarter of a MiB.
LEVEL, WINDOW, MEMORY = 9, 16 + 13, 5


@dataclass(frozen=True)
class Asset:
    """One file: its bytes, the same compressed with gzip (None where that saves nothing), and what names its content."""

    name: str
    plain: bytes
    zipped: bytes | None
    digest: str

    @property
    def unique(self) -> str:
        """The name that no other content has."""
        stem, dot, ending = self.name.rpartition(".")
        return f"{stem}-{self.digest}{dot}{ending}"

    def answer(self, cached: str) -> HTTPResponse:
        """The answer to this request, 304 where the browser has it already."""
        zipped = self.zipped if _takes_gzip(request.environ.get("HTTP_ACCEPT_ENCODING", "")) else None
        # RFC 9110, 8.8.3.3: two codings of one content have two tags.
        tag = f'"{self.digest}-gzip"' if zipped else f'"{self.digest}"'
        headers = {"Cache-Control": cached, "ETag": tag, **({"Vary": "Accept-Encoding"} if self.zipped else {})}
        # Of a 304, too: its headers take the place of those that are kept (RFC 9111, 4.3.4).
        if self.name.endswith(".svg"):
            headers["Content-Security-Policy"] = ALONE
        if _has(tag, request.environ.get("HTTP_IF_NONE_MATCH", "")):
            return HTTPResponse(status=304, headers=headers)
        headers["Content-Type"] = KINDS[Path(self.name).suffix]
        if zipped:
            headers["Content-Encoding"] = "gzip"
        return HTTPResponse(zipped or self.plain, headers=headers)


def find(name: str) -> Path:
    """The folder `static` or `views`."""
    return next(root / name for root in ROOTS if (root / name).is_dir())


def squeezed(script: bytes) -> bytes:
    """A script without its whole-line comments, empty lines and indentation, a fifth of what it takes on the wire.

    No text of ours spans lines (tests/web/test_static_files.py), so that no line is anything else.
    """
    lines = (line.strip() for line in script.splitlines())
    return b"\n".join(line for line in lines if line and not line.startswith(b"//")) + b"\n"


def read(path: Path) -> Asset:
    """A file as it is served from now on."""
    return packed(path.name, squeezed(path.read_bytes()) if path.suffix == ".js" else path.read_bytes())


def packed(name: str, plain: bytes) -> Asset:
    """These bytes, likewise."""
    packer = zlib.compressobj(LEVEL, zlib.DEFLATED, WINDOW, MEMORY)
    zipped = packer.compress(plain) + packer.flush()
    digest = hashlib.sha256(plain).hexdigest()[:HASH_DIGITS]
    return Asset(name, plain, zipped if len(zipped) + WORTH_IT <= len(plain) else None, digest)


def _takes_gzip(accepted: str) -> bool:
    """Whether an Accept-Encoding names gzip, with any weight but 0 (RFC 9110, 12.5.3)."""
    for each in accepted.lower().split(","):
        coding, _, weight = each.partition(";")
        if coding.strip() in ("gzip", "x-gzip"):
            return weight.replace(" ", "").strip("0.") != "q="
    return False


def _has(tag: str, known: str) -> bool:
    """Whether an If-None-Match names this tag (RFC 9110, 13.1.2, weak comparison)."""
    tags = [each.strip().removeprefix("W/") for each in known.split(",")]
    return tag in tags or tags == ["*"]


def _every() -> Mapping[str, Asset]:
    return {path.name: read(path) for path in find("static").iterdir() if path.suffix in KINDS}


ASSETS = _every()


class StaticFiles:
    """The files that the pages of one device load: those of `static/`, with `more` beside them or in their place."""

    def __init__(self, more: Iterable[Asset] = ()) -> None:
        self._named = {**ASSETS, **{each.name: each for each in more}}
        self._unique = {each.unique: each for each in self._named.values()}

    def url(self, name: str) -> str:
        """The path that a page gives for a file."""
        return f"/static/{self._named[name].unique}"

    def serve(self, name: str) -> HTTPResponse:
        """A file, by either name. Raises HTTPError 404."""
        if name in self._unique:
            return self._unique[name].answer(FOR_EVER)
        if name in self._named:
            return self._named[name].answer(ASK_AGAIN)
        raise HTTPError(404)


PLAIN = StaticFiles()
