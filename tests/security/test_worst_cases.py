"""What crosses a boundary is read in linear time: four times the bytes take some four times the work, up to the bound of each.

Work is seconds of this thread on the processor, the least of three: what else the machine does is no part of it. What takes a
twentieth of a second at the bound may take it as it likes.
"""

from __future__ import annotations

import hashlib
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from device_ui.mail import sendmail
from device_ui.mail.ipc import protocol, requests, server
from device_ui.mail.smtp import connection as smtp_connection
from device_ui.mail.smtp import redaction
from device_ui.settings import store
from device_ui.settings.recipients import from_values
from device_ui.storage import files, toml_file
from device_ui.web import client_address, forms
from device_ui.web.auth import device_cookie
from device_ui.web.auth.administrator import Administrator
from device_ui.web.http import parser
from device_ui.web.server import HEADER_MAXIMUM
from tests.helpers.delivery import MEMORY

# How much more work four times the bytes may take: four, and as much again for caches and allocators; the square takes sixteen.
RATIO, FREE_SECONDS = 9.0, 0.05

LINE, FILE, FORM, MAIL = server.LINE_MAXIMUM, files.SIZE_MAXIMUM - 100, forms.BODY_MAXIMUM, sendmail.MESSAGE_MAXIMUM
STORED = 'host = "h"\nport = 25\nsender_name = "x"\naccount = "{}"\nsecurity = "auto"\nsign_in = "provider"\nfrom_address = "{}"\n'


