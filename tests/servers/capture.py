"""A relay on loopback that keeps every byte between the product and a mail server, to be searched afterwards."""

from __future__ import annotations

import base64
import contextlib
import socket
import threading
import urllib.parse

from tests.helpers.product import free_port

CHUNK = 65536


class Capture:
    """Relay `port` (one that the SMTP tab accepts) to `target` on loopback; `sent` and `received` are the product's."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = free_port()
        self.sent = bytearray()
        self.received = bytearray()
        self.connections = 0
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", self.port))

    def __enter__(self) -> Capture:
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for sock in [self._listener, *self._sockets]:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def crossed(self, secret: str, account: str) -> list[str]:
        """The spellings of a secret that were sent so that anybody on the wire could read them."""
        return [name for name, spelt in spellings(secret, account).items() if spelt in self.sent]

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self.target))
                self.connections += 1
                self._sockets += [near, far]
                for source, sink, kept in ((near, far, self.sent), (far, near, self.received)):
                    threading.Thread(target=_pump, args=(source, sink, kept), daemon=True).start()


def spellings(secret: str, account: str) -> dict[str, bytes]:
    """How a secret may be written, by name."""
    raw = secret.encode()
    blob = base64.b64encode(b"\0" + account.encode() + b"\0" + raw)
    return {
        "plain": raw,
        "base64": base64.b64encode(raw).rstrip(b"="),
        "auth plain": blob,
        "hex": raw.hex().encode(),
        "url": urllib.parse.quote(secret, safe="").encode(),
    }


def _pump(source: socket.socket, sink: socket.socket, kept: bytearray) -> None:
    with contextlib.suppress(OSError):
        while chunk := source.recv(CHUNK):
            kept += chunk
            sink.sendall(chunk)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
