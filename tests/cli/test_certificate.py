"""The device's certificate: its names and addresses, its key kept, its dates sane whatever the clock says."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from device_ui.cli import certificate
from tests.helpers.product import ROOT, Product

NOW = datetime.datetime(2027, 1, 15, tzinfo=datetime.UTC)
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
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
    [(NOW, "2027-01-14", "2028-01-14"), (EPOCH, "2026-11-01", "2027-11-01")],
    ids=["now", "1970"],
)
def test_it_holds_a_year_from_yesterday_or_from_the_release(tmp_path, now, begin, end):
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


def test_strict_verifiers_take_it_once_it_is_trusted(tmp_path):
    made(tmp_path / "tls", datetime.datetime.now(datetime.UTC))
    path = str(tmp_path / "tls" / "certificate.pem")
    words = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-verify_ip", "192.0.2.7"]
    done = subprocess.run([*words, "-CAfile", path, path], capture_output=True, text=True)
    assert done.stdout == f"{path}: OK\n", done.stderr


def test_it_names_its_own_key_twice(tmp_path):
    """As its subject's and as its issuer's: strict verifiers look for both (RFC 5280, 4.2.1.1)."""
    extensions = made(tmp_path / "tls").extensions
    subject = extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    assert extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier == subject


def test_the_key_signs_and_does_nothing_else(tmp_path):
    usage = made(tmp_path / "tls").extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.digital_signature
    assert not (usage.key_cert_sign or usage.key_encipherment or usage.key_agreement or usage.crl_sign)


# When a new one is needed.


def problem(folder, now: datetime.datetime = NOW, names=NAMES, addresses=ADDRESSES) -> str:
    return certificate.problem(folder, names, addresses, now)


def test_a_certificate_that_is_well_stays(tmp_path):
    made(tmp_path)
    assert problem(tmp_path) == ""
    assert problem(tmp_path, names=NAMES[:1], addresses=[]) == ""


def test_a_new_address_or_name_needs_a_new_one(tmp_path):
    made(tmp_path)
    assert problem(tmp_path, addresses=["192.0.2.7", "192.0.2.9"]) == "it is not for 192.0.2.9"
    assert problem(tmp_path, names=["nas.local", "new.local"]) == "it is not for new.local"


@pytest.mark.parametrize(
    ("days", "told"),
    [(334, ""), (335, "it ends on 2028-01-14"), (400, "it ends on 2028-01-14"), (-30, "it begins on 2027-01-14")],
)
def test_it_is_renewed_thirty_days_before_its_end(tmp_path, days, told):
    made(tmp_path)
    assert problem(tmp_path, NOW + datetime.timedelta(days=days)) == told


def test_a_clock_that_is_plainly_wrong_renews_nothing(tmp_path):
    made(tmp_path)
    assert problem(tmp_path, EPOCH) == ""


def test_none_and_a_damaged_one_are_made_anew(tmp_path):
    assert problem(tmp_path) == "there is none"
    (tmp_path / "certificate.pem").write_text("nonsense")
    assert problem(tmp_path) == "it cannot be read"
    made(tmp_path)
    assert (tmp_path / "certificate.pem.damaged-1").read_text() == "nonsense"
    assert problem(tmp_path) == ""


def test_every_damaged_byte_is_told_and_none_is_a_crash(tmp_path):
    whole = made(tmp_path)
    path = tmp_path / "certificate.pem"
    raw = path.read_bytes()
    for place in range(len(raw)):
        path.write_bytes(raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :])
        # A line end in base64 may be anything, and with another issuer it is somebody else's.
        told = problem(tmp_path) or not certificate.is_own(tmp_path)
        assert told or x509.load_pem_x509_certificate(path.read_bytes()) == whole


def test_a_serial_number_that_became_negative_is_told(tmp_path):
    whole = made(tmp_path)
    raw, serial = whole.public_bytes(Encoding.DER), whole.serial_number.to_bytes(20)
    worse = raw.replace(serial, bytes([serial[0] | 0x80]) + serial[1:], 1)
    (tmp_path / "certificate.pem").write_text(ssl.DER_cert_to_PEM_cert(worse))
    assert problem(tmp_path)


def test_a_certificate_of_another_key_is_made_anew(tmp_path):
    made(tmp_path)
    (tmp_path / "key.pem").unlink()
    assert problem(tmp_path) == "key.pem is not its key"


def test_a_new_certificate_keeps_the_names_and_not_the_addresses(tmp_path):
    made(tmp_path)
    path = certificate.make(tmp_path, ["localhost"], ["192.0.2.9"], NOW)
    found = x509.load_pem_x509_certificate(path.read_bytes()).extensions
    names = found.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == sorted(NAMES)
    addresses = [str(each) for each in names.get_values_for_type(x509.IPAddress)]
    assert addresses == ["192.0.2.9", "127.0.0.1", "::1"]


def put_foreign(folder: Path, days: int, *more: str) -> Path:
    """A certificate of somebody else's making, in place of ours."""
    name = ["-newkey", "rsa:2048", "-noenc", "-subj", "/CN=nas.example.com", "-days", str(days), *more]
    files = ["-keyout", folder / "key.pem", "-out", folder / "certificate.pem"]
    subprocess.run(["openssl", "req", "-x509", *name, *files], check=True, capture_output=True)
    return folder


