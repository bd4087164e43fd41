"""The web process: how it starts, what it is bounded by, how it ends."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from device_ui.errors import Damaged
from device_ui.web import server
from device_ui.web.auth.administrator import Administrator
from tests.helpers.product import ADMIN_PASSWORD, SECONDS, Browser, Product, free_port, raw, wait_for

GET = b"GET /static/style.css HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@pytest.fixture(scope="module")
def web(tmp_path_factory):
    """The pages of one device, without a hook."""
    with Product(tmp_path_factory.mktemp("product")) as product:
        yield product.start_web()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_well(product, number):
    product.start_web()
    assert product.stop("web", number) == 0
    assert "Traceback" not in product.log("web")


def test_a_signal_ends_it_while_somebody_is_connected_and_somebody_reads_slowly(product):
    product.start_web()
    with contextlib.ExitStack() as stack:
        for said in (b"POST /login HTTP/1.1\r\n", GET.replace(b"Connection: close\r\n", b"") * 8):
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", product.port), SECONDS))
            sock.sendall(said)
        assert product.stop("web") == 0


def test_an_address_in_use_is_one_line_and_a_failure(product):
    with socket.create_server(("127.0.0.1", product.port)):
        done = product.command("web", "--listen", f"127.0.0.1:{product.port}")
    assert done.returncode == 71
    assert [line for line in done.stderr.splitlines() if not line.startswith("setup code: ")] == [
        "device-ui: [Errno 98] Address already in use"
    ]


# And those of tests/cli/test_parser.py.
@pytest.mark.parametrize("listen", ["300.1.1.1:80", "[::1"])
def test_an_address_that_is_none_is_one_line_and_a_failure(product, listen):
    done = product.command("web", "--listen", listen)
    assert done.returncode in (71, 78)
    told = [line for line in done.stderr.splitlines() if not line.startswith("setup code: ")]
    assert len(told) == 1
    assert told[0].startswith("device-ui: ")


def test_it_answers_on_ipv6(product):
    port = free_port()
    product.spawn("web", "--listen", f"[::1]:{port}")

    def answered() -> bool:
        try:
            with socket.create_connection(("::1", port), SECONDS) as sock:
                sock.sendall(GET.replace(b"localhost", b"[::1]:%d" % port))
                return sock.recv(12) == b"HTTP/1.1 200"
        except OSError:
            return False

    wait_for(answered, what="an answer")


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6, socket.AF_UNIX])
def test_it_serves_the_socket_that_systemd_hands_over(product, tmp_path, family):
    """sd_listen_fds(3): descriptor 3, LISTEN_FDS, and LISTEN_PID, which only the child itself knows."""
    where = {socket.AF_INET: ("127.0.0.1", 0), socket.AF_INET6: ("::1", 0), socket.AF_UNIX: str(tmp_path / "web.sock")}
    listener = socket.socket(family)
    listener.bind(where[family])
    listener.listen(8)
    start = (
        "import os, sys; os.dup2(int(sys.argv[1]), 3); os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid())); "
        "os.execv(sys.executable, [sys.executable, '-m', 'device_ui', 'web', '--listen', '127.0.0.1:1'])"
    )
    log = tmp_path / "log"
    with listener, log.open("wb") as errors:
        child = subprocess.Popen(
            [sys.executable, "-c", start, str(listener.fileno())],
            env=product.environment,
            pass_fds=[listener.fileno()],
            stderr=errors,
        )
        try:
            with socket.socket(family) as sock:
                sock.settimeout(SECONDS)
                sock.connect(listener.getsockname())
                sock.sendall(GET)
                assert sock.recv(12) == b"HTTP/1.1 200"
        finally:
            child.terminate()
            assert child.wait(SECONDS) == 0
    assert "pages served at systemd's socket" in log.read_text()


def test_sockets_meant_for_another_process_are_not_taken(product):
    product.spawn(
        "web",
        "--listen",
        f"127.0.0.1:{product.port}",
        env={**product.environment, "LISTEN_FDS": "1", "LISTEN_PID": "1"},
    )
    wait_for(product.answers, what="an answer")


def test_it_serves_a_unix_socket_and_takes_the_place_of_a_dead_one(product, tmp_path):
    path = tmp_path / "web.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    product.spawn("web", "--listen", f"unix:{path}")

    def answered() -> bool:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(SECONDS)
            try:
                sock.connect(str(path))
            except OSError:
                return False
            sock.sendall(GET)
            return sock.recv(12) == b"HTTP/1.1 200"

    wait_for(answered, what="an answer")
    assert f"pages served at unix:{path}" in product.log("web")


@pytest.mark.parametrize("path", ["nowhere/web.sock", "x" * 200])
def test_a_unix_socket_that_cannot_be_had_is_one_line_and_a_failure(product, path):
    done = product.command("web", "--listen", f"unix:{product.folder / path}")
    assert done.returncode == 71
    (told,) = [line for line in done.stderr.splitlines() if not line.startswith("setup code: ")]
    assert told.startswith("device-ui: ")


def test_no_core_dump_can_hold_a_password(web):
    process = web.processes["web"].pid
    with open(f"/proc/{process}/limits") as limits:
        (line,) = [line for line in limits if line.startswith("Max core file size")]
    assert line.split()[4:6] == ["0", "0"]


def test_four_threads_serve(web):
    assert len(os.listdir(f"/proc/{web.processes['web'].pid}/task")) == 1 + 4


def test_a_header_has_8_kib(web):
    head = b"GET /static/style.css HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX: "
    fits = head + b"x" * (8191 - len(head) - 4) + b"\r\n\r\n"
    assert raw(web.port, fits).startswith(b"HTTP/1.1 200 ")
    assert raw(web.port, head.ljust(8192, b"x")).startswith(b"HTTP/1.0 431 ")


def test_the_server_does_not_tell_what_it_is(web):
    answers = raw(web.port, GET) + raw(web.port, b"GET / HTTP/1.1\r\nbad header\r\n\r\n")
    assert not re.search(rb"(?im)^(server|via):", answers)


def test_connections_that_say_nothing_keep_nobody_out(web):
    quiet = [socket.create_connection(("127.0.0.1", web.port), SECONDS) for _ in range(40)]
    try:
        assert raw(web.port, GET).startswith(b"HTTP/1.1 200 ")
    finally:
        for sock in quiet:
            sock.close()


def test_two_requests_of_one_connection_are_answered(web):
    again = GET.replace(b"Connection: close\r\n", b"")
    assert raw(web.port, again + GET).count(b"HTTP/1.1 200 OK") == 2


# The setup code


@pytest.fixture(scope="module")
def restarted(tmp_path_factory) -> Iterator[tuple[Product, list[list[str]], Browser]]:
    """The pages at their third start; the codes that each of them printed; and a session of the second, when the device was set up."""
    printed: list[list[str]] = []
    with Product(tmp_path_factory.mktemp("restarted")) as product:
        for start in range(3):
            before = len(product.log("web")) if start else 0
            product.start_web()
            printed.append(re.findall(r"^setup code: (\S+)$", product.log("web")[before:], re.MULTILINE))
            if start == 0:
                assert printed == [[product.setup_code()]]
            if start == 1:
                session = product.logged_in()
                assert session.get("/smtp").status == 200
            if start < 2:
                product.stop("web")
        yield product, printed, session


def test_the_code_is_printed_once_at_each_start_until_it_is_used(restarted):
    _, (first, second, third), _ = restarted
    assert len(first) == 1
    assert (second, third) == (first, [])


def test_a_restart_signs_everybody_out(restarted):
    product, _, session = restarted
    assert session.get("/smtp").headers["location"] == "/login"
    assert Browser(product.port).post("/login", password=ADMIN_PASSWORD).status == 303


def test_asking_for_the_code_prints_it_for_a_program(product):
    done = product.command("setup-code")
    assert re.fullmatch(r"([2-9A-HJKMNP-Z]{4}-){4}[2-9A-HJKMNP-Z]{4}\n", done.stdout)
    assert done.stderr == ""
    assert product.call("setup-code").stdout == done.stdout


def test_the_folders_are_made_for_whom_they_are(device):
    server.prepare(device)
    modes = {
        path: os.stat(path).st_mode & 0o7777
        for path in (device.folders.settings.parent, device.folders.administrator.parent)
    }
    assert list(modes.values()) == [0o2750, 0o700]


def test_a_quiet_start_prints_nothing(device, capsys):
    found = server.prepare(device, quiet=True)
    assert capsys.readouterr() == ("", "")
    assert server.prepare(device) == found
    assert capsys.readouterr().err == f"setup code: {found.code}\n"


def test_a_device_that_is_set_up_prints_no_code(device, capsys):
    device.folders.administrator.parent.mkdir(parents=True)
    Administrator(device.folders.administrator).set_password(ADMIN_PASSWORD)
    assert server.prepare(device).is_set_up
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("trace", ["smtp.toml", "smtp.toml.damaged-1"])
def test_a_device_with_settings_makes_no_new_code(device, trace):
    """A damaged settings file is a sign of use as well as a sound one."""
    device.folders.settings.parent.mkdir(parents=True)
    (device.folders.settings.parent / trace).touch()
    assert server.prepare(device) is None
    assert not device.folders.administrator.exists()


def test_a_damaged_record_starts_and_says_what_to_do(device, caplog):
    device.folders.administrator.parent.mkdir(parents=True)
    device.folders.administrator.write_bytes(b"damaged")
    assert server.prepare(device) is None
    assert "device-ui admin set-password chooses a new password" in caplog.text
    with pytest.raises(Damaged):
        Administrator(device.folders.administrator).load()


def test_a_page_is_one_system_call(web, tmp_path):
    """Its header does not go out by itself first."""
    process, log = web.processes["web"], tmp_path / "calls"
    words = ["strace", "-f", "-qq", "-s", "0", "-e", "trace=sendto", "-o", str(log), "-p", str(process.pid)]
    with subprocess.Popen(words, stderr=subprocess.PIPE) as strace:
        try:
            wait_for(lambda: not re.search(r"TracerPid:\s+0\n", status(process.pid)), what="strace")
            page = web.browser().get("/setup")
        finally:
            strace.send_signal(signal.SIGINT)
            strace.communicate()
    assert page.status == 200
    assert page.text
    assert log.read_text().count("sendto(") == 1


def status(pid: int) -> str:
    """What the kernel tells of every thread of a process."""
    return "".join(each.read_text() for each in Path(f"/proc/{pid}/task").glob("*/status"))


# Header fields whose value differs from response to response.
DIFFERENT = ("Date", "Set-Cookie")


@pytest.mark.parametrize("path", ["/login", "/smtp", "/static/style.css", "/nothing", "/health"])
def test_a_connection_that_stays_gets_the_header_that_waitress_makes_for_one_that_ends(web, path):
    def header(more: str) -> list[tuple[str, str]]:
        with socket.create_connection(("127.0.0.1", web.port), SECONDS) as sock:
            sock.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{more}\r\n".encode())
            first, *lines = sock.recv(65536).partition(b"\r\n\r\n")[0].decode().split("\r\n")
        pairs = [line.split(": ", 1) for line in lines]
        return [("", first), *sorted((name.lower(), "" if name in DIFFERENT else value) for name, value in pairs)]

    ends = header("Connection: close\r\n")
    assert ("connection", "close") in ends
    assert ("date", "") in ends
    assert header("") == [each for each in ends if each != ("connection", "close")]
