"""What became of the mail, in words: where it goes, what was delivered last, what waits, and each recipient's last result."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from device_ui.errors import DeviceUIError, Text
from device_ui.i18n.translator import Translator
from device_ui.settings.fields import SmtpSettings
from device_ui.settings.recipients import LOWEST, Recipient
from device_ui.web.context import AppContext

# Addresses that a line shows; it counts the others. One that is left over is shown: "and 1 more" would be no shorter.
SHOWN = 3
NOTHING, UNKNOWN = "no event yet", "an unknown time"
# The word of `mail.events.Verdict`, which the pages do not import.
DELIVERED = "delivered"
# A try is planned, but the clock is not set.
SOON = "soon"
# Nothing is planned: the banner at the head of the page says what is to be done.
HELD = "when the problem is solved"
# The answer to a person who lets it be tried all the same.
NOTHING_TRIED = "No mail is tried until the problem at the head of this page is solved."


def panel(site: AppContext, settings: SmtpSettings | None, found: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what the SMTP tab shows of the delivery, in the reader's language; ``waits`` is whether *Try now* makes sense.

    `found` is as in `AppContext.delivery`.
    """
    words = site.words()
    shown: dict[str, Any] = {
        "goes": _goes(site, settings, words),
        "last": "",
        "waiting": "",
        "waits": False,
        "zone": "",
    }
    if found is None:  # the head of the page says why
        return shown
    now = time.time()
    last, waiting = found["last"], int(found["waiting"])
    shown["last"] = _last(last, now, words) if last["results"] else words(NOTHING)
    # The zone of the times that are shown.
    shown["zone"] = zone(now) if waiting or last["results"] else ""
    if waiting:
        since = words(moment(found["since"], now))
        shown |= {
            "waiting": words("{count} since {time}", count=waiting, time=since),
            "next": words(planned(found["next"], now)),
            "waits": found["next"] is not None,
        }
    return shown


def results(found: Mapping[str, Any] | None) -> Mapping[str, Mapping[str, Any]]:
    """Return the last result of each recipient by address; `found` as in `panel`."""
    now = time.time()
    listed = found["results"] if found else ()
    return {each["recipient"]: {**each, "time": moment(each["time"], now)} for each in listed}


def moment(seconds: float, now: float) -> Text:
    """Return a time of the device: ``18:02`` for one of today, else with the date; both are seconds since 1970."""
    # 0 is a record without a date (`delivery.environment`): the clock was not right.
    if not seconds:
        return UNKNOWN
    try:
        when, today = (datetime.fromtimestamp(each).astimezone() for each in (seconds, now))
    except (OverflowError, ValueError, OSError):  # one flipped bit of the database must not hide the page
        return UNKNOWN
    # Without a date for today: the panel is narrow, and most mail is of today.
    return f"{when:%H:%M}" if when.date() == today.date() else f"{when:%Y-%m-%d %H:%M}"


def planned(seconds: float | None, now: float) -> Text:
    """Return when mail is tried: seconds since 1970, 0 for a time that is not known, None while none is planned."""
    return HELD if seconds is None else moment(seconds, now) if seconds else SOON


def zone(now: float) -> str:
    """Return the offset of the device's time zone: ``UTC+09:00``."""
    offset = f"{datetime.fromtimestamp(now).astimezone():%z}"
    return f"UTC{offset[:3]}:{offset[3:]}"


def _goes(site: AppContext, settings: SmtpSettings | None, words: Translator) -> str:
    try:
        listed = site.recipients.load().settings or ()
    except DeviceUIError:  # the page of the recipients says so
        listed = ()
    default = (Recipient(settings.default_recipient),) if settings else ()
    texts = [
        words("{address} ({gets})", address=each.address, gets=words(LOWEST[each.lowest])) for each in listed or default
    ]
    return _joined(texts, words)


def _last(last: Mapping[str, Any], now: float, words: Translator) -> str:
    taken = [each for each in last["results"] if each["verdict"] == DELIVERED]
    when = words(moment(max((each["time"] for each in taken), default=0.0), now))
    to = _joined([str(each["recipient"]) for each in taken], words)
    return words("{time}, mail {number}, to {recipients}", time=when, number=last["mail"], recipients=to)


def _joined(texts: Sequence[str], words: Translator) -> str:
    more = len(texts) - SHOWN
    return ", ".join([*texts[:SHOWN], words("and {count} more", count=more)] if more > 1 else texts)
