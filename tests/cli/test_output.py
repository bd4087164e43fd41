"""What the commands `test` and `history` print, to the letter."""

from __future__ import annotations

import ast
import csv
import io
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from device_ui.cli import output
from device_ui.errors import HookError
from tests.helpers.fake_hook import FakeHook
from tests.helpers.product import ROOT, Product, listens, settings_form

STEP = {"step": {"name": "connect", "seconds": 0.0123, "told": "192.0.2.1 port 587"}}
LATER = {"step": {"name": "certificate", "seconds": 12.5, "told": "verified for mail.example.com"}}
ONE = {"recipient": "a@b.cc", "verdict": "delivered", "step": "content", "reply": "250 ok"}
GOOD = {
    "verdict": "delivered",
    "step": "",
    "problem": "",
    "reply": "",
    "field": "",
    "advice": "",
    "seconds": 3.21,
    "recipients": [ONE],
}
BAD_LOGIN = {
    **GOOD,
    "verdict": "try later",
    "step": "login",
    "problem": "login refused",
    "reply": "535 wrong",
    "field": "password",
    "advice": "Check the password.",
    "recipients": [{**ONE, "verdict": "try later", "step": "login", "reply": "535 wrong"}],
}
BAD_RECIPIENT = {
    **BAD_LOGIN,
    "verdict": "refused",
    "step": "recipient",
    "reply": "550 no such user",
    "advice": "Check the address.",
    "recipients": [ONE, {**ONE, "recipient": "c@d.ee", "verdict": "refused", "step": "recipient", "reply": "550 no such user"}],
}  # fmt: skip
EVENT = {
    "number": 1742,
    "time": "2026-11-23 14:03:22 +09:00 (KST)",
    "seconds": 1795400602.0,
    "type": "fault",
    "code": "303",
    "name": "Audit log space: minor threshold exceeded",
    "source": "auditd",
    "text": "98 %\nfull",
    "state": "partly delivered",
    "mail": 1742,
    "deliveries": [{**ONE, "time": "2026-11-23"}, {**ONE, "recipient": "c@d.ee", "verdict": "refused", "time": ""}],
}
END = {"end": {"matched": 1, "kept": 9, "removed": {"info": 0, "fault": 0, "waiting": 0}, "catalog_problem": ""}}


def trial(*lines, is_json=False):
    """What is printed of a test, and whether it went through."""
    out = io.StringIO()
    return output.print_test(lines, out, is_json=is_json), out.getvalue()


def listed(*lines, form="text"):
    """What is printed of a history."""
    out = io.StringIO()
    output.print_history(lines, out, output.FORMATS[form])
    return out.getvalue()


def test_a_test_that_went_through():
    assert trial(STEP, LATER, {"result": GOOD}) == (
        True,
        "OK    connect       0.012 s  192.0.2.1 port 587\n"
        "OK    certificate  12.500 s  verified for mail.example.com\n"
        "a@b.cc: delivered, 250 ok\n",
    )


def test_a_test_that_failed_names_step_answer_and_advice():
    assert trial(STEP, {"result": BAD_LOGIN}) == (
        False,
        "OK    connect       0.012 s  192.0.2.1 port 587\n"
        "FAIL  login         3.210 s  535 wrong\n"
        "Check the password.\n",
    )


def test_a_failure_without_an_answer_tells_the_problem():
    told = trial({"result": {**BAD_LOGIN, "step": "connect", "problem": "refused", "reply": "", "recipients": []}})[1]
    assert told == "FAIL  connect       3.210 s  refused\nCheck the password.\n"


SHOWN = {
    **{"subject": "CN=relay.lan", "issuer": "CN=Our own", "names": ["relay.lan", "192.0.2.7"]},
    **{"begins": "2026-01-01", "ends": "2027-01-01", "sha256": "ab" * 32, "key_sha256": "0f" * 32, "pem": ""},
}


