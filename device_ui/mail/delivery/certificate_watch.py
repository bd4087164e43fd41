"""Warn before a certificate ends that mail relies on: by an event 30, 14, 7 and 1 days before, each once.

A trusted key or an authority of our own is replaced by a person, who gets each warning. A certificate that the authorities of the
device verify is mostly renewed by a program, and warns only when that is overdue (`LAST_PART`).

The dates are seen in each session of the queue (`smtp.trust`), and only there: no connection is opened for them. An event and the
metadata that it was raised are one commit, so a power cut can neither lose nor repeat one. A trusted key outlives its certificate;
then mail goes on, and the state of the mail path has the warning.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from device_ui.errors import Message, NotStored, Text, to_stored
from device_ui.mail.catalog import CERTIFICATE_ENDS, Kind
from device_ui.mail.clock import Clock
from device_ui.mail.delivery.problem import Problem
from device_ui.mail.delivery.schedule import Schedule
from device_ui.mail.events import Event
from device_ui.mail.outbox.outbox import Outbox

if TYPE_CHECKING:
    from device_ui.mail.smtp.trust import InUse
    from device_ui.settings.fields import SmtpSettings

log = logging.getLogger(__name__)

# The name of the metadata: the last warning of each certificate, and the dates of the one whose key is trusted.
METADATA = "certificates"
# Days before an end at which an event warns.
WARNING_DAYS = (30, 14, 7, 1)
# By `trust`, the last part of a certificate's life in which it warns. One of a public authority lives 90 days, from 2029 on 47 at
# most (CA/Browser Forum ballot SC-081v3), and a program renews it when a third of that is left
# (letsencrypt.org/docs/integration-guide, "When to renew"): a warning 30 days before would be a false alarm every 60
# days. So 30 days are no part of the last third of 90 days. Of the others they are: a certificate that a person
# replaces lives that long at least, and has each warning. One with a shorter life is renewed by a program as well, also
# in a LAN, where an authority may issue for 24 hours.
LAST_PART = {"system": 0.33, "pin": 0.34, "ca": 0.34}
DAY = 24 * 3600.0
# Certificates whose warnings are kept: the machines behind one name may have some each.
KEPT = 40
# By role, and by whether its key is trusted. A certificate that a session relies on was in its dates, but that of a trusted key.
WORDS = {
    "server": Message(
        "The certificate of {host} ends on {day}, in {days} days. Have its administrator renew it: from then on no mail goes out."
    ),
    "authority": Message(
        "The trusted authority for {host} ends on {day}, in {days} days. Give its successor on the SMTP tab: from then on no mail goes out."
    ),
    "pin": Message(
        "The certificate of {host} ends on {day}, in {days} days. Its key is trusted, so mail goes on. If its administrator renews it with a new key, trust that one on the SMTP tab."
    ),
    "ended": Message(
        "The certificate of {host} ended on {day}. Its key is trusted, so mail goes on. If its administrator renews it with a new key, trust that one on the SMTP tab."
    ),
}


class CertificateWatch:
    """The certificates of one device. The worker calls it. `decide` returns whether an event of a kind is mailed, and whether in
    the daily summary."""

    def __init__(
        self, outbox: Outbox, schedule: Schedule, clock: Clock, decide: Callable[[Kind], tuple[bool, bool]]
    ) -> None:
        self._outbox, self._schedule, self._clock, self._decide = outbox, schedule, clock, decide

    def saw(self, settings: SmtpSettings, certificates: Sequence[InUse]) -> None:
        """Warn of the certificates of a session of these settings. Never raises: a full flash must not stop the mail."""
        try:
            if certificates and self._clock.is_right():
                self._saw(settings, certificates)
        except NotStored as error:
            log.error("end of a certificate not reported: %s", error.reason)

    def problem(self, settings: SmtpSettings) -> Problem:
        """Return the problem of a trusted key whose certificate has ended; mail goes on. Raises `NotStored`."""
        now = self._clock.seconds()
        if settings.trust != "pin" or not now:
            return Problem()
        of, _, ends = self._stored()["pinned"]
        if of != _of(settings) or now < ends:
            return Problem()
        return Problem("certificate", "certificate", Message("it ended on {day}", day=_day(ends)))

    def last_seen(self, settings: SmtpSettings) -> InUse | None:
        """Return the certificate that the trusted key of these settings was last seen in; None if it never was. Any
        thread may call."""
        from device_ui.mail.smtp.trust import InUse

        try:
            of, begins, ends = self._stored()["pinned"]
        except NotStored:  # it is for the words alone
            return None
        return InUse("server", begins, ends) if of == _of(settings) and begins else None

    def _saw(self, settings: SmtpSettings, certificates: Sequence[InUse]) -> None:
        stored, is_new = self._stored(), False
        pinned = [_of(settings), certificates[0].begins, certificates[0].ends]
        if settings.trust == "pin" and stored["pinned"] != pinned:
            stored["pinned"], is_new = pinned, True
        texts = []
        for each in certificates:
            name, days = (
                f"{each.role} {settings.host} {each.ends:.0f}",
                _days_due(each, self._clock.now(), LAST_PART[settings.trust]),
            )
            warned = stored["warned"].get(name)
            if days is None and warned is not None:
                # Warned of by a clock that was ahead: the real warnings are still to come.
                del stored["warned"][name]
                is_new = True
            elif days is not None and days != warned:
                stored["warned"].pop(name, None)  # the newest last
                stored["warned"][name] = days
                texts.append(self._text(settings, each))
        stored["warned"] = dict(list(stored["warned"].items())[-KEPT:])
        if texts:
            self._raise(texts, json.dumps(stored))
        elif is_new:
            self._outbox.set_metadata(METADATA, json.dumps(stored))

    def _text(self, settings: SmtpSettings, certificate: InUse) -> Text:
        left = certificate.ends - self._clock.now()
        word = certificate.role if settings.trust != "pin" else "pin" if left > 0 else "ended"
        day, days = _day(certificate.ends), max(0, int(left / DAY))
        return Message(WORDS[word].template, host=settings.host, day=day, days=days)

    def _raise(self, texts: Sequence[Text], stored: str) -> None:
        kind, now = CERTIFICATE_ENDS, self._clock.now()
        is_mailed, in_summary = self._decide(kind)
        source = to_stored(Message("mail server"))
        events = [
            Event(kind.code, kind.type, now, now, source, to_stored(each), waiting=is_mailed, in_summary=in_summary)
            for each in texts
        ]
        singles = self._schedule.choose_singles(events)
        numbers = self._outbox.accept(events, singles, metadata=lambda _: {METADATA: stored})
        self._schedule.add(list(zip(numbers, events, singles, strict=True)))
        log.warning("certificate of the mail server ends soon: event %d", numbers[0])

    def _stored(self) -> dict[str, Any]:
        empty: dict[str, Any] = {"warned": {}, "pinned": ["", 0.0, 0.0]}
        try:
            stored = json.loads(self._outbox.metadata().get(METADATA, "{}"))
            warned = {str(name): float(days) for name, days in stored["warned"].items()}
            # Metadata of a former version has no beginning; the next session adds it.
            of, *dates = stored["pinned"]
            begins, ends = dates if len(dates) == 2 else (0.0, *dates)
            return {"warned": warned, "pinned": [str(of), float(begins), float(ends)]}
        except (
            ValueError,
            TypeError,
            KeyError,
            AttributeError,
        ):  # none, or damaged: a warning too many is better than none
            return empty


def _days_due(certificate: InUse, now: float, last_part: float) -> float | None:
    """Return the last of `WARNING_DAYS` that has come, in this last part of its life; None before the first."""
    part = (certificate.ends - certificate.begins) * last_part
    left = certificate.ends - now
    return min((days for days in WARNING_DAYS if left <= days * DAY <= part), default=None)


def _of(settings: SmtpSettings) -> str:
    return f"{settings.host} {settings.port} {settings.trust_key}"


def _day(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d}"
