"""Log lines of both processes and of the commands: one printable line for each message, whatever a client or a server sent.

Texts of clients, mail servers and events appear in log lines. A control character in one could end the line, so that the
rest passes for a line of this product, or could change what the reader's terminal shows.
"""

from __future__ import annotations

import logging

log = logging.getLogger(__name__)

# The journal adds the time.
FORMAT = "%(name)s: %(message)s"
# Characters. The longest header field is 8 KiB, and a client may send one in every request.
LINE_MAXIMUM = 1000


def escaped(text: str) -> str:
    r"""Return the text with every character that is not printable as a Python escape (``\n``, ``\x1b``, ``\u202e``)."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


class LineFormatter(logging.Formatter):
    """Format a message as one line of `LINE_MAXIMUM` characters at most.

    The lines of a traceback are indented, so that none of them passes for a message.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        """Return the message as one line."""
        return escaped(super().formatMessage(record))[:LINE_MAXIMUM]

    def formatException(self, ei: object) -> str:  # noqa: N802
        """Return the traceback, indented."""
        lines = super().formatException(ei).split("\n")  # type: ignore[arg-type]
        return "\n".join(f"    {escaped(line)}" for line in lines)


class ErrorStream:
    """``wsgi.errors`` as log lines: bottle writes its tracebacks there, past every formatter."""

    def write(self, text: str) -> None:
        """Log a text, line by line."""
        for line in text.splitlines():
            log.error("| %s", line)

    def flush(self) -> None:
        """Do nothing: no text is buffered."""


def for_command() -> None:
    """Set up a command, which has no handler: its warnings go to standard error (`logging.lastResort`)."""
    if logging.lastResort:
        logging.lastResort.setFormatter(LineFormatter("%(message)s"))


def for_process() -> None:
    """Set up a process that serves: its lines go to standard error."""
    # logging would report a closed standard error by a traceback to it.
    logging.raiseExceptions = False
    logging.basicConfig(level=logging.INFO)
    for handler in logging.getLogger().handlers:
        handler.setFormatter(LineFormatter(FORMAT))
    # waitress logs lines that any client can cause at will; they would push others out of the journal.
    logging.getLogger("waitress").setLevel(logging.WARNING)
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