def test_refused_certificate_is_shown_to_be_compared():
    failed = {
        **BAD_LOGIN,
        "step": "certificate",
        "reply": "self-signed certificate",
        "recipients": [],
        "chain": [SHOWN],
    }
    assert trial({"result": failed})[1] == (
        "FAIL  certificate   3.210 s  self-signed certificate\nCheck the password.\n"
        f"SHA-256 {'ab' * 32}, of the key {'0f' * 32}, valid from 2026-01-01 to 2027-01-01\n"
        "  names: relay.lan, 192.0.2.7\n"
        "  subject: “CN=relay.lan”\n"
        "  issuer: “CN=Our own”\n"
    )


def test_warning_of_a_test_that_went_through_is_a_line_of_its_own():
    told = trial({"result": {**GOOD, "advice": "The certificate of relay.lan ended on 2026-01-01."}})
    assert told == (True, "WARN  The certificate of relay.lan ended on 2026-01-01.\na@b.cc: delivered, 250 ok\n")


def test_whoever_got_it_is_named_where_another_was_refused():
    assert trial({"result": BAD_RECIPIENT}) == (
        False,
        "FAIL  recipient     3.210 s  550 no such user\nCheck the address.\na@b.cc: delivered, 250 ok\n",
    )


@pytest.mark.parametrize(("result", "through"), [(GOOD, True), (BAD_LOGIN, False), (BAD_RECIPIENT, False)])
def test_a_test_for_a_program_is_one_object(result, through):
    went, told = trial(STEP, {"result": result}, is_json=True)
    assert went is through
    assert told.count("\n") == 1
    assert json.loads(told) == {"steps": [STEP["step"]], **result}


def test_steps_are_printed_as_they_happen():
    out, seen = io.StringIO(), []

    def lines():
        yield STEP
        seen.append(out.getvalue())
        yield {"result": GOOD}

    output.print_test(lines(), out, is_json=False)
    assert seen == ["OK    connect       0.012 s  192.0.2.1 port 587\n"]


def test_a_test_that_cannot_be_asked_is_an_error():
    def lines():
        yield STEP
        raise HookError("busy", "another test is running")

    with pytest.raises(HookError):
        trial(*lines())


def test_the_history_for_a_person():
    assert listed({"event": EVENT}, END) == (
        "1742  2026-11-23 14:03:22 +09:00 (KST)  fault 303  Audit log space: minor threshold exceeded  [partly delivered]\n"
        "    auditd\n"
        "    98 %\n"
        "    full\n"
        "    a@b.cc: delivered, “250 ok”, 2026-11-23\n"
        "    c@d.ee: refused at content, “250 ok”\n"
        "1 of 9 events\n"
    )


def test_an_event_without_source_text_and_deliveries_is_one_line():
    told = listed({"event": {**EVENT, "source": "", "text": "", "deliveries": []}})
    assert told.count("\n") == 1


def test_what_the_limit_removed_is_told():
    end = {"end": {**END["end"], "removed": {"info": 5, "fault": 2, "waiting": 1}}}
    assert listed(end) == "1 of 9 events; 8 older ones were removed by the ledger's limit\n"


def test_the_history_for_a_program_is_an_object_a_line():
    told = listed({"event": EVENT}, {"event": {**EVENT, "text": "경보"}}, END, form="json")
    assert [json.loads(line) for line in told.splitlines()] == [EVENT, {**EVENT, "text": "경보"}]
    assert "경보" in told


def test_the_history_for_a_spreadsheet_is_the_pages_file():
    told = listed({"event": EVENT}, END, form="csv")
    table = list(csv.reader(io.StringIO(told.removeprefix("\ufeff"), newline="")))
    assert [row[0] for row in table] == ["number", "1742"]
    assert table[1][7] == "98 %\nfull"


# Nothing of a less trusted user is obeyed by a terminal.

HOSTILE = "\x1b[2J\x1b]52;c;eA==\x07\x9b2J\x7f\u202e\u2028\u0085\r"
MARKED = {
    **EVENT,
    "name": HOSTILE,
    "source": HOSTILE,
    "text": f"{HOSTILE}\nsecond",
    "deliveries": [{**ONE, "reply": HOSTILE, "time": ""}],
}


