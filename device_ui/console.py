"""What the commands `test` and `history` print: for a person, or a line of JSON for a program."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TextIO

from device_ui import spreadsheet

Lines = Iterable[Mapping[str, Any]]


def print_test(lines: Lines, out: TextIO, *, as_json: bool) -> bool:
    """Print a test as it happens, or as one JSON object at its end; whether every recipient's mail was taken."""
    steps: list[Mapping[str, Any]] = []
    result: Mapping[str, Any] = {}
    for line in lines:
        if "step" in line:
            steps.append(line["step"])
            if not as_json:
                print("ok    {name:<12}{seconds:>7.3f} s  {told}".format_map(line["step"]), file=out, flush=True)
        result = line.get("result", result)
    if as_json:
        print(json.dumps({"steps": steps, **result}, ensure_ascii=False), file=out)
    else:
        print("\n".join(_told(result)), file=out)
    return result.get("verdict") == "delivered"


def print_history(lines: Lines, out: TextIO, form: Callable[[Lines], Iterator[str]]) -> None:
    """Print events in one of `FORMATS`. Raises `HookError`."""
    for text in form(lines):
        out.write(text)


def _told(result: Mapping[str, Any]) -> Iterator[str]:
    if result["step"]:
        yield f"FAIL  {result['step']:<12}{result['seconds']:>7.3f} s  {result['reply'] or result['problem']}"
        yield result["advice"]
    for each in result["recipients"]:
        if each["verdict"] == "delivered" or result["verdict"] == "delivered" or each["step"] != result["step"]:
            yield f"{each['recipient']}: {each['verdict']}, {each['reply']}"


def _text(lines: Lines) -> Iterator[str]:
    for line in lines:
        if "event" in line:
            event = line["event"]
            yield "{number}  {time}  {type} {code}  {name}  [{state}]\n".format_map(event)
            yield from (f"    {text}\n" for text in filter(None, (event["source"], *event["text"].split("\n"))))
            yield from (f"    {text}\n" for text in spreadsheet.ends(event))
        else:
            removed = sum(line["end"]["removed"].values())
            yield "{matched} of {kept} events".format_map(line["end"])
            yield f"; {removed} older ones were removed by the ledger's limit\n" if removed else "\n"


def _json(lines: Lines) -> Iterator[str]:
    for line in lines:
        if "event" in line:
            yield json.dumps(line["event"], ensure_ascii=False) + "\n"


def _csv(lines: Lines) -> Iterator[str]:
    for row in spreadsheet.rows(lines):
        yield row.decode()


FORMATS: Mapping[str, Callable[[Lines], Iterator[str]]] = {"text": _text, "json": _json, "csv": _csv}
