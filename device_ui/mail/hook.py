"""The mail hook's socket: one line in, one line out. ``accepted N`` goes out only when the event is on flash.

The socket is open to everybody on the device; who may ask what is decided by the peer's credentials (SO_PEERCRED,
SO_PEERGROUPS), which the kernel vouches for. Lines that arrive together share one commit. Whatever comes in is
answered or refused: lines, connections and buffers are bounded, and an unknown word is an error and not a crash.

Two spellings of a line, so that a shell needs no JSON:

    event 303 text to the end of the line            accepted 1742  |  error WORD reason
    {"do": "event", "code": "303", "text": "…"}      {"accepted": 1742}  |  {"error": "WORD", "reason": "…"}
"""

from __future__ import annotations

import contextlib
import grp
import json
import logging
import os
import pwd
import re
import selectors
import socket
import struct
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from device_ui.errors import NotStored
from device_ui.mail.catalog import CODE_PATTERN, MESSAGE, Catalog
from device_ui.mail.client import reachable
from device_ui.mail.outbox import Event, Outbox
from device_ui.mail.postman import Postman

log = logging.getLogger(__name__)

# 4,000 characters that a JSON library spells in ASCII (12 bytes for one beyond the first plane) fit into a line.
LINE_MAXIMUM = 64 * 1024
UNREAD_MAXIMUM = 64 * 1024
CONNECTIONS_MAXIMUM = 64
# Bytes read from one caller at a time, and lines after which the others wait for the next turn: bounds of memory.
READ_MAXIMUM, BATCH_MAXIMUM = 16 * 1024, 1000
# Characters of an event that are kept; a longer text is cut and says so, it is never a reason to lose an alarm.
TEXT_MAXIMUM, MESSAGE_MAXIMUM, SOURCE_MAXIMUM = 4000, 10_000, 100
CUT = " […]"
# A mail can be dated in any of these years, in any zone.
YEARS = (1970, 9998)
# RFC 3339, 5.6, whose note allows the blank; fromisoformat alone takes weeks, commas and much else.
TIME_PATTERN = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?(?:[Zz]|[+-][0-9]{2}:[0-9]{2})"
)
# asm-generic/socket.h; Python has no name for it.
SO_PEERGROUPS = 59
# Python hands out buffers of 1024 bytes at most, four for a group.
GROUPS_MAXIMUM = 256

# What each kind of caller may ask for.
EVENT_ONLY = frozenset({"event"})
EVERYTHING = frozenset({"event", "state", "settings-changed"})


class Refused(Exception):
    """A line that is answered with an error: `word` and a `reason` for a person."""

    def __init__(self, word: str, reason: str) -> None:
        super().__init__(reason)
        self.word, self.reason = word, reason


@dataclass
class Caller:
    """One connection: what it `may` ask, what was read of a line, what it has not read yet."""

    sock: socket.socket
    may: frozenset[str]
    heard: float
    incoming: bytearray = field(default_factory=bytearray)
    outgoing: bytearray = field(default_factory=bytearray)
    ending: bool = False


@dataclass(frozen=True)
class Pending:
    """A line whose answer is on its way: for an event it waits for the commit."""

    caller: Caller
    as_json: bool
    answer: Mapping[str, Any] | Event


class Permissions:
    """Who may ask what: root and the hook's own user everything, the web's user too, the group's members events."""

    def __init__(self, web_user: str, event_group: str) -> None:
        self._everything = {0, os.geteuid()}
        with contextlib.suppress(KeyError):
            self._everything.add(pwd.getpwnam(web_user).pw_uid)
        self._event_group: int | None = None
        with contextlib.suppress(KeyError):
            self._event_group = grp.getgrnam(event_group).gr_gid

    def of(self, sock: socket.socket) -> frozenset[str]:
        """What the process at the other end may ask for."""
        _, user, group = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if user in self._everything:
            return EVERYTHING
        if self._event_group is not None and self._event_group in {group, *peer_groups(sock)}:
            return EVENT_ONLY
        return frozenset()


def peer_groups(sock: socket.socket) -> tuple[int, ...]:
    """The supplementary groups of the process at the other end; none where the kernel does not tell."""
    try:
        raw = sock.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, 4 * GROUPS_MAXIMUM)
    except OSError:
        return ()
    return struct.unpack(f"{len(raw) // 4}I", raw)


