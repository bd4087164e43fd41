"""Text browsers log in and save, by keys at a terminal: NodeBB#3883, easychirp#205, nsupdate.info#493, SSOwat#48."""

from __future__ import annotations

import os
import pty
import select
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.product import ADMIN_PASSWORD, SECONDS, Product, wait_for

TAB, ENTER = "\t", "\r"


class Terminal:
    """A program at a terminal of its own; `seen` is what it wrote."""

    def __init__(self, words: list[str], home: Path) -> None:
        self.pid, self._terminal = pty.fork()
        if self.pid == 0:
            os.environ.update(TERM="vt100", HOME=str(home), LC_ALL="C.UTF-8", LINES="60", COLUMNS="120")
            os.execvp(words[0], words)
        self.seen = b""

    def shows(self, text: str, seconds: float = 0.05) -> bool:
        """Whether the program has written this; it is given some seconds after its last byte."""
        while text.encode() not in self.seen and select.select([self._terminal], [], [], seconds)[0]:
            self.seen += os.read(self._terminal, 65536).replace(b"\0", b"")
        return text.encode() in self.seen

    def wait(self, text: str) -> None:
        """Read until the program has written this."""
        wait_for(lambda: self.shows(text), SECONDS * 2, text)

    def tab_to(self, text: str) -> None:
        """Go from link to link until the program says this of one."""
        for _ in range(20):
            self.type(TAB)
            if self.shows(text, 2):
                return
        raise AssertionError(f"no link is called {text}")

    def type(self, *keys: str) -> None:
        """Press keys."""
        self.seen = b""
        os.write(self._terminal, "".join(keys).encode())

    def end(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self._terminal)


@pytest.fixture(scope="module")
def device(tmp_path_factory) -> Iterator[Product]:
    """A device that is set up, for all tests."""
    with Product(tmp_path_factory.mktemp("device")) as product:
        product.start().logged_in()
        yield product


@pytest.fixture
def product(device) -> Product:
    """The device without recipients."""
    device.folders.recipients.unlink(missing_ok=True)
    return device


def logins(product: Product) -> int:
    return product.log("web").count("a login from 127.0.0.1 succeeded")


# As they come, and as their users keep a Referer from sites.
LYNX = (["lynx", "-accept_all_cookies"], ["lynx", "-accept_all_cookies", "-noreferer"])
W3M = (["w3m", "-o", "accept_cookie=1"], ["w3m", "-o", "accept_cookie=1", "-o", "no_referer=1"])


@pytest.mark.parametrize("words", LYNX, ids=["as-it-comes", "without-Referer"])
def test_lynx_logs_in_and_shows_the_page_that_was_asked_for(product, tmp_path, words):
    terminal = Terminal([*words, f"http://127.0.0.1:{product.port}/recipients"], tmp_path)
    before = logins(product)
    try:
        terminal.wait("Password entry field")
        terminal.type(ADMIN_PASSWORD)
        terminal.tab_to("Form submit button")
        terminal.type(ENTER)
        wait_for(lambda: logins(product) == before + 1, SECONDS * 2, "the login")
        terminal.wait("Add an address")
    finally:
        terminal.end()


@pytest.mark.parametrize("words", W3M, ids=["as-it-comes", "without-Referer"])
def test_w3m_logs_in_and_adds_a_recipient(product, tmp_path, words):
    terminal = Terminal([*words, f"http://127.0.0.1:{product.port}/recipients"], tmp_path)
    before = logins(product)
    try:
        terminal.wait("Viewing")
        terminal.type(TAB, ENTER)
        terminal.wait("Password:")
        terminal.type(ADMIN_PASSWORD, ENTER)
        terminal.wait("Viewing")
        terminal.type(TAB, ENTER)
        wait_for(lambda: logins(product) == before + 1, SECONDS * 2, "the login")
        terminal.wait("<Recipients")
        # Sign out and the four tabs come first; after the address its type and its language.
        terminal.type(TAB * 6, ENTER)
        terminal.wait("TEXT:")
        terminal.type("ops@example.com", ENTER)
        terminal.wait("Viewing")
        terminal.type(TAB * 3, ENTER)
        wait_for(product.folders.recipients.exists, SECONDS * 2, "the recipient")
    finally:
        terminal.end()
    assert "ops@example.com" in product.folders.recipients.read_text()
