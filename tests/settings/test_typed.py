"""What people type and paste, as reported of other products: what a form makes of it, and the hint that leads on."""

from __future__ import annotations

import pytest

from device_ui.errors import Message
from device_ui.settings import recipients
from device_ui.settings.fields import SmtpSettings, parse, validate_stored
from device_ui.settings.recipients import Recipient
from device_ui.settings.rules import Invalid
from tests.settings.test_fields import FORM, STORED, form

HOST = "Please enter an SMTP host within 100 characters."
PORT = "Please enter an SMTP port between 1 and 49151."
SENDER_NAME = "Please enter a sender name."
ACCOUNT = "Please enter an SMTP account address in email format."
LENGTH = "The SMTP account password does not meet the rules."
PASSWORD = "SMTP account password does not meet the rules."
FROM_ADDRESS = "Please enter a from address in email format."
RECIPIENT = "Please enter an e-mail address, such as name@example.com."

FOUR_NUMBERS = "An IPv4 address has four decimal numbers from 0 to 255, such as 192.0.2.25."
HALF_WIDTH = (
    "Please type it with the letters A to Z and the digits 0 to 9, none of them full-width or of another script."
)
PROVIDER_WORDS = "Password or key issued by a mail provider"
LOCAL_PART = f"With a dot or a hyphen before the @: under “Advanced”, choose the sign-in “{PROVIDER_WORDS}”."
NO_ADDRESS = f"A login of another form: under “Advanced”, choose the sign-in “{PROVIDER_WORDS}”."
RELAY = (
    "An address without a dot after the @ can be the from address of a relay: under “Advanced”, choose the sign-in "
    "“No sign-in, for a relay”."
)
PROVIDER = {"sign_in": "provider", "account": "apikey", "from_address": "alarm@example.com"}
RELAYED = {"sign_in": "none", "password": ""}


def unseen(position: int, name: str) -> str:
    """The hint for a character that cannot be seen."""
    return f"Character {position} cannot be seen: {name}. Please remove it, or type this again."


def saved(name: str, typed: str, **changes: str) -> object:
    """The value that a form with this text in one field leads to, or what it is told."""
    found = parse(form(**{**changes, name: typed}), None)
    if name in found.broken:
        return said(found.broken[name])
    assert found.settings, found.broken
    return found.password if name == "password" else getattr(found.settings, name)


def said(broken: Invalid) -> tuple[str, ...]:
    """Sentence and hints as they are read."""
    return (str(broken.sentence), *map(str, broken.hints))


# Ends: blanks, tabs, no-break and zero-width characters


@pytest.mark.parametrize(
    ("name", "typed", "value"),
    [
        pytest.param("host", "mail.example.com\t", "mail.example.com", id="pi-hole#1758"),
        pytest.param("port", "587\t", 587, id="gluon#444"),
        pytest.param("account", "\talarm@mail.example.com \t", "alarm@mail.example.com", id="SuiteCRM#9753"),
        pytest.param("host", "smtp.live.com ", "smtp.live.com", id="PHPMailer#112"),
        pytest.param("host", "\u200bmail.example.com", "mail.example.com", id="whatwg/url#151"),
        pytest.param("account", "\u200balarm@mail.example.com", "alarm@mail.example.com", id="validator.js#940"),
        pytest.param("account", "alarm@mail.example.com\u200b", "alarm@mail.example.com", id="validator.js#802"),
        pytest.param("host", "\ufeffmail.example.com", "mail.example.com", id="nextcloud/mail#6091-bom"),
        pytest.param("port", "\u200e465\u202c", 465, id="bidi-marks-around-a-port"),
        pytest.param("sender_name", "\u2060Storage\u00ad", "Storage", id="strichliste-web#48"),
        pytest.param("host", "\u2028mail.example.com\u2029", "mail.example.com", id="line-separators-of-a-word-processor"),
    ],
)  # fmt: skip
def test_ends_that_nobody_sees_are_stripped(name, typed, value):
    assert saved(name, typed) == value


