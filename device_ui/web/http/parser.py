"""Requests read to the letter of RFC 9112: what two readers could understand differently is refused with 400 and a close.

waitress accepts much of what the RFC lets a server forgive, which is how a request is smuggled past a proxy. Here
`RULES` run on every complete header, and `ChunkedBody` on every chunk, before waitress's own parser.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from waitress.parser import HTTPRequestParser, ParsingError
from waitress.receiver import ChunkedReceiver
from waitress.utilities import BadRequest, Error

# Field lines of a header, as of Apache (LimitRequestFields); a browser sends some twenty.
LINES_MAXIMUM = 100
# RFC 9110, 9: the known methods. One that a page does not accept is answered 405, any other 501.
METHODS = frozenset((b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH"))
VERSIONS = (b"HTTP/1.0", b"HTTP/1.1")

# RFC 9110, 5.6.2.
TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
REQUEST_LINE = re.compile(rb"(%s) ([\x21-\x7e]+) ([\x21-\x7e]+)" % TOKEN)
# Blanks around a value are stripped later: a pattern that excludes them takes quadratic time on a line that fails.
FIELD_LINE = re.compile(rb"(%s):([\t\x20-\x7e\x80-\xff]*)" % TOKEN)
# RFC 3986, 3.2.2, without user information, which no request has.
HOST = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z._~%!$&'()*+,;=-]*)(:[0-9]*)?")
ABSOLUTE = re.compile(rb"https?://([^/?]*)([/?].*)?", re.IGNORECASE)
# Fewer digits than overflow 64 bits in a proxy, and than int() takes quadratic time for.
LENGTH = re.compile(rb"[0-9]{1,18}")
# NUL, a bare LF, or a bare CR; a CR at the end may still get its LF.
FORBIDDEN_BYTE = re.compile(rb"\0|\r(?!\n|\Z)|(?<!\r)\n")

# RFC 9112, 7.1: a chunk's size, in at most eight digits, and its extensions.
SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,8})(?:;[\t\x20-\x7e\x80-\xff]*)?")
# RFC 9110, 6.5.1: a trailer must not frame or route a message; another reader might believe it.
FORBIDDEN_TRAILERS = frozenset((b"transfer-encoding", b"content-length", b"host", b"trailer", b"te"))
CHUNK_LINE_MAXIMUM = 1024

SENTENCES = {
    400: ("Bad Request", "This is no request that a browser sends."),
    413: ("Content Too Large", "The form is too large."),
    431: ("Request Header Fields Too Large", "The request's header is too large."),
    500: ("Internal Server Error", "The device had a fault. Its log has the details."),
    501: ("Not Implemented", "The device does not know this method."),
}


class HttpError(Error):  # type: ignore[misc]  # waitress has no types
    """The response to a request that is not read: a status of `SENTENCES` and a sentence without a byte of the request."""

    def __init__(self, code: int, sentence: str = "") -> None:
        self.code = code if code in SENTENCES else 400
        self.reason, usual = SENTENCES[self.code]
        super().__init__(sentence or usual)

    def to_response(self, ident: str | None = None) -> tuple[str, list[tuple[str, str]], bytes]:  # noqa: ARG002
        """Return status, headers and body, as waitress's own errors do."""
        status = f"{self.code} {self.reason}"
        return status, [("Content-Type", "text/plain; charset=UTF-8")], f"{status}\n\n{self.body}\n".encode()


