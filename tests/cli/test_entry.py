"""``device-ui event`` in a hurry: it means what argparse would mean, and loads nothing that an alarm does not need."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_ui.cli import entry
from device_ui.cli.launch import LISTEN
from device_ui.cli.parser import parser
from device_ui.config import Folders
from device_ui.paths import hook_socket
from tests.helpers.product import ROOT, Product

WORDS = st.sampled_from(
    ["event", "303", "-5", "x y", "", "--text", "--source", "--time", "--data", "--tex", "--text=a", "-h", "--", "-"]
)
BEGIN = "from device_ui.cli.entry import main; import sys; code = main()"


def run(device: Product, *words: str, code: str = f"{BEGIN}; sys.exit(code)") -> subprocess.CompletedProcess[str]:
    """The command as an installation's script begins it; without coverage, which loads modules of its own."""
    environment = {name: value for name, value in device.environment.items() if not name.startswith("COVERAGE")}
    words = (sys.executable, "-c", code, *words)
    return subprocess.run(words, env=environment, cwd="/", capture_output=True, text=True, timeout=60, check=False)


@given(st.lists(WORDS, max_size=6))
def test_what_is_understood_is_what_argparse_understands(words):
    asked = entry.parsed(["event", *words])
    if asked is not None:
        told = vars(parser().parse_args(["event", *words]))
        assert {"text": "", "source": "", "time": "", "data": None, **asked} == {
            name: told[name] for name in ("code", "text", "source", "time", "data")
        }


@given(
    st.sampled_from(["web", "mailhook"]),
    st.lists(
        st.sampled_from(["--listen", "--ca-file", "--url", "--allow-loopback", "--data", "x", "", "-5", "--da", "--"]),
        max_size=6,
    ),
)
def test_what_starts_a_process_is_what_argparse_understands(command, words):
    asked = entry.parsed([command, *words])
    if asked is not None:
        told = vars(parser().parse_args([command, *words]))
        defaults = {"data": None, **{"web": {"listen": LISTEN}, "mailhook": {"ca_file": "", "url": ""}}[command]}
        assert {name: told[name] for name in defaults} == {name: asked.get(name, defaults[name]) for name in defaults}
        assert told.get("allow_loopback", False) == ("allow_loopback" in asked)


@pytest.mark.parametrize(
    "words",
    [
        ["event", "303"],
        ["event", "303", "--text", "disk 2 is full"],
        ["event", "--source", "smart", "--time", "", "303", "--data", "/srv/x", "--text", "a", "--text", "b"],
        ["web"],
        ["web", "--data", "/srv/x", "--listen", "unix:/run/x"],
        ["mailhook", "--allow-loopback", "--ca-file", "/etc/ca.pem", "--url", "http://x", "--data", "/srv/x"],
    ],
)
def test_plain_words_take_the_short_way(words):
    assert entry.parsed(words) is not None


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["event"],
        ["history"],
        ["web", "303"],
        ["web", "--allow-loopback"],
        ["web", "--listen=127.0.0.1:1"],
        ["mailhook", "--help"],
        ["mailhook", "--ca-file"],
        ["event", "303", "304"],
        ["event", "303", "--text"],
        ["event", "--help"],
        ["event", "-1"],
    ],
)
def test_everything_else_is_left_to_the_command_line(words):
    assert entry.parsed(words) is None


@pytest.mark.parametrize(
    ("data", "environment"),
    [
        (None, {}),
        ("/srv/x", {}),
        ("here", {}),
        (None, {"DEVICE_UI_DATA": "/srv/y"}),
        ("/srv/x", {"DEVICE_UI_RUN": "run"}),
    ],
)
def test_both_ways_end_at_the_same_socket(data, environment):
    assert hook_socket(data, environment) == str(Folders.find(data, environment).socket)


def test_a_data_folder_brings_its_run_folder_with_it():
    assert hook_socket(None, {"DEVICE_UI_DATA": "/srv/y"}) == hook_socket("/srv/y", {}) == "/srv/y/run/hook.sock"


def test_alarm_is_raised_without_what_it_does_not_need(product: Product):
    product.start_hook()
    done = run(product, "event", "303", "--text", "x", code=f"{BEGIN}; print(*sys.modules)")
    told, loaded = done.stdout.splitlines()
    assert told == "accepted 1", done.stderr
    unneeded = {"argparse", "dataclasses", "inspect", "typing", "pathlib", "subprocess", "logging", "threading"}
    assert unneeded & set(loaded.split()) == set()
    assert [name for name in loaded.split() if name.startswith("device_ui.") and "mail" not in name] == [
        "device_ui.cli",
        "device_ui.paths",
        "device_ui.errors",
        "device_ui.cli.entry",
    ]


@pytest.mark.parametrize("command", ["web", "mailhook"])
def test_process_starts_without_argparse_and_ends_as_the_command_line_ends(product: Product, command):
    product.maker("colour = 1\n")
    code = f"{BEGIN}; print(*sys.modules); sys.exit(code)"
    short, long = run(product, command, code=code), product.command(command)
    assert (short.returncode, short.stderr) == (78, long.stderr)
    assert "argparse" not in short.stdout.split()


def test_alarm_nobody_hears_ends_as_the_command_line_ends(product: Product):
    short, long = run(product, "event", "303"), product.command("event", "303")
    assert (short.returncode, short.stderr, short.stdout) == (75, long.stderr, "")


def test_other_words_reach_the_command_line(product: Product):
    assert run(product, "event", "--help").stdout == product.command("event", "--help").stdout.replace(
        "__main__.py", "device-ui"
    )
    assert run(product, "fly").returncode == 64


def test_both_installations_begin_here():
    assert "device-ui = device_ui.cli.entry:main" in (ROOT / "setup.cfg").read_text()
    assert "from device_ui.cli.entry import main" in (ROOT / "Makefile").read_text()
    assert os.access(f"{os.path.dirname(sys.executable)}/device-ui", os.X_OK)