@pytest.mark.parametrize("name", output.FORMATS)
def test_a_hostile_history_is_printable_in_every_format(name):
    out = io.StringIO()
    output.print_history([{"event": MARKED}, END], out, output.FORMATS[name])
    shown = out.getvalue().removeprefix("\ufeff").replace("\r\n", "\n")
    assert [each for each in shown if not (each.isprintable() or each == "\n")] == []
    assert shown.count("[2J") >= 3


def test_escapes_in_json_change_nothing_that_a_program_reads():
    written = output.as_json({"text": f"{HOSTILE}\n\ud55c\uae00 \U000e0041", "number": 1})
    assert json.loads(written) == {"text": f"{HOSTILE}\n\ud55c\uae00 \U000e0041", "number": 1}
    assert written.isprintable()
    assert "\ud55c\uae00" in written


@pytest.mark.parametrize("is_json", [True, False])
def test_a_hostile_test_is_printable(is_json):
    step = {"step": {**STEP["step"], "name": HOSTILE, "told": f"{HOSTILE}\nOK    forged"}}
    hostile = {**BAD_RECIPIENT, "reply": HOSTILE, "advice": HOSTILE, "recipients": [{**ONE, "recipient": HOSTILE}]}
    _, shown = trial(step, {"result": hostile}, is_json=is_json)
    assert [each for each in shown if not (each.isprintable() or each == "\n")] == []
    assert not any(each.startswith("OK    forged") for each in shown.splitlines())


@pytest.mark.parametrize("is_error", [True, False])
def test_a_value_ends_no_line(capsys, is_error):
    output.say(f"{HOSTILE}\nOK    forged", is_error=is_error)
    found = capsys.readouterr()
    shown = found.err if is_error else found.out
    assert shown.endswith("\n") and shown[:-1].isprintable()
    assert (found.out if is_error else found.err) == ""


# Others that write to the console, and why nothing hostile comes through them.
OTHERS = {
    "cli/entry.py": ["print", "sys.stdout", "sys.stdout", "sys.stdout"],  # a whole number
    "cli/demo_server.py": ["print", "sys.stdout"],  # escaped there
    "mail/sendmail.py": ["print", "print", "sys.stderr", "sys.stderr"],  # escaped there
    "web/server.py": ["print", "sys.stderr"],  # a setup code, which has its pattern
}


def test_one_function_prints():
    found = {}
    for path in sorted((ROOT / "device_ui").rglob("*.py")):
        tree = ast.parse(path.read_text())
        calls = [each for each in ast.walk(tree) if isinstance(each, ast.Call) and ast.unparse(each.func) == "print"]
        files = [ast.unparse(each) for each in ast.walk(tree) if isinstance(each, ast.Attribute)]
        out = [each for each in files if each in ("sys.stdout", "sys.stderr")]
        named = sorted(["print"] * len(calls) + out)
        if named and path.name != "output.py":
            found[str(path.relative_to(ROOT / "device_ui"))] = named
    assert found == OTHERS


# The terminal's character set.