class RequestHead:
    """The three parts of a request line, and the values of all field lines by their names in lower case."""

    def __init__(self, method: bytes, target: bytes, version: bytes, fields: Mapping[bytes, Sequence[bytes]]) -> None:
        self.method, self.target, self.version, self.fields = method, target, version, fields

    def values(self, name: bytes) -> Sequence[bytes]:
        """Return the values of every line of this name."""
        return self.fields.get(name, ())

    @property
    def has_valid_target(self) -> bool:
        """Whether the target has a form allowed for the method (RFC 9112, 3.2.1 to 3.2.4), without a fragment."""
        if self.target == b"*":
            return self.method == b"OPTIONS"
        if b"#" in self.target or self.method == b"CONNECT":
            return False
        return self.target.startswith(b"/") or ABSOLUTE.fullmatch(self.target) is not None

    @property
    def has_two_hosts(self) -> bool:
        """Whether an absolute-form target differs from Host (RFC 9112, 3.2.2)."""
        absolute = ABSOLUTE.fullmatch(self.target)
        return absolute is not None and any(absolute[1].lower() != each.lower() for each in self.values(b"host"))

    @property
    def has_clear_host(self) -> bool:
        """Whether there is one Host, or none in a request of HTTP/1.0."""
        count = len(self.values(b"host"))
        return count == 1 or (count == 0 and self.version == b"HTTP/1.0")


# Condition, status, sentence. In this order: a rule may rely on those above it.
RULES: tuple[tuple[Callable[[RequestHead], object], int, str], ...] = (
    # RFC 9112, 2.3; RFC 9110, 2.5: a browser sends one of these two versions to a server without HTTP/2.
    (lambda head: head.version not in VERSIONS, 400, "The device speaks HTTP/1.1."),
    # RFC 9110, 9.1
    (lambda head: head.method not in METHODS, 501, ""),
    # RFC 6585, 5
    (lambda head: sum(map(len, head.fields.values())) > LINES_MAXIMUM, 431, "The request has too many header lines."),
    # RFC 9112, 3.2: none or two is ambiguous. HTTP/1.0 may omit it; the guard decides what such a request may read.
    (lambda head: not head.has_clear_host, 400, "A request names one host."),
    (lambda head: not all(map(HOST.fullmatch, head.values(b"host"))), 400, "A request names one host."),
    # RFC 9112, 3.2
    (lambda head: not head.has_valid_target, 400, "The request's target is not a path of this device."),
    (lambda head: head.has_two_hosts, 400, "The request names two hosts."),
    # RFC 9112, 6.3: two lengths, equal ones too, or a value that is no length
    (lambda head: len(head.values(b"content-length")) > 1, 400, "The request's length is ambiguous."),
    (
        lambda head: not all(map(LENGTH.fullmatch, head.values(b"content-length"))),
        400,
        "The request's length is not a number.",
    ),
    # RFC 9112, 6.1
    (
        lambda head: head.values(b"transfer-encoding") and head.values(b"content-length"),
        400,
        "The request's length is ambiguous.",
    ),
    (
        lambda head: head.values(b"transfer-encoding") and head.version == b"HTTP/1.0",
        400,
        "The request's length is ambiguous.",
    ),
    # RFC 9112, 6.3 and 7: one coding, which marks its own end
    (
        lambda head: [each.lower() for each in head.values(b"transfer-encoding")] not in ([], [b"chunked"]),
        400,
        "The request's coding is not chunked.",
    ),
)


def has_forbidden_bytes(before: bytes, data: bytes) -> bool:
    """Return whether `data`, the next bytes of a header after `before`, can be part of no header (RFC 9112, 2.2).

    The request is then refused without waiting for the header's end. Only new bytes are searched: a header may arrive
    byte by byte.
    """
    seen = before[-4:]
    raw, end, _ = (seen + data).partition(b"\r\n\r\n")
    if FORBIDDEN_BYTE.search(raw + end, max(0, len(seen) - 1)):
        return True
    # Empty lines before a request are skipped (RFC 9112, 2.2), blanks are not.
    if before[:2] not in (b"", b"\r", b"\r\n"):
        return False
    begun = (before + data).partition(b"\r\n\r\n")[0].lstrip(b"\r\n")
    return begun[:1] in (b" ", b"\t", b"\v", b"\f")


def header_error(header: bytes) -> HttpError | None:
    """Return why a complete header is refused, None when it is sound. Lines end in CRLF."""
    first, *lines = header.rstrip(b"\r\n").split(b"\r\n")
    start = REQUEST_LINE.fullmatch(first)
    if start is None:
        return HttpError(400)
    fields: dict[bytes, list[bytes]] = {}
    for line in lines:
        # No match either for a line folded by a leading blank (obs-fold, RFC 9112, 5.2) or a blank before the colon (5.1).
        found = FIELD_LINE.fullmatch(line)
        if found is None:
            return HttpError(400)
        fields.setdefault(found[1].lower(), []).append(found[2].strip(b" \t"))
    head = RequestHead(start[1], start[2], start[3], fields)
    for is_broken, code, sentence in RULES:
        if is_broken(head):
            return HttpError(code, sentence)
    return None


