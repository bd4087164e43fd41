"""Which certificate a session accepts: the system's authorities, one of our own, or one key. No AUTH goes to any other."""

from __future__ import annotations

import datetime
import itertools
import json
import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from device_ui.errors import to_json
from device_ui.mail.smtp import probe
from device_ui.mail.smtp.outcome import SessionError
from device_ui.mail.smtp.tls import trusted
from device_ui.mail.smtp.trust import InUse, accept
from device_ui.settings.fields import SmtpSettings
from tests.mail.smtp.test_client import client_with
from tests.mail.smtp.test_test_run import ACCOUNT, HOST, PASSWORD, settings_for, try_out
from tests.mail.smtp.test_tls_errors import CA, certificate, pem
from tests.servers.authority import Authority, Certificate, self_signed
from tests.servers.scripted import ScriptedServer

SYSTEM = trusted()
DAY = datetime.timedelta(days=1)
PAST, FUTURE = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC), datetime.datetime(2040, 1, 1, tzinfo=datetime.UTC)
BOTH = pytest.mark.parametrize("security", ["starttls", "tls"])


def seen(certificate: Certificate) -> probe.Certificate:
    return probe.read(ssl.PEM_cert_to_DER_cert(certificate.cert_pem.decode()))


def pin(certificate: Certificate, **changes: str) -> dict[str, str]:
    """The settings that trust the key of this certificate."""
    return {"trust": "pin", "trust_key": seen(certificate).key_sha256, **changes}


def own(authority: Authority | Certificate) -> dict[str, str]:
    """The settings that trust this authority."""
    pem = authority.pem if isinstance(authority, Authority) else authority.cert_pem
    return {"trust": "ca", "trust_ca": pem.decode().strip()}


@pytest.fixture
def server(tmp_path: Path):
    """Makes a server that shows certificates, its own first."""
    numbers = itertools.count()

    def make(shown: Certificate, *more: bytes, security: str = "starttls") -> ScriptedServer:
        chain = tmp_path / f"{next(numbers)}.pem"
        chain.write_bytes(b"".join([shown.key_pem, shown.cert_pem, *more]))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_ciphers("DEFAULT:@SECLEVEL=0")  # a server may have a weak key
        context.load_cert_chain(chain)
        return ScriptedServer(context=context, tls_first=security == "tls")

    return make


def attempt(running: ScriptedServer, security: str = "starttls", **trust: str):
    """A test of the server; whatever comes of it, a refused certificate gets no byte of a login."""
    tried = try_out(running, SYSTEM, security=security, **trust)
    if tried.result.step == "certificate":
        assert "AUTH" not in running.verbs
        assert PASSWORD.encode() not in running.received
    return tried


# A key.

KEY = ec.generate_private_key(ec.SECP256R1())
# What a server with the trusted key may show: the key decides, whatever else its certificate has.
WITH_THE_KEY = {
    "the same": self_signed([HOST], KEY),
    "renewed": self_signed([HOST], KEY, not_before=PAST, not_after=FUTURE),
    "for another name": self_signed(["other.example.test"], KEY),
    "for an address": self_signed(["192.0.2.7"], KEY),
    "with a common name alone": self_signed([HOST], KEY, has_names=False),
    "expired": self_signed([HOST], KEY, not_after=PAST),
    "not yet valid": self_signed([HOST], KEY, not_before=FUTURE),
}
TRUSTED = WITH_THE_KEY["the same"]


@BOTH
@pytest.mark.parametrize("shown", WITH_THE_KEY)
def test_trusted_key_is_enough(shown, security, server):
    with server(WITH_THE_KEY[shown], security=security) as running:
        assert attempt(running, security, **pin(TRUSTED)).result.verdict == "delivered"
    assert "AUTH" in running.verbs


NEW_KEY = self_signed([HOST])
STRANGERS = {
    "renewed with another key": NEW_KEY,
    "issued by an authority, with another key": Authority("Test authority").issue([HOST]),
}


@BOTH
@pytest.mark.parametrize("shown", STRANGERS)
def test_another_key_gets_no_login_and_is_named_beside_the_trusted_one(shown, security, server):
    with server(STRANGERS[shown], security=security) as running:
        result = attempt(running, security, **pin(TRUSTED)).result
    found = seen(STRANGERS[shown])
    assert (result.step, result.problem, result.field) == ("certificate", "key changed", "trust_key")
    for part in (seen(TRUSTED).key_sha256, found.key_sha256, f"{found.begins:%Y-%m-%d}", f"{found.ends:%Y-%m-%d}"):
        assert part in str(result.reply)
    assert "what waits is kept" in str(result.advice)
    assert [each.key_sha256 for each in result.chain] == [found.key_sha256]


