"""Mails of one device as they are sent: each kind in each language."""

from __future__ import annotations

from collections.abc import Sequence

from device_ui.errors import Message, to_stored
from device_ui.i18n.translator import load
from device_ui.mail import catalog
from device_ui.mail.catalog import MESSAGE
from device_ui.mail.events import CodeCount, Digest, Event
from device_ui.mail.message.compose import compose, compose_digest, compose_test
from device_ui.mail.message.envelope import Envelope
from device_ui.settings.fields import SmtpSettings

LEDGER, SERIAL = "0123456789abcdef", "4P-000017"
SETTINGS = SmtpSettings("mail.example.com", 587, "Storage alarms", "alarm@mail.example.com")
DEVICE = {
    "name": "nas-office",
    "model": "NAS-4",
    "serial": SERIAL,
    "host_name": "nas-office",
    "address": "192.168.1.40",
    "url": "https://nas-office.example.com",
}
KINDS = catalog.built_in()
BEGIN = 1795903322.0
TABLE = "NAME    USED  AVAIL\ntank   9.94T   990G\n  sda      -      -"
LONG = "/srv/" + "averylongpath" * 20


def event(number: int, code: str = "303", text: str = "disk 2 is at 91 %", source: str = "zfs") -> Event:
    moment = BEGIN + number
    return Event(code, KINDS[code].type, moment, moment + 3, source, text, number=number)


def envelope(languages: Sequence[str], device: dict[str, str] = DEVICE) -> Envelope:
    words = [load(code) for code in languages]
    return Envelope(SETTINGS, ["admin@example.com"], device, LEDGER, BEGIN + 600, languages=words)


def single(*languages: str, number: int = 1741, text: str = "disk 2 is at 91 %") -> bytes:
    return compose(event(number, text=text), KINDS["303"], envelope(languages))


def digest(
    *languages: str, codes: Sequence[str] = ("303", "303", "304"), number: int = 1742, is_summary: bool = False
) -> bytes:
    events = [event(number + place, code, f"disk {place} is full") for place, code in enumerate(codes)]
    counts = []
    for code in dict.fromkeys(codes):
        times = [each.time for each in events if each.code == code]
        counts.append(CodeCount(code, len(times), times[0], times[-1]))
    ranges = ((number, events[-1].number),)
    return compose_digest(Digest(number, "fault", counts, ranges, events, is_summary), KINDS, envelope(languages))


def message(*languages: str) -> bytes:
    text = f"SMART error (CurrentPendingSector)\n\nDevice: /dev/sda\n\n{TABLE}\n{LONG}"
    return compose(event(1760, "901", text, "smartd (root)"), MESSAGE, envelope(languages))


def sign_of_life(*languages: str) -> bytes:
    """Its report in the form of `delivery.periodic`."""
    text = Message(
        "{since}\n{events}\n{lost}",
        since=Message("Since {time}", time="2026-11-22 08:17"),
        events=Message("Events: {count}", count=3),
        lost=Message("Mails lost: {count}", count=0),
    )
    return compose(event(1770, "905", to_stored(text), ""), KINDS["905"], envelope(languages))


def trial(*languages: str) -> bytes:
    return compose_test(envelope(languages), "f00d", (event(0), KINDS["303"]))


def every_kind() -> dict[str, bytes]:
    """Return each kind of mail in English, in Korean and in both, by its name."""
    made = {}
    for languages in (("en",), ("ko",), ("en", "ko")):
        words = " and ".join(languages)
        made |= {
            f"single, {words}": single(*languages),
            f"table, {words}": single(*languages, text=TABLE),
            f"long word, {words}": single(*languages, text=LONG),
            f"digest, {words}": digest(*languages),
            f"message, {words}": message(*languages),
            f"daily summary, {words}": digest(*languages, is_summary=True),
            f"sign of life, {words}": sign_of_life(*languages),
            f"test, {words}": trial(*languages),
        }
    return made
