"""The section ``smtp`` of a document: the fields of the SMTP tab, and the password in the clear, sealed, or kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from device_ui.errors import DeviceUIError
from device_ui.provisioning.document import FLAG_SENTENCE, TABLE_SENTENCE, UNKNOWN_SENTENCE, Broken, Table
from device_ui.provisioning.passwords import Passwords
from device_ui.settings import rules, seal
from device_ui.settings.fields import FIELDS, Field, ParsedForm, SmtpSettings, parse
from device_ui.settings.rules import Invalid

NAME = "smtp"
# Beside the fields of the tab: the password sealed, and in an export whether there is one.
SEALED, IS_SET = "sealed", "password_set"
# The fields that may be a whole number.
NUMBERS = frozenset(each.name for each in dataclasses.fields(SmtpSettings) if each.type == "int")

NOT_SEALED_SENTENCE = "This is no sealed password."
BOTH_SENTENCE = "Either the password or the sealed one, not both."
# A key without its `trust` would look like one that is trusted, and a from address like one that mail comes from.
UNUSED_SENTENCE = "It has no effect with the other values of this section: remove it, or change those."
TEXT_HINT, NUMBER_HINT = "It is written as a text.", "It is written as a number."


def from_table(
    given: Any, stored: SmtpSettings | None, locked: frozenset[str], passwords: Passwords
) -> Callable[[], SmtpSettings]:
    """Return a function that opens or seals the password and returns the settings. Raises `Broken`.

    Settings that are stored already are accepted, even if the maker has locked a choice since. The function raises `WrongSeal`,
    and the errors of `Passwords`.
    """
    form, broken = _form(given)
    sealed = form.pop(SEALED, "") or None
    # First without the locks: an export of a device must apply to it again.
    draft = parse(form, stored, sealed=sealed)
    if broken or draft.settings is None or draft.settings != stored:
        # A password that no key of this device opens cannot be kept: the field is then broken, with its sentence.
        is_lost = stored is not None and passwords.is_lost(stored)
        kept = dataclasses.replace(stored, sealed=None) if stored and is_lost else stored
        draft = parse(form, kept, locked, sealed)
    settings, typed = _complete(draft, broken), draft.password

    def finish() -> SmtpSettings:
        password = typed
        if sealed and settings.sealed:
            # Before anything is written: a password for a different device would be found at the first mail only.
            passwords.require(settings)
            password = passwords.opened(settings)
        if password is None:  # kept, or there is none
            return settings
        # Sealing the same password gives different bytes each time (a new ephemeral key): the stored ones stay, and no write is due.
        if stored and stored.sealed and stored.bound_to == settings.bound_to and passwords.opened(stored) == password:
            return dataclasses.replace(settings, sealed=stored.sealed)
        return settings if sealed else _sealed(settings, password, passwords.public())

    return finish


def to_table(settings: SmtpSettings) -> dict[str, Any]:
    """Return the section of these settings, without a password."""
    values = {each.name: getattr(settings, each.name) for each in FIELDS if not each.secret}
    return {**{name: value for name, value in values.items() if value != ""}, IS_SET: settings.sealed is not None}


def changes(before: SmtpSettings | None, after: SmtpSettings) -> dict[str, Any]:
    """Return each changed field with its old and its new value; of a password only ``set``, ``replaced`` or ``removed``."""
    # By the sealed bytes, which are no secret: `from_table` keeps those of an equal password.
    now = {each.name: getattr(after, each.name) for each in FIELDS if not each.secret}
    # Without settings before, a field that is empty now is no change: it was empty.
    old = {name: getattr(before, name) if before else None if value else "" for name, value in now.items()}
    found: dict[str, Any] = {name: [old[name], value] for name, value in now.items() if old[name] != value}
    sealed = before.sealed if before else None
    if after.sealed != sealed:
        found["password"] = "set" if sealed is None else "removed" if after.sealed is None else "replaced"
    return found


def seal_section(given: Any, public: bytes, opened: Callable[[SmtpSettings], str] | None) -> dict[str, Any]:
    """Return a section with its password sealed to `public`. Raises `Broken`, and the errors of `opened`.

    `opened` returns a password that is sealed to another key; None: only one in the clear is sealed.
    """
    form, broken = _form(given)
    sealed = form.pop(SEALED, "") or None
    # Without stored settings and locks: this may be the maker's or an operator's own computer.
    draft = parse(form, None, sealed=sealed)
    settings, password = _complete(draft, broken), draft.password
    # A text that is sealed to this very key already stays, so that the document is equal.
    if settings.sealed and seal.sealed_for(settings.sealed) != seal.key_id(public):
        if opened is None:
            raise DeviceUIError("smtp.sealed is for another key; --open KEY opens it")
        password = opened(settings)
    return _with_sealed(settings if password is None else _sealed(settings, password, public))


def export_sealed(settings: SmtpSettings, password: str, public: bytes) -> dict[str, Any]:
    """Return the section of stored settings, with their password sealed to `public`."""
    return _with_sealed(_sealed(settings, password, public) if settings.sealed else settings)


def _with_sealed(settings: SmtpSettings) -> dict[str, Any]:
    section = to_table(settings)
    if section.pop(IS_SET):
        section[SEALED] = settings.sealed
    return section


def schema() -> dict[str, Any]:
    """Return the JSON Schema of the section: the kinds of the values. It accepts values that a rule refuses."""
    # Not the rules as patterns: they would be written a second time, and their sentences say more than "does not match".
    fields = {each.name: {**_kind(each), "title": each.label, "description": each.help} for each in FIELDS}
    more: dict[str, Any] = {
        SEALED: {
            "type": "string",
            "pattern": f"^{seal.SEALED_PATTERN.pattern}$",
            "description": "The password, sealed to this device and this server by device-ui seal.",
        },
        IS_SET: {"type": "boolean", "readOnly": True, "description": "In an export: whether a password is stored."},
    }
    required = [each.name for each in FIELDS if not each.advanced and not each.secret]
    both = {"required": ["password", SEALED], "properties": {"password": {"minLength": 1}, SEALED: {"minLength": 1}}}
    return {
        "type": "object",
        "properties": {**fields, **more},
        "required": required,
        "not": both,
        "additionalProperties": False,
    }


def _complete(draft: ParsedForm, broken: Mapping[str, Invalid]) -> SmtpSettings:
    """Return the settings of a section. Raises `Broken` with every field that is broken or has no effect."""
    broken = {**{name: Invalid(UNUSED_SENTENCE) for name in draft.unused}, **draft.broken, **broken}
    if draft.settings is None or broken:
        raise Broken({f"{NAME}.{name}": each for name, each in broken.items()})
    return draft.settings


def _sealed(settings: SmtpSettings, password: str, public: bytes) -> SmtpSettings:
    return dataclasses.replace(settings, sealed=seal.seal(password, public, settings.bound_to))


def _form(given: Any) -> tuple[dict[str, str], dict[str, Invalid]]:
    """Return a section as a form of the tab, and the values that are of the wrong kind or name."""
    if not isinstance(given, Mapping):
        raise Broken({NAME: Invalid(TABLE_SENTENCE)})
    form: dict[str, str] = {}
    broken: dict[str, Invalid] = {}
    known = {each.name: each for each in FIELDS}
    for name, value in given.items():
        # Not isinstance: true is an int in Python, and no port.
        is_number = name in NUMBERS and type(value) is int
        if name in known and (isinstance(value, str) or is_number):
            form[name] = str(value)
        elif name in known:
            broken[name] = Invalid(known[name].sentences[0], (NUMBER_HINT if name in NUMBERS else TEXT_HINT,))
        elif name == SEALED and isinstance(value, str) and (not value or seal.sealed_for(value)):
            form[name] = value
        # Accepted and not read: an export is a document that can be applied.
        elif name == IS_SET and isinstance(value, bool):
            continue
        else:
            sentences = {SEALED: NOT_SEALED_SENTENCE, IS_SET: FLAG_SENTENCE}
            broken[name] = Invalid(sentences.get(name, UNKNOWN_SENTENCE))
    if form.get("password") and form.get(SEALED):
        broken[SEALED] = Invalid(BOTH_SENTENCE)
    return form, broken


def _kind(each: Field) -> Table:
    # "" is the default, as in the form.
    if each.choices:
        return {"enum": ["", *each.choices]}
    if each.name in NUMBERS:
        # As a text, too: the form has texts, and templates of a fleet may quote a number.
        number = {"type": "integer", "minimum": 1, "maximum": rules.PORT_MAXIMUM}
        return {"anyOf": [number, {"type": "string"}]}
    return {"type": "string"}
