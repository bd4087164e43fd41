"""Advice on a mail that did not go out: the field to change, the sentence, and the evidence for both."""

from __future__ import annotations

import _ssl
import ast
import ctypes
import ctypes.util
import datetime
import itertools
import re
import ssl
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_ui.errors import Message
from device_ui.i18n.translator import load
from device_ui.mail.oauth.token_client import ERRORS
from device_ui.mail.smtp.advice import ADVICE, CLOSER, FIELD_OF, GIVEN, PROTOCOLS, advise
from device_ui.mail.smtp.outcome import SmtpProblem, Step
from device_ui.mail.smtp.probe import Certificate
from device_ui.mail.smtp.tls_errors import problem_of_certificate, problem_of_tls
from device_ui.settings.fields import BY_NAME, SECURITIES, SmtpSettings
from tests.helpers.product import ROOT
from tests.mail.smtp import test_reported_faults

SETTINGS = SmtpSettings("mail.example.com", 25, "Alarms", "alarm@example.com", sealed="x")
CLOCK = "1970-01-01 00:05 +0000"
LAST = ADVICE[-1].sentence
# Problems in which the server says nothing, or says nothing that can be understood.
WITHOUT_EVIDENCE = {"", "replied", "answer", "silent", "closed", "broken", "endless", "no reply code", "no TLS agreed"}


@pytest.mark.parametrize(
    ("step", "problem", "reply", "field", "words"),
    [
        ("name", "unknown name", "", "host", "does not know mail.example.com"),
        ("name", "silent", "", "", "no answer from its name server"),
        ("name", "broken", "", "", "cannot say where mail.example.com is"),
        ("address", "not allowed", "", "host", "is this device itself, or has"),
        ("connect", "refused", "", "port", "Nothing listens at port 25"),
        ("connect", "silent", "", "", "No answer comes from mail.example.com at port 25"),
        ("connect", "broken", "No route to host", "", "cannot reach mail.example.com"),
        ("greeting", "silent", "", "", "says nothing"),
        ("greeting", "answer", "554 go away", "", "refuses connections from this device"),
        ("greeting", "answer", "421 busy", "", "try again in some minutes"),
        ("tls", "no STARTTLS", "", "port", "change SMTP Port to 465"),
        ("tls", "no TLS spoken", "220 mail", "port", "use 587 with STARTTLS"),
        ("tls", "no TLS spoken", "WRONG_VERSION_NUMBER", "", "check SMTP Host and SMTP Port"),
        ("tls", "bytes before TLS", "", "", "an attack or a fault"),
        ("greeting", "TLS expected", "220 mail", "port", "use 465 as SMTP Port"),
        ("ehlo", "TLS expected", "220 mail", "port", "use 465 as SMTP Port"),
        ("certificate", "expired", "", "", "(it says 1970-01-01 00:05 +0000)"),
        ("certificate", "not yet valid", "", "", "set the device's clock"),
        ("certificate", "another name", "", "host", "another name than mail.example.com"),
        ("certificate", "self-signed", "", "trust", "trust “This very key”"),
        ("certificate", "unknown authority", "", "trust", "(“An authority of our own”)"),
        ("certificate", "issuer missing", "", "trust", "(“An authority of our own”)"),
        ("certificate", "key changed", "", "trust_key", "what waits is kept"),
        ("certificate", "bad authority", "", "trust_ca", "paste it again"),
        ("certificate", "revoked", "", "", "was revoked"),
        ("login", "no login offered", "", "sign_in", "offers no login at port 25"),
        ("login", "no login without TLS", "", "security", "offers a login only under TLS"),
        ("login", "no TLS", "", "security", "never sent in the clear"),
        ("login", "login refused", "535 5.7.8 no", "password", "type SMTP Account Password again"),
        ("login", "login refused", "535 5.7.80 no", "password", "type SMTP Account Password again"),
        ("login", "login refused", "535 5.7.140 no", "password", "type SMTP Account Password again"),
        ("login", "silent", "", "", "fell silent at the login"),
        ("login", "closed", "", "", "closed the connection at the login"),
        ("login", "answer", "454 later", "", "try again in some minutes"),
        ("sender", "answer", "553 not yours", "account", "send as alarm@example.com"),
        ("sender", "answer", "451 busy", "", "has no time"),
        ("sender", "answer", "the server closed the connection", "", "the connection broke"),
        ("recipient", "answer", "the server does not answer in time", "", "the connection broke"),
        ("content", "answer", "the server does not answer in time", "", "the connection broke"),
        ("recipient", "answer", "450 later", "", "defers this recipient"),
        ("content", "answer", "451 later", "", "defers the mail"),
        ("recipient", "answer", "554 5.7.1 <[192.0.2.7]>: Client host rejected: Access denied", "", "from this device"),
        ("content", "answer", "554 5.2.0 STOREDRV 5.2.252 SendAsDenied", "account", "send as alarm@"),
        ("sender", "no reply code", "what?", "", "no SMTP reply"),
        ("login", "login refused", "550 5.7.30 Basic authentication is not supported", "sign_in", "OAuth 2.0"),
        ("login", "no token login offered", "", "sign_in", "takes no OAuth 2.0 token at port 25"),
        ("login", "token refused", "535 5.7.3 Authentication unsuccessful", "account", "can take two hours"),
        ("login", "token refused", "535 5.7.139 disabled for the Mailbox", "", "allow SMTP AUTH"),
        (
            "login",
            "no usable login",
            Message("the server offers {offered}", offered="XOAUTH2 OAUTHBEARER"),
            "sign_in",
            "choose the sign-in “OAuth 2.0",
        ),
        ("login", "no usable login", Message("the server offers {offered}", offered="NTLM"), "", "it offers NTLM:"),
    ],
)
def test_each_fault_names_the_field_and_what_to_change(step, problem, reply, field, words):
    found = advise(step, problem, reply, SETTINGS, CLOCK)
    assert found.field == field
    assert words in str(found.sentence)


