"""A log line is one printable line, and no text of a client or a mail server can forge one."""

from __future__ import annotations

import subprocess
import sys

from tests.helpers.product import ROOT

BEGIN = "import logging, sys\nfrom device_ui import logging_setup\nlogging_setup.for_process()\n"
LINES = """
log = logging.getLogger("device_ui.mail.ipc.server")
log.info("plain 100 %")
log.info("%d events for %s", 2, "a\\nb \\x1b[31m\\u202e\\ud55c")
log.warning("x" * 9000)
try:
    raise ValueError("first\\nsecond")
except ValueError:
    log.exception("a fault of %s", "ours")
log.error("the last")
"""


def written(code: str) -> subprocess.CompletedProcess[str]:
    """Run a program that logs."""
    return subprocess.run(
        [sys.executable, "-c", BEGIN + code],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"},
        text=True,
        timeout=60,
        check=True,
        capture_output=True,
    )


def test_every_message_is_one_printable_line_and_a_traceback_is_indented():
    lines = written(LINES).stderr.splitlines()
    name = "device_ui.mail.ipc.server"
    assert lines[:2] == [f"{name}: plain 100 %", rf"{name}: 2 events for a\nb \x1b[31m\u202e" + "\ud55c"]
    assert len(lines[2]) == 1000
    assert [line for line in lines[3:] if not line.startswith("    ")] == [
        f"{name}: a fault of ours",
        f"{name}: the last",
    ]
