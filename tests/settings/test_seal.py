"""The sealed password: it opens with the hook's key, for the server it was typed for, and in no other way.

The product closes with the HPKE of `cryptography`. Here stands a second, small HPKE, written from RFC 9180 alone; it is
first held against the RFC's own figures, and then opens what the product closed.
"""

from __future__ import annotations

import base64
import hmac
import json
import re
import sys
import traceback

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from hypothesis import given, settings
from hypothesis import strategies as st

from device_ui.errors import CannotOpen, NoKey
from device_ui.settings import seal

PASSWORD = "Kp7!vRw2#Zt9"
BOUND = ("mail.example.com", "587", "alarm@mail.example.com", "auto")
PRIVATE = bytes(range(1, 33))
PUBLIC = seal.public_key(PRIVATE)
SEALED = seal.seal(PASSWORD, PUBLIC, BOUND)
PASSWORDS = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=256)


def ciphertext(sealed: str) -> bytes:
    """The bytes of a sealed text: HPKE's enc (32 bytes) and the ciphertext with its tag."""
    encoded = sealed.split(".")[2]
    return base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))


def resealed(raw: bytes) -> str:
    """The sealed text of these bytes, for the key of these tests."""
    return f"hpke1.{seal.key_id(PUBLIC)}." + base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


# RFC 9180, section 4 and 5, for DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20Poly1305 in base mode.

KEM_SUITE = b"KEM" + bytes.fromhex("0020")
HPKE_SUITE = b"HPKE" + bytes.fromhex("0020 0001 0003")


def extract(suite: bytes, salt: bytes, label: bytes, ikm: bytes) -> bytes:
    """LabeledExtract."""
    return hmac.digest(salt or bytes(32), b"HPKE-v1" + suite + label + ikm, "sha256")


def expand(suite: bytes, prk: bytes, label: bytes, info: bytes, length: int) -> bytes:
    """LabeledExpand, of at most 32 bytes: one round of HKDF."""
    labeled = length.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info
    return hmac.digest(prk, labeled + b"\x01", "sha256")[:length]


def hpke_open(private: bytes, enc: bytes, sealed: bytes, info: bytes, aad: bytes = b"") -> bytes:
    """OpenBase of the first message. Raises InvalidTag."""
    key = X25519PrivateKey.from_private_bytes(private)
    dh = key.exchange(X25519PublicKey.from_public_bytes(enc))
    kem_context = enc + key.public_key().public_bytes_raw()
    shared = expand(KEM_SUITE, extract(KEM_SUITE, b"", b"eae_prk", dh), b"shared_secret", kem_context, 32)
    hashes = extract(HPKE_SUITE, b"", b"psk_id_hash", b"") + extract(HPKE_SUITE, b"", b"info_hash", info)
    secret = extract(HPKE_SUITE, shared, b"secret", b"")
    context = b"\x00" + hashes
    nonce = expand(HPKE_SUITE, secret, b"base_nonce", context, 12)
    return ChaCha20Poly1305(expand(HPKE_SUITE, secret, b"key", context, 32)).decrypt(nonce, sealed, aad)


def test_second_hpke_opens_the_message_of_the_rfc():
    opened = hpke_open(
        private=bytes.fromhex("8057991eef8f1f1af18f4a9491d16a1ce333f695d4db8e38da75975c4478e0fb"),
        enc=bytes.fromhex("1afa08d3dec047a643885163f1180476fa7ddb54c6a8029ea33f95796bf2ac4a"),
        sealed=bytes.fromhex(
            "1c5250d8034ec2b784ba2cfd69dbdb8af406cfe3ff938e131f0def8c8b60b4db21993c62ce81883d2dd1b51a28"
        ),
        info=b"Ode on a Grecian Urn",
        aad=b"Count-0",
    )
    assert opened == b"Beauty is truth, truth beauty"


def test_second_hpke_opens_what_the_product_closed():
    # The password's length in two bytes, the password, and zeros to the end of a block of 128.
    raw = ciphertext(SEALED)
    info = json.dumps(["device-ui smtp password 1", *BOUND]).encode()
    opened = hpke_open(PRIVATE, raw[:32], raw[32:], info)
    assert opened == b"\x00\x0c" + PASSWORD.encode() + bytes(128 - 2 - 12)


