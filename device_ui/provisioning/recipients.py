"""The section ``recipients`` of a document: the whole list in its order, ``address = "fault"`` or ``"info ko"``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from device_ui.i18n.translator import LANGUAGES
from device_ui.provisioning.document import TABLE_SENTENCE, Broken
from device_ui.settings import recipients, rules
from device_ui.settings.recipients import LOWEST, Recipients
from device_ui.settings.rules import Invalid

NAME = "recipients"
VALUE_HINT = 'It is "fault" or "info", and a language may follow: "info ko".'


def from_table(given: Any) -> Callable[[], Recipients]:
    """Return a function that returns the list. Raises `Broken`."""
    if not isinstance(given, Mapping):
        raise Broken({NAME: Invalid(TABLE_SENTENCE)})
    listed: Recipients = ()
    broken = {}
    # By `add` one after another, as on the page: its rules, its limit, and the same address twice in a different case.
    for address, value in given.items():
        lowest, _, language = value.partition(" ") if isinstance(value, str) else ("", "", "")
        more = recipients.add(listed, address, lowest, language)
        if isinstance(more, Invalid):
            # The page shows the choices; a person who writes a document needs them in words.
            is_choice = more.sentence == rules.CHOICE_SENTENCE
            broken[f"{NAME}.{address}"] = Invalid(more.sentence, (VALUE_HINT,)) if is_choice else more
        else:
            listed = more
    if broken:
        raise Broken(broken)
    # A function, as of the section `smtp`, which has work for after all checks.
    return lambda: listed


def to_table(listed: Recipients) -> dict[str, Any]:
    """Return the section of this list."""
    # The value of the file without the address (`settings.recipients`), so that a person meets one spelling.
    return {each.address: " ".join(filter(None, (each.lowest, each.language))) for each in listed}


def changes(before: Recipients | None, after: Recipients) -> dict[str, Any]:
    """Return the addresses that were added or removed, the ones with another value, and whether the order changed."""
    old, new = to_table(before or ()), to_table(after)
    # The order counts as a change, since the page shows it; among the addresses that both lists have.
    found = {
        "added": [address for address in new if address not in old],
        "removed": [address for address in old if address not in new],
        "changed": {
            address: [old[address], new[address]] for address in new if old.get(address, new[address]) != new[address]
        },
        "reordered": [each for each in old if each in new] != [each for each in new if each in old],
    }
    return {name: value for name, value in found.items() if value}


def schema() -> dict[str, Any]:
    """Return the JSON Schema of the section; `additionalProperties` is the value of each address."""
    # Each value in full and no pattern: an editor can then offer them.
    values = [" ".join(filter(None, (lowest, language))) for lowest in LOWEST for language in ("", *LANGUAGES)]
    return {
        "type": "object",
        "additionalProperties": {"enum": values},
        "maxProperties": recipients.RECIPIENTS_MAXIMUM,
        "description": "The whole list, in this order. Empty: mail goes to the account's address.",
    }
