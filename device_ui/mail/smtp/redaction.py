"""What a server says, quoted for a person: one printable line of bounded length with nothing secret in it. Pure."""

from __future__ import annotations

import base64
import itertools
import operator
import urllib.parse
from collections.abc import Collection, Iterable

# Characters of an answer that are kept.
REPLY_MAXIMUM = 500
# Characters that are searched for secrets: what is not kept need not be.
SEARCHED_MAXIMUM = 4 * REPLY_MAXIMUM
# A piece this long of a secret, in any of its spellings, is struck out of what a server says.
SECRET_PIECE = 8
STRUCK_OUT = "[…]"


def spellings(account: str, password: str) -> list[str]:
    """How a password may come back from a server that repeats what it was sent: plain, in base64, hexadecimal, a URL."""
    raw = password.encode()
    blob = base64.b64encode(f"\0{account}\0{password}".encode()).decode()
    return [password, base64.b64encode(raw).decode(), blob, raw.hex(), urllib.parse.quote(password)]


def pieces(secrets: Iterable[str]) -> frozenset[str]:
    """Every piece of these secrets that is `SECRET_PIECE` characters long (or the whole of a shorter one), to be struck out.

    Made once a session: it is looked for in each answer. No pattern is made of a secret, since `re` keeps its patterns.
    """
    return frozenset(
        _folded(secret)[start : start + SECRET_PIECE]
        for secret in secrets
        for start in range(max(1, len(secret) - SECRET_PIECE + 1))
        if secret
    )


def quoted(text: str, struck: Collection[str] = ()) -> str:
    """`text` on one line without the `pieces` of secrets, at most `REPLY_MAXIMUM` characters."""
    # Struck out first: a password may hold a character that is not printable.
    return printable(strike_out(text[:SEARCHED_MAXIMUM], struck))[:REPLY_MAXIMUM]


def printable(text: str) -> str:
    """`text` with a blank in place of each character that would not show or would break the line."""
    return text if text.isprintable() else "".join(each if each.isprintable() else " " for each in text)


def strike_out(text: str, struck: Collection[str]) -> str:
    """`text` without any of these `pieces`, whatever the case of its letters."""
    folded = _folded(text)
    found = [
        (start, start + size)
        for size in {len(piece) for piece in struck}
        for start in range(len(text) - size + 1)
        if folded[start : start + size] in struck
    ]
    if not found:
        return text
    hidden = [False] * len(text)
    for start, end in found:
        hidden[start:end] = [True] * (end - start)
    runs = itertools.groupby(zip(hidden, text, strict=True), operator.itemgetter(0))
    return "".join(STRUCK_OUT if hit else "".join(character for _, character in run) for hit, run in runs)


def _folded(text: str) -> str:
    """`text` without case, character by character: it keeps its length."""
    return text.lower() if text.isascii() else "".join(map(_folded_one, text))


def _folded_one(character: str) -> str:
    return next(each for each in (character.casefold(), character.lower(), character) if len(each) == 1)
