"""One mail in one transaction: MAIL, RCPT, DATA and the content (RFC 5321, section 3.3); an outcome for each recipient.

One command is sent, then its reply is read. Whatever is ambiguous is *try later*: only a 5xx to RCPT or DATA refuses a
mail.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence

from device_ui.mail.smtp.outcome import DELIVERED, Outcome, SessionError, at, verdict_of
from device_ui.mail.smtp.session import Session

# The first digit says yes (RFC 5321, section 4.2.1), even in a 252 to RCPT. After the content the second digit counts
# too: a positive reply that is not about mail, such as a late 235, answers a different command.
YES, YES_TO_MAIL = range(200, 300), range(250, 260)


class Transaction:
    """One `message`, its lines ended by CRLF, from the address `mail_from` to `recipients`; `run` it in `session`."""

    def __init__(self, session: Session, mail_from: str, recipients: Sequence[str], message: bytes) -> None:
        self._session, self._mail_from = session, mail_from
        self._recipients, self._message = recipients, message
        self._outcomes: dict[str, Outcome] = {}

    def run(
        self, attempt_seconds: float, verdict_seconds: float, on_wait: Callable[[float], None]
    ) -> dict[str, Outcome]:
        """Send the mail, once; return an outcome for every recipient. The session is dropped if no mail can follow."""
        try:
            self._send(attempt_seconds, verdict_seconds, on_wait)
        except SessionError as stopped:
            for recipient in self._recipients:
                self._outcomes.setdefault(recipient, stopped.outcome)
            self._session.drop()
        except BaseException:
            self._session.drop()
            raise
        return self._outcomes

    # The steps, in their order.

    def _send(self, attempt_seconds: float, verdict_seconds: float, on_wait: Callable[[float], None]) -> None:
        self._sender()
        accepted = [recipient for recipient in self._recipients if self._recipient(recipient)]
        if not accepted:
            with at("recipient"):
                self._reset("recipient")
            return
        with at("content"):
            code, reply, good = self._content(verdict_seconds, on_wait)
            # What follows has no more time than an attempt, however long the verdict took.
            self._session.connection.deadline.shorten(attempt_seconds)
            outcome = Outcome(verdict_of(code, good), "content", self._session.told(code, reply))
            self._outcomes.update(dict.fromkeys(accepted, outcome))
            if code == 421:
                raise SessionError("content", "answer", outcome.reply)
            if outcome.verdict != DELIVERED:
                self._reset("content")
        if outcome.verdict == DELIVERED:
            self._session.passed("content", outcome.reply)

    def _sender(self) -> None:
        with at("sender"):
            connection = self._session.connection
            options = [f"SIZE={len(self._message)}"] if connection.has_extn("size") else []
            told = self._session.expect("sender", YES, *connection.mail(self._mail_from, options))
        self._session.passed("sender", told)

    def _recipient(self, recipient: str) -> bool:
        with at("recipient"):
            code, reply = self._session.connection.rcpt(recipient)
            told = self._session.told(code, reply)
            if code == 421:
                raise SessionError("recipient", "answer", told)
        if code in YES:
            self._session.passed("recipient", f"{recipient}: {told}")
            return True
        self._outcomes[recipient] = Outcome(verdict_of(code, ()), "recipient", told)
        return False

    def _content(self, verdict_seconds: float, on_wait: Callable[[float], None]) -> tuple[int, bytes, Container[int]]:
        """Return the last reply, and the codes of it that mean "delivered": none when the content was not sent."""
        connection = self._session.connection
        code, reply = connection.docmd("data")
        if code != 354:  # even a 250: no content was sent
            return code, reply, ()
        connection.send_content(self._message)
        if verdict_seconds:
            connection.deadline.restart(verdict_seconds)
        return *connection.await_reply(on_wait), YES_TO_MAIL

    def _reset(self, step: str) -> None:
        self._session.expect(step, (250,), *self._session.connection.rset())
