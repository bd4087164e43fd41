"""Event codes: ``events.toml`` → `Kind`. A code that is not listed is a fault named ``Unknown event``. Pure but for `load`.

To add a code: to ``events.toml`` beside this module for every device, or to ``events.toml`` in the ``etc`` folder, which replaces
the one here, for the devices of one maker (docs/appliance.md). Its Korean name belongs into ``i18n/ko.po``, or into the maker's ``ko.toml``. A code
that this program itself raises, or that no maker may have mailed, belongs into `OURS`; one that no other program may raise, into `OF_DEVICE`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from device_ui import maker_file
from device_ui.errors import MakerFile

BUILT_IN = Path(__file__).with_name("events.toml")
# [0-9] and not \d, which matches digits of every script.
CODE_PATTERN = re.compile(r"[0-9]{3}")
# The types of events, the urgent one first.
TYPES = ("fault", "info")
UNKNOWN_NAME = "Unknown event"
UNKNOWN_DESCRIPTION = "The firmware raised an event that the catalogue of this device does not list."
NAME_MAXIMUM, DESCRIPTION_MAXIMUM = 100, 1000


@dataclass(frozen=True)
class Kind:
    """A kind of event: three-digit `code`, `type` of `TYPES`, `name`, `description`, and whether it is mailed."""

    code: str
    type: str
    name: str
    description: str
    mail: bool = True


# A message that a program of the device sent by `sendmail`; in every catalogue, and the maker may describe it.
MESSAGE = Kind(
    "901",
    "fault",
    "Message from the system",
    "A program of this device's system wrote an e-mail to its administrator.",
)
# Events of the firmware about its own mails. A mail about a mail would never end, so no catalogue can enable it.
MAIL_SENT = Kind(
    "153",
    "info",
    "E-mail notification: succeeded",
    "A mail about an event was handed to the mail server. Kept in the history, never mailed.",
    mail=False,
)
MAIL_FAILED = Kind(
    "306",
    "fault",
    "E-mail notification: failed",
    "A mail about an event could not be handed to the mail server. Kept in the history, never mailed.",
    mail=False,
)
# An event of this program, in every catalogue: never mailed as an alarm, since its notice goes through the previous
# server (see `delivery.server_change`).
SERVER_CHANGED = Kind(
    "902",
    "info",
    "Mail server changed",
    "From now on the mail of this device goes through another server, which the text names. "
    "If you did not expect that, look at the device's SMTP tab, and change the administrator's password.",
    mail=False,
)
# Events of this program about the sign-in by OAuth 2.0 (see `mail.oauth`). The first is mailed while mail still works.
SIGN_IN_ENDS = Kind(
    "903",
    "fault",
    "Mail sign-in ends soon",
    "The certificate, the client secret or the sign-in that this device sends its mail with ends soon. Without a new one it "
    "cannot send mail from then on.",
)
SIGN_IN_DEAD = Kind(
    "904",
    "fault",
    "Mail sign-in failed",
    "The provider does not take the sign-in of this device any more, so no mail goes out. The SMTP tab shows what to do. "
    "Kept in the history, never mailed.",
    mail=False,
)
# The mail that says that the device still mails (see `delivery.periodic`); only the device raises it.
SIGN_OF_LIFE = Kind(
    "905",
    "info",
    "Sign of life",
    "The device mails this every day or every week, as Others, Event Codes says. If it stops, look at the device.",
)
# A certificate that mail relies on (see `delivery.certificate_watch`); mailed while mail still works.
CERTIFICATE_ENDS = Kind(
    "906",
    "fault",
    "Certificate of the mail server ends soon",
    "The certificate of the mail server, or of the authority that vouches for it, ends soon. Unless it is renewed, or its very key is "
    "trusted, the device cannot send mail from then on.",
)
# What no program can raise: History would show what never was.
OF_DEVICE = frozenset(
    {SERVER_CHANGED.code, SIGN_IN_ENDS.code, SIGN_IN_DEAD.code, SIGN_OF_LIFE.code, CERTIFICATE_ENDS.code}
)

# In every catalogue: a maker's file that does not list them would make each an unknown fault, which is mailed.
OURS = {
    kind.code: kind
    for kind in (
        *(MAIL_SENT, MAIL_FAILED, MESSAGE, SERVER_CHANGED),
        *(SIGN_IN_ENDS, SIGN_IN_DEAD, SIGN_OF_LIFE, CERTIFICATE_ENDS),
    )
}


class Catalog:
    """The kinds of one device, by code. Those of `OURS` are in each, and an unmailed one of them stays unmailed.

    `problem`: why the maker's catalogue is not used, ``""`` if it is or there is none.
    """

    def __init__(self, kinds: Mapping[str, Kind], problem: str = "") -> None:
        self.problem = problem
        self.kinds = {**OURS, **{code: _bounded(kind) for code, kind in kinds.items()}}
        # Codes with entries of the maker that are overruled.
        self.bounded = sorted(code for code, kind in kinds.items() if kind != self.kinds[code])

    def __getitem__(self, code: str) -> Kind:
        """Return the kind of this code; an unlisted one is a fault, which every recipient receives."""
        return self.kinds.get(code) or Kind(code, "fault", UNKNOWN_NAME, UNKNOWN_DESCRIPTION)


def _bounded(kind: Kind) -> Kind:
    """Return a kind as the maker describes it, without the entries that are overruled."""
    # The maker may name and describe our codes. A mail about a mail would never end, and what the device raises itself has its type
    # and its way from the device: a change of the server is no fault, and an end that is near is mailed.
    ours = OURS.get(kind.code)
    if ours is not None and ours.code in OF_DEVICE:
        return replace(kind, type=ours.type, mail=ours.mail)
    if ours is None or ours.mail:
        return kind
    return replace(kind, mail=False)


def load(etc: Path) -> Catalog:
    """Return the maker's catalogue, or the one that ships if there is none. Raises `MakerFile`."""
    path = etc / "events.toml"
    try:
        return parse(path, path.read_text(encoding="utf-8")) if _is_there(path) else built_in()
    except OSError as error:
        raise MakerFile(path, os.strerror(error.errno or 0)) from error
    except UnicodeDecodeError as error:
        raise MakerFile(path, "it is not UTF-8") from error


