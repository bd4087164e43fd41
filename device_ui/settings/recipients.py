"""Who gets the mail of an event: up to 20 addresses, each with the lowest type of event that it wants.

With no recipient listed it is the SMTP account's address, so that the SMTP tab alone is enough to get mail. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from device_ui.errors import Message
from device_ui.i18n.translator import LANGUAGES
from device_ui.settings import rules
from device_ui.settings.fields import SmtpSettings
from device_ui.settings.rules import Invalid
from device_ui.storage.toml_file import Value

RECIPIENTS_MAXIMUM = 20
# The lowest type that a recipient wants, and what it means.
LOWEST = {"info": "everything", "fault": "faults only"}

ADDRESS_SENTENCE = "Please enter an e-mail address, such as name@example.com."
LISTED_SENTENCE = "This address is on the list already."
FULL = Message("The list holds {maximum} addresses at most. Remove one first.", maximum=RECIPIENTS_MAXIMUM)


@dataclass(frozen=True)
class Recipient:
    """One address and the lowest type of event that it wants: ``info`` is everything, ``fault`` faults only.

    `language` is that of its mail, of `LANGUAGES`; ``""`` is the device's own.
    """

    address: str
    lowest: str = "info"
    language: str = ""

    def wants(self, event_type: str) -> bool:
        """Whether an event of this type is for this recipient."""
        return self.lowest == "info" or event_type == "fault"


Recipients = tuple[Recipient, ...]


def addresses(event_type: str, listed: Sequence[Recipient], settings: SmtpSettings) -> list[str]:
    """The addresses that an event of this type is mailed to, in the list's order."""
    everybody = listed or [Recipient(settings.default_recipient)]
    return [recipient.address for recipient in everybody if recipient.wants(event_type)]


def add(listed: Recipients, address: str, lowest: str, language: str = "") -> Recipients | Invalid:
    """The list with one more; mail servers take addresses without case for the same, and so does this list."""
    found = rules.address(address)
    if isinstance(found, Invalid):
        return Invalid(ADDRESS_SENTENCE)
    if found.lower() in (each.address.lower() for each in listed):
        return Invalid(LISTED_SENTENCE)
    if len(listed) >= RECIPIENTS_MAXIMUM:
        return Invalid(FULL)
    if lowest not in LOWEST or language not in ("", *LANGUAGES):
        return Invalid(rules.CHOICE_SENTENCE)
    return (*listed, Recipient(found, lowest, language))


def change(listed: Recipients, address: str, lowest: str, language: str = "") -> Recipients | Invalid:
    """The list with another lowest type and language for one address."""
    if lowest not in LOWEST or language not in ("", *LANGUAGES):
        return Invalid(rules.CHOICE_SENTENCE)
    return tuple(Recipient(each.address, lowest, language) if each.address == address else each for each in listed)


def remove(listed: Recipients, address: str) -> Recipients:
    """The list without one address; one that is not on it changes nothing."""
    return tuple(each for each in listed if each.address != address)


def restore(listed: Recipients, address: str, lowest: str, place: int, language: str = "") -> Recipients | Invalid:
    """The list with an address that was removed back in its place, which counts from 0."""
    more = add(listed, address, lowest, language)
    return more if isinstance(more, Invalid) else (*listed[:place], more[-1], *listed[place:])


def to_values(listed: Recipients) -> dict[str, Value]:
    """The list as the lines of its file: ``recipient_01 = "fault alarm@example.com"``, or ``"fault ko alarm@…"``."""
    return {f"recipient_{number:02}": _line(each) for number, each in enumerate(listed, 1)}


def from_values(values: Mapping[str, Value]) -> Recipients | Message:
    """The list of a file's lines, by the same rules again; or one line that says what is wrong."""
    listed: Recipients = ()
    for number, (name, value) in enumerate(values.items(), 1):
        lowest, *between, address = str(value).split(" ") if " " in str(value) else (str(value), "")
        more = add(listed, address, lowest, "".join(between))
        if name != f"recipient_{number:02}" or isinstance(more, Invalid) or _line(more[-1]) != value:
            return Message("{name} breaks its rule", name=name)
        listed = more
    return listed


def _line(recipient: Recipient) -> str:
    # Without a language it is the line that older versions wrote, and read.
    return " ".join(filter(None, (recipient.lowest, recipient.language, recipient.address)))
