"""The tests that SECURITY.md and docs/compliance.md cite, by file and name."""

from __future__ import annotations

import ast
import re
from collections import defaultdict

from tests.docs.documents import PATHS
from tests.helpers.product import ROOT

CITED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def follow() -> None:
    """Write the new file of each cited test that moved; a test whose name is in no file, or in several, stays as it is cited."""
    files = defaultdict(list)
    for path in (ROOT / "tests").rglob("test_*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef):
                files[node.name].append(path.relative_to(ROOT).as_posix())

    def moved(match: re.Match[str]) -> str:
        known = files[match[2]]
        return match[0] if match[1] in known or len(known) != 1 else f"`{known[0]}::{match[2]}`"

    for path in PATHS:
        path.write_text(CITED.sub(moved, path.read_text()))