@pytest.fixture
def foreign(tmp_path) -> Path:
    """One that ends soon."""
    return put_foreign(tmp_path, 5)


def test_one_that_somebody_put_in_its_place_is_left_alone(product: Product, foreign):
    before = (foreign / "certificate.pem").read_bytes(), (foreign / "key.pem").read_bytes()
    done = product.call("certificate", "--folder", str(foreign), "--if-needed")
    assert (done.returncode, done.stderr) == (1, "")
    assert "it is not of this device, but it ends on" in done.stdout
    assert ((foreign / "certificate.pem").read_bytes(), (foreign / "key.pem").read_bytes()) == before


def test_one_that_somebody_put_in_its_place_is_asked_for_its_dates_and_its_key(tmp_path):
    put_foreign(tmp_path, 400)
    now = datetime.datetime.now(datetime.UTC)  # only now: it begins with the second it was made in
    assert problem(tmp_path, now) == ""
    assert problem(tmp_path, now - datetime.timedelta(days=5)) == f"it begins on {now:%Y-%m-%d}"
    (tmp_path / "key.pem").write_text("nonsense")
    assert problem(tmp_path, now) == "key.pem is not its key"
    assert not certificate.is_own(tmp_path)


def test_one_of_an_old_authority_without_a_serial_number_is_somebodys(tmp_path):
    put_foreign(tmp_path, 400, "-set_serial", "0")
    now = datetime.datetime.now(datetime.UTC)
    assert (problem(tmp_path, now), certificate.is_own(tmp_path)) == ("", False)


def test_one_that_somebody_put_there_is_kept_when_ours_is_asked_for(foreign):
    before = (foreign / "certificate.pem").read_bytes()
    made(foreign)
    assert (foreign / "certificate.pem.damaged-1").read_bytes() == before


def test_the_command_makes_one_only_if_it_is_needed(product: Product):
    words = ("certificate", "--if-needed")
    first = product.call(*words)
    assert first.stdout.startswith("A new certificate is needed: there is none.\n")
    again, other = product.call(*words), product.call(*words, "--address", "2001:DB8::7")
    assert (first.returncode, again.returncode, other.returncode) == (0, 1, 0)
    assert "it is not for 2001:db8::7." in other.stdout


def test_an_address_that_is_none_is_refused(product: Product):
    done = product.call("certificate", "--address", "nas")
    assert done.returncode == 64
    assert done.stderr.startswith("device-ui: argument --address: invalid ip_address value: 'nas'")


def test_check_tells_how_the_certificate_is(product: Product):
    def line() -> str:
        return next(each for each in product.call("check").stdout.splitlines() if "TLS certificate" in each)

    assert line() == "OK    TLS certificate: none; device-ui certificate makes one, for nginx or stunnel"
    product.folders.tls.mkdir(parents=True)
    assert line() == "FAIL  TLS certificate: there is none; device-ui certificate makes a new one"
    product.call("certificate")
    assert line().startswith("OK    TLS certificate: SHA-256 ")
    (product.folders.tls / "certificate.pem").write_text("nonsense")
    assert line() == "FAIL  TLS certificate: it cannot be read; device-ui certificate makes a new one"


def test_a_name_that_is_too_long_for_a_common_name_is_an_alternative_one(tmp_path):
    name = "n" * 63 + ".example.com"
    path = certificate.make(tmp_path / "tls", [name, "localhost"], [], NOW)
    found = x509.load_pem_x509_certificate(path.read_bytes())
    assert found.subject.rfc4514_string() == "O=Self-signed by this device,CN=localhost"
    assert name in str(found.extensions)


def test_the_addresses_are_those_of_the_interfaces():
    for address in certificate.own_addresses():
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.bind((address, 0))


def test_every_address_of_an_interface_is_found_in_another_network_namespace(tmp_path):
    """Secondary ones, with a label and without, and those of another network on the same interface."""
    addresses = ("192.0.2.7/24", "192.0.2.8/24", "198.51.100.9/24 label lo:1", "203.0.113.1/32")
    lines = ["busybox ip link set lo up", *(f"busybox ip addr add {each} dev lo" for each in addresses)]
    lines.append(
        f"exec {sys.executable} -c 'from device_ui.cli import certificate; print(*certificate.own_addresses())'"
    )
    words = ["unshare", "--net", "sh", "-ec", "\n".join(lines)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert sorted(done.stdout.split()) == ["192.0.2.7", "192.0.2.8", "198.51.100.9", "203.0.113.1"], done.stderr


def test_an_address_of_a_day_is_no_reason_for_a_new_certificate(tmp_path):
    """Flags: permanent, temporary, deprecated, tentative, refused as somebody else's."""
    flags = ("80", "00", "01", "21", "c0", "88")
    lines = [f"20010db80000000000000000000000{n:02x} 02 40 00 {each} eth0\n" for n, each in enumerate(flags, 1)]
    (tmp_path / "if_inet6").write_text("".join(lines))
    assert list(certificate.ipv6_addresses(tmp_path / "if_inet6")) == ["2001:db8::1", "2001:db8::2"]
    assert list(certificate.ipv6_addresses(tmp_path / "none")) == []


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
    thread.join(60)
