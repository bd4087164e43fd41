"""Which certificate of the mail server is trusted: the rules, what a password is bound to, and that no one else notices."""

from __future__ import annotations

import dataclasses
import ssl
import subprocess

import pytest

from device_ui.errors import CannotOpen, DeviceUIError, Message
from device_ui.mail.oauth.signing_key import KEY_BOUND_TO, SigningKeys
from device_ui.settings import export, seal
from device_ui.settings.fields import SmtpSettings, needed_fields, parse, validate_stored
from device_ui.settings.sealed_record import bound_text
from device_ui.settings.store import decode, encode
from device_ui.settings.trust_rules import CA_MAXIMUM, to_pem
from device_ui.storage import toml_file
from tests.servers.authority import Authority, self_signed

KEY = "0f" * 32
AUTHORITY = Authority("Our own").pem.decode().strip()
PASSWORD = "Kp7!vRw2#Zt9"
FORM = {
    "host": "mail.lan",
    "port": "587",
    "sender_name": "Alarms",
    "account": "alarm@example.com",
    "password": PASSWORD,
}
PIN, CA = {"trust": "pin", "trust_key": KEY}, {"trust": "ca", "trust_ca": AUTHORITY}
TRUSTS = pytest.mark.parametrize("trust", [{}, PIN, CA], ids=["system", "pin", "ca"])


def parsed(**changes: str) -> SmtpSettings:
    found = parse({**FORM, **changes}, None)
    assert found.broken == {}
    assert found.settings is not None
    return found.settings


def stored(**changes: str) -> SmtpSettings:
    return dataclasses.replace(parsed(**changes), sealed="hpke1.sealed")


def broken(**changes: str) -> dict[str, tuple]:
    return {name: each.hints for name, each in parse({**FORM, **changes}, None).broken.items()}


# The rules.


def test_authorities_of_the_system_are_the_default():
    settings = parsed()
    assert (settings.trust, settings.trust_key, settings.trust_ca) == ("system", "", "")


COLONS = ":".join([KEY[:2].upper()] * 32)


@pytest.mark.parametrize("text", [KEY, KEY.upper(), COLONS, f" {COLONS}\t"])
def test_key_is_64_digits_however_they_are_typed(text):
    assert parsed(trust="pin", trust_key=text).trust_key == KEY


@pytest.mark.parametrize(
    "text", ["", KEY[:-1], KEY + "0", KEY[:-1] + "g", KEY[:-1] + "٠", f"{KEY[:32]} {KEY[32:]}", f":{KEY}", f"{KEY}\n0"]
)
def test_anything_else_is_no_key(text):
    assert list(broken(trust="pin", trust_key=text)) == ["trust_key"]


@pytest.mark.parametrize(
    "text",
    [
        AUTHORITY,
        AUTHORITY.replace("\n", "\r\n"),
        f"subject=CN = Our own\n{AUTHORITY}\n\n# end",
        AUTHORITY.replace("\n", "\n "),
    ],
)
def test_authority_is_its_certificate_and_nothing_around_it(text):
    assert parsed(trust="ca", trust_ca=text).trust_ca == AUTHORITY


def test_several_authorities_are_kept_in_their_order():
    both = f"{AUTHORITY}\n{Authority('Second').pem.decode().strip()}"
    assert parsed(trust="ca", trust_ca=both).trust_ca == both