def test_second_hpke_opens_nothing_for_another_server():
    raw = ciphertext(SEALED)
    with pytest.raises(InvalidTag):
        hpke_open(PRIVATE, raw[:32], raw[32:], json.dumps(["device-ui smtp password 1", "evil", *BOUND[1:]]).encode())


# Who opens.


@given(PASSWORDS, st.lists(st.text(max_size=20), min_size=4, max_size=4))
@settings(max_examples=60, deadline=None)
def test_any_password_opens_for_the_server_it_was_typed_for(password, bound_to):
    assert seal.unseal(seal.seal(password, PUBLIC, bound_to), PRIVATE, bound_to) == password


@pytest.mark.parametrize(
    "bound_to",
    [
        ("evil.example.com", "587", "alarm@mail.example.com", "auto"),
        ("Mail.example.com", "587", "alarm@mail.example.com", "auto"),
        ("mail.example.com", "25", "alarm@mail.example.com", "auto"),
        ("mail.example.com", "587", "other@mail.example.com", "auto"),
        ("mail.example.com", "587", "alarm@mail.example.com", "none"),
        ("587", "mail.example.com", "alarm@mail.example.com", "auto"),
        ("mail.example.com", "587", "alarm@mail.example.com"),
        ("mail.example.com", "587", "alarm@mail.example.com", "auto", ""),
        ("mail.example.com587", "", "alarm@mail.example.com", "auto"),
        ('mail.example.com", "587', "alarm@mail.example.com", "auto"),
        (),
    ],
)
def test_password_opens_for_no_other_server(bound_to):
    with pytest.raises(CannotOpen) as caught:
        seal.unseal(SEALED, PRIVATE, bound_to)
    assert caught.value.reason == "it was typed for another server, or its bytes have changed"
    assert str(caught.value).startswith("the stored password cannot be opened: ")


@given(st.lists(st.text(max_size=6), max_size=5), st.lists(st.text(max_size=6), max_size=5))
@settings(max_examples=60, deadline=None)
def test_two_bindings_never_read_alike(one, other):
    sealed = seal.seal(PASSWORD, PUBLIC, one)
    if one == other:
        assert seal.unseal(sealed, PRIVATE, other) == PASSWORD
    else:
        with pytest.raises(CannotOpen):
            seal.unseal(sealed, PRIVATE, other)


def test_another_key_is_named_as_missing():
    other = seal.new_private_key()
    with pytest.raises(NoKey) as caught:
        seal.unseal(SEALED, other, BOUND)
    assert caught.value.key_id == seal.key_id(PUBLIC)
    assert str(caught.value) == f"the key {seal.key_id(PUBLIC)} is not on this device"


def test_another_key_under_the_same_name_opens_nothing():
    other = seal.new_private_key()
    renamed = SEALED.replace(seal.key_id(PUBLIC), seal.key_id(seal.public_key(other)))
    with pytest.raises(CannotOpen):
        seal.unseal(renamed, other, BOUND)


def test_public_key_opens_nothing():
    with pytest.raises((CannotOpen, NoKey)):
        seal.unseal(SEALED.replace(seal.key_id(PUBLIC), seal.key_id(seal.public_key(PUBLIC))), PUBLIC, BOUND)


