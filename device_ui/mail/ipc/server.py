"""What the mail hook answers: one line in, one line or more out, ``accepted N`` only when the event is on flash.

Lines that arrive together share one commit. Whatever comes in is answered or refused: a line is bounded, and an unknown
word is an error and not a crash. A long answer is sent as fast as its reader reads, between the lines of the others. Who
is connected, and what each may leave unread, is the matter of `callers`.

Two spellings of a line, so that a shell needs no JSON:

    event 303 text to the end of the line            accepted 1742  |  error WORD reason
    {"do": "event", "code": "303", "text": "…"}      {"accepted": 1742}  |  {"error": "WORD", "reason": "…"}
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from device_ui.errors import NotStored, RequestError
from device_ui.mail.events import Event
from device_ui.mail.ipc.connection import UNREAD_MAXIMUM, ClientConnection, ClientConnections
from device_ui.mail.ipc.protocol import from_json, from_words, spelt
from device_ui.mail.ipc.requests import Answer, RequestHandler, Worker
from device_ui.mail.outbox.outbox import Outbox

log = logging.getLogger(__name__)

# 4,000 characters that a JSON library spells in ASCII (12 bytes for one beyond the first plane) fit into a line.
LINE_MAXIMUM = 64 * 1024
# Lines after which the others wait for the next turn: a bound of memory.
BATCH_MAXIMUM = 1000
# Bytes of a long answer that wait for their reader, and its lines that are made in one turn.
AHEAD_MAXIMUM, LINES_MAXIMUM = 16 * 1024, 50
# What is answered when a request met a fault of ours. An event that is answered so was not accepted.
FAULT = {"error": "fault", "reason": "the mail service had a fault; its log tells more"}


@dataclass(frozen=True)
class Pending:
    """A line whose answer is on its way: for an event it waits for the commit. `is_costly`: to make it took longer than that."""

    caller: ClientConnection
    as_json: bool
    answer: Answer
    is_costly: bool = False


class IpcServer:
    """The daemon's loop over its `callers`. Events go to `outbox`; `postman` is told of what concerns it."""

    def __init__(self, callers: ClientConnections, outbox: Outbox, requests: RequestHandler, postman: Worker) -> None:
        self._callers, self._outbox, self._requests, self._postman = callers, outbox, requests, postman

    def stop(self) -> None:
        """Let `serve` come to its end. May be called from a signal handler or another thread."""
        self._callers.stop()

    def wake(self) -> None:
        """Look again: there is more of a long answer. May be called from any thread."""
        self._callers.wake()

    def serve(self, idle_seconds: float | None = None, is_idle: Callable[[], bool] = lambda: True) -> bool:
        """Answer until `stop`; or until nobody has called for `idle_seconds` and `is_idle`: whether that was it.

        Who calls a moment later waits in the socket's queue, for whoever holds the socket to start a hook again.
        """
        is_over = False
        while not self._callers.is_stopping and not is_over:
            is_over = not self.turn(idle_seconds) and not self._callers and is_idle()
        self._callers.close()
        return is_over

    def turn(self, seconds: float | None = None) -> bool:
        """Wait for something to do and do it: one commit for all events that are there. False: nothing in `seconds`."""
        pending: list[Pending] = []

        def hear(caller: ClientConnection) -> None:
            if len(pending) < BATCH_MAXIMUM:
                pending.extend(self._hear(caller))

        has_more = any(each.later and each.rest is None for each in self._callers)
        is_busy = self._callers.turn(0 if has_more else seconds, hear) or has_more
        self._answer(pending)
        self._go_on()
        return is_busy

    def _hear(self, caller: ClientConnection) -> list[Pending]:
        chunk = self._callers.read(caller)
        if chunk is None:
            return []
        caller.incoming += chunk
        *lines, rest = bytes(caller.incoming).split(b"\n")
        if not chunk and rest:
            lines, rest = [*lines, rest], b""  # a shell's printf may end without a line end
        caller.incoming = bytearray(rest)
        pending = self._understand_all(caller, [line for line in lines if line.strip()])
        if len(rest) > LINE_MAXIMUM:
            answer = {"error": "bad-request", "reason": f"a line has {LINE_MAXIMUM} bytes at most"}
            pending.append(Pending(caller, rest.lstrip().startswith(b"{"), answer))
        if not chunk or len(rest) > LINE_MAXIMUM:
            self._callers.dismiss(caller)
        return pending

    def _understand_all(self, caller: ClientConnection, lines: list[bytes]) -> list[Pending]:
        """Lines in their order, up to one with a long answer, whose end the others wait for; or to a costly one.

        What follows a costly one waits for the next turn: no caller delays the events of others by many of them.
        """
        pending: list[Pending] = []
        while lines and caller.rest is None:
            pending.append(self._understand(caller, lines.pop(0)))
            if isinstance(pending[-1].answer, Iterator):
                caller.rest = pending[-1].answer
            if pending[-1].is_costly:
                break
        caller.later = lines
        return pending

    def _understand(self, caller: ClientConnection, line: bytes) -> Pending:
        as_json = line.lstrip().startswith(b"{")
        try:
            if len(line) > LINE_MAXIMUM:
                raise RequestError("bad-request", f"a line has {LINE_MAXIMUM} bytes at most")
            answer = self._requests.obey(from_json(line) if as_json else from_words(line), caller.peer)
            return Pending(caller, as_json, answer, is_costly=not isinstance(answer, Event))
        except RequestError as refused:
            return Pending(caller, as_json, refused.as_answer())
        except NotStored as error:  # even the state needs a ledger that can be read
            return Pending(caller, as_json, {"error": "not-stored", "reason": error.reason})
        except Exception:  # a fault of ours in one request must not keep others from raising alarms
            log.exception("a request stumbled")
            return Pending(caller, as_json, FAULT)

    def _answer(self, pending: list[Pending]) -> None:
        events = [each.answer for each in pending if isinstance(each.answer, Event)]
        accepted = self._accept(events)
        answers = iter(accepted)
        for each in pending:
            if isinstance(each.answer, Event):
                each.caller.outgoing += spelt(next(answers), each.as_json)
            elif isinstance(each.answer, Mapping):
                each.caller.outgoing += spelt(each.answer, each.as_json)
        for caller in {id(each.caller): each.caller for each in pending}.values():
            self._callers.flush(caller)
        # Only now: the postman would take the processor, and a caller's firmware waits for its answer.
        if any("accepted" in each for each in accepted):
            self._postman.wake()

    def _go_on(self) -> None:
        """Send the next lines of long answers to clients that have read the ones before, and answer requests that waited."""
        for caller in [each for each in self._callers if each.rest is not None or each.later]:
            lines = 0
            while caller.rest is not None and len(caller.outgoing) < AHEAD_MAXIMUM and lines < LINES_MAXIMUM:
                lines += 1
                line = self._next_line(caller)
                caller.is_waiting = line is None and caller.rest is not None
                if not line:
                    break  # nothing yet, or nothing before the others had their turn
                caller.heard = time.monotonic()
                caller.outgoing += spelt(line, as_json=True)
                # One line may be longer than what a caller may leave unread of short answers.
                caller.unread_maximum = max(caller.unread_maximum, len(caller.outgoing) + UNREAD_MAXIMUM)
            self._callers.flush(caller)
            if caller.rest is None and caller.later:
                self._answer(self._understand_all(caller, caller.later))

    def _next_line(self, caller: ClientConnection) -> Mapping[str, Any] | None:
        """The next line of a long answer; None when there is none now, or none any more."""
        try:
            return next(caller.rest) if caller.rest is not None else None
        except StopIteration:
            caller.rest = None
            return None
        except RequestError as refused:
            caller.rest = None
            return refused.as_answer()
        except NotStored as error:
            caller.rest = None
            return {"error": "not-stored", "reason": error.reason}
        except Exception:
            log.exception("a long answer stumbled")
            caller.rest = None
            return FAULT

    def _accept(self, events: list[Event]) -> list[Mapping[str, Any]]:
        if not events:
            return []
        leads = self._postman.leads(events)
        try:
            numbers = self._outbox.accept(events, leads)
        except NotStored as error:
            users = {each.user for each in events}
            if len(users) > 1:  # the reserve has a share for each
                return self._accept_by_user(events, sorted(users))
            log.error("%d events not accepted: %s", len(events), error.reason)
            return [{"error": "not-stored", "reason": error.reason}] * len(events)
        self._postman.learn(list(zip(numbers, events, leads, strict=True)))
        return [{"accepted": number} for number in numbers]

    def _accept_by_user(self, events: list[Event], users: list[int]) -> list[Mapping[str, Any]]:
        answers = {user: iter(self._accept([each for each in events if each.user == user])) for user in users}
        return [next(answers[each.user]) for each in events]
