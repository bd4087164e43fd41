"""Responses of waitress with the security headers: the application's, and refusals in one plain sentence."""

from __future__ import annotations

import logging
from collections.abc import Set
from typing import Any

from waitress.task import ErrorTask, WSGITask
from waitress.utilities import build_http_date

from device_ui import logging_setup
from device_ui.rate_limit import TokenBucket
from device_ui.web import client_address
from device_ui.web.http import parser
from device_ui.web.http.headers import HEADERS, NO_DOCUMENTS, NO_STORE, OF_DOCUMENTS

log = logging.getLogger(__name__)
ERRORS = logging_setup.ErrorStream()
# Log lines about a proxy that reports no client address: 20 at once, and one more a minute.
UNREADABLE = TokenBucket(20, 60.0)
FORWARDED_FOR, FORWARDED_PROTO = "HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_PROTO"


# The header lines as they are sent; the application may set one of its own instead.
LINES = {name.lower(): f"{name}: {value}\r\n".encode() for name, value in (*HEADERS, NO_STORE)}
ALL = (b"".join(LINES.values()),)


class SecurityHeaders:
    """`HEADERS` on every status, from the application, from waitress or from its parser. A mixin of waitress's tasks."""

    # Of waitress.
    response_headers: list[tuple[str, str]]
    channel: Any
    content_length: int | None
    content_bytes_written: int
    complete: bool
    has_body: bool
    wrote_header: bool
    close_on_finish: bool
    request: Any
    start_time: float
    status: str
    version: str

    def build_response_header(self) -> bytes:
        """Return the response's header, complete."""
        own = {name.lower(): value for name, value in self.response_headers}
        given = own.keys() | OF_DOCUMENTS if own.get("content-type", "").startswith(NO_DOCUMENTS) else own.keys()
        lines = ALL if LINES.keys().isdisjoint(given) else [line for name, line in LINES.items() if name not in given]
        # The usual page: waitress's own method tests for cases that it does not have, at each response.
        if self._needs_only_a_date(given):
            fields = [*self.response_headers, ("Date", build_http_date(self.start_time))]
            first = "".join([f"HTTP/1.1 {self.status}\r\n", *[f"{name}: {value}\r\n" for name, value in fields]])
            return b"".join((first.encode("latin-1"), *lines, b"\r\n"))
        header: bytes = super().build_response_header()  # type: ignore[misc]  # of the task that it is mixed into
        return b"".join((header[:-2], *lines, header[-2:]))

    def _needs_only_a_date(self, given: Set[str]) -> bool:
        """Whether waitress would add a date alone: a page of known length on a connection that stays open."""
        stays = self.version == "1.1" and not self.close_on_finish and "CONNECTION" not in self.request.headers
        return stays and self.has_body and "content-length" in given and given.isdisjoint(("date", "server"))

    def write(self, data: bytes) -> None:
        """Send a part of the body; the first with the header, so that a small page is one segment and one system call."""
        if self.wrote_header or not (self.complete and self.has_body) or len(data) > (self.content_length or 0):
            super().write(data)  # type: ignore[misc]
            return
        header = self.build_response_header()
        self.wrote_header = True
        self.content_bytes_written = len(data)
        self.channel.write_soon(header + data)


class Response(SecurityHeaders, WSGITask):  # type: ignore[misc]  # waitress has no types
    """The application's response to one request."""

    def get_environment(self) -> dict[str, Any]:
        """Return the WSGI environment."""
        environ: dict[str, Any] = super().get_environment()
        # bottle writes its tracebacks there; a path in one could forge lines of the log.
        environ["wsgi.errors"] = ERRORS
        # A file that waitress sends by itself would stay open until the slowest client has read it.
        environ.pop("wsgi.file_wrapper", None)
        environ["REMOTE_ADDR"] = environ["REMOTE_HOST"] = self._client(environ.get(FORWARDED_FOR))
        is_tls = environ.get(FORWARDED_PROTO, "").lower() == "https" if self._is_from_proxy else self.channel.is_tls
        environ["wsgi.url_scheme"] = "https" if is_tls else "http"
        return environ

    @property
    def _is_from_proxy(self) -> bool:
        return not self.channel.client

    def _client(self, forwarded: str | None) -> str:
        """Return the client's address, `client_address.UNKNOWN` where the proxy gives none.

        X-Forwarded-For of any other connection is ignored.
        """
        if not self._is_from_proxy:
            return client_address.plain(self.channel.addr[0])
        found = client_address.forwarded(forwarded or "")
        if found == client_address.UNKNOWN and not UNREADABLE.take():
            # ascii() and cut: a client may have written it, through the proxy.
            shown = "missing" if forwarded is None else ascii(forwarded[-client_address.HOP_MAXIMUM :])
            log.warning("client address unknown: X-Forwarded-For of the proxy is %s", shown)
        return found


class ErrorResponse(SecurityHeaders, ErrorTask):  # type: ignore[misc]
    """The response to a request that was refused by the parser."""

    def execute(self) -> None:
        """Write the response; the connection is closed after it."""
        # waitress's own text quotes the request: text of a client would reach a page.
        self.request.error = parser.error_response(self.request)
        super().execute()