def test_the_from_address_and_a_providers_login_are_stripped_too():
    assert saved("from_address", "\tops.team@example.com\u00a0", **PROVIDER) == "ops.team@example.com"
    assert saved("account", "\ufeffapikey\t", **{**PROVIDER, "account": ""}) == "apikey"
    assert saved("from_address", "\t\u200b", **RELAYED) == ""


def test_an_emoji_at_the_end_of_the_sender_name_stays_whole():
    """A flag of tags ends with U+E007F, which has no width of its own (UTS 51, C.1)."""
    scotland = "\U0001f3f4\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f"
    family = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
    assert saved("sender_name", f"Alarm {family} {scotland} ") == f"Alarm {family} {scotland}"


@pytest.mark.parametrize("typed", ["\tops@example.com\u200b", "\u00a0ops@example.com\ufeff", "ops@example.com\u2028"])
def test_a_recipients_ends_are_stripped(typed):
    assert recipients.add((), typed, "info") == (Recipient("ops@example.com"),)


# Inside: named by position and name


@pytest.mark.parametrize(
    ("name", "typed", "sentence", "hint"),
    [
        pytest.param("host", "mail\u200b.example.com", HOST, unseen(5, "U+200B ZERO WIDTH SPACE"), id="json-schema#928"),
        pytest.param("host", "mail\u00ad.example.com", HOST, unseen(5, "U+00AD SOFT HYPHEN"), id="lantern#8836"),
        pytest.param("host", "mail\u00a0.example.com", HOST, unseen(5, "U+00A0 NO-BREAK SPACE"), id="lantern#8836-nbsp"),
        pytest.param("host", " \tma\til.example.com", HOST, unseen(5, "U+0009 TAB"), id="listmonk#1746"),
        pytest.param("host", "mail\n", HOST, unseen(5, "U+000A LF"), id="header-injection"),
        pytest.param("port", "5\u200b87", PORT, unseen(2, "U+200B ZERO WIDTH SPACE"), id="port"),
        pytest.param("account", "a@xxx\u2060.yyy", ACCOUNT, unseen(6, "U+2060 WORD JOINER"), id="validator.js#2648"),
        pytest.param("sender_name", "Alarm\nBcc: x", SENDER_NAME, unseen(6, "U+000A LF"), id="sender-name"),
        pytest.param("sender_name", "Alarm\u2028x", SENDER_NAME, unseen(6, "U+2028 LINE SEPARATOR"), id="separator"),
        pytest.param("password", "Kp7!vRw2#\u200b", PASSWORD, unseen(10, "U+200B ZERO WIDTH SPACE"), id="nette#304"),
        pytest.param("password", "\ufeffKp7!vRw2#", PASSWORD, unseen(1, "U+FEFF ZERO WIDTH NO-BREAK SPACE"), id="nette#304-bom"),
        pytest.param("password", "Kp7!\u00advRw2#", PASSWORD, unseen(5, "U+00AD SOFT HYPHEN"), id="nette#304-shy"),
        pytest.param("password", "Kp7!vRw2#\u202c", PASSWORD, unseen(10, "U+202C POP DIRECTIONAL FORMATTING"), id="nette#304-bidi"),
        pytest.param("password", "Kp7!vRw2#\u00a0", PASSWORD, unseen(10, "U+00A0 NO-BREAK SPACE"), id="cypht#780"),
        pytest.param("password", "Kp7!vRw2#\t", PASSWORD, unseen(10, "U+0009 TAB"), id="thunderbird-android#8419-tab"),
        pytest.param("password", "Kp7!vRw2#\u3000", PASSWORD, unseen(10, "U+3000 IDEOGRAPHIC SPACE"), id="ime-space"),
    ],
)  # fmt: skip
def test_what_cannot_be_seen_inside_is_named_with_its_place(name, typed, sentence, hint):
    assert saved(name, typed) == (sentence, hint)


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        ("SG.key\u200b", unseen(7, "U+200B ZERO WIDTH SPACE")),
        ("abcd\u00a0efgh", unseen(5, "U+00A0 NO-BREAK SPACE")),
        ("\u2066key", unseen(1, "U+2066 LEFT-TO-RIGHT ISOLATE")),
        ("key\ue000", unseen(4, "U+E000")),
    ],
)
def test_a_providers_password_has_the_same_rule(typed, hint):
    assert saved("password", typed, **PROVIDER) == (PASSWORD, hint)


