"""``POST /language``: keep the language that was chosen at the foot of a page, and lead back to that page."""

from __future__ import annotations

import re

from bottle import HTTPError, HTTPResponse, request, response

from device_ui.i18n.translator import LANGUAGES
from device_ui.web.auth.guard import is_tls, see_other
from device_ui.web.forms import posted, text
from device_ui.web.locale import COOKIE

# A year; browsers keep no cookie longer than 400 days (RFC 6265bis, 5.5).
COOKIE_SECONDS = 365 * 24 * 3600
# The page that the choice returns to: a path of this device, never of another host ("//evil.example").
PAGE_PATTERN = re.compile(r"/[a-z][a-z/-]{0,40}(?:\?[A-Za-z0-9%&=+._*~-]{0,1000})?")


def choose() -> HTTPResponse:
    """Store the choice in a cookie and return to its page. Without a login: the login page offers it. Raises HTTPError 400."""
    # The page is in the address and not in the form: one hidden field less on every page.
    chosen, page = text(posted(), "language"), request.query.getunicode("page", "")
    if chosen not in LANGUAGES:
        raise HTTPError(400, "This device does not speak that language.")
    response.set_cookie(
        COOKIE, chosen, path="/", max_age=COOKIE_SECONDS, httponly=True, samesite="strict", secure=is_tls()
    )
    return see_other(page if PAGE_PATTERN.fullmatch(page) else "/")
