"""The command ``check``: look at each part of this installation, for the console and for the maker's end-of-line test."""

from __future__ import annotations

import datetime
import importlib.metadata
import importlib.util
import os
import pwd
import stat
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from device_ui.cli import certificate, ownership
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

# Seconds that a hook may take to start on slow flash, and to make its keys.
START_SECONDS = 20.0
OK, WARN, FAIL = "OK", "WARN", "FAIL"

# A script that runs test(1) for pairs of an operator and a path, and prints the number of words left at the first that fails. As a
# program of its own, since only a new process can take the user's rights.
ACCESS = 'while [ $# -gt 0 ]; do test "$1" "$2" || { echo $#; exit; }; shift 2; done'
# The operators of test(1), and the word of each for a message.
RIGHTS = {"-r": "read", "-w": "written", "-x": "entered"}
# Pairs of one run: the arguments of a program are limited.
PAIRS_MAXIMUM = 1000


@dataclass(frozen=True)
class Finding:
    """One line: the `subject`, its `state` (`OK`, `WARN` or `FAIL`), and a `text` that says what was found.

    `WARN` is for what stops neither the pages nor the mail.
    """

    subject: str
    state: str
    text: str

    def __str__(self) -> str:
        return f"{self.state:<6}{self.subject}: {self.text}"


def findings(device: Device) -> Iterator[Finding]:
    """Yield the finding of each part. Looking at the mail hook starts it, which makes the keys of a new device."""
    # First, although it is listed last: the request starts a hook, which makes the keys that other looks need.
    answer = _hook_state(device)
    for package in MINIMUM_VERSIONS:
        yield _version(package)
    looks: tuple[tuple[str, Callable[[Device], str]], ...] = (
        ("maker's files", _makers_files),
        ("data folder", _data_folder),
        ("event catalogue", _catalogue),
        ("languages", _languages),
        ("public key", lambda device: f"{len(keys.load_public(device.folders.public_key)) * 8} bits"),
        ("private key", _private_key),
        ("administrator", _administrator),
        ("SMTP settings", _settings),
        ("OAuth 2.0", _sign_in),
        ("TLS certificate", _certificate),
        ("state program", lambda device: _program(device, "mail.state_command")),
        ("forward program", lambda device: _program(device, "mail.forward_command")),
        ("mail hook", lambda _: _hook(answer)),
    )
    # Each part by itself: a damaged file must not hide the others from a maker's end-of-line test.
    for subject, look in looks:
        try:
            yield Finding(subject, OK, look(device))
        except DeviceUIError as error:
            yield Finding(subject, FAIL, str(error))
    yield from _brand(device)
    for path in _quarantined(device):
        yield Finding("set aside", WARN, f"{path} was damaged; look at it, then delete it")


def _version(package: str) -> Finding:
    minimum = MINIMUM_VERSIONS[package]
    needed = ".".join(map(str, minimum))
    try:
        found = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return Finding(package, FAIL, f"not installed; {needed} or later is needed")
    # Without parts such as "rc1": the final release of the same numbers is what the minimum means.
    numbers = tuple(int(part) for part in found.split(".") if part.isdigit())
    if numbers < minimum:
        return Finding(package, FAIL, f"{found}; {needed} or later is needed")
    return Finding(package, OK, found)


def _makers_files(device: Device) -> str:
    # Root can read any file; the users of the processes may not, and would then go on without it.
    etc = device.folders.etc
    found = [each for each in sorted(etc.glob("*.toml")) if each.is_file()]
    logos = [
        etc / name for name in (device["brand.logo"], device["brand.logo_dark"]) if name and (etc / name).is_file()
    ]
    for role, paths in (("mail", found), ("web", [*found, *logos])):
        user = device[f"users.{role}"]
        missing = missing_right(user, [("-r", path) for path in paths])
        if missing:
            raise DeviceUIError(
                f"{missing[1]} cannot be read by {user}; repair it with chmod 644, and 755 for its folder"
            )
    return ", ".join(each.name for each in (*found, *logos)) or "none"


def _data_folder(device: Device) -> str:
    for process, other in (("web", "mail"), ("mail", "web")):
        user = device[f"users.{process}"]
        # Only root can look with the rights of a different user; any other user looks with its own.
        if os.geteuid() not in (0, _user_id(user)):
            continue
        missing = missing_right(user, list(_needed(device, process, other)))
        if missing:
            raise DeviceUIError(_unusable(device, user, *missing))
    return str(device.folders.data)


