"""What is mailed, and when: for each code at once, in the daily summary or not at all; all infos; the sign of life. Pure.

A code that is not listed is mailed at once. What an event's mail became is decided when the event is accepted; every event is in the
history, whatever is chosen here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from device_ui.errors import Message
from device_ui.settings import rules
from device_ui.settings.rules import Invalid
from device_ui.storage.toml_file import Value

# The choices for a code, and for the sign of life, in words.
AT_ONCE, SUMMARY, NEVER = "at-once", "summary", "never"
CHOICES = {AT_ONCE: "at once", SUMMARY: "in the daily summary", NEVER: "not mailed"}
OFF, DAILY, WEEKLY = "off", "daily", "weekly"
SIGNS = {OFF: "off", DAILY: "every day", WEEKLY: "every week"}
INFO = "info"

CODE_PATTERN = re.compile(r"[0-9]{3}")
TIME_PATTERN = re.compile(r"(?:[01][0-9]|2[0-3]):[0-5][0-9]")
CODE_SENTENCE = "A code has three digits."
KEPT_SENTENCE = "Events of this code are kept in the history and never mailed, so it has no choice."
SIGN_SENTENCE = "The sign of life is mailed as sign_of_life says, so its code has no choice."
TIME_SENTENCE = "Please enter a time of day, such as 08:00."
FLAG_SENTENCE = "This is true or false."
# The names of the values besides the codes, and in the file the beginning of a code's name.
INFOS, TIME, SIGN = "infos", "summary_time", "sign_of_life"
CODE_PREFIX = "code_"
# The codes of the device itself that a choice would have no effect on (`mail.catalog`), each with its sentence. A choice that was taken and
# then ignored would look like an alarm that is turned off. A code that the maker's catalogue does not mail is none of these: the
# catalogue comes with the firmware, and the choice may outlive it.
WITHOUT_CHOICE = {**dict.fromkeys(("153", "306", "902", "904"), KEPT_SENTENCE), "905": SIGN_SENTENCE}
# The file, beside that of the SMTP tab.
NOTIFICATIONS_FILE = "notifications.toml"


@dataclass(frozen=True)
class Notifications:
    """The choices of one device.

    `infos`: whether infos are mailed at all. `summary_time`: the local time of day from which the summary and the sign of life go
    out, each device in a minute of its own within the hour. `codes` are the codes that are not mailed at once, sorted, each with
    its choice.
    """

    infos: bool = True
    summary_time: str = "08:00"
    sign_of_life: str = OFF
    codes: tuple[tuple[str, str], ...] = ()

    def of(self, code: str) -> str:
        """Return the choice for a code."""
        return dict(self.codes).get(code, AT_ONCE)

    def decide(self, code: str, event_type: str) -> str:
        """Return when an event is mailed."""
        return NEVER if event_type == INFO and not self.infos else self.of(code)

    @property
    def minute(self) -> int:
        """The minute of the day of `summary_time`."""
        hour, _, minute = self.summary_time.partition(":")
        return int(hour) * 60 + int(minute)


def parse(values: Mapping[str, object]) -> Notifications | dict[str, Invalid]:
    """Return the choices of some values, by the names above and by code; or every broken one. What is missing is the default."""
    infos, time, sign = (values.get(name, default) for name, default in ((INFOS, True), (TIME, "08:00"), (SIGN, OFF)))
    broken = {}
    if not isinstance(infos, bool):
        broken[INFOS] = Invalid(FLAG_SENTENCE)
    at = rules.stripped(time) if isinstance(time, str) else ""
    if not TIME_PATTERN.fullmatch(at):
        broken[TIME] = Invalid(TIME_SENTENCE)
    if not isinstance(sign, str) or sign not in SIGNS:
        broken[SIGN] = Invalid(rules.CHOICE_SENTENCE)
    codes = {name: value for name, value in values.items() if name not in (INFOS, TIME, SIGN)}
    for code, choice in codes.items():
        if not CODE_PATTERN.fullmatch(code):
            broken[code] = Invalid(CODE_SENTENCE)
        elif code in WITHOUT_CHOICE:
            broken[code] = Invalid(WITHOUT_CHOICE[code])
        elif not isinstance(choice, str) or choice not in CHOICES:
            broken[code] = Invalid(
                rules.CHOICE_SENTENCE, (Message("It is one of: {choices}.", choices=", ".join(CHOICES)),)
            )
    if broken:
        return broken
    return with_codes(Notifications(bool(infos), at, str(sign)), {code: str(each) for code, each in codes.items()})


def with_codes(chosen: Notifications, codes: Mapping[str, str]) -> Notifications:
    """Return the choices with other ones for some codes, which are right."""
    merged = {**dict(chosen.codes), **codes}
    # The default is not kept, so that equal choices are equal bytes.
    return replace(chosen, codes=tuple(sorted((code, each) for code, each in merged.items() if each != AT_ONCE)))


def to_values(chosen: Notifications) -> dict[str, Value]:
    """Return the values of the file."""
    codes = {f"{CODE_PREFIX}{code}": choice for code, choice in chosen.codes}
    return {INFOS: chosen.infos, TIME: chosen.summary_time, SIGN: chosen.sign_of_life, **codes}


def from_values(values: Mapping[str, Value]) -> Notifications | Message:
    """Return the choices of a file's values, by the same rules; or the error."""
    # Former versions took a choice for each code.
    values = {name: each for name, each in values.items() if name.removeprefix(CODE_PREFIX) not in WITHOUT_CHOICE}
    found = parse({name.removeprefix(CODE_PREFIX): value for name, value in values.items()})
    if isinstance(found, Notifications) and to_values(found) == values:
        return found
    return Message("{name} breaks its rule", name=next(iter(found)) if isinstance(found, dict) else "a name")
