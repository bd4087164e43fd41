"""The sections of a document as one table: `SECTIONS`. A new part of the settings is one row, and its module."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from device_ui.config import Device
from device_ui.provisioning import notifications, recipients, smtp
from device_ui.provisioning.document import UNKNOWN_SENTENCE, VERSION, VERSION_NAME, VERSION_SENTENCE, Broken, Table
from device_ui.provisioning.passwords import Passwords
from device_ui.settings import keys
from device_ui.settings.fields import SmtpSettings
from device_ui.settings.notifications import Notifications
from device_ui.settings.rules import Invalid
from device_ui.settings.store import NotificationStore, RecipientStore, RecordStore, Store

Content = TypeVar("Content")


@dataclass(frozen=True)
class Section(Generic[Content]):
    """One section: its `name`, its file, and how its table in a document becomes its content, and the other way round.

    `from_table` takes the table, the stored content, the device and its passwords. It returns a function that returns the content, since
    a password is sealed only once no section has a broken field; see `smtp.from_table`. `changes` takes the content before and after. `nothing` is the content of a missing file: None where that
    is not the same as an empty one, and then the section is not exported.
    """

    name: str
    store: Callable[[Device], RecordStore[Content]]
    from_table: Callable[[Any, Content | None, Device, Passwords], Callable[[], Content]]
    to_table: Callable[[Content], Table]
    changes: Callable[[Content | None, Content], Table]
    schema: Callable[[], Table]
    nothing: Content | None = None


# In the order in which they are written: with the tab alone a device mails already, to the address of the account.
SECTIONS: tuple[Section[Any], ...] = (
    Section(
        smtp.NAME,
        lambda device: Store(device.folders.settings),
        lambda given, stored, device, passwords: smtp.from_table(given, stored, device.locked, passwords),
        smtp.to_table,
        smtp.changes,
        smtp.schema,
    ),
    Section(
        recipients.NAME,
        lambda device: RecipientStore(device.folders.recipients),
        lambda given, *_: recipients.from_table(given),
        recipients.to_table,
        recipients.changes,
        recipients.schema,
        nothing=(),
    ),
    Section(
        notifications.NAME,
        lambda device: NotificationStore(device.folders.notifications),
        lambda given, *_: notifications.from_table(given),
        notifications.to_table,
        notifications.changes,
        notifications.schema,
        nothing=Notifications(),
    ),
)


def unknown(content: Table) -> dict[str, Invalid]:
    """Return what is wrong with the names of a document: its version, and sections that there are not."""
    known = {VERSION_NAME, *(each.name for each in SECTIONS)}
    # An error and not ignored: a mistyped name of a section would leave the section as it is, without a word.
    broken = {name: Invalid(UNKNOWN_SENTENCE) for name in content if name not in known}
    version = content.get(VERSION_NAME)
    # By its type, too: true equals 1 in Python.
    return (
        broken if version == VERSION and type(version) is int else {VERSION_NAME: Invalid(VERSION_SENTENCE), **broken}
    )


def schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a document."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "device-ui apply",
        "type": "object",
        "properties": {VERSION_NAME: {"const": VERSION}, **{each.name: each.schema() for each in SECTIONS}},
        "required": [VERSION_NAME],
        # As `unknown`: an editor marks a mistyped name before anything is applied.
        "additionalProperties": False,
    }


def export(device: Device, seal_to: bytes | None = None) -> dict[str, Any]:
    """Return the document of the present state; the password sealed to a key, if one is given, else only whether it is set.

    Raises `Damaged`, `NotReadable`, `NoKey`, `CannotOpen`.
    """
    content: dict[str, Any] = {VERSION_NAME: VERSION}
    for section in SECTIONS:
        # `read` and not `look`: the backup of a damaged section would be an empty one.
        stored = section.store(device).read()[0]
        present = section.nothing if stored is None else stored
        # A section without content is left out: applied again, the document then leaves it alone, too.
        if present is not None:
            content[section.name] = section.to_table(present)
        if seal_to is not None and isinstance(present, SmtpSettings):
            password = keys.load_password(device.folders.private_key, present)
            content[section.name] = smtp.export_sealed(present, password, seal_to)
    return content


def seal_document(content: Table, public: bytes, opened: Callable[[Any], str] | None) -> dict[str, Any]:
    """Return a document with its password sealed to a key. Raises `Broken`, and as `smtp.seal_section` does."""
    broken = unknown(content)
    sealed = dict(content)
    # The rules of all sections, so that a wrong document is found where it is written and not on a device.
    try:
        if smtp.NAME in content:
            sealed[smtp.NAME] = smtp.seal_section(content[smtp.NAME], public, opened)
    except Broken as error:
        broken |= error.fields
    for section in (recipients, notifications):
        try:
            if section.NAME in content:
                sealed[section.NAME] = section.to_table(section.from_table(content[section.NAME])())
        except Broken as error:
            broken |= error.fields
    if broken:
        raise Broken(broken)
    return sealed
