"""A person signs in at another device (RFC 8628): a code to type at the provider's page, polled for until it is redeemed.

One flow of a device at a time, in a thread of its own. Its state is data for the page: no token and no device code.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from device_ui.errors import DeviceUIError, Message, RequestError, Text
from device_ui.mail.clock import clock_text
from device_ui.mail.oauth.outcome import TokenError
from device_ui.mail.smtp.outcome import SmtpProblem
from device_ui.rate_limit import TokenBucket

if TYPE_CHECKING:
    from device_ui.mail.oauth.providers import Endpoints
    from device_ui.mail.oauth.sign_in import SignIn
    from device_ui.mail.oauth.token_client import DeviceCode, TokenClient, Tokens
    from device_ui.settings.fields import SmtpSettings

log = logging.getLogger(__name__)

# RFC 8628, section 3.5: seconds that slow_down adds for good. The shortest and the longest interval that an answer can ask for;
# the longest is that of the backoff, too.
SLOW_DOWN_SECONDS, INTERVALS = 5.0, (1.0, 60.0)
# Flows that can begin at once, and seconds until one more can: the web process must not have a provider asked without end. Seconds in which a
# cancelled flow ends, unless it waits for an answer.
BEGINS, BEGIN_SECONDS, END_SECONDS = 10, 30.0, 1.0
# The longest wait for a person, whatever the provider allows.
SECONDS_MAXIMUM = 3600.0
# The error of an answer → the phase it ends in. Microsoft's authorization_declined is RFC 8628's access_denied.
ENDS = {
    "expired_token": "expired",
    "access_denied": "declined",
    "authorization_declined": "declined",
    "bad_verification_code": "expired",
}
# Problems of one request after which the next may succeed.
PASSING = (
    *(SmtpProblem.SILENT, SmtpProblem.CLOSED, SmtpProblem.BROKEN, SmtpProblem.REFUSED, SmtpProblem.BUSY),
    SmtpProblem.UNKNOWN_NAME,
)


@dataclass(frozen=True)
class Phase:
    """How far a sign-in is: ``none``, ``asking`` for the code, ``waiting`` for the person; or how it ended: ``done``,
    ``expired``, ``declined``, ``cancelled``, ``failed``.

    `user_code` and `address` are for the person; `end` is on the monotonic clock. `step`, `problem` and `reply` of a failure, and
    `advice` on it.
    """

    name: str = "none"
    user_code: str = ""
    address: str = ""
    end: float = 0.0
    step: str = ""
    problem: str = ""
    reply: Text = ""
    advice: Text = ""

    @property
    def is_open(self) -> bool:
        """Whether the flow still runs."""
        return self.name in ("asking", "waiting")


class DeviceCodeFlow:
    """The flows of one device, one at a time. Any thread may call.

    `done` is called once the tokens are on flash. `wait` waits so many seconds for the event and returns whether it is set.
    """

    def __init__(
        self,
        sign_in: SignIn,
        token_client: Callable[[], TokenClient],
        monotonic: Callable[[], float],
        done: Callable[[], None],
        wait: Callable[[threading.Event, float], bool] = threading.Event.wait,
    ) -> None:
        self._sign_in, self._token_client, self._monotonic, self._done = sign_in, token_client, monotonic, done
        self._wait = wait
        self._lock = threading.Lock()
        self._phase, self._cancelled = Phase(), threading.Event()
        self._thread: threading.Thread | None = None
        self._begins = TokenBucket(BEGINS, BEGIN_SECONDS, monotonic)

    def begin(self, settings: SmtpSettings) -> Mapping[str, Any]:
        """Start a flow for these stored settings, in place of one that waits; return its `state`. Raises `RequestError`."""
        if settings.sign_in != "oauth" or settings.oauth_grant != "device":
            raise RequestError("bad-request", "the stored sign-in needs no code")
        # The page shows one code: an earlier one, typed by mistake, must not sign a different person in.
        self.cancel()
        if self._thread is not None:
            self._thread.join(END_SECONDS)
        if self._thread is not None and self._thread.is_alive():
            raise RequestError("busy", "the sign-in before this one still ends; try again")
        if wait := self._begins.take():
            reason = Message("too many sign-ins one after another; wait {seconds} seconds", seconds=wait)
            raise RequestError("too-many", reason, wait)
        with self._lock:
            self._phase, self._cancelled = Phase("asking"), threading.Event()
            thread = threading.Thread(
                target=self._work, args=(settings, self._cancelled), name="device code", daemon=True
            )
            try:
                thread.start()
            except RuntimeError as error:  # the system gives no thread (TasksMax)
                self._phase = Phase()
                raise RequestError("exhausted", "the system has no room for this now; try again later") from error
            self._thread = thread
        return self.state()

    def cancel(self) -> Mapping[str, Any]:
        """End the flow; return its `state`."""
        with self._lock:
            self._cancelled.set()
            if self._phase.is_open:
                self._phase = Phase("cancelled")
        return self.state()

    @property
    def is_open(self) -> bool:
        """Whether a flow runs."""
        return self._phase.is_open

    def state(self) -> Mapping[str, Any]:
        """Return the phase, and while a person is waited for the code, the address and the seconds left."""
        phase = self._phase
        return {
            "phase": phase.name,
            "code": phase.user_code,
            "address": phase.address,
            "seconds": max(0, round(phase.end - self._monotonic())) if phase.name == "waiting" else 0,
            "step": phase.step,
            "problem": phase.problem,
            "reply": phase.reply,
            "advice": phase.advice,
        }

    def _work(self, settings: SmtpSettings, cancelled: threading.Event) -> None:
        try:
            last = self._run(settings, cancelled)
        except TokenError as error:
            # Imported here: only a sign-in that fails needs it.
            from device_ui.mail.smtp.advice import advise

            found = advise(error.step, error.problem, error.reply, settings, clock_text(time.time()))
            last = Phase("failed", step=error.step, problem=error.problem, reply=error.reply, advice=found.sentence)
        except DeviceUIError as error:
            last = Phase("failed", problem=SmtpProblem.NOT_STORED, reply=error.message)
        except Exception:
            log.exception("sign-in by a code failed")
            last = Phase("failed", reply="the mail service had a fault; its log tells more")
        log.info("sign-in by a code ended: %s %s", last.name, last.problem)
        self._set(last, cancelled)
        if last.name == "done":
            self._done()

    def _run(self, settings: SmtpSettings, cancelled: threading.Event) -> Phase:
        client = self._token_client()
        code, endpoints = client.device_code(settings, client.begin())
        end = self._monotonic() + min(code.seconds, SECONDS_MAXIMUM)
        self._set(Phase("waiting", code.user_code, code.address, end), cancelled)
        # An interval of 0 would poll without a pause, and one of a day would never see the person's answer.
        interval = min(max(code.interval, INTERVALS[0]), INTERVALS[1])
        while not self._wait(cancelled, interval):
            if self._monotonic() >= end:
                return Phase("expired")
            found = self._polled(client, settings, code, endpoints)
            if not isinstance(found, str):
                if cancelled.is_set():  # while the answer was on its way
                    break
                self._sign_in.signed_in(settings, found)
                return Phase("done")
            if found in ENDS:
                return Phase(ENDS[found])
            if found == "slow_down":
                interval += SLOW_DOWN_SECONDS
            elif not found:  # RFC 8628, section 3.5: exponential backoff on a timeout
                interval = max(interval, min(2 * interval, INTERVALS[1]))
        return Phase("cancelled")

    def _polled(
        self, client: TokenClient, settings: SmtpSettings, code: DeviceCode, endpoints: Endpoints
    ) -> Tokens | str:
        """Return the tokens, the error of an answer, or ``""`` when there was none. Raises `TokenError`."""
        try:
            return client.redeemed(settings, code, endpoints, client.begin())
        except TokenError as error:
            if error.problem not in PASSING:
                raise
            return ""

    def _set(self, phase: Phase, cancelled: threading.Event) -> None:
        with self._lock:
            # A flow that was cancelled or replaced may end seconds later: its phase would hide the present one.
            if cancelled is self._cancelled and not cancelled.is_set():
                self._phase = phase
