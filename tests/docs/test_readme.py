"""The README: short, its examples run, its pictures small, its commands and links right."""

from __future__ import annotations

import os
import re
import shlex
import signal
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from device_ui.cli.parser import parser
from tests.docs import tables
from tests.docs.documents import PATHS, broken_links, example
from tests.helpers.product import ROOT, Product, free_port, wait_for

README = (ROOT / "README.md").read_text()


def test_it_has_at_most_150_lines():
    assert len(README.splitlines()) <= 150


def test_its_pictures_are_small_and_side_by_side():
    (row,) = [line for line in README.splitlines() if "![" in line]
    names = re.findall(r"!\[[^]]+\]\(([^)]+)\)", row)
    assert len(names) == 2
    sizes = set()
    for name in names:
        content = (ROOT / name).read_bytes()
        assert content.startswith(b"\x89PNG\r\n\x1a\n") and len(content) < 60 * 1024, name
        sizes.add(struct.unpack(">II", content[16:24]))
    assert len(sizes) == 1


# Links, of every document


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)
def test_every_link_leads_to_a_file_and_a_heading_that_are_there(path):
    assert broken_links(path, path.read_text()) == []


@pytest.mark.parametrize(
    "link", ["docs/nothing.md", "docs/operator.md#nothing", "#nothing", "../README.md", "docs/nothing.png"]
)
def test_a_broken_link_is_found(link):
    assert broken_links(ROOT / "README.md", f"See [this]({link}).") == [link]


def test_every_document_is_linked_in_the_readme():
    linked = {(ROOT / link.partition("#")[0]).resolve() for link in re.findall(r"\]\(([^)]+)\)", README)}
    assert {path for path in PATHS if path.name != "README.md"} <= linked


def test_every_file_that_a_document_names_is_there():
    names = {name for path in PATHS for name in re.findall(r"`((?:device_ui|tests|docs)/[\w./-]+)`", path.read_text())}
    assert len(names) > 15
    assert [name for name in names if not (ROOT / name).exists()] == []


# Commands


def test_ten_numbered_lines_lead_from_the_package_to_the_first_mail():
    """Their commands are run as they are on a booted Debian by `make boot`; here each is one that exists."""
    lines = tables.between("docs/appliance.md", "deb").splitlines()
    assert [line.partition(".")[0] for line in lines] == [str(number) for number in range(1, 11)]
    commands = [match[1] for line in lines if (match := re.match(r"[0-9]+\. `([^`]+)`", line))]
    assert [line for line in commands if line.startswith("dpkg -i")] == commands[:1]
    own = [shlex.split(line)[1:] for line in commands if line.startswith("device-ui ")]
    assert [words[0] for words in own] == ["setup-code", "test", "event", "check"]
    for words in own:
        parser().parse_args(words)
    assert "cp /usr/share/device-ui/nginx.conf /etc/nginx/conf.d/device-ui.conf" in commands
    assert (ROOT / "device_ui" / "appliance" / "nginx.conf").exists()
    assert "(docs/appliance.md#i-have-the-deb)" in README


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)
def test_every_command_of_the_product_in_a_document_exists(path):
    known = tables.all_commands()
    names = re.findall(r"`(?:\.venv/bin/)?device-ui ([a-z]+(?:-[a-z]+)*(?: set-password)?)", path.read_text())
    assert [name for name in names if name not in known] == []


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)
def test_every_command_of_make_in_a_document_exists(path):
    known = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert [name for name in re.findall(r"`make ([a-z]+)", path.read_text()) if name not in known] == []


def test_run_prints_what_the_readme_shows(tmp_path: Path):
    """The folder, the link's code and port, the demo server's port and its password differ from run to run."""
    command = tmp_path / ".venv" / "bin" / "device-ui"
    command.parent.mkdir(parents=True)
    command.write_text(
        f'#!/bin/sh\nexec {sys.executable} -c "import sys; from device_ui.cli.entry import main; sys.argv[0] = \'.venv/bin/device-ui\'; sys.exit(main())" "$@"\n'
    )
    command.chmod(0o755)
    shown = tables.between("README.md", "run").split("\n", 2)[2].removesuffix("```\n").strip("\n")
    pattern = re.escape(shown)
    for text, any_other in [
        ("ABCD-EFGH-IJKL-MNOP-QRST", "[A-Z2-9]{4}(-[A-Z2-9]{4}){4}"),
        ("8080", "[0-9]+"),
        ("2587", "[0-9]+"),
        ("eF52&BIEnVUpDx5*", r"\S+"),
        ("/home/you/device_ui", re.escape(str(tmp_path))),
    ]:
        assert re.escape(text) in pattern
        pattern = pattern.replace(re.escape(text), any_other)
    out = tmp_path / "out"
    words = [command, "run", "--demo", "--data", "demo-data", "--listen", f"127.0.0.1:{free_port()}"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DEVICE_UI_")}
    with out.open("w") as file:
        process = subprocess.Popen(
            words, cwd=tmp_path, env={**environment, "PYTHONPATH": str(ROOT)}, stdout=file, stderr=subprocess.DEVNULL
        )
    try:
        wait_for(lambda: "Ctrl-C ends both." in out.read_text() or process.poll() is not None, 100.0, "make run")
        assert re.fullmatch(pattern, out.read_text().strip("\n")), out.read_text()
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(20)


# Raising an event


@pytest.fixture
def hook(product: Product) -> Product:
    return product.start_hook()


def test_the_c_example_raises_an_event(hook: Product, tmp_path):
    include, call = example("README.md", "c").split("\n\n")
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
    script = example("README.md", "sh").replace("/run/device-ui/hook.sock", str(hook.folders.socket))
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    environment = {**hook.environment, "PATH": path}
    done = subprocess.run(["sh", "-ec", script], env=environment, capture_output=True, text=True, timeout=30)
    assert done.stdout == "accepted 1\naccepted 2\n", done.stderr


def test_the_python_example_raises_an_event(hook: Product):
    script = example("README.md", "python").replace("/run/device-ui/hook.sock", str(hook.folders.socket))
    script += "\nprint(number)"
    done = subprocess.run(
        [sys.executable, "-c", script], env=hook.environment, capture_output=True, text=True, timeout=30
    )
    assert done.stdout == "1\n", done.stderr
