"""What waitress sends, with our headers: pages, and its own refusals, which are plain sentences."""

from __future__ import annotations

from typing import Any

from waitress.task import ErrorTask, WSGITask

from device_ui import journal
from device_ui.web import app, strict

ERRORS = journal.Errors()


class Headed:
    """`app.HEADERS` on every status, whoever made the answer: a page, waitress, or its reader of proxy headers."""

    response_headers: list[tuple[str, str]]

    def build_response_header(self) -> bytes:
        """The answer's header, complete."""
        given = {name.lower() for name, _ in self.response_headers}
        missing = [pair for pair in (*app.HEADERS, app.NO_STORE) if pair[0].lower() not in given]
        self.response_headers = [*self.response_headers, *missing]
        return bytes(super().build_response_header())  # type: ignore[misc]  # of the task that it is mixed into


class Page(Headed, WSGITask):  # type: ignore[misc]  # waitress has no types
    """One request for the application."""

    def get_environment(self) -> dict[str, Any]:
        """The WSGI environment."""
        environ: dict[str, Any] = super().get_environment()
        environ["wsgi.errors"] = ERRORS
        # Each file that waitress sends by itself stays open until the slowest reader has read it.
        environ.pop("wsgi.file_wrapper", None)
        if self.channel.is_tls:
            environ["wsgi.url_scheme"] = "https"
        return environ


class Refused(Headed, ErrorTask):  # type: ignore[misc]
    """One request that was not read."""

    def execute(self) -> None:
        """Write the answer; the connection is closed after it."""
        self.request.error = strict.answered(self.request)
        super().execute()
