"""What an answer of the server decides, and for what: a recipient, a transaction, a mail, a session, a login, the server.

An answer decides for what it was about and for nothing else. What it was about depends on the command, on the reply's code
and enhanced code (RFC 3463), and on what the server accepted before it: a 452 to the first RCPT means that recipient, to
the sixth it means "no more in this transaction". `RULES` is that decision as data, one row a rule with its source; the
first row that matches applies. Pure.

The scopes, and what the delivery does with each where the verdict is *try later*:

- RECIPIENT: the recipient waits; the others and other mails go on.
- TRANSACTION: its recipients go on at once in smaller transactions, in this session or the next one.
- MAIL: this mail waits; other mails go on.
- SESSION: the mail goes on at once in a new session, since this one has delivered something, and may be used up.
- LOGIN: the login waits (`delivery.status.LoginLockout`).
- SERVER: everything waits; the wait doubles until something is delivered.

The last rows are the harmless ones: whatever no row names is *try later*.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from device_ui.mail.events import Verdict


class Scope(StrEnum):
    """What an answer decides for, from the narrowest to the broadest."""

    RECIPIENT = "recipient"
    TRANSACTION = "transaction"
    MAIL = "mail"
    SESSION = "session"
    LOGIN = "login"
    SERVER = "server"


class Command(StrEnum):
    """What the server answered. OPEN is everything before MAIL but the login."""

    OPEN = "open"
    AUTH = "AUTH"
    MAIL = "MAIL"
    RCPT = "RCPT"
    DATA = "DATA"
    CONTENT = "content"


@dataclass(frozen=True)
class Before:
    """What the server did before an answer.

    In this transaction: recipients `accepted` before the answer, `accepted_in_all`, and `refused` ones (for good or for now).
    `delivered`: this session has delivered a mail. `sized`: the size of the mail was declared (RFC 1870).
    """

    accepted: int = 0
    accepted_in_all: int = 0
    refused: int = 0
    delivered: bool = False
    sized: bool = False


Condition = Callable[[Before], bool]


NOTHING = Before()


@dataclass(frozen=True)
class Ruling:
    """What an answer decides: `verdict` for `scope`. `is_size`: it is the size of the mail that is refused."""

    scope: Scope
    verdict: Verdict
    is_size: bool = False


@dataclass(frozen=True)
class Rule:
    """A row: `codes` (x: any digit; none: no reply) and `enhanced` codes ("": any or none; "-": none), separated by spaces."""

    commands: tuple[Command, ...]
    codes: str
    enhanced: str
    condition: Condition
    ruling: Ruling
    source: str

    def matches(self, command: Command, code: str, enhanced: str, before: Before) -> bool:
        """Return whether the row applies."""
        return (
            command in self.commands
            and _is_one_of(self.codes, code)
            and (not self.enhanced or _is_one_of(self.enhanced, enhanced))
            and self.condition(before)
        )


@functools.lru_cache(maxsize=512)
def _is_one_of(patterns: str, text: str) -> bool:
    return any(re.fullmatch(re.escape(each).replace("x", "[0-9]+"), text) for each in patterns.split())


def _always(_: Before) -> bool:
    return True


def _after_accepted(before: Before) -> bool:
    return before.accepted > 0


def _of_several(before: Before) -> bool:
    return before.accepted > 1


def _after_refused(before: Before) -> bool:
    return before.refused > 0


def _after_any(before: Before) -> bool:
    return before.accepted > 0 or before.refused > 0


def _some_accepted(before: Before) -> bool:
    return before.accepted_in_all > 0


def _none_accepted(before: Before) -> bool:
    return not before.accepted_in_all


def _delivered(before: Before) -> bool:
    return before.delivered


def _delivered_and_none_accepted(before: Before) -> bool:
    return before.delivered and not before.accepted_in_all


def _sized(before: Before) -> bool:
    return before.sized


LATER, REFUSED = Verdict.TRY_LATER, Verdict.REFUSED
OPEN, AUTH, MAIL, RCPT, DATA, CONTENT = Command
# In the place of a reply: there was none, since the connection ended, fell silent, or sent what is no reply.
NONE = "none"
# In the place of an enhanced code: the reply has none; or it has a general one, and its words (`WORDS`) are about this. `CLIENT`
# is for the sender, too; `AGAIN`: the words say that a later try may succeed.
NO_CODE, RECIPIENT, CLIENT, RELAYING, LIMIT, AGAIN = "-", "recipient", "client", "relaying", "limit", "again"
DELIVERED = Ruling(Scope.RECIPIENT, Verdict.DELIVERED)
RECIPIENT_LATER, RECIPIENT_REFUSED = Ruling(Scope.RECIPIENT, LATER), Ruling(Scope.RECIPIENT, REFUSED)
TRANSACTION, SESSION = Ruling(Scope.TRANSACTION, LATER), Ruling(Scope.SESSION, LATER)
MAIL_LATER, MAIL_REFUSED = Ruling(Scope.MAIL, LATER), Ruling(Scope.MAIL, REFUSED)
TOO_LARGE = Ruling(Scope.MAIL, REFUSED, is_size=True)
LOGIN, SERVER = Ruling(Scope.LOGIN, LATER), Ruling(Scope.SERVER, LATER)

# The command is unknown or its order is wrong; a login or TLS is missing; this server takes no mail at all.
OF_SESSION = "500 502 504 521 530 535 538"
# Faults that a person can mend or that end by themselves within a day, so a 5xx with one of these gives up no event, even in reply to a
# recipient or the content: whom the account may send as, what it may send in a day, a full system or one that takes no mail, the
# client's address, name or SPF.
OF_SENDER = "5.1.7 5.1.8 5.2.252 5.7.60"  # RFC 3463, 3.2; Exchange Online: SendAsDenied
# RFC 3463, 3.5: congestion, Gmail's daily limit; Exchange Online's limit of recipients.
OF_LIMIT = f"{LIMIT} 5.4.5 5.1.90"
OF_DOMAIN = "5.7.20 5.7.21 5.7.22 5.7.23 5.7.24 5.7.25 5.7.26 5.7.27"  # RFC 7372, RFC 7505: DKIM, SPF, the reverse name
OF_SERVER = f"{OF_SENDER} {OF_LIMIT} {OF_DOMAIN} {CLIENT} 5.3.1 5.3.2 5.7.64"
# The server passes on no mail of this client to this domain: it may want a login, or the recipient is at fault. Exchange has codes.
OF_RELAYING = f"{RELAYING} 5.7.54 5.7.57"
TOO_BIG = "x.3.4 x.2.3"

RULES: tuple[Rule, ...] = (
    # The content was taken. A positive reply that is not about mail (x0x to x3x) answers a different command.
    Rule((CONTENT,), "25x", "", _always, DELIVERED, "RFC 5321, 4.2.1 and 4.2.5"),
    # The login. Only an answer that judged the password refuses it; what may have judged it does, since retries lock accounts.
    Rule((AUTH,), "4xx none", "", _always, SERVER, "RFC 4954, 6: 454 is a failure of the server"),
    Rule(
        (AUTH,), "500 501 502 503 504", "-", _always, SERVER, "RFC 5321, 4.2.2; RFC 4954, 4: the command, no password"
    ),
    Rule((AUTH,), "500 501 502 503 504", "5.5.x", _always, SERVER, "RFC 3463, 3.6: the protocol, no password"),
    Rule((AUTH,), "530 538", "", _always, SERVER, "RFC 4954, 6: TLS first"),
    Rule((AUTH,), "5xx", "", _always, LOGIN, "RFC 4954, 6: 534, 535"),
    Rule((OPEN, AUTH), "xxx none", "", _always, SERVER, "RFC 5321, 3.1: before MAIL nothing is about a mail"),
    # The size of this mail.
    Rule((MAIL, DATA, CONTENT), "5xx", TOO_BIG, _always, TOO_LARGE, "RFC 1870, 6.1 and 6.3; RFC 3463, 3.3 and 3.4"),
    Rule((MAIL,), "552", f"{LIMIT} x.2.2", _always, SERVER, "RFC 3463, 3.3: a full mailbox"),
    Rule((MAIL,), "552", "", _sized, TOO_LARGE, "RFC 1870, 6.1"),
    Rule((CONTENT,), "552", "-", _always, TOO_LARGE, "RFC 1870, 6.3"),
    # A limit of mails or of seconds for a session; else the sender's address or the server.
    Rule((MAIL,), "xxx none", "", _delivered, SESSION, "RFC 5321, 3.8; RFC 3463, 3.5"),
    Rule((MAIL,), "xxx none", "", _always, SERVER, "RFC 5321, 3.3: no recipient was named yet"),
    # A limit of recipients.
    Rule((RCPT,), "4xx 5xx", "x.5.3", _after_accepted, TRANSACTION, "RFC 3463, 3.6: too many recipients"),
    Rule((RCPT,), "4xx 5xx", "x.5.3", _delivered_and_none_accepted, SESSION, "RFC 3463, 3.6"),
    Rule((RCPT,), "4xx 5xx", "x.5.3", _always, RECIPIENT_LATER, "RFC 3463, 3.6: never this recipient's fault"),
    Rule((DATA, CONTENT), "4xx 5xx", "x.5.3", _of_several, TRANSACTION, "RFC 3463, 3.6"),
    Rule((RCPT,), "452", "x.2.x", _always, RECIPIENT_LATER, "RFC 3463, 3.3: the mailbox, not the transaction"),
    Rule((RCPT,), "552", "x.2.x", _always, RECIPIENT_REFUSED, "RFC 3463, 3.3"),
    Rule((RCPT,), "452 552", "", _after_accepted, TRANSACTION, "RFC 5321, 4.5.3.1.10"),
    Rule((RCPT,), "452 552", "", _delivered_and_none_accepted, SESSION, "RFC 5321, 4.5.3.1.10"),
    # The end of the session. It may be due to one more recipient, or to one that the server objected to.
    Rule((RCPT,), "421 none", "", _after_any, TRANSACTION, "RFC 5321, 3.8"),
    Rule((RCPT,), "421 none", "", _delivered, SESSION, "RFC 5321, 3.8"),
    Rule((RCPT,), "421 none", "", _always, SERVER, "RFC 5321, 3.8"),
    # One refused recipient ends the transaction for those after it.
    Rule((RCPT,), "503", "", _after_refused, TRANSACTION, "RFC 5321, 4.2.2: bad sequence"),
    Rule((RCPT,), "554", "-", _after_refused, TRANSACTION, "RFC 5321, 4.2.2: transaction failed"),
    Rule((RCPT,), "554", "5.0.0 5.5.x", _after_refused, TRANSACTION, "RFC 3463, 3.1 and 3.6"),
    # The session, the sender or the client; Postfix reports these at RCPT (smtpd_delay_reject).
    Rule((RCPT,), f"{OF_SESSION} 503", "", _some_accepted, RECIPIENT_LATER, "the server takes mail of this session"),
    Rule((RCPT,), "5xx", OF_SERVER, _some_accepted, RECIPIENT_LATER, "the server takes mail of this sender"),
    Rule(
        (RCPT,),
        f"{OF_SESSION} 503",
        "",
        _delivered_and_none_accepted,
        SESSION,
        "RFC 5321, 4.2.2; RFC 4954, 6; RFC 7504",
    ),
    Rule((RCPT,), f"{OF_SESSION} 503", "", _always, SERVER, "RFC 5321, 4.2.2; RFC 4954, 6; RFC 7504"),
    Rule((RCPT,), "5xx", OF_SERVER, _always, SERVER, "RFC 3463, 3.2 to 3.5; RFC 7372"),
    # None was accepted: the server may want a login, so later. Where it accepts others of this mail, the rule of "This recipient"
    # refuses this one.
    Rule((RCPT,), "5xx", OF_RELAYING, _none_accepted, RECIPIENT_LATER, "RFC 5321, 3.6.2: it declines to relay"),
    Rule((RCPT,), "5xx", AGAIN, _always, RECIPIENT_LATER, "RFC 5321, 4.2.1: the words of a 4yz"),
    # This recipient.
    Rule((RCPT,), "5xx", "", _always, RECIPIENT_REFUSED, "RFC 5321, 3.3"),
    Rule((RCPT,), "4xx", "", _delivered_and_none_accepted, SESSION, "RFC 5321, 4.2.1: perhaps a limit of the session"),
    Rule((RCPT,), "xxx", "", _always, RECIPIENT_LATER, "RFC 5321, 4.2.1"),
    # Without a reply to the content the server may have the mail: it is not sent again at once.
    Rule((CONTENT,), "none", "", _always, MAIL_LATER, "RFC 5321, 4.2.5 and 4.5.3.2.6"),
    Rule((DATA, CONTENT), "421 none", "", _delivered, SESSION, "RFC 5321, 3.8"),
    Rule((DATA, CONTENT), "421 none", "", _always, SERVER, "RFC 5321, 3.8"),
    Rule((DATA, CONTENT), OF_SESSION, "", _delivered, SESSION, "RFC 5321, 4.2.2; RFC 4954, 6; RFC 7504"),
    Rule((DATA, CONTENT), OF_SESSION, "", _always, SERVER, "RFC 5321, 4.2.2; RFC 4954, 6; RFC 7504"),
    Rule((DATA, CONTENT), "5xx", OF_SERVER, _always, SERVER, "RFC 3463, 3.2 to 3.5; RFC 7372"),
    # The content or a policy: this mail, for every recipient. Any other reply may be about one of the recipients, so each is
    # tried alone.
    Rule((DATA, CONTENT), "5xx", "5.6.x 5.7.0 5.7.1", _always, MAIL_REFUSED, "RFC 3463, 3.7 and 3.8"),
    Rule((DATA,), "5xx", "", _after_refused, TRANSACTION, "RFC 5321, 3.3"),
    Rule((DATA, CONTENT), "5xx", "", _of_several, TRANSACTION, "RFC 5321, 3.3: one reply for all recipients"),
    Rule((DATA, CONTENT), "503", "", _always, SERVER, "RFC 5321, 4.2.2: bad sequence"),
    Rule((DATA, CONTENT), "5xx", OF_RELAYING, _always, MAIL_LATER, "RFC 5321, 3.6.2: it declines to relay"),
    Rule((DATA, CONTENT), "5xx", AGAIN, _always, MAIL_LATER, "RFC 5321, 4.2.1: the words of a 4yz"),
    Rule((DATA, CONTENT), "5xx", "", _always, MAIL_REFUSED, "RFC 5321, 3.3"),
    Rule((DATA, CONTENT), "4xx", "", _delivered, SESSION, "RFC 5321, 4.2.1: perhaps a limit of the session"),
    Rule((DATA, CONTENT), "xxx", "", _always, MAIL_LATER, "RFC 5321, 4.2.1"),
)
# The harmless ruling: what no row names is tried later, and only the server can be meant by what is no reply.
DEFAULT = SERVER

# RFC 3463, 2, after the code of a whole reply; some servers put a # before it.
ENHANCED = re.compile(r"(?:[0-9]{3}[ -])?#?([245]\.[0-9]{1,3}\.[0-9]{1,3})(?![0-9.])")
# Enhanced codes that say no more than "other" or "policy", so that the words of the reply decide (RFC 3463, 3.1 to 3.8), and
# 5.4.6, a loop, by which Zoho reports a blocked account.
GENERAL = f"{NO_CODE} 5.0.0 5.1.0 5.2.0 5.4.6 5.7.0 5.7.1"
# Words of servers that report by such a code what a reply is about. The first that is found counts. None is a word by which a
# filter describes a content, since they decide there, too.
WORDS = {
    # What the account may send in an hour or a day, or that it is blocked: Gmail, Mailtrap, cPanel, Postfix with a policy server,
    # OVH, Exchange's exceptions, Zoho. Not a full mailbox.
    re.compile(
        r"\b(?:daily|hourly|sending|relay|outgoing|outmail|submission)\b[^.;:]{0,40}\b(?:limit|quota)\b"
        r"|\blimit of \d+ \w+ (?:per|in|within) (?:\d+ )?(?:minute|hour|day)"
        r"|\blimit on the number of allowed outgoing\b|\btoo many (?:e-?)?(?:mails|messages)\b"
        r"|\brefusequota\b|outboundspamexception|submissionquotaexceeded|\bunusual sending activity\b"
    ): LIMIT,
    # Postfix, by smtpd_relay_restrictions that end with "reject": a client without a login. A list of recipients
    # (check_recipient_access) has the same words.
    re.compile(r"\brecipient address rejected: access denied\b"): RELAYING,
    # Postfix (smtpd_check.c), "<what>: <class> rejected: <reason>".
    re.compile(r"\brecipient address rejected\b"): RECIPIENT,
    # Postfix, of the other classes, and reject_rbl_client; Exim's dnslists and "require verify = sender"; Exchange's exceptions;
    # an address that is not this account's at SendGrid, Zoho, Fastmail, SMTP2GO and Amazon; Gmail and Outlook of the line.
    re.compile(
        r"\bclient host rejected|\bclient (?:host )?\[[^]]*\] blocked|\bhelo command rejected"
        r"|\bsender address rejected|\bsender verify failed|\brejected because [0-9a-f.:]+ is in a black ?list at\b"
        r"|sendasdenied|\bnot (?:have permissions?|allowed|authori[sz]ed) to send (?:as|from)\b"
        r"|\bfrom address does not match\b|\brelaying disallowed as\b|\bsender domain not verified\b"
        r"|\bunauthori[sz]ed use of sender\b|\bemail address is not verified\b|\bto perform `?ses:|\bprohibited by spf\b"
        r"|\bthe ip you're using to send mail is not authorized\b|\bmessages from \[[^]]*\] weren't sent\b"
    ): CLIENT,
    # Postfix, sendmail, Exim, Exchange, Courier, qmail; and those that want a login by a 550 in place of a 530.
    re.compile(
        r"\brelay(?:ing)?\b[^:;]*\b(?:denied|prohibited|not (?:permitted|allowed|authorized))"
        r"|\b(?:unable to|not(?: (?:allowed|permitted|authorized) to)?) relay\b"
        r"|\brcpthosts\b|\bauthentication (?:is )?required\b"
    ): RELAYING,
    # GMX and 1&1 above a rate; Yahoo for an address that is not the account's.
    re.compile(r"\btry again later\b|\brequest failed; mailbox unavailable\b"): AGAIN,
}
# Addresses, and what a server repeats in angle brackets, are no words of it.
REPEATED = re.compile(r"<[^>]*>|\S*@\S*")
# Texts of a 535 that is a 454: Postfix passes the failure of its password server on as "authentication failed"
# (xsasl_dovecot_server.c; Cyrus SASL's SASL_FAIL), as OpenSMTPD does. Nothing judged the password.
NOT_JUDGED = re.compile(
    r"(?i)(connection lost|can.t connect) to auth|\bgeneric failure\b|temporary authentication failure"
)


def rule(command: Command, code: int | None, text: str = "", before: Before = NOTHING) -> Ruling:
    """Return what a reply (`code` and its `text`, or the whole reply; None: none came) to a command decides."""
    if command == AUTH and NOT_JUDGED.search(text):
        code = 454
    number = NONE if code is None else f"{max(code, 0):03}"  # smtplib: -1 for a line without a code
    detail = detail_of(text)
    rows = (row for row in RULES if row.matches(command, number, detail, before))
    return next((row.ruling for row in rows), DEFAULT)


def detail_of(text: str) -> str:
    """Return a reply's enhanced code, `NO_CODE` without one; in the place of a general one what its words are about."""
    found = ENHANCED.match(text)
    code = found[1] if found else NO_CODE
    if not _is_one_of(GENERAL, code):
        return code
    words = REPEATED.sub(" ", text.lower())
    return next((about for pattern, about in WORDS.items() if pattern.search(words)), code)