def test_changed_key_has_the_dates_of_the_certificate_that_it_was_last_seen_in(server):
    before = InUse("server", PAST.timestamp(), FUTURE.timestamp())
    with server(NEW_KEY) as running:
        options = {"last_seen": lambda settings: before if settings.trust_key == seen(TRUSTED).key_sha256 else None}
        result = try_out(running, SYSTEM, options=options, **pin(TRUSTED)).result
    found = seen(NEW_KEY)
    assert str(result.reply) == (
        f"the trusted key is {seen(TRUSTED).key_sha256}, last seen in a certificate that is valid from 2020-01-01 to 2040-01-01; "
        f"the server shows the key {found.key_sha256}, in a certificate that is valid "
        f"from {found.begins:%Y-%m-%d} to {found.ends:%Y-%m-%d}"
    )


def test_key_that_the_system_would_verify_is_another_key_all_the_same(server):
    """The system's authorities add nothing: a pin is not one more way to be accepted."""
    authority = Authority("Test authority")
    context = trusted()
    context.load_verify_locations(cadata=authority.pem.decode())
    with server(authority.issue([HOST])) as running:
        result = try_out(running, context, **pin(TRUSTED)).result
    assert (result.problem, "AUTH" in running.verbs) == ("key changed", False)


def test_trusted_key_that_is_too_short_is_refused(server):
    weak = self_signed([HOST], rsa.generate_private_key(65537, 1024))  # noqa: S505
    with server(weak) as running:
        result = attempt(running, **pin(weak)).result
    assert (result.step, result.problem) == ("certificate", "weak TLS")


def test_pinned_certificate_out_of_its_dates_warns_and_mail_goes_on(server):
    words = {}
    for shown in ("expired", "not yet valid", "renewed"):
        with server(WITH_THE_KEY[shown]) as running:
            result = attempt(running, **pin(TRUSTED)).result
        words[shown] = str(result.advice)
        assert (result.verdict, result.field) == ("delivered", "")
    assert words["expired"].startswith(
        f"The certificate of {HOST} ended on 2020-01-01. Its key is trusted, so mail goes on"
    )
    assert words["not yet valid"].startswith(f"The certificate of {HOST} is valid from 2040-01-01 on")
    assert words["renewed"] == ""


def test_step_of_a_trusted_key_shows_the_dates(server):
    with server(WITH_THE_KEY["renewed"]) as running:
        told = attempt(running, **pin(TRUSTED)).told("certificate")
    assert told == ["the trusted key; its certificate is valid from 2020-01-01 to 2040-01-01"]


# An authority.


@BOTH
def test_own_authority_vouches_for_its_servers(security, server):
    authority = Authority("Our own")
    with server(authority.issue([HOST]), security=security) as running:
        tried = attempt(running, security, **own(authority))
    assert tried.result.verdict == "delivered"
    assert tried.told("certificate") == [f"verified for {HOST} by the trusted authority"]


def test_self_signed_certificate_can_be_the_authority(server):
    with server(TRUSTED) as running:
        assert attempt(running, **own(TRUSTED)).result.verdict == "delivered"


AUTHORITY = Authority("Our own")
REFUSED = {
    "another name": (AUTHORITY.issue(["other.example.test"]), "another name", "host"),
    "expired": (AUTHORITY.issue([HOST], not_after=PAST), "expired", ""),
    "not yet valid": (AUTHORITY.issue([HOST], not_before=FUTURE), "not yet valid", ""),
    "another authority of the same name": (Authority("Our own").issue([HOST]), None, None),
    "self-signed": (self_signed([HOST]), "self-signed", "trust_ca"),
    "an authority of another name": (Authority("Stranger").issue([HOST]), "issuer missing", "trust_ca"),
}


@BOTH
@pytest.mark.parametrize("shown", REFUSED)
def test_own_authority_keeps_name_and_dates(shown, security, server):
    certificate, problem, field = REFUSED[shown]
    with server(certificate, security=security) as running:
        result = attempt(running, security, **own(AUTHORITY)).result
    assert result.step == "certificate"
    assert (result.problem, result.field) == (problem or result.problem, result.field if field is None else field)
    assert [each.key_sha256 for each in result.chain] == [seen(certificate).key_sha256]


