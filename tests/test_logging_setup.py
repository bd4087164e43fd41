"""The mail hook's log lines are those that `logging` would write, and none of them can be forged."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest

from device_ui.log import Log
from tests.helpers.product import ROOT

SAY = """
log = Log("device_ui.mail.ipc.server")
log.info("plain 100 %")
log.info("%d events for %s", 2, "a\\nb \\x1b[31m\\u202e\\ud55c")
log.warning("x" * 9000)
try:
    raise ValueError("first\\nsecond")
except ValueError:
    log.exception("a fault of %s", "ours")
log.error("the last")
"""
DIRECT = "\n\nimport sys\nfrom device_ui.log import Log\nLog.to_stderr()\n"
BY_LOGGING = (
    "import logging, sys\nfrom device_ui import journal\nfrom device_ui.log import Log\n"
    "logging.basicConfig(level=logging.INFO)\njournal.keep_lines_whole()\n"
)


def said(code: str, **popen: object) -> subprocess.CompletedProcess[str]:
    """What a program of ours writes."""
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"},
        text=True,
        timeout=60,
        check=True,
        **{"capture_output": True, **popen},
    )


def test_lines_are_those_of_logging():
    direct, other = (said(f"{begin}{SAY}").stderr.splitlines() for begin in (DIRECT, BY_LOGGING))
    assert direct == other
    assert direct[:2] == [
        "device_ui.mail.ipc.server: plain 100 %",
        r"device_ui.mail.ipc.server: 2 events for a\nb \x1b[31m\u202e" + "\ud55c",
    ]
    assert [len(line) for line in direct if "xxx" in line] == [1000]
    assert [line for line in direct[3:-1] if not line.startswith("    ")] == [
        "device_ui.mail.ipc.server: a fault of ours"
    ]


def test_neither_logging_nor_traceback_is_loaded_for_a_line():
    assert (
        said(f"{DIRECT}Log('x').error('y')\nprint({{'logging', 'traceback'}} & set(sys.modules))").stdout == "set()\n"
    )


def test_nobody_who_reads_is_no_fault():
    said(f"{DIRECT}import os\nos.close(2)\nLog('x').error('y')", capture_output=False)


@pytest.mark.parametrize("level", ["info", "warning", "error"])
def test_elsewhere_a_line_goes_where_all_others_go(caplog, level):
    caplog.set_level(logging.INFO)
    getattr(Log("a.part"), level)("%s of %d", "one", 3)
    assert [(each.name, each.levelname.lower(), each.getMessage()) for each in caplog.records] == [
        ("a.part", level, "one of 3")
    ]