def test_every_flipped_bit_of_the_ciphertext_opens_nothing():
    raw = ciphertext(SEALED)
    for bit in range(8 * len(raw)):
        changed = bytearray(raw)
        changed[bit // 8] ^= 1 << bit % 8
        # X25519 masks the highest bit of a coordinate (RFC 7748, 5); HPKE's context still holds all 256 of them.
        with pytest.raises(CannotOpen):
            seal.unseal(resealed(bytes(changed)), PRIVATE, BOUND)


def test_every_flipped_bit_of_the_text_opens_nothing():
    for bit in range(8 * len(SEALED)):
        changed = bytearray(SEALED.encode())
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises((CannotOpen, NoKey)):
            seal.unseal(changed.decode("latin-1"), PRIVATE, BOUND)


def test_ciphertext_cut_or_lengthened_opens_nothing():
    raw = ciphertext(SEALED)
    for each in (*(raw[:length] for length in range(48, len(raw))), raw + b"\0", bytes(32) + raw[32:], bytes(len(raw))):
        with pytest.raises(CannotOpen):
            seal.unseal(resealed(each), PRIVATE, BOUND)


@pytest.mark.parametrize(
    "text",
    [
        *("", "x", PASSWORD, "hpke1", "hpke1..", SEALED[:-1] + "=", SEALED + "\n", " " + SEALED, SEALED.upper()),
        *(SEALED.replace("hpke1", "hpke2"), SEALED.replace(".", ":"), "hpke1.0123456789abcdef." + "A" * 63),
        *(
            "hpke1.0123456789abcdef." + "A" * 32769,
            "hpke1.0123456789ABCDEF." + "A" * 64,
            "hpke1.0123456789abcde." + "A" * 64,
        ),
    ],
)
def test_what_is_no_sealed_text_is_said_to_be_none(text):
    assert seal.sealed_for(text) is None
    with pytest.raises(CannotOpen) as caught:
        seal.unseal(text, PRIVATE, BOUND)
    assert caught.value.reason == "it is no sealed password"


# What a sealed text tells.


def test_sealed_text_names_the_key_it_was_made_for():
    assert re.fullmatch(r"hpke1\.[0-9a-f]{16}\.[A-Za-z0-9_-]+", SEALED)
    assert seal.sealed_for(SEALED) == seal.key_id(PUBLIC) == SEALED.split(".")[1]


def test_key_has_another_name_than_another_key():
    assert seal.key_id(PUBLIC) != seal.key_id(seal.public_key(seal.new_private_key()))


def test_two_seals_of_one_password_have_nothing_in_common():
    one, other = ciphertext(SEALED), ciphertext(seal.seal(PASSWORD, PUBLIC, BOUND))
    assert one[:32] != other[:32]
    assert one[32:] != other[32:]


def test_length_of_a_password_by_the_manual_cannot_be_told():
    passwords = ["aA1!" + filling * (length - 4) for filling in "x\ud55c\U0001f4e7" for length in range(10, 21)]
    assert len({len(seal.seal(each, PUBLIC, BOUND)) for each in passwords}) == 1


def test_new_private_keys_differ_and_have_32_bytes():
    keys = [seal.new_private_key() for _ in range(10)]
    assert len(set(keys)) == 10
    assert {len(key) for key in keys} == {32} == {len(seal.public_key(key)) for key in keys}


@pytest.mark.parametrize("bound_to", [BOUND, ("evil", *BOUND[1:])])
def test_password_is_in_no_sealed_text_and_in_no_traceback(bound_to):
    try:
        told = seal.seal(PASSWORD, PUBLIC, bound_to)
        seal.unseal(SEALED[:-4] + "AAAA", PRIVATE, bound_to)
    except CannotOpen as error:
        told += "".join(traceback.format_exception(error)) + repr(error.__cause__) + str(vars(error))
    assert PASSWORD not in told
    assert base64.b64encode(PASSWORD.encode()).decode()[:12] not in told


def test_a_library_without_the_short_way_to_a_key_is_used_the_public_way(monkeypatch):
    """What is sealed by one way opens by the other."""
    from cryptography.hazmat.primitives.asymmetric import x25519

    private = x25519.X25519PrivateKey.generate().private_bytes_raw()
    public, bound_to = seal.public_key(private), ("host", "25", "a@b.c", "auto")
    sealed = seal.seal("Kp7!vRw2#Zt9", public, bound_to)
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.bindings._rust", None)
    assert seal.public_key(private) == public
    assert seal.unseal(sealed, private, bound_to) == "Kp7!vRw2#Zt9"
    again = seal.seal("Kp7!vRw2#Zt9", public, bound_to)
    monkeypatch.undo()
    assert seal.unseal(again, private, bound_to) == "Kp7!vRw2#Zt9"
