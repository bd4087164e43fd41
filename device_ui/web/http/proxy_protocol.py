"""A connection of the proxy that ends TLS, and what it tells of the client.

nginx tells it in header fields of every request, stunnel in one line before the first; what comes after that line is
the client's own word, and no proxy's.
"""

from __future__ import annotations

import re

from device_ui.web import client_address
from device_ui.web.http.connection import Channel

# The PROXY protocol, version 1 (haproxy's proxy-protocol.txt, 2.1): stunnel tells the client in one line.
PREFACE, PREFACE_MAXIMUM = b"PROXY ", 107
PREFACE_LINE = re.compile(
    rb"PROXY TCP[46] ([0-9A-Fa-f:.]{2,45}) [0-9A-Fa-f:.]{2,45} ([0-9]{1,5}) [0-9]{1,5}\r\n", re.ASCII
)


class UnixChannel(Channel):
    """A connection on a Unix socket."""

    _preface: bytes | None = b""

    def received(self, data: bytes) -> bool:
        """Bytes of requests, perhaps after that line."""
        if self._preface is None:
            return super().received(data)
        begin = self._preface + data
        line, end, rest = begin.partition(b"\n")
        if not begin.startswith(PREFACE[: len(begin)]):
            self._preface, rest = None, begin
        elif not end and len(begin) <= PREFACE_MAXIMUM:
            self._preface = begin
            return True
        elif not self._introduced(line + end):
            self._preface, rest = None, begin
        return super().received(rest) if rest else True

    def _introduced(self, line: bytes) -> bool:
        found = PREFACE_LINE.fullmatch(line)
        address = client_address.plain(found[1].decode()) if found else client_address.UNKNOWN
        if found is None or address == client_address.UNKNOWN:
            return False
        self._preface, self.is_tls = None, True
        self.is_doomed = not self.server.has_room(client_address.network(address))
        self.addr = (address, int(found[2]))
        self.belong(client_address.network(address))
        return True