@pytest.mark.parametrize(
    "host",
    [
        pytest.param("smtp.domain.net:465", id="NixOS/nixpkgs#104502"),
        pytest.param("127.0.0.1:24", id="owncloud-archive/documentation#811"),
        pytest.param("https://imap.example.org", id="nanoy42/dinomail#8"),
        pytest.param("smtp://mail.example.com", id="kanidm#4335"),
        pytest.param("smtps://x.y.ch", id="datawookie/emayili#89"),
        pytest.param("ssl://mail.example.com", id="givanz/Vvveb#510"),
        pytest.param("smtps://mail.example.com:465", id="a whole address"),
    ],
)
def test_a_host_with_a_scheme_or_a_port_is_named(host):
    found = advise("name", "unknown name", "Name or service not known", replace(SETTINGS, host=host), CLOCK)
    assert (found.field, str(found.sentence)[:51]) == ("host", "SMTP Host takes the server's name or address alone:")


@pytest.mark.parametrize("host", ["mail.example.com", "2001:db8::25", "[2001:db8::25]", "fe80::1%eth0"])
def test_a_host_without_them_is_one_to_be_spelled(host):
    found = advise("name", "unknown name", "Name or service not known", replace(SETTINGS, host=host), CLOCK)
    assert "check the spelling" in str(found.sentence)


@pytest.mark.parametrize(("problem", "step"), [("no TLS spoken", "tls"), ("TLS expected", "greeting")])
@pytest.mark.parametrize(("security", "field"), [("auto", "port"), ("tls", "security"), ("starttls", "security")])
def test_a_connection_security_chosen_by_hand_is_what_to_change(problem, step, security, field):
    assert advise(step, problem, "220 mail", replace(SETTINGS, security=security), CLOCK).field == field


APP = replace(SETTINGS, sign_in="oauth", oauth_provider="custom", oauth_grant="secret")