def test_a_providers_login_has_it_too():
    assert saved("account", "api\u200bkey", **{**PROVIDER, "account": ""}) == (
        ACCOUNT, unseen(4, "U+200B ZERO WIDTH SPACE"),
    )  # fmt: skip


def test_a_password_keeps_its_own_blanks():
    """thunderbird-android#8419, opencompany#1484: a password may end with a space."""
    assert saved("password", " Kp7!vRw2# ") == " Kp7!vRw2# "
    assert saved("password", " app pass ", **PROVIDER) == " app pass "


@pytest.mark.parametrize(
    "typed",
    [
        pytest.param("5Pk.#Kz%W;}r3Bf_IE&", id="apprise#1432"),
        pytest.param('O23&;ws2 Ywm@"l3/y!\\ !q', id="Mailpile#1333"),
        pytest.param("p#ssword{1}", id="YunoHost#1800, YunoHost#2766"),
        pytest.param("pa$$word`id`", id="deanproxy/eMail#33"),
        pytest.param("a+b%20c=d?e&f", id="a text that an address would change"),
    ],
)
def test_a_providers_password_is_kept_to_the_letter(typed):
    assert saved("password", typed, **PROVIDER) == typed


def test_a_password_that_is_too_long_by_what_cannot_be_seen_is_told_so():
    typed = "Kp7!vRw2#Zt9Lm4$Qx8&\u200b"
    assert saved("password", typed) == (
        LENGTH,
        "It must have 10 to 20 characters.",
        unseen(21, "U+200B ZERO WIDTH SPACE"),
    )


def test_three_are_named_at_most():
    assert saved("host", "a\u200bb\u200cc\u200dd\u2060e") == (
        HOST, unseen(2, "U+200B ZERO WIDTH SPACE"), unseen(4, "U+200C ZERO WIDTH NON-JOINER"),
        unseen(6, "U+200D ZERO WIDTH JOINER"),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("typed", "hints"),
    [
        ("ops\u200b@example.com", (unseen(4, "U+200B ZERO WIDTH SPACE"),)),
        ("ops\uff20example.com", (HALF_WIDTH,)),
        ("ops", ()),
    ],
)
def test_a_recipient_is_refused_with_the_same_hints(typed, hints):
    found = recipients.add((), typed, "info")
    assert isinstance(found, Invalid)
    assert said(found) == (RECIPIENT, *hints)


# Numbers are decimal


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        pytest.param("127.000.000.010", "127.0.0.10", id="ultravnc#122"),
        pytest.param("010.024.07.100", "10.24.7.100", id="ultravnc#122-connect"),
        pytest.param("192.012.1.1", "192.12.1.1", id="ipaddr.js#16"),
        pytest.param("10.10.1.011", "10.10.1.11", id="dotnet/runtime#76368"),
        pytest.param("89.000.094.209", "89.0.94.209", id="IPAddress#99"),
        pytest.param("010.019.020.30", "10.19.20.30", id="IPAddress#81"),
        pytest.param("192.168.009.215", "192.168.9.215", id="ipaddressrange#66"),
        pytest.param("192.168.1.086", "192.168.1.86", id="commons-ip-math#15"),
        pytest.param("::ffff:192.0.2.25", "192.0.2.25", id="mapped"),
        pytest.param("[::FFFF:192.000.002.025]", "192.0.2.25", id="mapped-in-brackets-and-zeros"),
        pytest.param("::ffff:c000:0219", "192.0.2.25", id="mapped-in-hexadecimal"),
        pytest.param("64:ff9b::192.000.002.025", "64:ff9b::192.0.2.25", id="embedded"),
        pytest.param("\uff11\uff19\uff12.0.2.25", "192.0.2.25", id="full-width"),
        pytest.param("192\u30020\u30022\u300225", "192.0.2.25", id="ideographic-full-stop"),
        pytest.param("192.0.2.25", "192.0.2.25", id="plain"),
        pytest.param("2001:DB8::25", "2001:DB8::25", id="ipv6-as-typed"),
        pytest.param("[2001:db8::25]", "[2001:db8::25]", id="ipv6-in-brackets-as-typed"),
        pytest.param("fe80::1%eth0", "fe80::1%eth0", id="zone"),
        pytest.param("10.example", "10.example", id="name-with-a-number-first"),
        pytest.param("mail.example.com:587", "mail.example.com:587", id="any-format"),
    ],
)
def test_numbers_of_an_address_are_read_as_decimal(typed, value):
    assert saved("host", typed) == value


