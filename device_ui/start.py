"""How both processes begin, whoever read the command line, and how any command ends that went wrong (sysexits.h)."""

from __future__ import annotations

import errno
import os
import sys

from device_ui.device import Device, Folders
from device_ui.errors import DeviceUIError, HookError, NotReadable, NotStored
from device_ui.log import Log

# sysexits.h
EX_OK, EX_USAGE, EX_DATAERR, EX_UNAVAILABLE, EX_SOFTWARE, EX_OSERR, EX_IOERR, EX_TEMPFAIL, EX_NOPERM, EX_CONFIG = (
    0, 64, 65, 69, 70, 71, 74, 75, 77, 78,
)  # fmt: skip
HOOK_EXITS = {
    "denied": EX_NOPERM,
    "bad-request": EX_DATAERR,
    "down": EX_TEMPFAIL,
    "not-stored": EX_TEMPFAIL,
    "busy": EX_TEMPFAIL,
    "exhausted": EX_TEMPFAIL,
    "fault": EX_TEMPFAIL,
    "unset": EX_CONFIG,
    "password": EX_CONFIG,
}
LISTEN = "127.0.0.1:8080"


def device(data: str | None) -> Device:
    """The device of ``--data`` and the environment, as it is after a factory reset that was interrupted. Raises `DeviceUIError`."""
    folders = Folders.find(data, os.environ)
    _finish_reset(folders)
    return Device.load(folders)


def web(device: Device, listen: str = LISTEN) -> int:
    """Serve the pages until a signal, or until they rest."""
    from device_ui.web import templates

    templates.compile_usual()
    from device_ui.web import server

    _keep_log()
    server.serve(device, listen, device["web.trusted_proxy"])
    return EX_OK


def mailhook(device: Device, ca_file: str = "", *, allow_loopback: bool = False) -> int:
    """Accept and mail events until a signal, or until there is nothing left to do; `EX_SOFTWARE` when it broke down."""
    from device_ui.mail.daemon import Daemon

    Log.to_stderr()
    is_well = Daemon(device, allow_loopback=allow_loopback, ca_file=ca_file).run()
    return EX_OK if is_well else EX_SOFTWARE


def failed(error: DeviceUIError | OSError) -> int:
    """Tell what went wrong; the exit code for it."""
    print(f"device-ui: {error}", file=sys.stderr)
    if isinstance(error, HookError):
        return HOOK_EXITS.get(error.word, EX_UNAVAILABLE)
    if isinstance(error, NotStored | NotReadable):
        return EX_NOPERM if error.errno in (errno.EACCES, errno.EPERM) else EX_IOERR
    return EX_CONFIG if isinstance(error, DeviceUIError) else EX_OSERR


def _finish_reset(folders: Folders) -> None:
    """Nothing runs on what an interrupted factory reset has left."""
    from device_ui import factory

    if factory.finish(folders):
        print("device-ui: a factory reset that was interrupted is finished", file=sys.stderr)


def _keep_log() -> None:
    """With `logging`, as waitress needs it."""
    import logging

    from device_ui import journal

    logging.basicConfig(level=logging.INFO)
    journal.keep_lines_whole()
