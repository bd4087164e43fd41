"""Every fault at every step: which step is named, what is to be changed, what the ledger keeps, and never a second login."""

from __future__ import annotations

import datetime
import itertools
import socket
from collections.abc import Callable
from typing import NamedTuple

import pytest

from device_ui.mail.smtp.outcome import Outcome, SessionError
from tests.helpers.product import free_port
from tests.mail.smtp.test_client import client_with
from tests.mail.smtp.test_test_run import ACCOUNT, FIRST, HOST, MAIL, NO_TLS, PASSWORD, SECOND, settings_for, try_out

from . import scripted
from .authority import Certificates
from .scripted import ScriptedServer, leading_to

# Seconds for a whole attempt: for servers that will not answer, and for those that will.
QUICK, ATTEMPT = 0.4, 8.0
IN_TIME = 8.0  # over the attempt, for a busy machine; less than the ten seconds that a connection may take by default
KEPT, REFUSED, ACCOUNT_STOPS = "try later", "refused", "login refused"

FAULTS = {
    "421": "421 4.3.2 closing",
    "4xx": "451 4.3.0 later",
    "5xx": "554 5.7.1 no",
    "silence": scripted.silent,
    "drip": scripted.drip,
    "close": scripted.close,
    "reset": scripted.reset,
    "half a line": scripted.half_line,
    "10 MB line": scripted.long_line,
    "endless": scripted.endless,
    "no number": "hello, who are you?",
    "garbage": scripted.garbage,
    "empty line": "",
    "999": "999 what",
    "250 too early": "250 ok",
    "354 too early": "354 go ahead",
}
SLOW = ("silence", "drip")

# For each fault the problem and the field to change, where the fault is in place of the answer to the step above;
# "-": no field. What is not a fault there is "·".
STEPS = "      greeting         EHLO             STARTTLS         AUTH             MAIL             RCPT       DATA       content"
TABLE = """
421            answer -         answer -         answer -         answer -         answer -         answer -   answer -   answer -
4xx            answer -         answer -         answer -         answer -         answer -         answer -   answer -   answer -
5xx            answer -         answer -         answer -         login-refused -  answer -         answer -   answer -   answer -
silence        silent -         silent -         silent -         silent -         silent -         silent -   silent -   silent -
drip           silent -         silent -         silent -         silent -         silent -         silent -   silent -   silent -
close          closed -         closed -         closed -         closed -         closed -         closed -   closed -   closed -
reset          closed -         closed -         closed -         closed -         closed -         closed -   closed -   closed -
half-a-line    closed -         closed -         closed -         closed -         closed -         closed -   closed -   closed -
10-MB-line     endless -        endless -        endless -        endless -        endless -        endless -  endless -  endless -
endless        endless -        endless -        endless -        endless -        endless -        endless -  endless -  endless -
no-number      no-reply-code -  no-reply-code -  no-reply-code -  no-reply-code -  no-reply-code -  no-reply-code - no-reply-code - no-reply-code -
garbage        no-reply-code -  no-reply-code -  no-reply-code -  no-reply-code -  no-reply-code -  no-reply-code - no-reply-code - no-reply-code -
empty-line     no-reply-code -  closed -         no-reply-code -  no-reply-code -  no-reply-code -  no-reply-code - no-reply-code - no-reply-code -
999            answer -         answer -         answer -         answer -         answer -         answer -   answer -   answer -
250-too-early  answer -         ·                answer -         answer -         ·                ·          answer -   ·
354-too-early  answer -         answer -         answer -         answer -         answer -         answer -   ·          answer -
"""
# What the verdict names where the script says the answer to a command.
NAMED = {
    "greeting": "greeting",
    "EHLO": "ehlo",
    "STARTTLS": "tls",
    "AUTH": "login",
    "MAIL": "sender",
    "RCPT": "recipient",
    "DATA": "content",
    "content": "content",
}
# What the ledger does, where it does not keep the mail and try later.
LEDGER = {
    ("5xx", "AUTH"): ACCOUNT_STOPS,
    ("5xx", "RCPT"): REFUSED,
    ("5xx", "DATA"): REFUSED,
    ("5xx", "content"): REFUSED,
}


