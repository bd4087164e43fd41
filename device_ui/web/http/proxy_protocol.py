"""A connection of the proxy that terminates TLS, and the client address that the proxy reports.

nginx reports it in header fields of every request. stunnel sends one line of the PROXY protocol before the first
request; all bytes after that line are the client's own.
"""

from __future__ import annotations

import re

from device_ui.web import client_address
from device_ui.web.http.connection import Channel

# The PROXY protocol, version 1 (haproxy's proxy-protocol.txt, 2.1).
PREFACE, PREFACE_MAXIMUM = b"PROXY ", 107
PREFACE_LINE = re.compile(
    rb"PROXY TCP[46] ([0-9A-Fa-f:.]{2,45}) [0-9A-Fa-f:.]{2,45} ([0-9]{1,5}) [0-9]{1,5}\r\n", re.ASCII
)


class UnixChannel(Channel):
    """A connection on a Unix socket."""

    # Bytes that may begin the line; None once the connection's kind is known.
    _preface: bytes | None = b""

    def received(self, data: bytes) -> bool:
        """Take bytes of requests, after the proxy's line if there is one."""
        if self._preface is None:
            return super().received(data)
        # Only the first bytes of a connection can be the proxy's line. Later ones are the client's: it must not name an address.
        begin = self._preface + data
        line, end, rest = begin.partition(b"\n")
        if not begin.startswith(PREFACE[: len(begin)]):
            self._preface, rest = None, begin
        elif not end and len(begin) <= PREFACE_MAXIMUM:
            self._preface = begin
            return True
        elif not self._read_preface(line + end):
            self._preface, rest = None, begin
        return super().received(rest) if rest else True

    def _read_preface(self, line: bytes) -> bool:
        """Take the client's address from the line; return False when it is none of the protocol."""
        found = PREFACE_LINE.fullmatch(line)
        address = client_address.plain(found[1].decode()) if found else client_address.UNKNOWN
        if found is None or address == client_address.UNKNOWN:
            return False
        # stunnel sends this line, and only for connections that it has decrypted.
        self._preface, self.is_tls = None, True
        # At the accept the client was not known yet, so its limits are applied now.
        self.is_evicted = not self.server.make_room(client_address.network(address))
        self.addr = (address, int(found[2]))
        self.set_client(client_address.network(address))
        return True
