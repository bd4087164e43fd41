"""Requests that the parser refuses or accepts, however they are cut into pieces: each case names its clause of an RFC."""

from __future__ import annotations

import re

import pytest
from waitress.adjustments import Adjustments

from device_ui.web.forms import BODY_MAXIMUM
from device_ui.web.http.parser import RequestParser, error_response
from device_ui.web.server import HEADER_MAXIMUM

HOST = b"Host: 127.0.0.1\r\n"
END = b"Connection: close\r\n\r\n"
FORM = b"Content-Type: application/x-www-form-urlencoded\r\nSec-Fetch-Site: same-origin\r\n"


def get(*lines: bytes, first: bytes = b"GET /login HTTP/1.1") -> bytes:
    """A request of these lines beside Host, that asks for the connection's end."""
    return b"\r\n".join((first, *lines, HOST + END))


def post(*lines: bytes, body: bytes = b"") -> bytes:
    """A sign-out with these lines and this body; it needs no session."""
    return b"\r\n".join((b"POST /logout HTTP/1.1", *lines, FORM + HOST + END)) + body


REFUSED = [
    # Host
    ("9112, 3.2: no Host", b"GET /login HTTP/1.1\r\n" + END, 400),
    ("9112, 3.2: two Hosts in 1.0", b"GET /login HTTP/1.0\r\nHost: 127.0.0.1\r\nHost: 127.0.0.1\r\n\r\n", 400),
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


def test_the_cases_are_the_sixty_that_were_promised():
    assert len(REFUSED) >= 60
    assert len({request for _, request, _ in REFUSED}) == len(REFUSED)
    assert [name for name, _, _ in (*REFUSED, *SERVED) if not re.match(r"(9110|9112|9113|6585), [0-9.]+: ", name)] == []


# The same bytes, however they arrive


def parsed(request: bytes, size: int) -> tuple[RequestParser, int]:
    """A parser that was given a request in pieces of this size, and how many bytes it took."""
    parser = RequestParser(Adjustments(max_request_header_size=HEADER_MAXIMUM, max_request_body_size=BODY_MAXIMUM + 1))
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
    assert (error_response(parser).code if parser.error else None) == (None if expected == 421 else expected)


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
    assert error_response(parser).code == 400
