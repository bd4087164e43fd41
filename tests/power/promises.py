"""What must be true of every disk after a power cut, given what was asked for and acknowledged before it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from device_ui.mail.catalog import SIGN_OF_LIFE, TYPES
from device_ui.mail.events import Action
from device_ui.mail.outbox.outbox import WAITS_FOR_SUMMARY
from device_ui.mail.outbox.retention import FORWARDED
from tests.power.recovery import Found, verifies
from tests.power.stage import SUMMARIZED, SUMMARIZED_KINDS, form, mail_password, password, person
from tests.power.story import Ack, Asked

# The modes of SPEC §4 and §7: who may read what.
MODES = {
    "settings": 0o2750,
    "web": 0o700,
    "mail": 0o700,
    "public": 0o755,
    "settings/smtp.toml": 0o640,
    "settings/recipients.toml": 0o640,
    "web/administrator.toml": 0o600,
    "mail/private.key": 0o600,
    "public/mailhook.pub": 0o644,
    "mail/ledger.sqlite3": 0o600,
    "mail/ledger.sqlite3.made": 0o600,
}
# Places in `recovery.COLUMNS`.
TEXT, WAITING, CODE, MAIL = 1, 2, 3, 8
# The content of a ledger that holds nothing.
EMPTY: tuple[Any, ...] = ((), (), ())
REMOVED = ("removed_info", "removed_fault", "removed_waiting")


@dataclass
class Known:
    """What the world knows at a moment: the newest value asked for and acknowledged of each kind (-1: none), the texts of
    accepted events by number, the events called delivered, the setup code that was printed, and every content that the
    ledger had between two transactions."""

    asked: dict[str, int]
    told: dict[str, int]
    port: int
    events: dict[int, str] = field(default_factory=dict)
    delivered: set[int] = field(default_factory=set)
    code: str = ""
    contents: set[int] = field(default_factory=set)
    # What the server does with each recipient of the events that follow (``""``: it waits); the same for those raised since,
    # by number; and the results that were reported of them.
    fates: dict[str, str] = field(default_factory=dict)
    owed: dict[int, dict[str, str]] = field(default_factory=dict)
    results: set[tuple[int, str, str]] = field(default_factory=set)
    # The event that is sent again by the next action, and those of the actions that were accepted, by number.
    about: int = 0
    again: dict[int, int] = field(default_factory=dict)
    # What documents were asked for: the numbers of their settings and lists.
    documents: list[tuple[int, int]] = field(default_factory=list)
    # The numbers that the engine has, and of which events it has the outcome; None where there is no engine.
    engine: set[int] | None = None
    outcomes: set[int] = field(default_factory=set)
    ledger_id: str = ""
    # Public halves of the keys that stood before a factory reset was asked for: a finished one is followed by new keys.
    keys: frozenset[bytes] = frozenset()
    # What is known if a factory reset that was asked for goes through; None: none was.
    erased: Known | None = None
    is_resetting: bool = False

    @classmethod
    def at_start(cls, *, fresh: bool, port: int) -> Known:
        """What is known of a new device, or of the base that every other story begins with."""
        first = {"settings": -1 if fresh else 0, "password": -1 if fresh else 0, "recipients": 0}
        return cls(dict(first), dict(first), port)

    def copy(self) -> Known:
        """The same, that does not change; the ledger's contents are shared."""
        copies = {"asked": dict(self.asked), "told": dict(self.told), "events": dict(self.events)}
        copies |= {"owed": {number: dict(each) for number, each in self.owed.items()}, "results": set(self.results)}
        copies |= {"again": dict(self.again), "documents": list(self.documents), "outcomes": set(self.outcomes)}
        copies |= {"engine": None if self.engine is None else set(self.engine)}
        erased = self.erased and self.erased.copy()
        return dataclasses.replace(self, **copies, delivered=set(self.delivered), erased=erased)  # type: ignore[arg-type]

    def look(self, contents: set[int], ledger_id: str) -> None:
        """What the ledger held between transactions, and its name now: a new one once a factory reset went through."""
        (self.erased or self).ledger_id = ledger_id
        for each in filter(None, (self, self.erased)):
            each.contents = contents

    def learn(self, step: Asked | Ack) -> None:
        """Something was asked for or acknowledged. What follows a factory reset is true whether it went through or not."""
        if self.erased and step not in (Asked("reset", ()), Ack("reset", None)):
            self.erased.learn(step)
        match step:
            case Asked("reset"):
                self.erased = Known.at_start(fresh=True, port=self.port)
                self.erased.is_resetting = True
            case Ack("reset") if self.erased:
                self.__dict__.update(Known.at_start(fresh=True, port=self.port).__dict__)
            case Asked(kind, (number,)) if kind in self.asked:
                self.asked[kind] = int(str(number))
            case Ack(kind, number) if kind in self.told:
                self.told[kind] = int(str(number))
            case Asked("fates", (fates,)):
                self.fates = dict(fates)  # type: ignore[call-overload]
            case Asked("takes", (recipient,)):
                for each in self.owed.values():
                    each[str(recipient)] = "delivered"
            case Asked("about", (number,)):
                self.about = int(str(number))
            case Asked("document", (settings, people)):
                self.documents.append((int(str(settings)), int(str(people))))
                self.asked |= {"settings": int(str(settings)), "recipients": int(str(people))}
            case Ack("document", (settings, people)):
                self.told |= {"settings": settings, "recipients": people}
            case Ack("forwarded", dict() as line):
                self.engine = self.engine or set()
                if "outcome" in line:
                    self.outcomes.add(line["number"])
                elif "gap" in line:
                    self.engine |= {*range(line["gap"]["first"], line["gap"]["last"] + 1)}
                else:
                    self.engine.add(line["number"])
            case Ack("result", result):
                self.results.add(result)  # type: ignore[arg-type]
            case Ack("event", (number, text)):
                self.events[number] = str(text)
                if text == Action.SEND_AGAIN:
                    self.again[number] = self.about
                if self.fates:
                    self.owed[number] = dict(self.fates)
            case Ack("delivered", number):
                # The history says it of an event only when each of its mails is done.
                event = int(str(number))
                self.delivered |= {event, *(action for action, about in self.again.items() if about == event)}
            case Ack("code", code):
                self.code = str(code)


