"""The language of a request: the cookie's if it holds one, else the best of Accept-Language (RFC 9110, 12.5.4)."""

from __future__ import annotations

from functools import lru_cache
from urllib.parse import quote

from bottle import request

from device_ui.i18n.translator import LANGUAGES, accepted
from device_ui.web.auth import return_path
from device_ui.web.auth.guard import cookie

# Holds the language and nothing else, so that it identifies no client. Scripts do not need it. With the product's name:
# cookies are shared among the ports of a host (RFC 6265, 8.5).
COOKIE = "device-ui-language"
# Pages whose query is a part of what they show; after a change of the language it must not be lost.
QUERIED = frozenset({"/setup", "/login", *return_path.QUERIED})
# Every page depends on both: a cache in front must not answer one reader with the page of another.
VARIES = "Accept-Language, Cookie"


def code(default: str) -> str:
    """Return the language of this request, one of `LANGUAGES`."""
    # Any client can send any cookie: a value that is no language counts as none.
    chosen = cookie(COOKIE)
    return chosen if chosen in LANGUAGES else accepted(request.environ.get("HTTP_ACCEPT_LANGUAGE", ""), default)


@lru_cache(maxsize=16)
def quoted(address: str) -> str:
    """Return an address of this site for the query of the form that leads back to it."""
    return quote(address, safe="/")


def here() -> str:
    """Return the address of the page that is being made, quoted."""
    query = request.environ.get("QUERY_STRING", "") if request.path in QUERIED else ""
    return quoted(f"{request.path}?{query}" if query else request.path)
