"""What a server says, fit to be shown: one printable line of bounded length, with no secret in it. Pure."""

from __future__ import annotations

import base64
import itertools
import operator
import urllib.parse
from collections.abc import Collection, Iterable

# Characters of a reply that are kept.
REPLY_MAXIMUM = 500
# Characters that are searched for secrets; the rest is cut off.
SEARCHED_MAXIMUM = 4 * REPLY_MAXIMUM
# A piece this long of a secret, in any of its spellings, is replaced by `REDACTED`.
# Shorter pieces would also hide ordinary words of a reply.
SECRET_PIECE = 8
# Of a secret longer than any password, such as a token, every so many characters begin a piece: 11 characters of it in a
# row have one. Each piece takes some 100 bytes.
LONG_SECRET, LONG_STEP = 1024, 4
REDACTED = "[…]"


def spellings(account: str, password: str) -> list[str]:
    """Return how a server may repeat a password that it received: plain, in base64, as AUTH PLAIN, hexadecimal, a URL."""
    raw = password.encode()
    blob = base64.b64encode(f"\0{account}\0{password}".encode()).decode()
    return [password, base64.b64encode(raw).decode(), blob, raw.hex(), urllib.parse.quote(password)]


def pieces(secrets: Iterable[str]) -> frozenset[str]:
    """Return the pieces of these secrets that are `SECRET_PIECE` characters long (or the whole of a shorter one).

    Made once a session and looked up in each reply. No regular expression is made of a secret: `re` caches its patterns.
    """
    return frozenset(
        secret[start : start + SECRET_PIECE]
        for secret in map(_folded, secrets)
        for start in range(0, max(1, len(secret) - SECRET_PIECE + 1), LONG_STEP if len(secret) > LONG_SECRET else 1)
        if secret
    )


def sanitize_reply(text: str, secrets: Collection[str] = ()) -> str:
    """Return `text` on one printable line without these `pieces` of secrets, at most `REPLY_MAXIMUM` characters."""
    # Redacted first: a password may hold a character that is not printable.
    return printable(redact(text[:SEARCHED_MAXIMUM], secrets))[:REPLY_MAXIMUM]


def printable(text: str) -> str:
    """Return `text` with a blank in place of each character that would not show or would break the line."""
    return text if text.isprintable() else "".join(each if each.isprintable() else " " for each in text)


def redact(text: str, secrets: Collection[str]) -> str:
    """Return `text` with `REDACTED` in place of these `pieces`, whatever the case of its letters."""
    folded = _folded(text)
    hits = [
        (start, start + size)
        for size in {len(piece) for piece in secrets}
        for start in range(len(text) - size + 1)
        if folded[start : start + size] in secrets
    ]
    if not hits:
        return text
    # Marked first and replaced afterwards: pieces of one secret overlap.
    hidden = [False] * len(text)
    for start, end in hits:
        hidden[start:end] = [True] * (end - start)
    runs = itertools.groupby(zip(hidden, text, strict=True), operator.itemgetter(0))
    return "".join(REDACTED if is_hidden else "".join(character for _, character in run) for is_hidden, run in runs)


def _folded(text: str) -> str:
    """Return `text` without case, character by character: `str.casefold` would change its length."""
    return text.lower() if text.isascii() else "".join(map(_folded_character, text))


def _folded_character(character: str) -> str:
    return next(each for each in (character.casefold(), character.lower(), character) if len(each) == 1)
