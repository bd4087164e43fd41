"""``Send test email`` inside the hook: one test of a user at a time, in a thread of its own, line by line; and sample mails.

The web process hands over what was typed with the password sealed; it is opened here and nowhere else, and only for the
server that it was sealed for.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from device_ui.errors import (
    CannotOpen,
    Damaged,
    DeviceUIError,
    Message,
    NoKey,
    NotReadable,
    NotStored,
    RequestError,
)
from device_ui.mail.catalog import MESSAGE, Kind
from device_ui.mail.clock import Clock
from device_ui.mail.delivery.quota import Quota
from device_ui.mail.events import Event
from device_ui.settings import rules
from device_ui.settings.fields import SmtpSettings, validate_stored
from device_ui.settings.recipients import RECIPIENTS_MAXIMUM, Recipient, addresses
from device_ui.settings.store import Store

if TYPE_CHECKING:
    from device_ui.mail.smtp.client import SmtpClient
    from device_ui.mail.smtp.connection import OnStep

log = logging.getLogger(__name__)

SAMPLE_TEXT, SAMPLE_SOURCE = "What happened, in the firmware's words.", "what raised it"
SAMPLE_MESSAGE = "Subject of the message\n\nThe text of the message."
SAMPLE_ACCOUNT = "alarm@mail.example.com"


class Tester:
    """Tests and sample mails of one device. `wake` is called when there is a new line; `proved` when the stored
    settings got through."""

    def __init__(
        self,
        store: Store,
        device: Mapping[str, str],
        connect: Callable[[SmtpSettings, str, OnStep], SmtpClient],
        unseal: Callable[[SmtpSettings], str],
        listed: Callable[[], Sequence[Recipient]],
        ledger_id: str,
        clock: Clock,
        quota: Quota,
        *,
        wake: Callable[[], None],
        proved: Callable[[SmtpSettings], None],
    ) -> None:
        self._store, self._device, self._connect, self._unseal = store, device, connect, unseal
        self._listed, self._ledger_id, self._clock = listed, ledger_id, clock
        self._wake, self._proved = wake, proved
        self._quota = quota
        # The users whose test is under way. A test that one user never ends must not keep others from theirs.
        self._busy: set[int] = set()

    def answer(self, request: Mapping[str, Any], user: int) -> Iterator[Mapping[str, Any] | None]:
        """Begin a test for the user of this uid; its lines, None while the next is not there. Raises `RequestError`.

        What is not given is read, and the test is counted, in the thread of the test: the caller is the loop that takes alarms.
        """
        settings, recipients = _settings(request.get("settings")), _recipients(request.get("to"))
        if user in self._busy:
            raise RequestError("busy", "another test is running")
        self._busy.add(user)
        lines: queue.SimpleQueue[Mapping[str, Any]] = queue.SimpleQueue()

        def tell(line: Mapping[str, Any]) -> None:
            lines.put(line)
            self._wake()

        self._start(
            user, threading.Thread(target=self._work, args=(settings, recipients, user, tell), name="test", daemon=True)
        )
        return _taken(lines)

    def sample(self, kind: Kind) -> Mapping[str, str]:
        """The mail that an event of this kind sends, in its parts."""
        from email import message_from_bytes, policy

        from device_ui.mail.message import compose

        settings = self._stored_or_sample()
        envelope = self._envelope(settings, addresses(kind.type, self._listed(), settings), "192.0.2.1")
        words, now = envelope.languages[0], self._clock.now()
        text = words(SAMPLE_MESSAGE if kind.code == MESSAGE.code else SAMPLE_TEXT)
        event = Event(kind.code, kind.type, now, now, words(SAMPLE_SOURCE), text)
        raw = compose.compose(event, kind, envelope)
        mail = message_from_bytes(raw, policy=policy.default)
        plain, html = (mail.get_body((each,)) for each in ("plain", "html"))
        return {
            **{name: str(mail[name] or "") for name in ("subject", "from", "to", "date")},
            "headers": raw.partition(b"\r\n\r\n")[0].decode("ascii", "replace").replace("\r\n", "\n"),
            "text": plain.get_content() if plain else "",
            "html": html.get_content() if html else "",
        }

    def _count(self, settings: SmtpSettings, user: int) -> None:
        """Count one test more. Raises `RequestError` for one that comes too early, `NotStored` when it cannot be counted."""
        has_login = settings.sign_in != "none"
        if has_login and (wait := self._quota.wait("logins", user)):
            log.warning("no test for user %d: too many logins were refused", user)
            raise RequestError(
                "too-many-logins", Message("too many logins were refused; wait {seconds} seconds", seconds=wait), wait
            )
        if wait := self._quota.take("tests", user):
            log.warning("no test for user %d: too many one after another", user)
            raise RequestError(
                "too-many", Message("too many tests one after another; wait {seconds} seconds", seconds=wait), wait
            )

    def _start(self, user: int, thread: threading.Thread) -> None:
        try:
            thread.start()
        except RuntimeError as error:  # the system gives no thread (TasksMax)
            log.error("no test now: %s", error)
            self._busy.discard(user)
            raise RequestError("exhausted", "the system has no room for a test now; try again later") from error

    def _work(
        self,
        given: SmtpSettings | None,
        recipients: Sequence[str],
        user: int,
        tell: Callable[[Mapping[str, Any]], None],
    ) -> None:
        try:
            settings = given or self._stored()
            self._count(settings, user)
            last = self._tested(settings, recipients or self._everybody(settings), user, tell)
        except RequestError as refused:
            last = refused.as_answer()
        except NotStored as error:
            last = {"error": "not-stored", "reason": error.message}
        except (NoKey, CannotOpen, Damaged, NotReadable) as error:
            last = {"error": "password", "reason": error.message}
        except Exception:
            log.exception("the test stumbled")
            last = {"error": "fault", "reason": "the mail service had a fault; its log tells more"}
        finally:
            self._busy.discard(user)
        tell(last)

    def _tested(
        self, settings: SmtpSettings, recipients: Sequence[str], user: int, tell: Callable[[Mapping[str, Any]], None]
    ) -> Mapping[str, Any]:
        # Imported here: a hook that tests nothing needs neither ssl nor smtplib for it.
        from device_ui.mail.message import compose
        from device_ui.mail.smtp import test_run
        from device_ui.mail.smtp.outcome import SmtpProblem

        token = os.urandom(8).hex()
        password = "" if settings.sealed is None else self._unseal(settings)
        result = test_run.run(
            lambda on_step: self._connect(settings, password, on_step),
            settings,
            recipients,
            lambda address: compose.compose_test(self._envelope(settings, recipients, address), token),
            report=tell,
            wall_clock=lambda: self._clock.told,
        )
        if result.problem == SmtpProblem.LOGIN_REFUSED:
            with contextlib.suppress(NotStored):  # it counts in memory, and the answer is worth more
                self._quota.take("logins", user)
        if result.verdict == "delivered" and settings == self._readable():
            self._proved(settings)
        log.info("a test ended: %s %s %s", result.verdict, result.step, result.problem)
        return {"result": result.as_json()}

    def _everybody(self, settings: SmtpSettings) -> list[str]:
        return [each.address for each in self._listed()] or [settings.default_recipient]

    def _stored(self) -> SmtpSettings:
        try:
            stored = self._store.read()[0]
        except (Damaged, NotReadable) as error:
            raise RequestError("unset", error.message) from error
        if stored is None:
            raise RequestError("unset", "no settings are stored yet")
        return stored

    def _stored_or_sample(self) -> SmtpSettings:
        sample = SmtpSettings("mail.example.com", 587, self._device["name"], SAMPLE_ACCOUNT)
        return self._readable() or sample

    def _readable(self) -> SmtpSettings | None:
        """The stored settings; None where there are none that can be read."""
        try:
            return self._store.read()[0]
        except DeviceUIError:
            return None

    def _envelope(self, settings: SmtpSettings, recipients: Sequence[str], address: str) -> Any:
        from device_ui.mail.message.compose import Envelope, languages

        device = {**self._device, "address": address}
        spoken = languages(recipients, self._listed(), device)
        return Envelope(settings, recipients, device, self._ledger_id, self._clock.now(), languages=spoken)


def _settings(given: object) -> SmtpSettings | None:
    """Return the settings of a request, None for the stored ones. Raises `RequestError`."""
    if given is None:
        return None
    names = {each.name for each in dataclasses.fields(SmtpSettings)}
    if not isinstance(given, dict) or not set(given) <= names:
        raise RequestError("bad-request", "the settings are not those of the tab")
    try:
        settings = validate_stored(given)
    except (TypeError, KeyError):  # a field that is missing
        settings = Message("a field is missing")
    if isinstance(settings, Message):
        raise RequestError("bad-request", settings)
    return settings


def _recipients(given: object) -> list[str]:
    """Return the addresses of a request, none for the device's recipients. Raises `RequestError`."""
    if given is None:
        return []
    if not isinstance(given, list) or not 1 <= len(given) <= RECIPIENTS_MAXIMUM:
        raise RequestError(
            "bad-request", Message("a test goes to 1 to {maximum} addresses", maximum=RECIPIENTS_MAXIMUM)
        )
    if not all(isinstance(each, str) and rules.address(each) == each for each in given):
        raise RequestError("bad-request", "this is no e-mail address")
    return given


def _taken(lines: queue.SimpleQueue[Mapping[str, Any]]) -> Iterator[Mapping[str, Any] | None]:
    """Lines as they come, up to the one that ends a test."""
    while True:
        try:
            line = lines.get_nowait()
        except queue.Empty:
            yield None
            continue
        yield line
        if "step" not in line:
            return
