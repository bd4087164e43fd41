"""The table of what an answer decides: for each rule a reply that meets it, and the rules that no row may break."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from device_ui.mail.events import Verdict
from device_ui.mail.smtp.scope import DEFAULT, NOTHING, RULES, Before, Command, Ruling, Scope, detail_of, rule

MAIL, RCPT, DATA, CONTENT, AUTH, OPEN = (Command(each) for each in ("MAIL", "RCPT", "DATA", "content", "AUTH", "open"))
# What the server may have done before: accepted recipients before the answer and in all, refused ones, a mail delivered.
BEFORE = [
    NOTHING,
    Before(sized=True),
    Before(delivered=True),
    Before(refused=1),
    Before(refused=1, delivered=True),
    Before(0, 5),
    Before(1, 1),
    Before(5, 5),
    Before(1, 1, delivered=True),
    Before(5, 5, 1, delivered=True),
]
CODES = [
    None,
    -1,
    200,
    235,
    250,
    252,
    334,
    354,
    421,
    450,
    451,
    452,
    454,
    500,
    503,
    521,
    530,
    535,
    538,
    550,
    552,
    554,
    999,
]
ENHANCED = ["", "x.0.0", "x.1.1", "x.1.7", "x.2.1", "x.2.2", "x.2.3", "x.3.2", "x.3.4", "x.4.2", "x.5.1", "x.5.3"]
ENHANCED += ["x.6.0", "x.7.0", "x.7.1", "x.7.8", "x.7.25"]


def every_answer():
    for command, code, enhanced in itertools.product(Command, CODES, ENHANCED):
        yield command, code, enhanced.replace("x", str(code)[0]) if code and 200 <= code < 600 else ""


def test_each_row_has_its_source():
    assert all(row.source.startswith(("RFC ", "the server takes mail")) for row in RULES)


def test_only_a_25x_to_the_content_delivers():
    delivering = {
        (command, code)
        for command, code, enhanced in every_answer()
        if rule(command, code, enhanced, BEFORE[0]).verdict == "delivered"
    }
    assert delivering == {(CONTENT, 250), (CONTENT, 252)}


def test_only_a_5xx_refuses_and_never_for_more_than_the_mail():
    for command, code, enhanced in every_answer():
        for before in BEFORE:
            ruling = rule(command, code, enhanced, before)
            if ruling.verdict == "refused":
                assert code is not None and 500 <= code < 600, (command, code, enhanced)
                assert ruling.scope in (Scope.RECIPIENT, Scope.MAIL)
                assert command in (RCPT, DATA, CONTENT) or ruling.is_size


def test_only_the_login_is_locked_and_only_by_a_5xx():
    for command, code, enhanced in every_answer():
        if rule(command, code, enhanced).scope == Scope.LOGIN:
            assert command == AUTH and code is not None and 500 <= code < 600


def test_what_goes_on_at_once_had_some_progress_before():
    """Otherwise it would go on for ever: a new session follows a delivery, a smaller transaction an answer."""
    for command, code, enhanced in every_answer():
        for before in BEFORE:
            scope = rule(command, code, enhanced, before).scope
            assert scope != Scope.SESSION or before.delivered, (command, code, enhanced, before)
            assert scope != Scope.TRANSACTION or before.accepted or before.refused, (command, code, enhanced, before)


ONE, SEVERAL, LATER_MAIL, AGAIN = Before(1, 1), Before(5, 5), Before(delivered=True), Before(1, 1, delivered=True)
AFTER_REFUSED = Before(refused=1)
CASES = [
    (RCPT, 552, "5.5.3 Too many", SEVERAL, "transaction try later"),
    (RCPT, 552, "Too many", SEVERAL, "transaction try later"),
    (RCPT, 452, "", SEVERAL, "transaction try later"),
    (RCPT, 452, "#4.5.3 Too many recipients.", SEVERAL, "transaction try later"),
    (RCPT, 452, "4.2.2 mailbox full", SEVERAL, "recipient try later"),
    (RCPT, 552, "5.2.2 mailbox full", SEVERAL, "recipient refused"),
    (RCPT, 552, "", NOTHING, "recipient refused"),
    (RCPT, 550, "5.5.3", NOTHING, "recipient try later"),
    (RCPT, 452, "", LATER_MAIL, "session try later"),
    (RCPT, 421, "", SEVERAL, "transaction try later"),
    (RCPT, None, "", NOTHING, "server try later"),
    (RCPT, None, "", LATER_MAIL, "session try later"),
    (RCPT, 550, "5.1.1", SEVERAL, "recipient refused"),
    (RCPT, 503, "", AFTER_REFUSED, "transaction try later"),
    (RCPT, 530, "5.7.0", NOTHING, "server try later"),
    (MAIL, 421, "", NOTHING, "server try later"),
    (MAIL, 421, "", LATER_MAIL, "session try later"),
    (MAIL, 552, "", Before(sized=True), "mail refused"),
    (MAIL, 552, "", NOTHING, "server try later"),
    (MAIL, 552, "5.2.2", Before(sized=True), "server try later"),
    (DATA, 554, "", SEVERAL, "transaction try later"),
    (DATA, 554, "", ONE, "mail refused"),
    (DATA, 554, "5.7.1 spam", SEVERAL, "mail refused"),
    (CONTENT, 250, "", ONE, "recipient delivered"),
    (CONTENT, 451, "", ONE, "mail try later"),
    (CONTENT, 451, "", AGAIN, "session try later"),
    (CONTENT, 552, "", SEVERAL, "mail refused"),
    (CONTENT, None, "", AGAIN, "mail try later"),
    (CONTENT, 421, "", ONE, "server try later"),
    (AUTH, 535, "5.7.8 no", NOTHING, "login try later"),
    (AUTH, 535, "5.7.8 Connection lost to authentication server", NOTHING, "server try later"),
    (AUTH, 454, "4.7.0", NOTHING, "server try later"),
    (AUTH, 504, "mechanism", NOTHING, "server try later"),
    (AUTH, 501, "5.5.2 syntax", NOTHING, "server try later"),
    (AUTH, 501, "5.7.8 no", NOTHING, "login try later"),
    (AUTH, 530, "5.7.0 STARTTLS first", NOTHING, "server try later"),
    (AUTH, 538, "5.7.11 TLS first", NOTHING, "server try later"),
    (OPEN, 554, "", NOTHING, "server try later"),
    (MAIL, 554, "5.3.4 too big", NOTHING, "mail refused"),
    (CONTENT, 550, "5.2.3 too big", SEVERAL, "mail refused"),
    (RCPT, 450, "4.5.3 Too many", LATER_MAIL, "session try later"),
    (RCPT, 552, "", LATER_MAIL, "session try later"),
    (RCPT, 554, "no valid recipients", AFTER_REFUSED, "transaction try later"),
    (RCPT, 554, "5.5.1 no valid recipients", AFTER_REFUSED, "transaction try later"),
    (RCPT, 554, "5.7.1 relay access denied", AFTER_REFUSED, "recipient try later"),
    (RCPT, 550, "5.7.54 SMTP; Unable to relay recipient in non-accepted domain", NOTHING, "recipient try later"),
    (CONTENT, 550, "5.7.1 relaying denied", ONE, "mail try later"),
    (CONTENT, 550, "5.7.1 relaying denied", SEVERAL, "transaction try later"),
    (RCPT, 530, "5.7.0", Before(0, 2), "recipient try later"),
    (RCPT, 550, "5.1.8 sender's domain", Before(0, 2), "recipient try later"),
    (RCPT, 530, "5.7.0", LATER_MAIL, "session try later"),
    (RCPT, 550, "5.1.8 sender's domain", NOTHING, "server try later"),
    (RCPT, 450, "4.7.1 greylisted", NOTHING, "recipient try later"),
    (RCPT, 450, "4.7.1 rate", LATER_MAIL, "session try later"),
    (RCPT, 354, "", NOTHING, "recipient try later"),
    (DATA, 452, "4.5.3 Too many", SEVERAL, "transaction try later"),
    (DATA, 421, "", AGAIN, "session try later"),
    (DATA, 502, "", AGAIN, "session try later"),
    (CONTENT, 530, "5.7.0", ONE, "server try later"),
    (CONTENT, 550, "5.7.26 no SPF, no DKIM", SEVERAL, "server try later"),
    (CONTENT, 550, "5.7.60 send as denied", SEVERAL, "server try later"),
    (CONTENT, 550, "5.4.5 daily limit", ONE, "server try later"),
    (CONTENT, 550, "5.4.6 routing loop", ONE, "mail refused"),
    (MAIL, 552, "over your daily limit", Before(sized=True), "server try later"),
    (RCPT, 550, "mailbox unavailable. Try again later", NOTHING, "recipient try later"),
    (RCPT, 550, "mailbox unavailable. Try again later", Before(0, 2), "recipient try later"),
    (CONTENT, 550, "Request failed; Mailbox unavailable", ONE, "mail try later"),
    (CONTENT, 550, "Request failed; Mailbox unavailable", SEVERAL, "transaction try later"),
    (RCPT, 550, "5.4.1 access denied", NOTHING, "recipient refused"),
    (DATA, 550, "5.1.1", Before(1, 1, 1), "transaction try later"),
    (DATA, 503, "5.5.1 no valid recipients", ONE, "server try later"),
    # Beside a rule: what it is not about.
    (AUTH, 334, "", NOTHING, "server try later"),
    (AUTH, 535, "no", NOTHING, "login try later"),
    (AUTH, 535, "5.5.1 no", NOTHING, "login try later"),
    (MAIL, 550, "", Before(sized=True), "server try later"),
    (RCPT, 450, "4.2.1 mailbox busy", NOTHING, "recipient try later"),
    (RCPT, 503, "", NOTHING, "server try later"),
    (RCPT, 554, "", NOTHING, "recipient refused"),
    (RCPT, 554, "5.5.1", NOTHING, "recipient refused"),
    (RCPT, 550, "", AFTER_REFUSED, "recipient refused"),
    (RCPT, 550, "5.1.1", LATER_MAIL, "recipient refused"),
    (RCPT, 554, "5.7.1 relay access denied", Before(0, 2), "recipient refused"),
    (RCPT, 354, "", LATER_MAIL, "recipient try later"),
    (DATA, 452, "4.5.3 Too many", ONE, "mail try later"),
    (DATA, 451, "", SEVERAL, "mail try later"),
    (DATA, 451, "", Before(1, 1, 1), "mail try later"),
    (DATA, 554, "", AGAIN, "mail refused"),
    (CONTENT, 354, "", AGAIN, "mail try later"),
    (CONTENT, 552, "5.2.2 mailbox full", SEVERAL, "transaction try later"),
]


@pytest.mark.parametrize(("command", "code", "text", "before", "expected"), CASES)
def test_an_answer_decides_for_what_it_was_about(command, code, text, before, expected):
    ruling: Ruling = rule(command, code, text, before)
    assert f"{ruling.scope} {ruling.verdict}" == expected
    assert rule(command, code, f"{code} {text}", before) == ruling  # as a whole reply, too


def test_each_row_decides_one_of_these_cases():
    """The first row that matches is the one that decides."""
    rows = set()
    for command, code, text, before, _ in CASES:
        number = "none" if code is None else f"{max(code, 0):03}"
        rows.add(next((row for row in RULES if row.matches(command, number, detail_of(text), before)), None))
    assert [row for row in RULES if row not in rows] == []


def changed(row):
    """The row with one thing changed, by the name of the change; `None`: without it."""
    other = Verdict.TRY_LATER if row.ruling.verdict == Verdict.REFUSED else Verdict.REFUSED
    scope = Scope.MAIL if row.ruling.scope == Scope.LOGIN else Scope.LOGIN
    changes = {
        "verdict": replace(row, ruling=replace(row.ruling, verdict=other)),
        "scope": replace(row, ruling=replace(row.ruling, scope=scope)),
        "condition": replace(row, condition=lambda _: True),
        "enhanced": replace(row, enhanced=""),
    }
    is_conditional = not all(row.condition(before) for before in BEFORE)
    kept = {"condition": is_conditional, "enhanced": bool(row.enhanced)}
    return {"removed": None, **{name: new for name, new in changes.items() if kept.get(name, True)}}


def test_a_change_of_any_row_is_seen_by_one_of_these_cases():
    """Unseen are only rows that say what the table decides without them, and are there for their source."""
    answers = [
        (command, "none" if code is None else f"{max(code, 0):03}", detail_of(text), before, expected)
        for command, code, text, before, expected in CASES
        if "Connection lost" not in text  # decided before the table
    ]

    def is_seen(rules):
        for command, number, detail, before, expected in answers:
            found = next((row.ruling for row in rules if row.matches(command, number, detail, before)), DEFAULT)
            if f"{found.scope} {found.verdict}" != expected:
                return True
        return False

    assert not is_seen(RULES)
    mutants = [
        (name, place, [*RULES[:place], *([new] if new else []), *RULES[place + 1 :]])
        for place, row in enumerate(RULES)
        for name, new in changed(row).items()
    ]
    unseen = [(name, place) for name, place, rules in mutants if not is_seen(rules)]
    assert len(mutants) > 3 * len(RULES)
    assert [each for each in unseen if each[0] != "removed" or RULES[each[1]].ruling != DEFAULT] == []


OTHERS = Before(0, 2)
# Replies to RCPT of a general code: what they say of the client, the sender or relaying is not about the recipient.
WORDS = [
    ("mailcow#253, mailcow-dockerized#683", "553 5.7.1 <user@domain.de>: Sender address rejected: not owned by user user@domain.de", "server"),
    ("hardware/mailserver#329", "553 5.7.1 <alarm@example.com>: Sender address rejected: not logged in", "server"),
    ("docker-mailserver#359, modoboa#2311, mattermost#1012", "554 5.7.1 <unknown[192.0.2.7]>: Client host rejected: Access denied", "server"),
    ("Mailu#656", "554 5.7.1 <alarm@example.com>: Sender address rejected: Access denied", "server"),
    ("Outlook", "550 5.7.1 Service unavailable; client [192.0.2.7] blocked using Blocklist 1", "server"),
    ("Postfix, reject_rbl_client", "554 5.7.1 Service unavailable; Client host [192.0.2.7] blocked using b.example", "server"),
    ("Postfix, reject_invalid_helo_hostname", "550 5.7.1 <nas>: Helo command rejected: Host not found", "server"),
    ("Exim, require verify = sender", "550 Sender verify failed", "server"),
    ("Exim, dnslists", "550 rejected because 192.0.2.7 is in a black list at bl.example.net", "server"),
    ("Exchange, SendAsDenied", "554 5.2.0 STOREDRV.Submission.Exception:SendAsDeniedException.MapiExceptionSendAsDenied", "server"),
    ("Exchange, 5.7.1", "550 5.7.1 Client does not have permissions to send as this sender", "server"),
    ("Postfix, smtpd_relay_restrictions: reject", "554 5.7.1 <r1@example.com>: Recipient address rejected: Access denied", "recipient"),
    ("postal#647", "554 5.7.1 <r1@example.com>: Relay access denied", "recipient"),
    ("postal#647, Exim", "550 relay not permitted!", "recipient"),
    ("nodemailer#1480", "550 5.7.1 Relaying denied.", "recipient"),
    ("sendmail", "550 5.7.1 <r1@example.com>... Relaying denied. Proper authentication required.", "recipient"),
    ("mailcow-dockerized#2095", "550 Relay denied for <r1@example.com>", "recipient"),
    ("qmail", "553 sorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)", "recipient"),
    ("IIS", "550 5.7.1 Unable to relay for r1@example.com", "recipient"),
    ("Exim 3", "550 relaying to <r1@example.com> prohibited by administrator", "recipient"),
    ("Courier, sendmail of old", "550 we do not relay", "recipient"),
    ("hMailServer", "550 You are not allowed to relay through this server", "recipient"),
    ("a policy server", "550 5.7.1 Relaying not authorized", "recipient"),
    ("sendmail, by no code of its own", "550 5.0.0 <r1@example.com>... Relaying denied", "recipient"),
    ("a sender by 5.1.0", "550 5.1.0 <alarm@example.com>: Sender address rejected: User unknown", "server"),
    ("1&1", "550 Authentication required", "recipient"),
    ("a login by a 554", "554 5.7.0 Authentication is required", "recipient"),
    ("Exchange, by its other words", "550 5.7.1 not authorized to send as this user", "server"),
]  # fmt: skip
# Those that name the recipient, in words that resemble the others.
OF_RECIPIENT = [
    "550 5.1.1 <r1@example.com>: Recipient address rejected: User unknown in relay recipient table",
    "550 5.7.1 <r1@example.com>: Recipient address rejected: Relay access denied",
    "550 5.4.1 [r1@example.com]: Recipient address rejected: Access denied",  # sisimai#77
    "550 5.7.1 <relay@example.com> access denied",
    "554 5.7.1 <r1@sender-address-rejected.example>: Access denied",
    "550 5.2.1 mailbox disabled, relaying denied",
    "550 5.7.1 You are not allowed to send to this group",
    "550 No such user here",
    "550 5.7.1 The mailbox is over its quota",
    "550 User quota exceeded",
]


@pytest.mark.parametrize(("reply", "scope"), [pytest.param(*row, id=report) for report, *row in WORDS])
def test_a_recipient_is_not_given_up_for_what_is_said_of_the_client_the_sender_or_relaying(reply, scope):
    for before in (NOTHING, AFTER_REFUSED, Before(refused=1, delivered=True)):
        assert rule(RCPT, int(reply[:3]), reply, before) == Ruling(Scope(scope), "try later"), before


@pytest.mark.parametrize("reply", OF_RECIPIENT)
def test_a_recipient_that_the_reply_names_is_refused(reply):
    assert rule(RCPT, int(reply[:3]), reply) == Ruling(Scope.RECIPIENT, "refused")


@pytest.mark.parametrize(("reply", "scope"), [pytest.param(*row, id=report) for report, *row in WORDS])
def test_beside_others_that_the_server_takes_only_relaying_is_about_the_recipient(reply, scope):
    """It takes mail of this client and this sender, and passes it on to the others."""
    verdict = "try later" if scope == "server" else "refused"
    assert rule(RCPT, int(reply[:3]), reply, OTHERS) == Ruling(Scope.RECIPIENT, verdict)


# Replies after a content or a recipient that are about the account, its limit, its address or the line.
OF_ACCOUNT = [
    ("Exchange, SendAsDenied", "554 5.2.0 STOREDRV.Submission.Exception:SendAsDeniedException.MapiExceptionSendAsDenied; Cannot submit message."),
    ("AVideo#7527", "552 C13ypH3DXQO9CC140p6S9y Message would take you over your relay quota of 500 Current quota used: 487"),
    ("wazuh#15825", "550 5.7.1 Daily SMTP relay limit exceeded for customer. x#dailylimit - gsmtp"),
    ("deltachat-core#647", "554 5.7.1 <DATA>: Data command rejected: limit of 400 rcpts per 24 hours for client me reached"),
    ("nodemailer-smtp-pool#8", "550 5.7.0 Requested action not taken: too many emails per second"),
    ("zotonic#3508", "554 5.7.0 Your message could not be sent. The limit on the number of allowed outgoing messages was exceeded."),
    ("hestiacp#2666", "550 Email account a@example.com is sending too many emails - rate overlimit = 83.6 / 1h"),
    ("prolateral.com", "554 5.7.1 <r1@example.com>: Recipient address rejected: You have exceeded your Outmail quota"),
    ("nodemailer#1137", "550 User me@example.com has exceeded its 24-hour sending limit. Relay quota will reset in 21.99 hours"),
    ("nodemailer-outlook#11", "554 5.2.0 STOREDRV.Submission.Exception:OutboundSpamException; Actual verdict is RefuseQuota, ShowTierUpgrade"),
    ("OfficeDocs-Support#1150", "554 5.2.0 STOREDRV.Submission.Exception:SubmissionQuotaExceededException"),
    ("cachet#3052", "550 5.4.6 Unusual sending activity detected. Please try after sometime"),
    ("hackathon-starter#1083", "550 The from address does not match a verified Sender Identity."),
    ("grav-plugin-email#77", "553 Relaying disallowed as test@example.com"),
    ("Fastmail", "551 5.7.1 Not authorised to send from this header address"),
    ("Cloudflare-WAF-Expressions#9", "550 From header sender domain not verified"),
    ("outline#7980", "553 5.7.0 Unauthorized use of sender address (msg ID = x)"),
    ("invoiceninja#2653", "554 Message rejected: Email address is not verified. The following identities failed the check"),
    ("cloud-platform-environments#3401", "554 Access denied: User `arn:x' is not authorized to perform `ses:SendRawEmail' on resource"),
    ("Mailu#2599", "550 5.7.1 [192.0.2.7] The IP you're using to send mail is not authorized to send email directly to our servers."),
    ("hestiacp#2901", "550 5.7.1 Unfortunately, messages from [192.0.2.7] weren't sent. Part of the network is on our block list (S3140)."),
    ("docker-mailserver#2066", "550 5.7.23 <r1@example.com>: Recipient address rejected: Message rejected due to: SPF fail - not authorized."),
    ("dada-mail#717", "550 5.7.1 [BFD] Sender prohibited by SPF"),
]  # fmt: skip


@pytest.mark.parametrize("reply", [pytest.param(reply, id=report) for report, reply in OF_ACCOUNT])
@pytest.mark.parametrize(("command", "before"), [(RCPT, NOTHING), (DATA, ONE), (CONTENT, SEVERAL)])
def test_what_is_said_of_the_account_gives_up_no_mail(command, before, reply):
    assert rule(command, int(reply[:3]), reply, before) == Ruling(Scope.SERVER, "try later")


@pytest.mark.parametrize(
    "reply",
    [
        "554 5.7.1 Message rejected: blocked using dbl.example, a link in it is listed",
        "550 rejected because evil.example is in a black list at uribl.example",
        "550 5.7.1 The content looks like a relay of spam",
        "554 5.7.1 The message is over a limit of 20 links, and its quota of pictures",
        "550 5.4.6 Routing loop detected",
    ],
)
def test_what_a_filter_says_of_a_content_refuses_that_mail(reply):
    assert rule(CONTENT, int(reply[:3]), reply, ONE) == Ruling(Scope.MAIL, "refused")