def broken(known: Known, found: Found, scratch: Path) -> list[str]:
    """Every promise that this disk breaks, in one line each; none where all is well.

    While a factory reset is under way the disk may keep every promise of before it, or be that of a new device.
    """
    lines = [line for promise in PROMISES for line in promise(known, found, scratch)]
    if known.erased and lines:
        lines = broken(known.erased, found, scratch) and lines
    return [*lines, *key_goes_first(known, found)]


def settings_are_whole(known: Known, found: Found, _: Path) -> Iterator[str]:
    """The settings that were called saved, or newer ones that were asked for; every field of the same save."""
    if found.settings is None:
        if known.told["settings"] >= 0:
            yield f"settings {known.told['settings']} were called saved and there are none"
        return
    number = int(found.settings.sender_name.rpartition(" ")[2])
    expected = form(number, known.port)
    mixed = [
        name for name, value in expected.items() if name != "password" and str(getattr(found.settings, name)) != value
    ]
    if mixed:
        yield f"settings {number} have a strange {', '.join(mixed)}"
    if found.opened != mail_password(number):
        yield f"the password of settings {number} does not open"
    if not known.told["settings"] <= number <= known.asked["settings"]:
        yield f"settings {number} stand, {known.told['settings']} were called saved, {known.asked['settings']} asked for"


def recipients_are_whole(known: Known, found: Found, _: Path) -> Iterator[str]:
    """Likewise the list of recipients."""
    count = len(found.recipients)
    if [each.address for each in found.recipients] != [person(number) for number in range(1, count + 1)]:
        yield "the list of recipients is a mix"
    if not known.told["recipients"] <= count <= known.asked["recipients"]:
        yield f"{count} recipients stand, {known.told['recipients']} were called saved"


