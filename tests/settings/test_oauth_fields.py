"""The fields of OAuth 2.0: what each grant needs, what a secret belongs to, and that all other settings stay as they were."""

from __future__ import annotations

import dataclasses

import pytest

from device_ui.errors import CannotOpen, Message
from device_ui.settings import export, keys, seal
from device_ui.settings.fields import SmtpSettings, parse, validate_stored
from device_ui.settings.keys import KeyPair
from device_ui.settings.rules import Invalid
from device_ui.settings.store import decode, encode
from device_ui.storage import toml_file

TENANT = "0a1b2c3d-0000-4000-8000-0123456789ab"
FORM = {
    "host": "smtp.office365.com",
    "port": "587",
    "sender_name": "Storage alarms",
    "account": "nas.alarm@example.com",
    "sign_in": "oauth",
    "oauth_tenant": TENANT,
    "oauth_client": "11111111-2222-4333-8444-555555555555",
}
SECRET = {"oauth_grant": "secret", "oauth_until": "2028-11-01", "password": "abc~8Q.secret-of-microsoft_40characters"}
CUSTOM = {"oauth_provider": "custom", "oauth_issuer": "https://login.example.com/realm", "oauth_tenant": ""}


def parsed(current=None, **changes) -> SmtpSettings:
    found = parse({**FORM, **changes}, current)
    assert found.broken == {}
    assert found.settings is not None
    return found.settings


def broken(**changes) -> set[str]:
    return set(parse({**FORM, **changes}, None).broken)


def test_certificate_of_microsoft_is_the_default_and_needs_no_password():
    settings = parsed()
    assert (settings.oauth_provider, settings.oauth_grant, settings.sealed) == ("microsoft", "certificate", None)
    assert parse({**FORM, "password": "typed all the same"}, None).password is None


def test_client_secret_is_the_password_and_has_an_end():
    found = parse({**FORM, **SECRET}, None)
    assert (found.broken, found.password, found.settings.oauth_until) == ({}, SECRET["password"], "2028-11-01")
    assert broken(**{**SECRET, "password": ""}) == {"password"}
    assert broken(**{**SECRET, "oauth_until": ""}) == {"oauth_until"}


def test_custom_provider_needs_its_issuer_and_no_tenant():
    assert parsed(**CUSTOM).oauth_issuer == "https://login.example.com/realm"
    assert broken(**{**CUSTOM, "oauth_issuer": ""}) == {"oauth_issuer"}
    assert parsed(**{**CUSTOM, "oauth_tenant": "left.over"}).oauth_tenant == ""
    assert broken(oauth_tenant="") == {"oauth_tenant"}


@pytest.mark.parametrize("sign_in", ["manual", "provider", "none"])
def test_other_sign_ins_have_none_of_it(sign_in):
    form = {**FORM, **SECRET, "sign_in": sign_in, "account": "alarm@example.com", "password": "Kp7!vRw2#Zt9"}
    settings = parse(form, None).settings
    assert {name: value for name, value in vars(settings).items() if name.startswith("oauth_") and value} == {}
    assert settings.bound_to == ("smtp.office365.com", "587", "alarm@example.com", "auto")
    assert b"oauth" not in encode(settings).partition(b"\n")[2]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("oauth_tenant", "example"),
        ("oauth_tenant", "../common"),
        ("oauth_tenant", "common"),
        ("oauth_tenant", "example.com/evil"),
        ("oauth_tenant", "example.com\r\n"),
        ("oauth_tenant", "a." * 60 + "b"),
        ("oauth_client", ""),
        ("oauth_client", "two words"),
        ("oauth_client", "x" * 257),
        ("oauth_client", "x\r\ny"),
        ("oauth_client", "é"),
        ("oauth_scope", 'a"b'),
        ("oauth_scope", "a  b"),
        ("oauth_scope", "a\nb"),
        ("oauth_scope", "x" * 257),
        ("oauth_provider", "google"),
        ("oauth_grant", "password"),
    ],
)
def test_bad_value_is_reported_at_its_field(name, text):
    assert name in broken(**{name: text})


@pytest.mark.parametrize(
    "issuer",
    [
        "http://login.example.com",
        "https://",
        "https://user@login.example.com",
        "https://login.example.com?x=1",
        "https://login.example.com#x",
        "https://login example.com",
        "login.example.com",
        "https://login.example.com/\r\nHost: evil",
        "https://login.example.com/" + "x" * 256,
        "file:///etc/passwd",
    ],
)
def test_issuer_is_an_https_address_and_nothing_more(issuer):
    assert broken(**{**CUSTOM, "oauth_issuer": issuer}) == {"oauth_issuer"}


@pytest.mark.parametrize("until", ["2028-13-01", "2028-02-30", "01.11.2028", "2028-11-1", "tomorrow", "٢٠٢٨-11-01"])
def test_end_of_a_secret_is_a_date(until):
    assert broken(**{**SECRET, "oauth_until": until}) == {"oauth_until"}


@pytest.mark.parametrize("tenant", ["common", "organizations", "consumers"])
def test_shared_tenant_is_for_a_person_alone(tenant):
    assert parsed(oauth_tenant=tenant, oauth_grant="device").oauth_tenant == tenant
    assert broken(oauth_tenant=tenant) == {"oauth_tenant"}


# Kept and bound


def stored_secret() -> SmtpSettings:
    return dataclasses.replace(parsed(**SECRET), sealed="hpke1.sealed")


