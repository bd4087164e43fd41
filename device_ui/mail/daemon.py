"""The mail hook's process: builds its components, starts them and ends them.

Of the two services it alone reads the private key and unseals the mail password (`PasswordKeys`); root's commands do,
too. What enforces that is the mode of the key's folder (``config.Device.layout``), the user of the unit
(``appliance/``) and ``tests/test_imports.py``, by which no module of the web process names a function that unseals.

The main thread runs `ipc.server`, which accepts events and never waits for the network; the thread ``worker`` runs
`delivery.worker`, which sends mail. Notices, the test mail and the maker's programs have threads of their own; all share
the outbox.
"""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import signal
import socket
import threading
import time
from functools import cached_property
from typing import TYPE_CHECKING

from device_ui.config import Device, host_name, listen_fds
from device_ui.errors import Damaged, MakerFile, Message, NoKey, NotReadable, NotStored, Text, to_stored
from device_ui.mail import catalog
from device_ui.mail.catalog import Kind
from device_ui.mail.clock import Clock, clock_text
from device_ui.mail.delivery.batching import Batcher
from device_ui.mail.delivery.environment import Environment
from device_ui.mail.delivery.forward_command import ForwardCommand
from device_ui.mail.delivery.metrics import Metrics
from device_ui.mail.delivery.problem import Problem
from device_ui.mail.delivery.quota import Quota
from device_ui.mail.delivery.retry import random_fraction
from device_ui.mail.delivery.schedule import Schedule
from device_ui.mail.delivery.sender import Sender
from device_ui.mail.delivery.state_command import StateCommand
from device_ui.mail.delivery.test_mail import Tester
from device_ui.mail.delivery.worker import DeliveryWorker
from device_ui.mail.events import Event
from device_ui.mail.ipc import server
from device_ui.mail.ipc.connection import ClientConnections, listen
from device_ui.mail.ipc.peer_credentials import Permissions
from device_ui.mail.ipc.requests import RequestHandler
from device_ui.mail.oauth import record, signing_key
from device_ui.mail.oauth.device_code import DeviceCodeFlow
from device_ui.mail.oauth.record import SignInRecord
from device_ui.mail.oauth.requests import SignInRequests
from device_ui.mail.oauth.sign_in import SignIn
from device_ui.mail.oauth.signing_key import SigningKeys
from device_ui.mail.outbox.disk_reserve import Reserve
from device_ui.mail.outbox.outbox import Outbox
from device_ui.settings import keys, rotation, seal
from device_ui.settings.fields import SmtpSettings
from device_ui.settings.recipients import Recipients
from device_ui.settings.sealed_record import SealedRecord
from device_ui.settings.store import RecipientStore, Store
from device_ui.storage import files

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from device_ui.config import Folders
    from device_ui.mail.delivery.sender import Transport
    from device_ui.mail.oauth.session import OAuthSession
    from device_ui.mail.oauth.token_client import TokenClient
    from device_ui.mail.smtp.client import ClientOptions, SmtpClient
    from device_ui.mail.smtp.connection import OnStep
    from device_ui.mail.smtp.trust import InUse

log = logging.getLogger(__name__)

# Seconds without a connection and without mail after which a hook that systemd can start again exits. Longer than the window
# of a digest, which is in memory only.
IDLE_SECONDS = 60.0
# Seconds after the device's boot in which a start of the hook may be one of many: the power of the site came back.
BOOT_SECONDS = 300.0
# Seconds that a start waits for the file of what is mailed.
CHOICES_SECONDS = 2.0