def password_holds(known: Known, found: Found, scratch: Path) -> Iterator[str]:
    """The administrator's password that was called set, or a newer one; never a set-up that is open again."""
    record, told, asked = found.administrator, known.told["password"], known.asked["password"]
    if record is None:
        yield "the administrator's record is damaged or missing"
    elif record.is_set_up:
        if not any(verifies(record, password(number), scratch) for number in range(max(told, 0), asked + 1)):
            yield f"no password from {told} to {asked} opens"
    elif told >= 0:
        yield "the set-up is open again"
    elif known.code and record.code != known.code:
        yield "another setup code was printed"


def events_are_kept(known: Known, found: Found, _: Path) -> Iterator[str]:
    """What was called accepted is there with its text, or the limit took and counted it; what was called delivered stays so."""
    events, facts = found.ledger.events, found.ledger.facts
    last = max(events, default=0)
    missing = last - len(events)
    if missing != sum(int(facts.get(name, 0)) for name in REMOVED):
        yield f"{missing} events are missing, and the limit counted others"
    gone = [number for number in known.events if number > last]
    if gone:
        yield f"accepted events are lost: {gone[:5]}"
    yield from (
        f"event {number} tells of something else"
        for number, text in known.events.items()
        if number in events and events[number][1] != text
    )
    # A delivery is kept by the mail's number, which in a digest is that of its first event.
    delivered = {row[0] for row in found.ledger.deliveries if row[2] == "delivered"}
    for number in known.delivered & events.keys():
        if events[number][WAITING] or (events[number][MAIL] or number) not in delivered:
            yield f"event {number} was delivered and waits again"


def recipients_have_their_fates(known: Known, found: Found, _: Path) -> Iterator[str]:
    """The ledger says of a recipient what the server did, and the event waits while one has no result."""
    events = found.ledger.events
    rows: dict[int, dict[str, str]] = {}
    for number, recipient, verdict, *_rest in found.ledger.deliveries:
        rows.setdefault(number, {})[recipient] = verdict
    for number, fates in known.owed.items():
        if number not in events:
            continue
        results = rows.get(events[number][MAIL] or number, {})
        for recipient in fates:
            verdict = results.get(recipient, "")
            if verdict and verdict != fates[recipient]:
                yield f"event {number} is {verdict} for {recipient}, which the server did not say"
            if not verdict and not events[number][WAITING]:
                yield f"event {number} is done, and {recipient} has no result"
            for said in ("delivered", "refused"):
                if (number, recipient, said) in known.results and verdict != said:
                    yield f"event {number} was {said} for {recipient}, and is not any more"


def documents_are_in_order(known: Known, found: Found, _: Path) -> Iterator[str]:
    """The tab of a document is written before its list: with the tab alone a device mails already."""
    number = int(found.settings.sender_name.rpartition(" ")[2]) if found.settings else -1
    for settings, people in known.documents:
        if len(found.recipients) >= people and number < settings:
            yield f"the list of a document stands, and settings {number} and not its {settings}"


def sent_again_is_mailed(known: Known, found: Found, _: Path) -> Iterator[str]:
    """An event that is sent again waits, until somebody has it or it is lost by name."""
    mails = {row[0] for row in found.ledger.deliveries}
    for number in known.again.keys() & found.ledger.events.keys():
        if not found.ledger.events[number][WAITING] and number not in mails:
            yield f"event {number} was to be sent again, and neither waits nor was sent"


