"""Start both processes, and map errors to exit codes (sysexits.h).

An error that prevents a start (a typing error in device.toml, a read-only flash) ends a process that was started by hand. systemd
would start it again every second, so there the process logs the reason once, shows it in `systemctl status`, and waits until
it can start. No process runs on settings that were not read whole. Meanwhile the pages answer 503, and requests of clients
stay in the queue of the mail hook's socket.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from dataclasses import replace

from device_ui import logging_setup
from device_ui.config import Device, Folders, is_activated, notify_status
from device_ui.errors import DeviceUIError, HookError, MakerFile, NotReadable, NotStored
from device_ui.logging_setup import escaped

# sysexits.h, by their numbers, since these are what a script compares.
EX_OK, EX_USAGE, EX_DATAERR, EX_UNAVAILABLE, EX_SOFTWARE, EX_OSERR, EX_IOERR, EX_TEMPFAIL, EX_NOPERM, EX_CONFIG = (
    0, 64, 65, 69, 70, 71, 74, 75, 77, 78,
)  # fmt: skip
# Of a command whose reader, such as head(1), ended before it: what a shell shows for a program that SIGPIPE ended.
EX_PIPE = 128 + signal.SIGPIPE
# A script may retry what is temporary (75): the same request can succeed later.
HOOK_EXITS = {
    "denied": EX_NOPERM,
    "bad-request": EX_DATAERR,
    "down": EX_TEMPFAIL,
    "not-stored": EX_TEMPFAIL,
    "busy": EX_TEMPFAIL,
    "exhausted": EX_TEMPFAIL,
    "too-many": EX_TEMPFAIL,
    "too-many-logins": EX_TEMPFAIL,
    "fault": EX_TEMPFAIL,
    "unset": EX_CONFIG,
    "password": EX_CONFIG,
}
# Loopback: without TLS in front, the administrator's password must not cross a network.
LISTEN = "127.0.0.1:8080"
# Seconds between two attempts to start the mail hook.
LOOK_SECONDS = 1.0


def device(data: str | None, *, takes_defaults: bool = False) -> Device:
    """Return the device of ``--data`` and the environment, after finishing an interrupted factory reset. Raises `DeviceUIError`.

    With `takes_defaults` a wrong device.toml is reported, and the defaults of its settings are used.
    """
    # Every command finishes an interrupted reset first: none may run on half of the data.
    folders = Folders.find(data, os.environ)
    finish_reset(folders)
    try:
        return Device.load(folders)
    # A wrong file must not keep nginx without a certificate: then the page that reports the file could not be opened.
    except MakerFile as error:
        if not takes_defaults:
            raise
        from device_ui.cli import output

        output.say(f"device-ui: {error}; its settings are not used", is_error=True)
        return Device.plain(folders)


def finish_reset(folders: Folders) -> None:
    """Finish an interrupted factory reset. Raises `DeviceUIError`."""
    from device_ui.cli import factory_reset

    if factory_reset.finish(folders):
        from device_ui.cli import output

        output.say("device-ui: a factory reset that was interrupted is finished", is_error=True)


def web(data: str | None, listen: str = LISTEN) -> int:
    """Serve the pages until a signal, or until idle. Raises `DeviceUIError` when they cannot start; under systemd waits."""
    _end_in_order()
    from device_ui.web import templates

    # Before the rest is imported: compiling takes memory for a moment, which the imports then use again.
    templates.compile_usual()
    from device_ui.web import server

    logging_setup.for_process()
    try:
        found = device(data)
        server.serve(found, listen, found["web.trusted_proxy"])
    except DeviceUIError as error:
        if not is_activated(os.environ):
            raise
        _report(error)
        # systemd 252 has no growing delay between restarts: a process that ended would be started every second.
        server.serve_unavailable(lambda: _is_startable(data))
    return EX_OK


def mailhook(data: str | None, ca_file: str = "", url: str = "", *, allow_loopback: bool = False) -> int:
    """Accept and mail events until a signal, or until idle; return `EX_SOFTWARE` after an internal error.

    `url` is the address of the pages for links in mails, instead of the maker's. Raises `DeviceUIError` when it cannot start;
    under systemd waits.
    """
    _end_in_order()
    # Imported here, so that the web process loads nothing that can unseal.
    from device_ui.mail.daemon import Daemon

    logging_setup.for_process()
    reason = ""
    while True:
        try:
            found = device(data)
            found = replace(found, settings={**found.settings, "web.url": url}) if url else found
            daemon = Daemon(found, allow_loopback=allow_loopback, ca_file=ca_file)
            break
        except DeviceUIError as error:
            if not is_activated(os.environ):
                raise
            # One line for each reason, not one each second.
            if str(error) != reason:
                reason = str(error)
                _report(error)
        # Not `threading.Event`: the handler of a signal could not end its wait.
        time.sleep(LOOK_SECONDS)
    # The reason of an earlier failure must not stay in `systemctl status`.
    notify_status(os.environ, "")
    return EX_OK if daemon.run() else EX_SOFTWARE


def failed(error: DeviceUIError | OSError) -> int:
    """Print an error, except that the reader of standard output has ended; return its exit code."""
    from device_ui.cli import output

    if isinstance(error, BrokenPipeError):
        return EX_PIPE
    output.say(f"device-ui: {error}", is_error=True)
    if isinstance(error, HookError):
        return HOOK_EXITS.get(error.word, EX_UNAVAILABLE)
    # A missing permission is the caller's mistake (EX_NOPERM); anything else is the disk.
    if isinstance(error, NotStored | NotReadable):
        return EX_NOPERM if error.errno in (errno.EACCES, errno.EPERM) else EX_IOERR
    return EX_CONFIG if isinstance(error, DeviceUIError) else EX_OSERR


def _end_in_order() -> None:
    """Let SIGTERM and SIGINT end this process with exit code 0 from now on, by SystemExit.

    Without it a signal during the start, which takes seconds on a slow processor, would look like a failure to what started
    the process: it may be sent as soon as the socket listens.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _exit)


def _exit(*_: object) -> None:
    raise SystemExit(EX_OK)


def _is_startable(data: str | None) -> bool:
    """Return whether `web` would start."""
    from device_ui.web.server import prepare

    try:
        # The folders, too: the pages cannot start on a read-only flash either.
        prepare(device(data), quiet=True)
    except DeviceUIError:
        return False
    return True


def _report(error: DeviceUIError) -> None:
    """Report why this process waits: a line in the log, and the status of the unit."""
    from device_ui.cli import output

    output.say(f"device-ui: {error}; waiting until it is right", is_error=True)
    notify_status(os.environ, escaped(f"waiting: {error}"))