@pytest.mark.parametrize(
    "typed",
    [
        *("0x7f.1", "0x7f000001", "0X7F.0.0.1", "2130706433", "127.1", "0177.1", "1", "0", "192.168.1111"),
        *("300.1.1.1", "192.0.2.25.1", "192.0.2.256", "192.0.2.25.", "192.0.2.0x19", "17.15.011"),
        *("192.0.2.\u0662\u0665", "::ffff:192.0.2.256", "::ffff:1.2.3", "[::ffff:0300.0.2.1]"),
    ],
)
def test_a_number_that_is_no_decimal_address_is_refused(typed):
    assert saved("host", typed) == (HOST, FOUR_NUMBERS)


def test_a_login_without_tls_to_a_stranger_is_no_login_to_the_device_itself():
    """The zeros of 010 are no octal 8; and ::ffff:127.0.0.1 is loopback on every Python (gh-117566)."""
    assert saved("security", "none", host="127.000.000.010") == "none"
    assert saved("security", "none", host="::ffff:127.0.0.1") == "none"
    assert saved("security", "none", host="::ffff:192.0.2.1") == (
        "Please choose one of the values listed.", "A login without TLS would send the password in the clear.",
    )  # fmt: skip


# Digits and letters of another width


@pytest.mark.parametrize(
    "typed",
    [
        pytest.param("\uff15\uff18\uff17", id="whatwg/html#11395"),
        pytest.param("58\uff17", id="react-number-format#823"),
        pytest.param("\u0662\u0665", id="arabic"),
        pytest.param("\u0e52\u0e55", id="thai"),
        pytest.param("\u4e8c\u4e94", id="flutter#97413-kanji"),
    ],
)
def test_digits_that_are_none_of_the_keyboard_have_a_hint(typed):
    assert saved("port", typed) == (PORT, HALF_WIDTH)


@pytest.mark.parametrize(
    "typed", ["alarm\uff20mail.example.com", "\uff41larm@mail.example.com", "a@mail\uff0eexample.com"]
)
def test_letters_of_full_width_have_a_hint(typed):
    assert saved("account", typed) == (ACCOUNT, HALF_WIDTH)
    assert saved("from_address", typed, **PROVIDER) == (FROM_ADDRESS, HALF_WIDTH)


# Hints that lead on


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        pytest.param("first.last@example.com", LOCAL_PART, id="bfstop#165"),
        pytest.param("ops-team@example.com", LOCAL_PART, id="ntopng#4577"),
        pytest.param("apikey", NO_ADDRESS, id="nexusphp#205"),
        pytest.param("0a1b2c3d-PM-Token", NO_ADDRESS, id="typemill#614"),
        pytest.param("be13324p1", NO_ADDRESS, id="NetLock-RMM#94"),
        pytest.param("DOMAIN\\alarm", NO_ADDRESS, id="NetLock-RMM#134"),
        pytest.param("root@nas", RELAY, id="home-assistant#93452"),
        pytest.param("root@localhost", RELAY, id="backbone-validator#40"),
    ],
)
def test_a_login_of_another_form_is_led_to_its_sign_in(typed, hint):
    assert saved("account", typed) == (ACCOUNT, hint)


@pytest.mark.parametrize("typed", ["", "a b", "a@", "@", "a@b@c.d", "a,b@xxx.yyy", "alarm@mail..example.com"])
def test_a_slip_is_led_nowhere(typed):
    assert saved("account", typed) == (ACCOUNT,)


