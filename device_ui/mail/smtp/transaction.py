"""One mail in one transaction: MAIL, RCPT, DATA and the content (RFC 5321, section 3.3); an outcome for each recipient.

Each command waits for the reply to the one before. What each reply decides, and for what, is in `scope`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from device_ui.errors import Text
from device_ui.mail.events import Verdict
from device_ui.mail.smtp.connection import Connection, Timeouts, translate_errors
from device_ui.mail.smtp.outcome import Outcome, SessionError, SmtpProblem, Step
from device_ui.mail.smtp.scope import Before, Command, Scope, rule

# The first digit says yes (RFC 5321, section 4.2.1), even in a 252 to RCPT.
YES = range(200, 300)
CLOSING = 421
# The scopes that end the transactions of a mail; those of a reply to the content for one recipient that may mean only that one.
BROADER = (Scope.MAIL, Scope.SESSION, Scope.LOGIN, Scope.SERVER)
PERHAPS_ITS = (Scope.MAIL, Scope.SESSION)


class Transactions(Protocol):
    """What `deliver_to_all` uses of `client.SmtpClient`."""

    @property
    def is_open(self) -> bool: ...
    def deliver(
        self, recipients: Sequence[str], message: bytes, *, on_wait: Callable[[float], None] = ...
    ) -> dict[str, Outcome]: ...


def deliver_to_all(
    session: Transactions,
    recipients: Sequence[str],
    message: bytes,
    recipients_maximum: int = 0,
    *,
    on_wait: Callable[[float], None] = lambda _seconds: None,
    on_outcomes: Callable[[Mapping[str, Outcome]], None] = lambda _outcomes: None,
) -> dict[str, Outcome]:
    """Send one mail to `recipients`, in as many transactions as the server wants, of `recipients_maximum` each (0: all).

    Return an outcome for every recipient: of scope TRANSACTION only where the session ended first. `on_outcomes` is called
    after each transaction.
    """
    outcomes: dict[str, Outcome] = {}
    groups = [list(each) for each in _chunks(recipients, recipients_maximum or len(recipients))]
    while groups:
        group = groups.pop(0)
        found = session.deliver(group, message, on_wait=on_wait)
        # Where the session goes on: its end, such as a 421, says nothing about the recipient.
        if len(group) == 1 < len(recipients) and session.is_open:
            found = _alone(found)
        outcomes.update(found)
        on_outcomes(found)
        again = [name for name, outcome in found.items() if outcome.scope == Scope.TRANSACTION]
        later = [outcome for outcome in found.values() if outcome.verdict == Verdict.TRY_LATER]
        stop = next((outcome for outcome in later if outcome.scope in BROADER), None)
        if stop or (again and not session.is_open):
            rest = [*again, *(name for each in groups for name in each)]
            # What decided for the whole mail decides for those that were not tried, too.
            outcomes.update(dict.fromkeys(rest, stop or found[again[0]]))
            break
        if again:
            # One reply for all says nothing about each of them; a limit of recipients leaves the rest together.
            groups[:0] = [[name] for name in again] if found[again[0]].step == Step.CONTENT else [again]
    return {name: outcomes[name] for name in recipients}


def _alone(found: Mapping[str, Outcome]) -> dict[str, Outcome]:
    """Return the outcomes of a recipient alone of several: a mail that is deferred for it may go to the others."""
    return {
        name: replace(outcome, scope=Scope.RECIPIENT)
        if outcome.step == Step.CONTENT and outcome.problem == SmtpProblem.ANSWER and outcome.scope in PERHAPS_ITS
        else outcome
        for name, outcome in found.items()
    }


def _chunks(names: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    return (names[start : start + size] for start in range(0, len(names), size))


class Transaction:
    """One `message`, its lines ended by CRLF, from the address `mail_from` to `recipients`; to be `run` once.

    `has_delivered`: the session has delivered a mail before.
    """

    def __init__(
        self,
        connection: Connection,
        timeouts: Timeouts,
        mail_from: str,
        recipients: Sequence[str],
        message: bytes,
        *,
        has_delivered: bool,
    ) -> None:
        self._connection, self._timeouts, self._mail_from = connection, timeouts, mail_from
        self._recipients, self._message, self._has_delivered = recipients, message, has_delivered
        # Only what the server offered may be used (RFC 5321, section 4.1.1.1).
        self._is_sized = connection.has_extn("size")
        self._accepted: list[str] = []
        # The recipients that were not accepted: reply code, reply, and how many were accepted and not accepted before.
        self._objected: dict[str, tuple[int, str, int, int]] = {}
        self._outcomes: dict[str, Outcome] = {}
        self._step, self._command = Step.SENDER, Command.MAIL
        connection.step = Step.SENDER

    def run(self) -> dict[str, Outcome]:
        """Send the mail; return an outcome for every recipient. The connection is closed if no mail can follow."""
        try:
            self._send()
        except SessionError as error:
            self._settle_objected()
            open_recipients = [each for each in self._recipients if each not in self._outcomes]
            self._settle(open_recipients, error.code, error.reply or error.problem, error.problem)
            self._connection.close()
        except BaseException:
            self._connection.close()
            raise
        return self._outcomes

    # The steps, in their order.

    def _send(self) -> None:
        if not self._sender():
            return
        self._step, self._command = Step.RECIPIENT, Command.RCPT
        self._connection.step = Step.RECIPIENT
        for recipient in self._recipients:
            self._recipient(recipient)
        self._settle_objected()
        self._step, self._command = Step.CONTENT, Command.DATA
        if not self._accepted:
            with translate_errors(Step.RECIPIENT):
                self._reset(Step.RECIPIENT)
            return
        with translate_errors(Step.CONTENT):
            code, reply = self._content()
            # RSET and QUIT have no more time than an attempt, however long the verdict took.
            self._connection.deadline.shorten(self._timeouts.attempt)
            text = self._connection.format_reply(code, reply)
            self._end_if_closing(code, text)
            self._settle(self._accepted, code, text)
            is_delivered = self._outcomes[self._accepted[0]].verdict == Verdict.DELIVERED
            if not is_delivered:
                self._reset(Step.CONTENT)
        if is_delivered:
            self._connection.report(Step.CONTENT, text)

    def _sender(self) -> bool:
        connection = self._connection
        with translate_errors(Step.SENDER):
            options = [f"SIZE={len(self._message)}"] if self._is_sized else []  # RFC 1870, section 5
            code, reply = connection.mail(self._mail_from, options)
            text = connection.format_reply(code, reply)
            self._end_if_closing(code, text)
        if code not in YES:
            self._settle(self._recipients, code, text)
            return False
        connection.report(Step.SENDER, text)
        return True

    def _recipient(self, recipient: str) -> None:
        with translate_errors(Step.RECIPIENT):
            code, reply = self._connection.rcpt(recipient)
            text = self._connection.format_reply(code, reply)
            self._end_if_closing(code, text)
        if code in YES:
            self._connection.report(Step.RECIPIENT, f"{recipient}: {text}")
            self._accepted.append(recipient)
        else:
            # Decided after the last recipient: a 452 or a 5.7.x means one thing when others were accepted and another when
            # none was (`scope`).
            self._objected[recipient] = (code, text, len(self._accepted), len(self._objected))

    def _content(self) -> tuple[int, bytes]:
        """Return the last reply: to DATA when the content was not sent."""
        connection = self._connection
        with connection.deadline.within(self._timeouts.data):
            code, reply = connection.docmd("data")
        if code != 354:  # even a 250: no content was sent
            return code, reply
        self._command = Command.CONTENT
        connection.send_content(self._message)
        # Not before the whole mail is sent: until then a caller may end the wait, since the server cannot have it.
        connection.step = Step.CONTENT
        if not self._timeouts.verdict:
            return connection.getreply()
        # RFC 5321, section 4.5.3.2.6: whatever the attempt took so far, or a slow server would get the same mail again and
        # again.
        connection.deadline.restart(self._timeouts.verdict)
        command, connection.reply_seconds = connection.reply_seconds, self._timeouts.verdict
        try:
            return connection.getreply()
        finally:
            connection.reply_seconds = command

    def _reset(self, step: Step) -> None:
        # The transaction is still open, and a second MAIL inside it is a 503 (RFC 5321, section 4.1.4).
        self._connection.expect(step, (250,), *self._connection.rset())

    # What the replies decide.

    def _end_if_closing(self, code: int, text: str) -> None:
        if code == CLOSING:  # RFC 5321, section 3.8: as a reply to any command
            raise SessionError(self._step, SmtpProblem.ANSWER, text, code)

    def _settle_objected(self) -> None:
        """Decide the recipients that were not accepted, once it is known whether others were."""
        objected, self._objected = self._objected, {}
        for recipient, (code, text, accepted, refused) in objected.items():
            before = Before(accepted, len(self._accepted), refused, self._has_delivered, self._is_sized)
            ruling = rule(Command.RCPT, code, text, before)
            self._outcomes[recipient] = Outcome(ruling.verdict, Step.RECIPIENT, text, _problem(code), ruling.scope)

    def _settle(
        self, recipients: Iterable[str], code: int | None, text: Text, problem: SmtpProblem | None = None
    ) -> None:
        """Decide these recipients by the reply to the last command, or by the `problem` that it had."""
        refused = len(self._outcomes)
        before = Before(len(self._accepted), len(self._accepted), refused, self._has_delivered, self._is_sized)
        ruling = rule(self._command, code, str(text), before)
        problem = SmtpProblem.TOO_LARGE if ruling.is_size else problem or _problem(code)
        outcome = Outcome(ruling.verdict, self._step, text, problem, ruling.scope)
        self._outcomes.update(dict.fromkeys(recipients, outcome))


def _problem(code: int | None) -> SmtpProblem:
    # smtplib returns -1 for a line without a code.
    return SmtpProblem.NO_CODE if code is not None and code < 0 else SmtpProblem.ANSWER
