"""An OAuth 2.0 provider on loopback, under TLS: one that works, with three ways to rotate, and one that misbehaves on cue.

It follows the RFCs by itself, apart from the product's code: assertions are verified with `cryptography` and the certificates
that a test uploaded.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import secrets
import socket
import ssl
import threading
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

PATIENCE_SECONDS = 120.0
# The former refresh token after a rotation: it is the same one; it stays valid; or presenting it ends the whole grant.
SAME, GRACE, STRICT = "same", "grace", "strict"


@dataclass(frozen=True)
class Request:
    """What a client sent: method, path, head, and the fields of its form."""

    method: str
    path: str
    headers: dict[str, str]
    form: dict[str, str]


# An answer: status and JSON object; or bytes as they are; or a function that does something worse with the socket.
Answer = tuple[int, Any] | bytes | Callable[[ssl.SSLSocket, threading.Event], None]


class Provider:
    """Serves between `with` and the end of its block. `answers` overrules what it would answer, by the end of the path.

    `uploaded` are the certificates (DER) of the client; `codes` the device codes with their phase; `expires_in` the seconds of
    an access token, `refresh_expires_in` those of a refresh token, 0 for an answer without them.
    """

    def __init__(
        self, chain: Path, rotation: str = SAME, *, host: str = "login.example.test", interval: int = 5
    ) -> None:
        self.rotation, self.host, self.interval = rotation, host, interval
        self.token_bytes, self.expires_in, self.refresh_expires_in = 24, 3600, 0
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(chain)
        self.requests: list[Request] = []
        self.answers: dict[str, Answer | list[Answer]] = {}
        self.uploaded: list[bytes] = []
        self.secret, self.client, self.person = "client-secret-of-a-test", "device-1", "alarm@example.test"
        self.codes: dict[str, str] = {}
        # The grant of a person: its valid refresh tokens, the newest last; none when it has ended.
        self.refresh: list[str] = []
        # Every refresh token that it ever gave.
        self.issued: list[str] = []
        self.access: list[str] = []
        self.revoked: list[str] = []
        self.assertions: list[dict[str, Any]] = []
        # Drops this many answers after the provider has done what was asked.
        self.lost = 0
        self._stopping = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._threads = [threading.Thread(target=self._accept, name="provider")]

    @property
    def issuer(self) -> str:
        """The issuer identifier."""
        return f"https://{self.host}:{self.port}/realm"

    def __enter__(self) -> Provider:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(PATIENCE_SECONDS)
        self._listener.close()
        assert not any(thread.is_alive() for thread in self._threads), "a client kept its connection open"

    def sign_in(self) -> str:
        """Begin a person's grant anew; return its refresh token."""
        self.refresh = [self._new_refresh()]
        return self.refresh[-1]

    @property
    def forms(self) -> list[dict[str, str]]:
        """The forms that the token endpoint received."""
        return [each.form for each in self.requests if each.path.endswith("/token")]

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while not self._stopping.is_set():
                sock, _ = self._listener.accept()
                thread = threading.Thread(target=self._serve, args=(sock,), name="provider connection", daemon=True)
                self._threads.append(thread)
                thread.start()

    def _serve(self, raw: socket.socket) -> None:
        raw.settimeout(PATIENCE_SECONDS)
        with contextlib.suppress(OSError, ValueError), self.context.wrap_socket(raw, server_side=True) as sock:
            request = _request(sock)
            self.requests.append(request)
            answer = self._answer(request)
            if callable(answer):
                answer(sock, self._stopping)
            elif isinstance(answer, bytes):
                sock.sendall(answer)
            else:
                sock.sendall(http(*answer))

    def _answer(self, request: Request) -> Answer:
        for end, answer in self.answers.items():
            if request.path.endswith(end):
                if isinstance(answer, list):
                    if answer:
                        return answer.pop(0)
                    continue
                return answer
        made = self.respond(request)
        if self.lost and request.method == "POST":
            self.lost -= 1
            return lambda sock, _stopping: None
        return made

    def respond(self, request: Request) -> Answer:
        """Return what the provider itself answers where no test says otherwise."""
        if request.path == "/.well-known/oauth-authorization-server/realm":
            base = f"{self.issuer}/"
            return 200, {
                "issuer": self.issuer,
                "token_endpoint": f"{base}token",
                "device_authorization_endpoint": f"{base}device",
                "token_endpoint_auth_methods_supported": ["client_secret_basic", "private_key_jwt"],
            }
        if request.path.endswith(("/device", "/devicecode")):
            code = secrets.token_urlsafe(24)
            self.codes[code] = "authorization_pending"
            return 200, {
                "device_code": code,
                "user_code": "WDJB-MJHT",
                "verification_uri": f"{self.issuer}/activate",
                "expires_in": 900,
                "interval": self.interval,
            }
        if request.path.endswith("/token"):
            return self._tokens(request)
        if request.path.endswith("/introspect"):  # RFC 7662
            is_active = request.form.get("token") in self.access and request.form["token"] not in self.revoked
            return 200, {"active": True, "email": self.person} if is_active else {"active": False}
        return 404, {}

    def _tokens(self, request: Request) -> Answer:
        form = request.form
        kind = form.get("grant_type", "")
        if kind == "client_credentials":
            return self._granted() if self._is_proved(request) else (401, {"error": "invalid_client"})
        if kind == "refresh_token":
            return self.renew(form["refresh_token"])
        phase = self.codes.get(form.get("device_code", ""), "expired_token")
        if phase != "done":
            return 400, {"error": phase}
        del self.codes[form["device_code"]]
        self.sign_in()
        return self._granted(refresh_token=self.refresh[-1], id_token=self._id_token())

    def renew(self, presented: str) -> Answer:
        """Return the answer to a refresh token."""
        if presented not in self.refresh:
            return 400, {"error": "invalid_grant", "error_description": "the grant has ended"}
        if self.rotation == SAME:
            return self._granted()
        if self.rotation == STRICT and presented != self.refresh[-1]:
            self.refresh = []  # RFC 9700, 4.14.2: a replay ends the family
            return 400, {"error": "invalid_grant", "error_description": "the token was used before"}
        self.refresh.append(self._new_refresh())
        return self._granted(refresh_token=self.refresh[-1])

    def _is_proved(self, request: Request) -> bool:
        form = request.form
        if "client_assertion" in form:
            return self._is_signed(form["client_assertion"], f"https://{request.headers['host']}{request.path}")
        pair = base64.b64decode(request.headers.get("authorization", "Basic ").partition(" ")[2]).decode()
        given = form.get("client_secret", pair.partition(":")[2])
        return given == self.secret

    def _is_signed(self, assertion: str, audience: str) -> bool:
        head, body, signature = assertion.split(".")
        header, claims = json.loads(_decoded(head)), json.loads(_decoded(body))
        self.assertions.append({**header, **claims})
        der = next((each for each in self.uploaded if _encoded(hashlib.sha256(each)) == header["x5t#S256"]), None)
        if der is None or (header["alg"], claims["aud"], claims["iss"]) != ("PS256", audience, self.client):
            return False
        key = x509.load_der_x509_certificate(der).public_key()
        salt = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
        key.verify(_decoded(signature), f"{head}.{body}".encode(), salt, hashes.SHA256())
        return True

    def _granted(self, **more: str) -> Answer:
        self.access.append(self._token("access"))
        made = {"access_token": self.access[-1], "token_type": "Bearer", "expires_in": self.expires_in}
        if self.refresh_expires_in:
            made["refresh_expires_in"] = self.refresh_expires_in
        return 200, {**made, **more}

    def _new_refresh(self) -> str:
        self.issued.append(self._token("refresh"))
        return self.issued[-1]

    def _token(self, name: str) -> str:
        return f"{name}-{secrets.token_urlsafe(self.token_bytes)}"

    def _id_token(self) -> str:
        claims = base64.urlsafe_b64encode(json.dumps({"email": self.person}).encode()).rstrip(b"=").decode()
        return f"e30.{claims}.c2ln"


