"""The section ``notifications`` of a document: what is mailed, and when; a code that is missing is mailed at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from device_ui.provisioning.document import TABLE_SENTENCE, Broken
from device_ui.settings import notifications
from device_ui.settings.notifications import CHOICES, INFOS, SIGN, SIGNS, TIME, Notifications
from device_ui.settings.rules import Invalid

NAME = "notifications"


def from_table(given: Any) -> Callable[[], Notifications]:
    """Return a function that returns the choices. Raises `Broken`."""
    if not isinstance(given, Mapping):
        raise Broken({NAME: Invalid(TABLE_SENTENCE)})
    found = notifications.parse(given)
    if isinstance(found, dict):
        raise Broken({f"{NAME}.{name}": each for name, each in found.items()})
    return lambda: found


def to_table(chosen: Notifications) -> dict[str, Any]:
    """Return the section of these choices."""
    return {
        INFOS: chosen.infos,
        TIME: chosen.summary_time,
        SIGN: chosen.sign_of_life,
        **dict(chosen.codes),
    }


def changes(before: Notifications | None, after: Notifications) -> dict[str, Any]:
    """Return each changed value with its old and its new one."""
    old, new = to_table(before or Notifications()), to_table(after)
    codes = [code for code, _ in after.codes] + [code for code, _ in (before or after).codes]
    found = {name: [old[name], new[name]] for name in (INFOS, TIME, SIGN) if old[name] != new[name]}
    for code in sorted(set(codes)):
        pair = [(before or Notifications()).of(code), after.of(code)]
        found |= {code: pair} if pair[0] != pair[1] else {}
    return found


def schema() -> dict[str, Any]:
    """Return the JSON Schema of the section."""
    return {
        "type": "object",
        "properties": {
            INFOS: {"type": "boolean", "description": "false: no info is mailed, whatever its code."},
            TIME: {
                "type": "string",
                "pattern": notifications.TIME_PATTERN.pattern.join("^$"),
                "description": "From this local time on the daily summary and the sign of life go out, within an hour.",
            },
            SIGN: {"enum": list(SIGNS)},
        },
        "patternProperties": {notifications.CODE_PATTERN.pattern.join("^$"): {"enum": list(CHOICES)}},
        "additionalProperties": False,
    }