def test_own_authority_takes_the_place_of_the_systems(server):
    other = Authority("Of the system")
    context = trusted()
    context.load_verify_locations(cadata=other.pem.decode())
    with server(other.issue([HOST])) as running:
        result = try_out(running, context, **own(AUTHORITY)).result
    assert result.step == "certificate"
    assert "is not issued by the trusted authority" in str(result.advice)
    assert "AUTH" not in running.verbs


def test_authority_that_openssl_cannot_read_stops_the_session_with_its_field(server):
    # The outermost structure is that of a certificate, which is all that the rule of the field looks at.
    broken = "-----BEGIN CERTIFICATE-----\nMAcwADAAAwEA\n-----END CERTIFICATE-----"
    with server(TRUSTED) as running:
        result = attempt(running, trust="ca", trust_ca=broken).result
    assert (result.step, result.problem, result.field) == ("certificate", "bad authority", "trust_ca")


# What is presented, to a person who decides. Each shape of a chain has its own sentence.


def advised(server, shown: Certificate, *more: bytes, **changes: str) -> tuple[str, str]:
    with server(shown, *more) as running:
        result = attempt(running, **changes).result
    return result.field, str(result.advice)


def test_self_signed_certificate_is_shown_and_its_key_can_be_trusted(server):
    with server(TRUSTED) as running:
        result = attempt(running).result
    assert (result.problem, result.field) == ("self-signed", "trust")
    (shown,) = result.as_json()["chain"]
    found = seen(TRUSTED)
    assert shown == {
        "subject": f"CN={HOST}",
        "issuer": f"CN={HOST}",
        "names": [HOST],
        "begins": f"{found.begins:%Y-%m-%d}",
        "ends": f"{found.ends:%Y-%m-%d}",
        "sha256": found.sha256,
        "key_sha256": found.key_sha256,
        "pem": "",
    }


def test_authority_that_is_presented_comes_as_pem(server):
    with server(AUTHORITY.issue([HOST]), AUTHORITY.pem) as running:
        result = attempt(running).result
    assert result.problem == "unknown authority"
    assert [each["pem"] for each in result.as_json()["chain"]] == ["", AUTHORITY.pem.decode().strip()]


def test_result_with_a_chain_crosses_the_hooks_socket(server):
    with server(TRUSTED) as running:
        result = attempt(running).result
    assert json.loads(json.dumps(result.as_json(), default=to_json))["chain"][0]["subject"] == f"CN={HOST}"


def test_certificate_without_its_issuers_names_the_issuer(server):
    field, words = advised(server, AUTHORITY.issue([HOST]))
    assert field == "trust"
    assert f"{HOST} shows its certificate without that of the issuer (CN=Our own)" in words


def test_chain_that_ends_at_an_unknown_authority_names_that(server):
    root, between, leaf = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
    top = certificate("Home root", root, extensions=[CA], names=())
    middle = certificate("Intermediate", between, (top, root), extensions=[CA], names=())
    shown = certificate(HOST, leaf, (middle, between))
    field, words = advised(server, Certificate(pem(shown), pem(leaf)), pem(middle))
    assert field == "trust"
    assert f"The certificates that {HOST} shows end at CN=Home root" in words


NAMES = [
    (["nas.lan"], True, "192.0.2.7", "it has the names nas.lan and no address"),
    (["nas.lan"], False, "192.0.2.7", "it has only the common name nas.lan, which does not count for an address"),
    (["192.0.2.8"], True, HOST, "it is for the address 192.0.2.8: type that as SMTP Host"),
    (
        ["*.lan", "lan"],
        True,
        HOST,
        "it has the names *.lan, lan: type one of them as SMTP Host, with a word in place of *",
    ),
    (["old.example.test"], False, HOST, "it has the name old.example.test: type that as SMTP Host"),
]


@pytest.mark.parametrize(("names", "has_names", "host", "words"), NAMES)
def test_each_kind_of_name_has_its_own_sentence(names, has_names, host, words, server):
    shown = self_signed(names, has_names=has_names)
    context = trusted()
    context.load_verify_locations(cadata=shown.cert_pem.decode())
    with server(shown) as running:
        result = try_out(running, context, host=host).result
    assert (result.problem, result.field) == ("another name", "host")
    assert words in str(result.advice)


