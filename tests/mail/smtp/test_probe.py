"""The closer look: what a server shows to somebody who proves nothing and asks for nothing."""

from __future__ import annotations

import datetime
import socket
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from device_ui.mail.smtp import probe
from tests.helpers.product import free_port
from tests.servers import scripted
from tests.servers.authority import Authority, Certificates
from tests.servers.scripted import ScriptedServer, leading_to

HOST = "mail.example.test"
SECONDS, QUICK = 5.0, 0.4
IN_TIME = 3.0
BEGINS = datetime.datetime(2020, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
ENDS = datetime.datetime(2021, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return Certificates(HOST, tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def chain(certificates):
    return certificates.chain()


def address_of(port):
    return leading_to("127.0.0.1")(HOST, port)[0]


def der(pem):
    return x509.load_pem_x509_certificate(pem).public_bytes(serialization.Encoding.DER)


# Does it speak TLS?


def test_a_server_that_begins_with_tls_speaks_it(chain):
    with ScriptedServer(chain=chain, tls_first=True) as server:
        assert probe.speaks_tls(address_of(server.port), HOST, SECONDS)
    assert server.commands == []


@pytest.mark.parametrize("greeting", [scripted.GOOD["greeting"], scripted.close, scripted.garbage, scripted.long_line])
def test_a_server_that_begins_in_the_clear_does_not(greeting):
    with ScriptedServer({"greeting": greeting}) as server:
        assert not probe.speaks_tls(address_of(server.port), HOST, SECONDS)


@pytest.mark.parametrize("greeting", [scripted.silent, scripted.drip])
def test_the_probe_of_a_silent_server_ends_in_time(greeting):
    started = time.monotonic()
    with ScriptedServer({"greeting": greeting}) as server:
        assert not probe.speaks_tls(address_of(server.port), HOST, QUICK)
    assert time.monotonic() - started < IN_TIME


def test_a_port_where_nothing_listens_speaks_nothing():
    assert not probe.speaks_tls(address_of(free_port()), HOST, SECONDS)


@pytest.mark.parametrize("host", ["", ".", "a" * 300])
def test_an_impossible_name_is_no_error_of_the_probe(host, chain):
    with ScriptedServer(chain=chain, tls_first=True) as server:
        assert probe.speaks_tls(address_of(server.port), host, SECONDS) in (True, False)


# What does its certificate say?


@pytest.mark.parametrize("tls_first", [True, False])
def test_a_certificate_is_read_however_tls_begins(tls_first, certificates):
    shown = certificates.chain("mail.example.com", "192.0.2.7", "2001:db8::7", not_before=BEGINS, not_after=ENDS)
    with ScriptedServer(chain=shown, tls_first=tls_first) as server:
        found = probe.certificate(address_of(server.port), HOST, SECONDS, starttls=not tls_first)
    names = ("mail.example.com", "192.0.2.7", "2001:db8::7")
    assert found == probe.Certificate(names, BEGINS, ENDS, "CN=Test authority")


def test_nothing_but_starttls_is_asked_for(chain):
    with ScriptedServer(chain=chain) as server:
        probe.certificate(address_of(server.port), HOST, SECONDS, starttls=True)
    assert server.commands == ["ehlo [127.0.0.1]", "STARTTLS"]


@pytest.mark.parametrize("step", ["greeting", "EHLO", "STARTTLS"])
@pytest.mark.parametrize(
    "answer", ["421 no", "554 no", "nonsense", scripted.close, scripted.reset, scripted.garbage, scripted.endless]
)
def test_a_server_that_never_reaches_tls_shows_no_certificate(step, answer, chain):
    with ScriptedServer({step: answer}, chain=chain) as server:
        assert probe.certificate(address_of(server.port), HOST, SECONDS, starttls=True) is None


@pytest.mark.parametrize("step", ["greeting", "EHLO", "STARTTLS", "handshake"])
@pytest.mark.parametrize("fault", [scripted.silent, scripted.drip])
def test_the_probe_of_a_slow_server_ends_in_time(step, fault, chain):
    started = time.monotonic()
    with ScriptedServer({step: fault}, chain=chain) as server:
        assert probe.certificate(address_of(server.port), HOST, QUICK, starttls=True) is None
    assert time.monotonic() - started < IN_TIME


def test_a_dead_address_shows_no_certificate():
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        with socket.create_connection(full.getsockname()):  # Linux drops what no longer fits
            started = time.monotonic()
            assert probe.certificate(address_of(full.getsockname()[1]), HOST, QUICK, starttls=False) is None
    assert time.monotonic() - started < IN_TIME


def test_ten_names_of_a_certificate_are_kept_at_most():
    names = [f"{number}.example.com" for number in range(30)]
    found = probe.read(der(Authority("Test authority").issue(names).cert_pem))
    assert found.names == tuple(names[:10])


def test_the_texts_of_a_certificate_are_printable_and_short():
    certificate = Authority("A\x1b[31m\x00\nB").issue(["a\x1b[31m\x07.example.com", "x" * 200 + ".example.com"])
    found = probe.read(der(certificate.cert_pem))
    assert found.names == ("a [31m .example.com", "x" * 100)
    assert found.issuer.isprintable()


def test_a_certificate_without_names_has_none():
    assert probe.read(der(Authority("Test authority").pem)).names == ()


@pytest.mark.parametrize("raw", [b"", b"no certificate", b"0\x82\x01\x00" + b"\x00" * 256])
def test_bytes_that_are_no_certificate_are_an_error(raw):
    with pytest.raises(ValueError):
        probe.read(raw)
