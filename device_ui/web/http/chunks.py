"""A body in chunks, read to the letter of RFC 9112, 7.1: a bare LF, an empty line or a bad trailer is an error.

waitress's receiver forgives them; a program in front that reads them otherwise would see another end of the body.
"""

from __future__ import annotations

import re

from waitress.receiver import ChunkedReceiver
from waitress.utilities import BadRequest

# RFC 9110, 5.6.2.
TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,8})(?:;[\t\x20-\x7e\x80-\xff]*)?")
TRAILER_LINE = re.compile(rb"(%s):[\t\x20-\x7e\x80-\xff]*" % TOKEN)
# RFC 9110, 6.5.1: no trailer may say how a message is framed or where it goes; another reader might believe it.
NO_TRAILERS = frozenset((b"transfer-encoding", b"content-length", b"host", b"trailer", b"te"))
LINE_MAXIMUM = 1024


class Chunks(ChunkedReceiver):  # type: ignore[misc]  # waitress has no types
    """waitress's receiver of a body in chunks; only how it reads is ours. `part` is what the next line must be."""

    part, held, left = "size", b"", 0

    def received(self, data: bytes) -> int:
        """Take some bytes; how many of them belong to this body."""
        self.held += data
        while self.held and not self.completed and not self.error:
            if not (self._take_data() if self.left else self._take_line()):
                return len(data)
        beyond, self.held = len(self.held), b""
        return len(data) - beyond

    def _take_data(self) -> bool:
        piece, self.held = self.held[: self.left], self.held[self.left :]
        self.buf.append(piece)
        self.left -= len(piece)
        return True

    def _take_line(self) -> bool:
        """Take one line; False when its end has not come yet."""
        line, end, rest = self.held.partition(b"\r\n")
        if len(line) > LINE_MAXIMUM:
            self.error = BadRequest("")
        elif not end:
            return False
        else:
            self.held = rest
            if not getattr(self, f"_take_{self.part}")(line):
                self.error = BadRequest("")
        return True

    def _take_size(self, line: bytes) -> bool:
        found = SIZE_LINE.fullmatch(line)
        if found:
            self.left = int(found[1], 16)
            self.part = "end" if self.left else "trailer"
        return bool(found)

    def _take_end(self, line: bytes) -> bool:
        self.part = "size"
        return not line

    def _take_trailer(self, line: bytes) -> bool:
        self.completed = not line
        found = TRAILER_LINE.fullmatch(line)
        return not line or bool(found and found[1].lower() not in NO_TRAILERS)
