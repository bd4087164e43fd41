"""Which requests are read at all: RFC 9112 without the tolerance that lets two readers see two requests.

waitress forgives much that the RFC lets a server forgive. Here nothing is forgiven: what is ambiguous is answered 400
and the connection closed, before waitress looks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from waitress.parser import HTTPRequestParser, ParsingError
from waitress.utilities import Error

from device_ui.web.http.chunks import TOKEN, Chunks

LINES_MAXIMUM = 100
# RFC 9110, 9: the methods that are known. A known one that a page does not take is answered 405, any other 501.
METHODS = frozenset((b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH"))
VERSIONS = (b"HTTP/1.0", b"HTTP/1.1")

REQUEST_LINE = re.compile(rb"(%s) ([\x21-\x7e]+) ([\x21-\x7e]+)" % TOKEN)
# What is around a value is taken off later: a pattern that does it takes the square of the length where the line is none.
FIELD_LINE = re.compile(rb"(%s):([\t\x20-\x7e\x80-\xff]*)" % TOKEN)
# RFC 3986, 3.2.2, without user information, which no request has.
HOST = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z._~%!$&'()*+,;=-]*)(:[0-9]*)?")
ABSOLUTE = re.compile(rb"https?://([^/?]*)([/?].*)?", re.IGNORECASE)
LENGTH = re.compile(rb"[0-9]{1,18}")
# A bare LF, a bare CR (one that may still get its LF stands last), NUL.
FOREIGN_BYTE = re.compile(rb"\0|\r(?!\n|\Z)|(?<!\r)\n")

SENTENCES = {
    400: ("Bad Request", "This is no request that a browser sends."),
    413: ("Content Too Large", "The form is too large."),
    431: ("Request Header Fields Too Large", "The request's header is too large."),
    500: ("Internal Server Error", "The device had a fault. Its log tells more."),
    501: ("Not Implemented", "The device does not know this method."),
}


class HttpError(Error):  # type: ignore[misc]  # waitress has no types
    """What is answered instead of a page: a status of `SENTENCES`, and a plain sentence that repeats nothing typed."""

    def __init__(self, code: int, sentence: str = "") -> None:
        self.code = code if code in SENTENCES else 400
        self.reason, usual = SENTENCES[self.code]
        super().__init__(sentence or usual)

    def to_response(self, ident: str | None = None) -> tuple[str, list[tuple[str, str]], bytes]:  # noqa: ARG002
        """Status, headers and body, as waitress's own errors tell them."""
        status = f"{self.code} {self.reason}"
        return status, [("Content-Type", "text/plain; charset=UTF-8")], f"{status}\n\n{self.body}\n".encode()


class RequestHead:
    """A request's first line in its three parts, and the values of its field lines by their names in lower case."""

    def __init__(self, method: bytes, target: bytes, version: bytes, fields: Mapping[bytes, Sequence[bytes]]) -> None:
        self.method, self.target, self.version, self.fields = method, target, version, fields

    def values(self, name: bytes) -> Sequence[bytes]:
        """The values of every line of this name."""
        return self.fields.get(name, ())

    @property
    def has_own_form(self) -> bool:
        """Whether the target has the form that its method takes (RFC 9112, 3.2.1 to 3.2.4), without a fragment."""
        if self.target == b"*":
            return self.method == b"OPTIONS"
        if b"#" in self.target or self.method == b"CONNECT":
            return False
        return self.target.startswith(b"/") or ABSOLUTE.fullmatch(self.target) is not None

    @property
    def names_another_host(self) -> bool:
        """Whether an absolute-form names another host than Host (RFC 9112, 3.2.2)."""
        absolute = ABSOLUTE.fullmatch(self.target)
        return absolute is not None and absolute[1].lower() != self.values(b"host")[0].lower()


