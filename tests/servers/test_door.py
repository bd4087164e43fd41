"""The HTTP listener of a real process: bytes that no browser sends, deadlines, evictions, and proxies in front."""

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

from device_ui.web import server
from device_ui.web.http.connection import Limits
from tests.helpers.product import SECONDS, Browser, Product, free_port, listens, raw, readable, wait_for
from tests.web.http.test_parser import REFUSED, SERVED, get, post
from tests.web.test_app import HEADERS

# What a second reader might take for a request of its own.
SMUGGLED = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"


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

SHORT = Limits(header=0.4, body=0.4, idle=0.4, linger=0.4, send_grace=0.4, check_interval=0.05)
PATIENT = Limits(check_interval=0.05)
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
        self.server = server.open_listeners(
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
    assert 0.3 <= drips(sock, byte) < SECONDS


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
    return [
        each for each in list(doors.server.map.values()) if hasattr(each, "network_keys") and hasattr(each, "phase")
    ]


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
    assert body == "500 Internal Server Error\n\nThe device had a fault. Its log has the details.\n"
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
    assert 0.3 <= drips_on(sock) < SECONDS


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
        assert server.connection_limit() == connections
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
        wait_for(lambda: [each.client for each in channels(doors)] == ["192.0.2.7"], what="the introduction")
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
        assert [each.client for each in channels(doors)] == [""] * 5
