"""The one page of a device whose files do not let the pages start, such as a device.toml with a typing error.

Any client may read it, so it names no file and quotes no error. The log, `systemctl status` and `device-ui check` name both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from device_ui.i18n.translator import ENGLISH, accepted, load

TITLE = "The e-mail page of this device cannot start."
SENTENCE = "A file of the device is wrong or cannot be read. At the device’s console, device-ui check says which one."
# What `/health` answers: a program reads one word.
WORD = b"unavailable\n"
# Seconds after which a browser, or a program, asks again.
AGAIN_SECONDS = 5
# No style, script or template: any file of the product may be what is wrong.
PAGE = """<!doctype html>
<html lang="{code}">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta http-equiv="refresh" content="{seconds}">
<title>{title}</title>
<h1>{title}</h1>
<p>{sentence}</p>
</html>
"""


def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer any request with 503 and the page in the client's language (WSGI)."""
    # The cookie of the language is not read: this process loads as little as it can.
    code = accepted(environ.get("HTTP_ACCEPT_LANGUAGE", ""), ENGLISH)
    words = load(code)
    kind, page = (
        "html",
        PAGE.format(code=code, seconds=AGAIN_SECONDS, title=words(TITLE), sentence=words(SENTENCE)).encode(),
    )
    if environ.get("PATH_INFO") == "/health":
        kind, page = "plain", WORD
    headers = [
        ("Content-Type", f"text/{kind}; charset=utf-8"),
        ("Content-Length", str(len(page))),
        # RFC 9110, 10.2.3
        ("Retry-After", str(AGAIN_SECONDS)),
    ]
    start_response("503 Service Unavailable", headers)
    return [page]