class Cell(NamedTuple):
    """One fault at one step."""

    fault: str
    at: str
    problem: str
    field: str


def cells():
    """The table, cell by cell."""
    for row in TABLE.strip().splitlines():
        fault, *found = row.split()
        found = list(itertools.chain.from_iterable([each, ""] if each == "·" else [each] for each in found))
        pairs = zip(STEPS.split(), found[::2], found[1::2], strict=True)
        for step, problem, field in pairs:
            if problem != "·":
                yield Cell(fault.replace("-", " "), step, problem.replace("-", " "), field.replace("-", ""))


CELLS = list(cells())
AT_ONCE = [cell for cell in CELLS if cell.fault not in SLOW]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return Certificates(HOST, tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def chain(certificates):
    return certificates.chain()


@pytest.fixture(scope="module")
def context(certificates):
    return certificates.context


def times(cell):
    """Short times where a server will not answer; the closer look at its greeting has its share."""
    attempt = QUICK if cell.fault in SLOW else ATTEMPT
    return {"attempt": attempt, "greeting": attempt / 2}


def kept(result):
    """What the ledger does with the mail to each recipient that a test came to this result for."""
    stops = result.problem == ACCOUNT_STOPS
    return {each.recipient: ACCOUNT_STOPS if stops else each.verdict for each in result.recipients}


def ledger(server, options=None, recipients=(FIRST,), context=None, **changes):
    """What the ledger does with a mail to each recipient, after one attempt of the courier that delivery uses."""
    settings = settings_for(server, **{"security": "starttls" if context else "none", **changes})
    courier = client_with(settings, PASSWORD, context or NO_TLS, {"attempt": ATTEMPT, **(options or {})})
    try:
        courier.open()
        outcomes = courier.deliver(list(recipients), MAIL)
    except SessionError as stopped:
        word = ACCOUNT_STOPS if stopped.login_refused else KEPT
        outcomes = dict.fromkeys(recipients, Outcome(word, stopped.step))
    finally:
        courier.close()
    return {recipient: outcome.verdict for recipient, outcome in outcomes.items()}


def assert_told_safely(tried, server):
    """No secret in anything that is told, one line each, and one login at most."""
    assert PASSWORD not in tried.everything
    assert all(str(line["step"]["told"]).isprintable() for line in tried.lines)
    assert str(tried.result.reply).isprintable() and len(str(tried.result.reply)) <= 500
    assert str(tried.result.advice).endswith(".") and str(tried.result.advice).isprintable()
    assert server.verbs.count("AUTH") <= 1


def test_the_table_is_as_wide_and_as_long_as_it_must_be():
    assert len({cell.fault for cell in CELLS}) >= 16
    assert len({cell.at for cell in CELLS}) >= 8
    assert {cell.fault for cell in CELLS} == set(FAULTS)


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: f"{cell.at}, {cell.fault}")
def test_a_fault_names_its_step_and_the_field_to_change(cell, chain, context):
    secure = cell.at == "STARTTLS"
    with ScriptedServer({cell.at: FAULTS[cell.fault]}, chain=chain if secure else None) as server:
        tried = try_out(server, context if secure else None, options=times(cell))
    result = tried.result
    # A reset in place of the greeting may come before the connection is even looked at.
    if (cell.fault, cell.at, result.step) != ("reset", "greeting", "connect"):
        assert (result.step, result.problem, result.field) == (NAMED[cell.at], cell.problem, cell.field)
    assert kept(result) == {FIRST: LEDGER.get((cell.fault, cell.at), KEPT)}
    assert result.verdict == result.recipients[0].verdict
    assert tried.seconds < times(cell)["attempt"] + IN_TIME
    assert_told_safely(tried, server)


