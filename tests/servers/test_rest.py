"""Nobody logged in, no mail waiting: no process. Whoever comes, at whatever instant, finds the pages and the hook."""

from __future__ import annotations

import contextlib
import http.client
import random
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from device_ui.config import Device
from device_ui.web import app, server
from device_ui.web.http.connection import Channel, Limits
from tests.helpers.product import ADMIN_PASSWORD, SECONDS, Browser, Product, choose_password, free_port, raw, wait_for
from tests.servers.activation import Activated
from tests.web.auth.test_sessions import Clock

WEB = """
import logging
from device_ui.config import Device, Folders
from device_ui.web import server
logging.basicConfig(level=logging.INFO)
server.serve(Device.load(Folders.find(None, os.environ)), "", idle_seconds={seconds})
"""
HOOK = """
import logging
from device_ui.config import Device, Folders
from device_ui.mail.daemon import Daemon
logging.basicConfig(level=logging.INFO)
Daemon(Device.load(Folders.find(None, os.environ)), idle_seconds={seconds}).run()
"""
GET = b"GET /login HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"


@pytest.fixture
def resting(product: Product) -> Iterator[Callable[[float], Activated]]:
    """Hands the pages their socket; they rest after so many seconds."""
    with contextlib.ExitStack() as stack:

        def begin(seconds: float) -> Activated:
            listener = socket.create_server(("127.0.0.1", product.port))
            code = WEB.format(seconds=seconds)
            return stack.enter_context(Activated(listener, code, product.environment, product.folder / "web.log"))

        yield begin


@pytest.fixture
def set_up(product: Product) -> Product:
    """A device that has its password."""
    choose_password(product.folders.administrator)
    return product


def is_gone(activated: Activated, times: int = 1) -> Callable[[], bool]:
    """Whether the process has ended so often, and none is running."""
    return lambda: len(activated.codes) >= times and activated.process is None


def test_no_process_is_left_and_a_request_and_an_event_bring_both_back(set_up, resting):
    product = set_up.maker("[mail]\ndigest_window = 0\n")
    product.folders.run.mkdir()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(product.folders.socket))
    listener.listen(8)
    web = resting(0.3)
    with Activated(listener, HOOK.format(seconds=0.3), product.environment, product.folder / "hook.log") as hook:
        for times in (1, 2):
            assert Browser(product.port).get("/login").status == 200
            assert product.event("153") == times
            wait_for(is_gone(web, times), what="the pages' rest")
            wait_for(is_gone(hook, times), what="the hook's rest")
    assert (web.codes, hook.codes) == ([0, 0], [0, 0])
    assert web.log.count("idle, exiting; the next connection starts the pages again") == 2


def test_while_somebody_is_logged_in_the_pages_stay(set_up, resting):
    web = resting(0.1)
    browser = Browser(set_up.port)
    assert browser.post("/login", password=ADMIN_PASSWORD).status == 303
    process = web.process
    with pytest.raises(AssertionError):
        wait_for(is_gone(web), 1)
    assert browser.get("/smtp").status == 200
    assert web.process is process
    browser.post("/logout")
    wait_for(is_gone(web), what="the pages' rest")


def test_while_somebody_is_connected_the_pages_stay(set_up, resting):
    web = resting(0.1)
    with socket.create_connection(("127.0.0.1", set_up.port), SECONDS) as sock:
        sock.sendall(GET[:-2])
        with pytest.raises(AssertionError):
            wait_for(is_gone(web), 1)
        sock.sendall(b"\r\n")
        assert sock.recv(12) == b"HTTP/1.1 200"
    wait_for(is_gone(web), what="the pages' rest")


def test_whoever_comes_at_the_moment_of_rest_is_answered(set_up, resting):
    """Again and again at about the moment when they rest: not one request is lost."""
    web, chance = resting(0.02), random.Random(5)
    while len(web.codes) < 5:
        assert raw(set_up.port, GET).startswith(b"HTTP/1.1 200 ")
        with contextlib.suppress(AssertionError):
            wait_for(is_gone(web, len(web.codes) + 1), chance.uniform(0, 0.12))
    assert set(web.codes) == {0}
    assert "Traceback" not in web.log


