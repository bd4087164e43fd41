"""What a server says, quoted for a person: one printable line of bounded length with nothing secret in it. Pure."""

from __future__ import annotations

import base64
import itertools
import operator
import re
import urllib.parse
from collections.abc import Sequence

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


def quoted(text: str, secrets: Sequence[str]) -> str:
    """`text` on one line without `secrets`, at most `REPLY_MAXIMUM` characters."""
    # Struck out first: a password may hold a character that is not printable.
    return printable(strike_out(text[:SEARCHED_MAXIMUM], secrets))[:REPLY_MAXIMUM]


def printable(text: str) -> str:
    """`text` with a blank in place of each character that would not show or would break the line."""
    return "".join(each if each.isprintable() else " " for each in text)


def strike_out(text: str, secrets: Sequence[str]) -> str:
    """`text` without any piece of a secret that is `SECRET_PIECE` characters long (or the whole of a shorter one)."""
    pieces = {
        secret[start : start + SECRET_PIECE]
        for secret in secrets
        for start in range(max(1, len(secret) - SECRET_PIECE + 1))
        if secret
    }
    struck = [False] * len(text)
    for piece in pieces:
        for match in re.finditer(f"(?={re.escape(piece)})", text, re.IGNORECASE):
            struck[match.start() : match.start() + len(piece)] = [True] * len(piece)
    runs = itertools.groupby(zip(struck, text, strict=True), operator.itemgetter(0))
    return "".join(STRUCK_OUT if hit else "".join(character for _, character in run) for hit, run in runs)
