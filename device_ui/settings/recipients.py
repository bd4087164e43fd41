"""Who gets the mail of an event: up to 20 addresses, each with the lowest type of event that it wants.

With no recipient listed it is the SMTP account's address, so that the SMTP tab alone is enough to get mail. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from device_ui.settings import rules
from device_ui.settings.record import Value
from device_ui.settings.rules import Broken
from device_ui.settings.smtp import SmtpSettings

RECIPIENTS_MAXIMUM = 20
# The lowest type that a recipient wants, and what it means.
LOWEST = {"info": "everything", "fault": "faults only"}

ADDRESS_SENTENCE = "Please enter an e-mail address, such as name@example.com."
LISTED_SENTENCE = "This address is on the list already."
FULL_SENTENCE = f"The list holds {RECIPIENTS_MAXIMUM} addresses at most. Remove one first."


@dataclass(frozen=True)
class Recipient:
    """One address and the lowest type of event that it wants: ``info`` is everything, ``fault`` faults only."""

    address: str
    lowest: str = "info"

    def wants(self, event_type: str) -> bool:
        """Whether an event of this type is for this recipient."""
        return self.lowest == "info" or event_type == "fault"


Recipients = tuple[Recipient, ...]


def addresses(event_type: str, listed: Sequence[Recipient], settings: SmtpSettings) -> list[str]:
    """The addresses that an event of this type is mailed to, in the list's order."""
    everybody = listed or [Recipient(settings.default_recipient)]
    return [recipient.address for recipient in everybody if recipient.wants(event_type)]


def add(listed: Recipients, address: str, lowest: str) -> Recipients | Broken:
    """The list with one more; mail servers take addresses without case for the same, and so does this list."""
    found = rules.address(address)
    if isinstance(found, Broken):
        return Broken(ADDRESS_SENTENCE)
    if found.lower() in (each.address.lower() for each in listed):
        return Broken(LISTED_SENTENCE)
    if len(listed) >= RECIPIENTS_MAXIMUM:
        return Broken(FULL_SENTENCE)
    return (*listed, Recipient(found, lowest)) if lowest in LOWEST else Broken(rules.CHOICE_SENTENCE)


def change(listed: Recipients, address: str, lowest: str) -> Recipients | Broken:
    """The list with another lowest type for one address."""
    if lowest not in LOWEST:
        return Broken(rules.CHOICE_SENTENCE)
    return tuple(Recipient(each.address, lowest) if each.address == address else each for each in listed)


def remove(listed: Recipients, address: str) -> Recipients:
    """The list without one address; one that is not on it changes nothing."""
    return tuple(each for each in listed if each.address != address)


def restore(listed: Recipients, address: str, lowest: str, place: int) -> Recipients | Broken:
    """The list with an address that was removed back in its place, which counts from 0."""
    more = add(listed, address, lowest)
    return more if isinstance(more, Broken) else (*listed[:place], more[-1], *listed[place:])


def to_values(listed: Recipients) -> dict[str, Value]:
    """The list as the lines of its file: ``recipient_01 = "fault alarm@example.com"``."""
    return {f"recipient_{number:02}": f"{each.lowest} {each.address}" for number, each in enumerate(listed, 1)}


def from_values(values: Mapping[str, Value]) -> Recipients | str:
    """The list of a file's lines, by the same rules again; or one line that says what is wrong."""
    listed: Recipients = ()
    for number, (name, value) in enumerate(values.items(), 1):
        lowest, _, address = str(value).partition(" ")
        more = add(listed, address, lowest)
        if name != f"recipient_{number:02}" or isinstance(more, Broken) or more[-1].address != address:
            return f"{name} breaks its rule"
        listed = more
    return listed