def http(status: int, values: Any, *headers: str) -> bytes:
    """An answer of HTTP: JSON, or a text as it is."""
    body = values.encode() if isinstance(values, str) else json.dumps(values).encode()
    head = [f"HTTP/1.1 {status} X", "Content-Type: application/json", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*head, "", ""]).encode() + body


def silent(_sock: ssl.SSLSocket, stopping: threading.Event) -> None:
    """Never answer."""
    stopping.wait(PATIENCE_SECONDS)


def drip(sock: ssl.SSLSocket, stopping: threading.Event) -> None:
    """Send one byte after another of a head that never ends."""
    while not stopping.wait(0.05):
        sock.sendall(b"x")


def drip_body(sock: ssl.SSLSocket, stopping: threading.Event) -> None:
    """Send a good head, and one byte after another of a body."""
    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n")
    drip(sock, stopping)


def endless(sock: ssl.SSLSocket, stopping: threading.Event) -> None:
    """Send a body without an end."""
    sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while not stopping.is_set():
        sock.sendall(b'{"access_token": "' + b"x" * 4096)


def endless_head(sock: ssl.SSLSocket, stopping: threading.Event) -> None:
    """Send answers that all promise one more (RFC 9110, 15.2.1)."""
    while not stopping.is_set():
        sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)


def half(sock: ssl.SSLSocket, _stopping: threading.Event) -> None:
    """Send half of an answer, and close."""
    sock.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"access_token": "ab')


def _request(sock: ssl.SSLSocket) -> Request:
    raw = b""
    while b"\r\n\r\n" not in raw:
        raw += _some(sock)
    head, _, body = raw.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    while len(body) < int(headers.get("content-length", "0")):
        body += _some(sock)
    method, path, _ = first.split(" ")
    return Request(method, path, headers, dict(urllib.parse.parse_qsl(body.decode())))


def _some(sock: ssl.SSLSocket) -> bytes:
    chunk = sock.recv(65536)
    if not chunk:
        raise ConnectionError
    return chunk


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _encoded(digest: Any) -> str:
    return base64.urlsafe_b64encode(digest.digest()).rstrip(b"=").decode()
