"""The page that was asked for without a session: the login leads back to it, and never to a stranger's.

It travels through the login's address and form, where anybody can write what they like. So it is taken only when it is
one of the pages that stand here, to the letter, with a query of the plain characters that this device itself writes.
"""

from __future__ import annotations

import re
from urllib.parse import quote

from bottle import request

# The field of the login's address and form.
FIELD = "to"
# Each page, and what leads back to it. A file would be saved beside the login page, which then stays: its page instead.
PAGES = {
    "/recipients": "/recipients",
    "/history": "/history",
    "/history.csv": "/history",
    "/others": "/others/event-codes",
    "/others/event-codes": "/others/event-codes",
    "/others/email-content": "/others/email-content",
}
# Pages that their query makes another one.
QUERIED = frozenset({"/history", "/others/email-content"})
QUERY_PATTERN = re.compile(r"[A-Za-z0-9%&=+._*~-]{1,1000}")


def checked(address: str) -> str:
    """The address when it is one of ours, else ``""``: then the login leads to the SMTP tab."""
    path, mark, query = address.partition("?")
    page = PAGES.get(path, "")
    if not page or not mark:
        return page
    return f"{page}?{query}" if page in QUERIED and QUERY_PATTERN.fullmatch(query) else ""


def entrance(door: str) -> str:
    """The address of the login, with the page that this request asks for, if it is one to lead back to."""
    query = request.environ.get("QUERY_STRING", "")
    page = checked(f"{request.path}?{query}" if query else request.path) or checked(request.path)
    return leading(page) if page and door == "/login" else door


def leading(page: str) -> str:
    """The address of the login that leads to this page."""
    return f"/login?{FIELD}={quote(page, safe='')}"
