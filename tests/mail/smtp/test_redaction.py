"""Redaction of a server's replies: no secret, one printable line, a bounded length."""

from __future__ import annotations

import base64
import re

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from device_ui.mail.smtp import redaction
from device_ui.mail.smtp.redaction import pieces, printable, redact, sanitize_reply, spellings

SECRETS = st.text(st.characters(exclude_characters="[…]\0", exclude_categories=["Cs"]), min_size=1, max_size=40)


@settings(deadline=None)
@given(secret=SECRETS, before=st.text(max_size=20), after=st.text(max_size=20), data=st.data())
def test_no_piece_of_a_secret_stays(secret, before, after, data):
    length = data.draw(st.integers(min(8, len(secret)), len(secret)))
    start = data.draw(st.integers(0, len(secret) - length))
    piece = secret[start : start + length]
    left = redact(before + piece + after, pieces([secret]))
    size = min(8, len(secret))
    whole = [secret[at : at + size] for at in range(len(secret) - size + 1)]
    # A blank-like "[…]" never makes a piece: the secrets here hold none of its characters.
    assert not any(each in left for each in whole)


@settings(deadline=None)
@given(text=st.text(st.characters(exclude_characters="\0"), max_size=60), secret=SECRETS)
def test_text_without_a_secret_is_unchanged(text, secret):
    size = min(8, len(secret))
    assume(not any(re.search(re.escape(secret[at : at + size]), text, re.I) for at in range(len(secret) - size + 1)))
    assert redact(text, pieces([secret])) == text


def test_without_a_secret_nothing_is_redacted():
    assert redact("550 no", ()) == redact("550 no", pieces([""])) == "550 no"


@settings(deadline=None)
@given(st.text(max_size=80))
def test_printable_text_is_one_line_of_the_same_length(text):
    assert printable(text).isprintable()
    assert len(printable(text)) == len(text)


def test_a_reply_is_cut_at_500_characters():
    assert sanitize_reply("x" * 2000) == "x" * 500


SECRETS_OF_A_LOGIN = pieces(spellings("lamp@example.test", "Kp7!vRw2#Zt9"))


@pytest.mark.parametrize("spelt", spellings("lamp@example.test", "Kp7!vRw2#Zt9"))
def test_every_spelling_of_a_password_is_redacted(spelt):
    assert sanitize_reply(f"535 <{spelt}> no", SECRETS_OF_A_LOGIN) == "535 <[…]> no"


@pytest.mark.parametrize("said", ["kP7!VRW2#zT9", "KP7!VRW2#ZT9", "\u212ap7!vRw2#Zt9", "\u0130Kp7!vRw2#Zt9"])
def test_the_case_of_letters_hides_no_secret(said):
    assert "vrw2#z" not in sanitize_reply(f"535 <{said}> no", SECRETS_OF_A_LOGIN).lower()


def test_no_regular_expression_is_made_of_a_secret():
    """`re` caches its patterns, which would keep a secret in memory."""
    assert not hasattr(redaction, "re")


def test_the_spellings_are_those_that_cross_the_wire():
    plain, encoded, blob, as_hex, url = spellings("me", "a/b c")
    assert (plain, base64.b64decode(encoded), as_hex, url) == ("a/b c", b"a/b c", "612f622063", "a/b%20c")
    assert base64.b64decode(blob) == b"\0me\0a/b c"
