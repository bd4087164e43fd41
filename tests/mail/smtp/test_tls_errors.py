"""Why TLS or a certificate failed, with real TLS servers: each reason by its own name, and a field only where one helps."""

from __future__ import annotations

import base64
import datetime
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from device_ui.mail.smtp import tls
from tests.mail.smtp.test_test_run import HOST, PASSWORD, try_out
from tests.servers import scripted
from tests.servers.scripted import ScriptedServer

NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)
# RFC 2409, section 6.2: the group of 1,024 bits that old servers use.
OAKLEY = int(
    "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22514A08798E3404DD"
    "EF9519B3CD3A431B302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7ED"
    "EE386BFB5A899FA5AE9F24117C4B1FE649286651ECE65381FFFFFFFFFFFFFFFF",
    16,
)
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

pytestmark = pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1:DeprecationWarning")


def pem(*parts: x509.Certificate | Key) -> bytes:
    private = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    encoding = serialization.Encoding.PEM
    return b"".join(
        each.public_bytes(encoding) if isinstance(each, x509.Certificate) else each.private_bytes(encoding, *private)
        for each in parts
    )


def certificate(name, key, issuer=None, *, extensions=(), names=(HOST,)):
    """A certificate for `key`, issued by the pair `issuer` of a certificate and its key, or by itself."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder(issuer_name=issuer[0].subject if issuer else subject, subject_name=subject)
    builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(NOW - DAY).not_valid_after(NOW + DAY)
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(each) for each in names]), False)
    return builder.sign(issuer[1] if issuer else key, hashes.SHA256())


CA = x509.BasicConstraints(ca=True, path_length=None)


class World:
    """An authority that the client trusts, and chains for the server."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key, self.server_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        # As a home CA has it: no key usage, no key identifiers (RFC 5280 wants both).
        self.root = certificate("Home CA", self.key, extensions=[CA], names=())
        self.trusted = self.write(self.root)

    def write(self, *parts: x509.Certificate | Key) -> Path:
        path = self.folder / f"{len(list(self.folder.iterdir()))}.pem"
        path.write_bytes(pem(*parts))
        return path

    def issue(self, key: Key | None = None, **changes):
        key = key or self.server_key
        return self.write(key, certificate(HOST, key, (self.root, self.key), **changes))

    @property
    def context(self) -> ssl.SSLContext:
        return tls.trusted_alone(self.trusted.read_text())


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return World(tmp_path_factory.mktemp("world"))


def server_context(chain: Path, **changes) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if "ciphers" in changes:
        context.set_ciphers(changes.pop("ciphers"))
    context.load_cert_chain(chain)
    for name, value in changes.items():
        setattr(context, name, value)
    return context


def old_version(world):
    # gophish#2503: TLS 1.0 only.
    low, high = ssl.TLSVersion.MINIMUM_SUPPORTED, ssl.TLSVersion.TLSv1
    return server_context(world.issue(), ciphers="ALL:@SECLEVEL=0", minimum_version=low, maximum_version=high)


def weak_group(world):
    context = server_context(
        world.issue(rsa.generate_private_key(65537, 2048)),
        ciphers="DHE:@SECLEVEL=0",
        maximum_version=ssl.TLSVersion.TLSv1_2,
    )
    # PKCS #3: a sequence of the prime and the generator 2.
    der = b"\x30\x81\x87\x02\x81\x81\x00" + OAKLEY.to_bytes(128) + b"\x02\x01\x02"
    path = world.folder / "group.pem"
    path.write_bytes(b"-----BEGIN DH PARAMETERS-----\n" + base64.encodebytes(der) + b"-----END DH PARAMETERS-----\n")
    context.load_dh_params(path)
    return context


def refusing(alert):
    def make(world):
        context = server_context(world.issue())
        context.sni_callback = lambda *_: alert
        return context

    return make


def wants_certificate(version):
    def make(world):
        return server_context(world.issue(), maximum_version=version, verify_mode=ssl.CERT_REQUIRED)

    return make


def no_common_cipher(world):
    # Only suites for an RSA key, which this server does not have.
    return server_context(world.issue(), ciphers="ECDHE-RSA-AES128-GCM-SHA256", maximum_version=ssl.TLSVersion.TLSv1_2)