def fill(unit: bytes, size: int) -> bytes:
    """`size` bytes of a unit that repeats."""
    return (unit * (size // len(unit) + 1))[:size]


def signed(body: bytes) -> bytes:
    """A file's body under a checksum that holds, as another user can write it."""
    return body + b'sha256 = "' + hashlib.sha256(body).hexdigest().encode() + b'"\n'


def settings_file(raw: bytes) -> object:
    return store.decode(toml_file.decode(raw))


def recipients_file(raw: bytes) -> object:
    return from_values(toml_file.decode(raw))


def administrator_file(raw: bytes) -> object:
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as name:
        path = Path(name) / "administrator.toml"
        path.write_bytes(raw)
        return Administrator(path).load()


def mail(raw: bytes) -> object:
    return sendmail.as_text(sendmail.parse(raw, sendmail.Call()))


def header_byte_by_byte(raw: bytes) -> None:
    for place in range(len(raw)):
        parser.has_forbidden_bytes(raw[:place], raw[place : place + 1])


def replies(raw: bytes) -> None:
    """A server's answers to EHLO, in the buffer of a socket that is not written to meanwhile."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        sender = threading.Thread(target=send, args=(theirs, raw))
        sender.start()
        connection = smtp_connection.Connection(smtp_connection.Deadline(60))
        connection.attach(ours)
        try:
            connection.ehlo("x")
        finally:
            ours.close()
            sender.join()


def send(sock: socket.socket, raw: bytes) -> None:
    try:
        sock.sendall(raw)
        sock.shutdown(socket.SHUT_WR)
    except OSError:  # enough was said
        pass


Case = tuple[Callable[[bytes], object], Callable[[int], bytes], int]

# Who reads, what is worst for it, and its bound in bytes.
CASES: dict[str, Case] = {
    "hook: nested objects": (protocol.from_json, lambda size: fill(b'{"a":', size), LINE),
    "hook: nested lists": (protocol.from_json, lambda size: fill(b"[", size), LINE),
    "hook: digits": (protocol.from_json, lambda size: b'{"x":' + fill(b"1", size) + b"}", LINE),
    "hook: longest numbers": (protocol.from_json, lambda size: b'{"x":[' + fill(b"1" * 4300 + b",", size) + b"1]}", LINE),
    "hook: a long fraction": (protocol.from_json, lambda size: b'{"x":1.' + fill(b"1", size) + b"}", LINE),
    "hook: names": (
        protocol.from_json,
        lambda size: b"{" + b",".join(b'"%d":1' % each for each in range(size // 10)) + b'"":1}',
        LINE,
    ),
    "hook: words": (protocol.from_words, lambda size: b"event 303 " + fill(b" \xe2\x80\xa8", size), LINE),
    "hook: controls": (lambda raw: requests.clean(raw.decode(), 4000), lambda size: fill(b"\x01\r\n", size), LINE),
    "hook: a time": (lambda raw: requests.parse_time(raw.decode()), lambda size: fill(b"2026-11-23T14:03:22.1", size), LINE),
    "settings: nested": (settings_file, lambda size: signed(b"a" + fill(b".a", size) + b" = 1\n"), FILE),
    "settings: brackets": (settings_file, lambda size: signed(b"a = " + fill(b"[", size) + b"\n"), FILE),
    "settings: names": (
        settings_file,
        lambda size: signed(b"".join(b"%x = 1\n" % each for each in range(size // 10))),
        FILE,
    ),
    "settings: tables": (
        settings_file,
        lambda size: signed(b"".join(b"[a%x]\n" % each for each in range(size // 9))),
        FILE,
    ),
    "settings: account": (
        settings_file,
        lambda size: signed((STORED.format(fill(b"a@b.", size - 500).decode(), "") + 'sealed = "x"\n').encode()),
        FILE,
    ),
    "settings: blanks": (
        settings_file,
        lambda size: signed((STORED.format("a", " " * (size - 500)) + 'sealed = "x"\n').encode()),
        FILE,
    ),
    "settings: sealed": (
        settings_file,
        lambda size: signed((STORED.format("a", "a@b.cc") + f'sealed = "hpke1.{"0" * (size - 500)}"\n').encode()),
        FILE,
    ),
    "recipients: many": (
        recipients_file,
        lambda size: signed(b"".join(b'recipient_%02d = "info a%d@b.cc"\n' % (each, each) for each in range(size // 36))),
        FILE,
    ),
    "recipients: words": (
        recipients_file,
        lambda size: signed(b'recipient_01 = "info ' + fill(b"a ", size - 100) + b'"\n'),
        FILE,
    ),
    "administrator: code": (administrator_file, lambda size: signed(b'code = "' + fill(b"2-", size - 100) + b'"\n'), FILE),
    "form: fields": (forms.read, lambda size: fill(b"a=%41&", size), FORM),
    "form: escapes": (forms.read, lambda size: b"a=" + fill(b"%4", size), FORM),
    "form: letters": (forms.read, lambda size: b"a=" + fill(b"%E3%85%8E", size // 9 * 9), FORM),
    "header: lines": (
        parser.header_error,
        lambda size: b"GET / HTTP/1.1\r\nHost: a\r\n" + fill(b"X:  \t \r\n", size) + b"\r\n",
        HEADER_MAXIMUM,
    ),
    "header: blanks": (
        parser.header_error,
        lambda size: b"GET / HTTP/1.1\r\nHost: a\r\nX: " + fill(b" \t", size) + b"\x00",
        HEADER_MAXIMUM,
    ),
    "header: ends": (
        parser.header_error,
        lambda size: b"GET / HTTP/1.1\r\nHost: a\r\n" + fill(b"X: a\r\n", size - 30) + b"X\x01:" + b"\r\n\r\n",
        HEADER_MAXIMUM,
    ),
    "header: a target": (
        parser.header_error,
        lambda size: b"GET http://" + fill(b"/?", size) + b"\x00 HTTP/1.1\r\nHost: a\r\n\r\n",
        HEADER_MAXIMUM,
    ),
    "header: byte by byte": (header_byte_by_byte, lambda size: b"GET / HTTP/1.1\r\nX: " + fill(b"a", size), HEADER_MAXIMUM),
    "header: forwarded for": (lambda raw: client_address.plain(raw.decode()), lambda size: fill(b"1:", size), HEADER_MAXIMUM),
    "cookie": (lambda raw: device_cookie.TOKEN_PATTERN.fullmatch(raw.decode()), lambda size: fill(b"0", size), HEADER_MAXIMUM),
    "server: lines": (replies, lambda size: b"250-x\r\n" * (size // 7) + b"250 x\r\n", smtp_connection.REPLIES_MAXIMUM - 100),
    "server: mechanisms": (replies, lambda size: b"250-AUTH A\r\n" * (size // 12), smtp_connection.REPLIES_MAXIMUM - 100),
    "server: no end": (replies, lambda size: fill(b"2", size), smtp_connection.REPLIES_MAXIMUM),
    "server: an echo": (
        lambda raw: redaction.sanitize_reply(raw.decode("latin-1"), redaction.pieces(["x" * 256])),
        lambda size: fill(b"x", size),
        smtp_connection.REPLIES_MAXIMUM,
    ),
    "mail: header fields": (mail, lambda size: fill(b"To: a@b\n", size) + b"\nx", MAIL),
    "mail: comments": (mail, lambda size: b"From: " + fill(b"(", size) + b"\n\nx", MAIL),
    "mail: parameters": (mail, lambda size: b"Content-Type: text/plain; " + fill(b"a*0*=x;", size) + b"\n\nx", MAIL),
    "mail: parts": (
        mail,
        lambda size: b"Content-Type: multipart/mixed; boundary=b\n\n" + fill(b"--b\n\nx\n", size),
        MAIL // 4,
    ),
    "mail: nested parts": (
        mail,
        lambda size: fill(b"Content-Type: multipart/mixed; boundary=b\n\n--b\n", size),
        MAIL,
    ),
    "mail: tags": (mail, lambda size: b"Content-Type: text/html\n\n" + fill(b"<a ", size), MAIL),
    "mail: hidden": (mail, lambda size: b"Content-Type: text/html\n\n" + fill(b"<style>", size), MAIL),
    "mail: entities": (mail, lambda size: b"Content-Type: text/html\n\n" + fill(b"&#1", size), MAIL),
}  # fmt: skip


def worked(read: Callable[[bytes], object], raw: bytes, enough: float = 0.0) -> float:
    """Seconds of this thread on the processor, down to `enough`; what the reader raises for such an input is its answer."""
    least = float("inf")
    for _ in range(3):
        begun = time.thread_time()
        try:
            read(raw)
        except Exception:  # a refusal
            pass
        least = min(least, time.thread_time() - begun)
        if least > 1.0 or least <= enough:
            break
    return least


def is_linear(read: Callable[[bytes], object], make: Callable[[int], bytes], bound: int) -> bool:
    most = worked(read, make(bound), FREE_SECONDS)
    return most <= FREE_SECONDS or most <= RATIO * worked(read, make(bound // 4))


@pytest.mark.parametrize("name", CASES)
def test_four_times_the_bytes_take_no_more_than_some_four_times_the_work(name):
    read, make, bound = CASES[name]
    assert is_linear(read, make, bound)


def test_each_case_is_a_whole_input_at_its_bound():
    for name, (_, make, bound) in CASES.items():
        assert 0.8 * bound <= len(make(bound)) <= 1.2 * bound + 100, name


# The measure itself.


def test_a_reader_that_takes_the_square_is_seen():
    def compare_each_line_with_all_before(raw: bytes) -> None:
        seen: list[bytes] = []
        for line in raw.split(b"\n"):
            if line not in seen:
                seen.append(line)

    # Twice the bound, so that the smaller input is measured well on a busy machine.
    assert not is_linear(
        compare_each_line_with_all_before,
        lambda size: b"".join(b"%07d\n" % each for each in range(size // 8)),
        2 * LINE,
    )
