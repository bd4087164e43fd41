"""The closer look: what a server shows to somebody who proves nothing and asks for nothing."""

from __future__ import annotations

import datetime
import hashlib
import re
import socket
import ssl
import subprocess
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from device_ui.mail.smtp import probe
from tests.helpers.product import free_port
from tests.servers import scripted
from tests.servers.authority import Authority, Certificates
from tests.servers.scripted import ScriptedServer, leading_to

HOST = "mail.example.test"
SECONDS, QUICK = 5.0, 0.4
IN_TIME = 60.0  # far below the end of what must not be waited for, with room for a busy machine
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


# What does it say, in TLS or without?


@pytest.mark.parametrize("tls", [True, False])
def test_the_first_line_is_read_and_nothing_is_said(tls, chain):
    with ScriptedServer(chain=chain, tls_first=tls) as server:
        assert probe.first_line(address_of(server.port), HOST, SECONDS, tls=tls) == scripted.GOOD["greeting"]
    assert server.commands == []


def test_a_server_that_says_nothing_in_tls_still_speaks_it(chain):
    with ScriptedServer({"greeting": scripted.silent}, chain=chain, tls_first=True) as server:
        assert probe.first_line(address_of(server.port), HOST, QUICK, tls=True) == ""


def test_a_line_that_is_no_greeting_is_one_printable_line():
    with ScriptedServer({"greeting": lambda session, _: session.say(b"SSH-2.0 \x1b[2J\r\n")}) as server:
        assert probe.first_line(address_of(server.port), HOST, SECONDS, tls=False) == "SSH-2.0  [2J"


def request_of_a_certificate(chain):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


@pytest.mark.parametrize("tls_first", [True, False])
@pytest.mark.parametrize("wanted", [True, False])
def test_a_request_for_a_clients_certificate_is_seen(wanted, tls_first, chain):
    context = request_of_a_certificate(chain) if wanted else None
    with ScriptedServer(chain=chain, context=context, tls_first=tls_first) as server:
        seen = probe.wants_certificate(address_of(server.port), HOST, SECONDS, starttls=not tls_first)
    assert seen is wanted


@pytest.mark.parametrize("greeting", [scripted.GOOD["greeting"], scripted.close, scripted.garbage, scripted.silent])
def test_a_server_without_tls_asks_for_no_certificate(greeting):
    with ScriptedServer({"greeting": greeting}) as server:
        assert not probe.wants_certificate(address_of(server.port), HOST, QUICK, starttls=False)


@pytest.mark.parametrize("greeting", [scripted.GOOD["greeting"], scripted.close, scripted.garbage, scripted.long_line])
def test_a_server_that_begins_in_the_clear_does_not(greeting):
    with ScriptedServer({"greeting": greeting}) as server:
        assert probe.first_line(address_of(server.port), HOST, SECONDS, tls=True) is None


@pytest.mark.parametrize("greeting", [scripted.silent, scripted.drip])
def test_the_probe_of_a_silent_server_ends_in_time(greeting):
    started = time.monotonic()
    with ScriptedServer({"greeting": greeting}) as server:
        assert probe.first_line(address_of(server.port), HOST, QUICK, tls=True) is None
    assert time.monotonic() - started < IN_TIME


def test_a_port_where_nothing_listens_speaks_nothing():
    assert probe.first_line(address_of(free_port()), HOST, SECONDS, tls=False) is None


@pytest.mark.parametrize("host", ["", ".", "a" * 300])
def test_an_impossible_name_is_no_error_of_the_probe(host, chain):
    with ScriptedServer(chain=chain, tls_first=True) as server:
        assert probe.first_line(address_of(server.port), host, SECONDS, tls=True) in (None, scripted.GOOD["greeting"])


# What does its certificate say?


@pytest.mark.parametrize("tls_first", [True, False])
def test_a_certificate_is_read_however_tls_begins(tls_first, certificates):
    shown = certificates.chain("mail.example.com", "192.0.2.7", "2001:db8::7", not_before=BEGINS, not_after=ENDS)
    with ScriptedServer(chain=shown, tls_first=tls_first) as server:
        (found,) = probe.chain(address_of(server.port), HOST, SECONDS, starttls=not tls_first)
    names = ("mail.example.com", "192.0.2.7", "2001:db8::7")
    assert (found.names, found.begins, found.ends) == (names, BEGINS, ENDS)
    assert (found.issuer, found.subject) == ("CN=Test authority", "CN=mail.example.com")


