"""The language of the pages: the cookie's, if one was chosen by hand, else the browser's Accept-Language."""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import quote

from bottle import HTTPError, HTTPResponse, request, response

from device_ui.i18n.translator import LANGUAGES, accepted
from device_ui.web.auth import return_path
from device_ui.web.auth.guard import cookie, is_tls, see_other
from device_ui.web.forms import posted, text

# It holds the language alone, so that it identifies no user; scripts do not need it.
COOKIE, COOKIE_SECONDS = "language", 365 * 24 * 3600
# The page that the choice returns to: a path of this device, never of another host ("//evil.example").
PAGE_PATTERN = re.compile(r"/[a-z][a-z/-]{0,40}(?:\?[A-Za-z0-9%&=+._*~-]{0,1000})?")
# Pages whose query is part of the return path.
QUERIED = frozenset({"/setup", "/login", *return_path.QUERIED})
# A page depends on both; a cache in front must not serve one client's page to another.
VARIES = "Accept-Language, Cookie"


def code(default: str) -> str:
    """Return the language of this request, one of `LANGUAGES`."""
    chosen = cookie(COOKIE)
    return chosen if chosen in LANGUAGES else accepted(request.environ.get("HTTP_ACCEPT_LANGUAGE", ""), default)


@lru_cache(maxsize=16)
def spelt(address: str) -> str:
    """Return an address quoted for the query of the form that returns to it."""
    return quote(address, safe="/")


def here() -> str:
    """Return this page's address, quoted likewise."""
    query = request.environ.get("QUERY_STRING", "") if request.path in QUERIED else ""
    return spelt(f"{request.path}?{query}" if query else request.path)


def choose() -> HTTPResponse:
    """Store the choice in a cookie and return to its page. Without a login: the login page offers it. Raises HTTPError 400."""
    chosen, page = text(posted(), "language"), request.query.getunicode("page", "")
    if chosen not in LANGUAGES:
        raise HTTPError(400, "This device does not speak that language.")
    response.set_cookie(
        COOKIE, chosen, path="/", max_age=COOKIE_SECONDS, httponly=True, samesite="strict", secure=is_tls()
    )
    return see_other(page if PAGE_PATTERN.fullmatch(page) else "/")
