"""The SMTP tab as one table: the manual's fields to the letter, and what a form makes of the settings that stand."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_ui.settings import fields, rules
from device_ui.settings.fields import BY_NAME, FIELDS, SmtpSettings, parse, validate_stored
from device_ui.settings.rules import Invalid

PASSWORD = "Kp7!vRw2#Zt9"
FORM = {
    "host": "mail.example.com",
    "port": "587",
    "sender_name": "Storage alarms",
    "account": "alarm@mail.example.com",
    "password": PASSWORD,
    "security": "auto",
    "sign_in": "manual",
    "from_address": "",
}
STORED = SmtpSettings("mail.example.com", 587, "Storage alarms", "alarm@mail.example.com", sealed="hpke1.sealed")

LENGTH = "The SMTP account password does not meet the rules."
CHOICE = "Please choose one of the values listed."
AGAIN = Invalid(
    LENGTH, ("Type it again: the server, port, account, connection security or trusted certificate changed.",)
)
NOTHING_STORED = Invalid(LENGTH, ("No password is stored yet.",))
LOCKED = Invalid(CHOICE, ("The maker of this device has fixed this choice.",))
CLEAR_TEXT = Invalid(CHOICE, ("A login without TLS would send the password in the clear.",))
NO_FROM = Invalid(
    "Please enter a from address in email format.", ("The account is not an address that mail can be sent from.",)
)


def form(**changes: str) -> dict[str, str]:
    """A good form with some fields changed."""
    return {**FORM, **changes}


def stored(**changes: object) -> SmtpSettings:
    """The settings that stand, with some fields changed."""
    return dataclasses.replace(STORED, **changes)


# The table.


def test_tab_has_the_manuals_five_fields_in_its_order():
    assert [(field.name, field.label) for field in FIELDS if not field.advanced] == [
        ("host", "SMTP Host"),
        ("port", "SMTP Port"),
        ("sender_name", "Sender Name"),
        ("account", "SMTP Account Address"),
        ("password", "SMTP Account Password"),
    ]


def test_advanced_holds_the_others_after_them():
    assert [(field.name, field.choices) for field in FIELDS[5:]] == [
        ("security", ("auto", "starttls", "tls", "none")),
        ("sign_in", ("manual", "provider", "oauth", "none")),
        ("from_address", ()),
        ("trust", ("system", "pin", "ca")),
        ("trust_key", ()),
        ("trust_ca", ()),
        ("oauth_provider", ("microsoft", "custom")),
        ("oauth_grant", ("certificate", "secret", "device")),
        ("oauth_tenant", ()),
        ("oauth_issuer", ()),
        ("oauth_client", ()),
        ("oauth_scope", ()),
        ("oauth_until", ()),
    ]
    assert all(field.advanced for field in FIELDS[5:])


def test_table_names_the_six_sentences_beside_their_fields():
    assert [field.sentences for field in FIELDS[:5]] == [
        ("Please enter an SMTP host within 100 characters.",),
        ("Please enter an SMTP port between 1 and 49151.",),
        ("Please enter a sender name.",),
        ("Please enter an SMTP account address in email format.",),
        ("The SMTP account password does not meet the rules.", "SMTP account password does not meet the rules."),
    ]


def test_password_alone_is_secret_and_hidden_while_it_is_typed():
    assert [field.name for field in FIELDS if field.secret or field.input_type == "password"] == ["password"]
    assert BY_NAME["password"].autocomplete == "new-password"


def test_maker_may_lock_each_choice():
    assert fields.LOCKABLE == ("security", "sign_in", "trust", "oauth_provider", "oauth_grant")


def test_password_belongs_to_host_port_account_and_security():
    assert fields.BOUND_TO == ("host", "port", "account", "security")
    assert STORED.bound_to == ("mail.example.com", "587", "alarm@mail.example.com", "auto")


ASTRAL = "\U0001f4e7\U0001f600"


@pytest.mark.parametrize(
    ("name", "sign_in", "longest"),
    [
        ("host", "manual", ASTRAL * 50),
        ("port", "manual", "00025"),
        ("sender_name", "manual", ASTRAL * 50),
        ("account", "manual", "a" * 92 + "@xxx.yyy"),
        ("account", "provider", ASTRAL * 128),
        ("password", "manual", "aA1!" + ASTRAL * 8),
        ("password", "provider", ASTRAL * 128),
        ("from_address", "provider", "a" * 92 + "@xxx.yyy"),
    ],
)
def test_page_lets_the_longest_value_be_typed_and_one_that_is_too_long_be_seen(name, sign_in, longest):
    field = BY_NAME[name]
    assert not isinstance(field.by_sign_in[sign_in](longest), Invalid)
    assert isinstance(field.by_sign_in[sign_in](longest + longest[:1]), Invalid)
    assert len((longest + longest[:1]).encode("utf-16-le")) // 2 <= field.maxlength


@given(st.text(max_size=258), st.sampled_from(FIELDS), st.sampled_from(fields.SIGN_INS))
@settings(max_examples=300, deadline=None)
def test_page_lets_every_accepted_value_be_typed(text, field, sign_in):
    value = field.by_sign_in[sign_in](text)
    if value and not isinstance(value, Invalid) and not field.choices and sign_in != "none":
        assert len(text.strip().encode("utf-16-le", "surrogatepass")) // 2 <= field.maxlength


# A form by the manual's rules.


def test_good_form_makes_settings_and_hands_the_password_over_to_be_sealed():
    draft = parse(FORM, None)
    assert draft.settings == SmtpSettings(
        host="mail.example.com",
        port=587,
        sender_name="Storage alarms",
        account="alarm@mail.example.com",
        security="auto",
        sign_in="manual",
        from_address="",
        sealed=None,
    )
    assert (draft.broken, draft.password) == ({}, PASSWORD)


def test_blanks_go_and_zeros_go_but_the_password_keeps_its_blanks():
    draft = parse(form(host=" mail ", port=" 0025\u3000", sender_name="\u00a0x ", password=" Kp7!vRw2# "), None)
    assert draft.settings == stored(host="mail", port=25, sender_name="x", sealed=None)
    assert draft.password == " Kp7!vRw2# "


def test_five_fields_alone_are_enough():
    assert parse({name: FORM[name] for name in list(FORM)[:5]}, None).settings == stored(sealed=None)


def test_unknown_fields_are_nothing():
    assert parse(form(revision="x", sealed="hpke1.evil", is_admin="1"), None) == parse(FORM, None)


def test_every_broken_field_is_told_at_once_in_the_tables_order():
    draft = parse(form(host="", port="0", sender_name="", account="a", password="x", security="x", sign_in="x"), STORED)
    assert draft.settings is None
    assert [(name, broken.sentence) for name, broken in draft.broken.items()] == [
        ("host", "Please enter an SMTP host within 100 characters."),
        ("port", "Please enter an SMTP port between 1 and 49151."),
        ("sender_name", "Please enter a sender name."),
        ("account", "Please enter an SMTP account address in email format."),
        ("password", "The SMTP account password does not meet the rules."),
        ("security", "Please choose one of the values listed."),
        ("sign_in", "Please choose one of the values listed."),
    ]


def test_password_by_length_and_by_rule_has_its_own_sentence():
    assert parse(form(password="Kp7!"), STORED).broken == {
        "password": Invalid(LENGTH, ("It must have 10 to 20 characters.",))
    }
    assert parse(form(password="Kp7!vvRw2#"), STORED).broken == {
        "password": Invalid("SMTP account password does not meet the rules.", ("Two equal characters are in a row.",))
    }


def test_empty_form_breaks_the_five_fields_and_no_choice():
    assert list(parse({}, None).broken) == ["host", "port", "sender_name", "account", "password"]


@pytest.mark.parametrize("name", ["host", "port", "sender_name", "account", "password"])
def test_missing_field_is_an_empty_one(name):
    lacking = {key: value for key, value in FORM.items() if key != name}
    assert parse(lacking, None) == parse(form(**{name: ""}), None)
    assert list(parse(lacking, None).broken) == [name]


@pytest.mark.parametrize("name", list(FORM))
@pytest.mark.parametrize("control", ["\r\n", "\n", "\0", "\x7f", "\x85", "\x1f"])
def test_control_character_breaks_its_own_field_and_no_other(name, control):
    typed = form(account="a.b@xxx.yyy", from_address="c.d@xxx.yyy", sign_in="provider")
    assert list(parse({**typed, name: typed[name] + control}, None).broken) in ([name], ["account", name])


@pytest.mark.parametrize("control", ["\r\n", "\n", "\0", "\x7f", "\x85", "\x1f", " \n "])
def test_from_address_of_control_characters_alone_is_not_an_empty_one(control):
    broken = parse(form(sign_in="provider", from_address=control), None).broken
    assert {name: found.sentence for name, found in broken.items()} == {
        "from_address": "Please enter a from address in email format."
    }


def test_broken_form_hands_no_password_over():
    assert parse(form(host=""), STORED).password is None


def test_draft_does_not_show_the_password():
    assert PASSWORD not in repr(parse(FORM, None)) + str(parse(FORM, None))


# The password left blank.

EDITS = {
    "host": ["mail.example.com", " mail.example.com ", "Mail.example.com", "mail.example.com.", "192.0.2.1"],
    "port": ["587", "00587", " 587 ", "465", "25"],
    "sender_name": ["Storage alarms", "x", "\ud55c"],
    "account": ["alarm@mail.example.com", " alarm@mail.example.com", "Alarm@mail.example.com", "b@mail.example.com"],
    "security": ["", "auto", "starttls", "tls"],
    "from_address": ["", "x@y.z"],
}
SAME_SERVER = {
    "host": ["mail.example.com", " mail.example.com "],
    "port": ["587", "00587", " 587 "],
    "account": ["alarm@mail.example.com", " alarm@mail.example.com"],
    "security": ["", "auto"],
}


@given(st.fixed_dictionaries({name: st.sampled_from(texts) for name, texts in EDITS.items()}))
@settings(max_examples=400, deadline=None)
def test_blank_password_is_kept_only_for_the_very_same_server(edits):
    draft = parse(form(password="", **edits), STORED)
    if all(edits[name] in texts for name, texts in SAME_SERVER.items()):
        assert draft.settings == stored(sender_name=edits["sender_name"])
        assert draft.password is None
    else:
        assert draft.broken == {"password": AGAIN}


@pytest.mark.parametrize(("name", "text"), [("host", "b.c"), ("port", "25"), ("account", "b@c.d"), ("security", "tls")])
def test_one_change_of_the_server_asks_for_the_password_again(name, text):
    assert parse(form(password="", **{name: text}), STORED).broken == {"password": AGAIN}


@pytest.mark.parametrize(("name", "text"), [("host", "b.c"), ("port", "25"), ("account", "b@c.d"), ("security", "tls")])
def test_password_typed_again_is_good_for_a_new_server(name, text):
    draft = parse(form(**{name: text}), STORED)
    assert draft.password == PASSWORD
    assert draft.settings is not None
    assert draft.settings.sealed is None


def test_typed_password_takes_the_stored_ones_place():
    draft = parse(form(password="Zt9#wRv2!pK7"), STORED)
    assert (draft.settings, draft.password) == (stored(sealed=None), "Zt9#wRv2!pK7")


def test_blank_password_with_nothing_stored_is_an_empty_one():
    assert parse(form(password=""), None).broken == {"password": NOTHING_STORED}
    assert parse(form(password=""), stored(sign_in="none", sealed=None)).broken == {"password": NOTHING_STORED}


def test_password_of_blanks_is_not_a_blank_password():
    found = parse(form(password="   "), STORED).broken
    assert found == {"password": Invalid(LENGTH, ("It must have 10 to 20 characters.",))}


def test_broken_port_keeps_no_password():
    assert list(parse(form(password="", port="0"), STORED).broken) == ["port", "password"]


# What the maker locked.


@pytest.mark.parametrize(("name", "other"), [("security", "tls"), ("sign_in", "provider"), ("sign_in", "none")])
def test_locked_choice_is_refused(name, other):
    assert parse(form(**{name: other}), None, frozenset({name})).broken == {name: LOCKED}


@pytest.mark.parametrize("name", ["security", "sign_in"])
@pytest.mark.parametrize("text", ["", "default"])
def test_locked_choice_at_its_default_is_taken(name, text):
    text = text and {"security": "auto", "sign_in": "manual"}[name]
    assert parse(form(**{name: text}), None, frozenset({name})).settings == stored(sealed=None)


def test_locked_sign_in_holds_everybody_to_the_manuals_rules():
    draft = parse(form(sign_in="none", account="a.b@c.d", password="x"), None, frozenset({"sign_in"}))
    assert list(draft.broken) == ["account", "password", "sign_in"]


def test_lock_on_security_asks_for_the_password_of_settings_from_before():
    draft = parse(form(password="", security=""), stored(security="tls"), frozenset({"security"}))
    assert draft.broken == {"password": AGAIN}


def test_unlocked_choice_is_free_beside_a_locked_one():
    assert parse(form(security="tls"), None, frozenset({"sign_in"})).settings == stored(security="tls", sealed=None)


# Credentials of a provider, and a relay without login.


@pytest.mark.parametrize(
    ("account", "from_address", "mail_from", "recipient"),
    [
        ("a.b-c@xxx.yyy", "", "a.b-c@xxx.yyy", "a.b-c@xxx.yyy"),
        ("apikey", "alarm@xxx.yyy", "alarm@xxx.yyy", "alarm@xxx.yyy"),
        ("a.b@xxx.yyy", " c.d@xxx.yyy ", "c.d@xxx.yyy", "a.b@xxx.yyy"),
    ],
)
def test_provider_login_is_the_account_and_mail_comes_from_an_address(account, from_address, mail_from, recipient):
    draft = parse(form(sign_in="provider", account=account, from_address=from_address, password="app pw"), None)
    assert draft.settings is not None, draft.broken
    assert (draft.settings.account, draft.settings.mail_from) == (account, mail_from)
    assert (draft.settings.default_recipient, draft.password) == (recipient, "app pw")


@pytest.mark.parametrize("from_address", ["", " "])
def test_provider_login_that_is_no_address_asks_for_the_from_address(from_address):
    draft = parse(form(sign_in="provider", account="apikey", from_address=from_address), None)
    assert draft.broken == {"from_address": NO_FROM}


@pytest.mark.parametrize("sign_in", ["provider", "none"])
def test_bad_from_address_has_its_sentence(sign_in):
    broken = parse(form(sign_in=sign_in, from_address="a@"), None).broken
    assert broken == {"from_address": Invalid("Please enter a from address in email format.")}


def test_broken_account_and_empty_from_address_are_told_once():
    assert list(parse(form(sign_in="provider", account="", from_address=""), None).broken) == ["account"]
    assert list(parse(form(sign_in="none", account="", from_address="x"), None).broken) == ["account", "from_address"]


def test_manual_sign_in_sends_from_the_account_whatever_stands_in_from_address():
    for typed in ("x@y.z", "nonsense", "\n"):
        assert parse(form(from_address=typed), None).settings == stored(sealed=None)


def test_provider_password_is_kept_when_it_is_left_blank():
    now = stored(sign_in="provider", from_address="x@y.z")
    assert parse(form(sign_in="provider", from_address="x@y.z", password=""), now).settings == now


@pytest.mark.parametrize("password", ["", PASSWORD, "x", "\n"])
@pytest.mark.parametrize("current", [None, STORED])
def test_relay_without_login_forgets_every_password(current, password):
    draft = parse(form(sign_in="none", account="a.b@c.d", password=password), current)
    assert (draft.password, draft.broken) == (None, {})
    assert draft.settings == stored(sign_in="none", account="a.b@c.d", sealed=None)


# TLS.


@pytest.mark.parametrize("sign_in", ["manual", "provider"])
@pytest.mark.parametrize(
    "host", ["mail.example.com", "192.0.2.1", "10.0.0.1", "[::2]", "localhost.example.com", "128.0.0.1"]
)
def test_login_without_tls_is_refused_in_words(host, sign_in):
    assert parse(form(host=host, security="none", sign_in=sign_in), None).broken == {"security": CLEAR_TEXT}


@pytest.mark.parametrize("host", ["localhost", "LocalHost", "127.0.0.1", "127.9.8.7", "::1", "[::1]", "[127.0.0.1]"])
def test_login_without_tls_is_taken_on_loopback_alone(host):
    found = parse(form(host=host, security="none"), None).settings
    assert found is not None
    assert found.connection == "none"


@pytest.mark.parametrize(
    "host",
    [
        *("127.1", "2130706433", "0x7f000001", "0177.0.0.1", "localhost.", "local host", "127.0.0.1.", "127.0.0.1:25"),
        *("0.0.0.0", "::", "127.0.0.1 x", "127.0.0.\uff11", "", "[]", "1::1", "loca\u017fhost", "\u2488localhost"),
    ],
)
def test_whatever_may_mean_something_else_is_not_loopback(host):
    assert not fields.is_loopback(host)


def test_relay_without_login_may_go_without_tls():
    assert parse(form(security="none", sign_in="none"), None).broken == {}


def test_broken_host_with_security_none_is_refused_as_well():
    assert list(parse(form(host="\n", security="none"), None).broken) == ["host", "security"]


@pytest.mark.parametrize(
    ("security", "port", "connection"),
    [
        *(("auto", 465, "tls"), ("auto", 587, "starttls"), ("auto", 25, "starttls"), ("auto", 4650, "starttls")),
        *(("tls", 587, "tls"), ("starttls", 465, "starttls"), ("none", 465, "none"), ("none", 25, "none")),
    ],
)
def test_connection_follows_from_security_and_port(security, port, connection):
    assert stored(security=security, port=port).connection == connection


# Stored values, looked at again.

STORED_VALUES = dataclasses.asdict(STORED)


def test_good_stored_values_are_settings_again():
    assert validate_stored(STORED_VALUES) == STORED


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"host": ""}, "host breaks its rule"),
        ({"host": " mail.example.com"}, "host breaks its rule"),
        ({"host": "a\nb"}, "host breaks its rule"),
        ({"host": 25}, "host breaks its rule"),
        ({"port": 0}, "port breaks its rule"),
        ({"port": 49152}, "port breaks its rule"),
        ({"port": "587"}, "port breaks its rule"),
        ({"port": True}, "port breaks its rule"),
        ({"port": -1}, "port breaks its rule"),
        ({"sender_name": "x" * 101}, "sender_name breaks its rule"),
        ({"account": "a.b@c.d"}, "account breaks its rule"),
        ({"account": "a@b.c\r\nBcc: x@y.z"}, "account breaks its rule"),
        ({"security": "ssl"}, "security breaks its rule"),
        ({"security": ""}, "security breaks its rule"),
        ({"security": False}, "security breaks its rule"),
        ({"sign_in": "x"}, "sign_in is not one of the choices"),
        ({"sign_in": ""}, "sign_in is not one of the choices"),
        ({"sign_in": True}, "sign_in is not one of the choices"),
        ({"from_address": "x@y"}, "from_address breaks its rule"),
        ({"from_address": 0}, "from_address breaks its rule"),
        ({"from_address": "x@y.z"}, "from_address breaks its rule"),
        ({"sign_in": "provider", "account": "apikey"}, "from_address breaks its rule"),
        ({"sealed": 5}, "the sealed password is no text"),
        ({"sealed": True}, "the sealed password is no text"),
        ({"sealed": None}, "the password is missing"),
        ({"sign_in": "none"}, "a password is kept without a login"),
        ({"security": "none"}, "the connection security is “No encryption” with a login"),
    ],
)
def test_stored_value_that_breaks_a_rule_is_named(changes, reason):
    assert str(validate_stored({**STORED_VALUES, **changes})) == reason


@pytest.mark.parametrize("name", ["host", "port", "sender_name", "account", "security"])
def test_stored_value_that_is_missing_breaks_its_rule(name):
    lacking = {key: value for key, value in STORED_VALUES.items() if key != name}
    assert str(validate_stored(lacking)) == f"{name} breaks its rule"


def test_file_without_sign_in_is_no_settings():
    without = {key: value for key, value in STORED_VALUES.items() if key != "sign_in"}
    assert str(validate_stored(without)) == "sign_in is not one of the choices"


ODD = st.one_of(
    st.sampled_from(["", " ", "a@b.c", "a.b@c.d", "apikey", "127.0.0.1", "localhost", "x\n", "25"]), st.text(max_size=5)
)


@given(
    st.fixed_dictionaries(
        {
            "host": ODD | st.just("mail.example.com"),
            "port": st.sampled_from([25, 465, 587, 49151, 0, 49152]),
            "sender_name": ODD | st.just("x"),
            "account": ODD,
            "security": st.sampled_from([*fields.SECURITIES, "", "x"]),
            "sign_in": st.sampled_from(fields.SIGN_INS),
            "from_address": ODD,
        }
    )
)
@settings(max_examples=800, deadline=None)
def test_hook_takes_exactly_what_the_page_could_have_stored(values):
    values["sealed"] = None if values["sign_in"] == "none" else "hpke1.sealed"
    standing = SmtpSettings(**values)
    typed = {name: str(values[name]) for name in FORM if name != "password"}
    for name, rule in (("host", rules.host), ("sender_name", rules.sender_name)):
        if rule(typed[name]) != typed[name] and rules.former_text(typed[name]):  # an earlier page could
            standing = dataclasses.replace(standing, **{name: FORM[name]})
            typed[name] = FORM[name]
    taken = parse(typed, standing).settings == standing
    assert isinstance(validate_stored(values), SmtpSettings) is taken


def test_settings_do_not_carry_a_password():
    assert {each.name for each in dataclasses.fields(SmtpSettings)} == {*BY_NAME, "sealed"} - {"password"}