@pytest.mark.parametrize("cell", AT_ONCE, ids=lambda cell: f"{cell.at}, {cell.fault}")
def test_a_fault_keeps_the_mail_unless_the_server_refused_it(cell, chain, context):
    secure = cell.at == "STARTTLS"
    with ScriptedServer({cell.at: FAULTS[cell.fault]}, chain=chain if secure else None) as server:
        found = ledger(server, context=context if secure else None)
    assert found == {FIRST: LEDGER.get((cell.fault, cell.at), KEPT)}
    assert server.verbs.count("AUTH") <= 1


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_one_recipient_never_takes_the_mail_from_another_that_has_it(fault):
    options = {"attempt": QUICK if fault in SLOW else ATTEMPT}
    answers = ["550 5.1.1 nobody", FAULTS[fault]]
    with ScriptedServer({"RCPT": answers}) as server:
        found = ledger(server, options, (FIRST, SECOND))
    taken = "delivered" if fault == "250 too early" else REFUSED if fault == "5xx" else KEPT
    assert found == {FIRST: REFUSED, SECOND: taken}


# Before there is a connection: no server to script, but a name and an address.


def unknown(_host, _port):
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


def nobody_to_ask(_host, _port):
    raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")


def name_server_fails(_host, _port):
    raise socket.gaierror(socket.EAI_FAIL, "Non-recoverable failure in name resolution")


class Nowhere(NamedTuple):
    """What `try_out` needs of a server where there is none."""

    port: int


BEFORE = [
    ("name unknown", {"resolver": unknown}, "name", "unknown name", "host"),
    ("no name server", {"resolver": nobody_to_ask}, "name", "silent", ""),
    ("a name server that fails", {"resolver": name_server_fails}, "name", "broken", ""),
    ("a name without address", {"resolver": lambda _host, _port: []}, "name", "unknown name", "host"),
    ("this device", {"allow_loopback": False}, "address", "not allowed", "host"),
    ("refused", {}, "connect", "refused", "port"),
    ("refused by both", {"resolver": leading_to("127.0.0.1", "127.0.0.2")}, "connect", "refused", "port"),
]


@pytest.mark.parametrize(
    ("options", "step", "problem", "field"), [each[1:] for each in BEFORE], ids=[e[0] for e in BEFORE]
)
def test_a_fault_before_the_connection_is_told_apart(options, step, problem, field):
    nowhere = Nowhere(free_port())
    tried = try_out(nowhere, options=options)
    assert (tried.result.verdict, tried.result.step) == (KEPT, step)
    assert (tried.result.problem, tried.result.field) == (problem, field)
    assert ledger(nowhere, options) == {FIRST: KEPT}


def test_an_address_that_swallows_everything_is_silent():
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        with socket.create_connection(full.getsockname()):  # Linux drops what no longer fits
            tried = try_out(Nowhere(full.getsockname()[1]), options={"connect": QUICK})
    assert (tried.result.step, tried.result.problem, tried.result.field) == ("connect", "silent", "")
    assert tried.seconds < QUICK + IN_TIME


# TLS and the certificate: on both kinds of port.

DAY = datetime.timedelta(days=1)
NOW = datetime.datetime.now(datetime.UTC)
CERTIFICATES: dict[str, tuple[Callable[[Certificates], object], str, str]] = {
    "unknown authority": (lambda known: Certificates(HOST, known.folder).chain(), "issuer missing", "trust"),
    "expired": (lambda known: known.chain(not_after=NOW - DAY), "expired", ""),
    "not yet valid": (lambda known: known.chain(not_before=NOW + DAY), "not yet valid", ""),
    "other name": (lambda known: known.chain("other.example.test"), "another name", "host"),
    "the address only": (lambda known: known.chain("127.0.0.1"), "another name", "host"),
    "a name below": (lambda known: known.chain("*.mail.example.test"), "another name", "host"),
}


@pytest.mark.parametrize("fault", CERTIFICATES)
@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_a_wrong_certificate_is_no_fault_of_tls(fault, security, certificates):
    issue, problem, field = CERTIFICATES[fault]
    with ScriptedServer(chain=issue(certificates), tls_first=security == "tls") as server:
        tried = try_out(server, certificates.context, security=security)
        assert ledger(server, context=certificates.context, security=security) == {FIRST: KEPT}
    assert tried.steps[-1] == "tls"
    assert (tried.result.step, tried.result.problem, tried.result.field) == ("certificate", problem, field)
    assert "AUTH" not in server.verbs and PASSWORD.encode() not in server.received
    assert_told_safely(tried, server)


