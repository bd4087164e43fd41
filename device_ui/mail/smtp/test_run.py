"""``Send test email``: the courier itself on what is typed, each step told with its time; at the first failure it stops.

One login attempt is made, and one mail sent. After a failure that a person could not read it looks closer
(`probe`), within the same deadline. What comes out is one `Result` for the page, the command line and ``--json``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from device_ui.errors import Text
from device_ui.mail.smtp import probe
from device_ui.mail.smtp.advice import Advice, advise
from device_ui.mail.smtp.client import SmtpClient
from device_ui.mail.smtp.outcome import DELIVERED, REFUSED, TRY_LATER, Outcome, SessionError
from device_ui.mail.smtp.session import Watch
from device_ui.settings.fields import SmtpSettings

# Seconds that a server may take for its first line before the test looks closer, and that a closer look may take.
GREETING_SECONDS, PROBE_SECONDS = 15.0, 5.0
# From the best to the worst.
VERDICTS = (DELIVERED, TRY_LATER, REFUSED)
# What a server that expects TLS from the first byte does while it waits for it.
SAYS_NOTHING = ("silent", "closed", "broken")

Connect = Callable[[SmtpSettings, str, Watch], SmtpClient]
Line = Mapping[str, Any]


@dataclass(frozen=True)
class Recipient:
    """What became of the test mail for one `recipient`."""

    recipient: str
    verdict: str
    step: str
    reply: Text


@dataclass(frozen=True)
class Result:
    """What a test came to; `seconds` for all of it. `step` to `advice` are ``""`` when every recipient's mail was taken.

    `verdict` is the worst of the recipients'. As in the ledger, ``refused`` is said only of a mail or its recipient;
    a refused login is ``try later`` with the `problem` ``login refused``, for once the field is mended the mail goes.
    """

    verdict: str
    step: str
    problem: str
    reply: Text
    field: str
    advice: Text
    seconds: float
    recipients: tuple[Recipient, ...]

    def as_json(self) -> dict[str, Any]:
        """The mapping that crosses the hook's socket and that ``--json`` prints."""
        return {**asdict(self), "recipients": [asdict(each) for each in self.recipients]}


class Steps:
    """Tells of each step as it is passed, with the seconds since the one before."""

    def __init__(self, tell: Callable[[Line], None], clock: Callable[[], float]) -> None:
        self._tell, self._clock = tell, clock
        self._began = self._last = clock()

    def passed(self, step: str, told: Text) -> None:
        """What the courier calls."""
        now = self._clock()
        seconds, self._last = now - self._last, now
        self._tell({"step": {"name": step, "seconds": round(seconds, 3), "told": told}})

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return round(self._clock() - self._began, 3)


def run(
    connect: Connect,
    settings: SmtpSettings,
    password: str,
    recipients: Sequence[str],
    compose: Callable[[str], bytes],
    *,
    tell: Callable[[Line], None],
    clock: Callable[[], float] = time.monotonic,
    wall: Callable[[], float] = time.time,
) -> Result:
    """Test `settings` with one mail to one recipient at least. What `tell` and `compose` raise comes through.

    `connect` makes the courier, whose deadline holds for everything here, with `GREETING_SECONDS` for the greeting.
    `compose` makes the mail from the device's own address in this session. `tell` hears ``{"step": …}`` as it happens.
    """
    steps = Steps(tell, clock)
    courier = connect(settings, password, steps.passed)
    outcomes = _attempt(courier, recipients, compose)
    worst = max(outcomes.values(), key=lambda outcome: VERDICTS.index(outcome.verdict))
    told = tuple(Recipient(name, each.verdict, each.step, each.reply) for name, each in outcomes.items())
    if worst.verdict == DELIVERED:
        return Result(DELIVERED, "", "", "", "", "", steps.seconds, told)
    problem, advice = _explained(worst, courier, settings, wall)
    return Result(worst.verdict, worst.step, problem, worst.reply, advice.field, advice.sentence, steps.seconds, told)


def _attempt(courier: SmtpClient, recipients: Sequence[str], compose: Callable[[str], bytes]) -> dict[str, Outcome]:
    try:
        courier.open()
        return courier.deliver(recipients, compose(courier.local_address))
    except SessionError as stopped:
        return dict.fromkeys(recipients, stopped.outcome)
    finally:
        courier.close()


def _explained(
    worst: Outcome, courier: SmtpClient, settings: SmtpSettings, wall: Callable[[], float]
) -> tuple[str, Advice]:
    """The problem, perhaps a better word for it, and what to change."""
    problem, found = _look_closer(worst, courier, settings)
    clock = datetime.fromtimestamp(int(wall())).astimezone()
    says = f"{clock:%Y-%m-%d %H:%M %z}"
    return problem, advise(worst.step, problem, worst.reply, settings, says, found)


def _look_closer(worst: Outcome, courier: SmtpClient, settings: SmtpSettings) -> tuple[str, probe.Certificate | None]:
    try:
        seconds = courier.deadline.left(PROBE_SECONDS)
    except TimeoutError:
        return worst.problem, None
    address, host = courier.reached, courier.host
    if address is None:
        return worst.problem, None
    if worst.step == "certificate":
        starttls = settings.connection == "starttls"
        return worst.problem, probe.certificate(address, host, seconds, starttls=starttls)
    expected = worst.step in ("greeting", "ehlo") and worst.problem in SAYS_NOTHING and settings.connection != "tls"
    if expected and probe.speaks_tls(address, host, seconds):
        return "TLS expected", None
    return worst.problem, None
