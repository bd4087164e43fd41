"""What every step of an SMTP session needs: the connection, while there is one, and its answers without secrets."""

from __future__ import annotations

from collections.abc import Callable, Collection, Container

from device_ui.errors import Message, Text
from device_ui.mail.smtp.connection import Connection
from device_ui.mail.smtp.outcome import SessionError
from device_ui.mail.smtp.redaction import quoted

# Called with the name of a step that was passed and what was found: one printable line with nothing secret in it.
Watch = Callable[[str, Text], None]


def nothing(*_: object) -> None:
    """Nobody wants to know, and nothing is to be done."""


class Session:
    """A session with one server: closed, or open on a connection, and open again on another one where need be.

    `secrets` are the `quoting.pieces` that are struck out of all that is told; `watch` hears of the steps; where it is
    `nothing`, none is put into words.
    """

    def __init__(self, secrets: Collection[str], watch: Watch) -> None:
        self._secrets, self._watch = secrets, watch
        self._connection: Connection | None = None

    @property
    def is_open(self) -> bool:
        """Whether there is a connection."""
        return self._connection is not None

    @property
    def connection(self) -> Connection:
        """What commands are said on. Raises `SessionError` where the session is closed."""
        if self._connection is None:
            raise SessionError("connect", "closed", "the session is over")
        return self._connection

    def use(self, connection: Connection) -> None:
        """Speak on this connection until it is dropped."""
        self._connection = connection

    def expect(self, step: str, codes: Container[int], code: int, reply: bytes) -> str:
        """An answer (RFC 5321, 4.2) as `told`, where its code is one of `codes`. Raises `SessionError` at `step` if not."""
        if code not in codes:
            raise SessionError(step, "answer", self.told(code, reply))
        return self.told(code, reply)

    def told(self, code: int, reply: bytes) -> str:
        """The server's answer on one line of at most `quoting.REPLY_MAXIMUM` characters, with nothing secret in it."""
        return quoted(f"{code} {reply.decode('utf-8', 'replace')}", self._secrets)

    def passed(self, step: str, told: Text) -> None:
        """Tell `watch` of a step, in one line with nothing secret in it.

        Never within `verdict.at`: what `watch` raises is the caller's, and no fault of the server's.
        """
        if self._watch is not nothing:
            self._watch(step, self._quoted(told))

    def _quoted(self, told: Text) -> Text:
        if isinstance(told, Message):
            return Message(
                told.template, **{name: quoted(str(each), self._secrets) for name, each in told.values.items()}
            )
        return quoted(told, self._secrets)

    def drop(self) -> None:
        """Close the connection, if there is one, without a word to the server."""
        if self._connection:
            self._connection.close()  # smtplib has done so already where the connection was lost
        self._connection = None
