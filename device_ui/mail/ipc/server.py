"""The server of the hook's socket: a request is one line, its answer one line or more; ``accepted N`` means on flash.

Lines that arrive together share one commit. Every line is answered: its length is bounded, and an unknown word is an error.
A long answer is sent as fast as its client reads, between the answers of other clients.

Between ``accepted N`` and the mail server's 250: `IpcServer._answer` commits the event (`outbox.Outbox.accept`), sends the
answer and wakes `delivery.worker`. The worker lets `delivery.batching` decide the next mail, commits that decision, sends the
mail by `delivery.sender` and `smtp.client`, and commits the result.

A line has two spellings, so that a shell needs no JSON:

    event 303 text to the end of the line            accepted 1742  |  error WORD reason
    {"do": "event", "code": "303", "text": "…"}      {"accepted": 1742}  |  {"error": "WORD", "reason": "…"}
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from device_ui.errors import NotStored, RequestError
from device_ui.mail.events import Event
from device_ui.mail.ipc.connection import LINE_MAXIMUM, ClientConnection, ClientConnections
from device_ui.mail.ipc.protocol import encode, from_json, from_words
from device_ui.mail.ipc.requests import RequestHandler, Worker
from device_ui.mail.outbox.outbox import Outbox

log = logging.getLogger(__name__)

# Lines after which other connections wait for the next turn: a bound of memory.
BATCH_MAXIMUM = 1000
# The answer to a request that failed by a fault of this program. An event that is answered so was not accepted.
FAULT = {"error": "fault", "reason": "the mail service had a fault; its log has the details"}


@dataclass(frozen=True)
class Pending:
    """A line and its answer; an event is answered after its commit."""

    connection: ClientConnection
    as_json: bool
    answer: Mapping[str, Any] | Event


class IpcServer:
    """The loop over the `connections`. It stores events in `outbox` and then wakes the `worker`."""

    def __init__(
        self, connections: ClientConnections, outbox: Outbox, requests: RequestHandler, worker: Worker
    ) -> None:
        self._connections, self._outbox, self._requests, self._worker = connections, outbox, requests, worker

    def stop(self) -> None:
        """Make `serve` return. May be called from a signal handler or another thread."""
        self._connections.stop()

    def wake_at_signals(self) -> None:
        """Let a signal end a wait of `serve`, so that its handler runs. For the main thread alone."""
        self._connections.wake_at_signals()

    def wake(self) -> None:
        """Continue long answers: one has a new line. May be called from any thread."""
        self._connections.wake()

    def serve(self, idle_seconds: float | None = None, is_idle: Callable[[], bool] = lambda: True) -> bool:
        """Answer until `stop`, or until `idle_seconds` without a connection while `is_idle`. Return whether it was idle.

        Connections after that stay queued in the socket; its owner (systemd) starts a new process for them.
        """
        is_over = False
        while not self._connections.is_stopping and not is_over:
            # The worker is asked last: it may have begun a mail while this thread waited.
            is_over = not self.turn(idle_seconds) and not self._connections and is_idle()
        self._connections.close()
        return is_over

    def turn(self, seconds: float | None = None) -> bool:
        """Wait for lines and answer them, with one commit for all events. Return False if none came in `seconds`."""
        pending: list[Pending] = []

        def receive(connection: ClientConnection) -> None:
            # What is not read now stays in the client's socket, and is ready at the next turn.
            if len(pending) < BATCH_MAXIMUM:
                connection.receive()
                pending.extend(self._take(connection))

        # A line that was read waits in memory: the selector does not report it.
        has_line = any(each.has_line for each in self._connections)
        is_busy = self._connections.turn(0 if has_line else seconds, receive) or has_line
        self._answer(pending)
        self._continue()
        return is_busy

    def _take(self, connection: ClientConnection) -> list[Pending]:
        """Take lines in order, up to a request other than an event: such requests cost more, and other clients wait meanwhile."""
        pending: list[Pending] = []
        is_costly = False
        while not is_costly and (line := connection.take_line()) is not None:
            # The first character decides, so that the answer has the spelling of the request.
            as_json = line.lstrip().startswith(b"{")
            try:
                answer = self._handle(line, as_json, connection)
                is_costly = not isinstance(answer, Event)
            except Exception as error:  # a fault in one request must not keep others from raising events
                answer = _error(error)
            if isinstance(answer, Iterator):
                # Its first lines are made in `_continue`, after the events of this turn are committed.
                connection.start(_encoded(answer))
            else:
                pending.append(Pending(connection, as_json, answer))
        return pending

    def _handle(
        self, line: bytes, as_json: bool, connection: ClientConnection
    ) -> Mapping[str, Any] | Event | Iterator[Mapping[str, Any] | None]:
        if len(line) > LINE_MAXIMUM:
            raise RequestError("bad-request", f"a line has {LINE_MAXIMUM} bytes at most")
        return self._requests.handle(from_json(line) if as_json else from_words(line), connection.peer)

    def _answer(self, pending: list[Pending]) -> None:
        # One fsync for all: on slow flash a thousand of them could take minutes.
        accepted = self._accept([each.answer for each in pending if isinstance(each.answer, Event)])
        answers = iter(accepted)
        for each in pending:
            answer = next(answers) if isinstance(each.answer, Event) else each.answer
            each.connection.answer(encode(answer, each.as_json))
        for connection in {id(each.connection): each.connection for each in pending}.values():
            self._connections.flush(connection)
        # Not before the answers are sent: the worker takes the processor, and the firmware waits for its answer.
        if any("accepted" in each for each in accepted):
            self._worker.wake()

    def _continue(self) -> None:
        """Send the next lines of long answers, and answer the lines that waited."""
        for connection in self._connections:
            if connection.is_answering:
                connection.advance()
                self._answer(self._take(connection))
                self._connections.flush(connection)

    def _accept(self, events: list[Event]) -> list[Mapping[str, Any]]:
        """Commit events. Return the answer to each, in order."""
        if not events:
            return []
        # Before the commit, so that the first event of an idle device is assigned to its mail in the same commit.
        singles = self._worker.choose_singles(events)
        try:
            numbers = self._outbox.accept(events, singles)
        except NotStored as error:
            users = {each.user for each in events}
            if len(users) > 1:  # the reserve has a share for each
                return self._accept_by_user(events, sorted(users))
            log.error("%d events not accepted: %s", len(events), error.reason)
            return [_error(error)] * len(events)
        self._worker.add(list(zip(numbers, events, singles, strict=True)))
        return [{"accepted": number} for number in numbers]

    def _accept_by_user(self, events: list[Event], users: list[int]) -> list[Mapping[str, Any]]:
        answers = {user: iter(self._accept([each for each in events if each.user == user])) for user in users}
        return [next(answers[each.user]) for each in events]


def _error(error: Exception) -> Mapping[str, Any]:
    """Return the answer to a request that failed."""
    if isinstance(error, RequestError):
        return error.as_answer()
    if isinstance(error, NotStored):  # of any request: the state is read from the database, too
        return {"error": "not-stored", "reason": error.reason}
    # The client gets no detail: it may be any program of the device.
    log.error("request failed", exc_info=error)
    return FAULT


def _encoded(answer: Iterator[Mapping[str, Any] | None]) -> Generator[bytes | None, None, None]:
    """Return the lines of a long answer for `ClientConnection.start`; an error is its last line."""
    try:
        for line in answer:
            yield encode(line, as_json=True) if line else line if line is None else b""
    except Exception as error:
        yield encode(_error(error), as_json=True)
    finally:
        if isinstance(answer, Generator):
            answer.close()