def test_no_hint_leads_to_a_choice_that_the_maker_locked():
    for typed in ("first.last@example.com", "apikey", "root@nas"):
        broken = parse(form(account=typed), None, frozenset({"sign_in"})).broken
        assert broken["account"] == Invalid(ACCOUNT)


def test_where_a_hint_leads_the_address_is_taken():
    assert saved("account", "first.last@example.com", sign_in="provider") == "first.last@example.com"
    assert saved("account", "apikey", **{**PROVIDER, "account": ""}) == "apikey"


@pytest.mark.parametrize(
    "typed",
    [
        pytest.param("root@nas", id="home-assistant#93452"),
        pytest.param("miguel@localhost", id="PHPMailer#1211"),
        pytest.param("alarm.box@nas-1", id="async-smtp#44"),
        pytest.param("alarm.box@mail.example.com", id="dotted"),
    ],
)
def test_a_relay_takes_a_from_address_of_a_host_without_a_dot(typed):
    assert saved("from_address", typed, **RELAYED) == typed
    settings = parse(form(from_address=typed, **RELAYED), None).settings
    assert settings and settings.mail_from == typed
    values = {**FORM, "port": 587, "from_address": typed, "sign_in": "none"}
    del values["password"]
    assert isinstance(validate_stored(values), SmtpSettings)


def test_with_a_login_that_from_address_is_led_to_the_relay():
    assert saved("from_address", "root@nas", **PROVIDER) == (FROM_ADDRESS, RELAY)


@pytest.mark.parametrize("typed", ["root@", "@nas", "root@nas.", "root@.nas", "ro ot@nas", "root@nas\nx"])
def test_it_is_an_address_all_the_same(typed):
    found = saved("from_address", typed, **RELAYED)
    assert isinstance(found, tuple) and found[0] == FROM_ADDRESS


# What former versions stored


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("host", "192.168.001.005"),
        ("host", "mail.example.com\u200b"),
        ("host", "2130706433"),
        ("host", "::ffff:192.0.2.25"),
        ("sender_name", "Alarm\u200b"),
        ("sender_name", "Alarm\u2028box"),
    ],
)
def test_an_update_of_the_program_takes_no_stored_value_away(name, value):
    found = validate_stored({name: getattr(STORED, name) for name in STORED.__dict__} | {name: value})
    assert isinstance(found, SmtpSettings) and getattr(found, name) == value


@pytest.mark.parametrize("value", ["mail\n", " mail", "mail\u00a0", "", "x" * 101, "mail\ud800"])
def test_what_no_version_stored_is_damage(value):
    found = validate_stored({name: getattr(STORED, name) for name in STORED.__dict__} | {"host": value})
    assert isinstance(found, Message)


# A password that a provider issued


ISSUED = f"A password or key that a mail provider issued: under “Advanced”, choose the sign-in “{PROVIDER_WORDS}”."


@pytest.mark.parametrize(
    ("typed", "leads"),
    [
        pytest.param("abcd efgh ijkl mnop", True, id="Google"),
        pytest.param("abcd-efgh-ijkl-mnop", True, id="Apple"),
        pytest.param("A1B2C3D4E5F6", True, id="Naver"),
        pytest.param("SG." + "a1B2" * 16, True, id="SendGrid"),
        pytest.param("Kp7!vRw2#Ztt9", False, id="by a person, with a special character"),
        pytest.param("A1B2C3D4E5F", False, id="shorter than any"),
        pytest.param("", False, id="empty"),
        pytest.param("abcd\u200befghijklmnop", False, id="with a character that no sign-in takes"),
    ],
)
def test_a_password_that_a_provider_issued_leads_to_its_sign_in(typed, leads):
    hints = parse(form(password=typed), None).broken["password"].hints
    assert [str(each) for each in hints if str(each) == ISSUED] == [ISSUED] * leads
    assert not leads or (len(hints) > 1 and str(hints[-1]) == ISSUED)


def test_the_makers_lock_names_no_sign_in_for_a_password():
    (broken,) = parse(form(password="abcd efgh ijkl mnop"), None, frozenset({"sign_in"})).broken.values()
    assert ISSUED not in map(str, broken.hints)
