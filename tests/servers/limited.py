"""A mail server on loopback with limits, as real ones have: how it answers depends on what it accepted before.

`policy` is asked at each step (``MAIL``, ``RCPT``, ``DATA``, ``content``) and returns the reply, ``""`` for the good one,
or `CLOSE`, `RESET` or `HANG`. It sees the `Session`: what was accepted in this transaction and delivered in this session.
"""

from __future__ import annotations

import contextlib
import re
import socket
import socketserver
import struct
import threading
from collections import Counter
from collections.abc import Callable, Sequence

from tests.helpers.product import free_port

CLOSE, RESET, HANG = "close", "reset", "hang"
GOOD = {
    "MAIL": "250 2.1.0 sender",
    "RCPT": "250 2.1.5 recipient",
    "DATA": "354 go ahead",
    "content": "250 2.0.0 queued",
}
PATIENCE_SECONDS = 20.0

Policy = Callable[["Session", str, str], str]


class Session(socketserver.StreamRequestHandler):
    """One connection. `accepted` are the recipients of this transaction; `asked` counts all RCPTs of it."""

    server: LimitedServer
    timeout = PATIENCE_SECONDS

    def setup(self) -> None:
        super().setup()
        self.accepted: list[str] = []
        self.asked = self.mails = self.recipients = self.size = 0
        self.content = b""
        self.number = self.server.count()

    def handle(self) -> None:
        with contextlib.suppress(OSError, EOFError):
            self._say("220 limited.example.test ESMTP")
            while True:
                self._obey(self._line().decode().rstrip("\r\n"))

    def _obey(self, line: str) -> None:
        verb, _, argument = line.partition(" ")
        verb = verb.upper()
        address = (re.findall("<(.*)>", argument) or [argument])[0]
        if verb == "EHLO":
            self._say("\r\n".join(f"250-{each}" for each in ["limited", *self.server.features]) + "\r\n250 HELP")
        elif verb == "MAIL":
            self.accepted, self.asked = [], 0
            self.size = int((re.findall(r"SIZE=(\d+)", argument.upper()) or ["0"])[0])
            self._answer("MAIL", address)
        elif verb == "RCPT":
            if self._answer("RCPT", address):
                self.accepted.append(address)
            self.asked += 1
        elif verb == "DATA":
            if self._answer("DATA", ""):
                self._content()
        else:
            self.accepted = []
            self._say("221 bye" if verb == "QUIT" else "250 ok")
            if verb == "QUIT":
                raise EOFError

    def _content(self) -> None:
        lines = []
        while (line := self._line()) != b".\r\n":
            lines.append(line)
        self.content = b"".join(lines)
        reply = self.server.policy(self, "content", "") or GOOD["content"]
        if reply.startswith("2"):  # what it takes it has, whether its answer arrives or not
            self.server.keep(self)
            self.mails += 1
            self.recipients += len(self.accepted)
        self._speak(reply)

    def _answer(self, step: str, argument: str) -> bool:
        reply = self.server.policy(self, step, argument) or GOOD[step]
        self._speak(reply)
        return reply[0] in "23"

    def _speak(self, reply: str) -> None:
        if reply == HANG:
            self.rfile.read()
        if reply in (CLOSE, RESET, HANG):
            if reply == RESET:
                self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            raise EOFError
        self._say(reply)
        if reply.startswith("421") or reply.endswith(CLOSE):
            raise EOFError

    def _line(self) -> bytes:
        line = self.rfile.readline()
        if not line:
            raise EOFError
        return line

    def _say(self, line: str) -> None:
        self.wfile.write(line.encode() + b"\r\n")


class LimitedServer(socketserver.ThreadingTCPServer):
    """Serves between `with` and the end of its block. `taken` counts each (Message-ID's number, recipient)."""

    daemon_threads = allow_reuse_address = True
    request_queue_size = 20

    def __init__(self, policy: Policy, features: Sequence[str] = ()) -> None:
        super().__init__(("127.0.0.1", free_port()), Session)
        self.policy, self.features = policy, features
        self.sessions = 0
        self.taken: Counter[tuple[int, str]] = Counter()
        self.contents: list[bytes] = []
        self._lock = threading.Lock()
        self._thread = threading.Thread(
            target=self.serve_forever, kwargs={"poll_interval": 0.01}, name="limited server"
        )

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def __enter__(self) -> LimitedServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self._thread.join(PATIENCE_SECONDS)
        self.server_close()

    def count(self) -> int:
        """Count a session; return its number."""
        with self._lock:
            self.sessions += 1
            return self.sessions

    def keep(self, session: Session) -> None:
        """Keep a mail that is taken."""
        number = re.search(rb"(?mi)^Message-ID:\s*<([0-9]+)\.", session.content)
        assert number, session.content
        with self._lock:
            self.contents.append(session.content)
            self.taken.update((int(number[1]), address) for address in session.accepted)