def listen(path: Path) -> socket.socket:
    """Open the hook's socket for everybody on the device; what an earlier run left there is replaced."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with reachable(path) as address:
        sock.bind(address)
    path.chmod(0o666)
    sock.listen(128)
    return sock


class Hook:
    """The daemon's loop over `listener`. Events go to `outbox`; `postman` is told of what concerns it."""

    def __init__(
        self,
        listener: socket.socket,
        outbox: Outbox,
        catalog: Catalog,
        postman: Postman,
        permissions: Permissions,
        *,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._listener, self._outbox, self._catalog, self._postman = listener, outbox, catalog, postman
        self._permissions, self._wall = permissions, wall
        self._callers: dict[int, Caller] = {}
        self._selector = selectors.DefaultSelector()
        self._wakeup, self._stop = socket.socketpair()
        self._stopping = False
        listener.setblocking(False)
        for sock in (listener, self._wakeup):
            self._selector.register(sock, selectors.EVENT_READ)

    def stop(self) -> None:
        """Let `serve` come to its end. May be called from a signal handler or another thread."""
        self._stopping = True
        with contextlib.suppress(OSError):  # a second signal, when all is closed
            self._stop.send(b"x")

    def serve(self) -> None:
        """Answer until `stop`."""
        while not self._stopping:
            self.turn()
        for caller in list(self._callers.values()):
            self._leave(caller)
        self._selector.close()
        for sock in (self._listener, self._wakeup, self._stop):
            sock.close()

    def turn(self) -> None:
        """Wait for something to do and do it: one commit for all events that are there."""
        pending: list[Pending] = []
        for key, mask in sorted(self._selector.select(), key=self._silence):
            if key.fileobj is self._listener:
                self._welcome()
            elif key.fd in self._callers:
                caller = self._callers[key.fd]
                if mask & selectors.EVENT_READ and len(pending) < BATCH_MAXIMUM:
                    pending += self._hear(caller)
                if mask & selectors.EVENT_WRITE:
                    self._flush(caller)
        self._answer(pending)

    def _silence(self, ready: tuple[selectors.SelectorKey, int]) -> float:
        # Whoever was heard longest ago comes first, so that a flood from one caller silences no other; newcomers come
        # last, so that nobody who has just spoken has to leave for them.
        caller = self._callers.get(ready[0].fd)
        return caller.heard if caller else float("inf")

    def _welcome(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except BlockingIOError:  # the caller has gone already
            return
        except OSError as error:  # out of descriptors: somebody must make room, or the newcomer knocks for ever
            log.warning("a caller could not be heard: %s", error.strerror)
            self._leave_quietest()
            return
        if len(self._callers) >= CONNECTIONS_MAXIMUM:
            self._leave_quietest()
        sock.setblocking(False)
        caller = Caller(sock, self._permissions.of(sock), time.monotonic())
        self._callers[sock.fileno()] = caller
        self._selector.register(sock, selectors.EVENT_READ)

    def _hear(self, caller: Caller) -> list[Pending]:
        try:
            chunk = caller.sock.recv(READ_MAXIMUM)
        except BlockingIOError:
            return []
        except OSError:
            chunk = b""
        caller.heard = time.monotonic()
        caller.incoming += chunk
        *lines, rest = bytes(caller.incoming).split(b"\n")
        if not chunk and rest:
            lines, rest = [*lines, rest], b""  # a shell's printf may end without a line end
        caller.incoming = bytearray(rest)
        pending = [self._understand(caller, line) for line in lines if line.strip()]
        if len(rest) > LINE_MAXIMUM:
            answer = {"error": "bad-request", "reason": f"a line has {LINE_MAXIMUM} bytes at most"}
            pending.append(Pending(caller, rest.lstrip().startswith(b"{"), answer))
        if not chunk or len(rest) > LINE_MAXIMUM:
            self._hang_up_after(caller)
        return pending

    def _hang_up_after(self, caller: Caller) -> None:
        caller.ending = True
        caller.incoming.clear()
        self._selector.modify(caller.sock, selectors.EVENT_WRITE)

    def _understand(self, caller: Caller, line: bytes) -> Pending:
        as_json = line.lstrip().startswith(b"{")
        try:
            if len(line) > LINE_MAXIMUM:
                raise Refused("bad-request", f"a line has {LINE_MAXIMUM} bytes at most")
            request = _from_json(line) if as_json else _from_words(line)
            return Pending(caller, as_json, self._obey(caller, request))
        except Refused as refused:
            return Pending(caller, as_json, {"error": refused.word, "reason": refused.reason})
        except NotStored as error:  # even the state needs a ledger that can be read
            return Pending(caller, as_json, {"error": "not-stored", "reason": error.reason})

    def _obey(self, caller: Caller, request: Mapping[str, Any]) -> Mapping[str, Any] | Event:
        do = request.get("do")
        if not isinstance(do, str) or do not in EVERYTHING:
            raise Refused("bad-request", "unknown word")
        if do not in caller.may:
            raise Refused("denied", "this user may not ask for that")
        if do == "event":
            return self._event(request)
        if do == "settings-changed":
            self._postman.settings_changed()
            return {"ok": True}
        return {"state": self._postman.state()}

    def _event(self, request: Mapping[str, Any]) -> Event:
        values = {name: request.get(name, "") for name in ("code", "text", "source", "time")}
        if not all(isinstance(value, str) for value in values.values()):
            raise Refused("bad-request", "code, text, source and time are texts")
        if not CODE_PATTERN.fullmatch(values["code"]):
            raise Refused("bad-request", "a code has three digits")
        now = self._wall()
        kind = self._catalog[values["code"]]
        return Event(
            code=kind.code,
            type=kind.type,
            time=seconds(values["time"]) if values["time"] else now,
            accepted=now,
            source=cleaned(values["source"].replace("\n", " "), SOURCE_MAXIMUM),
            text=cleaned(values["text"], MESSAGE_MAXIMUM if kind.code == MESSAGE.code else TEXT_MAXIMUM),
            waiting=kind.mail,
        )

    def _answer(self, pending: list[Pending]) -> None:
        events = [each.answer for each in pending if isinstance(each.answer, Event)]
        answers = iter(self._accept(events))
        for each in pending:
            answer = next(answers) if isinstance(each.answer, Event) else each.answer
            each.caller.outgoing += _spelt(answer, each.as_json)
        for caller in {id(each.caller): each.caller for each in pending}.values():
            self._flush(caller)

    def _accept(self, events: list[Event]) -> list[Mapping[str, Any]]:
        if not events:
            return []
        try:
            numbers = self._outbox.accept(events)
        except NotStored as error:
            log.error("%d events not accepted: %s", len(events), error.reason)
            return [{"error": "not-stored", "reason": error.reason}] * len(events)
        self._postman.wake()
        return [{"accepted": number} for number in numbers]

    def _flush(self, caller: Caller) -> None:
        try:
            while caller.outgoing:
                del caller.outgoing[: caller.sock.send(caller.outgoing)]
        except BlockingIOError:
            pass
        except OSError:
            self._leave(caller)
            return
        if (caller.ending and not caller.outgoing) or len(caller.outgoing) > UNREAD_MAXIMUM:
            self._leave(caller)
            return
        if caller.sock.fileno() in self._callers:
            reading = 0 if caller.ending else selectors.EVENT_READ
            writing = selectors.EVENT_WRITE if caller.outgoing or caller.ending else 0
            self._selector.modify(caller.sock, reading | writing)

    def _leave(self, caller: Caller) -> None:
        if self._callers.pop(caller.sock.fileno(), None):
            self._selector.unregister(caller.sock)
            caller.sock.close()

    def _leave_quietest(self) -> None:
        if self._callers:
            self._leave(min(self._callers.values(), key=lambda caller: caller.heard))


def seconds(text: str) -> float:
    """Seconds since 1970 of an RFC 3339 time, which has a zone. Raises `Refused`."""
    # Imported here: most events happen now.
    from datetime import datetime

    try:
        if not TIME_PATTERN.fullmatch(text):
            raise ValueError
        moment = datetime.fromisoformat(text.upper())
        if not YEARS[0] <= moment.year <= YEARS[1]:
            raise ValueError
        return moment.timestamp()
    except (ValueError, OverflowError):
        raise Refused("bad-request", "a time is written as in RFC 3339, with a zone: 2026-11-23T14:03:22Z") from None


def cleaned(text: str, maximum: int) -> str:
    """A text that can be stored, shown and mailed: no control characters but the line end, not too long."""
    text = text.replace("\r\n", "\n").replace("\t", " ").encode("utf-8", "replace").decode()
    text = "".join(
        each if each == "\n" or (each >= " " and not "\x7f" <= each <= "\x9f") else "\ufffd" for each in text
    )
    return text if len(text) <= maximum else text[: maximum - len(CUT)] + CUT


def _from_json(line: bytes) -> Mapping[str, Any]:
    try:
        # A text that was cut within a character is still an alarm.
        request = json.loads(line.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        raise Refused("bad-request", "this is no JSON") from None
    if not isinstance(request, dict):
        raise Refused("bad-request", "a request is a JSON object")
    return request


def _from_words(line: bytes) -> Mapping[str, Any]:
    words = line.decode("utf-8", "replace").strip().split(maxsplit=2)
    if words[:1] != ["event"]:  # there may be none: Unicode has more blanks than bytes.strip knows
        raise Refused("bad-request", "unknown word")
    code, text = (*words[1:], "", "")[:2]
    return {"do": "event", "code": code, "text": text}


def _spelt(answer: Mapping[str, Any], as_json: bool) -> bytes:
    if as_json:
        return json.dumps(answer).encode() + b"\n"
    if "error" in answer:
        return f"error {answer['error']} {answer['reason']}\n".encode()
    return f"accepted {answer['accepted']}\n".encode()