@pytest.mark.parametrize(
    ("step", "problem", "reply", "field", "words"),
    [
        ("token name", "unknown name", "", "oauth_issuer", "does not know the sign-in server"),
        ("token address", "not allowed", "", "oauth_issuer", "is this device itself, or has"),
        ("token connect", "silent", "", "", "lets HTTPS (port 443) out"),
        ("token tls", "weak TLS", "", "", "TLS with the sign-in server did not begin"),
        ("token certificate", "self-signed", "", "", "does not trust the certificate of the sign-in server"),
        ("token certificate", "expired", "", "", "set the clock"),
        (
            "token answer",
            "client refused",
            "AADSTS7000222 401 invalid_client: x",
            "password",
            "has ended: make a new one",
        ),
        ("token answer", "client refused", "AADSTS7000215 401 invalid_client: x", "password", "its value, not its ID"),
        (
            "token answer",
            "client refused",
            "AADSTS700027 401 invalid_client: x",
            "",
            "Microsoft does not know the certificate",
        ),
        ("token answer", "not understood", "AADSTS90002 400 invalid_request: x", "oauth_issuer", "no such tenant"),
        ("token answer", "client refused", "400 invalid_scope: no", "oauth_scope", "does not give this scope"),
        ("token answer", "client refused", "401 invalid_client", "password", "refuses this device"),
        ("token answer", "client refused", "403", "", "refuses this device"),
        ("token answer", "grant ended", "400 invalid_grant", "", "has ended this sign-in"),
        ("token answer", "renewal lost", "400 invalid_grant", "", "The power failed while"),
        ("token answer", "another issuer", "https://other", "oauth_issuer", "exactly as the provider spells it"),
        ("token answer", "not understood", "404", "oauth_issuer", "no sign-in server at this address"),
        ("token answer", "not understood", "200", "", "not one of OAuth 2.0"),
        ("token answer", "not understood", "403", "", "something in front of it"),
        ("token answer", "not understood", "device_authorization_endpoint", "oauth_grant", "no sign-in by a code"),
        ("token answer", "answer", "400 invalid_dpop_proof: The DPoP proof JWT header is missing.", "", "(DPoP)"),
        ("token answer", "answer", "400 something_new", "", "refuses the sign-in"),
        ("token answer", "answer", "AADSTS50000 400 something_new", "", "refuses the sign-in"),
        ("token answer", "grant ended", "AADSTS53003 400 invalid_grant: x", "", "blocks this application"),
        ("token answer", "client refused", "AADSTS7000229 401 invalid_client: x", "", "enterprise applications"),
        ("token answer", "client refused", "AADSTS7000112 400 unauthorized_client: x", "", "switched off"),
        (
            "token answer",
            "client refused",
            "AADSTS500011 400 invalid_resource: x",
            "oauth_scope",
            "leave the scope empty",
        ),
        ("token answer", "busy", "503", "", "nothing is to be changed"),
        ("token answer", "answer too odd", "", "", "broke: nothing is to be changed"),
    ],
)
def test_each_fault_of_a_sign_in_names_the_field_and_what_to_change(step, problem, reply, field, words):
    found = advise(step, problem, reply, APP, CLOCK)
    assert (found.field, words in str(found.sentence)) == (field, True), found


@pytest.mark.parametrize(
    ("reply", "provider", "field", "words"),
    [
        ("AADSTS53003 400 invalid_grant: x", "microsoft", "oauth_grant", "as many do for codes"),
        ("AADSTS50194 400 invalid_request: x", "microsoft", "oauth_tenant", "for one tenant alone"),
        ("401 unauthorized_client: Client secret not provided in request", "custom", "oauth_client", "public client"),
        ("401 invalid_client: Invalid client or Invalid client credentials", "custom", "oauth_client", "public client"),
        ("400 unauthorized_client: no device flow", "custom", "oauth_grant", "choose another grant"),
    ],
)
def test_what_fails_a_sign_in_by_a_code(reply, provider, field, words):
    settings = replace(APP, oauth_grant="device", oauth_provider=provider)
    found = advise("token answer", "client refused", reply, settings, CLOCK)
    assert (found.field, words in str(found.sentence)) == (field, True), found


def test_a_fault_in_tls_may_be_an_address_in_place_of_a_name():
    """maddy#467, caddy#7417: without a server name (RFC 6066) these servers answer with internal_error."""
    assert advise("tls", "TLS fault", "", SETTINGS, CLOCK).field == ""
    assert advise("tls", "TLS fault", "", replace(SETTINGS, host="192.0.2.7"), CLOCK).field == "host"


