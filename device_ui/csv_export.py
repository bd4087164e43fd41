"""The history as comma-separated values (RFC 4180) that a spreadsheet opens well: for the page and for the command. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from device_ui.errors import HookError

# The hook's name of a column, and its head.
COLUMNS = {
    "number": "number",
    "time": "time",
    "type": "type",
    "code": "code",
    "name": "name",
    "source": "source",
    "state": "what became of it",
    "text": "text",
    "mail": "mail",
    "deliveries": "deliveries",
}
BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # or a spreadsheet takes UTF-8 for the local 8-bit set
# OWASP, "CSV Injection": what a spreadsheet would take for a formula.
# The wide ones are what East Asian keyboards type.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
INCOMPLETE = "THIS FILE IS NOT COMPLETE. {reason}."


def rows(lines: Iterable[Mapping[str, Any]]) -> Iterator[bytes]:
    """The file's rows: the head, one for each event of `client.history`; and when the lines break off, one that says so,
    before the `HookError` comes through."""
    yield BYTE_ORDER_MARK + row(COLUMNS.values())
    try:
        for line in lines:
            if "event" in line:
                yield row(cells(line["event"]))
    except HookError as error:
        reason = str(error)[:1].upper() + str(error)[1:]
        yield row([INCOMPLETE.format(reason=reason), *[""] * (len(COLUMNS) - 1)])
        raise


def cells(event: Mapping[str, Any]) -> list[str]:
    """The cells of one event, in the order of `COLUMNS`."""
    found = {**event, "mail": event["mail"] or "", "deliveries": "; ".join(ends(event))}
    return [str(found[name]) for name in COLUMNS]


def ends(event: Mapping[str, Any]) -> list[str]:
    """Return the result of an event's mail for each recipient: ``a@b.c: refused at recipient, 550 no such user, 2026-…``."""
    return [", ".join(filter(None, (result(each), each["time"]))) for each in deliveries(event)]


def deliveries(event: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return what is known of the event's mail, by recipient; nothing of a mail that was not tried yet."""
    return [each for each in event["deliveries"] if each["recipient"] or each["reply"]]


def result(delivery: Mapping[str, Any], words: Callable[[str], str] = str) -> str:
    """Return one recipient's result without its time: ``a@b.c: refused at recipient, 550 no such user``."""
    at = f" at {delivery['step']}" if delivery["step"] and delivery["verdict"] != "delivered" else ""
    outcome = ": ".join(filter(None, (delivery["recipient"], words(f"{delivery['verdict']}{at}"))))
    return ", ".join(filter(None, (outcome, words(delivery["reply"]))))


def row(texts: Iterable[str]) -> bytes:
    """One row, every cell quoted, and none of them a formula."""
    safe = (f"'{text}" if text.startswith(FORMULA_STARTS) else text for text in texts)
    return (",".join('"' + text.replace('"', '""') + '"' for text in safe) + "\r\n").encode("utf-8", "replace")
