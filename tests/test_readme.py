"""Every table and every example of the README is made from, or run against, the product itself."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys

import pytest

from device_ui.cli.parser import parser
from device_ui.config import SETTINGS
from device_ui.settings.fields import FIELDS, Field
from tests.helpers.product import ROOT, Product

README = (ROOT / "README.md").read_text()


def section(name: str, head: int = 2) -> list[str]:
    """The rows of the table between two marks, without its head."""
    match = re.search(rf"<!-- {name} -->\n(.*?)<!-- /{name} -->", README, re.DOTALL)
    assert match
    return match[1].splitlines()[head:]


def block(language: str) -> str:
    """The first example in a language."""
    match = re.search(rf"```{language}\n(.*?)```", README, re.DOTALL)
    assert match
    return match[1]


def commands() -> dict[str, str]:
    """Every command with its one-line help."""
    found = {}
    for name, command in parser()._subparsers._group_actions[0].choices.items():  # type: ignore[union-attr]
        if command._subparsers:
            for inner, under in command._subparsers._group_actions[0].choices.items():
                found[f"{name} {inner}"] = under.description
        else:
            found[name] = command.description
    return found


def escaped(text: str) -> str:
    return text.replace("|", "\\|")


def rule(each: Field) -> str:
    """The help of a field, and the rules that the page lists after it."""
    listed = ", ".join(one.label for one in each.rules)
    return f"{each.help} {listed[:1].upper()}{listed[1:]}." if listed else each.help


def test_the_field_table_is_the_table_of_fields():
    rows = [
        f"| `{each.name}` | {each.label} | {escaped(rule(each))} | {'<br>'.join(f'`{one}`' for one in each.sentences)} |"
        for each in FIELDS
    ]
    assert section("fields") == rows


def test_the_settings_table_is_the_table_of_settings():
    spelt = {False: "`false`", "": "empty"}
    rows = [
        f"| `{name}` | {spelt.get(default, f'`{default}`') if not isinstance(default, list) else '`[]`'} | {told} |"
        for name, default, told in SETTINGS
    ]
    assert section("settings") == rows


def test_the_command_table_is_the_command_line():
    assert section("commands") == [f"| `device-ui {name}` | {told} |" for name, told in commands().items()]


def test_ten_numbered_lines_lead_from_the_package_to_the_first_mail():
    """Their commands are run as they are on a booted Debian by `make boot`; here each is one that exists."""
    lines = section("deb", head=0)
    assert [line.partition(".")[0] for line in lines] == [str(number) for number in range(1, 11)]
    found = [match[1] for line in lines if (match := re.match(r"[0-9]+\. `([^`]+)`", line))]
    assert [word for word in found if word.startswith("dpkg -i")] == found[:1]
    own = [shlex.split(each)[1:] for each in found if each.startswith("device-ui ")]
    assert [words[0] for words in own] == ["setup-code", "test", "event", "check"]
    for words in own:
        parser().parse_args(words)
    assert "cp /usr/share/device-ui/nginx.conf /etc/nginx/conf.d/device-ui.conf" in found
    assert (ROOT / "device_ui" / "appliance" / "nginx.conf").exists()


@pytest.fixture
def hook(product: Product) -> Product:
    return product.start_hook()


def test_the_c_example_raises_an_event(hook: Product, tmp_path):
    include, call = block("c").split("\n\n")
    source = tmp_path / "example.c"
    source.write_text(
        f'{include}\n#include <stdio.h>\nint main(void)\n{{\n{call}return printf("%ld\\n", number) < 0;\n}}\n'
    )
    firmware = ROOT / "device_ui" / "firmware"
    program = tmp_path / "example"
    words = ["gcc", "-std=c99", "-Wall", "-Wextra", "-Werror", f"-I{firmware}", "-o", program, source]
    subprocess.run([*words, firmware / "device_event.c"], check=True)
    done = subprocess.run([program], env=hook.environment, capture_output=True, text=True, timeout=20)
    assert done.stdout == "1\n"


def test_the_shell_example_raises_an_event(hook: Product, tmp_path):
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "device-ui"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m device_ui "$@"\n')
    command.chmod(0o755)
    script = block("sh").replace("/run/device-ui/hook.sock", str(hook.folders.socket))
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    environment = {**hook.environment, "PATH": path}
    done = subprocess.run(["sh", "-ec", script], env=environment, capture_output=True, text=True, timeout=30)
    assert done.stdout == "accepted 1\naccepted 2\n", done.stderr


def test_the_python_example_raises_an_event(hook: Product):
    script = block("python").replace("/run/device-ui/hook.sock", str(hook.folders.socket)) + "\nprint(number)"
    done = subprocess.run(
        [sys.executable, "-c", script], env=hook.environment, capture_output=True, text=True, timeout=30
    )
    assert done.stdout == "1\n", done.stderr


def test_every_file_that_the_readme_names_is_there():
    for path in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / path).exists(), path
    assert (ROOT / "device_ui/mail/events.toml").exists()
