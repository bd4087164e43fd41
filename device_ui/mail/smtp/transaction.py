"""One mail in one transaction: MAIL, RCPT, DATA and the content (RFC 5321, 3.3), a verdict for each recipient.

What cannot be told apart is *try later*: only a 5xx to RCPT or DATA refuses a mail. Where the server offers PIPELINING
(RFC 2920), all up to DATA is said in one group; whoever loses parts of it refuses nothing, and gets the next mail
command by command.
"""

from __future__ import annotations

import smtplib
from collections.abc import Callable, Container, Sequence
from functools import partial

from device_ui.mail.smtp.outcome import DELIVERED, Outcome, SessionError, at, verdict_of
from device_ui.mail.smtp.session import Session
from device_ui.settings.fields import SmtpSettings

# What a server answers that was given several commands at once and did not take them apart (RFC 5321, 4.2.2).
UNRAVELLED = range(500, 505)
# The first digit says yes (RFC 5321, 4.2.1), be it a 252 to RCPT. After the dot the second one is looked at, too: a yes
# about something else than mail, such as a late 235, answers another command.
YES, YES_TO_MAIL = range(200, 300), range(250, 260)


class Transaction:
    """One `message`, its lines ended by CRLF, from the address of `settings` to `recipients`; `run` it in `session`.

    `halting` are servers, by host and port, that say PIPELINING and did not keep it; the transaction adds to them, and
    gives them one command at a time.
    """

    def __init__(
        self,
        session: Session,
        settings: SmtpSettings,
        recipients: Sequence[str],
        message: bytes,
        halting: set[tuple[str, int]],
    ) -> None:
        self._session, self._settings = session, settings
        self._recipients, self._message = recipients, message
        self._server, self._halting = (settings.host, settings.port), halting
        self._outcomes: dict[str, Outcome] = {}

    def run(
        self,
        before_content: Callable[[], None],
        sent: Callable[[], None],
        waiting: Callable[[], None],
        answered: Callable[[], None],
    ) -> dict[str, Outcome]:
        """Once: an outcome for every recipient. The session is dropped where no other mail can follow.

        `before_content` is called before any of the content goes out, if it can while the server works on the commands
        before; what it raises ends the session. `sent` is called when all is sent and the server's word is still to
        come, `waiting` every few seconds until it comes, and `answered` when it is there, be it to DATA already.
        """
        try:
            self._send(before_content, sent, waiting, answered)
        except SessionError as stopped:
            if self._is_grouping and stopped.problem != "answer":
                self._halting.add(self._server)
            for recipient in self._recipients:
                self._outcomes.setdefault(recipient, stopped.outcome)
            self._session.drop()
        except BaseException:
            self._session.drop()
            raise
        return self._outcomes

    # The steps, in their order.

    def _send(
        self,
        before_content: Callable[[], None],
        sent: Callable[[], None],
        waiting: Callable[[], None],
        answered: Callable[[], None],
    ) -> None:
        if self._is_grouping:
            self._say_ahead()
        before_content()
        self._sender()
        accepted = [recipient for recipient in self._recipients if self._recipient(recipient)]
        if not accepted:
            with at("recipient"):
                self._withdraw()
                self._reset("recipient")
            return
        with at("content"):
            code, reply, good = self._content(sent, waiting)
            answered()
            if not good:
                self._expect_whole_group("content", code, reply)
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
            code, reply = self._say_sender()
            self._expect_whole_group("sender", code, reply)
            told = self._session.expect("sender", YES, code, reply)
        self._session.passed("sender", told)

    def _say_sender(self) -> tuple[int, bytes]:
        connection = self._session.connection
        options = [f"SIZE={len(self._message)}"] if connection.has_extn("size") else []
        return connection.mail(self._settings.mail_from, options)

    def _recipient(self, recipient: str) -> bool:
        with at("recipient"):
            code, reply = self._session.connection.rcpt(recipient)
            told = self._session.told(code, reply)
            self._expect_whole_group("recipient", code, reply)
            if code == 421:
                raise SessionError("recipient", "answer", told)
        if code in YES:
            self._session.passed("recipient", f"{recipient}: {told}")
            return True
        self._outcomes[recipient] = Outcome(verdict_of(code, ()), "recipient", told)
        return False

    def _content(self, sent: Callable[[], None], waiting: Callable[[], None]) -> tuple[int, bytes, Container[int]]:
        """The answer, and the codes that would mean "delivered": none where the content was never sent."""
        try:
            return *self._session.connection.content(self._message, sent, waiting), YES_TO_MAIL
        except smtplib.SMTPDataError as error:  # an answer to DATA itself other than 354, a 250 perhaps
            reply = error.smtp_error
            return error.smtp_code, reply if isinstance(reply, bytes) else reply.encode(), ()

    def _reset(self, step: str) -> None:
        self._session.expect(step, (250,), *self._session.connection.rset())

    # Groups, and who does not keep them.

    @property
    def _is_grouping(self) -> bool:
        """Whether commands go out in groups: a mail then takes two round trips and not four."""
        session = self._session
        offered = session.is_open and session.connection.has_extn("pipelining")
        return offered and self._server not in self._halting

    def _say_ahead(self) -> None:
        """Everything up to DATA in one group (RFC 2920); the answers are read by the steps, one by one, as ever."""
        connection = self._session.connection
        with at("sender"):
            connection.send_ahead(
                self._say_sender,
                *(partial(connection.rcpt, recipient) for recipient in self._recipients),
                partial(connection.putcmd, "data"),
            )

    def _withdraw(self) -> None:
        """Nobody takes the mail, but DATA may be said already; where it is taken, the mail is empty (RFC 2920, 3.1)."""
        connection = self._session.connection
        if not connection.has_sent_ahead:
            return
        code, reply = connection.docmd("data")
        if code == 354:
            connection.send(b".\r\n")
            code, reply = connection.getreply()
            if code in YES:  # whoever gets that empty mail must not get one with each retry
                self._halting.add(self._server)
        if code == 421:
            raise SessionError("recipient", "answer", self._session.told(code, reply))

    def _expect_whole_group(self, step: str, code: int, reply: bytes) -> None:
        """That this answers the command that it seems to: of who loses parts of a group, no refusal counts."""
        if self._is_grouping and code in UNRAVELLED:
            self._halting.add(self._server)
            raise SessionError(step, "answer", self._session.told(code, reply))