def test_the_sha_256_of_certificate_and_key_are_those_of_openssl(certificates):
    shown = certificates.chain(HOST)
    found = probe.read(der(shown.read_bytes()))
    key = openssl("pkey", "-pubin", "-outform", "der", given=openssl("x509", "-in", shown, "-noout", "-pubkey"))
    assert found.key_sha256 == hashlib.sha256(key).hexdigest()
    assert found.sha256 == hashlib.sha256(openssl("x509", "-in", shown, "-outform", "der")).hexdigest()


def test_the_sha_256_of_a_compressed_point_is_that_of_its_own_bytes(tmp_path):
    """Encoded anew, a point has both coordinates."""
    key, made = tmp_path / "key.pem", tmp_path / "made.pem"
    drawn = openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout")
    openssl("pkey", "-ec_conv_form", "compressed", "-out", key, given=drawn)
    openssl("req", "-x509", "-key", key, "-subj", f"/CN={HOST}", "-out", made)
    compressed = openssl("pkey", "-pubin", "-outform", "der", given=openssl("x509", "-in", made, "-noout", "-pubkey"))
    assert len(compressed) < 91  # of a P-256 key with both coordinates
    assert probe.read(der(made.read_bytes())).key_sha256 == hashlib.sha256(compressed).hexdigest()


def openssl(*arguments, given=b""):
    return subprocess.run(["openssl", *arguments], input=given, capture_output=True, check=True, timeout=60).stdout


def test_nothing_but_starttls_is_asked_for(chain):
    with ScriptedServer(chain=chain) as server:
        probe.chain(address_of(server.port), HOST, SECONDS, starttls=True)
    assert server.commands == ["ehlo [127.0.0.1]", "STARTTLS"]


@pytest.mark.parametrize("step", ["greeting", "EHLO", "STARTTLS"])
@pytest.mark.parametrize(
    "answer", ["421 no", "554 no", "nonsense", scripted.close, scripted.reset, scripted.garbage, scripted.endless]
)
def test_a_server_that_never_reaches_tls_shows_no_certificate(step, answer, chain):
    with ScriptedServer({step: answer}, chain=chain) as server:
        assert probe.chain(address_of(server.port), HOST, SECONDS, starttls=True) == ()


@pytest.mark.parametrize("step", ["greeting", "EHLO", "STARTTLS", "handshake"])
@pytest.mark.parametrize("fault", [scripted.silent, scripted.drip])
def test_the_probe_of_a_slow_server_ends_in_time(step, fault, chain):
    started = time.monotonic()
    with ScriptedServer({step: fault}, chain=chain) as server:
        assert probe.chain(address_of(server.port), HOST, QUICK, starttls=True) == ()
    assert time.monotonic() - started < IN_TIME


def test_a_dead_address_shows_no_certificate():
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        with socket.create_connection(full.getsockname()):  # Linux drops what no longer fits
            started = time.monotonic()
            assert probe.chain(address_of(full.getsockname()[1]), HOST, QUICK, starttls=False) == ()
    assert time.monotonic() - started < IN_TIME


def test_ten_names_of_a_certificate_are_kept_at_most():
    names = [f"{number}.example.com" for number in range(30)]
    found = probe.read(der(Authority("Test authority").issue(names).cert_pem))
    assert found.names == tuple(names[:10])


def test_the_texts_of_a_certificate_are_printable_and_short():
    certificate = Authority("A\x1b[31m\x00\nB").issue(["a\x1b[31m\x07.example.com", "x" * 200 + ".example.com"])
    found = probe.read(der(certificate.cert_pem))
    assert found.names == ("a??31m?.example.com", "x" * 100)
    assert found.issuer.isprintable()


def test_a_certificate_without_other_names_has_its_common_name():
    assert probe.read(der(Authority("Test authority").pem)).names == ("Test?authority",)


@pytest.mark.parametrize("raw", [b"", b"no certificate", b"0\x82\x01\x00" + b"\x00" * 256])
def test_bytes_that_are_no_certificate_are_an_error(raw):
    with pytest.raises(ValueError):
        probe.read(raw)


def test_texts_of_a_certificate_cannot_pass_for_a_fingerprint():
    """What the server chooses is shown beside fingerprints that a person compares."""
    digits = "0f" * 32
    claim = f"{HOST}). SHA-256 of the key: {':'.join(['0F'] * 32)}."
    named = x509.Name([x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, f"A”. SHA-256 of the key: {digits}")])
    key = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateBuilder(named, named, key.public_key(), 1, BEGINS, ENDS)
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(claim)]), critical=False)
    found = probe.read(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER))
    assert re.fullmatch("[0-9A-Za-z.?-]+", found.names[0])
    assert [(digits in text, "”" in text) for text in (found.subject, found.issuer)] == [(False, False)] * 2