def periodic_mails_are_begun_once(_known: Known, found: Found, _: Path) -> Iterator[str]:
    """The note of a summary or a sign of life is there with its mail and never without: else one is skipped, or comes twice."""
    events, facts = found.ledger.events, found.ledger.facts
    summarized = {number: row for number, row in events.items() if row[TEXT].startswith(SUMMARIZED)}
    if not summarized:
        return
    if len(summarized) < len(SUMMARIZED_KINDS):
        yield "an event of the summary is gone"
    note = json.loads(facts.get("summary", "{}"))
    begun = {row[MAIL] for row in summarized.values() if row[WAITING] != WAITS_FOR_SUMMARY}
    if begun != {*note.get("mails", [])} or (begun and len(begun) != len(TYPES)):
        yield f"the mails of the summary are {sorted(begun)}, and its note has {note.get('mails')}"
    done = {row[0] for row in found.ledger.deliveries if row[2] == "delivered"}
    if any(not row[WAITING] and row[MAIL] not in done for row in summarized.values()):
        yield "an event of the summary neither waits nor was sent"
    signs = [number for number, row in events.items() if row[CODE] == SIGN_OF_LIFE.code]
    noted = json.loads(facts["sign_of_life"])["number"]
    if signs != ([noted] if noted else []):
        yield f"the signs of life are {signs}, and the note has {noted}"


def engine_has_what_the_cursor_says(known: Known, found: Found, _: Path) -> Iterator[str]:
    """No event before the cursor is unknown to the engine, and no outcome is lost that it does not have."""
    cursor = int(found.ledger.facts.get(FORWARDED, 0))
    unknown = {*range(1, cursor + 1)} - (known.engine or set())
    if unknown:
        yield f"the cursor is at {cursor}, and the engine lacks {sorted(unknown)[:5]}"
    if known.engine is not None:
        lost = (known.delivered & found.ledger.events.keys()) - {*known.again} - known.outcomes - found.ledger.outcomes
        if lost:
            yield f"the outcomes of {sorted(lost)[:5]} are lost"


def numbers_are_new(known: Known, found: Found, _: Path) -> Iterator[str]:
    """No number is given twice."""
    if found.ledger.fresh <= max(known.events, default=0):
        yield f"number {found.ledger.fresh} is given twice"


def ledger_is_no_mix(known: Known, found: Found, _: Path) -> Iterator[str]:
    """The ledger is what it was between two transactions, and keeps the name that Message-IDs are made with."""
    if found.ledger.content != EMPTY and hash(found.ledger.content) not in known.contents:
        yield "the ledger holds part of a transaction"
    if known.events and known.ledger_id and found.ledger.facts["ledger_id"] != known.ledger_id:
        yield "it is another ledger"


def key_is_there(known: Known, found: Found, _: Path) -> Iterator[str]:
    """A public key on the disk has its private key there, unless a factory reset destroyed it."""
    if (
        known.erased is None
        and not known.is_resetting
        and found.public_before is not None
        and found.public_before not in found.privates_before
    ):
        yield "the public key has no private key"


def key_goes_first(known: Known, found: Found) -> Iterator[str]:
    """A factory reset that erased anything has erased the key that stood before."""
    if (
        known.erased is not None
        and found.privates_before & known.keys
        and not found.is_settings_before
        and known.told["settings"] >= 0
    ):
        yield "the settings were erased before the key"


def nothing_is_damaged(_known: Known, found: Found, _: Path) -> Iterator[str]:
    """A power cut damages no file, so that none is set aside."""
    yield from (f"{name} was set aside" for name in found.strange)


def modes_are_right(_known: Known, found: Found, _: Path) -> Iterator[str]:
    """Whoever has to read a file can, and nobody else."""
    for path, mode in MODES.items():
        if found.modes.get(path, mode) != mode:
            yield f"{path} has mode {found.modes[path]:o}"


PROMISES: Sequence[Callable[[Known, Found, Path], Iterator[str]]] = (
    settings_are_whole,
    recipients_are_whole,
    password_holds,
    events_are_kept,
    recipients_have_their_fates,
    documents_are_in_order,
    sent_again_is_mailed,
    periodic_mails_are_begun_once,
    engine_has_what_the_cursor_says,
    numbers_are_new,
    ledger_is_no_mix,
    key_is_there,
    nothing_is_damaged,
    modes_are_right,
)


def content_of(found: Found) -> int:
    """The ledger's content as `Known.contents` holds it."""
    content: Any = found.ledger.content
    return hash(content)