# When it is so, the answer is this. From above down: a rule may rely on those before it.
RULES: tuple[tuple[Callable[[RequestHead], object], int, str], ...] = (
    # RFC 9112, 2.3; RFC 9110, 2.5: no other version of ours exists, and what calls itself 1.2 was not sent by a browser.
    (lambda head: head.version not in VERSIONS, 400, "The device speaks HTTP/1.1."),
    # RFC 9110, 9.1
    (lambda head: head.method not in METHODS, 501, ""),
    # RFC 6585, 5
    (lambda head: sum(map(len, head.fields.values())) > LINES_MAXIMUM, 431, "The request has too many header lines."),
    # RFC 9112, 3.2: none or two is ambiguous. HTTP/1.0 may leave it out; a device that is guarded by its name may not.
    (lambda head: len(head.values(b"host")) != 1, 400, "A request names one host."),
    (lambda head: not HOST.fullmatch(head.values(b"host")[0]), 400, "A request names one host."),
    # RFC 9112, 3.2
    (lambda head: not head.has_own_form, 400, "The request's target is not a path of this device."),
    (lambda head: head.names_another_host, 400, "The request names two hosts."),
    # RFC 9112, 6.3: two lengths, equal ones too, or a length that is none
    (lambda head: len(head.values(b"content-length")) > 1, 400, "The request's length is ambiguous."),
    (lambda head: not all(map(LENGTH.fullmatch, head.values(b"content-length"))), 400, "The request's length is none."),
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
    # RFC 9112, 6.3 and 7: one coding, which ends by itself
    (
        lambda head: [each.lower() for each in head.values(b"transfer-encoding")] not in ([], [b"chunked"]),
        400,
        "The request's coding is not chunked.",
    ),
)


def foreign(before: bytes, data: bytes) -> bool:
    """Whether `data`, the next bytes of a header after `before`, holds what no line can hold (RFC 9112, 2.2).

    Then nobody needs to wait for the header's end. Only what is new is searched: a header may come byte by byte.
    """
    seen = before[-4:]
    raw, end, _ = (seen + data).partition(b"\r\n\r\n")
    if FOREIGN_BYTE.search(raw + end, max(0, len(seen) - 1)):
        return True
    # Empty lines before a request are passed over, blanks are not; behind two of them another look begins.
    if before[:2] not in (b"", b"\r", b"\r\n"):
        return False
    begun = (before + data).partition(b"\r\n\r\n")[0].lstrip(b"\r\n")
    return begun[:1] in (b" ", b"\t", b"\v", b"\f")


def refusal(header: bytes) -> HttpError | None:
    """Why a complete header is not read on, None when it is sound. Lines end in CRLF."""
    first, *lines = header.rstrip(b"\r\n").split(b"\r\n")
    start = REQUEST_LINE.fullmatch(first)
    # A line that begins with a blank (RFC 9112, 5.2, obs-fold) or has one before the colon (5.1) is none, too.
    if start is None:
        return HttpError(400)
    fields: dict[bytes, list[bytes]] = {}
    for line in lines:
        found = FIELD_LINE.fullmatch(line)
        if found is None:
            return HttpError(400)
        fields.setdefault(found[1].lower(), []).append(found[2].strip(b" \t"))
    head = RequestHead(start[1], start[2], start[3], fields)
    for breaks, code, sentence in RULES:
        if breaks(head):
            return HttpError(code, sentence)
    return None


class RequestParser(HTTPRequestParser):  # type: ignore[misc]
    """waitress's parser behind these rules."""

    path = ""  # told in a log line even when there was none to read
    refused: HttpError | None = None
    # Of waitress.
    completed: bool
    body_rcv: Any

    def received(self, data: bytes) -> int:
        """Take some bytes of the request; how many of them were its own."""
        if self.body_rcv is None and not self.completed and foreign(self.header_plus, data):
            self.error, self.completed = HttpError(400), True
            return len(data)
        consumed = super().received(data)
        if self.completed:
            # waitress would say "100 Continue" to what is refused or has no body, and wait for more (RFC 9110, 10.1.1).
            self.expect_continue = False
        return int(consumed)

    def parse_header(self, header_plus: bytes) -> None:
        """Read a complete header. Raises `ParsingError`, with the answer in `refused`."""
        if self.header_bytes_received >= self.adj.max_request_header_size:
            super().parse_header(header_plus)  # waitress's stand-in for a header that is too large
            return
        self.refused = refusal(header_plus)
        if self.refused:
            raise ParsingError("")
        try:
            super().parse_header(header_plus)
        except ValueError as error:  # urllib's, for brackets that hold no address
            raise ParsingError("") from error
        if self.chunked:
            self.body_rcv = Chunks(self.body_rcv.getbuf())
        told = self.headers.get("CONNECTION")
        if told and "close" in {each.strip().lower() for each in told.split(",")}:
            self.headers["CONNECTION"] = "close"  # waitress knows it only alone (RFC 9112, 9.3)


def answered(parser: Any) -> HttpError:
    """What is answered to a request that was not read: our own reason, or waitress's status in our words."""
    error = parser.error
    if isinstance(error, HttpError):
        return error
    return parser.refused or HttpError(error.code)
