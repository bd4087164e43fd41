"""The names that an administrator added, by which the pages may be reached besides the device's own and its addresses. Pure.

A name that a router or a proxy gave the device is unknown to it, and the pages answer to no unknown name (DNS rebinding).
"""

from __future__ import annotations

from collections.abc import Mapping

from device_ui.errors import Message
from device_ui.settings import rules
from device_ui.settings.rules import Invalid
from device_ui.storage.toml_file import Value

# A device has one name from a router and one from a proxy; the list of all is read for a request by an unknown name.
NAMES_MAXIMUM = 10
LISTED_SENTENCE = "This name is on the list already."
FULL = Message("The list holds {maximum} names at most. Remove one first.", maximum=NAMES_MAXIMUM)

Names = tuple[str, ...]


def add(listed: Names, typed: str) -> Names | Invalid:
    """Return the list with one more name, in lower case."""
    # In lower case, as `Host` is compared: names are not case-sensitive (RFC 3986, 3.2.2).
    name = rules.host_name(typed)
    if isinstance(name, Invalid):
        return name
    if name in listed:
        return Invalid(LISTED_SENTENCE)
    return (*listed, name) if len(listed) < NAMES_MAXIMUM else Invalid(FULL)


def remove(listed: Names, name: str) -> Names:
    """Return the list without a name; the same list when it is not on it."""
    return tuple(each for each in listed if each != name)


def to_values(listed: Names) -> dict[str, Value]:
    """Return the values of the file of the list: ``name_01 = "nas.example"``."""
    return {f"name_{number:02}": name for number, name in enumerate(listed, 1)}


def from_values(values: Mapping[str, Value]) -> Names | Message:
    """Return the list of a file's values, validated by the same rules; or the error."""
    listed: Names = ()
    for key, value in values.items():
        more = add(listed, str(value))
        # One spelling for each list: `add` changed nothing, and the numbers count from 1.
        if isinstance(more, Invalid) or to_values(more) != {**to_values(listed), key: value}:
            return Message("{name} breaks its rule", name=key)
        listed = more
    return listed
