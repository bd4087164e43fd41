"""From a mail server's name to a connected socket: the steps name, address and connect; every address gets its turn."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from device_ui.errors import Message, Text
from device_ui.mail.smtp.address_policy import AddressInfo, Resolver, is_bound_here, is_here, is_own, look_up_within
from device_ui.mail.smtp.connection import Deadline
from device_ui.mail.smtp.outcome import SessionError, at
from device_ui.mail.smtp.redaction import quoted

# Of several addresses that fail, the one whose problem says the most is told: a dead IPv6 route says the least.
MOST_TELLING = ("not allowed", "refused", "silent")


@dataclass(frozen=True)
class Dial:
    """How to reach `port` of `host`: `seconds` are for one address, `deadline` is for all; `passed` hears of the steps."""

    host: str
    port: int
    resolver: Resolver
    allow_loopback: bool
    deadline: Deadline
    seconds: float
    passed: Callable[[str, Text], None]

    def connect(self) -> tuple[socket.socket, AddressInfo, Message]:
        """A connected socket, the address it ended at, and both in words. Raises `SessionError`."""
        failed: dict[str, SessionError] = {}
        for info in self._usable(self._found()):
            try:
                with at("connect"):
                    sock = self._connected(info)
            except SessionError as stopped:
                # Without its traceback, which would keep this frame, and the password's pieces behind `passed`, for long.
                failed[str(info[4][0])] = SessionError(stopped.step, stopped.problem, stopped.reply)
                continue
            template = "{host} port {port}, after {failed}" if failed else "{host} port {port}"
            return sock, info, Message(template, host=info[4][0], port=self.port, failed=_told(failed))
        most = min(failed.values(), key=_place)
        differ = len({each.reply for each in failed.values()}) > 1
        raise SessionError(most.step, most.problem, _told(failed) if differ else most.reply)

    def _found(self) -> list[AddressInfo]:
        with at("name"):
            # As long as two addresses may take: a resolver asks its name servers in turn.
            seconds = self.deadline.left(2 * self.seconds)
        found = _looked_up(self.resolver, self.host, self.port, seconds)
        self.passed("name", _texts(found))
        return found

    def _usable(self, found: Sequence[AddressInfo]) -> list[AddressInfo]:
        usable = [each for each in found if self.allow_loopback or not _leads_here(each)]
        if not usable:
            raise SessionError("address", "not allowed", "the mail server's name leads to this device itself")
        own = _texts([each for each in found if each not in usable])
        is_own = Message("{usable}; not used, since it is this device itself: {own}", usable=_texts(usable), own=own)
        self.passed("address", is_own if own else _texts(usable))
        return usable

    def _connected(self, info: AddressInfo) -> socket.socket:
        sock = socket.socket(*info[:3])
        try:
            sock.settimeout(self.deadline.left(self.seconds))
            sock.connect(info[4])
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # The connected address decides, not the name.
            if not self.allow_loopback and is_here(sock):
                raise SessionError("address", "not allowed", "the mail server's address is this device itself")
            return sock
        except BaseException:
            sock.close()
            raise


def _looked_up(resolver: Resolver, host: str, port: int, seconds: float) -> list[AddressInfo]:
    try:
        found = look_up_within(resolver, host, port, seconds)
    except TimeoutError as error:
        raise SessionError("name", "silent", str(error)) from error
    except (OSError, UnicodeError, ValueError) as error:
        # EAI_AGAIN: nobody could be asked, as at every boot before the network is there.
        problem = "silent" if getattr(error, "errno", None) == socket.EAI_AGAIN else "unknown name"
        raise SessionError("name", problem, str(error.args[-1] if error.args else error)) from error
    if not found:
        raise SessionError("name", "unknown name", "the name has no address")
    return found


def _leads_here(info: AddressInfo) -> bool:
    return is_own(info[4][0]) or is_bound_here(info[0], info[4])


def _texts(found: Sequence[AddressInfo]) -> str:
    return ", ".join(dict.fromkeys(str(info[4][0]) for info in found))


def _told(failed: Mapping[str, SessionError]) -> str:
    return quoted("; ".join(f"{address}: {stopped.reply}" for address, stopped in failed.items()))


def _place(stopped: SessionError) -> int:
    return MOST_TELLING.index(stopped.problem) if stopped.problem in MOST_TELLING else len(MOST_TELLING)