# The server's context; the problem; the field; words of the advice.
HANDSHAKES: dict[str, tuple[Callable[[World], ssl.SSLContext], str, str, str]] = {
    "gophish#2503": (old_version, "TLS too old", "", "needs version 1.2"),
    "home-assistant#75054, postal#990, otterwiki#71": (weak_group, "weak TLS", "", "too weak"),
    "openssl#20374, davx5-ose#1254": (
        refusing(ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME),
        "name not served",
        "host",
        "no certificate for this name",
    ),
    "httpbin#376": (refusing(ssl.ALERT_DESCRIPTION_INTERNAL_ERROR), "TLS fault", "", "a fault of its own"),
    "X-Road-Metrics#25, with TLS 1.3": (
        wants_certificate(ssl.TLSVersion.TLSv1_3),
        "client certificate wanted",
        "",
        "wants a certificate from this device",
    ),
    "X-Road-Metrics#25, with TLS 1.2": (
        wants_certificate(ssl.TLSVersion.TLSv1_2),
        "client certificate wanted",
        "",
        "wants a certificate from this device",
    ),
    "docker-mailserver#1325": (no_common_cipher, "no TLS agreed", "", "no cipher in common"),
}


@pytest.mark.parametrize("security", ["starttls", "tls"])
@pytest.mark.parametrize("report", HANDSHAKES)
def test_a_handshake_that_fails_is_explained_by_its_reason(report, security, world):
    make, problem, field, words = HANDSHAKES[report]
    with ScriptedServer(context=make(world), tls_first=security == "tls") as server:
        result = try_out(server, world.context, security=security).result
    assert result.field == field
    assert result.problem == problem
    assert words in str(result.advice)
    assert PASSWORD.encode() not in server.received


def self_signed(world):
    return world.write(world.server_key, certificate(HOST, world.server_key))


def without_intermediate(world):
    key = ec.generate_private_key(ec.SECP256R1())
    between = certificate("Intermediate", key, (world.root, world.key), extensions=[CA], names=())
    return world.write(world.server_key, certificate(HOST, world.server_key, (between, key)))


def unknown_root(world):
    key = ec.generate_private_key(ec.SECP256R1())
    root = certificate("Stranger", key, extensions=[CA], names=())
    return world.write(world.server_key, certificate(HOST, world.server_key, (root, key)), root)


def for_clients(world):
    return world.issue(extensions=[x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])])


def issued_by_no_authority(world):
    key = ec.generate_private_key(ec.SECP256R1())
    fake = certificate("No authority", key, (world.root, world.key), names=())
    leaf = certificate(HOST, world.server_key, (fake, key))
    return world.write(world.server_key, leaf, fake)


def with_sha_1(world):
    # cryptography makes none any more.
    key, root = world.write(world.server_key), world.write(world.key, world.root)
    path = world.folder / "sha1.pem"
    request = ["openssl", "req", "-new", "-key", key, "-subj", f"/CN={HOST}"]
    sign = ["openssl", "x509", "-req", "-sha1", "-CA", root, "-CAkey", root, "-CAcreateserial", "-out", path]
    made = subprocess.run(request, capture_output=True, check=True, timeout=60)
    subprocess.run(sign, input=made.stdout, capture_output=True, check=True, timeout=60)
    path.write_bytes(key.read_bytes() + path.read_bytes())
    return path


# The chain; the problem; the field; words of the advice.
CHAINS: dict[str, tuple[Callable[[World], Path], str, str, str]] = {
    "misskey#14297, docker-mailserver#3102": (self_signed, "self-signed", "trust", "made its certificate itself"),
    "PHPMailer#1111, hardware/mailserver#398": (
        without_intermediate,
        "issuer missing",
        "trust",
        "(CN=Intermediate), which the device does not know: either",
    ),
    "featmap#66": (unknown_root, "unknown authority", "trust", "(CN=Stranger)"),
    "a certificate for clients": (for_clients, "wrong purpose", "", "not made for a server"),
    "issued by no authority": (issued_by_no_authority, "bad certificate", "", "cannot be verified"),
    "RSA with 1,024 bits": (
        lambda world: world.issue(rsa.generate_private_key(65537, 1024)),  # noqa: S505
        "weak TLS",
        "",
        "too weak",
    ),
    "signed with SHA-1": (with_sha_1, "weak TLS", "", "too weak"),
    "huginn#810: another name": (
        lambda world: world.issue(names=("mail.example.net",)),
        "another name",
        "host",
        "type that as SMTP Host",
    ),
}


