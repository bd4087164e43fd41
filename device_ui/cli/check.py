"""What is wrong with this installation, line by line: for the console and for a maker's end-of-line test."""

from __future__ import annotations

import datetime
import importlib.metadata
import importlib.util
import os
import pwd
import stat
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from device_ui.cli import certificate
from device_ui.config import BRAND, Device
from device_ui.errors import Damaged, DeviceUIError, HookError, NotReadable
from device_ui.i18n.translator import LANGUAGES, load
from device_ui.mail import catalog, client
from device_ui.settings import keys, seal
from device_ui.settings.store import Store
from device_ui.storage import files as storage_files
from device_ui.web import branding
from device_ui.web.auth.administrator import Administrator
from device_ui.web.auth.guard import own_names

# The oldest releases without a known hole in what is used here; cryptography 47 is the first with HPKE.
MINIMUM_VERSIONS = {"bottle": (0, 12, 20), "waitress": (3, 0, 2), "cryptography": (47,)}

# Seconds that a hook has to start on slow flash, and to make its keys.
START_SECONDS = 20.0


@dataclass(frozen=True)
class Finding:
    """One line: what was looked at, whether it is well, and what is wrong or what was found."""

    subject: str
    well: bool
    told: str

    def __str__(self) -> str:
        return f"{'ok' if self.well else 'WRONG':<6}{self.subject}: {self.told}"


def findings(device: Device) -> Iterator[Finding]:
    """Every look, in an order that mends what the later ones need first."""
    # First, though it is listed last: its socket starts a hook, which makes the keys of a new device before it answers.
    answer = _asked(device)
    for package in MINIMUM_VERSIONS:
        yield _version(package)
    looks: tuple[tuple[str, Callable[[Device], str]], ...] = (
        ("maker's files", _makers_files),
        ("event catalogue", _catalogue),
        ("languages", _languages),
        ("public key", lambda device: f"{len(keys.load_public(device.folders.public_key)) * 8} bits"),
        ("private key", _private_key),
        ("administrator", _administrator),
        ("SMTP settings", _settings),
        ("TLS certificate", _certificate),
        ("state program", _state_command),
        ("mail hook", lambda _: _hook(answer)),
    )
    for subject, look in looks:
        try:
            yield Finding(subject, True, look(device))
        except DeviceUIError as error:
            yield Finding(subject, False, str(error))
    yield from _looks(device)
    for path in _set_aside(device):
        yield Finding("set aside", False, f"{path} was damaged; it is kept for you to look at and may be deleted")


def _version(package: str) -> Finding:
    minimum = MINIMUM_VERSIONS[package]
    needed = ".".join(map(str, minimum))
    try:
        found = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return Finding(package, False, f"not installed; {needed} or later is needed")
    numbers = tuple(int(part) for part in found.split(".") if part.isdigit())
    return Finding(
        package, numbers >= minimum, found if numbers >= minimum else f"{found}; {needed} or later is needed"
    )


def _makers_files(device: Device) -> str:
    """Root, who asks, can read anything: what counts is who the processes are."""
    etc = device.folders.etc
    found = [each for each in sorted(etc.glob("*.toml")) if each.is_file()]
    logos = [
        etc / name for name in (device["brand.logo"], device["brand.logo_dark"]) if name and (etc / name).is_file()
    ]
    for role, paths in (("mail", found), ("web", [*found, *logos])):
        user = device[f"users.{role}"]
        for path in paths:
            if not can_read(user, path):
                raise DeviceUIError(f"{path} cannot be read by {user}; chmod 644 mends it, and 755 for its folder")
    return ", ".join(each.name for each in (*found, *logos)) or "none"


def can_read(user: str, path: Path) -> bool:
    """Whether this user can read a file; as anybody but root, whether we can. Whom the system does not know, root is."""
    if os.geteuid() != 0:
        return os.access(path, os.R_OK)
    try:
        known = pwd.getpwnam(user)
    except KeyError:
        return True
    groups = os.getgrouplist(user, known.pw_gid)
    who: dict[str, Any] = {"user": known.pw_uid, "group": known.pw_gid, "extra_groups": groups}
    return subprocess.run(["/bin/sh", "-c", 'test -r "$0"', path], check=False, **who).returncode == 0


def _catalogue(device: Device) -> str:
    found = catalog.load(device.folders.etc)
    if found.bounded:
        raise DeviceUIError(f"{', '.join(found.bounded)}: never mailed as alarms, whatever events.toml says of them")
    return f"{len(found.kinds)} codes"


