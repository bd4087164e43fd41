"""What mail got through with, what History last reported, and who is to be warned: as the ledger keeps it. Pure."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from device_ui.errors import Message, Text, from_json, to_json
from device_ui.mail.catalog import SERVER_CHANGED
from device_ui.mail.events import Event
from device_ui.settings.fields import SmtpSettings, validate_stored
from device_ui.settings.recipients import RECIPIENTS_MAXIMUM

# Addresses that stood for one account, where its login is none, and are told though another one does now; the first.
EARLIER_MAXIMUM = 4
# Seconds that a reader who was taken off the list is still warned, or a change of the list and an alarm would take away
# whom to warn; and readers at most. Those who have read the longest stay.
GONE_SECONDS, READERS_MAXIMUM = 24 * 3600.0, 2 * RECIPIENTS_MAXIMUM

# What the password is bound to: what makes two servers the same one.
Bound = tuple[str, ...]


@dataclass(frozen=True)
class Server:
    """Settings that mail got through with, and its readers: `recipients`, who has read the longest first, of which those
    `gone` were taken off the list at a moment (of `Clock.moment`), and the `earlier` addresses of the account.
    `has_carried_alarm` is false while only a test mail got through.

    Of a server that was left: `number` is the event that its readers are still to be warned of, 0 for none, `ended`
    are those with a final verdict on it, `is_only` whether no other server warns of it; `refusals` counts the logins that
    were refused to its warnings; `left_at` is the moment it was left.
    """

    settings: SmtpSettings
    recipients: tuple[str, ...]
    number: int = 0
    refusals: int = 0
    earlier: tuple[str, ...] = ()
    has_carried_alarm: bool = False
    ended: tuple[str, ...] = ()
    gone: tuple[tuple[str, str], ...] = ()
    left_at: str = ""
    is_only: bool = True

    @property
    def bound_to(self) -> Bound:
        return self.settings.bound_to

    @property
    def listed(self) -> list[str]:
        """The readers who were not taken off the list."""
        return [each for each in self.recipients if each not in dict(self.gone)]

    @property
    def everybody(self) -> list[str]:
        """Who is warned: the readers and the account itself."""
        return list(dict.fromkeys([*self.recipients, *self.earlier, self.settings.default_recipient]))

    def now(self, settings: SmtpSettings) -> Server:
        """The same server by newer settings; they ask for no password, so an address that was to be told stays one."""
        told = self.settings.default_recipient
        left = () if told == settings.default_recipient else (told,)
        earlier = tuple(dict.fromkeys((*self.earlier, *left)))[:EARLIER_MAXIMUM]
        return dataclasses.replace(self, settings=settings, earlier=earlier)

    def joined(self, other: Server) -> Server:
        """The same server with what is known of it besides: an `other`'s readers first, and its login if this one has none."""
        readers = tuple(dict.fromkeys([*other.recipients, *self.recipients]))
        earlier = tuple(dict.fromkeys([*other.earlier, *self.earlier]))[:EARLIER_MAXIMUM]
        settings = self.settings if self.settings.sealed else other.settings
        return dataclasses.replace(self.now(settings), recipients=readers, earlier=earlier)

    def read_by(self, listed: Sequence[str], now: str, passed: Callable[[str], float]) -> Server:
        """Return the same server, whose mail goes to those who are `listed` now; `passed` as `Clock.passed`."""
        before = dict(self.gone)
        gone = {each: before.get(each, now) for each in self.recipients if each not in listed}
        gone = {each: since for each, since in gone.items() if passed(since) < GONE_SECONDS}
        room = READERS_MAXIMUM - len(listed)
        gone = dict([*gone.items()][: max(0, room)])
        readers = tuple(each for each in dict.fromkeys([*self.recipients, *listed]) if each in gone or each in listed)
        return dataclasses.replace(self, recipients=readers, gone=tuple(gone.items()))


@dataclass(frozen=True)
class Report:
    """What History last reported: that mail goes through the server of `bound_to`, by `event`. `line` names it once it is left."""

    bound_to: Bound
    line: Text
    event: Event


def spelt(value: Server | Report) -> str:
    """The text that `read` (between brackets) or `read_report` reads."""
    return json.dumps(dataclasses.asdict(value), default=to_json)


def spelt_list(servers: Sequence[Server]) -> str | None:
    """The text that `read` reads; None for none."""
    return f"[{', '.join(map(spelt, servers))}]" if servers else None


def read(fact: str) -> list[Server]:
    """The servers of a fact of the ledger, each once (an earlier version kept the same one twice); what is damaged is left out."""
    found: dict[Bound, Server] = {}
    try:
        for each in map(_server, json.loads(fact)):
            before = found.get(each.bound_to)
            found[each.bound_to] = each.joined(before) if before else each
    except (ValueError, TypeError, KeyError):
        return []
    return list(found.values())


def read_report(fact: str) -> Report | None:
    """The report of a fact of the ledger; None when it is damaged."""
    try:
        values = json.loads(fact, object_hook=from_json)
        event = values["event"]
        made = Event(
            SERVER_CHANGED.code,
            SERVER_CHANGED.type,
            float(event["time"]),
            float(event["accepted"]),
            str(event["source"]),
            str(event["text"]),
            waiting=False,
            number=int(event["number"]),
            clock=str(event["clock"]),
        )
        line = values["line"]
        return Report(tuple(map(str, values["bound_to"])), line if isinstance(line, Message) else str(line), made)
    except (ValueError, TypeError, KeyError):
        return None


def _server(values: Mapping[str, Any]) -> Server:
    settings = validate_stored(values["settings"])
    if isinstance(settings, Message) or not isinstance(values["number"], int):
        raise ValueError
    # Earlier versions knew nothing of what has a default here.
    return Server(
        settings,
        tuple(map(str, values["recipients"])),
        values["number"],
        int(values.get("refusals", 0)),
        tuple(map(str, values.get("earlier", ()))),
        bool(values.get("has_carried_alarm", True)),
        tuple(map(str, values.get("ended", ()))),
        tuple((str(each), str(since)) for each, since in values.get("gone", ())),
        str(values.get("left_at", "")),
        bool(values.get("is_only", True)),
    )