def _needed(device: Device, process: str, other: str) -> Iterator[tuple[str, Path]]:
    """Yield the rights that a process needs: enter the data folder, read and write in its own folders, read in the shared ones."""
    yield from (("-x", path) for path in (*reversed(device.folders.data.parents), device.folders.data))
    owned = device.folder_owners()
    for path, _, _, _ in owned[process]:
        if path.is_dir():
            yield from ((right, path) for right in ("-x", "-r", "-w"))
            yield from ((right, file) for file in _regular_files(path) for right in ("-r", "-w"))
    for path, mode, _, group in owned[other]:
        if path.is_dir() and (group == process or mode & stat.S_IROTH):
            yield from (("-x", path), ("-r", path), *(("-r", file) for file in _regular_files(path)))


def _regular_files(folder: Path) -> list[Path]:
    # The process sets aside all else. A folder that this user cannot list is found by its own rights.
    try:
        return [path for path in sorted(folder.iterdir()) if stat.S_ISREG(path.lstat().st_mode)]
    except OSError:
        return []


def _unusable(device: Device, user: str, right: str, path: Path) -> str:
    # By the cause, the most general first: each remedy is useless while one above it is needed.
    problem = f"{path} cannot be {RIGHTS[right]} by {user}"
    if right == "-w" and os.statvfs(path).f_flag & os.ST_RDONLY:
        return f"{problem}: its file system is read-only; repair it with mount -o remount,rw"
    if path == device.folders.data or path in device.folders.data.parents:
        return f"{problem}; repair it with chmod 755 {path}"
    if path.is_file() and path.lstat().st_nlink > 1:
        return f"{problem}: {ownership.SECOND_NAME}"
    return f"{problem}; repair it with device-ui fix-ownership"