def test_wrong_clock_and_expired_certificate_are_told_apart(server):
    expired = advised(server, AUTHORITY.issue([HOST], not_after=PAST), **own(AUTHORITY))[1]
    early = advised(server, AUTHORITY.issue([HOST], not_before=FUTURE), **own(AUTHORITY))[1]
    assert "was valid until 2020-01-01" in expired
    assert "or set the device's clock if it is wrong" in expired
    assert "is valid from 2040-01-01" in early
    assert early.endswith("set the device's clock.")


# What a session relies on.


@pytest.mark.parametrize("trust", ["system", "ca", "pin"])
def test_session_knows_the_dates_of_what_it_relies_on(trust, server):
    authority = Authority("Our own")
    shown = authority.issue([HOST], not_before=PAST, not_after=FUTURE)
    context = trusted()
    context.load_verify_locations(cadata=authority.pem.decode())
    chosen = {"system": {}, "ca": own(authority), "pin": pin(shown)}[trust]
    with server(shown) as running:
        client = client_with(settings_for(running, security="starttls", **chosen), PASSWORD, context, {}, None)
        client.open()
        client.close()
    roles = ["server", "authority"] if trust == "ca" else ["server"]
    assert [each.role for each in client.certificates] == roles
    assert (client.certificates[0].begins, client.certificates[0].ends) == (PAST.timestamp(), FUTURE.timestamp())


class Verified:
    """What `accept` reads of a socket with a verified certificate; the dates are in OpenSSL's form."""

    def __init__(self, begins: str, ends: str, *authorities: tuple[str, str]) -> None:
        self.certificate = {"notBefore": begins, "notAfter": ends, "issuer": "first"}
        self.authorities = [
            {"subject": name, "notBefore": "Jan  1 00:00:00 2020 GMT", "notAfter": until} for name, until in authorities
        ]
        self.context = self

    def verified(self) -> dict[str, str]:
        return self.certificate

    def get_ca_certs(self) -> list[dict[str, str]]:
        return self.authorities


THIS_YEAR, NEXT_YEAR = "Jan  1 00:00:00 2027 GMT", "Jan  1 00:00:00 2028 GMT"


@pytest.mark.parametrize(
    ("begins", "ends", "known"),
    [
        (THIS_YEAR, NEXT_YEAR, True),
        ("Jan  1 00:00:00 1 GMT", NEXT_YEAR, True),  # .NET's DateTime.MinValue
        ("Bad time value", NEXT_YEAR, False),
        (THIS_YEAR, "Bad time value", False),
    ],
)
@pytest.mark.parametrize("trust", ["system", "ca"])
def test_date_that_cannot_be_read_ends_no_verified_session(trust, begins, ends, known):
    shown = Verified(begins, ends, ("first", NEXT_YEAR))
    _, in_use = accept(SmtpSettings(HOST, 25, "Alarms", ACCOUNT, trust=trust), HOST, shown, lambda settings: None)
    assert ("server" in [each.role for each in in_use]) is known


@pytest.mark.parametrize(
    ("authorities", "ends"),
    [
        ([("first", THIS_YEAR), ("second", NEXT_YEAR)], THIS_YEAR),  # while the old one still issues
        ([("second", THIS_YEAR), ("first", NEXT_YEAR)], NEXT_YEAR),
        ([("first", THIS_YEAR), ("first", NEXT_YEAR)], NEXT_YEAR),  # the same name with a new key
        ([("other", THIS_YEAR), ("second", NEXT_YEAR)], NEXT_YEAR),  # behind an intermediate one
    ],
)
def test_one_of_two_authorities_counts(authorities, ends):
    shown = Verified(THIS_YEAR, NEXT_YEAR, *authorities)
    _, (_, authority) = accept(
        SmtpSettings(HOST, 25, "Alarms", ACCOUNT, trust="ca"), HOST, shown, lambda settings: None
    )
    assert authority.ends == ssl.cert_time_to_seconds(ends)


def test_session_that_was_refused_relies_on_nothing(server):
    with server(TRUSTED) as running:
        client = client_with(settings_for(running, security="starttls"), PASSWORD, SYSTEM, {}, None)
        with pytest.raises(SessionError):
            client.open()
    assert client.certificates == ()
    assert ACCOUNT.encode() not in running.received
