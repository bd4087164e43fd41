"""Why there is no access token, as data: a step and a problem of the session that needs it."""

from __future__ import annotations

from collections.abc import Mapping

from device_ui.errors import Text
from device_ui.mail.smtp.outcome import SessionError, SmtpProblem, Step

# The steps to a token, by those of a session with a mail server.
TOKEN_STEPS: Mapping[Step, Step] = {
    Step.NAME: Step.TOKEN_NAME,
    Step.ADDRESS: Step.TOKEN_ADDRESS,
    Step.CONNECT: Step.TOKEN_CONNECT,
    Step.TLS: Step.TOKEN_TLS,
    Step.CERTIFICATE: Step.TOKEN_CERTIFICATE,
}
# After these a person has to do something. They are still tried again (`retry_seconds`): a certificate may be uploaded after
# Update, and a permission needs up to two hours to take effect.
DEAD = (
    SmtpProblem.TOKEN_REFUSED,
    SmtpProblem.NOT_SIGNED_IN,
    SmtpProblem.GRANT_ENDED,
    SmtpProblem.RENEWAL_LOST,
    SmtpProblem.CLIENT_REFUSED,
)
# Seconds between two tries after such a problem: hourly for a day, then daily. A token is no guess, and locks no account.
HOURLY_TRIES, HOUR, DAY = 24, 3600.0, 24 * 3600.0


class TokenError(SessionError):
    """A sign-in that gets no access token, or whose token the mail server refuses."""

    def __init__(self, step: Step, problem: SmtpProblem, reply: Text = "", retry_after: float = 0.0) -> None:
        super().__init__(step, problem, reply)
        self.retry_after = retry_after

    @property
    def is_dead(self) -> bool:
        """Whether a person has to do something."""
        return self.problem in DEAD


def retry_seconds(tries: int) -> float:
    """Return the seconds after this many tries in a row that ended at a problem of `DEAD`."""
    return HOUR if tries <= HOURLY_TRIES else DAY
