"""The hook's key pair as files: made once, kept, and never shown before it is safe."""

from __future__ import annotations

import dataclasses
import os
import stat

import pytest

from device_ui.errors import CannotOpen, Damaged, NoKey, NotStored
from device_ui.settings import keys, seal
from device_ui.settings.fields import SmtpSettings, parse
from device_ui.storage import files, toml_file


@pytest.fixture
def private(tmp_path):
    """Where the private key goes."""
    return tmp_path / "private.key"


@pytest.fixture
def public(tmp_path):
    """Where the public key goes."""
    return tmp_path / "mailhook.pub"


def mode(path) -> int:
    """A file's permissions."""
    return stat.S_IMODE(path.stat().st_mode)


def test_first_start_makes_a_pair_that_fits(private, public):
    pair = keys.load_pair(private, public)
    assert keys.load_private(private) == pair
    assert keys.load_public(public) == pair.public == seal.public_key(pair.private)
    assert pair.id == seal.key_id(pair.public)


def test_a_credential_is_read_and_never_written(private, public):
    pair = keys.load_pair(private, public)
    private.chmod(0o400)
    public.unlink()
    before = private.stat()
    assert keys.load_pair(private, public, is_credential=True) == pair
    assert keys.load_public(public) == pair.public
    after = private.stat()  # not the time of access: a look at it changes that
    assert (after.st_ino, after.st_mtime_ns, after.st_ctime_ns) == (
        before.st_ino,
        before.st_mtime_ns,
        before.st_ctime_ns,
    )


@pytest.mark.parametrize(("content", "error"), [(None, NoKey), (b"damaged", Damaged)])
def test_a_credential_that_is_none_is_not_replaced(private, public, content, error):
    if content:
        private.write_bytes(content)
    with pytest.raises(error):
        keys.load_pair(private, public, is_credential=True)
    assert (private.exists(), public.exists()) == (content is not None, False)


def test_second_start_has_the_same_pair_and_writes_nothing(private, public):
    pair = keys.load_pair(private, public)
    before = [path.stat() for path in (private, public)]
    assert keys.load_pair(private, public) == pair
    assert [(each.st_ino, each.st_mtime_ns) for each in before] == [
        (path.stat().st_ino, path.stat().st_mtime_ns) for path in (private, public)
    ]


def test_two_devices_never_share_a_key(tmp_path):
    pairs = {keys.load_pair(tmp_path / f"{number}.key", tmp_path / f"{number}.pub").private for number in range(5)}
    assert len(pairs) == 5


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_private_key_is_for_its_owner_and_public_key_for_everybody(private, public, umask):
    before = os.umask(umask)
    try:
        keys.load_pair(private, public)
    finally:
        os.umask(before)
    assert (mode(private), mode(public)) == (0o600, 0o644)


def test_files_say_what_they_are(private, public):
    pair = keys.load_pair(private, public)
    first, second, *_ = private.read_text().splitlines()
    assert first == ("# device-ui: the private key of the mail hook. Whoever has it can read the mail password.")
    assert second == f'x25519 = "{pair.private.hex()}"'
    first, second, *_ = public.read_text().splitlines()
    assert first == "# device-ui: the public key that mail passwords are sealed to."
    assert second == f'x25519 = "{pair.public.hex()}"'


def test_public_key_is_not_shown_when_the_private_one_could_not_be_stored(tmp_path, public):
    with pytest.raises(NotStored):
        keys.load_pair(tmp_path / "missing" / "private.key", public)
    assert not public.exists()


def test_public_key_that_is_missing_or_wrong_is_written_again(private, public):
    pair = keys.load_pair(private, public)
    public.write_bytes(b"nonsense")
    assert keys.load_pair(private, public) == pair
    assert keys.load_public(public) == pair.public


DAMAGES = [
    b"",
    b"nonsense",
    toml_file.encode("x", {"x25519": "00" * 31}),
    toml_file.encode("x", {"x25519": "00" * 33}),
    toml_file.encode("x", {"x25519": "zz" * 32}),
    toml_file.encode("x", {"x25519": 5}),
    toml_file.encode("x", {"ed25519": "00" * 32}),
    toml_file.encode("x", {"x25519": "00" * 32})[:-5],
]


@pytest.mark.parametrize("raw", DAMAGES)
def test_damaged_private_key_is_kept_aside_and_a_new_pair_is_made(private, public, raw):
    private.write_bytes(raw)
    pair = keys.load_pair(private, public)
    assert [path.read_bytes() for path in files.quarantined_files(private)] == [raw]
    assert keys.load_private(private) == pair
    assert keys.load_public(public) == pair.public


