"""The header fields of every response: what a browser may load, frame and keep (OWASP Secure Headers Project)."""

from __future__ import annotations

# No inline code anywhere; the frames are samples of mails (`pages.event_codes`). "same-origin" instead of "no-referrer": with the
# latter, browsers send "Origin: null" with our own forms (Fetch, 3.1).
HEADERS = (
    (
        "Content-Security-Policy",
        "default-src 'none'; style-src 'self'; img-src 'self'; script-src 'self'; connect-src 'self'; "
        "frame-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    ("X-Content-Type-Options", "nosniff"),
    # frame-ancestors says the same; this one is for browsers that do not know it.
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "same-origin"),
    ("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
)
# Unless the page sets its own.
NO_STORE = ("Cache-Control", "no-store")
# They act on documents alone (CSP 3, 4.2; HTML, 7.1.3; RFC 7034, 2.1; Permissions Policy, 5.2). A style sheet and a script are sent
# without them, so that the first visit of the SMTP tab fits into one window of TCP. A drawing can be opened as a document.
OF_DOCUMENTS = frozenset(
    {"content-security-policy", "x-frame-options", "permissions-policy", "cross-origin-opener-policy"}
)
NO_DOCUMENTS = ("text/css", "text/javascript")
