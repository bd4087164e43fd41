"""A mail server that misbehaves on cue, on loopback, and records every byte it received.

What it says at each step is a script: a text is sent as a line; a function of this module does something worse. A step
that the script does not name is answered as a good server does. After misbehaving it still reads until the client
closes, so that whatever the client lets slip afterwards is on the record too.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .authority import Certificate

# How long a client may be silent or keep its socket open before the test fails.
PATIENCE_SECONDS = 60.0
DRIP_SECONDS = 0.05

GOOD = {
    "greeting": "220 mail.example.test ESMTP",
    "STARTTLS": "220 2.0.0 ready",
    "AUTH": "235 2.7.0 welcome",
    "challenge": "334 ",
    "login": "334 VXNlcm5hbWU6",
    "password": "334 UGFzc3dvcmQ6",
    "MAIL": "250 2.1.0 sender",
    "RCPT": "250 2.1.5 recipient",
    "DATA": "354 go ahead",
    "content": "250 2.0.0 queued",
    "RSET": "250 2.0.0 reset",
    "QUIT": "221 2.0.0 bye",
}


class Over(Exception):
    """The session has come to its end."""


Behaviour = Callable[["Session", str], None]
Answer = str | Behaviour
# One answer for every time, or one for each time; the last one stays.
Script = Mapping[str, Answer | Sequence[Answer]]


class ScriptedServer:
    """Serves between `with` and the end of its block; leaving waits until every client has closed.

    Steps of `script`: greeting, EHLO, STARTTLS, handshake, AUTH (the last answer to a login), challenge, login,
    password (what asks for the parts of a login; scripted, they end it), MAIL, RCPT, DATA, content (the answer after
    the dot), RSET, QUIT. An EHLO in `script` replaces `features` (before TLS) and `features_in_tls`. With a `chain` (see `chain_file`) or a `context` it speaks TLS:
    after STARTTLS, or from the first byte with `tls_first`.
    """

    def __init__(
        self,
        script: Script | None = None,
        *,
        features: Sequence[str] | None = None,
        features_in_tls: Sequence[str] = ("AUTH PLAIN LOGIN",),
        chain: Path | None = None,
        tls_first: bool = False,
        context: ssl.SSLContext | None = None,
        address: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.script, self.features_in_tls = dict(script or {}), features_in_tls
        self.tls_first, self.context = tls_first, context
        if chain and not context:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(chain)
        self.features = features if features is not None else ("STARTTLS",) if self.context else ("AUTH PLAIN LOGIN",)
        self.sessions: list[Session] = []
        self.stopping = threading.Event()
        self._listener = socket.create_server(
            (address, port), family=socket.AF_INET6 if ":" in address else socket.AF_INET
        )
        self.port = int(self._listener.getsockname()[1])
        self._accepting = threading.Thread(target=self._accept, name="scripted server")

    def __enter__(self) -> ScriptedServer:
        self._accepting.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join(PATIENCE_SECONDS)
        self._listener.close()
        for session in self.sessions:
            session.join(PATIENCE_SECONDS)
        left = [session for session in self.sessions if session.is_alive() or session.abandoned]
        assert not left, "a client kept its connection open"

    @property
    def received(self) -> bytes:
        """Every byte that clients sent, as they meant it: before TLS, and then inside it."""
        return b"".join(bytes(session.received) for session in self.sessions)

    @property
    def commands(self) -> list[str]:
        """The lines of all sessions in order, without those of mails."""
        return [command for session in self.sessions for command in session.commands]

    @property
    def verbs(self) -> list[str]:
        """The first word of each of `commands`, in capitals."""
        return [command.partition(" ")[0].upper() for command in self.commands]

    @property
    def mails(self) -> list[bytes]:
        """The mails as they crossed the wire: dots doubled, and without the last line's dot."""
        return [mail for session in self.sessions for mail in session.mails]

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while not self.stopping.is_set():
                sock, _ = self._listener.accept()
                session = Session(self, sock)
                self.sessions.append(session)
                session.start()