def built_in(problem: str = "") -> Catalog:
    """Return the catalogue that ships; `problem` as in `Catalog`."""
    catalog = parse(BUILT_IN, BUILT_IN.read_text(encoding="utf-8"))
    return Catalog(catalog.kinds, problem) if problem else catalog


def parse(path: Path, text: str) -> Catalog:
    """Return the catalogue of a TOML text. Raises `MakerFile` with the line and column of the error."""
    found = maker_file.parse(path, text)
    try:
        return Catalog({code: _kind(code, entries) for code, entries in found.items()})
    except _Wrong as wrong:
        raise MakerFile(path, f"{wrong.reason}{_place(text, wrong)}") from wrong


def _is_there(path: Path) -> bool:
    # Not Path.exists(), which is False for a dangling link: that is a mistake of the maker, and must be reported.
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    return True


class _Wrong(Exception):
    """An invalid entry: its `code`, the wrong `key` (``""``: all of it), and the `reason`."""

    def __init__(self, code: str, key: str, reason: str) -> None:
        super().__init__(reason)
        self.code, self.key = code, key
        self.reason = f"[{code}]: {reason}"


def _kind(code: str, entries: Any) -> Kind:
    # TOML allows any key, [7], [3O3] and [0xff] among them.
    if not CODE_PATTERN.fullmatch(code):
        raise _Wrong(code, "", "a code has three digits")
    unknown = set(entries) - {"type", "name", "description", "mail"} if isinstance(entries, dict) else {""}
    if unknown:
        raise _Wrong(code, min(unknown), "only type, name, description and mail are known")
    if entries.get("type") not in TYPES:
        raise _Wrong(code, "type", "type must be info or fault")
    if not isinstance(entries.get("mail", True), bool):
        raise _Wrong(code, "mail", "mail must be true or false")
    for name, maximum in (("name", NAME_MAXIMUM), ("description", DESCRIPTION_MAXIMUM)):
        value = entries.get(name)
        if not isinstance(value, str) or not 1 <= len(value) <= maximum or not value.isprintable():
            raise _Wrong(code, name, f"{name} must be 1 to {maximum} printable characters on one line")
    return Kind(code, **entries)


def _place(text: str, wrong: _Wrong) -> str:
    """Return the place of an entry as tomllib spells it, ``""`` for an entry that is spelled in an unusual way."""
    # tomllib gives a place for a syntax error only; a maker should not search fifty codes for a wrong type.
    code, key = (
        rf"""(?:{re.escape(each)}|"{re.escape(each)}"|'{re.escape(each)}')""" for each in (wrong.code, wrong.key)
    )
    head = re.search(rf"^[ \t]*(?:\[[ \t]*{code}[ \t]*\]|{code}[ \t]*[=.])", text, re.MULTILINE)
    if not head:
        return ""
    end = re.compile(r"^[ \t]*\[", re.MULTILINE).search(text, head.end())
    inside = re.compile(rf"^[ \t]*{key}[ \t]*=", re.MULTILINE)
    found = inside.search(text, head.end(), end.start() if end else len(text)) if wrong.key else None
    place = len(text) - len(text[(found or head).start() :].lstrip(" \t"))
    line_start = text.rfind("\n", 0, place) + 1
    return f" (at line {text.count(chr(10), 0, place) + 1}, column {place - line_start + 1})"