def test_password_sealed_to_a_lost_key_asks_for_that_key(private, public):
    bound_to = ("mail.example.com", "587", "a@b.c", "auto")
    old = keys.load_pair(private, public)
    sealed = seal.seal("Kp7!vRw2#Zt9", old.public, bound_to)
    private.write_bytes(b"damaged")
    with pytest.raises(NoKey) as caught:
        seal.unseal(sealed, keys.load_pair(private, public).private, bound_to)
    assert caught.value.key_id == old.id


@pytest.mark.parametrize("raw", DAMAGES)
@pytest.mark.parametrize("load", [keys.load_public, keys.load_private])
def test_damaged_key_is_told_and_left_where_it_is(private, load, raw):
    private.write_bytes(raw)
    with pytest.raises(Damaged) as caught:
        load(private)
    assert caught.value.path == private
    assert private.read_bytes() == raw


@pytest.mark.parametrize("load", [keys.load_public, keys.load_private])
def test_missing_key_is_told(private, load):
    with pytest.raises(NoKey, match="^the mail hook has made no key yet$"):
        load(private)


@pytest.mark.parametrize("load", [keys.load_public, keys.load_private])
def test_folder_in_the_place_of_a_key_is_not_a_missing_one(private, load):
    private.mkdir()
    with pytest.raises(Damaged, match=r"^private\.key is damaged: it is no regular file$"):
        load(private)


def test_folder_in_the_place_of_the_private_key_is_set_aside_and_a_new_pair_made(private, public):
    private.mkdir()
    pair = keys.load_pair(private, public)
    assert private.with_name("private.key.damaged-1").is_dir()
    assert keys.load_private(private) == pair


def test_pair_does_not_show_its_private_key(private, public):
    pair = keys.load_pair(private, public)
    assert repr(pair) == f"KeyPair({pair.id})" == str(pair)
    assert f"{pair.private!r}" not in f"{pair}"


def test_a_private_file_of_before_is_read_and_gets_the_public_half(private, public):
    pair = keys.load_pair(private, public)
    private.write_bytes(toml_file.encode("of before", {"x25519": pair.private.hex()}))
    assert keys.load_pair(private, public) == pair
    assert f'public = "{pair.public.hex()}"' in private.read_text().splitlines()


def sealed_as(sign_in: str, password: str, pair: keys.KeyPair) -> SmtpSettings:
    """Settings with a password of any kind, as anyone can seal it."""
    plain = SmtpSettings("mail.example.com", 587, "x", "a@b.cc", sign_in=sign_in)
    return dataclasses.replace(plain, sealed=seal.seal(password, pair.public, plain.bound_to))


@pytest.mark.parametrize(
    ("sign_in", "password"),
    [("manual", "Kp7!vRw2#Zt9"), ("provider", "x"), ("provider", " two  words "), ("provider", "x" * 256)],
)
def test_a_password_that_keeps_its_rule_opens(private, public, sign_in, password):
    settings = sealed_as(sign_in, password, keys.load_pair(private, public))
    assert keys.load_password(private, settings) == password


@pytest.mark.parametrize(
    ("sign_in", "password"),
    [
        ("manual", "x"),
        ("manual", "Kp7!vRw2#Z\n9"),
        ("provider", ""),
        ("provider", "x" * 257),
        *(("provider", f"a{each}b") for each in "\n\r\0\t\x1b\x7f\x85\u2028\u2029\u202e"),
    ],
)
def test_a_password_that_breaks_its_rule_opens_for_nobody(private, public, sign_in, password):
    settings = sealed_as(sign_in, password, keys.load_pair(private, public))
    with pytest.raises(CannotOpen, match="it breaks the rules of a password"):
        keys.load_password(private, settings)


@pytest.mark.parametrize("hidden", ["\u200b", "\u00a0", "\u00ad", "\u2028", "\ue000", "\ufeff"])
def test_a_password_that_update_keeps_for_another_sign_in_opens(private, public, hidden):
    """The manual's rules accept a character that cannot be seen, a provider's do not; both sign-ins have the same binding."""
    stored = sealed_as("manual", f"Kp7!{hidden}vRw2#Zt9", keys.load_pair(private, public))
    form = {"host": stored.host, "port": "587", "sender_name": "x", "account": stored.account, "sign_in": "provider"}
    kept = parse(form, stored).settings
    assert kept and kept.sign_in == "provider"
    assert keys.load_password(private, kept) == keys.load_password(private, stored) == f"Kp7!{hidden}vRw2#Zt9"


def test_settings_without_a_login_have_an_empty_password(private):
    assert keys.load_password(private, SmtpSettings("h", 25, "x", "a@b.cc", sign_in="none")) == ""
