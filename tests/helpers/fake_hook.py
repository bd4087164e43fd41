"""A mail hook on a real socket that says what a test wants, line by line; and pages that ask it, without a server."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from device_ui.config import Device, Folders
from device_ui.errors import to_json
from device_ui.mail import client
from device_ui.settings import keys
from device_ui.storage import files
from device_ui.web import app
from tests.helpers.product import ADMIN_PASSWORD, Page, choose_password, wsgi

SECONDS = 20.0
WELL = {"state": {"problem": "", "step": "", "reply": "", "waiting": 0, "set_aside": ""}}
# Nothing was delivered yet, and nothing waits.
IDLE = {"delivery": {"last": {"mail": 0, "results": []}, "waiting": 0, "since": 0.0, "next": None, "results": []}}
# What a page asks by itself.
OF_EVERY_PAGE = ("state", "delivery")

# A line is what is said; an Event is waited for before the next line is.
Lines = Iterable[Mapping[str, Any] | threading.Event]


class FakeHook:
    """Says `answers[do]` to each request, to several callers at once; `heard` are the requests but `OF_EVERY_PAGE`.

    When the lines of an answer are over it hangs up, whatever they were.
    """

    def __init__(self, path: Path) -> None:
        self.answers: dict[str, Lines | Callable[[Mapping[str, Any]], Lines]] = {}
        self.heard: list[dict[str, Any]] = []
        # What was asked, `OF_EVERY_PAGE` too.
        self.asked: list[str] = []
        self.path, self._stopping = path, False
        self._callers: list[threading.Thread] = []
        self._listener = socket.socket(socket.AF_UNIX)
        path.parent.mkdir(parents=True, exist_ok=True)
        with client.reachable(path) as address:
            self._listener.bind(address)
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve)
        self.reset()

    def __enter__(self) -> FakeHook:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping = True
        with socket.socket(socket.AF_UNIX) as last, client.reachable(self.path) as address:
            last.connect(address)
        for thread in (self._thread, *self._callers):
            thread.join(SECONDS)
            assert not thread.is_alive()
        self._listener.close()
        self.path.unlink()

    def reset(self) -> FakeHook:
        """Answer nothing but the state, and have heard nothing."""
        self.answers, self.heard[:] = ({"state": [WELL], "delivery": [IDLE], "settings-changed": [{"ok": True}]}, [])
        return self

    def _serve(self) -> None:
        while True:
            caller, _ = self._listener.accept()
            if self._stopping:
                caller.close()
                return
            self._callers.append(threading.Thread(target=self._answer, args=(caller,)))
            self._callers[-1].start()

    def _answer(self, caller: socket.socket) -> None:
        caller.settimeout(SECONDS)
        with caller, caller.makefile("rb") as said, contextlib.suppress(OSError):
            asked = json.loads(said.readline())
            self.asked.append(asked["do"])
            if asked["do"] not in OF_EVERY_PAGE:
                self.heard.append(asked)
            for line in self._lines(asked):
                if isinstance(line, threading.Event):
                    assert line.wait(SECONDS)
                else:
                    caller.sendall(json.dumps(line, default=to_json).encode() + b"\n")

    def _lines(self, asked: Mapping[str, Any]) -> Lines:
        answer = self.answers.get(asked["do"], ())
        lines = answer(asked) if callable(answer) else answer
        if asked["do"] != "delivery":
            return lines
        states = self._lines({"do": "state"})  # which comes with it, unless a test says another
        return [
            {"delivery": {**state, **line["delivery"]}} if isinstance(line, dict) and "delivery" in line else line
            for line in lines
            for state in states
        ]


@dataclass
class Pages:
    """The pages of one device, asked without a server by somebody who is signed in."""

    app: Callable[..., Any]
    folders: Folders
    cookie: str = ""

    def get(self, path: str, query: str = "", **variables: str) -> Page:
        """GET, with the cookie."""
        return wsgi(self.app, "GET", path, **{"QUERY_STRING": query, "HTTP_COOKIE": self.cookie, **variables})

    def post(self, path: str, form: Mapping[str, str], **variables: str) -> Page:
        """POST a form, with the cookie."""
        return wsgi(self.app, "POST", path, urlencode(form).encode(), **{"HTTP_COOKIE": self.cookie, **variables})


def signed_in(folders: Folders, clock: Callable[[], float] = time.monotonic) -> Pages:
    """The pages of a new device that was set up, with the hook's keys."""
    make_keys(folders)
    files.make_folder(folders.settings.parent, 0o755)
    files.make_folder(folders.administrator.parent, 0o755)
    choose_password(folders.administrator)
    made = Pages(app.routes(app.site(Device.load(folders), clock)), folders)
    answer = made.post("/login", {"password": ADMIN_PASSWORD})
    made.cookie = answer.headers["set-cookie"].partition(";")[0]
    return made


def make_keys(folders: Folders) -> None:
    """The hook's key pair, as the hook makes it when it starts."""
    files.make_folder(folders.private_key.parent, 0o755)
    files.make_folder(folders.public_key.parent, 0o755)
    keys.load_pair(folders.private_key, folders.public_key)
