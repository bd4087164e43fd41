"""``Send test email``: one test of a user at a time, in a thread of its own, answered line by line; and sample mails.

The web process passes the typed settings with the password sealed. The thread of the test alone opens it, for the server that
it was sealed for.
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
    Text,
)
from device_ui.mail.catalog import MESSAGE, TYPES, Kind
from device_ui.mail.delivery.quota import Quota
from device_ui.mail.delivery.sender import UNSEAL_ERRORS, Sender
from device_ui.mail.events import CodeCount, Digest, Event, Verdict
from device_ui.settings import rules
from device_ui.settings.fields import SmtpSettings, validate_stored
from device_ui.settings.recipients import RECIPIENTS_MAXIMUM, addresses
from device_ui.settings.store import Store

if TYPE_CHECKING:
    from device_ui.mail.message.envelope import Envelope
    from device_ui.mail.smtp.connection import OnStep
    from device_ui.mail.smtp.test_run import TestedClient

log = logging.getLogger(__name__)

FAULT = TYPES[0]
# Visibly no alarm: a sample that looks like one would be taken for one. RFC 2606 and RFC 5737 reserve name and address.
SAMPLE_TEXT, SAMPLE_SOURCE = "What happened, in the firmware's words.", "what raised it"
SAMPLE_MESSAGE = "Subject of the message\n\nThe text of the message."
SAMPLE_ACCOUNT, SAMPLE_ADDRESS = "alarm@mail.example.com", "192.0.2.1"


class Tester:
    """Tests and sample mails of one device. `connect` makes the SMTP client of a test, which reports each step.

    `wake` is called when there is a new line, `verified` when a test mail was delivered by the stored settings.
    """

    def __init__(
        self,
        store: Store,
        sender: Sender,
        connect: Callable[[SmtpSettings, str, OnStep], TestedClient],
        quota: Quota,
        *,
        wake: Callable[[], None],
        verified: Callable[[SmtpSettings], None],
    ) -> None:
        self._store, self._sender, self._connect, self._quota = store, sender, connect, quota
        self._environment = sender.environment
        self._wake, self._verified = wake, verified
        # The users whose test is under way. A test of one user that never ends must not delay those of others.
        self._busy: set[int] = set()

    def answer(self, request: Mapping[str, Any], user: int) -> Iterator[Mapping[str, Any] | None]:
        """Start a test for this user. Return its lines, None while the next is not there. Raises `RequestError`.

        The thread of the test reads the settings and recipients that are not given, and counts the test: the caller is the
        loop that accepts events, which opens no file and does not wait for a commit.
        """
        # Checked first: a wrong request is answered, and leaves the user free for a test.
        settings, recipients = _settings(request.get("settings")), _recipients(request.get("to"))
        if user in self._busy:
            # One at a time for each user: a test holds a thread and a TLS session for up to a minute.
            raise RequestError("busy", "another test is running")
        # The loop alone adds and a test's thread only removes, so the check above needs no lock.
        self._busy.add(user)
        lines: queue.SimpleQueue[Mapping[str, Any]] = queue.SimpleQueue()

        def send(line: Mapping[str, Any]) -> None:
            lines.put(line)
            self._wake()

        arguments = (settings, recipients, user, send)
        # A thread: the loop must go on to accept events while a server is silent.
        self._start(user, threading.Thread(target=self._work, args=arguments, name="test", daemon=True))
        return _received(lines)

    def sample(self, kind: Kind, count: int) -> Mapping[str, str]:
        """Return the parts of the mail that an event of this kind sends, or a digest of `count` of them."""
        from email import message_from_bytes, policy

        from device_ui.mail.message import compose

        sample = SmtpSettings("mail.example.com", 587, self._environment.device["name"], SAMPLE_ACCOUNT)
        # Also without settings: the page shows what an event code would mail before anything is set up.
        settings, listed = self._readable() or sample, self._environment.recipients()
        envelope = self._sender.envelope(settings, addresses(kind.type, listed, settings), listed, SAMPLE_ADDRESS)
        event = self._sample_event(kind, envelope)
        if count > 1:
            last = event.number + count - 1
            # Equal but for the number: the page shows the form of a digest, not its texts.
            events = [dataclasses.replace(event, number=number) for number in range(event.number, last + 1)]
            codes = (CodeCount(kind.code, count, event.time, event.time),)
            digest = Digest(event.number, kind.type, codes, ((event.number, last),), events)
            raw = compose.compose_digest(digest, self._sender.catalog, envelope)
        else:
            raw = compose.compose(event, kind, envelope)
        # Parsed back: the page shows what a mail reader would show of these very bytes.
        mail = message_from_bytes(raw, policy=policy.default)
        plain, html = (mail.get_body((subtype,)) for subtype in ("plain", "html"))
        return {
            **{name: str(mail[name] or "") for name in ("subject", "from", "to", "date")},
            "headers": raw.partition(b"\r\n\r\n")[0].decode("ascii", "replace").replace("\r\n", "\n"),
            "text": plain.get_content() if plain else "",
            "html": html.get_content() if html else "",
        }

    def _sample_event(self, kind: Kind, envelope: Envelope) -> Event:
        words, now = envelope.languages[0], self._environment.wall_clock.now()
        text = words(SAMPLE_MESSAGE if kind.code == MESSAGE.code else SAMPLE_TEXT)
        return Event(kind.code, kind.type, now, now, words(SAMPLE_SOURCE), text, number=self._sender.next_number)

    def opens(self, request: Mapping[str, Any]) -> Callable[[], Text]:
        """Return a function that returns ``ok`` if the sealed password of these settings opens, ``other-key``, or why not.

        Raises `RequestError`. The function loads the key and a library: it is not for the loop that accepts events.
        """
        settings = _settings(request.get("settings"))
        if settings is None or settings.sealed is None:
            raise RequestError("bad-request", "there is no sealed password")
        return lambda: self._opened(settings)

    def _opened(self, settings: SmtpSettings) -> Text:
        try:
            self._environment.passwords.unseal(settings)
        except NoKey:
            return "other-key"
        except CannotOpen as error:
            return error.reason
        except (Damaged, NotReadable) as error:
            return error.message
        return "ok"

    def _count(self, settings: SmtpSettings, user: int) -> None:
        """Count a test. Raises `RequestError` for one that comes too early, `NotStored` when it cannot be counted."""
        # Only tests with a login: others lock no account, and a token is no guess.
        has_login = settings.sign_in not in ("none", "oauth")
        if has_login and (wait := self._quota.wait("logins", user)):
            log.warning("test of user %d refused: too many refused logins", user)
            raise RequestError(
                "too-many-logins", Message("too many logins were refused; wait {seconds} seconds", seconds=wait), wait
            )
        # Counted before the test: one that is broken off has reached the server all the same.
        if wait := self._quota.take("tests", user):
            log.warning("test of user %d refused: too many tests", user)
            raise RequestError(
                "too-many", Message("too many tests one after another; wait {seconds} seconds", seconds=wait), wait
            )

    def _start(self, user: int, thread: threading.Thread) -> None:
        try:
            thread.start()
        except RuntimeError as error:  # the system gives no thread (TasksMax)
            log.error("test not started: %s", error)
            self._busy.discard(user)
            raise RequestError("exhausted", "the system has no room for a test now; try again later") from error

    def _work(
        self,
        given: SmtpSettings | None,
        recipients: Sequence[str],
        user: int,
        send: Callable[[Mapping[str, Any]], None],
    ) -> None:
        try:
            settings = given or self._stored()
            self._count(settings, user)
            last = self._test(settings, recipients, user, send)
        except RequestError as error:
            last = error.as_answer()
        except NotStored as error:
            last = {"error": "not-stored", "reason": error.message}
        except UNSEAL_ERRORS as error:
            last = {"error": "password", "reason": error.message}
        except Exception:
            log.exception("test failed")
            last = {"error": "fault", "reason": "the mail service had a fault; its log has the details"}
        finally:
            self._busy.discard(user)
        # After the user is free again: the client may start the next test as soon as it reads this line.
        send(last)

    def _test(
        self, settings: SmtpSettings, given: Sequence[str], user: int, send: Callable[[Mapping[str, Any]], None]
    ) -> Mapping[str, Any]:
        # Imported here: a process that tests nothing loads neither ssl nor smtplib.
        from device_ui.mail.message import compose
        from device_ui.mail.smtp import test_run
        from device_ui.mail.smtp.outcome import SmtpProblem

        # A random token: two tests must not look like copies of one mail.
        listed, token = self._environment.recipients(), os.urandom(8).hex()
        recipients = given or [recipient.address for recipient in listed] or [settings.default_recipient]
        # In this frame only: it ends with the test, and no attribute holds the password.
        password = "" if settings.sealed is None else self._environment.passwords.unseal(settings)
        kinds = self._sender.catalog.kinds.values()
        # The test mail shows what an alarm looks like; the lowest code, so that it is the same one each time.
        example = min((kind for kind in kinds if kind.mail and kind.type == FAULT), key=lambda kind: kind.code)

        def composed(address: str) -> bytes:
            envelope = self._sender.envelope(settings, recipients, listed, address)
            return compose.compose_test(envelope, token, (self._sample_event(example, envelope), example))

        result = test_run.run(
            lambda on_step: self._connect(settings, password, on_step),
            settings,
            recipients,
            composed,
            report=send,
            wall_clock=lambda: self._environment.wall_clock.raw,
        )
        if result.problem == SmtpProblem.LOGIN_REFUSED:
            with contextlib.suppress(NotStored):  # it counts in memory, and the answer is worth more
                self._quota.take("logins", user)
        # A test of typed values verifies those values only, and not the settings that were saved since.
        if result.verdict == Verdict.DELIVERED and settings == self._readable():
            self._verified(settings)
        log.info("test ended: %s %s %s", result.verdict, result.step, result.problem)
        return {"result": result.as_json()}

    def _stored(self) -> SmtpSettings:
        try:
            stored = self._store.read()[0]
        except (Damaged, NotReadable) as error:
            raise RequestError("unset", error.message) from error
        if stored is None:
            raise RequestError("unset", "no settings are stored yet")
        return stored

    def _readable(self) -> SmtpSettings | None:
        """Return the stored settings; None where there are none that can be read."""
        try:
            return self._store.read()[0]
        except DeviceUIError:
            return None


def _settings(given: object) -> SmtpSettings | None:
    """Return the settings of a request, None for the stored ones. Raises `RequestError`."""
    if given is None:
        return None
    names = {field.name for field in dataclasses.fields(SmtpSettings)}
    # Checked like a file of the web process, which may have been taken over.
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
    # As many as a list can have: a test must not become a way to send to everybody.
    if not isinstance(given, list) or not 1 <= len(given) <= RECIPIENTS_MAXIMUM:
        raise RequestError(
            "bad-request", Message("a test goes to 1 to {maximum} addresses", maximum=RECIPIENTS_MAXIMUM)
        )
    # Spelled as the rule spells it: an address with a line end could add a command to the session.
    if not all(isinstance(address, str) and rules.address(address) == address for address in given):
        raise RequestError("bad-request", "this is no e-mail address")
    return given


def _received(lines: queue.SimpleQueue[Mapping[str, Any]]) -> Iterator[Mapping[str, Any] | None]:
    """Yield the lines of a test as they come, up to the last one."""
    while True:
        try:
            line = lines.get_nowait()
        except queue.Empty:
            # The loop goes on with other clients, and is woken by `wake` for the next line.
            yield None
            continue
        yield line
        if "step" not in line:
            return
