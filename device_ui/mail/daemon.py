"""The mail hook's process: its parts put together, and how it starts and ends."""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import signal
import socket
import threading
from functools import cached_property
from typing import TYPE_CHECKING

from device_ui.config import Device, host_name, listen_fds
from device_ui.errors import Damaged, MakerFile, NoKey, NotReadable, NotStored
from device_ui.mail import catalog
from device_ui.mail.clock import Clock
from device_ui.mail.delivery.batching import Batcher
from device_ui.mail.delivery.quota import Quota
from device_ui.mail.delivery.state_command import StateCommand
from device_ui.mail.delivery.test_mail import Tester
from device_ui.mail.delivery.worker import DeliveryWorker
from device_ui.mail.ipc import server
from device_ui.mail.ipc.connection import ClientConnections, listen
from device_ui.mail.ipc.peer_credentials import Permissions
from device_ui.mail.ipc.requests import RequestHandler
from device_ui.mail.outbox.disk_reserve import Reserve
from device_ui.mail.outbox.outbox import Outbox
from device_ui.settings import keys, rotation, seal
from device_ui.settings.fields import SmtpSettings
from device_ui.settings.recipients import Recipients
from device_ui.settings.store import RecipientStore, Store
from device_ui.storage import files

if TYPE_CHECKING:
    import ssl

    from device_ui.mail.smtp.client import ClientOptions, SmtpClient
    from device_ui.mail.smtp.connection import OnStep

log = logging.getLogger(__name__)

# Seconds without a call and without mail after which a hook that can be started again ends; longer than a storm's window,
# which lives in memory.
IDLE_SECONDS = 60.0


