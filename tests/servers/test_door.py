"""Bytes that no browser sends, and what the door answers: each case names its clause of RFC 9112 or 9110."""

from __future__ import annotations

import contextlib
import re
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from waitress import wasyncore
from waitress.adjustments import Adjustments

from device_ui.web import server
from device_ui.web.http import parser as http_parser
from device_ui.web.http.connection import Limits
from tests.helpers.product import SECONDS, Browser, Product, free_port, listens, raw, readable, wait_for
from tests.web.test_app import HEADERS

HOST = b"Host: 127.0.0.1\r\n"
END = b"Connection: close\r\n\r\n"
FORM = b"Content-Type: application/x-www-form-urlencoded\r\nSec-Fetch-Site: same-origin\r\n"
# What a second reader might take for a request of its own.
SMUGGLED = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"


def get(*lines: bytes, first: bytes = b"GET /login HTTP/1.1") -> bytes:
    """A request of these lines beside Host, that asks for the connection's end."""
    return b"\r\n".join((first, *lines, HOST + END))


def post(*lines: bytes, body: bytes = b"") -> bytes:
    """A sign-out with these lines and this body; it needs no session."""
    return b"\r\n".join((b"POST /logout HTTP/1.1", *lines, FORM + HOST + END)) + body


REFUSED = [
    # Host
    ("9112, 3.2: no Host", b"GET /login HTTP/1.1\r\n" + END, 400),
    ("9112, 3.2: no Host in 1.0", b"GET /login HTTP/1.0\r\n\r\n", 400),
    ("9112, 3.2: two Hosts", get(b"Host: 127.0.0.1"), 400),
    ("9112, 3.2: two different Hosts", get(b"Host: evil.example"), 400),
    ("9112, 3.2: two Hosts, one in capitals", get(b"HOST: evil.example"), 400),
    ("9112, 3.2: Host with user information", b"GET /login HTTP/1.1\r\nHost: a@127.0.0.1\r\n" + END, 400),
    ("9112, 3.2: Host with a path", b"GET /login HTTP/1.1\r\nHost: 127.0.0.1/x\r\n" + END, 400),
    ("9112, 3.2: Host with a list", b"GET /login HTTP/1.1\r\nHost: 127.0.0.1 evil.example\r\n" + END, 400),
    ("9112, 3.2: Host with half a bracket", b"GET /login HTTP/1.1\r\nHost: [::1\r\n" + END, 400),
    ("9110, 7.4: an empty Host", b"GET /login HTTP/1.1\r\nHost:\r\n" + END, 421),
    ("9110, 7.4: a stranger's Host", b"GET /login HTTP/1.1\r\nHost: evil.example\r\n" + END, 421),
    # Length
    ("9112, 6.3: Content-Length without a value", post(b"Content-Length:"), 400),
    ("9112, 6.3: Content-Length twice", post(b"Content-Length: 0", b"Content-Length: 5"), 400),
    ("9112, 6.3: Content-Length twice, equal", post(b"Content-Length: 0", b"Content-Length: 0"), 400),
    ("9112, 6.3: Content-Length as a list", post(b"Content-Length: 0, 0"), 400),
    ("9112, 6.3: Content-Length as a list of different", post(b"Content-Length: 0, 5"), 400),
    ("9112, 6.3: Content-Length with a sign", post(b"Content-Length: +0"), 400),
    ("9112, 6.3: Content-Length below zero", post(b"Content-Length: -1"), 400),
    ("9112, 6.3: Content-Length in hexadecimal", post(b"Content-Length: 0x0"), 400),
    ("9112, 6.3: Content-Length with a blank", post(b"Content-Length: 0 0"), 400),
    ("9112, 6.3: Content-Length with a point", post(b"Content-Length: 0.0"), 400),
    ("9112, 6.3: Content-Length of 5,000 digits", post(b"Content-Length: " + b"1" * 5000), 400),
    ("9112, 6.3: Content-Length in Arabic digits", post("Content-Length: ٠".encode()), 400),
    ("9110, 8.6: Content-Length of a form that is too large", post(b"Content-Length: 65537"), 413),
    ("9110, 15.5.14: Content-Length of 18 digits", post(b"Content-Length: " + b"9" * 18), 413),
    ("9110, 10.1.1: too large, and waiting for 100", post(b"Expect: 100-continue", b"Content-Length: 65537"), 413),
    # Transfer coding
    ("9112, 6.1: both lengths", post(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"), 400),
    ("9112, 6.1: both, coding first", post(b"Transfer-Encoding: chunked", b"Content-Length: 0"), 400),
    ("9112, 6.1: chunked twice", post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"), 400),
    ("9112, 7.1: chunked twice in one line", post(b"Transfer-Encoding: chunked, chunked"), 400),
    ("9112, 6.3: chunked not last", post(b"Transfer-Encoding: chunked, gzip"), 400),
    ("9112, 6.1: a coding before chunked", post(b"Transfer-Encoding: gzip, chunked"), 400),
    ("9112, 6.3: another coding", post(b"Transfer-Encoding: gzip"), 400),
    ("9112, 7: identity", post(b"Transfer-Encoding: identity"), 400),
    ("9112, 7: no coding", post(b"Transfer-Encoding:"), 400),
    ("9112, 7: a comma", post(b"Transfer-Encoding: ,chunked"), 400),
    ("9112, 7: a parameter", post(b"Transfer-Encoding: chunked;q=1"), 400),
    ("9112, 7: a name that only begins so", post(b"Transfer-Encoding: chunkedx"), 400),
    ("9112, 7: quoted", post(b'Transfer-Encoding: "chunked"'), 400),
    ("9112, 5.1: a vertical tab before the coding", post(b"Transfer-Encoding: \x0bchunked"), 400),
    ("9112, 7: a no-break space before the coding", post(b"Transfer-Encoding: \xa0chunked"), 400),
    ("9112, 6.1: chunked in 1.0", post(b"Transfer-Encoding: chunked").replace(b"/1.1", b"/1.0"), 400),
    # Chunks
    ("9112, 7.1: a size that is none", post(b"Transfer-Encoding: chunked", body=b"x\r\n"), 400),
    ("9112, 7.1: a size with a sign", post(b"Transfer-Encoding: chunked", body=b"+0\r\n\r\n"), 400),
    ("9112, 7.1: a size with 0x", post(b"Transfer-Encoding: chunked", body=b"0x0\r\n\r\n"), 400),
    ("9112, 7.1: a size of nine digits", post(b"Transfer-Encoding: chunked", body=b"000000000\r\n\r\n"), 400),
    ("9112, 7.1: an empty line for a size", post(b"Transfer-Encoding: chunked", body=b"\r\n0\r\n\r\n"), 400),
    ("9112, 2.2: a size that ends in a bare LF", post(b"Transfer-Encoding: chunked", body=b"0\n\r\n"), 400),
    ("9112, 7.1: more data than the size", post(b"Transfer-Encoding: chunked", body=b"1\r\nabc\r\n0\r\n\r\n"), 400),
    ("9112, 7.1.1: an extension with a bare LF", post(b"Transfer-Encoding: chunked", body=b"0;a\nb\r\n\r\n"), 400),
    ("9112, 7.1.1: an endless extension", post(b"Transfer-Encoding: chunked", body=b"0;" + b"a" * 1100), 400),
    ("9112, 7.1.2: a trailer that is no field", post(b"Transfer-Encoding: chunked", body=b"0\r\nx\r\n\r\n"), 400),
    (
        "9110, 6.5.1: a length as a trailer",
        post(b"Transfer-Encoding: chunked", body=b"0\r\nContent-Length: 3\r\n\r\n"),
        400,
    ),
    (
        "9110, 6.5.1: a coding as a trailer",
        post(b"Transfer-Encoding: chunked", body=b"0\r\nTransfer-Encoding:\r\n\r\n"),
        400,
    ),
    ("9110, 6.5.1: a host as a trailer", post(b"Transfer-Encoding: chunked", body=b"0\r\nHost: a\r\n\r\n"), 400),
    ("9112, 7.1: chunks that are too much", post(b"Transfer-Encoding: chunked", body=b"10001\r\n" + b"a" * 65537), 413),
    # The request line
    ("9112, 2.3: HTTP/1.2", get(first=b"GET /login HTTP/1.2"), 400),
    ("9112, 2.3: HTTP/2.0", get(first=b"GET /login HTTP/2.0"), 400),
    ("9113, 3.4: the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    ("9112, 2.3: HTTP/0.9", get(first=b"GET /login HTTP/0.9"), 400),
    ("9112, 2.3: HTTP/1.10", get(first=b"GET /login HTTP/1.10"), 400),
    ("9112, 2.3: HTTP/11", get(first=b"GET /login HTTP/11"), 400),
    ("9112, 2.3: a version in small letters", get(first=b"GET /login http/1.1"), 400),
    ("9112, 2.3: another protocol", get(first=b"GET /login SIP/1.1"), 400),
    ("9112, 3: no version", b"GET /login\r\n\r\n", 400),
    ("9112, 3: a blank after the version", get(first=b"GET /login HTTP/1.1 "), 400),
    ("9112, 3: two blanks", get(first=b"GET  /login HTTP/1.1"), 400),
    ("9112, 3: a tab for a blank", get(first=b"GET\t/login HTTP/1.1"), 400),
    ("9112, 3: a blank in the target", get(first=b"GET /log in HTTP/1.1"), 400),
    ("9112, 2.2: a blank before the method", get(first=b" GET /login HTTP/1.1"), 400),
    ("9112, 3.2: a control character in the target", get(first=b"GET /log\x01in HTTP/1.1"), 400),
    ("9112, 3.2: UTF-8 in the target", get(first="GET /lögin HTTP/1.1".encode()), 400),
    ("9112, 3.2.1: a fragment", get(first=b"GET /login#x HTTP/1.1"), 400),
    ("9112, 3.2.1: no slash", get(first=b"GET login HTTP/1.1"), 400),
    ("9112, 3.2.2: absolute-form of another host", get(first=b"GET http://evil.example/login HTTP/1.1"), 400),
    ("9112, 3.2.2: absolute-form of another port", get(first=b"GET http://127.0.0.1:1/login HTTP/1.1"), 400),
    ("9112, 3.2.2: absolute-form of a user", get(first=b"GET http://a@127.0.0.1/login HTTP/1.1"), 400),
    ("9112, 3.2.2: absolute-form of another scheme", get(first=b"GET ftp://127.0.0.1/login HTTP/1.1"), 400),
    (
        "9110, 7.4: absolute-form and Host of a stranger",
        get(first=b"GET http://evil.example/ HTTP/1.1").replace(HOST, b"Host: evil.example\r\n"),
        421,
    ),
    ("9112, 3.2.3: authority-form", get(first=b"GET 127.0.0.1:80 HTTP/1.1"), 400),
    ("9110, 9.3.6: CONNECT", get(first=b"CONNECT 127.0.0.1:80 HTTP/1.1"), 400),
    ("9112, 3.2.4: asterisk-form of GET", get(first=b"GET * HTTP/1.1"), 400),
    ("9110, 9.1: an unknown method", get(first=b"BREW /login HTTP/1.1"), 501),
    ("9110, 9.1: a method in small letters", get(first=b"get /login HTTP/1.1"), 501),
    ("9112, 3.1: a method that is no token", get(first=b"G(T /login HTTP/1.1"), 400),
    ("9110, 2: TLS in the clear", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    # Lines
    ("9112, 2.2: bare LFs", get().replace(b"\r\n", b"\n"), 400),
    ("9112, 2.2: one bare LF", get(b"X: a\nY: b"), 400),
    ("9112, 2.2: a bare LF in the request line", get().replace(b"\r\n", b"\n", 1), 400),
    ("9112, 2.2: a bare CR", get(b"X: a\rY: b"), 400),
    ("9112, 2.2: a bare CR at the line's end", get(b"X: a\r"), 400),
    ("9112, 2.2: a bare CR at the last line's end", get().replace(b"\r\n\r\n", b"\r\r\n\r\n"), 400),
    ("9112, 2.2: a bare CR before an empty line", b"\r\r\n\r\n" + get(), 400),
    ("9110, 5.5: NUL", get(b"X: a\0b"), 400),
    ("9110, 5.5: a control character", get(b"X: a\x01b"), 400),
    ("9110, 5.5: DEL", get(b"X: a\x7fb"), 400),
    ("9112, 5.2: obs-fold", get(b"X: a\r\n b"), 400),
    ("9112, 5.2: obs-fold with a tab", get(b"X: a\r\n\tb"), 400),
    ("9112, 2.2: a blank before the first field", get(b" X: a"), 400),
    ("9112, 5.1: a blank before the colon", get(b"X : a"), 400),
    ("9112, 5.1: a tab before the colon", get(b"X\t: a"), 400),
    ("9112, 5.1: a blank before Content-Length's colon", post(b"Content-Length : 5", body=b"a=bcd"), 400),
    ("9110, 5.1: no name", get(b": a"), 400),
    ("9110, 5.1: no colon", get(b"X"), 400),
    ("9110, 5.1: a name that is no token", get(b"X(y): a"), 400),
    ("9110, 5.1: a name in Korean", get("호스트: a".encode()), 400),
    ("6585, 5: 101 header lines", get(*[b"X: a"] * 99), 431),
    ("6585, 5: a header of 8 KiB", get(b"X: " + b"a" * 8192), 431),
    ("6585, 5: a request line of 8 KiB", get(first=b"GET /" + b"a" * 8192 + b" HTTP/1.1"), 431),
]

SERVED = [
    ("9112, 3.2.1: origin-form", get(), 200),
    ("9112, 3.2.1: with a query", get(first=b"GET /login?a=b&c HTTP/1.1"), 200),
    ("9112, 3.2.2: absolute-form of the own host", get(first=b"GET http://127.0.0.1/login HTTP/1.1"), 200),
    ("9110, 4.2.3: with a scheme in capitals", get(first=b"GET HTTP://127.0.0.1/login HTTP/1.1"), 200),
    ("9112, 3.2.2: without a path", get(first=b"GET http://127.0.0.1 HTTP/1.1"), 303),
    ("9112, 3.2.4: asterisk-form of OPTIONS", get(first=b"OPTIONS * HTTP/1.1"), 204),
    ("9110, 9.3.7: OPTIONS of a page", get(first=b"OPTIONS /login HTTP/1.1"), 204),
    ("9110, 9.3.7: OPTIONS of no page", get(first=b"OPTIONS /nowhere HTTP/1.1"), 404),
    ("9110, 9.3.2: HEAD", get(first=b"HEAD /login HTTP/1.1"), 200),
    ("9110, 15.5.6: TRACE", get(b"Sec-Fetch-Site: same-origin", first=b"TRACE /login HTTP/1.1"), 405),
    ("9110, 15.5.6: DELETE", get(b"Sec-Fetch-Site: same-origin", first=b"DELETE /login HTTP/1.1"), 405),
    ("9112, 2.2: an empty line before the request", b"\r\n" + get(), 200),
    ("9112, 2.2: two empty lines before the request", b"\r\n\r\n" + get(), 200),
    ("9112, 2.3: HTTP/1.0", get(first=b"GET /login HTTP/1.0"), 200),
    ("9110, 5.1: names in any case", get().replace(b"Host", b"hOsT"), 200),
    ("9110, 5.5: a field without a value", get(b"X:"), 200),
    ("9110, 5.5: blanks around a value", get(b"X: \t a \t"), 200),
    ("9110, 5.5: bytes above ASCII", get(b"X: \xff\xfe"), 200),
    ("9112, 6.2: a body", post(b"Content-Length: 5", body=b"a=bcd"), 303),
    ("9112, 6.2: an empty body", post(b"Content-Length: 0"), 303),
    ("9112, 6.3: no body", post(), 303),
    ("9112, 7.1: chunks", post(b"Transfer-Encoding: chunked", body=b"5\r\na=bcd\r\n0\r\n\r\n"), 303),
    ("9112, 7: Chunked", post(b"Transfer-Encoding: Chunked", body=b"0\r\n\r\n"), 303),
    ("9112, 7.1.1: an extension", post(b"Transfer-Encoding: chunked", body=b'5;a="b"\r\na=bcd\r\n0\r\n\r\n'), 303),
    ("9112, 7.1.2: a trailer", post(b"Transfer-Encoding: chunked", body=b"0\r\nX: a\r\n\r\n"), 303),
    ("6585, 5: 100 header lines", get(*[b"X: a"] * 98), 200),
]


@pytest.fixture(scope="module")
def product(tmp_path_factory):
    """The pages of one device that was set up, without a hook."""
    with Product(tmp_path_factory.mktemp("product")) as product:
        product.start_web().logged_in()
        yield product


def status(answer: bytes) -> int:
    """The status of the first answer."""
    return int(answer.split(b" ", 2)[1])


@pytest.mark.parametrize(("request_", "expected"), [each[1:] for each in REFUSED], ids=[each[0] for each in REFUSED])
def test_what_is_ambiguous_is_refused_with_every_header_and_closed(product, request_, expected):
    """It names no software, and repeats nothing that was sent."""
    answer = raw(product.port, request_ + SMUGGLED)
    head, _, text = answer.decode().lower().partition("\r\n\r\n")
    assert status(answer) == expected
    assert "\r\nconnection: close" in head
    assert len(re.findall(rb"HTTP/1\.[01] \d", answer)) == 1
    assert [name for name, value in HEADERS.items() if f"\r\n{name}: {value.lower()}" not in head] == []
    assert [
        word for word in ("waitress", "generated", "python", "bottle", "traceback", "evil", "brew") if word in text
    ] == []


@pytest.mark.parametrize(("request_", "expected"), [each[1:] for each in SERVED], ids=[each[0] for each in SERVED])
def test_what_is_sound_is_served(product, request_, expected):
    assert status(raw(product.port, request_)) == expected


def test_the_cases_are_the_sixty_that_were_promised():
    assert len(REFUSED) >= 60
    assert len({request for _, request, _ in REFUSED}) == len(REFUSED)
    assert [name for name, _, _ in (*REFUSED, *SERVED) if not re.match(r"(9110|9112|9113|6585), [0-9.]+: ", name)] == []


# The same bytes, however they arrive


def parsed(request: bytes, size: int) -> tuple[http_parser.RequestParser, int]:
    """A parser that was given a request in pieces of this size, and how many bytes it took."""
    parser = http_parser.RequestParser(Adjustments(max_request_header_size=8192, max_request_body_size=65537))
    taken = 0
    for at in range(0, len(request), size):
        piece = request[at : at + size]
        while piece and not parser.completed:
            count = parser.received(piece)
            taken, piece = taken + count, piece[count:]
    return parser, taken


@pytest.mark.parametrize("size", [1, 2, 7, 100])
@pytest.mark.parametrize(("name", "request_", "expected"), REFUSED, ids=[each[0] for each in REFUSED])
def test_a_request_in_pieces_is_refused_alike(name, request_, expected, size):
    parser, _ = parsed(request_, size)
    assert parser.completed
    assert (http_parser.answered(parser).code if parser.error else None) == (None if expected == 421 else expected)


@pytest.mark.parametrize("size", [1, 2, 7, 100])
@pytest.mark.parametrize(("name", "request_", "expected"), SERVED, ids=[each[0] for each in SERVED])
def test_a_sound_request_in_pieces_is_taken(name, request_, expected, size):
    request_ = request_.lstrip(b"\r\n")
    parser, taken = parsed(request_, size)
    assert (taken, parser.completed, parser.error) == (len(request_), True, None)


@pytest.mark.parametrize("size", [1, 2, 7, 100])
def test_empty_lines_are_passed_over_however_they_arrive(size):
    """RFC 9112, 2.2: what follows them is looked at by itself, be it a request or none."""
    parser, taken = parsed(b"\r\n\r\n GET / HTTP/1.1\r\n", size)
    assert (taken, parser.completed, parser.error, parser.empty) == (4, True, None, True)
    parser, _ = parsed(b" GET / HTTP/1.1\r\n", size)
    assert http_parser.answered(parser).code == 400


@pytest.mark.parametrize("line", [b"GET /login HTTP/1.1\n", b"GET /login HTTP/1.1\r\nX: a\n", b"\0", b" ", b"a\rb"])
def test_what_can_never_become_a_request_is_refused_before_its_end(product, line):
    assert status(raw(product.port, line)) == 400


def test_100_continue_is_said_only_to_who_may_go_on(product):
    request = post(b"Expect: 100-continue", b"Content-Length: 5", body=b"a=bcd")
    answer = raw(product.port, request)
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 303 ")
    assert b"100 Continue" not in raw(product.port, post(b"Expect: 100-continue", b"Content-Length: 65537"))
    assert b"100 Continue" not in raw(product.port, get(b"Expect: 100-continue"))


def test_close_among_other_options_closes(product):
    answer = raw(product.port, get().replace(b"Connection: close", b"Connection: keep-alive, Close") + SMUGGLED)
    assert len(re.findall(rb"HTTP/1\.1 \d", answer)) == 1


def test_a_405_says_what_is_allowed(product):
    """RFC 9110, 15.5.6: with HEAD, which is answered wherever GET is."""
    answer = raw(product.port, get(b"Sec-Fetch-Site: same-origin", first=b"DELETE /login HTTP/1.1")).decode()
    assert "\r\nAllow: GET, HEAD, OPTIONS, POST\r\n" in answer


@pytest.mark.parametrize(
    ("first", "allowed"),
    [
        (b"OPTIONS * HTTP/1.1", "GET, HEAD, OPTIONS, POST"),
        (b"OPTIONS /login HTTP/1.1", "GET, HEAD, OPTIONS, POST"),
        (b"OPTIONS /health HTTP/1.1", "GET, HEAD, OPTIONS"),
        (b"OPTIONS /logout HTTP/1.1", "OPTIONS, POST"),
    ],
)
def test_options_are_told_without_a_body(product, first, allowed):
    head, _, body = raw(product.port, get(first=first)).decode().partition("\r\n\r\n")
    assert f"\r\nAllow: {allowed}\r\n" in head
    assert body == ""


def test_another_site_learns_nothing_from_options(product):
    answer = raw(product.port, get(b"Origin: http://evil.example", first=b"OPTIONS /smtp HTTP/1.1"))
    assert b"access-control" not in answer.lower()


# Deadlines and room, on a door of this test's own

SHORT = Limits(header=0.4, body=0.4, idle=0.4, linger=0.4, send_grace=0.4, look=0.05)
PATIENT = Limits(look=0.05)
LONG = 64 * 1024 * 1024


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """``/long`` is 64 MiB, ``/fault`` none, ``/wrapper`` tells whether waitress sends files, ``/wait`` comes when the test says so, anything else tells who asked, and how."""
    if environ["PATH_INFO"] == "/long":
        start_response("200 OK", [("Content-Length", str(LONG))])
        return (b"x" * 65536 for _ in range(LONG // 65536))
    if environ["PATH_INFO"] == "/fault":
        raise LookupError("a secret")
    if environ["PATH_INFO"] == "/wait":
        environ["test.gate"].wait(SECONDS)
    told = f"{environ['REMOTE_ADDR']} {environ['wsgi.url_scheme']} {environ.get('HTTP_X_FORWARDED_FOR', '')}"
    if environ["PATH_INFO"] == "/wrapper":
        told = str("wsgi.file_wrapper" in environ)
    start_response("200 OK", [("Content-Length", str(len(told)))])
    return [told.encode()]


class Doors:
    """A door in a thread of this process; `gate` lets ``/wait`` go on."""

    def __init__(
        self, limits: Limits, listen: str = "", trusted_proxy: str = "", handed: Sequence[socket.socket] = ()
    ) -> None:
        self.port, self.gate, self.stopped = free_port(), threading.Event(), threading.Event()
        self.server = server.open_doors(
            lambda environ, start: application({**environ, "test.gate": self.gate}, start),
            listen or f"127.0.0.1:{self.port}",
            handed,
            trusted_proxy,
            limits,
        )
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        while not self.stopped.is_set():
            wasyncore.loop(0.02, use_poll=True, map=self.server.map, count=1)

    def close(self) -> None:
        self.gate.set()
        self.stopped.set()
        self.thread.join(SECONDS)
        assert not self.thread.is_alive()
        self.server.close()

    def connect(self, source: str = "127.0.0.1", received: int = 0) -> socket.socket:
        """A connection, with so large a buffer for what it does not read."""
        sock = socket.socket()
        sock.settimeout(SECONDS)
        if received:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, received)
        sock.bind((source, 0))
        sock.connect(("127.0.0.1", self.port))
        return sock


def until(sock: socket.socket, mark: bytes) -> bytes:
    """What comes up to this mark, or to the end."""
    answer = b""
    while mark not in answer and (chunk := sock.recv(65536)):
        answer += chunk
    return answer


@pytest.fixture
def opened() -> Iterator[Callable[..., Doors]]:
    """Opens doors; they are closed at the end."""
    with contextlib.ExitStack() as stack:

        def begin(*options: Any) -> Doors:
            doors = Doors(*options)
            stack.callback(doors.close)
            return doors

        yield begin


def drips(sock: socket.socket, byte: bytes) -> float:
    """Send a byte every 50 ms; the seconds until the other end closes."""
    begun, waiter = time.monotonic(), threading.Event()
    with sock, contextlib.suppress(OSError):
        while time.monotonic() - begun < SECONDS:
            sock.sendall(byte)
            if readable(sock.fileno(), 0) and not sock.recv(65536):
                break
            waiter.wait(0.05)
    return time.monotonic() - begun


@pytest.mark.parametrize(
    ("begin", "byte"),
    [
        (b"", b"G"),
        (b"", b"\r\n"),
        (b"", b"\r\n\r\n"),
        (b"GET / HTTP/1.1\r\nX: ", b"x"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 65536\r\n\r\n", b"x"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n"),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"\r\n"),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"\r\n\r\n"),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"G"),
    ],
)
def test_whoever_drips_is_closed_at_the_deadline(opened, begin, byte):
    sock = opened(SHORT).connect()
    sock.sendall(begin)
    assert 0.3 <= drips(sock, byte) < 5


def test_a_connection_that_says_nothing_is_closed_at_the_deadline(opened):
    with opened(SHORT).connect() as sock:
        assert sock.recv(1) == b""


def test_a_connection_that_rests_after_an_answer_is_closed_at_the_deadline(opened):
    with opened(SHORT).connect() as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert until(sock, b"127.0.0.1 http ").startswith(b"HTTP/1.1 200 ")
        assert sock.recv(1) == b""


def test_a_page_that_takes_its_time_meets_no_deadline(opened):
    doors = opened(SHORT)
    with doors.connect() as sock:
        sock.sendall(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
        assert not readable(sock.fileno(), 1.2)
        doors.gate.set()
        assert sock.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_the_wall_clock_ends_no_connection(opened, monkeypatch):
    doors = opened(PATIENT)
    with doors.connect() as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n")
        for moment in (4e9, 0.0):
            monkeypatch.setattr(time, "time", lambda moment=moment: moment)
            assert not readable(sock.fileno(), 0.3)
        sock.sendall(b"\r\n")
        assert sock.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_the_wall_clock_keeps_no_connection(opened, monkeypatch):
    monkeypatch.setattr(time, "time", lambda: 0.0)
    with opened(SHORT).connect() as sock:
        assert sock.recv(1) == b""


@pytest.mark.parametrize("byte_a_moment", [False, True])
def test_readers_that_do_not_read_hold_no_thread_for_ever(opened, byte_a_moment):
    doors = opened(SHORT)
    slow = [doors.connect(received=4096) for _ in range(2 * server.THREADS)]
    for sock in slow:
        sock.sendall(b"GET /long HTTP/1.1\r\nHost: a\r\n\r\n")
    wait_for(lambda: all(readable(sock.fileno(), 1) for sock in slow[:4]), what="four answers")
    if byte_a_moment:
        for _ in range(20):
            assert slow[0].recv(1)
    assert raw(doors.port, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").startswith(b"HTTP/1.1 200 ")
    for sock in slow:
        sock.close()


def test_a_reader_that_reads_gets_all_of_a_long_answer(opened):
    with opened(SHORT).connect() as sock:
        sock.sendall(b"GET /long HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        head, _, begin = sock.recv(65536).partition(b"\r\n\r\n")
        rest = sum(len(chunk) for chunk in iter(lambda: sock.recv(65536), b""))
        assert len(begin) + rest == LONG


def channels(doors: Doors) -> list[Any]:
    """The connections that are open now."""
    return [each for each in list(doors.server.map.values()) if hasattr(each, "visitor") and hasattr(each, "phase")]


def test_a_long_answer_waits_for_its_reader_in_little_memory(opened):
    doors = opened(PATIENT)
    with doors.connect(received=4096) as sock:
        sock.sendall(b"GET /long HTTP/1.1\r\nHost: a\r\n\r\n")
        wait_for(
            lambda: [each for each in channels(doors) if each.total_outbufs_len > 256 * 1024], what="a full buffer"
        )
        (channel,) = channels(doors)
        assert not threading.Event().wait(0.3)
        assert channel.total_outbufs_len < 512 * 1024


def test_requests_long_before_their_turn_are_not_kept(opened):
    one = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    answer = raw(opened(PATIENT).port, one * 100)
    # More than wait at once: pages are made while the rest is still read.
    assert 8 <= answer.count(b"HTTP/1.1 200 OK") < 100
    assert answer.count(b"Connection: close") == 1


def test_files_that_nobody_reads_hold_no_descriptors(product):
    """waitress's own way to send a file keeps it open until the slowest reader has it."""
    process = Path(f"/proc/{product.processes['web'].pid}/fd")
    asked = get(first=b"GET /static/app.js HTTP/1.1").replace(b"Connection: close\r\n", b"") * 8
    before = len(list(process.iterdir()))
    with contextlib.ExitStack() as stack:
        for _ in range(10):
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", product.port), SECONDS))
            sock.sendall(asked)
            assert sock.recv(12) == b"HTTP/1.1 200"
        assert len(list(process.iterdir())) <= before + 10 + server.THREADS


def test_a_page_cannot_have_waitress_keep_files_open(opened):
    doors = opened(PATIENT)
    assert told(doors.port, ASK.replace(b"/ ", b"/wrapper ") + b"\r\n") == "False"


def test_a_fault_that_waitress_answers_carries_every_header_and_tells_nothing(opened, caplog):
    head, _, body = raw(opened(PATIENT).port, ASK.replace(b"/ ", b"/fault ") + b"\r\n").decode().partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 500 ")
    assert [name for name, value in HEADERS.items() if f"\r\n{name}: {value}".lower() not in head.lower()] == []
    assert body == "500 Internal Server Error\n\nThe device had a fault. Its log tells more.\n"
    assert "a secret" in caplog.text


def test_an_answer_is_read_by_who_still_sends(product):
    """RFC 9112, 9.6: the door reads on for a moment, or the kernel would take the answer back."""
    with socket.create_connection(("127.0.0.1", product.port), SECONDS) as sock:
        sock.sendall(post(b"Content-Length: 1000000"))
        for _ in range(100):
            sock.sendall(b"a" * 10000)
        assert sock.recv(65536).startswith(b"HTTP/1.1 413 ")


def test_who_goes_on_sending_after_the_end_is_closed(opened):
    sock = opened(SHORT).connect()
    sock.sendall(b"BREW / HTTP/1.1\r\n\r\n")
    assert 0.3 <= drips_on(sock) < 5


def drips_on(sock: socket.socket) -> float:
    """Send until it fails; the seconds that it took."""
    begun, waiter = time.monotonic(), threading.Event()
    with sock, contextlib.suppress(OSError):
        while time.monotonic() - begun < SECONDS:
            sock.sendall(b"x")
            waiter.wait(0.05)
    return time.monotonic() - begun


# Room


def closed(sock: socket.socket) -> bool:
    """Whether the other end has closed."""
    return readable(sock.fileno(), 0.3) and sock.recv(1) == b""


def test_an_address_with_too_many_loses_its_own_oldest(opened):
    doors = opened(replace(PATIENT, connections_each=3))
    with contextlib.ExitStack() as stack:
        other = stack.enter_context(doors.connect("127.0.0.2"))
        own = [stack.enter_context(doors.connect()) for _ in range(4)]
        assert [closed(each) for each in (other, *own)] == [False, True, False, False, False]


def test_when_all_is_full_the_busiest_loses_its_oldest(opened):
    doors = opened(replace(PATIENT, connections=4))
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(doors.connect("127.0.0.2"))
        busiest = [stack.enter_context(doors.connect()) for _ in range(3)]
        newcomer = stack.enter_context(doors.connect("127.0.0.3"))
        assert [closed(each) for each in (first, *busiest, newcomer)] == [False, True, False, False, False]


def test_a_crowd_of_addresses_loses_its_own_oldest_and_not_the_owner(opened):
    doors = opened(replace(PATIENT, connections=4))
    with contextlib.ExitStack() as stack:
        sources = ["127.2.0.1", "127.1.0.1", "127.1.0.2", "127.1.9.1", "127.3.0.1", "127.3.0.2"]
        socks = [stack.enter_context(doors.connect(source)) for source in sources]
        assert [closed(each) for each in socks] == [False, True, True, False, False, False]


def test_nobody_who_is_being_served_has_to_go(opened):
    doors = opened(replace(PATIENT, connections=2))
    with contextlib.ExitStack() as stack:
        served = [stack.enter_context(doors.connect()) for _ in range(2)]
        for sock in served:
            sock.sendall(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
        wait_for(lambda: [each.phase for each in channels(doors)] == ["work", "work"], what="two requests")
        assert closed(stack.enter_context(doors.connect("127.0.0.2")))
        doors.gate.set()
        assert [sock.recv(12) for sock in served] == [b"HTTP/1.1 200"] * 2


def test_without_descriptors_the_owner_still_gets_in(tmp_path):
    with Product(tmp_path) as product:
        product.start_web()
        process = product.processes["web"].pid
        open_now = len(list(Path(f"/proc/{process}/fd").iterdir()))
        resource.prlimit(process, resource.RLIMIT_NOFILE, (open_now + 8, 4096))
        quiet = [socket.create_connection(("127.0.0.1", product.port), SECONDS) for _ in range(30)]

        def answered() -> bool:
            with contextlib.suppress(OSError):
                return Browser(product.port, source="127.0.0.2").get("/static/style.css").status == 200
            return False

        wait_for(answered, 10, "an answer")
        for sock in quiet:
            sock.close()


@pytest.mark.parametrize(("soft", "connections"), [(4096, 100), (100, 100), (164, 100)])
def test_the_limit_of_open_files_is_raised_as_far_as_needed(soft, connections):
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, before[1]))
    try:
        assert server._connections() == connections
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == max(soft, 164)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


# The proxy that ends TLS


def told(where: str | int, request: bytes) -> str:
    """What the application was told of who asked, and how."""
    sock = socket.socket(socket.AF_UNIX) if isinstance(where, str) else socket.socket()
    with sock:
        sock.settimeout(SECONDS)
        sock.connect(where if isinstance(where, str) else ("127.0.0.1", where))
        sock.sendall(request)
        answer = b""
        while chunk := sock.recv(65536):
            answer += chunk
    return answer.decode().partition("\r\n\r\n")[2]


ASK = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
PREFACE = b"PROXY TCP4 192.0.2.7 192.0.2.1 51234 443\r\n"


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (ASK, "unknown http "),
        (ASK + b"X-Forwarded-Proto: https\r\n", "unknown https "),
        (ASK + b"X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\n", "192.0.2.7 https "),
        (ASK + b"X-Forwarded-For: 203.0.113.9, 192.0.2.7\r\n", "192.0.2.7 http "),
        (ASK + b"X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-For: 2001:db8::7\r\n", "2001:db8::7 http "),
        (ASK + b"Forwarded: for=203.0.113.9;proto=https\r\n", "unknown http "),
        (ASK + b"X-Forwarded-For: ::ffff:192.0.2.7\r\n", "192.0.2.7 http "),
        (ASK + b"X-Forwarded-For: 203.0.113.9, evil\r\n", "unknown http "),
        (ASK + b"X-Forwarded-Proto: http, https\r\n", "unknown http "),
        (b"PROXY TCP6 ::ffff:192.0.2.7 ::ffff:192.0.2.1 51234 443\r\n" + ASK, "192.0.2.7 https "),
        (PREFACE + ASK, "192.0.2.7 https "),
        (b"PROXY TCP6 2001:db8::7 2001:db8::1 51234 443\r\n" + ASK, "2001:db8::7 https "),
        (PREFACE + ASK + b"X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: http\r\n", "192.0.2.7 https "),
    ],
)
def test_the_proxy_on_the_unix_socket_tells_who_asks(opened, tmp_path, request_, expected):
    path = str(tmp_path / "web.sock")
    opened(PATIENT, f"unix:{path}")
    assert told(path, request_ + b"\r\n").strip() == expected.strip()


@pytest.mark.parametrize(
    "line",
    [
        PREFACE * 2,
        b"PROXY UNKNOWN\r\n",
        b"PROXY TCP4 evil 192.0.2.1 1 2\r\n",
        b"PROXY TCP4 192.0.2.7.8 192.0.2.1 1 2\r\n",
        b"PROXY TCP4 192.0.2.7 192.0.2.1 1 2\n",
        b"PROXY " + b"x" * 200,
    ],
)
def test_a_line_that_introduces_nobody_is_no_request(opened, tmp_path, line):
    path = str(tmp_path / "web.sock")
    opened(PATIENT, f"unix:{path}")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(SECONDS)
        sock.connect(path)
        sock.sendall(line + ASK + b"\r\n")
        assert sock.recv(65536)[9:12] in (b"400", b"501")


def test_the_introduction_may_come_in_pieces(opened, tmp_path):
    path = str(tmp_path / "web.sock")
    doors = opened(PATIENT, f"unix:{path}")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(SECONDS)
        sock.connect(path)
        for at in range(len(PREFACE)):
            sock.sendall(PREFACE[at : at + 1])
        wait_for(lambda: [each.visitor for each in channels(doors)] == ["192.0.2.7"], what="the introduction")
        sock.sendall(ASK + b"\r\n")
        assert b"192.0.2.7 https " in until(sock, b"https ")


def test_whoever_is_introduced_has_the_room_of_one_address(opened, tmp_path):
    path = str(tmp_path / "web.sock")
    opened(replace(PATIENT, connections_each=2), f"unix:{path}")
    with contextlib.ExitStack() as stack:
        own = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(3)]
        for sock in own:
            sock.connect(path)
            sock.sendall(PREFACE)
        assert [closed(sock) for sock in own] == [True, False, False]


def test_beside_a_unix_socket_an_address_is_not_believed(tmp_path):
    with socket.socket(socket.AF_UNIX) as unix, socket.create_server(("127.0.0.1", 0)) as tcp:
        unix.bind(str(tmp_path / "web.sock"))
        doors = Doors(PATIENT, handed=[unix.dup(), tcp.dup()])
        try:
            believed = ASK + b"X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\n\r\n"
            assert told(str(tmp_path / "web.sock"), believed).strip() == "192.0.2.7 https"
            assert told(tcp.getsockname()[1], believed).strip() == "127.0.0.1 http"
        finally:
            doors.close()


@pytest.mark.parametrize("header", [b"X-Forwarded-For: 192.0.2.7", b"X-Forwarded-Proto: https", b"Forwarded: for=a"])
def test_on_an_address_nobody_is_believed(opened, header):
    assert told(opened(PATIENT).port, ASK + header + b"\r\n\r\n").strip() == "127.0.0.1 http"


def test_on_an_address_nobody_introduces_another(opened):
    assert raw(opened(PATIENT).port, PREFACE + ASK + b"\r\n").startswith(b"HTTP/1.0 400 ")


def test_an_address_that_the_maker_trusts_is_believed(opened):
    believed = ASK + b"X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\n\r\n"
    assert told(opened(PATIENT, "", "127.0.0.1").port, believed).strip() == "192.0.2.7 https"
    assert told(opened(PATIENT, "", "192.0.2.1").port, believed).strip() == "127.0.0.1 http"


def test_what_a_proxy_gets_wrong_is_answered_with_every_header(tmp_path):
    with Product(tmp_path) as product:
        path = str(tmp_path / "web.sock")
        product.spawn("web", "--listen", f"unix:{path}")
        wait_for(lambda: listens(Path(path)), what="the socket")
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(SECONDS)
            sock.connect(path)
            sock.sendall(get(b"X-Forwarded-Proto: gopher\x1b[31m"))
            head = until(sock, b"\r\n\r\n").partition(b"\r\n\r\n")[0].decode().lower()
        assert [name for name, value in HEADERS.items() if f"\r\n{name}: {value.lower()}" not in head] == []


def test_a_proxy_that_the_maker_trusts_has_the_room_of_many(opened):
    doors = opened(replace(PATIENT, connections_each=2), "", "127.0.0.1")
    with contextlib.ExitStack() as stack:
        for _ in range(5):
            stack.enter_context(socket.create_connection(("127.0.0.1", doors.port)))
        wait_for(lambda: len(channels(doors)) == 5, what="five connections")
        assert [each.visitor for each in channels(doors)] == [""] * 5
