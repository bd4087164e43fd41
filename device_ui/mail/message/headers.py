"""Write the header fields of a mail: encoded and folded, so that nothing typed adds a field (RFC 5322, RFC 2047). Pure.

`email.header` folds between characters. `email.policy` is not used: its folding of quoted names loses commas in several
supported versions of Python.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from email.errors import HeaderParseError
from email.header import Header

# RFC 2047, section 2: a line with an encoded word has 76 characters at most. (RFC 5322, section 2.1.1 allows 998.)
HEADER_LINE = 76
# Characters of a word that is not encoded: an encoded one can be folded anywhere.
WORD_MAXIMUM = 60
# A private suffix that no public name has; the rest makes an id unique (RFC 5322, section 3.6.4).
# .internal is reserved for private use (ICANN, 2024).
ID_SUFFIX = "device-ui.internal"


def lines(fields: Mapping[str, str]) -> bytes:
    """Return header fields, their lines ended by CRLF, folded as their values are.

    Raises HeaderParseError if a line of a value would be a field of its own.
    """
    written = []
    for name, value in fields.items():
        first, *others = value.split("\n")
        if "\r" in value or any(not each.strip() or each[0] not in " \t" for each in others):
            raise HeaderParseError(f"a line of {name} would be no part of it")
        written += [f"{name}: {first}", *others]
    return "".join(f"{line}\r\n" for line in written).encode("ascii")


def message_id(ledger_id: str, number: int) -> str:
    """Return the Message-ID of an event; it depends on the database and the number alone, so every retry has the same."""
    return f"<{number}.{ledger_id}@{ID_SUFFIX}>"


def test_message_id(ledger_id: str, token: str) -> str:
    """Return the Message-ID of a test mail, which no event can have."""
    return f"<test.{token}.{ledger_id}@{ID_SUFFIX}>"


def thread_id(ledger_id: str, code: str) -> str:
    """Return the id that all mails of a code refer to, so that a mail program threads them (RFC 5322, section 3.6.4)."""
    return f"<code.{code}.{ledger_id}@{ID_SUFFIX}>"


# The mails of a storm differ in numbers and times alone, and folding a header takes a third of a mail's time.
@functools.lru_cache(maxsize=32)
def unstructured(name: str, value: str, prefix: str = "") -> str:
    """Return the value of an unstructured field (RFC 5322, section 2.2.1).

    `prefix` is ASCII and is never encoded. The value is, if it is not ASCII, or looks encoded, or has a word that cannot be
    folded: so a filter that decodes nothing finds what is written in English.
    """
    is_plain = value.isascii() and "=?" not in value and max(map(len, value.split(" "))) <= WORD_MAXIMUM
    header = Header(header_name=name, maxlinelen=HEADER_LINE)
    for text, charset in ((prefix, "us-ascii"), (value, "us-ascii" if is_plain else "utf-8")):
        if text:
            header.append(text, charset)
    return header.encode()


@functools.lru_cache(maxsize=16)
def addresses(name: str, value: str) -> str:
    """Return the value of a field of addresses, all of them ASCII."""
    # ASCII by the rules of an address: no charset, so that a character beyond it would be an error.
    return Header(value, None, HEADER_LINE, name).encode()


@functools.lru_cache(maxsize=16)
def mailbox(name: str, address: str) -> str:
    """Return the value of From: a display name and an address."""
    header = Header(header_name="From", maxlinelen=HEADER_LINE)
    # Mail readers decode anything that looks like an encoded word, even in quotes.
    if name.isascii() and "=?" not in name:
        escaped = name.replace("\\", "\\\\").replace('"', '\\"')
        # A quoted string (RFC 5322, section 3.2.4) may be 100 characters here and must not be folded inside.
        header = Header(f'"{escaped}" <{address}>', header_name="From", maxlinelen=998)
    else:
        # `Header` treats these two as line ends; in a name they are blanks.
        header.append(name.translate({0x2028: " ", 0x2029: " "}), "utf-8")
        header.append(f"<{address}>", "us-ascii")
    return header.encode()
