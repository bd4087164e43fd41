"""Log lines of the mail hook: to `logging` wherever that is in use, else to standard error without it.

`logging` holds 0.7 MiB with what it loads; a process that writes a line a mail does not need it. Once `Log.to_stderr` was
called, a line is written as `logging` would have written it with `journal.WholeLines`, which does it for the pages.
"""

from __future__ import annotations

import contextlib
import os
import sys

# Characters. The longest header is 8 KiB, and a stranger may send one as often as he likes.
LINE_MAXIMUM = 1000
STDERR = 2


def escaped(text: str) -> str:
    r"""The text with every character that is not printable as a Python escape (``\n``, ``\x1b``, ``\u202e``)."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def message(name: str, text: str) -> str:
    """What the part called `name` says, in one line; the journal adds the time by itself."""
    return escaped(f"{name}: {text}")[:LINE_MAXIMUM]


def indented(traceback: str) -> str:
    """The lines of a traceback, so that none of them passes for a message."""
    return "\n".join(f"    {escaped(line)}" for line in traceback.split("\n"))


class Log:
    """The lines of one part of the product. `text` has a place (``%s``, ``%d``) for each of the `values`."""

    is_direct = False

    def __init__(self, name: str) -> None:
        self._name = name

    @classmethod
    def to_stderr(cls) -> None:
        """From now on every line of this process goes to standard error."""
        cls.is_direct = True

    def info(self, text: str, *values: object) -> None:
        """What happened."""
        self._say("info", text, values)

    def warning(self, text: str, *values: object) -> None:
        """What did not go well."""
        self._say("warning", text, values)

    def error(self, text: str, *values: object) -> None:
        """What somebody must mend."""
        self._say("error", text, values)

    def exception(self, text: str, *values: object) -> None:
        """The same, with the traceback of the exception that is being handled."""
        self._say("exception", text, values)

    def _say(self, level: str, text: str, values: tuple[object, ...]) -> None:
        if not self.is_direct:
            import logging

            getattr(logging.getLogger(self._name), level)(text, *values)
            return
        line = message(self._name, text % values if values else text)
        if level == "exception":
            import traceback

            line += "\n" + indented(traceback.format_exc().rstrip("\n"))
        with contextlib.suppress(OSError):  # nobody reads any more
            sys.stderr.flush()
            os.write(STDERR, f"{line}\n".encode("utf-8", "backslashreplace"))
