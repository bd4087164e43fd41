"""The web process: waitress around the pages, on an address or on the socket that systemd hands over."""

from __future__ import annotations

import logging
import os
import resource
import signal
import sys
from typing import Any, NoReturn

import waitress
from waitress.channel import HTTPChannel
from waitress.server import BaseWSGIServer
from waitress.task import ErrorTask

from device_ui.device import Device, listen_fds
from device_ui.errors import Damaged, DeviceUIError
from device_ui.settings import flash
from device_ui.web import app
from device_ui.web.administrator import Administrator, Record
from device_ui.web.forms import BODY_MAXIMUM

log = logging.getLogger(__name__)

# A page takes a millisecond; only a login computes. Four threads serve an appliance and cost little memory.
THREADS = 4
# Connections at once, and seconds until an idle one is closed.
CONNECTIONS_MAXIMUM, IDLE_SECONDS = 100, 30
HEADER_MAXIMUM = 8 * 1024


class PlainError(ErrorTask):  # type: ignore[misc]  # waitress has no types
    """What waitress answers by itself (400, 413, 431, 501), with the headers of every other answer."""

    def execute(self) -> None:
        """Write the answer."""
        self.response_headers.extend((*app.HEADERS, app.NO_STORE))
        super().execute()


class Channel(HTTPChannel):  # type: ignore[misc]
    """A connection of waitress with our errors."""

    error_task_class = PlainError


def serve(device: Device, listen: str) -> None:
    """Serve `listen` (``host:port``) until SIGTERM or SIGINT. Raises OSError when the address cannot be had,
    `DeviceUIError` when it is none."""
    # No core dump may hold a password that somebody is just typing.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    prepare(device)
    handed = listen_fds(os.environ)
    server = _server(device, {"sockets": handed} if handed else {"listen": listen})
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    log.info("the pages are served at %s", "systemd's socket" if handed else f"http://{listen}/")
    server.run()


def prepare(device: Device, *, quiet: bool = False) -> Record | None:
    """Make the folders and, on a new device, the setup code, which is printed for the console and the journal."""
    for folder in device.layout("web"):
        flash.make_folder(*folder)
    is_new = not device.folders.settings.exists() and not flash.set_aside_files(device.folders.settings)
    try:
        found = Administrator(device.folders.administrator).begin(is_new=is_new)
    except Damaged as damage:
        log.error("%s; device-ui admin set-password chooses a new password", damage)
        return None
    if found and not found.is_set_up and not quiet:
        print(f"setup code: {found.code}", file=sys.stderr, flush=True)
    return found


def _server(device: Device, where: dict[str, Any]) -> Any:
    channels: dict[int, Any] = {}
    try:
        server = waitress.create_server(
            app.make(device),
            channels,
            **where,
            threads=THREADS,
            ident="",
            connection_limit=CONNECTIONS_MAXIMUM,
            channel_timeout=IDLE_SECONDS,
            max_request_body_size=BODY_MAXIMUM + 1,  # waitress refuses this size itself
            max_request_header_size=HEADER_MAXIMUM,
            clear_untrusted_proxy_headers=True,
        )
    except ValueError as error:
        raise DeviceUIError(f"the pages cannot be served at {where.get('listen')}: {error}") from error
    for each in channels.values():
        if isinstance(each, BaseWSGIServer):
            each.channel_class = Channel
    return server


def _leave(*_: object) -> NoReturn:
    raise SystemExit(0)
