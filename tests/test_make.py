"""The Makefile's commands in a copy of the checkout, as in one that was moved, without any package registry in reach."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import LONGEST
from tests.helpers.product import ROOT, free_port, wait_for

SOURCES = ("device_ui", "static", "views", "setup.cfg", "pyproject.toml", "README.md", "Makefile", ".ci")
# Nothing of this run's own make, pytest or coverage, and no registry for pip.
ENVIRONMENT = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "LANG": "C.UTF-8", "PIP_NO_INDEX": "1"}
NOBODY = 65534
NO_PYTHON = "there is no python3.99 on this machine\n"


@pytest.fixture
def moved() -> Iterator[Path]:
    """The sources elsewhere, with the environment as it would be after a move; everybody may read them."""
    with tempfile.TemporaryDirectory(prefix="a moved one ") as name:
        folder = Path(name)
        folder.chmod(0o755)
        for source in map(ROOT.joinpath, SOURCES):
            if source.is_dir():
                shutil.copytree(source, folder / source.name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, folder)
        copy_environment(Path(sys.prefix), folder / ".venv")
        yield folder


def copy_environment(source: Path, target: Path) -> None:
    """Copy what .ci/environment made, and lead to the packages that pip and npm installed."""
    (packages,) = source.glob("lib/python*/site-packages")
    (target / packages.relative_to(source)).mkdir(parents=True)
    for each in packages.iterdir():
        (target / each.relative_to(source)).symlink_to(each)
    path = target / packages.relative_to(source) / "device_ui.pth"
    path.unlink()
    shutil.copy(packages / path.name, path)
    shutil.copytree(source / "bin", target / "bin", symlinks=True)
    (target / "node").symlink_to(source / "node")
    for each in (source / "pyvenv.cfg", *source.glob("*.txt")):
        shutil.copy(each, target)


def make(folder: Path, *words: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
    """Run make in this checkout."""
    everything = {"cwd": folder, "env": ENVIRONMENT, "capture_output": True, "text": True, "timeout": 300, **options}
    return subprocess.run(["make", *words], **everything)  # type: ignore[call-overload]


def test_run_starts_without_a_network_after_a_move_whatever_changed(moved: Path) -> None:
    for each in (*moved.rglob("*.py"), moved / "setup.cfg", moved / "pyproject.toml"):
        each.write_text(each.read_text() + "\n# changed\n")
    (moved / "views" / "setup.tpl").write_text("This view is another one.\n")
    log, port = moved / "run.log", free_port()
    with log.open("w") as out:
        words = ["make", "run", f"LISTEN=127.0.0.1:{port}"]
        process = subprocess.Popen(
            words, cwd=moved, env=ENVIRONMENT, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        wait_for(lambda: "Ctrl-C ends both" in log.read_text() or process.poll() is not None, 300.0, "make run")
        (link,) = re.findall(r"^    (http:.*)$", log.read_text(), re.MULTILINE)
        with urllib.request.urlopen(link, timeout=60) as page:
            assert page.read() == b"This view is another one.\n"
        words = [moved / ".venv/bin/device-ui", "event", "303", "--data", moved / "demo-data"]
        done = subprocess.run(words, cwd="/", env=ENVIRONMENT, capture_output=True, text=True, timeout=60)
        assert (done.stdout, done.stderr) == ("accepted 1\n", "")
    finally:
        os.killpg(process.pid, signal.SIGINT)
        process.wait(60)


def test_an_environment_whose_interpreter_is_gone_is_made_anew(moved: Path) -> None:
    (moved / ".venv/bin/python").unlink()
    (moved / ".venv/bin/python").symlink_to("/nonexistent/python3")
    done = make(moved, ".venv/product")
    assert done.stdout.startswith("Making .venv with Python 3.")
    assert "No matching distribution" in done.stderr  # what comes next needs a registry
    words = [moved / ".venv/bin/python", "-c", "import device_ui; print(device_ui.__file__)"]
    found = subprocess.run(words, cwd="/", env=ENVIRONMENT, capture_output=True, text=True, timeout=60)
    assert found.stdout == f"{moved}/device_ui/__init__.py\n"


def test_another_python_that_is_asked_for_makes_the_environment_anew(moved: Path) -> None:
    other = moved / "other"
    (other / "bin").mkdir(parents=True)
    (other / "lib").symlink_to(Path(sys.base_prefix) / "lib")
    shutil.copy(os.path.realpath(sys.executable), other / "bin" / "python3")
    assert make(moved, ".venv/tests").stdout == ""
    assert make(moved, ".venv/tests", f"PYTHON={sys.executable}").stdout == ""
    # What it then makes is another test's, and takes seconds.
    words = ["make", ".venv/tests", f"PYTHON={other / 'bin' / 'python3'}"]
    with subprocess.Popen(
        words, cwd=moved, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        line = process.stdout.readline()
        os.killpg(process.pid, signal.SIGKILL)
    assert line.startswith("Making .venv with Python 3.")


def test_a_plain_user_learns_at_once_that_tests_need_root(moved: Path) -> None:
    shutil.rmtree(moved / ".venv")
    done = make(moved, "test", user=NOBODY, group=NOBODY, extra_groups=[])
    assert done.stdout == ""
    assert done.stderr.startswith("this must run as root: ")
    assert not (moved / ".venv").exists()


def test_versions_names_a_python_that_is_missing_in_one_line(moved: Path) -> None:
    path = moved / "setup.cfg"
    path.write_text(re.sub(r"(Python :: 3\.)\d+", r"\g<1>99", path.read_text()))
    done = make(moved, "versions")
    assert done.stdout == ""
    assert done.stderr.startswith(NO_PYTHON + "make: *** ")


@pytest.mark.parametrize("passes", [True, False])
def test_the_coverage_of_some_tests_may_be_small_and_leaves_nothing_else_behind(moved: Path, passes: bool) -> None:
    (moved / "tests").mkdir()
    (moved / "tests" / "test_one.py").write_text(f"import device_ui\ndef test_one():\n    assert {passes}\n")
    done = make(moved, "coverage", "TESTS=-n0 tests/test_one.py")
    assert (done.returncode == 0) == passes, done.stdout + done.stderr
    assert ("TOTAL" in done.stdout) == passes
    assert [each.name for each in moved.glob(".coverage*")] == [".coverage"]


def test_the_modules_that_begin_first_are_there_and_are_found_first() -> None:
    paths = [ROOT / "tests/i18n/test_translator.py", *(ROOT / "tests" / each for each in reversed(LONGEST))]
    words = [sys.executable, "-m", "pytest", "--numprocesses", "0", "--collect-only", "-q", *map(str, paths)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=100)
    items = [line for line in done.stdout.splitlines() if "::" in line]
    found = [*dict.fromkeys(item.partition("::")[0].removeprefix("tests/") for item in items)]
    assert found == [*LONGEST, "i18n/test_translator.py"], done.stdout + done.stderr
