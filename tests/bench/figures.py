"""Every figure of the product beside its floor in the same run, as a table for docs/benchmarks.md."""

from __future__ import annotations

import compileall
import os
import platform
import re
from collections.abc import Sequence
from pathlib import Path

from tests.bench import cold, events, limits, mail, rest, site, web
from tests.bench.rows import HEAD
from tests.helpers.product import ROOT

PARTS = {"web": web, "limits": limits, "events": events, "mail": mail, "cold": cold, "rest": rest, "site": site}


def machine() -> str:
    """What it was measured on."""
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    model = found[1] if found else platform.machine()
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    python = platform.python_version()
    return f"{os.cpu_count()} processors ({model}), Linux {platform.release()}, Python {python}; load {load}."


def show(words: Sequence[str]) -> None:
    """Print rows as they are measured: median, and the least and the most. `words` choose parts; none, all of them."""
    compileall.compile_dir(ROOT / "device_ui", quiet=1)  # as an installation does (make install, pip)
    chosen = [name for name in PARTS if name in words or not words]
    print(machine(), "", *HEAD, sep="\n", flush=True)
    for name in chosen:
        for row in PARTS[name].rows():
            print(row, flush=True)
    if "limits" in chosen:
        print("", *limits.lines(), sep="\n\n", flush=True)