def test_empty_secret_keeps_the_stored_one():
    current = stored_secret()
    assert parsed(current, **{**SECRET, "password": ""}).sealed == current.sealed
    assert parsed(current, **{**SECRET, "password": "", "sender_name": "Other"}).sealed == current.sealed
    assert parsed(current, **{**SECRET, "password": "", "oauth_until": "2029-01-01"}).sealed == current.sealed


@pytest.mark.parametrize(
    "change",
    [
        {"host": "evil.example.com"},
        {"port": "465"},
        {"account": "other@example.com"},
        {"oauth_tenant": "evil.example.com"},
        {"oauth_client": "evil"},
        {"oauth_provider": "custom", "oauth_issuer": "https://evil.example.com"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_secret_is_typed_again_where_it_would_go_elsewhere(change):
    found = parse({**FORM, **SECRET, "password": "", **change}, stored_secret())
    assert set(found.broken) == {"password"}
    assert "OAuth 2.0 provider changed" in str(found.broken["password"].hints)


def test_password_of_another_sign_in_is_no_client_secret_and_the_other_way_round():
    password = SmtpSettings("smtp.office365.com", 587, "x", FORM["account"], sign_in="provider", sealed="hpke1.sealed")
    assert set(parse({**FORM, **SECRET, "password": ""}, password).broken) == {"password"}
    back = parse({**FORM, "sign_in": "provider", "password": ""}, stored_secret())
    assert set(back.broken) == {"password"}


def test_sealed_secret_opens_for_its_own_provider_alone():
    pair = KeyPair(seal.new_private_key())
    settings = parsed(**SECRET)
    sealed = seal.seal(SECRET["password"], pair.public, settings.bound_to)
    settings = dataclasses.replace(settings, sealed=sealed)
    assert keys.open_password(settings, pair) == SECRET["password"]
    for change in ({"oauth_client": "x"}, {"oauth_tenant": "x.y"}, {"oauth_grant": "device"}, {"sign_in": "provider"}):
        with pytest.raises(CannotOpen):
            keys.open_password(dataclasses.replace(settings, **change), pair)


def test_what_was_sealed_before_still_opens():
    # Sealed by an earlier version of this program, with this key, for these settings.
    private = bytes(range(32))
    pair = KeyPair(private)
    settings = SmtpSettings("mail.example.com", 587, "x", "alarm@mail.example.com")
    sealed = seal.seal("Kp7!vRw2#Zt9", pair.public, ("mail.example.com", "587", "alarm@mail.example.com", "auto"))
    assert keys.open_password(dataclasses.replace(settings, sealed=sealed), pair) == "Kp7!vRw2#Zt9"


def test_purpose_keeps_a_token_from_opening_as_a_password():
    pair = KeyPair(seal.new_private_key())
    settings = parsed(**SECRET)
    sealed = seal.seal("a-refresh-token-123", pair.public, settings.bound_to, "device-ui sign-in tokens 1")
    with pytest.raises(CannotOpen):
        keys.open_password(dataclasses.replace(settings, sealed=sealed), pair)


@pytest.mark.parametrize("size", [1, 8192, 2 * 8192 + 100])
def test_long_text_is_sealed_whole(size):
    pair = KeyPair(seal.new_private_key())
    sealed = seal.seal("x" * size, pair.public, ("a",), "p")
    assert seal.unseal(sealed, pair.private, ("a",), "p") == "x" * size


# On flash


@pytest.mark.parametrize(
    "form", [{}, SECRET, CUSTOM, {"oauth_grant": "device"}], ids=["certificate", "secret", "custom", "device"]
)
def test_settings_are_stored_and_read_alike(form):
    found = parse({**FORM, **form}, None)
    settings = dataclasses.replace(found.settings, sealed="hpke1.sealed" if found.password else None)
    assert decode(toml_file.decode(encode(settings))) == settings


@pytest.mark.parametrize(
    "change",
    [
        {"oauth_tenant": "no tenant"},
        {"oauth_tenant": ""},
        {"oauth_provider": ""},
        {"oauth_grant": "x"},
        {"oauth_issuer": "https://left.over"},
        {"sealed": "hpke1.of nothing"},
    ],
    ids=str,
)
def test_stored_settings_that_break_a_rule_are_damage(change):
    assert isinstance(validate_stored({**vars(parsed()), **change}), Message)


def test_maker_locks_the_grant():
    locked = frozenset({"oauth_grant", "oauth_provider"})
    assert isinstance(parse({**FORM, "oauth_grant": "device"}, None, locked).broken["oauth_grant"], Invalid)
    assert parse(FORM, None, locked).settings == parsed()
    plain = {**FORM, "sign_in": "none", "account": "a@b.cc"}
    assert parse(plain, None, locked).settings == parse(plain, None).settings


# For another mailer


def test_msmtp_gets_the_token_by_a_command():
    lines = export.to_msmtprc(export.values(parsed())).splitlines()
    assert "auth xoauth2" in lines
    assert 'passwordeval "device-ui token"' in lines
    assert 'user "nas.alarm@example.com"' in lines
    assert "password" not in [line.partition(" ")[0] for line in lines]


def test_msmtp_never_gets_the_client_secret():
    values = export.values(stored_secret(), SECRET["password"])
    assert SECRET["password"] not in export.to_msmtprc(values)