def test_a_server_without_secure_renegotiation_is_not_taken_for_an_old_one():
    """openssl#21296: it speaks TLS 1.2."""
    found = advise("tls", "TLS too old", "unsafe legacy renegotiation disabled", SETTINGS, CLOCK)
    assert "RFC 5746" in str(found.sentence)


UTC = datetime.UTC
SHOWN = Certificate(
    ("mail.example.net",),
    datetime.datetime(2026, 1, 2, 3, 4, tzinfo=UTC),
    datetime.datetime(2026, 5, 6, 7, 8, tzinfo=UTC),
    "CN=Somebody",
)


@pytest.mark.parametrize(
    ("problem", "sentence"),
    [
        (
            "expired",
            "The mail server's certificate was valid until 2026-05-06 07:08 +0000, and the device's clock says "
            "1970-01-01 00:05 +0000: ask the server's administrator for a new one, or set the device's clock if it is wrong.",
        ),
        (
            "not yet valid",
            "The mail server's certificate is valid from 2026-01-02 03:04 +0000 on, and the device's clock says "
            "1970-01-01 00:05 +0000: set the device's clock.",
        ),
        (
            "unknown authority",
            "The device does not know the authority that issued the certificate of mail.example.com (CN=Somebody): if it is one "
            "of your own, give it under “Advanced” (“An authority of our own”).",
        ),
        (
            "issuer missing",
            "mail.example.com shows its certificate without that of the issuer (CN=Somebody), which the device does not know: "
            "either the server leaves it out, and its administrator can add it, or the issuer is an authority of your own, which "
            "you can give under “Advanced” (“An authority of our own”).",
        ),
    ],
)
def test_advice_quotes_the_certificate(problem, sentence):
    assert str(advise("certificate", problem, "", SETTINGS, CLOCK, (SHOWN,)).sentence) == sentence


@pytest.mark.parametrize(
    ("subject", "field", "words"),
    [
        # getssl#852, lecm#62: the intermediate of a former certificate.
        ("CN=R3", "", "does not show the certificate of its issuer (CN=Somebody), but others"),
        ("CN=Somebody", "trust", "shows end at CN=Root"),
    ],
)
def test_a_chain_without_the_issuer_of_the_first_is_named(subject, field, words):
    chain = (SHOWN, replace(SHOWN, subject=subject, issuer="CN=Root"))
    found = advise("certificate", "issuer missing", "", SETTINGS, CLOCK, chain)
    assert (found.field, words in str(found.sentence)) == (field, True), found


@pytest.mark.parametrize(
    ("names", "field", "end"),
    [
        (("a.example.com",), "host", "it has the name a.example.com: type that as SMTP Host."),
        (
            ("mail.example.com", "smtp.example.com"),
            "host",
            "it has the names mail.example.com, smtp.example.com: type one of them as SMTP Host.",
        ),
        (
            ("example.com", "*.example.com"),
            "host",
            "it has the names example.com, *.example.com: type one of them as SMTP Host, with a word in place of *.",
        ),
        ((), "", "it has no name at all, so ask the server's administrator for a new one."),
    ],
)
def test_advice_quotes_the_names_of_the_certificate(names, field, end):
    found = advise("certificate", "another name", "", SETTINGS, CLOCK, (replace(SHOWN, names=names),))
    assert str(found.sentence) == f"The mail server's certificate is for another name than mail.example.com: {end}"
    assert found.field == field


def test_a_strangers_braces_are_no_placeholders():
    found = advise(
        "certificate", "unknown authority", "", SETTINGS, CLOCK, (replace(SHOWN, issuer="{host} {nothing}"),)
    )
    assert "({host} {nothing})" in str(found.sentence)


# The table.


def test_an_unknown_failure_has_advice_too():
    assert str(advise("elsewhere", "odd", "", SETTINGS, CLOCK).sentence) == LAST


def test_every_step_has_advice_of_its_own_for_any_problem():
    assert [step for step in Step if str(advise(step, "odd", "", SETTINGS, CLOCK).sentence) == LAST] == []


def test_every_row_names_a_field_of_the_tab():
    assert {row.field for row in ADVICE} <= {"", *BY_NAME, *FIELD_OF}
    assert {row.given for row in ADVICE} <= set(GIVEN)


