"""atheris on every reader of bytes from outside, for a bounded time each; and on products with a fault, which it finds."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.audit.fuzz import BROKEN
from tests.audit.mutants import Mutant, mutate
from tests.audit.targets import MEMORY, TARGETS
from tests.helpers.product import ROOT

SECONDS = int(os.environ.get("AUDIT_FUZZ_SECONDS", "20"))
# Seconds in which a fault must be found. Each is one that somebody might make, or that was there once.
MUTANT_SECONDS = 120
FAULTS = {
    "form": ("device_ui/settings/rules.py", 'hints = unseen(" " * start + value, categories)', "hints = ()"),
    "record": ("device_ui/settings/store.py", "if set(values) <= set(NAMES) else", "if values else"),
    "device": ("device_ui/config.py", "if kind is int and value not in RANGES[name]", "if False"),
    "catalog": ("device_ui/mail/catalog.py", "<= maximum or not value.isprintable()", "<= maximum"),
    "message": ("device_ui/mail/sendmail.py", "if not text.strip() or not any(", "if not any("),
    "request": ("device_ui/web/http/parser.py", "FORBIDDEN_BYTE.search(raw + end,", "FORBIDDEN_BYTE.search(raw,"),
    "replies": (
        "device_ui/mail/smtp/auth.py",
        'sanitize_reply(" ".join(offered) or "none")',
        '" ".join(offered)',
    ),
    "line": ("device_ui/mail/ipc/protocol.py", 'if words[:1] != ["event"]', 'if words[0] != "event"'),
}


def fuzzed(name: str, root: Path, seconds: int) -> subprocess.CompletedProcess[str]:
    """atheris on one target of the product in `root`."""
    words = [sys.executable, "-m", "tests.audit.fuzz", name, "--seconds", str(seconds)]
    # libFuzzer ends its process by _exit(2), which removes no temporary file.
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        own = {"PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1", "TMPDIR": folder}
        return subprocess.run(
            words,
            cwd=root,
            env={**os.environ, **own},
            capture_output=True,
            text=True,
            errors="replace",
            timeout=10 * seconds + 60,
        )


@pytest.mark.parametrize("name", TARGETS)
def test_it_finds_nothing(name: str) -> None:
    done = fuzzed(name, ROOT, SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    print(name, *(line for line in done.stderr.splitlines() if "number_of_executed" in line))


def test_every_target_has_a_fault() -> None:
    assert FAULTS.keys() == TARGETS.keys()


@pytest.mark.parametrize("name", TARGETS)
def test_it_finds_a_fault(name: str, tmp_path: Path) -> None:
    mutate(Mutant(name, [FAULTS[name]], ""), tmp_path)
    done = fuzzed(name, tmp_path, MUTANT_SECONDS)
    assert done.returncode == BROKEN, done.stdout + done.stderr[-2000:]
    assert f"BROKEN {name}: " in done.stdout
