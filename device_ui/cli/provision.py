"""The output and the exit codes of ``apply``, ``export`` and ``seal``; `device_ui.provisioning` does the work.

Exit codes: 0 applied or unchanged; with ``--dry-run`` 0 for the same and 1 for a difference, as diff(1); 65 broken fields;
75 saved by a different writer meanwhile, or not stored; 77 not allowed; 78 a password that is sealed to a different key or server.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from device_ui.cli import output
from device_ui.cli.launch import EX_DATAERR, EX_NOPERM, EX_OK, EX_TEMPFAIL
from device_ui.config import Device
from device_ui.errors import Conflict, DeviceUIError, NoKey, NotReadable, NotStored
from device_ui.provisioning import apply, document, sections
from device_ui.provisioning.document import Broken
from device_ui.provisioning.passwords import load_public
from device_ui.settings import keys
from device_ui.settings.fields import SmtpSettings

# As diff(1): a tool such as Ansible distinguishes "would change" from an error by it.
DIFFERENT = 1
FIRST_APPLIED = (
    b"device-ui: the first document was applied. A factory reset removes this file, and then it is applied again.\n"
)


def apply_document(device: Device, path: str, *, dry_run: bool, is_json: bool, is_first: bool = False) -> int:
    """Apply the document at `path` and print what changed; with `dry_run` what would. `is_first`: as `apply.plan`."""
    try:
        # All of the document is checked before anything is written.
        steps = apply.plan(document.read(_raw(path)), device, is_first=is_first)
        if not dry_run:
            apply.write(steps, device)
    except (DeviceUIError, OSError) as error:
        return _failed(error, is_json=is_json)
    answer = apply.summary(steps)
    if is_json:
        output.output(for_program=True).write(output.line(output.as_json(answer)))
    else:
        for text in _lines(answer):
            output.say(text)
    return DIFFERENT if dry_run and answer["changed"] else EX_OK


def apply_first(device: Device) -> int:
    """Apply first.toml of ETC if the maker permits it and it was not applied yet; print what changed."""
    from device_ui.storage import files

    folders = device.folders
    if not device["apply.first"]:
        output.say(f"{folders.first} is not applied: device.toml does not permit it (apply.first)")
        return EX_OK
    if folders.first_applied.exists() or not folders.first.exists():
        output.say("Nothing changed.")
        return EX_OK
    # Where an earlier start did not get to the mark, because of a power cut or a full disk, an operator may have saved a section since.
    code = apply_document(device, str(folders.first), dry_run=False, is_json=False, is_first=True)
    # After the settings: a power cut in between applies what is missing. A broken one is tried at the next start.
    if code == EX_OK:
        for folder in device.layout("web"):
            files.make_folder(*folder)
        try:
            files.replace(folders.first_applied, FIRST_APPLIED)
        except DeviceUIError as error:
            return _failed(error, is_json=False)
    return code


def print_schema() -> int:
    """Print the JSON Schema of a document."""
    output.output(for_program=True).write(document.to_json(sections.schema()))
    return EX_OK


def export(device: Device, seal_to: str, *, is_json: bool) -> int:
    """Print the document of the present state."""
    try:
        content = sections.export(device, load_public(seal_to) if seal_to else None)
    except (DeviceUIError, OSError) as error:
        return _failed(error, is_json=False)
    _print_document(content, is_json=is_json)
    return EX_OK


def seal(path: str, to: str, open_with: str) -> int:
    """Print the document at `path` with its password sealed to the key `to`, in the format it has."""

    # For a document whose password is sealed already: a device's own key, or the key of a sealed export.
    def opened(settings: SmtpSettings) -> str:
        return keys.load_password(Path(open_with), settings)

    try:
        raw = _raw(path)
        sealed = sections.seal_document(document.read(raw), load_public(to), opened if open_with else None)
    except (DeviceUIError, OSError) as error:
        return _failed(error, is_json=False)
    _print_document(sealed, is_json=document.is_json(raw))
    return EX_OK


def new_key(path: Path) -> int:
    """Make a key pair for sealed exports, ``NAME`` and ``NAME.pub``; print the public key."""
    # Passwords may be sealed to the key that is there.
    if path.exists():
        raise DeviceUIError(f"{path} exists already")
    pair = keys.load_pair(path, path.with_name(f"{path.name}.pub"))
    output.say(pair.public.hex())
    return EX_OK


def _raw(path: str) -> bytes:
    # One byte more than allowed: `document.read` then reports that it is too long.
    if path == "-":
        return sys.stdin.buffer.read(document.SIZE_MAXIMUM + 1)
    with open(path, "rb") as file:
        return file.read(document.SIZE_MAXIMUM + 1)


def _print_document(content: Mapping[str, Any], *, is_json: bool) -> None:
    form: Callable[[Mapping[str, Any]], str] = document.to_json if is_json else document.to_toml
    output.output(for_program=True).write(form(content))


def _lines(answer: Mapping[str, Any]) -> list[str]:
    """Return the changes for a person, one a line."""
    found = []
    # `changed` of the whole is a truth value, and no section.
    for section, fields in answer.items():
        for name, value in fields.items() if isinstance(fields, Mapping) else ():
            found += [f"{section}: {text}" for text in _changes(name, value)]
    return found or ["Nothing changed."]


def _changes(name: str, value: Any) -> list[str]:
    # The shapes of `apply.summary`: lists of added and removed items, changes by name, one field from None or from old to new, and a
    # word for a secret.
    match name, value:
        case (("added" | "removed"), list()):
            return [f"{name} {each}" for each in value]
        case "changed", dict():
            return [f"{each}: {old} → {new}" for each, (old, new) in value.items()]
        case _, [None, new]:
            return [f"{name}: {new}"]
        case _, [old, new]:
            return [f"{name}: {old} → {new}"]
        case _, str():
            return [f"{name} {value}"]
    return [name]


def _failed(error: DeviceUIError | OSError, *, is_json: bool) -> int:
    """Report an error, with ``--json`` as an object on standard output too; return its exit code."""
    from device_ui.cli import launch

    # A program reads one object on standard output in every case; a person reads standard error.
    if is_json:
        fields = error.fields if isinstance(error, Broken) else {}
        broken = {
            place: {"sentence": str(each.sentence), "hints": [str(hint) for hint in each.hints]}
            for place, each in fields.items()
        }
        answer = {"changed": False, "error": str(error), **({"broken": broken} if broken else {})}
        output.output(for_program=True).write(output.line(output.as_json(answer)))
    if isinstance(error, Broken):
        for text in error.lines:
            output.say(f"device-ui: {text}", is_error=True)
        return EX_DATAERR
    code = launch.failed(error)
    if getattr(error, "errno", None) in (errno.EACCES, errno.EPERM):
        return EX_NOPERM
    # A key that is not made yet appears at the hook's first start; one that was sealed to a different device never does.
    is_key_missing = isinstance(error, NoKey) and not error.key_id
    return EX_TEMPFAIL if isinstance(error, Conflict | NotStored | NotReadable) or is_key_missing else code