def test_a_row_that_names_a_field_has_evidence_and_says_which():
    for row in ADVICE:
        if row.field:
            assert row.evidence, row
            assert row.problem not in WITHOUT_EVIDENCE or row.reply not in ("", "2", "4", "5") or row.says, row


def test_a_row_for_a_select_names_a_choice_of_it():
    for field in ("security", "sign_in"):
        found = [row for row in ADVICE if row.field == field]
        assert found and all(f"{{{field}_" in row.sentence for row in found)


def test_advice_names_a_choice_by_its_words_in_the_readers_language():
    found = advise("login", "no TLS", "", SETTINGS, CLOCK).sentence
    assert str(found) == (
        "A login is never sent in the clear: under “Advanced”, choose the connection security “Automatic (TLS on port 465, "
        "STARTTLS on every other)”."
    )
    assert "연결 보안 “자동(포트 465는 TLS, 그 외의 포트는 STARTTLS)”" in load("ko")(found)


def test_every_row_can_be_reached():
    for number, row in enumerate(ADVICE):
        hidden = [
            earlier
            for earlier in ADVICE[:number]
            if earlier.step in ("", row.step)
            and earlier.problem in ("", row.problem)
            and (earlier.reply == "" or earlier.reply in (row.reply, row.reply[:1], row.reply[:3]))
            and not earlier.says
            and not earlier.given
        ]
        assert hidden == [], row


RAISING = [
    f"smtp/{name}"
    for name in ("client", "connect", "connection", "auth", "transaction", "test_run", "tls_errors", "trust")
]
RAISING += [f"oauth/{name}" for name in ("sign_in", "token_client", "providers", "https")]


def test_every_problem_is_one_that_a_session_can_have():
    sources = [ast.parse((ROOT / f"device_ui/mail/{name}.py").read_text()) for name in RAISING]
    used = {node.attr for source in sources for node in ast.walk(source) if isinstance(node, ast.Attribute)}
    assert {each.name for each in SmtpProblem} <= used


def test_a_sentence_is_one_sentence_without_a_gap():
    for row in ADVICE:
        sentence = str(advise(row.step, row.problem, row.reply, SETTINGS, CLOCK).sentence)
        assert sentence.endswith(".") and "{" not in sentence and "  " not in sentence


# OpenSSL's own lists.

LIBRARY = _ssl.err_names_to_codes["DH_KEY_TOO_SMALL"][0]
REASONS = sorted(name for name, (library, _) in _ssl.err_names_to_codes.items() if library == LIBRARY)


def verification_codes():
    """The codes that this machine's OpenSSL has words for."""
    words = ctypes.CDLL(ctypes.util.find_library("crypto")).X509_verify_cert_error_string
    words.restype = ctypes.c_char_p
    texts = ((code, words(code).decode()) for code in range(1, 200))
    return {code: text for code, text in texts if "unknown certificate verification error" not in text}


def of_reason(reason):
    error = ssl.SSLError(1, f"[SSL: {reason}] {reason.lower()} (_ssl.c:1000)")
    error.reason = reason
    return problem_of_tls(error)


def of_code(code, words="words"):
    error = ssl.SSLCertVerificationError(1, words)
    error.verify_code, error.verify_message = code, words
    return problem_of_certificate(error)


def test_openssls_lists_are_whole():
    assert len(REASONS) > 200 and len(verification_codes()) > 80


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("too small|too weak|insufficient security", "weak TLS"),
        ("alert protocol version|unsupported protocol|version too low|wrong ssl version", "TLS too old"),
        ("unrecognized name", "name not served"),
        (
            r"alert (bad|unsupported|no) certificate|alert certificate (exp|rev|unk|req)|alert unknown ca",
            "client certificate wanted",
        ),
        ("alert internal error", "TLS fault"),
    ],
)
def test_a_reason_whose_words_are_clear_has_its_problem(words, problem):
    found = [name for name in REASONS if re.search(words, name.lower().replace("_", " "))]
    assert found and {of_reason(name)[0] for name in found if "RECORD" not in name} == {problem}


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("too weak$", "weak TLS"),
        ("has expired$", "expired"),
        ("is not yet valid", "not yet valid"),
        ("^(hostname|IP address) mismatch", "another name"),
        ("^self-signed certificate$", "self-signed"),
        ("in certificate chain$", "unknown authority"),
        ("unable to get .*issuer certificate|unable to verify the first", "issuer missing"),
        ("unsuitable certificate purpose", "wrong purpose"),
        ("^certificate revoked", "revoked"),
    ],
)
def test_a_verification_code_whose_words_are_clear_has_its_problem(words, problem):
    codes = {code: text for code, text in verification_codes().items() if "CRL" not in text and "OCSP" not in text}
    found = [code for code, text in codes.items() if re.search(words, text)]
    assert found and {of_code(code)[0] for code in found} == {problem}


