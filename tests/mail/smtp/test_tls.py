"""TLS 1.2 at least: no login goes to a mail server that only speaks what is older, on any build of Python."""

from __future__ import annotations

import ast
import datetime
import socket
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from device_ui.mail.smtp import probe, tls
from tests.helpers.product import ROOT
from tests.mail.smtp.test_client import HOST, carries_login, client_for, deliver, failure_of
from tests.mail.smtp.test_probe import SECONDS, address_of
from tests.servers.authority import Certificates
from tests.servers.scripted import ScriptedServer

# The versions, and the cipher suites that each is tried with; TLS 1.0 with RSA key exchange is what Debian 12 accepts.
OLD = {
    "TLSv1": (ssl.TLSVersion.TLSv1, "AES256-SHA"),
    "TLSv1.1": (ssl.TLSVersion.TLSv1_1, "AES256-SHA"),
    "TLSv1 with ECDHE": (ssl.TLSVersion.TLSv1, "ECDHE-RSA-AES256-SHA"),
}
# A context is made with one of these (`ssl.SSLContext` alone is also a type), or inside the standard library.
MAKERS = {"PROTOCOL_TLS", "PROTOCOL_TLS_CLIENT", "PROTOCOL_TLS_SERVER", "create_default_context"}
MAKERS |= {"_create_unverified_context", "_create_stdlib_context", "HTTPSConnection", "SMTP_SSL"}

pytestmark = pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1:DeprecationWarning")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return Certificates(HOST, tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def chain(certificates):
    return certificates.chain(rsa_bits=2048)


@pytest.fixture(params=OLD)
def old(request, chain):
    """The server's side of one old version."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    version, suite = OLD[request.param]
    context.minimum_version, context.maximum_version = ssl.TLSVersion.MINIMUM_SUPPORTED, version
    context.set_ciphers(f"{suite}:@SECLEVEL=0")
    return context


def lax(certificates):
    """A client's context that accepts whatever OpenSSL can do."""
    context = ssl.create_default_context(cadata=certificates.authority.pem.decode())
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.set_ciphers("ALL:@SECLEVEL=0")
    return context


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_a_server_that_speaks_only_old_tls_gets_no_byte_of_the_login(security, old, certificates):
    with ScriptedServer(context=old, tls_first=security == "tls") as server:
        error = failure_of(client_for(server, certificates.context, security=security))
    assert (error.step, error.problem) == ("tls", "TLS too old")
    assert not carries_login(server.received)


def test_such_a_server_gets_it_of_a_client_without_a_minimum(old, certificates):
    with ScriptedServer(context=old) as server:
        deliver(client_for(server, lax(certificates)))
    assert carries_login(server.received)


def test_the_minimum_alone_keeps_it_from_such_a_server(old, certificates):
    with ScriptedServer(context=old) as server:
        error = failure_of(client_for(server, tls.at_least_1_2(lax(certificates))))
    assert (error.step, error.problem) == ("tls", "TLS too old")
    assert not carries_login(server.received)


def test_the_closer_look_does_not_speak_old_tls_either(old):
    with ScriptedServer(context=old, tls_first=True) as server:
        assert probe.first_line(address_of(server.port), HOST, SECONDS, tls=True) is None
    with ScriptedServer(context=old) as server:
        assert probe.chain(address_of(server.port), HOST, SECONDS, starttls=True) == ()


def test_a_server_of_ours_refuses_a_client_that_speaks_only_old_tls(old, chain, certificates):
    client = lax(certificates)
    client.maximum_version = old.maximum_version
    with ScriptedServer(context=tls.server(chain), tls_first=True) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=SECONDS) as sock:
            with pytest.raises(ssl.SSLError, match="ALERT_PROTOCOL_VERSION"):
                client.wrap_socket(sock, server_hostname=HOST)


@pytest.mark.parametrize("make", [tls.trusted, tls.unverified, lambda: tls.at_least_1_2(ssl.create_default_context())])
def test_a_clients_context_has_the_minimum(make):
    assert make().minimum_version == ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize(
    ("asked", "least"), [("MINIMUM_SUPPORTED", "TLSv1_2"), ("TLSv1_2", "TLSv1_2"), ("TLSv1_3", "TLSv1_3")]
)
def test_what_the_system_asks_for_is_never_lowered(asked, least):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion[asked]
    assert tls.at_least_1_2(context).minimum_version == ssl.TLSVersion[least]