class PasswordKeys:
    """The keys that open the stored passwords."""

    def __init__(self, folders: Folders) -> None:
        """Load the key, make it when there is none, and finish an interrupted rotation.

        With a damaged credential no password can be opened: events are accepted and wait. Raises `NotStored`, `NotReadable`.
        """
        self._folders = folders
        self._ids: frozenset[str] = frozenset()
        try:
            keys.load_pair(folders.private_key, folders.public_key, is_credential=folders.credential is not None)
        except (NoKey, Damaged, NotReadable) as error:
            # Without a key of its own the hook could never mail: the start must fail, visibly.
            if folders.credential is None:
                raise
            log.error("credential not loaded: %s; mail waits until it is repaired, or removed and saved again", error)
            return
        try:
            rotation.finish(Store(folders.settings), folders.private_key, folders.public_key, sign_in_records(folders))
        # Both keys stay, so every password can be opened; the next start finishes the rotation.
        except (Damaged, NotReadable, NotStored) as error:
            log.error("previous key kept: %s", error)
        self._ids = keys.public_ids(folders.public_key)

    def can_unseal(self, settings: SmtpSettings) -> bool:
        """Return whether the password was sealed to a key of this device; True without a password."""
        if settings.sealed is None:
            return True
        key_id = seal.sealed_for(settings.sealed)
        if key_id not in self._ids:  # the key may have been rotated since
            with contextlib.suppress(NoKey, Damaged, NotReadable):
                self._ids = keys.public_ids(self._folders.public_key)
        return key_id in self._ids

    def unseal(self, settings: SmtpSettings) -> str:
        """Return the password. Raises `CannotOpen`, `Damaged`, `NoKey`, `NotReadable`."""
        # Read from the file each time: the key is in memory only while a password is opened.
        return keys.load_password(self._folders.private_key, settings)


def sign_in_records(folders: Folders) -> tuple[SealedRecord, SealedRecord]:
    """Return the hook's own records: the tokens of a sign-in by OAuth 2.0, and the key of the device."""
    pair = folders.private_key, folders.public_key
    return (
        SealedRecord(folders.sign_in, record.PURPOSE, record.COMMENT, *pair),
        SealedRecord(folders.sign_in_key, signing_key.PURPOSE, signing_key.COMMENT, *pair),
    )


class SmtpClients:
    """Makes the SMTP clients of one device: one TLS context, one HELO name; `sign_in` has the tokens of OAuth 2.0, and
    `last_seen` is that of `smtp.trust.accept`."""

    sign_in: SignIn
    last_seen: Callable[[SmtpSettings], InUse | None]

    def __init__(self, device: Device, *, allow_loopback: bool, ca_file: str = "") -> None:
        self._device = device
        self._allow_loopback = allow_loopback or bool(device["mail.allow_loopback"])
        # The maker's certificates are added to the system's; nothing turns the verification off.
        self._ca_files = [name for name in (device["mail.ca_file"], ca_file) if name]

    def for_queue(self, settings: SmtpSettings, secret: str) -> Transport:
        """Return a client for the mails of the queue."""
        # Imported here: ssl and smtplib are loaded with the first mail, not before.
        from device_ui.mail.smtp.client import SmtpClient

        def connect(settings: SmtpSettings, secret: str) -> SmtpClient:
            return SmtpClient(settings, secret, self.options())

        if settings.sign_in != "oauth":
            return connect(settings, secret)
        from device_ui.mail.oauth.session import OAuthSession

        return OAuthSession(settings, secret, self.sign_in, connect)

    def for_test(self, settings: SmtpSettings, secret: str, on_step: OnStep) -> SmtpClient | OAuthSession:
        """Return a client for a test mail, with shorter timeouts: a person waits."""
        from device_ui.mail.smtp.client import SmtpClient
        from device_ui.mail.smtp.test_run import TIMEOUTS

        def connect(settings: SmtpSettings, secret: str) -> SmtpClient:
            return SmtpClient(settings, secret, self.options(), TIMEOUTS, on_step)

        if settings.sign_in != "oauth":
            return connect(settings, secret)
        from device_ui.mail.oauth.session import OAuthSession

        return OAuthSession(settings, secret, self.sign_in, connect, on_step, renews=True)

    @cached_property
    def token_client(self) -> TokenClient:
        """The requests for tokens."""
        from device_ui.mail.oauth.https import Exchange
        from device_ui.mail.oauth.token_client import TokenClient

        login = str(self._device["oauth.microsoft_login"])
        return TokenClient(lambda *on_step: Exchange(self.options(), *on_step), self.sign_in.keys, login)

    def options(self) -> ClientOptions:
        """Return what every connection of this device has in common."""
        from device_ui.mail.smtp.client import ClientOptions

        name = host_name()
        # RFC 5321, 4.1.1.1: a host name in EHLO is fully qualified; without one, the client sends its address literal.
        helo_name = self._device["mail.helo_name"] or (name if "." in name else "")
        return ClientOptions(self._tls_context, helo_name, self._allow_loopback, last_seen=self.last_seen)

    @cached_property
    def _tls_context(self) -> ssl.SSLContext:
        from device_ui.mail.smtp.tls import trusted

        return trusted(self._ca_files)