def test_whoever_comes_after_the_last_look_waits_in_the_queue():
    """The instant itself: the decision is made, and only then the request comes."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as visitor:
        doors = server.open_listeners(lambda *_: pytest.fail("taken in"), "", [listener.dup()])

        def may_rest() -> bool:
            visitor.connect(listener.getsockname())
            visitor.sendall(GET)
            return True

        doors.exit_when_idle(0, may_rest)
        assert doors.run()
        taken, _ = listener.accept()
        with taken:
            assert taken.recv(4096) == GET


def test_what_is_being_done_for_somebody_who_has_gone_is_finished():
    steps: list[str] = []
    begun, gone = threading.Event(), threading.Event()

    def application(_, start_response):
        start_response("200 OK", [])
        begun.set()
        gone.wait(SECONDS)
        try:
            yield b"x" * 100_000
        finally:  # the write itself may find that the client has gone
            wait_for(lambda: not [each for each in list(doors.map.values()) if isinstance(each, Channel)])
            steps.append("done")

    def visit() -> None:
        with socket.create_connection(listener.getsockname()) as visitor:
            visitor.sendall(GET)
            begun.wait(SECONDS)
            visitor.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # not even a goodbye
        gone.set()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        doors = server.open_listeners(application, "", [listener.dup()])
        visitor = threading.Thread(target=visit)
        visitor.start()
        doors.exit_when_idle(0, lambda: begun.is_set() and not steps.append("rest"))
        assert doors.run()
        visitor.join(SECONDS)
    assert steps == ["done", "rest"]


def test_the_pages_rest_so_long_after_the_last_visitor_has_left():
    left: list[float] = []

    def visit() -> None:
        with socket.create_connection(listener.getsockname()):
            threading.Event().wait(0.6)
            left.append(time.monotonic())

    with socket.create_server(("127.0.0.1", 0)) as listener:
        doors = server.open_listeners(lambda *_: pytest.fail("asked"), "", [listener.dup()])
        visitor = threading.Thread(target=visit)
        doors.exit_when_idle(0.4, lambda: bool(left))
        visitor.start()
        assert doors.run()
        visitor.join(SECONDS)
    assert time.monotonic() - left[0] >= 0.4


def test_a_guesser_gains_nothing_by_waiting_until_the_pages_rest(set_up, resting):
    web = resting(0.05)
    first = [guess(set_up) for _ in range(3)]
    wait_for(is_gone(web), what="the pages' rest")
    # Starting may have taken the second that the fourth must wait.
    assert (first, [guess(set_up) for _ in range(3)].count(403) <= 1) == ([403] * 3, True)


def guess(product: Product) -> int:
    """The status of one wrong password."""
    return Browser(product.port).post("/login", password="a wrong guess").status


def test_who_is_logged_in_and_what_was_guessed_decide_with_the_clock(tmp_path):
    clock = Clock()
    product = Product(tmp_path)
    device = Device.plain(product.folders)
    server.prepare(device, quiet=True)
    site = app.site(device, clock)
    assert site.guard.may_exit()
    site.guard.sessions.begin()
    assert not site.guard.may_exit()
    clock.now += 599
    assert not site.guard.may_exit()
    clock.now += 1
    assert site.guard.may_exit()
    for wait in (0, 600):  # noted at once, and then not before ten minutes are over
        site.guard.throttle.attempt("192.0.2.1")
        site.guard.throttle.finished()
        assert site.guard.may_exit() == (not wait)
        clock.now += wait
    assert site.guard.may_exit()


def test_the_pages_take_their_socket_from_systemd_itself(product):
    words = ["systemd-socket-activate", "-l", f"127.0.0.1:{free_port()}", product.python, "-m", "device_ui", "web"]
    port = int(words[2].rpartition(":")[2])
    with (product.folder / "log").open("wb") as log:
        # It hands on few variables.
        kept = [word for name in ("PYTHONPATH", "DEVICE_UI_DATA", "DEVICE_UI_RUN") for word in ("-E", name)]
        process = subprocess.Popen([*words[:3], *kept, *words[3:]], env=product.environment, stderr=log)
        try:
            wait_for(lambda: knocks(port), what="systemd's socket")
            assert Browser(port).get("/login").status == 303
        finally:
            process.terminate()
            assert process.wait(SECONDS) == 0
    assert "pages served at systemd's socket" in (product.folder / "log").read_text()


def knocks(port: int) -> bool:
    """Whether somebody listens there."""
    with contextlib.suppress(OSError, http.client.HTTPException), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def test_a_connection_that_was_accepted_before_a_drain_is_answered_and_a_later_one_waits():
    """What the page of a device that cannot start yet does once it can: no request is lost in between."""
    answered: list[bytes] = []

    def application(_, start_response):
        start_response("503 Service Unavailable", [("Content-Length", "4")])
        return [b"busy"]

    with socket.create_server(("127.0.0.1", 0)) as listener, contextlib.ExitStack() as stack:
        early, idle, late = (stack.enter_context(socket.socket()) for _ in range(3))
        doors = server.open_listeners(application, "", [listener.dup()])

        def visit() -> None:
            idle.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")  # and stays connected
            answered.append(idle.recv(12))
            doors.drain(SECONDS)
            late.connect(listener.getsockname())
            late.sendall(GET)
            early.sendall(GET)
            answered.append(early.recv(12))

        for sock in (early, idle):
            sock.settimeout(SECONDS)
            sock.connect(listener.getsockname())
        visitor = threading.Thread(target=visit)
        visitor.start()
        begun = time.monotonic()
        assert doors.run()
        visitor.join(SECONDS)
        assert time.monotonic() - begun < SECONDS
        assert answered == [b"HTTP/1.1 503"] * 2
        taken, _ = listener.accept()
        with taken:
            assert taken.recv(4096) == GET


def test_a_drain_ends_although_a_connection_sends_nothing():
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as silent:
        doors = server.open_listeners(lambda *_: pytest.fail("asked"), "", [listener.dup()], limits=Limits(header=3600))
        silent.connect(listener.getsockname())
        threading.Timer(0.3, doors.drain, [0.3]).start()
        assert doors.run()