CHARACTER_SETS = [
    pytest.param({"PYTHONIOENCODING": "latin-1"}, id="latin-1"),
    pytest.param({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, id="C"),
]
KOREAN = "디스크 경보 \U0001f525 é"


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """A device with settings and one event, both with Korean words."""
    with Product(tmp_path_factory.mktemp("spoken")) as product:
        product.start_hook().event(text=KOREAN)
        product.save(**settings_form(587, sender_name=KOREAN))
        yield product


def printed(product: Product, environment: dict[str, str], *words: str) -> bytes:
    """What a real command prints where the terminal has another character set."""
    done = product.command(*words, env={**product.environment, **environment}, text=False)
    assert (done.returncode, done.stderr) == (0, b"")
    return bytes(done.stdout)


@pytest.mark.parametrize("environment", CHARACTER_SETS)
def test_a_person_reads_escapes_for_what_the_terminal_lacks(spoken: Product, environment):
    shown = printed(spoken, environment, "history")
    assert rb"\ub514\uc2a4\ud06c \uacbd\ubcf4 \U0001f525" in shown
    assert shown.endswith(b"1 of 1 events\n")


@pytest.mark.parametrize("environment", CHARACTER_SETS)
def test_a_program_reads_utf_8_whatever_the_terminal_s_character_set(spoken: Product, environment):
    assert json.loads(printed(spoken, environment, "history", "--json").decode())["text"] == KOREAN
    assert KOREAN in printed(spoken, environment, "history", "--csv").decode("utf-8-sig")
    assert json.loads(printed(spoken, environment, "settings").decode())["sender_name"] == KOREAN
    assert (
        f"DEVICE_UI_SMTP_SENDER_NAME='{KOREAN}'\n"
        in printed(spoken, environment, "settings", "--format", "env").decode()
    )
    tested = spoken.command("test", "--json", env={**spoken.environment, **environment}, text=False)
    assert "verdict" in json.loads(tested.stdout.decode())


@pytest.mark.parametrize("environment", CHARACTER_SETS)
def test_a_path_that_the_terminal_cannot_show_ends_no_command(product: Product, environment):
    assert b"certificate.pem\n" in printed(product, environment, "certificate", "--data", str(product.folder / "경보"))


# Standard output that cannot be written


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """A device with settings and one event."""
    with Product(tmp_path_factory.mktemp("busy")) as product:
        product.start_hook().event()
        product.save(**settings_form(587))
        yield product


def to(product: Product, output: IO[bytes], *words: str) -> tuple[int, str]:
    """The exit code of a command that writes there, and its standard error."""
    # Buffered, as it is for everybody but a test.
    run = {"env": {**product.environment, "PYTHONUNBUFFERED": ""}, "capture_output": False}
    done = product.command(*words, **run, stdout=output, stderr=subprocess.PIPE)
    return done.returncode, done.stderr


@pytest.fixture
def nobody() -> Iterator[IO[bytes]]:
    """A pipe whose reader has ended."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as pipe:
        yield pipe


WORDS = [
    ("history",),
    ("history", "--csv"),
    ("settings",),
    ("check",),
    ("event", "303"),
    ("--help",),
    ("test", "--help"),
]


@pytest.mark.parametrize("words", WORDS)
def test_a_reader_that_ends_first_is_no_error(busy: Product, nobody, words):
    """As for every program behind head(1): no line on the terminal, and what a shell shows for SIGPIPE."""
    assert to(busy, nobody, *words) == (128 + signal.SIGPIPE, "")


def test_an_error_half_way_is_told_without_its_reader_too(tmp_path, nobody):
    with Product(tmp_path) as product, FakeHook(product.folders.socket) as hook:
        hook.answers["history"] = [{"event": EVENT}, {"error": "fault", "reason": "broken"}]
        assert to(product, nobody, "history") == (75, "device-ui: broken\n")


@pytest.mark.parametrize("words", [("history",), ("settings",), ("check",), ("event", "303")])
def test_a_full_disk_is_told_once(busy: Product, words):
    with Path("/dev/full").open("wb") as full:
        assert to(busy, full, *words) == (71, "device-ui: [Errno 28] No space left on device\n")


@pytest.mark.parametrize("words", [("event", "303"), ("event", "303", "--text=x"), ("history",)])
def test_a_closed_standard_output_is_no_error(busy: Product, words):
    closing = ["sh", "-c", 'exec "$@" >&-', "sh", busy.python, "-m", "device_ui", *words]
    done = subprocess.run(closing, env=busy.environment, cwd="/", stderr=subprocess.PIPE, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_standard_error_that_nobody_reads_ends_no_command(tmp_path, nobody):
    """It says that device.toml is wrong; nginx needs the certificate all the same."""
    with Product(tmp_path) as product:
        product.maker("wrong")
        run = {"env": {**product.environment, "PYTHONUNBUFFERED": ""}, "capture_output": False}
        done = product.command("certificate", **run, stdout=subprocess.PIPE, stderr=nobody)
        assert (done.returncode, done.stdout.count("certificate.pem")) == (0, 1)


def test_run_leaves_no_process_behind_a_reader_that_ended(tmp_path, nobody):
    with Product(tmp_path) as product:
        assert to(product, nobody, "run", "--listen", f"127.0.0.1:{product.port}")[0] == 128 + signal.SIGPIPE
        assert not listens(product.folders.socket)
        assert not product.answers()