def test_python_3_14_names_an_alert_by_openssls_text():
    assert of_reason("ssl/tls alert unrecognized name")[0] == "name not served"
    assert of_reason("tlsv13 alert certificate required")[0] == "client certificate wanted"


# The property: over everything that can go wrong, a field that is named is one whose change can help. The oracle is a second
# opinion, written from what each step uses of the settings and what a server's words leave open.

AUTH_WORDS = re.compile(r"auth|log ?in|relay|rcpthosts", re.I)
SENDER_WORDS = re.compile(
    r"sender|send as|sendas|from address|on behalf|not (authori[sz]ed|allowed) to send|not owned|disallowed as|conform with auth",
    re.I,
)
OTHER_PROTOCOL = re.compile(r"\+OK|-ERR|\* |SSH-|HTTP/|RFB |AMQP|\"IMPL")
ESTABLISHED = {
    ("name", "unknown name"): {"host"},
    ("address", "not allowed"): {"host"},
    ("connect", "refused"): {"host", "port"},
    ("tls", "no STARTTLS"): {"port", "security"},
    ("certificate", "another name"): {"host"},
    ("certificate", "self-signed"): {"trust"},
    ("certificate", "unknown authority"): {"trust"},
    ("certificate", "issuer missing"): {"trust"},
    ("certificate", "key changed"): {"trust_key"},
    ("certificate", "bad authority"): {"trust_ca"},
    ("login", "no login without TLS"): {"security"},
    ("login", "no TLS"): {"security"},
    ("login", "no login offered"): {"port", "sign_in"},
    ("login", "no token login offered"): {"port", "sign_in"},
    ("token name", "unknown name"): {"oauth_issuer"},
    ("token address", "not allowed"): {"oauth_issuer"},
    ("token certificate", "another name"): {"oauth_issuer"},
    ("token answer", "another issuer"): {"oauth_issuer"},
    ("token answer", "redirected"): {"oauth_issuer"},
}
# What Microsoft's numbers are about, by its reference of error codes.
NUMBERS = {
    "AADSTS7000222": {"password"},
    "AADSTS7000215": {"password"},
    "AADSTS7000218": {"oauth_grant"},
    "AADSTS700025": {"oauth_grant"},
    "AADSTS53003": {"oauth_grant"},
    "AADSTS700016": {"oauth_client", "oauth_tenant"},
    "AADSTS90002": {"oauth_tenant"},
    "AADSTS900023": {"oauth_tenant"},
    "AADSTS50194": {"oauth_tenant"},
    "AADSTS500011": {"oauth_scope"},
    "AADSTS7000229": set(),
    "AADSTS7000112": set(),
}


def can_help(step, problem, reply, settings):
    """The fields whose change can make this very failure go away; those that the form would not use are left out."""
    text = re.sub(r"<[^>]*>|\S*@\S*", "", reply)
    fields = set(ESTABLISHED.get((step, problem), ()))
    if step.startswith("token "):
        return by_provider(step, problem, text, settings, fields)
    if problem == "name not served":
        fields |= {"host"}
    if OTHER_PROTOCOL.match(reply):
        fields |= {"port", "host"}
    if problem in ("no TLS spoken", "TLS expected") and reply.startswith("220"):
        fields |= {"port", "security"}
    if problem in ("answer", "login refused"):
        fields |= by_answer(step, text, settings)
    if step == "login" and problem == "no usable login" and re.search("xoauth2|oauthbearer", text, re.I):
        fields |= {"sign_in"}
    if problem == "token refused" and text.startswith("535"):
        fields |= {"account"}
    sender = {"account"} if settings.sign_in == "manual" else {"from_address"}
    return fields - {"sender"} | sender if "sender" in fields else fields


