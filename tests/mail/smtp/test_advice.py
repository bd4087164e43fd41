"""Advice on a mail that did not go out: the field to change, and the sentence."""

from __future__ import annotations

import ast
import datetime
from dataclasses import replace

import pytest

from device_ui.mail.smtp.advice import ADVICE, FALLBACK, PORT_OR_SECURITY, advise
from device_ui.mail.smtp.outcome import SmtpProblem, Step
from device_ui.mail.smtp.probe import Certificate
from device_ui.settings.fields import BY_NAME, SmtpSettings
from tests.helpers.product import ROOT

SETTINGS = SmtpSettings("mail.example.com", 25, "Alarms", "alarm@example.com", sealed="x")
CLOCK = "1970-01-01 00:05 +0000"


@pytest.mark.parametrize(
    ("step", "problem", "reply", "field", "words"),
    [
        ("name", "unknown name", "", "host", "Nobody knows the name mail.example.com"),
        ("name", "silent", "", "host", "no answer from its name server"),
        ("address", "not allowed", "", "host", "is this device itself"),
        ("connect", "refused", "", "port", "Nothing listens at port 25"),
        ("connect", "silent", "", "port", "does not answer at port 25"),
        ("connect", "broken", "No route to host", "host", "cannot reach mail.example.com"),
        ("greeting", "silent", "", "port", "it is no mail server"),
        ("greeting", "answer", "554 go away", "host", "turns this device away"),
        ("greeting", "answer", "421 busy", "", "try again in some minutes"),
        ("tls", "no STARTTLS", "", "port", "change SMTP Port to 465"),
        ("tls", "no TLS spoken", "", "port", "use 587 with STARTTLS"),
        ("tls", "bytes before TLS", "", "host", "an attack or a fault"),
        ("greeting", "TLS expected", "", "port", "use 465 as SMTP Port"),
        ("ehlo", "TLS expected", "", "port", "use 465 as SMTP Port"),
        ("certificate", "expired", "", "", "(it says 1970-01-01 00:05 +0000)"),
        ("certificate", "not yet valid", "", "", "set the device's clock"),
        ("certificate", "another name", "", "host", "another name than mail.example.com"),
        ("certificate", "unknown authority", "", "host", "who issued the certificate"),
        ("login", "no login offered", "", "sign_in", "offers no login at port 25"),
        ("login", "no login without TLS", "", "security", "offers a login only under TLS"),
        ("login", "no TLS", "", "security", "never sent in the clear"),
        ("login", "login refused", "534 5.7.9 app password", "password", "app password"),
        ("login", "login refused", "530 5.7.0 STARTTLS first", "security", "wants TLS before a login"),
        ("login", "login refused", "538 5.7.11 TLS first", "security", "wants TLS before a login"),
        ("login", "login refused", "535 5.7.139 disabled", "account", "have it allow SMTP AUTH for this account"),
        ("login", "login refused", "535 5.7.8 no", "password", "type SMTP Account Password again"),
        ("login", "silent", "", "account", "fell silent at the login"),
        ("login", "closed", "", "account", "hung up at the login"),
        ("login", "answer", "454 later", "", "try again in some minutes"),
        ("sender", "answer", "530 login first", "sign_in", "wants a login first"),
        ("sender", "answer", "553 not yours", "account", "send as alarm@example.com"),
        ("sender", "answer", "451 busy", "", "has no time"),
        ("sender", "answer", "the server closed the connection", "", "the connection broke"),
        ("recipient", "answer", "the server does not answer in time", "", "the connection broke"),
        ("content", "answer", "the server does not answer in time", "", "the connection broke"),
        ("tls", "no TLS agreed", "", "port", "TLS could not begin"),
        ("recipient", "answer", "550 unknown", "account", "check the address"),
        ("recipient", "answer", "450 later", "", "defers this recipient"),
        ("content", "answer", "554 spam", "sender_name", "refuses the mail itself"),
        ("content", "answer", "451 later", "", "defers the mail"),
    ],
)
def test_each_fault_names_the_field_and_what_to_change(step, problem, reply, field, words):
    found = advise(step, problem, reply, SETTINGS, CLOCK)
    assert found.field == field
    assert words in str(found.sentence)