class Daemon:
    """The hook of one device: socket, ledger, postman. `run` returns after SIGTERM or SIGINT, when nothing is left to do,
    or when no mail would be sent any more."""

    def __init__(
        self, device: Device, *, allow_loopback: bool = False, ca_file: str = "", idle_seconds: float = IDLE_SECONDS
    ) -> None:
        self._device, self._idle_least = device, idle_seconds
        self._allow_loopback = allow_loopback or bool(device["mail.allow_loopback"])
        self._ca_files = [name for name in (device["mail.ca_file"], ca_file) if name]
        self._idle_seconds: float | None = None
        # No core dump may hold the key or a password.
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        for folder in device.layout("mail"):
            files.make_folder(*folder)
        self._key_ids = self._load_key()
        self._outbox = Outbox(
            device.folders.ledger,
            rows_maximum=device["ledger.rows"],
            bytes_maximum=device["ledger.bytes"],
            reserve=Reserve(device.folders.ledger.with_name("reserve"), device["ledger.reserve"]),
        )
        if self._outbox.set_aside:
            log.error("the ledger was damaged; it is kept as %s", self._outbox.set_aside.name)
        self._lamp = StateCommand(device["mail.state_command"])
        self._hook = self._made()
        self._is_broken = False

    def _made(self) -> server.IpcServer:
        device, store = self._device, Store(self._device.folders.settings)
        names = {name: str(device[f"device.{name}"]) for name in ("name", "model", "serial", "language")}
        names["etc"] = str(device.folders.etc)
        kinds = self._catalog()
        calendar = Clock(self._outbox.newest_date())
        quota = Quota(self._outbox, calendar, device["web.tests"])
        self._postman = DeliveryWorker(
            self._outbox,
            kinds,
            store,
            names,
            self._client,
            self._unseal,
            calendar=calendar,
            quota=quota,
            storm=Batcher(device["mail.digest_window"], device["mail.hourly_budget"]),
            fits=self._fits,
            listed=self._listed,
            show=self._lamp.show,
        )
        tester = Tester(
            store,
            names,
            self._test_client,
            self._unseal,
            self._listed,
            self._outbox.id,
            calendar,
            quota,
            wake=self._wake,
            proved=self._postman.settings_proved,
        )
        requests = RequestHandler(self._outbox, kinds, self._postman, tester, calendar, self._wake)
        permissions = Permissions(device["users.web"], device["users.event_group"])
        callers = ClientConnections(self._listener(), permissions)
        return server.IpcServer(callers, self._outbox, requests, self._postman)

    def run(self) -> bool:
        """Serve until a signal or until idle; then finish the mail under way and close the ledger.

        False: the postman broke down, and this process must be started anew.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._hook.stop())
        thread = threading.Thread(target=self._mail, name="postman", daemon=True)
        thread.start()
        log.info("the mail hook listens at %s", self._device.folders.socket)
        is_idle = self._hook.serve(self._idle_seconds, self._postman.is_idle)
        self._postman.stop()
        # A mail under way, or an announcement, gets a moment; after that it is tried again at the next start, with its
        # Message-ID.
        thread.join(timeout=5)
        if is_idle:
            log.info("nothing is left to do; the next line to the socket starts the mail hook again")
        else:
            self._lamp.end()
        self._outbox.close()
        return not self._is_broken

    def _mail(self) -> None:
        try:
            self._postman.run()
        except BaseException:
            # Events would be accepted and none mailed: whoever started the hook must notice.
            log.exception("the postman broke down; the mail hook ends")
            self._is_broken = True
            self._hook.stop()

    def _wake(self) -> None:
        self._hook.wake()

    def _catalog(self) -> catalog.Catalog:
        try:
            return catalog.load(self._device.folders.etc)
        except MakerFile as error:
            # Alarms are worth more than their names: the built-in catalogue serves; `check` and the pages tell.
            log.error("%s; the built-in catalogue is used", error)
            return catalog.built_in(str(error))

    def _listener(self) -> socket.socket:
        handed = listen_fds(os.environ)
        if handed:  # whoever holds the socket starts us again
            self._idle_seconds = max(self._idle_least, 2.0 * self._device["mail.digest_window"])
            return handed[0]
        return listen(self._device.folders.socket)

    @cached_property
    def _context(self) -> ssl.SSLContext:
        from device_ui.mail.smtp.tls import trusted

        return trusted(self._ca_files)

    def _client_options(self) -> ClientOptions:
        from device_ui.mail.smtp.client import ClientOptions

        name = host_name()
        helo_name = self._device["mail.helo_name"] or (name if "." in name else "")
        return ClientOptions(self._context, helo_name, self._allow_loopback)

    def _client(self, settings: SmtpSettings, password: str) -> SmtpClient:
        # Imported here: ssl and smtplib are loaded with the first mail, not before.
        from device_ui.mail.smtp.client import SmtpClient

        return SmtpClient(settings, password, self._client_options())

    def _test_client(self, settings: SmtpSettings, password: str, on_step: OnStep) -> SmtpClient:
        from device_ui.mail.smtp.client import SmtpClient
        from device_ui.mail.smtp.test_run import TIMEOUTS

        return SmtpClient(settings, password, self._client_options(), TIMEOUTS, on_step)

    def _listed(self) -> Recipients:
        try:
            return RecipientStore(self._device.folders.recipients).read()[0] or ()
        except (Damaged, NotReadable) as error:
            # The page tells; meanwhile the alarm reaches the account, as it does while nobody is listed.
            log.error("%s; mail goes to the SMTP account", error)
            return ()

    def _fits(self, settings: SmtpSettings) -> bool:
        if settings.sealed is None:
            return True
        key_id = seal.sealed_for(settings.sealed)
        if key_id not in self._key_ids:  # the key may have been rotated since
            with contextlib.suppress(NoKey, Damaged, NotReadable):
                self._key_ids = keys.public_ids(self._device.folders.public_key)
        return key_id in self._key_ids

    def _unseal(self, settings: SmtpSettings) -> str:
        return keys.load_password(self._device.folders.private_key, settings)

    def _load_key(self) -> frozenset[str]:
        """The ids of the keys that open passwords; none of a credential that is damaged: alarms are accepted all the
        same, and wait for whoever mends it. Raises `NotStored`, `NotReadable`."""
        folders = self._device.folders
        try:
            keys.load_pair(folders.private_key, folders.public_key, is_credential=folders.credential is not None)
        except (NoKey, Damaged, NotReadable) as error:
            if folders.credential is None:
                raise
            log.error("%s; mail waits until it is mended, or removed and the password typed again", error)
            return frozenset()
        self._finish_rotation()
        return keys.public_ids(folders.public_key)

    def _finish_rotation(self) -> None:
        folders = self._device.folders
        try:
            rotation.finish(Store(folders.settings), folders.private_key, folders.public_key)
        except (Damaged, NotReadable, NotStored) as error:
            log.error("the key before stays for now: %s", error)
