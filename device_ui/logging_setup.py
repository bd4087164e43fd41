"""Log lines of the pages: what a person typed or a server said can neither end one nor colour the terminal that shows it."""

from __future__ import annotations

import logging

from device_ui.log import LINE_MAXIMUM, escaped, indented

log = logging.getLogger(__name__)

# The journal adds the time by itself.
FORMAT = "%(name)s: %(message)s"


class WholeLines(logging.Formatter):
    """One line a message; the lines of a traceback are indented, so that none of them passes for a message."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        """The message in one line."""
        return escaped(super().formatMessage(record))[:LINE_MAXIMUM]

    def formatException(self, ei: object) -> str:  # noqa: N802
        """The traceback, indented."""
        return indented(super().formatException(ei))  # type: ignore[arg-type]


class Errors:
    """``wsgi.errors`` as log lines: bottle writes its tracebacks there, past every formatter."""

    def write(self, text: str) -> None:
        """Log a text, line by line."""
        for line in text.splitlines():
            log.error("| %s", line)

    def flush(self) -> None:
        """Nothing is held back."""


def keep_last_resort_whole() -> None:
    """From now on, for a command, which has no handler: what is logged goes to its terminal (`logging.lastResort`)."""
    if logging.lastResort:
        logging.lastResort.setFormatter(WholeLines("%(message)s"))


def keep_lines_whole() -> None:
    """From now on, for every handler of this process; and without what strangers can make waitress tell at will."""
    for handler in logging.getLogger().handlers:
        handler.setFormatter(WholeLines(FORMAT))
    logging.getLogger("waitress").setLevel(logging.WARNING)
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
