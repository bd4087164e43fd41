"""The output of the commands: lines for a person, or JSON and CSV for a program.

Much of it is text of less trusted users: names of files, answers of the mail hook and of a mail server, texts of events. Control
characters would control root's terminal, so each line is escaped as in the log.
"""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TextIO

from device_ui import csv_export
from device_ui.errors import Message
from device_ui.logging_setup import escaped

Lines = Iterable[Mapping[str, Any]]


def output(*, for_program: bool = False) -> TextIO:
    """Return standard output, set so that no character raises an error, whatever the character set of the terminal.

    For a person a character that the terminal lacks is an escape, as on standard error (backslashreplace). A program reads
    UTF-8: JSON has no other encoding (RFC 8259, 8.1), and the CSV begins with its byte order mark.
    """
    if sys.stdout is None:  # closed by what started this process
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  # until the process ends
    # Not in a test or a shell of Python, where standard output is a different object.
    if isinstance(sys.stdout, io.TextIOWrapper):
        encoding = "utf-8" if for_program else sys.stdout.encoding
        sys.stdout.reconfigure(encoding=encoding, errors="backslashreplace")
    return sys.stdout


def discard(out: TextIO) -> None:
    """Discard what a standard stream holds and cannot write: at the exit Python would try again, and end with 120."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())


def say(text: str, *, is_error: bool = False) -> None:
    """Print one line on standard output, or on standard error."""
    out = sys.stderr if is_error else output()
    try:
        out.write(line(text))
        # Behind a pipe Python would keep the line until the end, and a log would mix the two streams in the wrong order.
        out.flush()
    except OSError:
        # A broken standard error must not end the command, nor be taken for a broken standard output.
        if not is_error:
            raise
        discard(out)


def line(text: str) -> str:
    """Return a text as one printable line."""
    # One place for all commands; `tests/cli/test_output.py` fails for any other way to print.
    return f"{escaped(text)}\n"


def as_json(value: object) -> str:
    """Return a value as JSON in which Korean stays readable and everything that is not printable is an escape (RFC 8259, 7)."""
    # U+202E or ESC in a text of an event would change what a terminal shows, although JSON allows it as it is.
    text = json.dumps(value, ensure_ascii=False)
    return "".join(each if each.isprintable() else json.dumps(each)[1:-1] for each in text)


def print_test(lines: Lines, out: TextIO, *, is_json: bool) -> bool:
    """Print a test step by step, or as one JSON object at its end; return whether the mail was accepted for every recipient."""
    steps: list[Mapping[str, Any]] = []
    result: Mapping[str, Any] = {}
    for each in map(in_english, lines):
        if "step" in each:
            steps.append(each["step"])
            if not is_json:
                out.write(line("OK    {name:<12}{seconds:>7.3f} s  {told}".format_map(each["step"])))
                # A person waits for each step, also behind a pipe.
                out.flush()
        result = each.get("result", result)
    for text in [as_json({"steps": steps, **result})] if is_json else _result(result):
        out.write(line(text))
    return result.get("verdict") == "delivered"


def print_history(lines: Lines, out: TextIO, form: Callable[[Lines], Iterator[str]]) -> None:
    """Print events in one of `FORMATS`. Raises `HookError`."""
    for text in form(map(in_english, lines)):
        out.write(text)


def in_english(value: Any) -> Any:
    """Return a line of the mail hook with every `Message` as its English sentence."""
    # The answer of the hook has messages at any depth.
    if isinstance(value, Mapping):
        return {name: in_english(each) for name, each in value.items()}
    if isinstance(value, list):
        return [in_english(each) for each in value]
    return str(value) if isinstance(value, Message) else value


def _result(result: Mapping[str, Any]) -> Iterator[str]:
    if not result["step"] and result["advice"]:
        yield f"WARN  {result['advice']}"
    if result["step"]:
        yield f"FAIL  {result['step']:<12}{result['seconds']:>7.3f} s  {result['reply'] or result['problem']}"
        yield result["advice"]
        for each in result.get("chain", ()):
            # To compare with what the server's administrator gives; trust_key of `device-ui apply` is that of the key.
            # The names and texts are the server's own, so no fingerprint is in a line with them.
            yield "SHA-256 {sha256}, of the key {key_sha256}, valid from {begins} to {ends}".format_map(each)
            yield f"  names: {', '.join(each['names'])}"
            yield "  subject: “{subject}”".format_map(each)
            yield "  issuer: “{issuer}”".format_map(each)
    for each in result["recipients"]:
        # A recipient whose result the line above already shows is left out.
        if each["verdict"] == "delivered" or result["verdict"] == "delivered" or each["step"] != result["step"]:
            yield f"{each['recipient']}: {each['verdict']}, {each['reply']}"


def _text(lines: Lines) -> Iterator[str]:
    for each in lines:
        if "event" in each:
            event = each["event"]
            # Escaped as one line: an event's text must not look like the line of a different event.
            yield line("{number}  {time}  {type} {code}  {name}  [{state}]".format_map(event))
            yield from (line(f"    {text}") for text in filter(None, (event["source"], *event["text"].split("\n"))))
            yield from (line(f"    {text}") for text in (*csv_export.ends(event), *csv_export.actions(event)))
        else:
            removed = sum(each["end"]["removed"].values())
            summary = "{matched} of {kept} events".format_map(each["end"])
            yield line(f"{summary}; {removed} older ones were removed by the ledger's limit" if removed else summary)


def _json(lines: Lines) -> Iterator[str]:
    for each in lines:
        # Without the last line, which has counts: a program reads events alone.
        if "event" in each:
            yield line(as_json(each["event"]))


def _csv(lines: Lines) -> Iterator[str]:
    # Escaped before the rows are made: the line ends between rows must stay.
    for row in csv_export.rows(map(_printable, lines)):
        yield row.decode()


def _printable(value: Any) -> Any:
    """Return a line of the mail hook with every text escaped; the lines of a text stay, since a cell may hold several."""
    if isinstance(value, Mapping):
        return {name: _printable(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_printable(each) for each in value]
    return "\n".join(map(escaped, value.split("\n"))) if isinstance(value, str) else value


FORMATS: Mapping[str, Callable[[Lines], Iterator[str]]] = {"text": _text, "json": _json, "csv": _csv}
