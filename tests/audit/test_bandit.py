"""bandit over the product's source: nothing but what is meant, each with its reason beside it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from tests.helpers.product import ROOT

BANDIT = ROOT / ".venv" / "audit" / "bin" / "bandit"
LEDGER = (
    "the names in a query are constants of ours, what a person types is always a value (tests/mail/ipc/test_history.py)"
)
PROGRAM = "a list of words of ours; the program is ours, the system's, or the maker names it in device.toml"
SENTENCE = "a sentence about a password"
WORD = "a word of a table with a name that has 'token' or 'password' in it"
# What it finds, and why it stays.
EXPECTED = {
    "B608": dict.fromkeys(("database.py", "retention.py", "outbox.py"), LEDGER),
    "B404": dict.fromkeys(("check.py", "factory_reset.py", "run.py", "program.py"), PROGRAM),
    "B603": dict.fromkeys(("check.py", "factory_reset.py", "run.py", "program.py"), PROGRAM),
    "B104": {"run.py": "compared with what was given, to name the host in the link; not bound"},
    "B105": {
        **dict.fromkeys(("rules.py", "login.py", "smtp.py", "context.py", "presets.py", "oauth_rules.py"), SENTENCE),
        **dict.fromkeys(("advice.py", "device_code.py", "export.py", "fields.py", "guard.py", "outcome.py"), WORD),
    },
}


def findings(*places: Path) -> dict[tuple[str, str], list[str]]:
    """What it finds: test and file, and the lines."""
    words = [BANDIT, "--quiet", "--recursive", "--format", "json", "--ignore-nosec", *places]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    told = json.loads(done.stdout)
    assert not told["errors"], told["errors"]
    assert told["metrics"]["_totals"]["loc"] > 0
    found: dict[tuple[str, str], list[str]] = {}
    for each in told["results"]:
        name = Path(each["filename"]).name
        found.setdefault((each["test_id"], name), []).append(f"{each['line_number']}: {each['issue_text']}")
    return found


def test_it_finds_nothing_unexpected() -> None:
    found = findings(ROOT / "device_ui")
    assert {key: lines for key, lines in found.items() if key[1] not in EXPECTED.get(key[0], {})} == {}


def test_nothing_is_expected_that_is_no_more_there() -> None:
    assert set(findings(ROOT / "device_ui")) == {(test, name) for test, files in EXPECTED.items() for name in files}


def test_it_finds_a_shell(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("import subprocess\nsubprocess.run(input(), shell=True)\n")
    assert ("B602", "bad.py") in findings(tmp_path)
