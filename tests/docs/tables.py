"""The parts of the documents that are made from the product's own tables, each between two marks."""

from __future__ import annotations

import argparse
import ast
import re
from collections.abc import Callable
from types import SimpleNamespace

from device_ui.cli import commands as cli_commands
from device_ui.cli import demo_server
from device_ui.cli.parser import parser
from device_ui.config import SETTINGS
from device_ui.settings.fields import FIELDS, Field
from tests.helpers.product import ROOT
from tests.test_imports import ALLOWED


def between(path: str, mark: str) -> str:
    """Return the text between two marks of a document. Raises ValueError where they are not."""
    match = re.search(rf"<!-- {mark} -->\n(.*?)<!-- /{mark} -->", (ROOT / path).read_text(), re.DOTALL)
    if not match:
        raise ValueError(f"{path} has no part {mark}")
    return match[1]


def fields() -> list[str]:
    """Return the table of the SMTP tab's fields."""
    rows = ["| field | label | rule | message for a broken rule |", "| --- | --- | --- | --- |"]
    for field in FIELDS:
        sentences = "<br>".join(f"`{sentence}`" for sentence in field.sentences)
        rows.append(f"| `{field.name}` | {field.label} | {escaped(rule(field))} | {sentences} |")
    return rows


def rule(field: Field) -> str:
    """Return the help of a field, and the rules that the page lists after it."""
    listed = ", ".join(one.label for one in field.rules)
    return f"{field.help} {listed[:1].upper()}{listed[1:]}." if listed else field.help


def settings() -> list[str]:
    """Return the table of what device.toml may have."""
    rows = ["| setting | default | effect |", "| --- | --- | --- |"]
    spelt = {False: "`false`", "": "empty"}
    for name, default, effect in SETTINGS:
        shown = "`[]`" if isinstance(default, list) else spelt.get(default, f"`{default}`")
        rows.append(f"| `{name}` | {shown} | {effect} |")
    return rows


def all_commands(arguments: argparse.ArgumentParser | None = None, before: str = "") -> dict[str, str]:
    """Return every command with its one-line help."""
    found = {}
    arguments = arguments or parser()
    inner = [action for action in arguments._actions if isinstance(action, argparse._SubParsersAction)]
    for name, command in (pair for action in inner for pair in action.choices.items()):
        found |= all_commands(command, f"{before}{name} ")
    return found if inner else {before.strip(): arguments.description or ""}


def commands() -> list[str]:
    """Return the table of commands."""
    rows = [f"| `device-ui {name}` | {description} |" for name, description in all_commands().items()]
    return ["| command | does |", "| --- | --- |", *rows]


def run_output() -> list[str]:
    """Return what `make run` prints, with an example of each value that differs between runs."""
    values = {
        "link": "http://127.0.0.1:8080/setup?code=ABCD-EFGH-IJKL-MNOP-QRST",
        "server": SimpleNamespace(port=demo_server.PORT),
        "mailbox": SimpleNamespace(account="operator@mail.demo.example", password="eF52&BIEnVUpDx5*"),
        "command": ".venv/bin/device-ui",
        "data": "/home/you/device_ui/demo-data",
    }
    return ["```console", "$ make run", *cli_commands.DEMO.format(**values).rstrip("\n").split("\n"), "```"]


def components() -> list[str]:
    """Return the table of components; what each is, is written in the document."""
    described = dict(re.findall(r"^\| `([^`]+)` \| ([^|]+) \|", between("docs/architecture.md", "components"), re.M))
    rows = ["| component | is | may import |", "| --- | --- | --- |"]
    for name, targets in ALLOWED.items():
        imports = ", ".join(f"`{target}`" for target in sorted(targets))
        if name == "cli":
            imports = "everything; nothing imports `cli`"
        rows.append(f"| `{name}` | {described.get(name, '')} | {imports} |")
    return rows


LEVELS = {"info": "info", "warning": "warning", "error": "error", "exception": "error, with trace"}


def log_lines() -> list[str]:
    """Return the table of everything that the product logs. Raises ValueError for a line that is not a constant."""
    rows = set()
    for path in (ROOT / "device_ui").rglob("*.py"):
        component = ".".join(path.relative_to(ROOT).parent.parts)
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and re.fullmatch(
                r"log\.(info|warning|error|exception)", ast.unparse(node.func)
            ):
                line = ast.literal_eval(node.args[0])
                rows.add(f"| `{component}` | {LEVELS[ast.unparse(node.func)[4:]]} | `{escaped(line)}` |")
    return ["| component | level | line |", "| --- | --- | --- |", *sorted(rows)]


def escaped(text: str) -> str:
    return text.replace("|", "\\|")


# Document and mark → the lines between the marks.
TABLES: dict[tuple[str, str], Callable[[], list[str]]] = {
    ("README.md", "run"): run_output,
    ("docs/operator.md", "fields"): fields,
    ("docs/operator.md", "log"): log_lines,
    ("docs/configuration.md", "settings"): settings,
    ("docs/configuration.md", "commands"): commands,
    ("docs/architecture.md", "components"): components,
}


def write() -> None:
    """Write every table anew."""
    for (path, mark), table in TABLES.items():
        before, text = between(path, mark), (ROOT / path).read_text()
        marks = f"<!-- {mark} -->\n", f"<!-- /{mark} -->"
        (ROOT / path).write_text(text.replace(before.join(marks), ("\n".join(table()) + "\n").join(marks)))