class ChunkedBody(ChunkedReceiver):  # type: ignore[misc]
    """waitress's receiver of a chunked body with a strict reader: a bare LF, an empty line or a bad trailer is an error.

    A proxy in front that reads one of these differently would see a different end of the body. `part` is the name of the
    next line: ``size``, ``end`` (of the data) or ``trailer``.
    """

    part, held, left = "size", b"", 0

    def received(self, data: bytes) -> int:
        """Take bytes and return how many of them belong to this body."""
        self.held += data
        while self.held and not self.completed and not self.error:
            if not (self._take_data() if self.left else self._take_line()):
                return len(data)
        beyond, self.held = len(self.held), b""
        return len(data) - beyond

    def _take_data(self) -> bool:
        piece, self.held = self.held[: self.left], self.held[self.left :]
        self.buf.append(piece)
        self.left -= len(piece)
        return True

    def _take_line(self) -> bool:
        """Take one line; return False when its end has not arrived."""
        line, end, rest = self.held.partition(b"\r\n")
        if len(line) > CHUNK_LINE_MAXIMUM:
            self.error = BadRequest("")
        elif not end:
            return False
        else:
            self.held = rest
            if not getattr(self, f"_take_{self.part}")(line):
                self.error = BadRequest("")
        return True

    def _take_size(self, line: bytes) -> bool:
        found = SIZE_LINE.fullmatch(line)
        if found:
            self.left = int(found[1], 16)
            self.part = "end" if self.left else "trailer"
        return bool(found)

    def _take_end(self, line: bytes) -> bool:
        self.part = "size"
        return not line

    def _take_trailer(self, line: bytes) -> bool:
        self.completed = not line
        found = FIELD_LINE.fullmatch(line)
        return not line or bool(found and found[1].lower() not in FORBIDDEN_TRAILERS)


class RequestParser(HTTPRequestParser):  # type: ignore[misc]
    """waitress's parser behind `RULES`."""

    path = ""  # for a log line, also when no request line was read
    header_error: HttpError | None = None
    # Of waitress.
    completed: bool
    body_rcv: Any

    def received(self, data: bytes) -> int:
        """Take bytes of the request and return how many of them belong to it."""
        if self.body_rcv is None and not self.completed and has_forbidden_bytes(self.header_plus, data):
            self.error, self.completed = HttpError(400), True
            return len(data)
        consumed = super().received(data)
        if self.completed:
            # waitress would send "100 Continue" for a refused or bodiless request, too, and wait (RFC 9110, 10.1.1).
            self.expect_continue = False
        return int(consumed)

    def parse_header(self, header_plus: bytes) -> None:
        """Read a complete header. Raises `ParsingError`, with the response in `header_error`."""
        if self.header_bytes_received >= self.adj.max_request_header_size:
            super().parse_header(header_plus)  # waitress's placeholder for a header that is too large
            return
        self.header_error = header_error(header_plus)
        if self.header_error:
            raise ParsingError("")
        try:
            super().parse_header(header_plus)
        except ValueError as error:  # of urllib, for brackets that hold no address
            raise ParsingError("") from error
        if self.chunked:
            self.body_rcv = ChunkedBody(self.body_rcv.getbuf())
        options = self.headers.get("CONNECTION", "").split(",")
        if "close" in {each.strip().lower() for each in options}:
            self.headers["CONNECTION"] = "close"  # waitress knows it only as the single option (RFC 9112, 9.3)


def error_response(parser: Any) -> HttpError:
    """Return the response to a request that was refused: ours, or waitress's status with our sentence."""
    if isinstance(parser.error, HttpError):
        return parser.error
    return parser.header_error or HttpError(parser.error.code)