class Daemon:
    """The hook of one device. `run` returns after SIGTERM or SIGINT, when idle, or when the worker failed."""

    def __init__(
        self, device: Device, *, allow_loopback: bool = False, ca_file: str = "", idle_seconds: float = IDLE_SECONDS
    ) -> None:
        self._device, self._idle_minimum = device, idle_seconds
        self._clients = SmtpClients(device, allow_loopback=allow_loopback, ca_file=ca_file)
        # None: the process was not started by a socket, so it does not end when idle.
        self._idle_seconds: float | None = None
        # No core dump may hold the key or a password.
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        for folder in device.layout("mail"):
            files.make_folder(*folder)
        # Before the outbox and the socket: a page can save a password as soon as the public key is there.
        self._passwords = PasswordKeys(device.folders)
        self._recipients = RecipientStore(device.folders.recipients)
        self._outbox = Outbox(
            device.folders.ledger,
            rows_maximum=device["ledger.rows"],
            bytes_maximum=device["ledger.bytes"],
            reserve=Reserve(device.folders.ledger.with_name("reserve"), device["ledger.reserve"]),
        )
        if self._outbox.set_aside:
            log.error("ledger damaged; it is kept as %s", self._outbox.set_aside.name)
        self._state_command = StateCommand(device["mail.state_command"])
        self._has_failed = False
        self._build()

    def _build(self) -> None:
        device, store = self._device, Store(self._device.folders.settings)
        names = {name: str(device[f"device.{name}"]) for name in ("name", "model", "serial", "language")}
        names |= {"etc": str(device.folders.etc), "host_name": host_name(), "url": device.pages_url}
        names["importance"] = "high" if device["mail.high_importance"] else ""
        kinds = self._catalog()
        records = sign_in_records(device.folders)
        tokens, key = SignInRecord(records[0]), records[1]
        # A clock before the newest event of a sure date is wrong.
        clock = Clock(self._outbox.newest_date())
        environment = Environment(names, self._list_recipients, self._passwords, clock, time.monotonic, random_fraction)
        quota = Quota(self._outbox, clock, device["web.tests"])
        batcher = Batcher(device["mail.digest_window"], device["mail.hourly_budget"])
        schedule = Schedule(self._outbox, batcher, environment)
        sender = Sender(self._outbox, kinds, self._clients.for_queue, environment)
        self._forward_command = ForwardCommand(device["mail.forward_command"], self._outbox, kinds, environment)
        self._outbox.on_change = self._forward_command.wake
        self._outbox.keep_outcomes(bool(device["mail.forward_command"] and device["mail.forward_outcomes"]))
        self._sign_in = SignIn(
            tokens, SigningKeys(key, clock.now), lambda: self._clients.token_client, clock, self._raise
        )
        self._clients.sign_in, self._clock = self._sign_in, clock
        self._worker = DeliveryWorker(self._outbox, store, schedule, sender, quota, self._state_command.show)
        if clock.since_boot[1] < BOOT_SECONDS:
            self._worker.spread_start(device["mail.start_spread"])
        self._clients.last_seen = self._worker.certificate_last_seen
        verified = self._worker.settings_verified
        tester = Tester(store, sender, self._clients.for_test, quota, wake=self._wake, verified=verified)
        requests = RequestHandler(self._outbox, kinds, self._worker, tester, clock, self._wake)
        requests.add({"metrics": Metrics(self._outbox, self._worker, self._forward_command, clock).read})
        self._worker.watch_sign_in(self._sign_in_problem)
        self._flow = DeviceCodeFlow(
            self._sign_in, lambda: self._clients.token_client, time.monotonic, self._worker.settings_changed
        )
        about_sign_in = SignInRequests(store, self._sign_in, self._flow, self._passwords.unseal, self._worker.wake)
        requests.add_background(about_sign_in.quick, is_slow=False)
        requests.add_background(about_sign_in.slow, is_slow=True)
        permissions = Permissions(device["users.web"], device["users.event_group"])
        connections = ClientConnections(self._listener(), permissions)
        self._server = server.IpcServer(connections, self._outbox, requests, self._worker)

    def run(self) -> bool:
        """Serve until a signal or until idle; then finish the mail under way and close the database.

        Return False when the worker failed: then this process must be started anew.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            # A handler may run between any two instructions: `stop` only sets a flag and writes a byte to a socket.
            signal.signal(number, lambda *_: self.stop())
        self._server.wake_at_signals()
        # A daemon thread: one that hangs in a name server's answer must not keep the process from ending.
        thread = threading.Thread(target=self._work, name="worker", daemon=True)
        thread.start()
        self._forward_command.start()
        # The event that starts this process is mailed as the operator chose, too. The worker reads that, for a bounded
        # time: the file is in a folder of the pages' user.
        self._worker.wait_for_choices(CHOICES_SECONDS)
        log.info("listening at %s", self._device.folders.socket)
        is_idle = self._server.serve(self._idle_seconds, self._is_idle)
        self._worker.stop()
        self._forward_command.stop()
        # A mail or a notice under way gets a moment. Otherwise the next start tries it again, with its Message-ID.
        thread.join(timeout=5)
        if is_idle:
            # The state program keeps the last state: a light must not go out because the hook has nothing to do.
            log.info("idle, exiting; the next line to the socket starts the mail hook again")
        else:
            self._state_command.end()
        self._outbox.close()
        # systemd starts a process again that ended with an error (Restart=on-failure).
        return not self._has_failed

    def stop(self) -> None:
        """Let `run` end. Any thread and a signal handler may call it."""
        self._server.stop()

    def _work(self) -> None:
        try:
            self._worker.run()
        except BaseException:
            # Events would be accepted and never mailed: the process that started the hook must notice.
            log.exception("worker failed; the mail hook ends")
            self._has_failed = True
            self._server.stop()

    def _is_idle(self) -> bool:
        return self._worker.is_idle() and self._forward_command.is_idle() and not self._flow.is_open

    def _sign_in_problem(self, settings: SmtpSettings) -> Problem:
        """Return the problem of a sign-in by OAuth 2.0 that a person has to see to."""
        if settings.sign_in != "oauth":
            return Problem()
        try:
            known = self._sign_in.state(settings)
        except NotReadable as error:
            return Problem("sign-in", reply=error.message)
        step, problem, reply = (known[name] for name in ("step", "problem", "reply"))
        if not problem:
            return Problem()
        # Imported here: only a sign-in that fails needs it.
        from device_ui.mail.smtp.advice import advise

        found = advise(step, problem, reply, settings, clock_text(self._clock.raw))
        return Problem("sign-in", step, reply, found.sentence)

    def _raise(self, kind: Kind, text: Text) -> None:
        """Accept an event of this process itself. Never raises: a full flash must not stop what it is about."""
        stamp = self._clock.stamp(None)
        is_mailed, in_summary = self._worker.decide(kind)
        accepted = self._clock.seconds()
        source, told = to_stored(Message("sign-in")), to_stored(text)
        event = Event(
            kind.code,
            kind.type,
            stamp.time,
            accepted,
            source,
            told,
            waiting=is_mailed,
            clock=stamp.clock,
            in_summary=in_summary,
        )
        try:
            singles = self._worker.choose_singles([event])
            numbers = self._outbox.accept([event], singles)
        except NotStored as error:
            log.error("event %s not accepted: %s", kind.code, error.reason)
            return
        self._worker.add(list(zip(numbers, [event], singles, strict=True)))
        self._worker.wake()

    def _wake(self) -> None:
        self._server.wake()

    def _catalog(self) -> catalog.Catalog:
        try:
            return catalog.load(self._device.folders.etc)
        except MakerFile as error:
            # Events are worth more than their names: the built-in catalogue serves. `check` and the pages report it.
            log.error("%s; the built-in catalogue is used", error)
            return catalog.built_in(str(error))

    def _listener(self) -> socket.socket:
        inherited = listen_fds(os.environ)
        if inherited:  # systemd holds the socket and starts the hook again
            self._idle_seconds = max(self._idle_minimum, 2.0 * self._device["mail.digest_window"])
            return inherited[0]
        return listen(self._device.folders.socket)

    def _list_recipients(self) -> Recipients:
        try:
            return self._recipients.read()[0] or ()
        except (Damaged, NotReadable) as error:
            # The page reports it. Meanwhile events go to the account, as they do with an empty list.
            log.error("%s; mail goes to the SMTP account", error)
            return ()
