"""The device's certificate: its names and addresses, its key kept, its dates sane whatever the clock says."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
import subprocess
import threading

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from device_ui import certificate
from tests.product import Product

NOW = datetime.datetime(2027, 1, 15, tzinfo=datetime.UTC)
NAMES, ADDRESSES = ("nas.example.com", "nas.local", "localhost"), ("192.0.2.7", "2001:db8::7")


def made(folder, now: datetime.datetime = NOW) -> x509.Certificate:
    path = certificate.make(folder, NAMES, ADDRESSES, now)
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_it_is_for_every_name_and_address(tmp_path):
    found = made(tmp_path / "tls").extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert found.get_values_for_type(x509.DNSName) == ["localhost", "nas.example.com", "nas.local"]
    addresses = ["192.0.2.7", "2001:db8::7", "127.0.0.1", "::1"]
    assert found.get_values_for_type(x509.IPAddress) == [ipaddress.ip_address(each) for each in addresses]


def test_it_is_a_servers_and_no_authoritys(tmp_path):
    found = made(tmp_path / "tls")
    assert isinstance(found.public_key(), ec.EllipticCurvePublicKey)
    assert found.public_key().curve.name == "secp256r1"
    assert not found.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    usage = found.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]


@pytest.mark.parametrize(
    ("now", "begin", "end"),
    [
        (NOW, "2026-11-01", "2029-04-19"),
        (datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC), "1970-01-01", "2029-02-03"),
    ],
    ids=["now", "1970"],
)
def test_it_holds_825_days_from_now_or_from_the_release(tmp_path, now, begin, end):
    found = made(tmp_path / "tls", now)
    assert (f"{found.not_valid_before_utc:%Y-%m-%d}", f"{found.not_valid_after_utc:%Y-%m-%d}") == (begin, end)


def test_only_its_owner_reads_the_key(tmp_path):
    made(tmp_path / "tls")
    assert (tmp_path / "tls").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "tls" / "key.pem").stat().st_mode & 0o777 == 0o600


def test_a_new_certificate_keeps_the_key(tmp_path):
    first, second = made(tmp_path / "tls"), made(tmp_path / "tls")
    assert first.public_key() == second.public_key()
    assert first.serial_number != second.serial_number


def test_two_devices_never_share_a_key(tmp_path):
    assert made(tmp_path / "one").public_key() != made(tmp_path / "other").public_key()


@pytest.mark.parametrize(
    "content", [b"", b"nonsense", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
)
def test_a_damaged_key_is_set_aside(tmp_path, content):
    (tmp_path / "tls").mkdir()
    (tmp_path / "tls" / "key.pem").write_bytes(content)
    made(tmp_path / "tls")
    assert (tmp_path / "tls" / "key.pem.damaged-1").read_bytes() == content


def test_a_name_that_is_too_long_for_a_common_name_is_an_alternative_one(tmp_path):
    name = "n" * 63 + ".example.com"
    path = certificate.make(tmp_path / "tls", [name, "localhost"], [], NOW)
    found = x509.load_pem_x509_certificate(path.read_bytes())
    assert found.subject.rfc4514_string() == "CN=localhost"
    assert name in path.parent.joinpath("certificate.pem").name or name in str(found.extensions)


def test_the_addresses_are_those_of_the_interfaces():
    for address in certificate.own_addresses():
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.bind((address, 0))


def test_the_command_makes_what_a_client_can_trust(product: Product, tmp_path):
    done = product.command("certificate", "--folder", str(tmp_path / "tls"), "--name", "nas.example.com")
    assert (done.returncode, done.stderr) == (0, "")
    path, fingerprint = done.stdout.splitlines()
    shown = subprocess.run(
        ["openssl", "x509", "-in", path, "-noout", "-fingerprint", "-sha256"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.partition("=")[2].strip() == fingerprint.removeprefix("SHA-256 ")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(path, tmp_path / "tls" / "key.pem")
    ours, theirs = socket.socketpair()
    thread = threading.Thread(target=lambda: server.wrap_socket(theirs, server_side=True).close())
    thread.start()
    client = ssl.create_default_context(cafile=path)
    with client.wrap_socket(ours, server_hostname="nas.example.com") as sock:
        assert sock.getpeercert()
    thread.join(10)