def by_provider(step, problem, text, settings, fields):
    """The fields of the sign-in that can help; those of the other provider are not on the page."""
    if step == "token answer":
        fields |= NUMBERS.get(text.partition(" ")[0], set())
        if settings.oauth_grant != "device" and "AADSTS53003" in text:  # a rule for applications
            fields -= {"oauth_grant"}
        if problem == "not understood" and text.startswith("404"):
            fields |= {"oauth_issuer"}
        if problem == "client refused":
            fields |= {"oauth_scope"} if "invalid_scope" in text else set()
            fields |= {"oauth_grant"} if "unauthorized_client" in text or "unsupported_grant" in text else set()
            fields |= {"password", "oauth_client"} if "invalid_client" in text else set()
    # A tenant is a part of a custom issuer's address.
    other = {"custom": "oauth_tenant", "microsoft": "oauth_issuer"}[settings.oauth_provider]
    issuer = {"oauth_issuer"} if other == "oauth_tenant" and other in fields else set()
    return (fields | issuer) - {other} - (set() if settings.oauth_grant == "secret" else {"password"})


def by_answer(step, text, settings):
    code = text[:3]
    if step == "greeting":
        other = {"port"} if code in ("200", "201") else set()
        return {"host"} if code == "521" or (code == "554" and "SMTP" in text) else other
    if step == "ehlo":
        return {"port"} if code == "530" else set()
    if step == "login" and code[:1] == "5":
        in_the_clear = settings.connection == "none"
        if "5.7.30" in text or ("5.7.139" in text and "basic authentication" in text):
            return {"sign_in"}
        judged = code in ("526", "535") or re.search(r"5\.7\.8|password|5\.7\.13", text, re.I)
        return ({"account", "password"} if judged else set()) | ({"security"} if in_the_clear else set())
    if step in ("sender", "recipient", "content") and code[:1] in ("4", "5"):
        fields = {"sender"} if SENDER_WORDS.search(text) or re.search("5.7.60|5.2.252|5.1.[78]", text) else set()
        if step == "sender" and code == "553":
            fields |= {"sender"}
        if settings.sign_in == "none" and (AUTH_WORDS.search(text) or code == "530" or re.search(r"5\.7\.5[47]", text)):
            fields |= {"sign_in"}
        if settings.connection == "none" and re.search("tls|encrypt", text, re.I):
            fields |= {"security"}
        return fields
    return set()


EVERY_SETTING = [
    replace(
        SETTINGS, sign_in=sign_in, security=security, from_address="" if sign_in == "manual" else "from@example.com"
    )
    for sign_in, security in zip(("manual", "provider", "none") * 2, (*SECURITIES, "none", "tls"), strict=True)
]
EVERY_OAUTH = [
    replace(SETTINGS, sign_in="oauth", oauth_provider=provider, oauth_grant=grant)
    for provider, grant in [*itertools.product(("microsoft", "custom"), ("certificate", "secret", "device"))]
]
TEXTS = sorted(
    {
        answer
        for case in test_reported_faults.CASES.values()
        for answer in case.script.values()
        if isinstance(answer, str) and answer
    }
    | {f"{begins} ready" for begins in PROTOCOLS}
    | {f"{number} 400 invalid_client: wrong" for number in NUMBERS}
    | {f"400 {error}: words" for error in ERRORS}
    | {reason.lower() for reason in ("Requested action not taken", "Command rejected", "relay denied", "auth required")}
)
CODES = (
    "200",
    "201",
    "220",
    "250",
    "354",
    "421",
    "432",
    "450",
    "451",
    "452",
    "454",
    "500",
    "501",
    "502",
    "503",
    "504",
    "521",
    "525",
)
CODES += ("530", "534", "535", "538", "550", "551", "552", "553", "554", "555")
DETAILS = {1: (0, 1, 2, 7, 8, 10), 2: (0, 1, 2), 3: (0, 4), 5: (2, 4, 6), 7: (*range(15), 26, 30, 54, 57, 60, 64, 139)}
ENHANCED = ("", "{}.2.252", *(f"{{}}.{subject}.{detail}" for subject, found in DETAILS.items() for detail in found))