SHORT = AUTHORITY.replace(AUTHORITY.split("\n")[2] + "\n", "")
NO_AUTHORITIES = {
    "nothing": "",
    "words": "our own authority",
    "half of one": AUTHORITY[:200],
    "one with a line left out": SHORT,
    "a good one and a broken one": f"{AUTHORITY}\n{SHORT}",
    "no base64": AUTHORITY.replace("M", "="),
    "a request": AUTHORITY.replace("CERTIFICATE", "CERTIFICATE REQUEST"),
    "too long": f"{AUTHORITY}\n" * (CA_MAXIMUM // len(AUTHORITY) + 1),
    "far too long": "x" * (2 * CA_MAXIMUM + 1),
    "no structure": to_pem(b"\x30\x03abc"),
    "an endless length": to_pem(b"\x30\x84\xff\xff\xff\xff"),
}


@pytest.mark.parametrize("text", NO_AUTHORITIES.values(), ids=NO_AUTHORITIES)
def test_anything_else_is_no_authority(text):
    assert list(broken(trust="ca", trust_ca=text)) == ["trust_ca"]


def test_file_with_a_private_key_is_refused_with_a_word_of_warning():
    made = self_signed(["mail.lan"])
    hints = broken(trust="ca", trust_ca=(made.cert_pem + made.key_pem).decode())["trust_ca"]
    assert "private key" in str(hints[0])


def test_broken_certificate_is_counted():
    hints = broken(trust="ca", trust_ca=f"{AUTHORITY}\n{SHORT}")["trust_ca"]
    assert str(hints[0]).startswith("Certificate 2 of this text is not whole")


@pytest.mark.parametrize("trust", ["Pin", "none", "ignore", "system\n"])
def test_there_is_no_other_choice(trust):
    assert "trust" in broken(trust=trust)


def test_what_the_choice_does_not_need_is_empty():
    settings = parsed(trust="pin", trust_key=KEY, trust_ca=AUTHORITY)
    assert (settings.trust_key, settings.trust_ca) == (KEY, "")
    assert parsed(trust_key=KEY, trust_ca="nonsense").trust_key == ""


@pytest.mark.parametrize("trust", [PIN, CA], ids=["pin", "ca"])
def test_nothing_is_trusted_without_tls(trust):
    relay = {"security": "none", "sign_in": "none"}
    assert [str(each) for each in broken(**relay, **trust)["security"]] == [
        "Without TLS the server shows no certificate, so none can be trusted."
    ]
    assert parsed(**relay).trust == "system"
    values = vars(dataclasses.replace(parsed(**trust), security="none", sign_in="none", sealed=None))
    assert isinstance(validate_stored(values), Message)


def test_fields_come_with_their_choice():
    names = {"trust", "trust_key", "trust_ca"}
    asked = {
        choice: names & {each.name for each in needed_fields({"trust": choice})} for choice in ("system", "pin", "ca")
    }
    assert asked == {"system": {"trust"}, "pin": {"trust", "trust_key"}, "ca": {"trust", "trust_ca"}}


def test_maker_can_lock_it():
    assert "trust" in parse({**FORM, **PIN}, None, frozenset({"trust"})).broken
    assert parse({**FORM, "trust_key": KEY}, None, frozenset({"trust"})).settings == parsed()


# The file.


@TRUSTS
def test_file_is_read_back(trust):
    settings = stored(**trust)
    assert decode(toml_file.decode(encode(settings))) == settings


def test_file_of_the_system_is_as_it_was():
    assert b"trust" not in encode(stored())
    assert decode({**toml_file.decode(encode(stored())), "trust": "system"}) == stored()


@pytest.mark.parametrize(
    "changes",
    [
        {"trust": "system"},
        {"trust_key": KEY.upper()},
        {"trust_key": ""},
        {"trust": "ca"},
        {"trust_ca": AUTHORITY},
        {"trust": "pin\n"},
    ],
)
def test_stored_trust_that_breaks_its_rule_is_damage(changes):
    values = {**{name: value for name, value in vars(stored(**PIN)).items() if value is not None}, **changes}
    assert isinstance(validate_stored(values), Message)


# What a password is for.


def test_binding_of_the_system_is_that_of_before_to_the_byte():
    assert parsed().bound_to == ("mail.lan", "587", "alarm@example.com", "auto")


def test_every_trust_has_its_own_binding():
    other_key, other_ca = "1f" * 32, Authority("Our own").pem.decode()
    forms = [{}, PIN, CA, {**PIN, "trust_key": other_key}, {**CA, "trust_ca": other_ca}]
    assert len({parsed(**each).bound_to for each in forms}) == len(forms)


CHANGES = [
    ({}, PIN),
    ({}, CA),
    (PIN, {}),
    (PIN, CA),
    (PIN, {**PIN, "trust_key": "1f" * 32}),
    (CA, {}),
    (CA, PIN),
    (CA, {**CA, "trust_ca": Authority("Our own").pem.decode()}),
]


@pytest.mark.parametrize(("before", "after"), CHANGES)
def test_changed_trust_asks_for_the_password_again(before, after):
    found = parse({**FORM, **after, "password": ""}, stored(**before))
    assert list(found.broken) == ["password"]
    assert "trusted certificate changed" in str(found.broken["password"].hints[0])


@TRUSTS
def test_same_trust_keeps_the_password(trust):
    assert parse({**FORM, **trust, "password": ""}, stored(**trust)).settings == stored(**trust)


@pytest.mark.parametrize(("before", "after"), CHANGES)
def test_password_sealed_for_one_trust_opens_for_no_other(before, after):
    private = seal.new_private_key()
    sealed = seal.seal(PASSWORD, seal.public_key(private), parsed(**before).bound_to)
    assert seal.unseal(sealed, private, parsed(**before).bound_to) == PASSWORD
    with pytest.raises(CannotOpen):
        seal.unseal(sealed, private, parsed(**after).bound_to)


class Record:
    """A record of a key for some settings."""

    path = None

    def __init__(self) -> None:
        self.written: dict[str, str] = {}

    def read(self) -> dict[str, str]:
        return self.written

    def write(self, record, secrets) -> None:
        self.written = {**record, **secrets}

    def open(self, record, name: str = "sealed") -> str:
        return record.get(name, "")


OAUTH = {
    "sign_in": "oauth",
    "oauth_tenant": "example.com",
    "oauth_client": "11111111-2222-4333-8444-555555555555",
    "account": "alarm@example.com",
}


def test_key_of_the_sign_in_is_for_one_trust():
    record = Record()
    keys = SigningKeys(record, lambda: 0.0)  # type: ignore[arg-type]
    before = parsed(**OAUTH)
    keys.make(before)
    assert record.written["bound"] == bound_before(before)
    assert [len(keys.certificates(parsed(**OAUTH, **each))) for each in ({}, PIN, CA)] == [1, 0, 0]


def bound_before(settings: SmtpSettings) -> str:
    """As it was before there was a trust."""
    return bound_text([str(getattr(settings, name)) for name in KEY_BOUND_TO])


# For a mailer of the maker's own.


@TRUSTS
def test_export_has_the_trust_where_there_is_one(trust):
    names = {name: value for name, value in export.values(stored(**trust)).items() if name.startswith("trust")}
    assert names == ({"trust_key": "", "trust_ca": "", **trust} if trust else {})


def test_authority_survives_the_lines_of_a_shell():
    lines = export.to_env(export.values(stored(**CA)))
    shell = ["sh", "-c", 'eval "$1"; printf %s "$DEVICE_UI_SMTP_TRUST_CA"', "sh", lines]
    assert subprocess.run(shell, capture_output=True, check=True, timeout=60, text=True).stdout == AUTHORITY


@pytest.mark.parametrize("trust", [PIN, CA], ids=["pin", "ca"])
def test_msmtp_is_not_left_to_verify_something_else(trust):
    with pytest.raises(DeviceUIError, match="msmtp can trust neither"):
        export.to_msmtprc(export.values(stored(**trust)))


def test_pem_is_that_of_the_standard_library():
    der = ssl.PEM_cert_to_DER_cert(AUTHORITY)
    assert to_pem(der) == ssl.DER_cert_to_PEM_cert(der).strip()