@pytest.mark.parametrize(("problem", "step"), [("no TLS spoken", "tls"), ("TLS expected", "greeting")])
@pytest.mark.parametrize(("security", "field"), [("auto", "port"), ("tls", "security"), ("starttls", "security")])
def test_a_connection_security_chosen_by_hand_is_what_to_change(problem, step, security, field):
    assert advise(step, problem, "", replace(SETTINGS, security=security), CLOCK).field == field


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
            "The device does not know the issuer of the certificate of mail.example.com (CN=Somebody): check SMTP Host, "
            "or have the maker's device.toml name the authority (mail.ca_file).",
        ),
    ],
)
def test_advice_quotes_the_certificate(problem, sentence):
    assert str(advise("certificate", problem, "", SETTINGS, CLOCK, SHOWN).sentence) == sentence


@pytest.mark.parametrize(
    ("names", "end"),
    [
        (("a.example.com",), "it has the name a.example.com: type that as SMTP Host."),
        (
            ("mail.example.com", "smtp.example.com"),
            "it has the names mail.example.com, smtp.example.com: type one of them as SMTP Host.",
        ),
        (
            ("example.com", "*.example.com"),
            "it has the names example.com, *.example.com: type one of them as SMTP Host, with a word in place of *.",
        ),
        ((), "it has no name at all, so ask the server's administrator for a new one."),
    ],
)
def test_advice_quotes_the_names_of_the_certificate(names, end):
    found = advise("certificate", "another name", "", SETTINGS, CLOCK, replace(SHOWN, names=names))
    assert str(found.sentence) == f"The mail server's certificate is for another name than mail.example.com: {end}"
    assert found.field == "host"


def test_a_strangers_braces_are_no_placeholders():
    found = advise("certificate", "unknown authority", "", SETTINGS, CLOCK, replace(SHOWN, issuer="{host} {nothing}"))
    assert "({host} {nothing})" in str(found.sentence)


def test_an_unknown_failure_has_advice_too():
    assert str(advise("elsewhere", "odd", "", SETTINGS, CLOCK).sentence) == FALLBACK[-1]


def test_every_step_has_advice_of_its_own_for_any_problem():
    assert [step for step in Step if str(advise(step, "odd", "", SETTINGS, CLOCK).sentence) == FALLBACK[-1]] == []


def test_every_row_names_a_field_of_the_tab_and_can_be_reached():
    assert {name for _, _, _, name, _ in ADVICE} - {"", PORT_OR_SECURITY} <= set(BY_NAME)
    for number, (step, problem, reply, *_) in enumerate(ADVICE):
        hidden = [
            earlier
            for earlier in ADVICE[:number]
            if earlier[0] in ("", step) and earlier[1] in ("", problem) and reply.startswith(earlier[2])
        ]
        assert hidden == [], (step, problem, reply)


RAISING = [f"smtp/{name}" for name in ("client", "connect", "connection", "auth", "transaction", "test_run")]
RAISING += [f"oauth/{name}" for name in ("sign_in", "grants", "providers", "https")]


def test_every_problem_is_one_that_a_session_can_have():
    sources = [ast.parse((ROOT / f"device_ui/mail/{name}.py").read_text()) for name in RAISING]
    used = {node.attr for source in sources for node in ast.walk(source) if isinstance(node, ast.Attribute)}
    assert {each.name for each in SmtpProblem} <= used


def test_a_sentence_is_one_sentence_without_a_gap():
    for step, problem, reply, _, _ in ADVICE:
        sentence = str(advise(step, problem, reply, SETTINGS, CLOCK).sentence)
        assert sentence.endswith(".") and "{" not in sentence and "  " not in sentence
