"""The text file that a person reads and a program trusts: what is written is read back, and every change is damage."""

from __future__ import annotations

import hashlib
import sys
import tomllib
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_ui.storage import toml_file

# To the byte, so that a file of this version can be read by the next.
FILE = (
    b"# a comment\n"
    b'host = "mail.example.com"\n'
    b"port = 587\n"
    b"is_set_up = true\n"
    b'sha256 = "f92e3a336685ee86eaf87d5c4273355d74412903c1e48b62a89d0d401a078440"\n'
)
VALUES = {"host": "mail.example.com", "port": 587, "is_set_up": True}

# Everything that a rule lets through: all of Unicode but control characters and lone surrogates.
TEXTS = st.text(st.characters(exclude_categories=["Cc", "Cs"]))
NAMES = st.from_regex(r"[a-z][a-z_]{0,15}", fullmatch=True).filter(lambda name: name != "sha256")
RECORDS = st.dictionaries(NAMES, TEXTS | st.integers(-(2**63), 2**63 - 1) | st.booleans(), max_size=8)


def signed(body: bytes) -> bytes:
    """A body under a checksum that holds, as somebody may write it by hand."""
    return body + b'sha256 = "' + hashlib.sha256(body).hexdigest().encode() + b'"\n'


def test_file_is_lines_that_a_person_can_read():
    assert toml_file.encode("a comment", VALUES) == FILE
    assert toml_file.decode(FILE) == VALUES


def test_korean_stays_korean_in_the_file():
    assert '"\ud55c\uae00 \U0001f4e7"'.encode() in toml_file.encode("x", {"name": "\ud55c\uae00 \U0001f4e7"})


@given(RECORDS)
@settings(max_examples=300, deadline=None)
def test_what_was_written_is_read_back(values):
    found = toml_file.decode(toml_file.encode("a comment", values))
    assert found == values
    assert [type(value) for value in found.values()] == [type(value) for value in values.values()]


@given(
    st.dictionaries(
        st.from_regex("[a-z_]{1,8}", fullmatch=True), st.text() | st.booleans() | st.integers(-(2**63), 2**63 - 1)
    )
)
@settings(max_examples=200, deadline=None)
def test_what_is_written_is_toml_and_reads_back(values):
    raw = toml_file.encode("x", values)
    read = tomllib.loads(raw.decode())
    del read[toml_file.CHECKSUM]
    assert repr(read) == repr(toml_file.decode(raw)) == repr(values)


def test_file_of_this_product_is_read_without_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "tomllib", None)
    assert toml_file.decode(FILE) == VALUES


def test_every_character_is_read_back():
    """Those that no rule takes, too: a file that somebody changed by hand may have them."""
    every = [chr(point) for point in range(0x110000) if unicodedata.category(chr(point)) != "Cs"]
    values = {f"part_{start}": "".join(every[start : start + 4096]) for start in range(0, len(every), 4096)}
    assert toml_file.decode(toml_file.encode("x", values)) == values


@given(st.text(st.characters(max_codepoint=0x7E), max_size=30))
@settings(max_examples=200, deadline=None)
def test_text_that_looks_like_the_files_own_syntax_is_only_text(text):
    values = {"host": f'"\\{text}"\nsha256 = "', "port": 25}
    assert toml_file.decode(toml_file.encode("x", values)) == values


def test_file_cut_anywhere_is_damage():
    raw = toml_file.encode("a comment", VALUES)
    for length in range(len(raw)):
        with pytest.raises(
            ValueError, match=r"^its checksum does not match$|^its last line is no checksum$|^it is empty$"
        ):
            toml_file.decode(raw[:length])


def test_every_flipped_bit_is_damage():
    raw = toml_file.encode("a comment", VALUES)
    for bit in range(8 * len(raw)):
        changed = bytearray(raw)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ValueError, match="checksum"):
            toml_file.decode(bytes(changed))


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "it is empty"),
        (FILE.upper(), "its last line is no checksum"),
        (FILE.replace(b"587", b"465"), "its checksum does not match"),
        (b"host = 1\n", "its last line is no checksum"),
        (b"\0" * 4096, "its last line is no checksum"),
        (b"\xff\xfe" * 100, "its last line is no checksum"),
        (b'sha256 = "x', "its last line is no checksum"),
        (b'port = 25 sha256 = "x"\n', "its last line is no checksum"),
        (b'port = 25\nsha256 = "\xff\xfe"\n', "its checksum does not match"),
        (b'port = 25\nsha256 = ""\n', "its checksum does not match"),
        (signed(b"port = 25\n") + b"# more\n", "its last line is no checksum"),
        (signed(b"port = 25\n").replace(b"\n", b"\r\n"), "its last line is no checksum"),
        (signed(b"port = 25.0\n"), "it holds a line that this program does not write"),
        (signed(b"port = [25]\n"), "it holds a line that this program does not write"),
        (signed(b"[port]\nx = 1\n"), "it holds a line that this program does not write"),
        (signed(b"day = 2026-01-01\n"), "it holds a line that this program does not write"),
        (signed(b"port = 9223372036854775808\n"), "it holds a number that is too long"),
        (signed(b"port = -9223372036854775809\n"), "it holds a number that is too long"),
        (signed(b"port = 0x" + b"f" * 5000 + b"\n"), "it holds a line that this program does not write"),
        (signed(b"port = " + b"1" * 5000 + b"\n"), "it holds a line that this program does not write"),
        (signed(b"port=25\n"), "it holds a line that this program does not write"),
        (signed(b"port = 25 # TLS\n"), "it holds a line that this program does not write"),
        (signed(b"host = 'x'\n"), "it holds a line that this program does not write"),
        (signed(b"a.b = 1\n"), "it holds a line that this program does not write"),
        (signed(b"port = 1\nport = 1\n"), "it holds a line that this program does not write"),
    ],
)
def test_anything_else_is_damage_in_one_line(raw, reason):
    with pytest.raises(ValueError, match=f"^{reason}$"):
        toml_file.decode(raw)


@pytest.mark.parametrize(
    "body", [b"port = \n", b"port = 1\nport = 2\n", b'host = "\xff"\n', b"{\n", b"x = " + b"[" * 20_000 + b"\n"]
)
def test_broken_lines_under_a_good_checksum_are_damage(body):
    with pytest.raises(ValueError, match="^[^\n]+$"):
        toml_file.decode(signed(body))


@given(st.binary(max_size=300))
@settings(max_examples=300, deadline=None)
def test_no_bytes_end_in_anything_but_damage(raw):
    for each in (raw, raw + b'"\n', b'x = 1\nsha256 = "' + raw + b'"\n'):
        with pytest.raises(ValueError, match="^it"):
            toml_file.decode(each)
