"""A device.toml with a typing error, under socket activation: one line, a state, a page; and all goes on once it is right."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from device_ui.errors import HookError
from device_ui.mail import client
from tests.helpers.product import SECONDS, Browser, Product, wait_for
from tests.servers.activation import Activated

START = "from device_ui.cli.entry import main; sys.argv[:] = ['device-ui', {command!r}]; sys.exit(main())"
WRONG = "[locks]\nsecurity = tru\n"
REASON = "{path}: Invalid value (at line 2, column 12)"


class Watched:
    """A unit's socket, the processes that are started for it, and what they say of themselves to `systemctl status`."""

    def __init__(self, product: Product, command: str, listener: socket.socket, environment: dict[str, str]) -> None:
        self.notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        address = product.folder / f"{command}.notify"
        self.notices.bind(str(address))
        self.notices.settimeout(SECONDS)
        log = product.folder / f"{command}.log"
        told = {**environment, "NOTIFY_SOCKET": str(address)}
        self.activated = Activated(listener, START.format(command=command), told, log)

    def status(self) -> str:
        """Return the next line for `systemctl status`."""
        return self.notices.recv(4096).decode()


@pytest.fixture
def broken(product: Product) -> Product:
    return product.maker(WRONG)


@pytest.fixture
def hook(broken: Product) -> Iterator[Watched]:
    """The socket of the mail hook; nothing is started before a line comes."""
    broken.folders.run.mkdir()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(broken.folders.socket))
    listener.listen(8)
    watched = Watched(broken, "mailhook", listener, broken.environment)
    with contextlib.closing(watched.notices), watched.activated:
        yield watched


@pytest.fixture
def pages(broken: Product) -> Iterator[Watched]:
    """The socket of the pages, likewise."""
    listener = socket.create_server(("127.0.0.1", broken.port))
    watched = Watched(broken, "web", listener, broken.environment)
    with contextlib.closing(watched.notices), watched.activated:
        yield watched


def mended(product: Product) -> Path:
    """Put the file right; its path."""
    product.maker("[locks]\nsecurity = true\n")
    return product.folders.etc / "device.toml"


def test_the_queued_event_is_accepted_once_the_file_is_right(broken, hook):
    numbers: list[int] = []

    def raise_event() -> None:
        numbers.append(client.raise_event(broken.folders.socket, "303", "queued", seconds=3 * SECONDS))

    caller = threading.Thread(target=raise_event)
    caller.start()
    reason = REASON.format(path=broken.folders.etc / "device.toml")
    assert hook.status() == f"STATUS=waiting: {reason}"
    with pytest.raises(HookError) as refused:  # longer than two looks at the file
        client.state(broken.folders.socket, seconds=2.5)
    assert refused.value.word == "down"
    assert hook.activated.codes == []
    assert hook.activated.log == f"device-ui: {reason}; waiting until it is right\n"
    mended(broken)
    caller.join(2 * SECONDS)
    assert numbers == [1]
    assert hook.status() == "STATUS="
    assert hook.activated.codes == []


def test_another_error_in_the_file_is_another_line(broken, hook):
    with contextlib.suppress(HookError):
        client.state(broken.folders.socket, seconds=0.1)
    hook.status()
    broken.maker("[mail]\nhourly_budget = 0\n")
    assert "mail.hourly_budget must be from" in hook.status()
    assert hook.activated.log.count("\n") == 2


def test_a_hook_that_waits_ends_when_it_is_asked_to(broken, hook):
    with contextlib.suppress(HookError):
        client.state(broken.folders.socket, seconds=0.1)
    hook.status()
    assert hook.activated.process
    hook.activated.process.terminate()
    wait_for(lambda: hook.activated.codes, what="the hook's end")


@pytest.mark.parametrize(
    ("language", "told"),
    [
        ("en", "At the device’s console, device-ui check says which one."),
        ("ko", "장치 콘솔에서 device-ui check 명령을"),
    ],
)
def test_a_page_says_that_the_pages_cannot_start_and_quotes_nothing(broken, pages, language, told):
    page = Browser(broken.port).get("/smtp", **{"Accept-Language": language})
    assert (page.status, page.headers["retry-after"]) == (503, "5")
    assert told in page.text
    assert f'<html lang="{language}">' in page.text
    assert "tru" not in page.text.replace("true", "")
    assert str(broken.folders.etc) not in page.text
    assert "default-src" in page.headers["content-security-policy"]


def test_the_pages_wait_in_one_process_with_one_line(broken, pages):
    reason = REASON.format(path=broken.folders.etc / "device.toml")
    assert [Browser(broken.port).get("/health").status for _ in range(5)] == [503] * 5
    assert pages.status() == f"STATUS=waiting: {reason}"
    assert pages.activated.codes == []
    assert pages.activated.log == f"device-ui: {reason}; waiting until it is right\n"


def test_the_pages_come_by_themselves_once_the_file_is_right(broken, pages):
    assert Browser(broken.port).get("/setup").status == 503
    mended(broken)
    wait_for(lambda: Browser(broken.port).get("/setup").status == 200, what="the page")
    assert pages.activated.codes == [0]


@pytest.mark.parametrize("command", ["web", "mailhook"])
def test_by_hand_each_ends_at_once_with_one_line(broken, command):
    done = broken.command(command)
    assert (done.returncode, done.stdout) == (78, "")
    assert done.stderr == f"device-ui: {REASON.format(path=broken.folders.etc / 'device.toml')}\n"


def test_health_is_one_word(broken, pages):
    answer = Browser(broken.port).get("/health")
    assert (answer.status, answer.text) == (503, "unavailable\n")


def test_a_certificate_and_a_setup_code_are_made_all_the_same(broken):
    reason = REASON.format(path=broken.folders.etc / "device.toml")
    for words in (["certificate"], ["setup-code"]):
        done = broken.command(*words)
        assert (done.returncode, done.stderr.splitlines()[0]) == (0, f"device-ui: {reason}; its settings are not used")
    assert (broken.folders.tls / "certificate.pem").exists()
