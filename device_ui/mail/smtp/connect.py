"""Connect to a server by name: the steps name, address and connect; each address is tried in turn."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from typing import Protocol

from device_ui.errors import Message, Text
from device_ui.mail.smtp.address_policy import (
    AddressInfo,
    Resolver,
    is_bound_here,
    is_here,
    is_own,
    look_up_within,
)
from device_ui.mail.smtp.connection import Deadline, translate_errors
from device_ui.mail.smtp.outcome import SessionError, SmtpProblem, Step
from device_ui.mail.smtp.redaction import sanitize_reply

# What getaddrinfo(3) reports when it found out nothing of the name. EAI_AGAIN: no name server answered, as at every boot before
# the network is up.
LOOKUP_FAILURES = {
    socket.EAI_AGAIN: SmtpProblem.SILENT,
    socket.EAI_FAIL: SmtpProblem.BROKEN,
    socket.EAI_MEMORY: SmtpProblem.BROKEN,
    socket.EAI_SYSTEM: SmtpProblem.BROKEN,
}
# When several addresses fail, the most specific problem is reported: a dead IPv6 route says the least.
MOST_SPECIFIC = (SmtpProblem.NOT_ALLOWED, SmtpProblem.REFUSED, SmtpProblem.SILENT)


class Opening(Protocol):
    """A connection that is to be opened, such as `connection.Connection`."""

    deadline: Deadline

    def attach(self, sock: socket.socket) -> None:
        """Use this socket."""

    def report(self, step: Step, details: Text) -> None:
        """Report a step that succeeded."""


def connect(
    connection: Opening,
    host: str,
    port: int,
    *,
    resolver: Resolver,
    allow_loopback: bool,
    seconds: float,
) -> AddressInfo:
    """Open `connection` to `port` of `host`, with `seconds` for each address; return the address. Raises `SessionError`.

    Unless `allow_loopback`, no address of this device is used.
    """
    found = _resolve(connection, host, port, resolver, seconds)
    usable = [each for each in found if allow_loopback or not _leads_here(each)]
    if not usable:
        raise SessionError(
            Step.ADDRESS,
            SmtpProblem.NOT_ALLOWED,
            "the mail server's name leads to this device itself, or to an address that no mail server has",
        )
    # A name with an address of this device beside others is shown as such: it is a mistake in the name server, or an attack.
    own = _texts([each for each in found if each not in usable])
    skipped = Message(
        "{usable}; not used, since it is this device itself, or an address that no mail server has: {own}",
        usable=_texts(usable),
        own=own,
    )
    connection.report(Step.ADDRESS, skipped if own else _texts(usable))
    failed: dict[str, SessionError] = {}
    # In the order of getaddrinfo(3) (RFC 6724): a client has to try each address in turn (RFC 5321, section 5.1).
    for info in usable:
        try:
            with translate_errors(Step.CONNECT):
                sock = _connected(info, connection.deadline.left(seconds), allow_loopback)
        except SessionError as error:
            # A copy without the traceback, which would keep these frames, and with them the password, in memory.
            failed[str(info[4][0])] = SessionError(error.step, error.problem, error.reply)
            continue
        connection.attach(sock)
        template = "{host} port {port}, after {failed}" if failed else "{host} port {port}"
        connection.report(
            Step.CONNECT,
            Message(template, host=info[4][0], port=port, failed=_reasons(failed)),
        )
        return info
    specific = min(failed.values(), key=_specificity)
    differ = len({each.reply for each in failed.values()}) > 1
    raise SessionError(specific.step, specific.problem, _reasons(failed) if differ else specific.reply)


def _resolve(connection: Opening, host: str, port: int, resolver: Resolver, seconds: float) -> list[AddressInfo]:
    with translate_errors(Step.NAME):
        # As long as two addresses may take: a resolver asks its name servers in turn.
        seconds = connection.deadline.left(2 * seconds)
    try:
        found = look_up_within(resolver, host, port, seconds)
    except TimeoutError as error:
        raise SessionError(Step.NAME, SmtpProblem.SILENT, str(error)) from error
    except (OSError, UnicodeError, ValueError) as error:
        raise SessionError(
            Step.NAME,
            _problem_of_name(error),
            str(error.args[-1] if error.args else error),
        ) from error
    if not found:
        raise SessionError(Step.NAME, SmtpProblem.UNKNOWN_NAME, "the name has no address")
    connection.report(Step.NAME, _texts(found))
    return found


def _problem_of_name(error: Exception) -> SmtpProblem:
    if not isinstance(error, OSError):  # no name can be spelt so
        return SmtpProblem.UNKNOWN_NAME
    return LOOKUP_FAILURES.get(error.errno or 0, SmtpProblem.UNKNOWN_NAME)


def _connected(info: AddressInfo, seconds: float, allow_loopback: bool) -> socket.socket:
    sock = socket.socket(*info[:3])
    try:
        sock.settimeout(seconds)
        sock.connect(info[4])
        # The short last segment of a mail must not wait for the acknowledgement of the one before (Nagle's algorithm, RFC
        # 896).
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # The connected address decides, not the name.
        if not allow_loopback and is_here(sock):
            raise SessionError(
                Step.ADDRESS,
                SmtpProblem.NOT_ALLOWED,
                "the mail server's address is this device itself",
            )
        return sock
    except BaseException:
        sock.close()
        raise


def _leads_here(info: AddressInfo) -> bool:
    return is_own(info[4][0]) or is_bound_here(info[0], info[4])


def _texts(found: Sequence[AddressInfo]) -> str:
    return ", ".join(dict.fromkeys(str(info[4][0]) for info in found))


def _reasons(failed: Mapping[str, SessionError]) -> str:
    return sanitize_reply("; ".join(f"{address}: {error.reply}" for address, error in failed.items()))


def _specificity(error: SessionError) -> int:
    return MOST_SPECIFIC.index(error.problem) if error.problem in MOST_SPECIFIC else len(MOST_SPECIFIC)
