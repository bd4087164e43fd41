"""``Send test email``: one attempt of the SMTP client, each step reported with its seconds; it stops at the first failure.

One login is tried and one mail sent. After a failure whose cause does not show in the reply, `probe` looks closer,
within the same deadline. The result is the same for the page, the command line and ``--json``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from typing import Any, Protocol

from device_ui.errors import Text
from device_ui.mail.events import Verdict
from device_ui.mail.smtp import probe
from device_ui.mail.smtp.address_policy import AddressInfo
from device_ui.mail.smtp.advice import advise, warn
from device_ui.mail.smtp.connection import Deadline, OnStep, Timeouts
from device_ui.mail.smtp.outcome import Outcome, SessionError, SmtpProblem, Step
from device_ui.mail.smtp.transaction import deliver_to_all
from device_ui.mail.smtp.trust import InUse
from device_ui.settings import trust_rules
from device_ui.settings.fields import SmtpSettings

# A person waits for the result: 15 seconds for the greeting, which leaves time to look closer, and for the verdict only
# what is left of the attempt.
TIMEOUTS = Timeouts(attempt=60.0, greeting=15.0, verdict=0.0)
PROBE_SECONDS = 5.0
# From the best to the worst.
VERDICTS = (Verdict.DELIVERED, Verdict.TRY_LATER, Verdict.REFUSED)
# How a server behaves that waits for TLS from the first byte, or gets it unasked; and the steps at which that shows.
SAYS_NOTHING = (SmtpProblem.SILENT, SmtpProblem.CLOSED, SmtpProblem.BROKEN)
FIRST_STEPS = {"tls": (Step.TLS,), "starttls": (Step.GREETING, Step.EHLO), "none": (Step.GREETING, Step.EHLO)}
# How a server ends TLS when it does not get a certificate; with TLS 1.3 after the handshake (RFC 8446, section 4.4.2.4).
ENDS_TLS = (SmtpProblem.NO_TLS_AGREED, SmtpProblem.CLOSED, SmtpProblem.BROKEN)
TLS_STEPS = {"tls": (Step.TLS, Step.GREETING), "starttls": (Step.TLS, Step.EHLO), "none": ()}

Line = Mapping[str, Any]


class TestedClient(Protocol):
    """What a test uses of `client.SmtpClient`."""

    @property
    def host(self) -> str: ...
    @property
    def address(self) -> AddressInfo | None: ...
    @property
    def deadline(self) -> Deadline: ...
    @property
    def certificates(self) -> Sequence[InUse]: ...
    @property
    def local_address(self) -> str: ...
    def open(self) -> None: ...
    @property
    def is_open(self) -> bool: ...
    def deliver(
        self, recipients: Sequence[str], message: bytes, *, on_wait: Callable[[float], None] = ...
    ) -> dict[str, Outcome]: ...
    def close(self) -> None: ...


@dataclass(frozen=True)
class RecipientResult:
    """The outcome of the test mail for one `recipient`."""

    recipient: str
    verdict: str
    step: str
    reply: Text


@dataclass(frozen=True)
class RunResult:
    """The result of a test; `seconds` for all of it. `step` to `field` are ``""`` when every recipient was accepted; `advice` may
    then have a warning. `chain` is what the server showed if its certificate is what failed.

    `verdict` is the worst of the recipients'. As in the database, ``refused`` concerns a mail or its recipient alone; a
    refused login is ``try later`` with the `problem` ``login refused``, since the mail goes out once it is corrected.
    """

    verdict: str
    step: str
    problem: str
    reply: Text
    field: str
    advice: Text
    seconds: float
    recipients: tuple[RecipientResult, ...]
    chain: tuple[probe.Certificate, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return the mapping that crosses the hook's socket and that ``--json`` prints."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        recipients = [asdict(each) for each in self.recipients]
        return {**values, "recipients": recipients, "chain": [_shown(each) for each in self.chain]}


class StepTimer:
    """Reports each step with the seconds since the one before."""

    def __init__(self, report: Callable[[Line], None], monotonic: Callable[[], float]) -> None:
        self._report, self._monotonic = report, monotonic
        self._began = self._last = monotonic()

    def on_step(self, step: Step, details: Text) -> None:
        """Report a step that the client completed."""
        now = self._monotonic()
        seconds, self._last = now - self._last, now
        self._report({"step": {"name": step, "seconds": round(seconds, 3), "told": details}})

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return round(self._monotonic() - self._began, 3)


def run(
    connect: Callable[[OnStep], TestedClient],
    settings: SmtpSettings,
    recipients: Sequence[str],
    compose: Callable[[str], bytes],
    *,
    report: Callable[[Line], None],
    wall_clock: Callable[[], float],
) -> RunResult:
    """Test `settings` with one mail to at least one recipient; what `report` and `compose` raise passes through.

    `connect` makes the client, whose deadline holds for everything here. `compose` makes the mail from the device's own
    address in the session. `report` receives ``{"step": …}`` for each step as it happens.
    """
    timer = StepTimer(report, time.monotonic)
    client = connect(timer.on_step)
    outcomes = _attempt(client, recipients, compose)
    worst = max(outcomes.values(), key=lambda outcome: VERDICTS.index(outcome.verdict))
    results = tuple(RecipientResult(name, each.verdict, each.step, each.reply) for name, each in outcomes.items())
    if worst.verdict == Verdict.DELIVERED:
        warning = warn(client.certificates, settings, wall_clock())
        return RunResult(worst.verdict, "", "", "", "", warning, timer.seconds, results)
    closer, chain = _look_closer(worst, client, settings)
    now = datetime.fromtimestamp(int(wall_clock())).astimezone()
    advice = advise(
        closer.step,
        closer.problem,
        closer.reply,
        settings,
        f"{now:%Y-%m-%d %H:%M %z}",
        chain,
    )
    return RunResult(
        closer.verdict,
        closer.step,
        closer.problem,
        closer.reply,
        advice.field,
        advice.sentence,
        timer.seconds,
        results,
        chain,
    )


def _shown(certificate: probe.Certificate) -> dict[str, Any]:
    """Return a certificate for a person to compare, and as PEM if it may vouch for others."""
    return {
        "subject": certificate.subject,
        "issuer": certificate.issuer,
        "names": list(certificate.names),
        "begins": f"{certificate.begins:%Y-%m-%d}",
        "ends": f"{certificate.ends:%Y-%m-%d}",
        "sha256": certificate.sha256,
        "key_sha256": certificate.key_sha256,
        "pem": trust_rules.to_pem(certificate.der) if certificate.is_authority else "",
    }


def _attempt(client: TestedClient, recipients: Sequence[str], compose: Callable[[str], bytes]) -> dict[str, Outcome]:
    try:
        client.open()
        return deliver_to_all(client, recipients, compose(client.local_address))
    except SessionError as error:
        return dict.fromkeys(recipients, error.outcome)
    finally:
        client.close()


def _look_closer(
    worst: Outcome, client: TestedClient, settings: SmtpSettings
) -> tuple[Outcome, tuple[probe.Certificate, ...]]:
    """Return the outcome, perhaps with more specific evidence, and the server's certificates if these are what failed."""
    address, host, connection = client.address, client.host, settings.connection
    # Nothing was connected to, so there is nothing to look at.
    if address is None:
        return worst, ()
    try:
        seconds = client.deadline.left(PROBE_SECONDS)
        if worst.step == Step.CERTIFICATE:
            return worst, probe.chain(address, host, seconds, starttls=connection == "starttls")
        # Only in TLS 1.2 can it be seen (`probe.wants_certificate`); asked first, since it also explains a server that only
        # hangs up.
        may_want = worst.problem in ENDS_TLS and worst.step in TLS_STEPS[connection]
        if may_want and probe.wants_certificate(address, host, seconds, starttls=connection == "starttls"):
            return replace(worst, problem=SmtpProblem.CLIENT_CERTIFICATE), ()
        if worst.problem in SAYS_NOTHING and worst.step in FIRST_STEPS[connection]:
            return _listen(worst, client, in_tls=connection != "tls"), ()
    except TimeoutError:
        pass
    return worst, ()


def _listen(worst: Outcome, client: TestedClient, *, in_tls: bool) -> Outcome:
    """Return the outcome with the server's first line, if it speaks TLS where none was spoken, or the other way round."""
    if client.address is None:
        return worst
    line = probe.first_line(client.address, client.host, client.deadline.left(PROBE_SECONDS), tls=in_tls)
    # In TLS even silence is evidence: the handshake succeeded. Without TLS it is none.
    if line is None or not (line or in_tls):
        return worst
    problem = SmtpProblem.TLS_EXPECTED if in_tls else SmtpProblem.NO_TLS_SPOKEN
    return replace(worst, problem=problem, reply=line or worst.reply)