class Session(threading.Thread):
    """One connection. `say` and `line` are what behaviours use."""

    def __init__(self, server: ScriptedServer, sock: socket.socket) -> None:
        super().__init__(name="scripted session", daemon=True)
        self.server, self.sock = server, sock
        self.received, self.commands, self.mails = bytearray(), [], []
        self.abandoned = self.secure = False
        self.unread = bytearray()
        self._counts: dict[str, int] = {}
        sock.settimeout(PATIENCE_SECONDS)

    def run(self) -> None:
        """Play the script until the client has closed."""
        try:
            self._play()
        except (Over, OSError):
            self._drain()
        finally:
            self.sock.close()

    def say(self, raw: bytes | str) -> None:
        """Send bytes as they are, or a text as a line."""
        self.sock.sendall(raw if isinstance(raw, bytes) else raw.encode() + b"\r\n")

    def line(self) -> bytes:
        """One line with its end. Ends the session when the client has closed."""
        while b"\n" not in self.unread:
            chunk = self.sock.recv(65536)
            if not chunk:
                raise Over
            self.received += chunk
            self.unread += chunk
        line, _, rest = bytes(self.unread).partition(b"\n")
        self.unread = bytearray(rest)
        return line + b"\n"

    def answer(self, step: str, line: str = "") -> None:
        """Do what the script says for this step, this time."""
        answers = self.server.script.get(step, GOOD.get(step, "500 5.5.2 what?"))
        if isinstance(answers, str) or callable(answers):
            answers = (answers,)
        count = self._counts.get(step, 0)
        self._counts[step] = count + 1
        chosen = answers[min(count, len(answers) - 1)]
        if callable(chosen):
            chosen(self, line)
        else:
            self.say(chosen)

    def start_tls(self) -> None:
        """The server's side of the handshake; ends the session where the client does not like it."""
        assert self.server.context is not None
        self.sock = self.server.context.wrap_socket(self.sock, server_side=True)
        self.secure = True

    def _play(self) -> None:
        if self.server.tls_first:
            self.start_tls()
        self.answer("greeting")
        while True:
            line = self.line().decode("utf-8", "replace").rstrip("\r\n")
            self.commands.append(line)
            self._obey(line)

    def _obey(self, line: str) -> None:
        verb = line.partition(" ")[0].upper()
        if verb == "EHLO" and not self._scripted("EHLO"):
            features = self.server.features_in_tls if self.secure else self.server.features
            lines = ["mail.example.test", *features]
            self.say("\r\n".join(f"250{'-' if each is not lines[-1] else ' '}{each}" for each in lines))
        elif verb == "STARTTLS":
            self._starttls(line)
        elif verb == "AUTH":
            self._auth(line)
        elif verb == "DATA":
            self._data(line)
        else:
            self.answer(verb, line)
            if verb == "QUIT":
                raise Over

    def _scripted(self, step: str) -> bool:
        return step in self.server.script

    def _starttls(self, line: str) -> None:
        self.answer("STARTTLS", line)
        if self._scripted("STARTTLS") and not self._scripted("handshake"):
            return
        if self._scripted("handshake"):
            # Only once the client has begun: Python leaks a socket that breaks before its handshake.
            self.received += self.sock.recv(65536)
            self.answer("handshake")
            raise Over
        self.start_tls()

    def _auth(self, line: str) -> None:
        words = line.split()
        steps = {"LOGIN": ("login", "password")}.get(words[1].upper(), ("challenge",) if len(words) < 3 else ())
        for step in steps:
            self.answer(step, line)
            if self._scripted(step):
                return  # no challenge: the next line is a command again
            line = self.line().decode("utf-8", "replace").rstrip("\r\n")
            self.commands.append(line)
        self.answer("AUTH", line)

    def _data(self, line: str) -> None:
        self.answer("DATA", line)
        if self._scripted("DATA"):
            return
        mail = bytearray()
        while (content := self.line()) != b".\r\n":
            mail += content
        self.mails.append(bytes(mail))
        self.answer("content")

    def _drain(self) -> None:
        try:
            while chunk := self.sock.recv(65536):
                self.received += chunk
        except TimeoutError:
            self.abandoned = True
        except (OSError, ValueError):
            pass


def silent(_session: Session, _line: str) -> None:
    """Say nothing for ever."""
    raise Over


def close(session: Session, _line: str) -> None:
    """Close the connection as a server does that has gone."""
    session.sock.shutdown(socket.SHUT_WR)
    raise Over


def reset(session: Session, _line: str) -> None:
    """Break the connection with a reset."""
    session.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    session.sock.close()
    raise Over


def half_line(session: Session, _line: str) -> None:
    """Send the good code without the end of its line, and close."""
    session.say(b"250 2.0.0 o")
    close(session, _line)


def drip(session: Session, _line: str) -> None:
    """Send one byte after another of an answer that never ends."""
    while not session.server.stopping.wait(DRIP_SECONDS):
        session.say(b"2")


def endless(session: Session, _line: str) -> None:
    """Send lines that all promise one more."""
    while True:
        session.say(b"250-and one more\r\n" * 1000)


def long_line(session: Session, _line: str) -> None:
    """Send 10 MB without an end of line."""
    session.say(LONG_LINE)


LONG_LINE = b"250 " + b"x" * (10 * 1024 * 1024)


def garbage(session: Session, _line: str) -> None:
    """Send a line that is neither text nor an answer."""
    session.say(b"\x00\xff\xfe\x80\x1b[31m\x00\r\n")


def chain_file(certificate: Certificate, path: Path) -> Path:
    """A certificate and its key in the one file that a server loads."""
    path.write_bytes(certificate.key_pem + certificate.cert_pem)
    return path


def leading_to(*addresses: str) -> Callable[[str, int], list[tuple[Any, ...]]]:
    """A resolver that gives these addresses for every name."""

    def resolver(_host: str, port: int) -> list[tuple[Any, ...]]:
        families = [socket.AF_INET6 if ":" in each else socket.AF_INET for each in addresses]
        return [
            (family, socket.SOCK_STREAM, 0, "", (each, port) if family == socket.AF_INET else (each, port, 0, 0))
            for family, each in zip(families, addresses, strict=True)
        ]

    return resolver