def missing_right(user: str, needed: Sequence[tuple[str, Path]]) -> tuple[str, Path] | None:
    """Return the first pair of a right (a key of `RIGHTS`) and a path that this user lacks; run by a user other than root, that
    user. A user that the system does not know has no process, and lacks none.
    """
    identity: dict[str, Any] = {}
    if os.geteuid() == 0:
        try:
            known = pwd.getpwnam(user)
        except KeyError:
            return None
        # As that user and not by the mode alone: a folder above, an ACL or a read-only group may decide.
        groups = os.getgrouplist(user, known.pw_gid)
        identity = {"user": known.pw_uid, "group": known.pw_gid, "extra_groups": groups}
    for start in range(0, len(needed), PAIRS_MAXIMUM):
        words = [str(word) for pair in needed[start : start + PAIRS_MAXIMUM] for word in pair]
        command = ["/bin/sh", "-c", ACCESS, "sh", *words]
        left = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, **identity).stdout
        if left:
            return needed[start + (len(words) - int(left)) // 2]
    return None


def _user_id(user: str) -> int | None:
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        return None


def _catalogue(device: Device) -> str:
    found = catalog.load(device.folders.etc)
    # A wrong entry of these codes is overruled without a word by the processes; here the maker can still change it.
    if found.bounded:
        raise DeviceUIError(f"{', '.join(found.bounded)}: never mailed as alarms, although events.toml lists them")
    return f"{len(found.kinds)} codes"


def _languages(device: Device) -> str:
    for code in LANGUAGES:
        # Not the cached translator of the pages, which goes on without a wrong file.
        load(code, device.folders.etc)
    return ", ".join(LANGUAGES)


def _private_key(device: Device) -> str:
    path, credential = device.folders.private_key, device.folders.stored_credential
    # Two keys: the one in the clear is the one that a thief of the flash would use.
    if credential and os.path.exists(device.folders.key_file):
        raise DeviceUIError(f"{path} is not used, since there is the credential {credential}; remove it")
    if credential:
        return f"encrypted for this device, {credential}"
    try:
        mode = stat.S_IMODE(os.stat(path).st_mode)
    except PermissionError:
        return "not readable by this user, as it should be"  # the check may be run by any user
    except FileNotFoundError:
        raise DeviceUIError("missing; the mail hook makes it at its first start") from None
    if mode & 0o077:
        raise DeviceUIError(f"{path} can be read by others (mode {mode:o}); repair it with chmod 600")
    return f"key {keys.load_private(path).id}"


def _administrator(device: Device) -> str:
    try:
        found = Administrator(device.folders.administrator).load()
    except NotReadable:
        return "not readable by this user, as it should be"
    except Damaged as error:
        raise DeviceUIError(f"{error}; repair it with device-ui admin set-password") from error
    if found is None:
        return "none; the pages were never started"
    return "password set" if found.is_set_up else "not set up yet; device-ui setup-code shows the code"


def _settings(device: Device) -> str:
    settings, _ = Store(device.folders.settings).read()
    known = keys.public_ids(device.folders.public_key) if settings and settings.sealed else frozenset()
    # Known without the private key: a sealed password has the id of its key.
    if settings and settings.sealed and seal.sealed_for(settings.sealed) not in known:
        raise DeviceUIError("the password was sealed to another key; type it again on the page")
    return f"{settings.host} port {settings.port}" if settings else "none yet"


def _sign_in(device: Device) -> str:
    settings, _ = Store(device.folders.settings).read()
    if settings is None or settings.sign_in != "oauth":
        return "not used"
    try:
        known = client.sign_in(device.folders.socket)
    except HookError as error:
        if error.word == "denied":
            return "in use; this user may not read its state"
        raise
    if known["problem"]:
        raise DeviceUIError(" ".join(map(str, filter(None, (known["problem"], known["step"], known["reply"])))))
    ends = f", ends on {known['ends']}" if known["ends"] else ""
    return f"{known['grant']}{ends}" if known["renewed"] else f"{known['grant']}{ends}; not tried yet"


def _certificate(device: Device) -> str:
    folder = device.folders.tls
    try:
        is_there = storage_files.read_damaged(folder / certificate.CERTIFICATE) is not None
    except NotReadable:
        return "not readable by this user, as it should be"
    if not is_there and not folder.is_dir():  # the installer makes the folder where a proxy needs it
        return "none; device-ui certificate makes one, for nginx or stunnel"
    # The same names and addresses as `certificate` uses, so that both agree when a new one is needed.
    wanted = (own_names(device["web.names"]), certificate.own_addresses(), datetime.datetime.now(datetime.UTC))
    problem = certificate.problem(folder, *wanted)
    if problem:
        raise DeviceUIError(f"{problem}; device-ui certificate makes a new one")
    return f"SHA-256 {certificate.fingerprint(folder / certificate.CERTIFICATE)}"


def _program(device: Device, setting: str) -> str:
    command = str(device[setting])
    # With this user's rights: a program for the mail hook alone needs the check to be run by root.
    if command and not os.access(command, os.X_OK):
        raise DeviceUIError(f"{command} cannot be run ({setting} in device.toml)")
    return command or "none"


def _brand(device: Device) -> Iterator[Finding]:
    # A wrong brand is a warning: it stops neither the pages nor the mail.
    found = branding.load(device)
    for problem in found.problems:
        subject = "brand" if f": {BRAND}" in str(problem) else "pages"
        yield Finding(subject, WARN, f"{problem}; not used")
    if not found.problems:
        yield Finding("brand", OK, found.title or "none")


def _hook_state(device: Device) -> Mapping[str, Any] | HookError:
    """Return the state of the mail path, or the error of the hook; wait for a hook that starts."""
    try:
        return client.state(device.folders.socket, seconds=START_SECONDS)
    except HookError as error:
        return error


def _hook(state: Mapping[str, Any] | HookError) -> str:
    if isinstance(state, HookError):
        if state.word == "denied":
            return "answers; this user may not read its state"
        raise state
    # In the order of how much is lost: events first, then their dates, then delay.
    if state["removed"]:
        raise DeviceUIError(f"{state['removed']} events were removed unmailed: the ledger was full")
    if state["clock"]:
        raise DeviceUIError(f"the device's clock is not set, it says {state['clock']}")
    # At the end of a production line there are no settings yet; with events that wait they are a problem.
    if state["problem"] == "unset" and not state["waiting"]:
        return "answers; no settings yet"
    if state["problem"]:
        problem = " ".join(map(str, filter(None, (state["problem"], state["step"], state["reply"]))))
        raise DeviceUIError(f"{problem}; {state['waiting']} events wait for their mail")
    return f"{state['waiting']} waiting"


def _quarantined(device: Device) -> list[Path]:
    folders = device.folders
    # The reserve and the throttle's file are left out: nothing in them is worth a person's look.
    hooks = (folders.key_file, folders.ledger, folders.sign_in, folders.sign_in_key)
    files = (folders.settings, folders.recipients, folders.administrator, *hooks)
    return [each for path in files for each in storage_files.quarantined_files(path)]