def settings_of(step):
    """The settings with which a session has this step."""
    return EVERY_OAUTH if step.startswith("token ") else [*EVERY_SETTING, EVERY_OAUTH[0]]


def assert_a_named_field_can_help(step, problem, reply, settings):
    if step == "login" and settings.sign_in == "none":
        return  # there is no such step
    if step == "login" and settings.sign_in == "oauth" and problem in ("answer", "login refused"):
        return  # a token that a server refuses is a problem of its own
    found = advise(step, problem, reply, settings, CLOCK)
    assert found.field in {"", *can_help(step, problem, reply, settings)}, (step, problem, reply, settings)


# The steps in which an SMTP server answers, and the problems whose advice depends on its words.
WITH_CODE = {"greeting", "ehlo", "tls", "login", "sender", "recipient", "content"}
BY_WORDS = {"answer", "login refused", "token refused", "not understood", "client refused", "no usable login"}


@pytest.mark.parametrize("step", Step)
def test_over_all_codes_a_named_field_can_help(step):
    problem, one_by_one = "login refused" if step == "login" else "answer", itertools.cycle(settings_of(step))
    for code, enhanced in itertools.product(CODES, ENHANCED):
        # Only in a step of SMTP may a code name a field by the settings.
        for settings in settings_of(step) if step in WITH_CODE else [next(one_by_one)]:
            assert_a_named_field_can_help(step, problem, f"{code} {enhanced.format(code[0])} no", settings)


@pytest.mark.parametrize("step", Step)
def test_over_all_problems_and_reported_words_a_named_field_can_help(step):
    one_by_one = itertools.cycle(settings_of(step))
    for problem, text in itertools.product(SmtpProblem, TEXTS):
        # 90 texts and 7 settings: each problem meets all of both, and by its words all pairs of them.
        for settings in settings_of(step) if problem in BY_WORDS else [next(one_by_one)]:
            assert_a_named_field_can_help(step, problem, text, settings)


@given(
    st.sampled_from(list(Step)),
    st.sampled_from(list(SmtpProblem)),
    st.sampled_from(CODES),
    st.sampled_from(ENHANCED),
    st.lists(st.sampled_from(sorted({word for text in TEXTS for word in text.split()})), max_size=8),
    st.data(),
)
def test_over_mixed_words_a_named_field_can_help(step, problem, code, enhanced, words, data):
    settings = data.draw(st.sampled_from(settings_of(step)))
    assert_a_named_field_can_help(step, problem, " ".join([code, enhanced.format(code[0]), *words]), settings)


@pytest.mark.parametrize("step", ["tls", "greeting", "ehlo"])
def test_over_openssls_reasons_only_an_unknown_name_names_a_field(step):
    named = {
        (reason, field)
        for reason in REASONS
        for settings in EVERY_SETTING
        if (field := advise(step, *of_reason(reason), settings, CLOCK).field)
    }
    assert named == {("TLSV1_UNRECOGNIZED_NAME", "host")}


def test_over_verification_codes_only_a_name_or_what_is_trusted_is_named():
    named = {
        (code, field)
        for code, words in verification_codes().items()
        for settings in EVERY_SETTING
        if (field := advise("certificate", *of_code(code, words), settings, CLOCK, (SHOWN,)).field)
    }
    # 2, 18 to 21: an issuer is missing or unknown, so the key or the authority can be trusted.
    assert named == {(62, "host"), (64, "host"), *((code, "trust") for code in (2, 18, 19, 20, 21))}


@pytest.mark.parametrize("code", [2, 18, 19, 20, 21])
def test_over_verification_codes_another_authority_than_the_trusted_one_is_not_the_systems_matter(code):
    settings = replace(SETTINGS, trust="ca", trust_ca="PEM")
    found = advise("certificate", *of_code(code), settings, CLOCK, (SHOWN,))
    assert (found.field, "is not issued by the trusted authority" in str(found.sentence)) == ("trust_ca", True)


def test_every_closer_sentence_is_of_a_certificate():
    assert set(CLOSER) <= {of_code(code)[0] for code in verification_codes()}
