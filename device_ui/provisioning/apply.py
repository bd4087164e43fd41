"""Apply a document: read every section, then write what differs, then send the mail hook a message.

Before the first write everything is checked: the fields of all sections, and that a sealed password opens here. A section is
written only if its file is still as it was read, so a page that saves meanwhile is not overwritten; `Conflict` says so.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from device_ui.config import Device
from device_ui.errors import HookError
from device_ui.mail import client
from device_ui.provisioning import notifications, smtp
from device_ui.provisioning.document import Broken, Table
from device_ui.provisioning.passwords import Passwords
from device_ui.provisioning.sections import SECTIONS, Section, unknown
from device_ui.settings.store import Stored
from device_ui.storage import files


@dataclass(frozen=True)
class Step:
    """One section of a document: what is `stored`, and the `content` that the document has."""

    section: Section[Any]
    stored: Stored[Any]
    content: Any

    @property
    def is_change(self) -> bool:
        """Whether the content differs from what is stored."""
        return bool(self.content != _present(self.section, self.stored))

    @property
    def changes(self) -> Table:
        """What changes, without a secret."""
        return self.section.changes(self.stored.settings, self.content) if self.is_change else {}


def plan(content: Table, device: Device, *, is_first: bool = False) -> list[Step]:
    """Return the steps of a document; write nothing. With `is_first` a section that has a file stays as it is.

    Raises `Broken` with every broken field; then `WrongSeal`, and `NoKey`, `Damaged`, `NotReadable`, `HookError`.
    """
    passwords = Passwords(device.folders)
    # All sections before the first error is raised: a person corrects the document once.
    broken = unknown(content)
    found: list[tuple[Section[Any], Stored[Any], Callable[[], Any]]] = []
    for section in SECTIONS:
        if section.name in content:
            # A damaged file counts as none and is quarantined by `save`: a fleet must be able to repair such a device.
            stored = section.store(device).look()
            if is_first and stored.revision:
                found.append((section, stored, partial(_present, section, stored)))
                continue
            try:
                finish = section.from_table(content[section.name], stored.settings, device, passwords)
                found.append((section, stored, finish))
            except Broken as error:
                broken |= error.fields
    if broken:
        raise Broken(broken)
    # Only now: `finish` opens and seals passwords, which takes milliseconds and may ask the mail hook.
    return [Step(section, stored, finish()) for section, stored, finish in found]


def _present(section: Section[Any], stored: Stored[Any]) -> Any:
    return section.nothing if stored.settings is None else stored.settings


def write(steps: Sequence[Step], device: Device) -> None:
    """Put what differs on flash, a section at a time, and make durable what is there already.

    Raises `Conflict`, `NotStored`, `NotReadable`: then the sections before are written, and the next run does the rest.
    """
    # On a device whose pages never started there are no folders yet.
    if any(step.is_change for step in steps):
        for folder in device.layout("web"):
            files.make_folder(*folder)
    for step in steps:
        store = step.section.store(device)
        # The process that wrote it may have ended before its fsync, such as an `apply` that a power cut ended.
        if not step.is_change:
            store.confirm(step.stored.revision)
            continue
        is_server = step.section.name == smtp.NAME
        is_noticed = is_server or step.section.name == notifications.NAME
        if is_server:
            # Starts the hook. One that started with the message would find the change before it knows where it came from.
            with contextlib.suppress(HookError):
                client.state(device.folders.socket)
        revision = store.save(step.content, step.stored.revision)
        # The hook reads the recipients with each mail, so a new list needs no message.
        if is_noticed:
            with contextlib.suppress(HookError):  # it reads the settings when it starts
                client.settings_changed(device.folders.socket, revision if is_server else "", client.BY_APPLY)


def summary(steps: Sequence[Step]) -> dict[str, Any]:
    """Return the answer of ``apply --json``."""
    # `changed` is there in any case, so that a tool such as Ansible needs no knowledge of the sections.
    changed = {step.section.name: step.changes for step in steps if step.is_change}
    return {"changed": bool(changed), **changed}