def _languages(device: Device) -> str:
    for code in LANGUAGES:
        load(code, device.folders.etc)
    return ", ".join(LANGUAGES)


def _private_key(device: Device) -> str:
    path, credential = device.folders.private_key, device.folders.stored_credential
    if credential and os.path.exists(device.folders.key_file):
        raise DeviceUIError(f"{path} lies beside the credential {credential}, which is what is read; remove it")
    if credential:
        return f"encrypted for this device, {credential}"
    try:
        mode = stat.S_IMODE(os.stat(path).st_mode)
    except PermissionError:
        return "not readable by this user, as it should be"
    except FileNotFoundError:
        raise DeviceUIError("there is none; the mail hook makes it at its first start") from None
    if mode & 0o077:
        raise DeviceUIError(f"{path} can be read by others (mode {mode:o}); chmod 600 mends it")
    return f"key {keys.load_private(path).id}"


def _administrator(device: Device) -> str:
    try:
        found = Administrator(device.folders.administrator).load()
    except NotReadable:
        return "not readable by this user, as it should be"
    except Damaged as error:
        raise DeviceUIError(f"{error}; device-ui admin set-password mends it") from error
    if found is None:
        return "the device was never started"
    return "password set" if found.is_set_up else "not set up yet; device-ui setup-code shows the code"


def _settings(device: Device) -> str:
    settings, _ = Store(device.folders.settings).read()
    known = keys.public_ids(device.folders.public_key) if settings and settings.sealed else frozenset()
    if settings and settings.sealed and seal.sealed_for(settings.sealed) not in known:
        raise DeviceUIError("the password was sealed to another key; type it again on the page")
    return f"{settings.host} port {settings.port}" if settings else "none yet"


def _certificate(device: Device) -> str:
    folder = device.folders.tls
    try:
        is_there = storage_files.read_damaged(folder / certificate.CERTIFICATE) is not None
    except NotReadable:
        return "not readable by this user, as it should be"
    if not is_there and not folder.is_dir():  # a desk: the installer makes the folder where a proxy needs it
        return "none; device-ui certificate makes one, for nginx or stunnel"
    wanted = (own_names(device["web.names"]), certificate.own_addresses(), datetime.datetime.now(datetime.UTC))
    problem = certificate.problem(folder, *wanted)
    if problem:
        raise DeviceUIError(f"{problem}; device-ui certificate makes a new one")
    return f"SHA-256 {certificate.fingerprint(folder / certificate.CERTIFICATE)}"


def _state_command(device: Device) -> str:
    command = device["mail.state_command"]
    if command and not os.access(command, os.X_OK):
        raise DeviceUIError(f"{command} cannot be run (mail.state_command in device.toml)")
    return command or "none"


def _looks(device: Device) -> Iterator[Finding]:
    found = branding.load(device)
    for problem in found.problems:
        subject = "brand" if f": {BRAND}" in str(problem) else "pages"
        yield Finding(subject, False, f"{problem}; the pages do without it")
    if not found.problems:
        yield Finding("brand", True, found.title or "none")


def _asked(device: Device) -> Mapping[str, Any] | HookError:
    """Return the state of the mail path, or why the hook did not say it; wait for a hook that starts."""
    try:
        return client.state(device.folders.socket, seconds=START_SECONDS)
    except HookError as error:
        return error


def _hook(state: Mapping[str, Any] | HookError) -> str:
    if isinstance(state, HookError):
        if state.word == "denied":
            return "answers; this user may not ask for its state"
        raise state
    if state["removed"]:
        raise DeviceUIError(f"{state['removed']} events were removed before they could be mailed: the ledger was full")
    if state["clock"]:
        raise DeviceUIError(f"the device's clock is not set, it says {state['clock']}")
    if state["problem"] == "unset" and not state["waiting"]:
        return "answers; no settings yet"
    if state["problem"]:
        told = " ".join(map(str, filter(None, (state["problem"], state["step"], state["reply"]))))
        raise DeviceUIError(f"{told}; {state['waiting']} events wait for their mail")
    return f"{state['waiting']} waiting"


def _set_aside(device: Device) -> list[Path]:
    folders = device.folders
    files = (folders.settings, folders.recipients, folders.administrator, folders.key_file, folders.ledger)
    return [kept for path in files for kept in storage_files.set_aside_files(path)]