def bytes_before_tls(session, _line):
    session.say(b"220 go ahead\r\n250-injected\r\n250 AUTH PLAIN\r\n")


class Tls(NamedTuple):
    """A fault of TLS: how the server is made, how it is spoken to, and how that is told."""

    script: dict
    server: dict
    settings: dict
    step: str
    problem: str
    field: str


TLS = {
    "no STARTTLS": Tls({}, {"features": ("AUTH PLAIN",)}, {}, "tls", "no STARTTLS", "port"),
    "STARTTLS refused": Tls({"STARTTLS": "454 no"}, {}, {}, "tls", "answer", ""),
    "bytes before TLS": Tls(
        {"STARTTLS": bytes_before_tls, "handshake": lambda *_: None}, {}, {}, "tls", "bytes before TLS", ""
    ),
    "clear text after STARTTLS": Tls({"handshake": "250 what TLS?"}, {}, {}, "tls", "no TLS agreed", ""),
    "handshake closed": Tls({"handshake": scripted.close}, {}, {}, "tls", "closed", ""),
    "handshake reset": Tls({"handshake": scripted.reset}, {}, {}, "tls", "broken", ""),
    "handshake garbage": Tls({"handshake": scripted.garbage}, {}, {}, "tls", "no TLS agreed", ""),
    "TLS on a plain port": Tls({}, {"chain": None}, {"security": "tls"}, "tls", "no TLS spoken", "security"),
    "plain on a TLS port": Tls({}, {"tls_first": True}, {}, "greeting", "TLS expected", "security"),
    "no EHLO in TLS": Tls({"EHLO": ["250-mail\r\n250 STARTTLS", "502 no"]}, {}, {}, "ehlo", "answer", ""),
    "no login in TLS": Tls({}, {"features_in_tls": ()}, {}, "login", "no login offered", "sign_in"),
    "login only in TLS": Tls(
        {}, {"features": ("STARTTLS",)}, {"security": "none"}, "login", "no login without TLS", "security"
    ),
}


@pytest.mark.parametrize("fault", TLS)
def test_a_fault_of_tls_is_told_apart_and_no_login_is_sent(fault, chain, context):
    case = TLS[fault]
    with ScriptedServer(case.script, **{"chain": chain, **case.server}) as server:
        tried = try_out(server, context, options={"attempt": 4.0, "greeting": 0.3}, **case.settings)
    assert (tried.result.step, tried.result.problem, tried.result.field) == (case.step, case.problem, case.field)
    assert (tried.result.verdict, "AUTH" in server.verbs) == (KEPT, False)
    assert PASSWORD.encode() not in server.received and ACCOUNT.encode() not in server.received
    assert_told_safely(tried, server)


# Logins, word for word as providers answer.

LOGINS = {
    "535": ("535 5.7.8 authentication failed", "login refused", "password"),
    "534": ("534-5.7.9 Application-specific password required.\r\n534 5.7.9 Learn more", "login refused", "password"),
    "530": ("530 5.7.0 Must issue a STARTTLS command first.", "answer", "security"),
    "SMTP AUTH switched off": ("535 5.7.139 Authentication unsuccessful", "login refused", ""),
    "454": ("454 4.7.0 Temporary authentication failure", "answer", ""),
    "silence, as Microsoft": (scripted.silent, "silent", ""),
    "hang-up": (scripted.close, "closed", ""),
}


@pytest.mark.parametrize("case", LOGINS)
@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_a_login_that_fails_is_told_apart_and_tried_once(case, mechanism):
    answer, problem, field = LOGINS[case]
    options = {"attempt": QUICK if answer is scripted.silent else ATTEMPT}
    with ScriptedServer({"AUTH": answer}, features=(f"AUTH {mechanism}",)) as server:
        tried = try_out(server, options=options)
    assert (tried.result.step, tried.result.problem, tried.result.field) == ("login", problem, field)
    assert (server.verbs.count("AUTH"), len(server.sessions)) == (1, 1)
    assert_told_safely(tried, server)
