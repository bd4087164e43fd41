"""TLS over a socket whose first bytes are looked at: a plain answer is told from TLS whenever and however it arrives."""

from __future__ import annotations

import socket
import ssl
import struct
import threading

import pytest

from device_ui.mail.smtp.tls_socket import PLAIN_TEXT_MAXIMUM, PlainText, TlsSocket
from tests.servers.authority import Certificates

HOST = "mail.example.test"
GREETING = b"220 mail.example.test ESMTP\r\n"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return Certificates(HOST, tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def chain(certificates):
    return certificates.chain()


class Wire:
    """A socket whose peer sends these pieces, one a call, and then closes; `fails`: nothing can be sent."""

    def __init__(self, *pieces: bytes, fails: bool = False) -> None:
        self.pieces, self.sent, self.fails, self.timeouts = list(pieces), b"", fails, []

    def settimeout(self, seconds: float) -> None:
        self.timeouts.append(seconds)

    def sendall(self, data: bytes) -> None:
        if self.fails:
            raise ConnectionResetError(104, "Connection reset by peer")
        self.sent += data

    def recv(self, most: int) -> bytes:
        return self.pieces.pop(0) if self.pieces else b""


class Peer(Wire):
    """A socket to a server's side of TLS in this thread, which says `greeting`; each call receives at most `most` bytes."""

    def __init__(self, chain, most: int, greeting: bytes) -> None:
        super().__init__()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain)
        self.most, self.greeting, self.read = most, greeting, b""
        self.received, self.to_send = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls, self.error = context.wrap_bio(self.received, self.to_send, server_side=True), None
        self.is_agreed = False

    def sendall(self, data: bytes) -> None:
        self.received.write(data)
        try:
            if not self.is_agreed:
                self.tls.do_handshake()
                self.is_agreed = True
                self.tls.write(self.greeting)
            while True:
                self.read += self.tls.read(65536)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            self.error = error

    def recv(self, most: int) -> bytes:
        return self.to_send.read(min(most, self.most))


def over(wire: Wire, context: ssl.SSLContext | None = None) -> TlsSocket:
    return TlsSocket(wire, context or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), HOST, lambda seconds: min(seconds, 10.0))


@pytest.mark.parametrize("size", [1, 2, 3, 5, 6, len(GREETING)])
def test_a_plain_greeting_is_read_to_its_end_in_whatever_pieces(size):
    pieces = [GREETING[start : start + size] for start in range(0, len(GREETING), size)]
    with pytest.raises(PlainText) as raised:
        over(Wire(*pieces)).do_handshake()
    assert raised.value.args == (GREETING[:-1],)


@pytest.mark.parametrize("text", [b"2", b"220 mail", b"x" * 1000])
def test_a_plain_text_without_an_end_is_one_too(text):
    with pytest.raises(PlainText) as raised:
        over(Wire(text)).do_handshake()
    assert raised.value.args == (text[:PLAIN_TEXT_MAXIMUM],)


def test_a_plain_text_before_a_reset_explains_it():
    """The server spoke and closed before the first byte of TLS could be sent."""
    with pytest.raises(PlainText, match="554 go away"):
        over(Wire(b"554 go away\r\n", fails=True)).do_handshake()
    with pytest.raises(ConnectionResetError):
        over(Wire(fails=True)).do_handshake()


@pytest.mark.parametrize("alert", [40, 70, 112])
def test_an_alert_is_tls(alert):
    with pytest.raises(ssl.SSLError) as raised:
        over(Wire(b"\x15\x03\x03\x00\x02\x02" + bytes([alert]))).do_handshake()
    assert raised.value.reason != "WRONG_VERSION_NUMBER"


def test_an_end_without_a_word_is_none():
    with pytest.raises(ssl.SSLEOFError):
        over(Wire()).do_handshake()


@pytest.mark.parametrize("most", [1, 7, 70000])
def test_tls_goes_on_in_whatever_pieces(most, certificates, chain):
    peer = Peer(chain, most, GREETING)
    sock = over(peer, certificates.context)
    sock.do_handshake()
    sock.sendall(b"EHLO nas\r\n" + bytes(100_000))
    assert peer.read == b"EHLO nas\r\n" + bytes(100_000)
    assert sock.recv(4096) == GREETING
    assert sock.version() == "TLSv1.3"
    assert sock.recv(4096) == b""  # the peer closes without TLS' own end


def test_a_certificate_that_is_not_trusted_is_refused_by_an_alert_to_the_server(chain):
    peer = Peer(chain, 70000, GREETING)
    with pytest.raises(ssl.SSLCertVerificationError):
        over(peer).do_handshake()
    assert peer.error is not None and "ALERT" in peer.error.reason


def test_each_wait_has_the_time_that_is_left(certificates, chain):
    peer, left = Peer(chain, 70000, GREETING), iter([9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0])
    sock = TlsSocket(peer, certificates.context, HOST, lambda seconds: min(seconds, next(left)))
    sock.do_handshake()
    assert peer.timeouts == sorted(peer.timeouts, reverse=True) and len({*peer.timeouts}) == len(peer.timeouts) > 1


def test_a_record_that_comes_byte_by_byte_ends_no_wait(certificates, chain):
    """Else no one would be told of a server that is silent in TLS, and no Update would end the wait."""
    peer = Peer(chain, 70000, GREETING * 100)
    sock = over(peer, certificates.context)
    sock.do_handshake()
    while not peer.to_send.pending:
        sock.sendall(b"EHLO nas\r\n")
    peer.most, slept = 1, threading.Event()
    receive, peer.recv = peer.recv, lambda most: slept.wait(0.001) or receive(most)
    sock.settimeout(0.05)
    with pytest.raises(TimeoutError) as raised:
        sock.recv(4096)
    assert raised.value.errno is None  # not the kernel's own, which means a dead connection
    sock.settimeout(60)
    assert sock.recv(4096) == (GREETING * 100)[:4096]


def test_a_real_socket_that_is_reset_after_a_plain_greeting_gives_the_greeting():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        here = socket.create_connection(listener.getsockname())
        there, _ = listener.accept()

        def speak() -> None:
            there.recv(1)  # the handshake has begun: what is not read of it makes the close a reset
            there.sendall(GREETING)
            there.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 0, 0))
            there.close()

        server = threading.Thread(target=speak)
        server.start()
        sock = TlsSocket(here, ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), HOST, lambda seconds: min(seconds, 60.0))
        with pytest.raises(PlainText) as raised:
            sock.do_handshake()
        server.join()
        sock.close()
    assert raised.value.args == (GREETING[:-1],)
