"""Files that former versions wrote are read: to the byte as the first release's writer left them."""

from __future__ import annotations

import dataclasses

import pytest

from device_ui.settings import keys
from device_ui.settings.fields import SmtpSettings
from device_ui.settings.recipients import Recipient
from device_ui.settings.store import RecipientStore, Store
from device_ui.web.auth.administrator import Administrator, Record
from device_ui.web.auth.failure_log import FailureStore

FORMER = {
    "smtp.toml manual": (
        b'# device-ui: the SMTP tab. Change it on the page: a file whose checksum is off is set aside.\n'
        b'host = "mail.example.com"\n'
        b'port = 587\n'
        b'sender_name = "Storage alarms"\n'
        b'account = "alarm@mail.example.com"\n'
        b'security = "auto"\n'
        b'sign_in = "manual"\n'
        b'from_address = ""\n'
        b'sealed = "hpke1.0123456789abcdef.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"\n'
        b'sha256 = "a1b5c3e66f866ed9cecd113b0e75b4686aea1aa1864088bcb9284dc99e471aeb"\n'
    ),
    "smtp.toml provider": (
        b'# device-ui: the SMTP tab. Change it on the page: a file whose checksum is off is set aside.\n'
        b'host = "[::1]"\n'
        b'port = 465\n'
        b'sender_name = "\xec\xa0\x80\xec\x9e\xa5\xec\x86\x8c \\"1\\" \\\\ \xf0\x9f\x93\xa7"\n'
        b'account = "key 1\xe2\x82\xac"\n'
        b'security = "tls"\n'
        b'sign_in = "provider"\n'
        b'from_address = "a.b-c@example.org"\n'
        b'sealed = "hpke1.0123456789abcdef.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"\n'
        b'sha256 = "7baecd5266338ef13a70a3e81dccd9c24f4199a0255424f071063175431d8d0a"\n'
    ),
    "smtp.toml relay": (
        b'# device-ui: the SMTP tab. Change it on the page: a file whose checksum is off is set aside.\n'
        b'host = "relay"\n'
        b'port = 25\n'
        b'sender_name = "x"\n'
        b'account = "root@nas.example"\n'
        b'security = "none"\n'
        b'sign_in = "none"\n'
        b'from_address = ""\n'
        b'sha256 = "c4432604fa125ad6fa8c0ca5d04d4a7bdc77a9ed5e1a0c07b3dae2246d491a23"\n'
    ),
    "recipients.toml": (
        b'# device-ui: who gets the mail. Change it on the page: a file whose checksum is off is set aside.\n'
        b'recipient_01 = "info a@b.cc"\n'
        b'recipient_02 = "fault d@e.ff"\n'
        b'recipient_03 = "info ko g@h.ii"\n'
        b'sha256 = "3da84dd3ffd32178f86541ffbf20ae5171e7e1e0eb8e19feecc2b0dddc01cc43"\n'
    ),
    "recipients.toml none": (
        b'# device-ui: who gets the mail. Change it on the page: a file whose checksum is off is set aside.\n'
        b'sha256 = "42b465afcbff619dc1c394c2f9a753ff2e23c3b646bfc7d9101ccc15d698b416"\n'
    ),
    "administrator.toml code": (
        b'# device-ui: who may open the pages. Lost password: device-ui admin set-password\n'
        b'code = "2345-6789-ABCD-EFGH-JKMN"\n'
        b'sha256 = "85269bb4cecf6bb8aa7068f918263d79a8ec41b49d878a0a967254e0a0aac4cc"\n'
    ),
    "administrator.toml hash": (
        b'# device-ui: who may open the pages. Lost password: device-ui admin set-password\n'
        b'salt = "0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f"\n'
        b'hash = "a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0"\n'
        b'n = 8192\n'
        b'r = 8\n'
        b'p = 10\n'
        b'sha256 = "16828824f7a1c5c84f83b86c7d342a419c7d6a58bfe5deec60b9af23a63f5219"\n'
    ),
    "private.key": (
        b'# device-ui: the private key of the mail hook. Whoever has it can read the mail password.\n'
        b'x25519 = "0101010101010101010101010101010101010101010101010101010101010101"\n'
        b'sha256 = "984596d3958e9ecde20df84f113332606d64d0cd3f7cebac0c571cd4e8fddc91"\n'
    ),
    "private.key rotating": (
        b'# device-ui: the private key of the mail hook. Whoever has it can read the mail password.\n'
        b'x25519 = "0101010101010101010101010101010101010101010101010101010101010101"\n'
        b'public = "0202020202020202020202020202020202020202020202020202020202020202"\n'
        b'x25519_before = "0303030303030303030303030303030303030303030303030303030303030303"\n'
        b'public_before = "0404040404040404040404040404040404040404040404040404040404040404"\n'
        b'sha256 = "7a3698d870ef73e20fcda14badad34505179104652c76b086f8c0c8e3b1eddad"\n'
    ),
    "mailhook.pub": (
        b'# device-ui: the public key that mail passwords are sealed to.\n'
        b'x25519 = "0505050505050505050505050505050505050505050505050505050505050505"\n'
        b'x25519_before = "0123456789abcdef"\n'
        b'sha256 = "900513467df3154fb377fc4ca27e8e7d4b13f1ec8fd1404ebf580fcb44ca8e78"\n'
    ),
    "throttle.toml": (
        b'# device-ui: failed logins, and where logins came from, so that a restart forgets neither. Safe to delete.\n'
        b'written = 1234\n'
        b'failures = 7\n'
        b'visitors = "192.0.2.1=6@1200 2001:db8::/64=9@1100 browser-x=7@1"\n'
        b'known = "198.51.100.7 fe80::"\n'
        b'sha256 = "34a451ba4d10826ebd97058edd9c672b53a2e844ccc110b57ecad7eebb7f812f"\n'
    ),
}  # fmt: skip
SEALED = f"hpke1.0123456789abcdef.{'A' * 64}"


