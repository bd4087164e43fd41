"""The history as comma-separated values (RFC 4180) that a spreadsheet opens well: for the page and for the command. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from device_ui.errors import HookError, Message, Text

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


def ends(event: Mapping[str, Any], words: Callable[[Text], str] = str) -> list[str]:
    """What became of an event's mail, a text for each recipient; and for those still waiting, if it was tried at all."""
    return [_end(each, words) for each in event["deliveries"] if each["recipient"] or each["reply"]]


def row(texts: Iterable[str]) -> bytes:
    """One row, every cell quoted, and none of them a formula."""
    safe = (f"'{text}" if text.startswith(FORMULA_STARTS) else text for text in texts)
    return (",".join('"' + text.replace('"', '""') + '"' for text in safe) + "\r\n").encode("utf-8", "replace")


def _end(each: Mapping[str, Any], words: Callable[[Text], str]) -> str:
    """``a@b.c: refused at recipient, 550 no such user, 2026-…``."""
    verdict: Text = each["verdict"]
    if each["step"] and verdict != "delivered":
        verdict = Message("{became} at {step}", became=Message(verdict), step=Message(each["step"]))
    became = ": ".join(filter(None, (each["recipient"], words(verdict))))
    return ", ".join(filter(None, (became, words(each["reply"]), words(each["time"]))))
