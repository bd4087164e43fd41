"""The language of the pages: what the browser asks for, unless somebody chose one by hand; the cookie says which."""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import quote

from bottle import HTTPError, HTTPResponse, request, response

from device_ui.i18n.translator import LANGUAGES, accepted
from device_ui.web.auth import return_path
from device_ui.web.auth.guard import cookie, is_tls, see_other
from device_ui.web.forms import posted, text

# It holds the language and nothing else, so that it tells nobody apart; scripts do not need it.
COOKIE, COOKIE_SECONDS = "language", 365 * 24 * 3600
# Where the choice leads back to: a page of ours, and never a stranger's ("//evil.example"), however it is spelt.
PAGE_PATTERN = re.compile(r"/[a-z][a-z/-]{0,40}(?:\?[A-Za-z0-9%&=+._*~-]{0,1000})?")
# Pages that their query makes another one.
QUERIED = frozenset({"/setup", "/login", *return_path.QUERIED})
# A page that differs by both; whatever stands in front must not hand one reader's to another.
VARIES = "Accept-Language, Cookie"


def code(default: str) -> str:
    """The language of this request, of `LANGUAGES`."""
    chosen = cookie(COOKIE)
    return chosen if chosen in LANGUAGES else accepted(request.environ.get("HTTP_ACCEPT_LANGUAGE", ""), default)


@lru_cache(maxsize=16)
def spelt(address: str) -> str:
    """An address, spelt for the query of the form that leads back to it."""
    return quote(address, safe="/")


def here() -> str:
    """This page's address, likewise."""
    query = request.environ.get("QUERY_STRING", "") if request.path in QUERIED else ""
    return spelt(f"{request.path}?{query}" if query else request.path)


def choose() -> HTTPResponse:
    """Keep the choice, and back to the page it was made on. No login: the login page has it, too. Raises HTTPError 400."""
    chosen, page = text(posted(), "language"), request.query.getunicode("page", "")
    if chosen not in LANGUAGES:
        raise HTTPError(400, "This device does not speak that language.")
    response.set_cookie(
        COOKIE, chosen, path="/", max_age=COOKIE_SECONDS, httponly=True, samesite="strict", secure=is_tls()
    )
    return see_other(page if PAGE_PATTERN.fullmatch(page) else "/")