@pytest.mark.parametrize("security", ["starttls", "tls"])
@pytest.mark.parametrize("report", CHAINS)
def test_a_certificate_that_is_refused_is_explained_by_its_verification_code(report, security, world):
    make, problem, field, words = CHAINS[report]
    context = server_context(make(world), ciphers="DEFAULT:@SECLEVEL=0")
    with ScriptedServer(context=context, tls_first=security == "tls") as server:
        result = try_out(server, world.context, security=security).result
    assert result.field == field
    assert (result.step, result.problem) == ("certificate", problem)
    assert words in str(result.advice)
    assert PASSWORD.encode() not in server.received


def test_a_certificate_without_any_name_names_no_field(world):
    unnamed = certificate("Home CA", world.key, extensions=[CA], names=())
    nameless = x509.CertificateBuilder(issuer_name=unnamed.subject, subject_name=x509.Name([]))
    nameless = nameless.public_key(world.server_key.public_key()).serial_number(x509.random_serial_number())
    chain = world.write(
        world.server_key,
        nameless.not_valid_before(NOW - DAY).not_valid_after(NOW + DAY).sign(world.key, hashes.SHA256()),
    )
    with ScriptedServer(chain=chain) as server:
        result = try_out(server, world.context).result
    assert result.field == ""
    assert "no name at all" in str(result.advice)


def test_a_common_name_is_a_name_where_there_is_no_other(world):
    chain = world.write(
        world.server_key, certificate("old.example.test", world.server_key, (world.root, world.key), names=())
    )
    with ScriptedServer(chain=chain) as server:
        result = try_out(server, world.context).result
        followed = try_out(server, world.context, host="old.example.test").result
    assert (result.problem, result.field) == ("another name", "host")
    assert "it has the name old.example.test: type that as SMTP Host" in str(result.advice)
    assert followed.verdict == "delivered"


@pytest.mark.parametrize("answer", [scripted.close, scripted.reset, scripted.garbage, "554 5.7.0 no TLS for you"])
def test_an_end_in_the_handshake_names_no_field(answer, world):
    with ScriptedServer({"handshake": answer}, chain=world.issue()) as server:
        result = try_out(server, world.context).result
    assert (result.step, result.field) == ("tls", "")


# What answers in plain text where TLS was expected: the first bytes; the field with security auto or tls; words.
PLAIN = {
    "didacta-io#60, docuseal#425: SMTP": (
        "220 mail.example.test ESMTP",
        "security",
        "does not speak TLS from the first byte",
    ),
    "POP3": ("+OK Dovecot ready.", "port", "speaks POP3"),
    "IMAP": ("* OK [CAPABILITY IMAP4rev1] ready", "port", "speaks IMAP"),
    "SSH": ("SSH-2.0-OpenSSH_9.2p1 Debian-2", "port", "speaks SSH"),
    "HTTP": ("HTTP/1.1 400 Bad Request", "port", "speaks HTTP"),
    "FTP": ("220 (vsFTPd 3.0.3) FTP server", "port", "speaks FTP"),
    "something else": ("hello, stranger", "", "not as a mail server does"),
    "a blank line": ("", "", "not as a mail server does"),
}


@pytest.mark.parametrize("protocol", PLAIN)
def test_a_plain_text_in_place_of_tls_is_shown_and_explained(protocol, world):
    line, field, words = PLAIN[protocol]
    with ScriptedServer({"greeting": line}) as server:
        # A greeting that arrives between the look at the bytes and OpenSSL's own is lost to it: then no field is named.
        results = (try_out(server, world.context, security="tls").result for _ in range(5))
        result = next(each for each in results if each.problem != "no TLS agreed")
    assert (result.step, result.problem, result.field) == ("tls", "no TLS spoken", field)
    assert str(result.reply) == (line or "the server sent a blank line")
    assert words in str(result.advice)


def test_a_server_that_greets_late_and_in_the_clear_is_asked_again_without_tls(world):
    # Sendmail's greet_pause, Postfix's postscreen: who speaks first is dropped.
    def greet(session, line):
        if session.server.sessions.index(session):
            session.say("220 mail.example.test ESMTP")
        else:
            session.received += session.sock.recv(65536)
            scripted.close(session, line)

    with ScriptedServer({"greeting": greet}) as server:
        result = try_out(server, world.context, security="tls").result
    assert (result.step, result.problem, result.field) == ("tls", "no TLS spoken", "security")
    assert str(result.reply) == "220 mail.example.test ESMTP"
