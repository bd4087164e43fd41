"""A thread for work that the hook's loop must not do: read files of other users, unseal, compose sample mails.

The loop accepts events, so it never opens a file that a different user can write: reading such a file may take any time.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from device_ui.errors import RequestError

log = logging.getLogger(__name__)

# Requests of one user that wait for the thread: a client that requests and disconnects must not fill the memory.
WAITING_MAXIMUM = 4

Result = TypeVar("Result")


class Job(Generic[Result]):
    """A piece of work for a user, and its result or error."""

    def __init__(self, work: Callable[[], Result], user: int) -> None:
        self._work, self.user = work, user
        self._result: Result | None = None
        self._error: BaseException | None = None
        self.is_done = False

    def run(self) -> None:
        """Do the work; never raises."""
        try:
            self._result = self._work()
        # Of any kind: the thread must survive a fault in one job. The loop raises the error where it answers the request.
        except Exception as error:
            self._error = error
        # Last: the loop reads the result as soon as it is true.
        self.is_done = True

    def result(self) -> Result | None:
        """Return the result of the work, None while it is not done. Raises the error of the work."""
        if self._error is not None:
            raise self._error
        return self._result


class Background:
    """One thread, started with the first job, that does the jobs in order. `wake` is called after each."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._jobs: queue.SimpleQueue[Job[Any]] = queue.SimpleQueue()
        # The waiting jobs of each user; the loop adds, the thread removes.
        self._waiting: Counter[int] = Counter()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def begin(self, work: Callable[[], Result], user: int) -> Iterator[Result | None]:
        """Start `work`; yield None until it is done, then its result. Raises `RequestError`, and the errors of the work."""
        if self._waiting[user] >= WAITING_MAXIMUM:
            raise RequestError("busy", "this user asks for too much already")
        self._start()
        job = Job(work, user)
        with self._lock:
            self._waiting[user] += 1
        self._jobs.put(job)
        return _awaited(job)

    def _start(self) -> None:
        if self._thread is not None:
            return
        thread = threading.Thread(target=self._run, name="background", daemon=True)
        try:
            # Started with the first job: most hooks end before anyone reads the history, and a thread costs memory.
            thread.start()
        except RuntimeError as error:  # the system gives no thread (TasksMax)
            log.error("request refused: %s", error)
            raise RequestError("exhausted", "the system has no room for this now; try again later") from error
        self._thread = thread

    def _run(self) -> None:
        while True:
            job = self._jobs.get()
            job.run()
            with self._lock:
                self._waiting[job.user] -= 1
            self._wake()


def _awaited(job: Job[Result]) -> Iterator[Result | None]:
    while not job.is_done:
        yield None
    yield job.result()