def makers(source):
    """The names in a module's source with which a context could be made."""
    names = [getattr(node, "attr", "") or getattr(node, "id", "") for node in ast.walk(ast.parse(source))]
    return [name for name in names if name in MAKERS]


def test_contexts_are_made_in_one_module_and_each_with_the_minimum():
    found = {
        str(path.relative_to(ROOT / "device_ui")): makers(path.read_text())
        for path in (ROOT / "device_ui").rglob("*.py")
    }
    assert {name for name, made in found.items() if made} == {"mail/smtp/tls.py"}
    source = ast.parse((ROOT / "device_ui" / "mail" / "smtp" / "tls.py").read_text())
    guarded = [
        argument
        for node in ast.walk(source)
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "at_least_1_2"
        for argument in node.args
    ]
    assert sorted(name for argument in guarded for name in makers(ast.unparse(argument))) == sorted(
        found["mail/smtp/tls.py"]
    )


# The same verdict on every version of Python.

STRICT = ssl.VERIFY_X509_STRICT
DAY = datetime.timedelta(days=1)


def home_chain(folder):
    """The files of an authority and of a server's chain, without what RFC 5280 demands and no verification needs.

    No key usage, no key identifiers: as in home-assistant#133506, strimzi-kafka-operator#11375 and gori#1168.
    """
    key, server_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)

    def certificate(name, public_key, extension):
        named = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, each)]) for each in ("Home CA", name)]
        builder = x509.CertificateBuilder(*named).public_key(public_key).serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now - DAY).not_valid_after(now + DAY)
        return builder.add_extension(extension, critical=False).sign(key, hashes.SHA256())

    root = certificate("Home CA", key.public_key(), x509.BasicConstraints(ca=True, path_length=None))
    leaf = certificate(HOST, server_key.public_key(), x509.SubjectAlternativeName([x509.DNSName(HOST)]))
    pem = serialization.Encoding.PEM
    private = server_key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "root.pem").write_bytes(root.public_bytes(pem))
    (folder / "chain.pem").write_bytes(private + leaf.public_bytes(pem))
    return folder / "root.pem", folder / "chain.pem"


def test_a_home_authority_is_accepted_on_every_python(tmp_path):
    root, chain = home_chain(tmp_path)
    with ScriptedServer(chain=chain) as server:
        outcomes = deliver(client_for(server, tls.trusted([str(root)])))
    assert [each.verdict for each in outcomes.values()] == ["delivered"]


def test_such_an_authority_is_what_strict_verification_refuses(tmp_path):
    # What `ssl.create_default_context` does from Python 3.13 on.
    root, chain = home_chain(tmp_path)
    context = tls.trusted([str(root)])
    context.verify_flags |= STRICT
    with ScriptedServer(chain=chain) as server:
        error = failure_of(client_for(server, context))
    assert (error.step, error.problem) == ("certificate", "bad certificate")
    assert not carries_login(server.received)


def test_a_trusted_intermediate_authority_is_enough(certificates, tmp_path):
    # `VERIFY_X509_PARTIAL_CHAIN`, which Python sets from 3.13 on: here the leaf itself is what is trusted.
    chain = certificates.chain()
    leaf = tmp_path / "leaf.pem"
    leaf.write_bytes(b"-----BEGIN CERT" + chain.read_bytes().partition(b"-----BEGIN CERT")[2])
    with ScriptedServer(chain=chain) as server:
        outcomes = deliver(client_for(server, tls.trusted([str(leaf)])))
    assert [each.verdict for each in outcomes.values()] == ["delivered"]


def test_the_flags_of_verification_are_set_and_not_inherited():
    context = tls.trusted()
    assert context.verify_flags == ssl.VERIFY_X509_TRUSTED_FIRST | ssl.VERIFY_X509_PARTIAL_CHAIN
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


@pytest.mark.parametrize(("level", "least"), [(0, 2), (1, 2), (2, 2), (3, 3)])
def test_a_lower_security_level_is_raised_and_a_higher_one_kept(level, least):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_ciphers(f"ECDHE+AESGCM:@SECLEVEL={level}")
    names = [each["name"] for each in context.get_ciphers()]
    assert tls.at_least_1_2(context).security_level == least
    assert [each["name"] for each in context.get_ciphers()] == names
