"""One mail in one transaction: MAIL, RCPT, DATA and the content (RFC 5321, section 3.3); an outcome for each recipient.

Each command waits for the reply to the one before. Whatever is ambiguous is *try later*: only a 5xx to RCPT or DATA
refuses a mail.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence

from device_ui.mail.events import Verdict
from device_ui.mail.smtp.connection import Connection, Timeouts, translate_errors
from device_ui.mail.smtp.outcome import Outcome, SessionError, SmtpProblem, Step, verdict_of

# The first digit says yes (RFC 5321, section 4.2.1), even in a 252 to RCPT. After the content the second digit counts
# too: a positive reply that is not about mail, such as a late 235, answers a different command.
YES, YES_TO_MAIL = range(200, 300), range(250, 260)


class Transaction:
    """One `message`, its lines ended by CRLF, from the address `mail_from` to `recipients`; to be `run` once."""

    def __init__(
        self,
        connection: Connection,
        timeouts: Timeouts,
        mail_from: str,
        recipients: Sequence[str],
        message: bytes,
    ) -> None:
        self._connection, self._timeouts, self._mail_from = connection, timeouts, mail_from
        self._recipients, self._message = recipients, message
        self._outcomes: dict[str, Outcome] = {}

    def run(self, on_wait: Callable[[float], None]) -> dict[str, Outcome]:
        """Send the mail; return an outcome for every recipient. The connection is closed if no mail can follow.

        `on_wait` is called as by `Connection.await_reply`, when the whole mail is sent.
        """
        try:
            self._send(on_wait)
        except SessionError as error:
            for recipient in self._recipients:
                self._outcomes.setdefault(recipient, error.outcome)
            self._connection.close()
        except BaseException:
            self._connection.close()
            raise
        return self._outcomes

    # The steps, in their order.

    def _send(self, on_wait: Callable[[float], None]) -> None:
        self._sender()
        accepted = [recipient for recipient in self._recipients if self._is_accepted(recipient)]
        if not accepted:
            with translate_errors(Step.RECIPIENT):
                self._reset(Step.RECIPIENT)
            return
        with translate_errors(Step.CONTENT):
            code, reply, delivered = self._content(on_wait)
            # RSET and QUIT have no more time than an attempt, however long the verdict took.
            self._connection.deadline.shorten(self._timeouts.attempt)
            text = self._connection.format_reply(code, reply)
            outcome = Outcome(verdict_of(code, delivered), Step.CONTENT, text)
            self._outcomes.update(dict.fromkeys(accepted, outcome))
            if code == 421:
                raise SessionError(Step.CONTENT, SmtpProblem.ANSWER, text)
            if outcome.verdict != Verdict.DELIVERED:
                self._reset(Step.CONTENT)
        if outcome.verdict == Verdict.DELIVERED:
            self._connection.report(Step.CONTENT, text)

    def _sender(self) -> None:
        connection = self._connection
        with translate_errors(Step.SENDER):
            options = [f"SIZE={len(self._message)}"] if connection.has_extn("size") else []  # RFC 1870, section 5
            text = connection.expect(Step.SENDER, YES, *connection.mail(self._mail_from, options))
        connection.report(Step.SENDER, text)

    def _is_accepted(self, recipient: str) -> bool:
        with translate_errors(Step.RECIPIENT):
            code, reply = self._connection.rcpt(recipient)
            text = self._connection.format_reply(code, reply)
            if code == 421:
                raise SessionError(Step.RECIPIENT, SmtpProblem.ANSWER, text)
        if code in YES:
            self._connection.report(Step.RECIPIENT, f"{recipient}: {text}")
            return True
        self._outcomes[recipient] = Outcome(verdict_of(code, ()), Step.RECIPIENT, text)
        return False

    def _content(self, on_wait: Callable[[float], None]) -> tuple[int, bytes, Container[int]]:
        """Return the last reply, and the codes of it that mean "delivered": none when the content was not sent."""
        connection = self._connection
        code, reply = connection.docmd("data")
        if code != 354:  # even a 250: no content was sent
            return code, reply, ()
        connection.send_content(self._message)
        if self._timeouts.verdict:
            connection.deadline.restart(self._timeouts.verdict)
        return *connection.await_reply(on_wait), YES_TO_MAIL

    def _reset(self, step: Step) -> None:
        self._connection.expect(step, (250,), *self._connection.rset())
