"""The SMTP tab as one table: `FIELDS`, the settings they form, and the parser of the form.

The page, the parser, the settings file, `apply`, the documentation and the tests use `FIELDS`. A secret is a flag in the table. Pure.

To add a field: a row in `FIELDS`, the attribute of `SmtpSettings`, its rule in `rules`, and the Korean of its label and help in
``i18n/ko.po``; a name in `BOUND_TO` if a secret must not outlive a change of it. If its rule takes no empty value, `validate_stored` has the
value of a file from before it; a choice also has its ``locks`` in `config.SETTINGS`. The template shows each row.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from device_ui.errors import Message, Text
from device_ui.settings import oauth_rules, rules, trust_rules
from device_ui.settings.rules import Invalid, PasswordRule

Rule = Callable[[str], Any]

# The choices, and what the page shows for each.
SECURITY_WORDS = {
    "auto": "Automatic (TLS on port 465, STARTTLS on every other)",
    "starttls": "STARTTLS",
    "tls": "TLS from the first byte",
    "none": "No encryption",
}
SIGN_IN_WORDS = {
    "manual": "Account and password by the rules above",
    "provider": "Password or key issued by a mail provider",
    "oauth": "OAuth 2.0 (Microsoft 365 and others)",
    "none": "No sign-in, for a relay",
}
SECURITIES, SIGN_INS = tuple(SECURITY_WORDS), tuple(SIGN_IN_WORDS)
# Port 465 is "submissions" (RFC 8314, 3.3): TLS from the first byte. Every other port must offer STARTTLS.
IMPLICIT_TLS_PORT = 465

# maxlength counts UTF-16 units, of which a character may need two, and silently cuts a pasted text. It must never cut a valid
# password; with two units more, a text that was cut is still too long for the rule.
UTF16_UNITS = 2


@dataclass(frozen=True)
class Field:
    """One field of the tab: its form `name`, its `label`, and the rule for each way of signing in.

    `by_sign_in` maps each of `SIGN_INS` to its rule. `formerly` returns whether a former version stored a text that its rule
    does not take now. A `secret` is never shown or stored in the clear. `help` is the rule in words; the page lists `rules`
    after it and ticks them off during typing. `advanced` fields are under "Advanced". `words` maps each choice to its words.
    `decides` names the fields whose rules depend on this one. `lines` are those of a text area, 0 for a text of one line.
    """

    name: str
    label: str
    by_sign_in: Mapping[str, Rule]
    help: str
    sentences: tuple[str, ...]
    maximum: int = rules.TEXT_MAXIMUM
    formerly: Callable[[str], bool] = lambda _text: False
    secret: bool = False
    advanced: bool = False
    words: Mapping[str, str] = field(default_factory=dict)
    # Not "number" for the port: a browser sends a text that is no number as an empty field (HTML, 4.10.5.1.12), so the page could
    # not show it again.
    input_type: str = "text"
    inputmode: str = "text"
    # "off": a browser's list of past values has nothing to do with this mail server.
    autocomplete: str = "off"
    rules: tuple[PasswordRule, ...] = ()
    decides: tuple[str, ...] = ()
    lines: int = 0

    @property
    def choices(self) -> tuple[str, ...]:
        """The values of a choice, the default first; none for a field that is typed."""
        return tuple(self.words)

    @property
    def maxlength(self) -> int:
        """UTF-16 units that the page accepts; never fewer than the rule does."""
        return UTF16_UNITS * self.maximum + UTF16_UNITS


def always(rule: Rule) -> dict[str, Rule]:
    """Return the same rule for each sign-in."""
    return dict.fromkeys(SIGN_INS, rule)


def one_of(choices: tuple[str, ...]) -> Rule:
    """Return the rule of a choice; an empty text is the default, which is the first."""

    def rule(text: str) -> str | Invalid:
        value = text or choices[0]
        return value if value in choices else Invalid(rules.CHOICE_SENTENCE)

    return rule


def oauth_only(rule: Rule) -> dict[str, Rule]:
    """Return a rule for the sign-in by OAuth 2.0; with every other the field is empty."""
    return {**always(rules.no_value), "oauth": rule}


# The manual's five fields in its order, then the choices that it does not have. A stored file has the same order.
FIELDS = (
    Field(
        "host",
        "SMTP Host",
        always(rules.host),
        "The IP address or domain name of the mail server, 1 to 100 characters.",
        (rules.HOST_SENTENCE,),
        formerly=rules.former_text,
        inputmode="url",
    ),
    Field(
        "port",
        "SMTP Port",
        always(rules.port),
        "The port of the mail server: digits only, 1 to 49151.",
        (rules.PORT_SENTENCE,),
        maximum=5,
        inputmode="numeric",
    ),
    Field(
        "sender_name",
        "Sender Name",
        always(rules.sender_name),
        "The name that mails show as their sender, 1 to 100 characters.",
        (rules.SENDER_NAME_SENTENCE,),
        formerly=rules.former_text,
    ),
    Field(
        "account",
        "SMTP Account Address",
        {**always(rules.provider_account), "manual": rules.account, "none": rules.address},
        "The login of the mail server in email format (aaa@xxx.yyy), 1 to 100 characters.",
        (rules.ACCOUNT_SENTENCE,),
        maximum=rules.PROVIDER_MAXIMUM,
        inputmode="email",
    ),
    Field(
        "password",
        "SMTP Account Password",
        {**always(rules.provider_password), "manual": rules.password, "none": rules.no_value},
        "The password of this login.",
        (rules.PASSWORD_LENGTH_SENTENCE, rules.PASSWORD_SENTENCE),
        maximum=rules.PROVIDER_MAXIMUM,
        formerly=rules.former_password,
        secret=True,
        input_type="password",
        # Not "current-password": a browser would fill in the administrator's password of these pages (HTML, 4.10.18.7.1).
        autocomplete="new-password",
        rules=rules.PASSWORD_RULES,
    ),
    Field(
        "security",
        "Connection security",
        always(one_of(SECURITIES)),
        "How the connection to the mail server is protected.",
        (rules.CHOICE_SENTENCE,),
        advanced=True,
        words=SECURITY_WORDS,
    ),
    Field(
        "sign_in",
        "Sign-in",
        always(one_of(SIGN_INS)),
        "What the mail server asks for.",
        (rules.CHOICE_SENTENCE,),
        advanced=True,
        words=SIGN_IN_WORDS,
        decides=("account", "password", "from_address", *oauth_rules.NAMES),
    ),
    Field(
        "from_address",
        "From address",
        {**always(rules.from_address), "none": rules.relay_from_address},
        "The address that mail is sent from, with any sign-in but the first. Empty: the account.",
        (rules.FROM_ADDRESS_SENTENCE,),
        advanced=True,
        inputmode="email",
    ),
    Field(
        "trust",
        "Server certificate",
        always(one_of(trust_rules.TRUSTS)),
        "What vouches for it.",
        (rules.CHOICE_SENTENCE,),
        advanced=True,
        words=trust_rules.TRUST_WORDS,
        decides=tuple(trust_rules.NEEDED_WITH),
    ),
    Field(
        "trust_key",
        "Trusted key",
        always(rules.no_value),
        "The SHA-256 of the server's key (SubjectPublicKeyInfo), with or without colons. A renewed certificate with the same key is trusted, too.",
        (trust_rules.KEY_SENTENCE,),
        maximum=trust_rules.KEY_MAXIMUM,
        advanced=True,
    ),
    Field(
        "trust_ca",
        "Trusted authority",
        always(rules.no_value),
        "The certificate of the authority, as PEM. Only what it issued for the SMTP Host is trusted.",
        (trust_rules.CA_SENTENCE,),
        maximum=trust_rules.CA_MAXIMUM,
        advanced=True,
        lines=8,
    ),
    Field(
        "oauth_provider",
        "OAuth 2.0: provider",
        oauth_only(one_of(oauth_rules.PROVIDERS)),
        "Who issues the tokens.",
        (rules.CHOICE_SENTENCE,),
        advanced=True,
        words=oauth_rules.PROVIDER_WORDS,
        decides=("oauth_tenant", "oauth_issuer"),
    ),
    Field(
        "oauth_grant",
        "OAuth 2.0: grant",
        oauth_only(one_of(oauth_rules.GRANTS)),
        "How this device proves itself to the provider.",
        (rules.CHOICE_SENTENCE,),
        advanced=True,
        words=oauth_rules.GRANT_WORDS,
        # A shared tenant is for a person alone.
        decides=("password", "oauth_tenant", "oauth_until"),
    ),
    Field(
        "oauth_tenant",
        "OAuth 2.0: tenant",
        oauth_only(rules.no_value),
        "With Microsoft 365: the ID of the tenant, or a domain of it.",
        (oauth_rules.TENANT_SENTENCE,),
        advanced=True,
    ),
    Field(
        "oauth_issuer",
        "OAuth 2.0: issuer",
        oauth_only(rules.no_value),
        "With another provider: the address of its issuer, such as https://login.example.com.",
        (oauth_rules.ISSUER_SENTENCE,),
        maximum=oauth_rules.ISSUER_MAXIMUM,
        advanced=True,
        inputmode="url",
    ),
    Field(
        "oauth_client",
        "OAuth 2.0: client ID",
        oauth_only(rules.no_value),
        "The ID of the application that this device is registered as.",
        (oauth_rules.CLIENT_SENTENCE,),
        maximum=rules.PROVIDER_MAXIMUM,
        advanced=True,
    ),
    Field(
        "oauth_scope",
        "OAuth 2.0: scope",
        oauth_only(rules.no_value),
        "Empty: the provider's own for sending mail.",
        (oauth_rules.SCOPE_SENTENCE,),
        maximum=oauth_rules.SCOPE_MAXIMUM,
        advanced=True,
    ),
    Field(
        "oauth_until",
        "OAuth 2.0: end of the client secret",
        oauth_only(rules.no_value),
        "With a client secret: the date on which it ends, such as 2028-11-01. An event warns before it.",
        (oauth_rules.UNTIL_SENTENCE,),
        maximum=10,
        advanced=True,
    ),
)
BY_NAME = {field.name: field for field in FIELDS}
# The words of each choice, by the place that a sentence has for them, such as ``{sign_in_none}``: a person finds a choice by what
# the page shows, and not by its value.
CHOICE_WORDS = {f"{each.name}_{choice}": Message(words) for each in FIELDS for choice, words in each.words.items()}
# The fields that the maker can lock to their default in device.toml.
LOCKABLE = tuple(field.name for field in FIELDS if field.choices)
# The fields that a stored password is bound to. If one changes, the password must be typed again: a new server must never
# receive the password of the old one ("pass-back").
BOUND_TO = ("host", "port", "account", "security")
# What a client secret and tokens are bound to as well: neither a new mail server nor a new token server gets the old ones.
OAUTH_BOUND_TO = ("sign_in", "oauth_provider", "oauth_tenant", "oauth_issuer", "oauth_client", "oauth_grant")

TYPE_AGAIN_HINT = "Type it again: the server, port, account, connection security or trusted certificate changed."
OAUTH_TYPE_AGAIN_HINT = "Type it again: the server, the account, the connection security, the trusted certificate or the OAuth 2.0 provider changed."
SIGN_IN_HINT = "Type it again: the sign-in changed."
NOTHING_STORED_HINT = "No password is stored yet."
LOCKED_HINT = "The maker of this device has fixed this choice."
CLEAR_TEXT_HINT = "A login without TLS would send the password in the clear."
NO_TLS_TO_TRUST_HINT = "Without TLS the server shows no certificate, so none can be trusted."
NO_SENDER_HINT = "The account is not an address that mail can be sent from."
# For an account or a from address that a different sign-in accepts: that sign-in, by its words on the page.
LOCAL_PART_HINT = Message(
    "With a dot or a hyphen before the @: under “Advanced”, choose the sign-in “{choice}”.",
    choice=Message(SIGN_IN_WORDS["provider"]),
)
LOGIN_HINT = Message(
    "A login of another form: under “Advanced”, choose the sign-in “{choice}”.",
    choice=Message(SIGN_IN_WORDS["provider"]),
)
RELAY_HINT = Message(
    "An address without a dot after the @ can be the from address of a relay: under “Advanced”, choose the sign-in “{choice}”.",
    choice=Message(SIGN_IN_WORDS["none"]),
)
ISSUED_HINT = Message(
    "A password or key that a mail provider issued: under “Advanced”, choose the sign-in “{choice}”.",
    choice=Message(SIGN_IN_WORDS["provider"]),
)
# They name a choice under "Advanced", which the page then shows open.
ADVANCED_HINTS = (LOCAL_PART_HINT, LOGIN_HINT, RELAY_HINT, ISSUED_HINT)
# Providers issue letters, digits and at most "-_.+/" or blanks: 12 with Naver, 16 with most, more for a key. None of the
# manual's special characters: a password with one of them was chosen by a person.
ISSUED_PATTERN = re.compile(r"[^$!@%*#?&]{12,}")
# A login such as SendGrid's "apikey".
NO_ADDRESS_PATTERN = re.compile(r"[^\s@]+")


@dataclass(frozen=True)
class SmtpSettings:
    """Valid settings of the SMTP tab; `sealed` is the sealed password or client secret, None where none is needed."""

    host: str
    port: int
    sender_name: str
    account: str
    security: str = SECURITIES[0]
    sign_in: str = SIGN_INS[0]
    from_address: str = ""
    sealed: str | None = None
    trust: str = trust_rules.TRUSTS[0]
    trust_key: str = ""
    trust_ca: str = ""
    oauth_provider: str = ""
    oauth_grant: str = ""
    oauth_tenant: str = ""
    oauth_issuer: str = ""
    oauth_client: str = ""
    oauth_scope: str = ""
    oauth_until: str = ""

    @property
    def connection(self) -> str:
        """How a session is protected: ``tls``, ``starttls`` or ``none``; for `auto` the port decides."""
        # "auto" never means "none": STARTTLS that a server, or an attacker in between, does not offer is an error (RFC 3207, 6).
        if self.security != "auto":
            return self.security
        return "tls" if self.port == IMPLICIT_TLS_PORT else "starttls"

    @property
    def mail_from(self) -> str:
        """The sender address (RFC 5321, MAIL FROM; RFC 5322, From)."""
        return self.from_address or self.account

    @property
    def default_recipient(self) -> str:
        """The recipient while none is listed: the account, or the from address if the account is no address."""
        return self.account if isinstance(rules.address(self.account), str) else self.mail_from

    @property
    def bound_to(self) -> tuple[str, ...]:
        """The values that secrets are bound to, in the order of `BOUND_TO`, with OAuth 2.0 followed by `OAUTH_BOUND_TO`; then
        the trust, if it is not that of the system."""
        return _bound_to(vars(self))

    @property
    def trust_bound_to(self) -> tuple[str, ...]:
        """The part of `bound_to` that is the trust."""
        return trust_rules.bound_to(vars(self))

    @property
    def needs_secret(self) -> bool:
        """Whether a password or a client secret is part of the sign-in."""
        return needs_secret(self.sign_in, self.oauth_grant)


@dataclass(frozen=True)
class ParsedForm:
    """The result of `parse`: `settings` when every rule holds, else None and the `broken` rules by field name.

    `password` is the typed password, to be sealed; None: the stored one is kept, or there is none. `unused` are the fields whose
    text the choices leave out: a form may have them, since a browser sends the fields of an earlier choice as well.
    """

    settings: SmtpSettings | None
    broken: Mapping[str, Invalid]
    password: str | None = field(default=None, repr=False)
    unused: tuple[str, ...] = ()


def needed_fields(values: Mapping[str, str]) -> tuple[Field, ...]:
    """Return the fields that these choices need: those of OAuth 2.0 with this sign-in alone, by its provider and its grant; of
    the trust the one that is chosen.

    A field that appears with a choice is asked for by Update, so a form without it is never saved half.
    """
    is_oauth = values.get("sign_in") == "oauth"
    return tuple(
        each
        for each in FIELDS
        if trust_rules.is_needed(each.name, values)
        and (not each.name.startswith("oauth_") or (is_oauth and oauth_rules.is_needed(each.name, values)))
    )


def parse(
    form: Mapping[str, str],
    current: SmtpSettings | None,
    locked: frozenset[str] = frozenset(),
    sealed: str | None = None,
) -> ParsedForm:
    """Read a form: apply each field's rule and report every broken one. A missing field is empty.

    A blank password is the `sealed` one, if given, else it keeps that of the `current` settings; `locked` are the fields that
    the maker locked to their defaults.
    """
    sign_in = _sign_in(form, locked)
    # All fields and not up to the first broken one: a person corrects the form once.
    values = {each.name: each.by_sign_in[sign_in](form.get(each.name, "")) for each in FIELDS}
    # A browser sends no value of a disabled control; a different value was not made by the page.
    for name in locked:
        if sign_in == "oauth" or not name.startswith("oauth_"):
            values[name] = _locked(name, form.get(name, ""))
    # These rules need the value of a second field, so they follow the rules of single fields.
    values["from_address"] = _from_address(form.get("from_address", ""), sign_in, values["account"])
    if sign_in == "oauth":
        values |= {name: oauth_rules.value(name, form.get(name, ""), values) for name in oauth_rules.VALUES}
    values |= {name: trust_rules.value(name, form.get(name, ""), values) for name in trust_rules.NEEDED_WITH}
    if not isinstance(values["security"], Invalid) and _clear_text_login(values, sign_in):
        values["security"] = Invalid(rules.CHOICE_SENTENCE, (CLEAR_TEXT_HINT,))
    elif _trusts_without_tls(values):
        values["security"] = Invalid(rules.CHOICE_SENTENCE, (NO_TLS_TO_TRUST_HINT,))
    kept = None
    if not needs_secret(sign_in, values["oauth_grant"]):
        values["password"] = ""
    # The page never shows the stored password, so an empty field means that it stays.
    elif form.get("password", "") == "":
        kept, values["password"] = (sealed, "") if sealed else _kept_password(values, current)
    unused = tuple(
        each.name
        for each in FIELDS
        if not each.secret and values[each.name] == "" and rules.stripped(form.get(each.name, ""))
    )
    broken = {each.name: values[each.name] for each in FIELDS if isinstance(values[each.name], Invalid)}
    # Where the maker locked the sign-in, a hint to choose a different one would be useless.
    if broken and "sign_in" not in locked:
        broken |= _with_sign_in_hints(broken, form)
    if broken:
        return ParsedForm(None, broken, unused=unused)
    typed = values.pop("password")
    return ParsedForm(SmtpSettings(**values, sealed=kept), {}, typed or None, unused)


def validate_stored(values: Mapping[str, Any]) -> SmtpSettings | Message:
    """Apply the rules to stored values; return the settings, or a message that names the field with the broken rule.

    `values` has each field without the secret ones, and `sealed`. A stored value must equal the result of its rule.
    """
    sign_in = values.get("sign_in")
    if sign_in not in SIGN_INS:
        return Message("sign_in is not one of the choices")
    # A file from before there was a trust has none, and so has one without any (`store.encode`).
    values = {"trust": trust_rules.TRUSTS[0], **values}
    for each in FIELDS:
        value = values.get(each.name, "")
        # Equal, and not only valid: a value that its rule changes (a blank at the end) was written by a different program.
        if each.secret or _ruled(each, str(value), sign_in, values) == value:
            continue
        if not (isinstance(value, str) and each.formerly(value)):
            return Message("{name} breaks its rule", name=each.name)
    settings = SmtpSettings(**values)
    # The same relations between fields as in `parse`: a file can be restored, or edited with a right checksum.
    if not isinstance(settings.sealed, str | None):
        return Message("the sealed password is no text")
    if (settings.sealed is None) == settings.needs_secret:
        return Message("the password is missing" if settings.sealed is None else "a password is kept without a login")
    if _clear_text_login(values, sign_in):
        return Message("the connection security is “{choice}” with a login", choice=Message(SECURITY_WORDS["none"]))
    if _trusts_without_tls(values):
        return Message("a certificate is trusted without TLS")
    return settings


def _sign_in(form: Mapping[str, str], locked: frozenset[str]) -> str:
    # An unknown sign-in is reported itself; the other fields are then read by the manual's rules.
    chosen = form.get("sign_in", "")
    return chosen if chosen in SIGN_INS and "sign_in" not in locked else SIGN_INS[0]


def _locked(name: str, text: str) -> str | Invalid:
    default = BY_NAME[name].choices[0]
    return default if text in ("", default) else Invalid(rules.CHOICE_SENTENCE, (LOCKED_HINT,))


def _ruled(each: Field, text: str, sign_in: str, values: Mapping[str, Any]) -> Any:
    """Return the value of a text by the rule of its field, or an `Invalid`."""
    if each.name == "from_address":  # its rule depends on the account
        return _from_address(text, sign_in, values["account"])
    if sign_in == "oauth" and each.name in oauth_rules.VALUES:
        return oauth_rules.value(each.name, text, values)
    if each.name in trust_rules.NEEDED_WITH:
        return trust_rules.value(each.name, text, values)
    return each.by_sign_in[sign_in](text)


def _from_address(text: str, sign_in: str, account: str | Invalid) -> str | Invalid:
    # The manual has no such field: mail is sent from the account, which is an address by its rule.
    if sign_in == "manual":
        return ""
    if rules.stripped(text):
        return BY_NAME["from_address"].by_sign_in[sign_in](text)  # type: ignore[no-any-return]
    # One sentence for one mistake: the account's own is reported already.
    if isinstance(account, Invalid):
        return ""
    value = rules.from_address(account)
    return Invalid(value.sentence, (NO_SENDER_HINT,)) if isinstance(value, Invalid) else ""


def needs_secret(sign_in: str, grant: object) -> bool:
    """Return whether a password or a client secret is part of this sign-in."""
    return sign_in in ("manual", "provider") or (sign_in == "oauth" and grant == "secret")


# The sign-ins with a secret, for the script, which decides nothing; with OAuth 2.0 the grant follows the sign-in.
PASSWORD_SIGN_INS = ",".join(
    f"{sign_in} {grant}".strip()
    for sign_in in SIGN_INS
    for grant in (oauth_rules.GRANTS if sign_in == "oauth" else ("",))
    if needs_secret(sign_in, grant)
)


def _bound_to(values: Mapping[str, Any]) -> tuple[str, ...]:
    names = (*BOUND_TO, *OAUTH_BOUND_TO) if values["sign_in"] == "oauth" else BOUND_TO
    # A change of the trust is a change of the server: a server with another key would else get the password.
    return (*(str(values[name]) for name in names), *trust_rules.bound_to(values))


def _with_sign_in_hints(broken: Mapping[str, Invalid], form: Mapping[str, str]) -> dict[str, Invalid]:
    """Return the broken values that a different sign-in accepts, each with the hint that names this sign-in."""
    hints: dict[str, Invalid] = {}
    for name in ("account", "from_address"):
        # A hint of the rule itself, such as an invisible character, is nearer to the mistake.
        if name in broken and not broken[name].hints:
            text = rules.stripped(form.get(name, ""))
            hint = _account_hint(text) if name == "account" else RELAY_HINT if _is_of_relay(text) else ""
            hints |= {name: Invalid(broken[name].sentence, (hint,))} if hint else {}
    # After the hints of the rule, which are right for a password of the manual's kind.
    is_manual = _sign_in(form, frozenset()) == "manual"
    if "password" in broken and is_manual and _may_be_issued(form.get("password", "")):
        hints["password"] = Invalid(broken["password"].sentence, (*broken["password"].hints, ISSUED_HINT))
    return hints


def _may_be_issued(password: str) -> bool:
    return bool(ISSUED_PATTERN.fullmatch(password)) and isinstance(rules.provider_password(password), str)


def _account_hint(account: str) -> Text:
    # From the narrowest form to the widest: an address with a dot would also be a login of any other form.
    if isinstance(rules.address(account), str):
        return LOCAL_PART_HINT
    if _is_of_relay(account):
        return RELAY_HINT
    return LOGIN_HINT if NO_ADDRESS_PATTERN.fullmatch(account) else ""


def _is_of_relay(text: str) -> bool:
    return isinstance(rules.relay_from_address(text), str)


def _clear_text_login(values: Mapping[str, Any], sign_in: str) -> bool:
    host = values["host"]
    return values["security"] == "none" and sign_in != "none" and not (isinstance(host, str) and is_loopback(host))


def _trusts_without_tls(values: Mapping[str, Any]) -> bool:
    return values["security"] == "none" and values["trust"] in trust_rules.NEEDED_WITH.values()


def is_loopback(host: str) -> bool:
    """Return whether a host is the device itself: ``localhost``, 127.0.0.0/8 or ::1, with or without brackets."""
    if host.lower() == "localhost":
        return True
    try:
        found = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    # Python 3.13 looks through a mapped address by itself, earlier versions do not.
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return (mapped or found).is_loopback


def _kept_password(values: Mapping[str, Any], current: SmtpSettings | None) -> tuple[str | None, str | Invalid]:
    """Return the stored sealed password and ``""``; or None and why it must be typed again."""
    # The manual's sentence for each, since an empty password breaks its rule; the hint has the reason.
    if current is None or current.sealed is None:
        return None, Invalid(rules.PASSWORD_LENGTH_SENTENCE, (NOTHING_STORED_HINT,))
    if values["sign_in"] != current.sign_in and "oauth" in (values["sign_in"], current.sign_in):
        return None, Invalid(rules.PASSWORD_LENGTH_SENTENCE, (SIGN_IN_HINT,))
    if _bound_to(values) != current.bound_to:
        hint = OAUTH_TYPE_AGAIN_HINT if values["sign_in"] == "oauth" else TYPE_AGAIN_HINT
        return None, Invalid(rules.PASSWORD_LENGTH_SENTENCE, (hint,))
    if values["sign_in"] == "manual" != current.sign_in:  # a provider's password need not meet the manual's rules
        return None, Invalid(rules.PASSWORD_LENGTH_SENTENCE, (SIGN_IN_HINT,))
    return current.sealed, ""
