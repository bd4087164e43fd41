"""The page that was requested without a session: the login returns to it, and to no other site (no open redirect).

It is a parameter of the login's address and form, which any site can fill in. So it is accepted only if it is one of
`PAGES`, with a query of the plain characters that this device itself writes.
"""

from __future__ import annotations

import re
from urllib.parse import quote

from bottle import request

# The field of the login's address and form.
FIELD = "to"
# Each page and its return path. A redirect to a file would download it and leave the login page open: its page instead.
PAGES = {
    "/smtp": "/smtp",
    "/smtp/sign-in": "/smtp/sign-in",
    "/smtp/sign-in/certificate": "/smtp/sign-in",
    "/recipients": "/recipients",
    "/history": "/history",
    "/history.csv": "/history",
    "/others": "/others/event-codes",
    "/others/event-codes": "/others/event-codes",
    "/others/email-content": "/others/email-content",
    "/others/access": "/others/access",
}
# The characters of a form's encoding (WHATWG URL, 5.2): no control character or second "?" can reach the Location header.
PLAIN_QUERY = re.compile(r"[A-Za-z0-9%&=+._*~-]{1,1000}")
# Pages whose query is part of the path, and what it looks like.
QUERIES = {
    "/smtp": re.compile(r"preset(?:=[a-z0-9-]{1,40})?"),
    "/recipients": re.compile(r"sort=[a-z]{1,20}"),
    "/history": PLAIN_QUERY,
    "/others/event-codes": PLAIN_QUERY,
    "/others/email-content": PLAIN_QUERY,
}


def checked(address: str) -> str:
    """Return the address if it is one of ours, else ``""``: the login then leads to the SMTP tab."""
    path, mark, query = address.partition("?")
    page = PAGES.get(path, "")
    if not page or not mark:
        return page
    return f"{page}?{query}" if is_part(page, query) else ""


def is_part(page: str, query: str) -> bool:
    """Return whether a query is a part of what this page shows, as this device itself writes it."""
    return page in QUERIES and bool(QUERIES[page].fullmatch(query))


def here(page: str) -> str:
    """Return the address of this page with the query of this request, if that is a part of what it shows."""
    query = request.environ.get("QUERY_STRING", "")
    return f"{page}?{query}" if is_part(page, query) else page


def entrance(path: str) -> str:
    """Return the path of login or set-up; the login's with the page that this request asked for, if it is in `PAGES`."""
    query = request.environ.get("QUERY_STRING", "")
    # Without its query when that is not accepted: the page is more use than the SMTP tab.
    page = checked(f"{request.path}?{query}" if query else request.path) or checked(request.path)
    # The login leads to the SMTP tab by itself.
    return leading(page) if page not in ("", "/smtp") and path == "/login" else path


def leading(page: str) -> str:
    """Return the address of the login that returns to this page."""
    return f"/login?{FIELD}={quote(page, safe='')}"