@pytest.fixture
def written(tmp_path):
    """Write one of `FORMER`; its path."""

    def write(name: str):
        path = tmp_path / name.partition(" ")[0]
        path.write_bytes(FORMER[name])
        return path

    return write


def read_settings(path):
    return Store(path).read()[0]


def read_recipients(path):
    return RecipientStore(path).read()[0]


def read_keys(path):
    return [(pair.private.hex(), pair.known.hex()) for pair in keys.load_pairs(path)]


def read_throttle(path):
    found = FailureStore(path).load(2000.0)
    return found.remembered(2000.0), found.total, list(found.known)


MANUAL = SmtpSettings("mail.example.com", 587, "Storage alarms", "alarm@mail.example.com", sealed=SEALED)
PROVIDER = SmtpSettings(
    "[::1]", 465, '\uc800\uc7a5\uc18c "1" \\ \U0001f4e7', "key 1\u20ac", "tls", "provider", "a.b-c@example.org", SEALED
)
READ = {
    "smtp.toml manual": (read_settings, MANUAL),
    "smtp.toml provider": (read_settings, PROVIDER),
    "smtp.toml relay": (read_settings, SmtpSettings("relay", 25, "x", "root@nas.example", "none", "none")),
    "recipients.toml": (
        read_recipients,
        (Recipient("a@b.cc"), Recipient("d@e.ff", "fault"), Recipient("g@h.ii", "info", "ko")),
    ),
    "recipients.toml none": (read_recipients, ()),
    "administrator.toml code": (lambda path: Administrator(path).load(), Record("2345-6789-ABCD-EFGH-JKMN")),
    "administrator.toml hash": (lambda path: Administrator(path).load(), Record("", "0f" * 16, "a0" * 32)),
    "private.key": (read_keys, [("01" * 32, "")]),
    "private.key rotating": (read_keys, [("01" * 32, "02" * 32), ("03" * 32, "04" * 32)]),
    "mailhook.pub": (lambda path: keys.load_public(path).hex(), "05" * 32),
    "throttle.toml": (
        read_throttle,
        ({"192.0.2.1": 6, "2001:db8::/64": 9, "browser-x": 7}, 7.0, ["198.51.100.7", "fe80::"]),
    ),
}


@pytest.mark.parametrize("name", FORMER)
def test_it_is_read(written, name):
    read, expected = READ[name]
    assert read(written(name)) == expected


def test_every_one_of_ours_is_here(folders):
    ours = (folders.settings, folders.recipients, folders.administrator, folders.key_file, folders.public_key)
    names = {each.partition(" ")[0] for each in FORMER}
    assert names == {*(path.name for path in ours), "throttle.toml"}
    # What came after the former files has a default, so that they are still read.
    names = [each.name for each in dataclasses.fields(SmtpSettings)]
    later = dataclasses.fields(SmtpSettings)[names.index("sealed") + 1 :]
    assert later and [each.name for each in later if each.default is dataclasses.MISSING] == []
