"""The list of recipients: up to 20 addresses, each with the lowest type of event that it receives. Pure.

While none is listed, mail goes to the address of the SMTP account, so the SMTP tab alone is enough.
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

# One mail goes to all in one transaction: every server takes 100 recipients in one (RFC 5321, 4.5.3.1.8).
RECIPIENTS_MAXIMUM = 20
# The lowest type that a recipient receives, in words.
LOWEST = {"info": "everything", "fault": "faults only"}

ADDRESS_SENTENCE = "Please enter an e-mail address, such as name@example.com."
LISTED_SENTENCE = "This address is on the list already."
FULL = Message("The list holds {maximum} addresses at most. Remove one first.", maximum=RECIPIENTS_MAXIMUM)


@dataclass(frozen=True)
class Recipient:
    """An address and the lowest type of event that it receives: ``info`` is everything, ``fault`` faults only.

    `language` is the code of its mail's language; ``""`` is the device's.
    """

    address: str
    lowest: str = "info"
    language: str = ""

    def wants(self, event_type: str) -> bool:
        """Return whether this recipient receives events of this type."""
        return self.lowest == "info" or event_type == "fault"


Recipients = tuple[Recipient, ...]


def addresses(event_type: str, listed: Sequence[Recipient], settings: SmtpSettings) -> list[str]:
    """Return the addresses for an event of this type, in the order of the list."""
    recipients = listed or [Recipient(settings.default_recipient)]
    return [recipient.address for recipient in recipients if recipient.wants(event_type)]


def add(listed: Recipients, address: str, lowest: str, language: str = "") -> Recipients | Invalid:
    """Return the list with one more address. Addresses that differ only in case are the same, as for mail servers."""
    # Its own sentence: the account's names the SMTP account, which this address need not be.
    valid = rules.address(address)
    if isinstance(valid, Invalid):
        return Invalid(ADDRESS_SENTENCE, valid.hints)
    # RFC 5321, 2.4 lets a server distinguish case before the @; none in use does, and a person would get each mail twice.
    if valid.lower() in (each.address.lower() for each in listed):
        return Invalid(LISTED_SENTENCE)
    if len(listed) >= RECIPIENTS_MAXIMUM:
        return Invalid(FULL)
    if lowest not in LOWEST or language not in ("", *LANGUAGES):
        return Invalid(rules.CHOICE_SENTENCE)
    return (*listed, Recipient(valid, lowest, language))


def change(listed: Recipients, address: str, lowest: str, language: str = "") -> Recipients | Invalid:
    """Return the list with a new lowest type and language for one address."""
    if lowest not in LOWEST or language not in ("", *LANGUAGES):
        return Invalid(rules.CHOICE_SENTENCE)
    return tuple(Recipient(each.address, lowest, language) if each.address == address else each for each in listed)


def remove(listed: Recipients, address: str) -> Recipients:
    """Return the list without an address; the same list when it is not on it."""
    return tuple(each for each in listed if each.address != address)


def restore(listed: Recipients, address: str, lowest: str, place: int, language: str = "") -> Recipients | Invalid:
    """Return the list with a removed address back at its place, from 0."""
    # By `add` and its rules: since the removal a second person may have added the address, or filled the list.
    more = add(listed, address, lowest, language)
    return more if isinstance(more, Invalid) else (*listed[:place], more[-1], *listed[place:])


def to_values(listed: Recipients) -> dict[str, Value]:
    """Return the values of the file of the list: ``recipient_01 = "fault alarm@example.com"``, or ``"fault ko alarm@…"``."""
    return {f"recipient_{number:02}": _line(each) for number, each in enumerate(listed, 1)}


def from_values(values: Mapping[str, Value]) -> Recipients | Message:
    """Return the list of a file's values, validated by the same rules; or the error."""
    listed: Recipients = ()
    for number, (name, value) in enumerate(values.items(), 1):
        # Two words, or three with a language; `_line` refuses any other number below, as its spelling differs.
        lowest, *between, address = str(value).split(" ") if " " in str(value) else (str(value), "")
        more = add(listed, address, lowest, "".join(between))
        if name != f"recipient_{number:02}" or isinstance(more, Invalid) or _line(more[-1]) != value:
            return Message("{name} breaks its rule", name=name)
        listed = more
    return listed


def _line(recipient: Recipient) -> str:
    # No word for "the device's language": such a line is that of older versions, which had no languages.
    return " ".join(filter(None, (recipient.lowest, recipient.language, recipient.address)))
