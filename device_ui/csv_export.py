"""The history as comma-separated values (RFC 4180) for a spreadsheet; for the page and the command. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from device_ui.errors import HookError, Message, Text

# The key of each column in the hook's answer, and the head of the column.
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
    "again": "sent again",
}
BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # or a spreadsheet takes UTF-8 for the local 8-bit set
# OWASP, "CSV Injection": the first characters of a formula. East Asian keyboards type the wide ones.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
# In a list of a cell: what parts its items, and the quotes of a reply.
NOT_IN_AN_ITEM = str.maketrans({";": ",", "“": "'", "”": "'"})
INCOMPLETE = "THIS FILE IS NOT COMPLETE. {reason}."


def rows(lines: Iterable[Mapping[str, Any]]) -> Iterator[bytes]:
    """Yield the rows of the file: the head, and one for each event of `client.history`.

    When the lines break off, the last row says so. Raises the `HookError` after it.
    """
    yield BYTE_ORDER_MARK + row(COLUMNS.values())
    try:
        for line in lines:
            if "event" in line:
                yield row(cells(line["event"]))
    except HookError as error:
        reason = str(error)[:1].upper() + str(error)[1:]
        # A browser shows a download that ended early as complete, so the file itself must say it.
        yield row([INCOMPLETE.format(reason=reason), *[""] * (len(COLUMNS) - 1)])
        raise


def cells(event: Mapping[str, Any]) -> list[str]:
    """Return the cells of one event, in the order of `COLUMNS`."""
    again = "; ".join(actions(event))
    values = {**event, "mail": event["mail"] or "", "deliveries": "; ".join(ends(event)), "again": again}
    return [str(values[name]) for name in COLUMNS]


def ends(event: Mapping[str, Any]) -> list[str]:
    """Return the result of an event's mail for each recipient: ``a@b.c: refused at recipient, “550 no such user”, 2026-…``."""
    return [", ".join(filter(None, (result(_item(each)), str(each["time"])))) for each in deliveries(event)]


def actions(event: Mapping[str, Any]) -> list[str]:
    """Return what a person asked for an event: ``send again (mail 1750), History, from 192.0.2.7, 2026-…: a@b.c: delivered, …``."""
    return [": ".join(filter(None, (_action(each), "; ".join(ends(each))))) for each in event.get("again", ())]


def _action(action: Mapping[str, Any]) -> str:
    mail = f" (mail {action['number']})" if action["deliveries"] or action["waiting"] else ""
    return ", ".join(filter(None, (f"{action['action']}{mail}", _flat(action["source"]), str(action["time"]))))


def _item(delivery: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a delivery whose reply is quoted: a server's words in a list must not pass for the result of another recipient."""
    reply = f"“{_flat(delivery['reply'])}”" if delivery["reply"] else ""
    return {**delivery, "recipient": _flat(delivery["recipient"]), "reply": reply}


def _flat(text: Text) -> str:
    return str(text).translate(NOT_IN_AN_ITEM)


def deliveries(event: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the results of the event's mail by recipient; none for a mail that was not tried yet."""
    return [each for each in event["deliveries"] if each["recipient"] or each["reply"]]


def result(delivery: Mapping[str, Any], words: Callable[[Text], str] = str) -> str:
    """Return one recipient's result without its time: ``a@b.c: refused at recipient, 550 no such user``."""
    verdict: Text = delivery["verdict"]
    if delivery["step"] and verdict != "delivered":
        verdict = Message("{became} at {step}", became=Message(verdict), step=Message(delivery["step"]))
    outcome = ": ".join(filter(None, (delivery["recipient"], words(verdict))))
    return ", ".join(filter(None, (outcome, words(delivery["reply"]))))


def row(texts: Iterable[str]) -> bytes:
    """Return one row with each cell quoted and none of them a formula."""
    # A spreadsheet evaluates a cell that begins like a formula; an apostrophe makes it a text (OWASP, "CSV Injection").
    safe = (f"'{text}" if text.startswith(FORMULA_STARTS) else text for text in texts)
    # Every cell is quoted: the separator, a quote or a line end in a text needs no rule of its own (RFC 4180, 2.5 to
    # 2.7).
    return (",".join('"' + text.replace('"', '""') + '"' for text in safe) + "\r\n").encode("utf-8", "replace")
