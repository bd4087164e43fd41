"""SECURITY.md and docs/compliance.md answer every line of both checklists, cite tests that exist, and have the program's figures."""

from __future__ import annotations

import argparse
import ast
import configparser
import fnmatch
import functools
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from device_ui.cli import check
from device_ui.cli import parser as cli_parser
from device_ui.config import SETTINGS, Device
from device_ui.mail.delivery import quota, server_change, worker
from device_ui.mail.ipc.peer_credentials import EVERYTHING
from device_ui.settings import recipients
from device_ui.storage import files as storage_files
from device_ui.web import app, branding, forms, server
from device_ui.web.auth import administrator, failure_log, guard, return_path, sessions, throttle
from device_ui.web.http import parser as http_parser
from device_ui.web.http.connection import Limits
from device_ui.web.pages import access, language, login
from device_ui.web.pages import recipients as recipients_page
from tests.docs import tables
from tests.docs.citations import CITED
from tests.docs.documents import PATHS
from tests.helpers import document
from tests.helpers.product import ADMIN_PASSWORD, ROOT, Product, settings_form
from tests.web.auth.test_guard import OPEN

SECURITY = (ROOT / "SECURITY.md").read_text()
COMPLIANCE = (ROOT / "docs" / "compliance.md").read_text()
DEFAULTS = {name: default for name, default, _ in SETTINGS}
SOURCES = sorted((ROOT / "device_ui").rglob("*.py"))

# The requirements of levels 1 and 2, as the standard counts them: section, and the last of them.
ASVS = {
    "1.1": 2, "1.2": 9, "1.3": 11, "1.4": 3, "1.5": 2, "2.1": 3, "2.2": 3, "2.3": 4, "2.4": 1, "3.2": 2, "3.3": 4,
    "3.4": 6, "3.5": 5, "3.7": 2, "4.1": 3, "4.2": 1, "4.3": 2, "4.4": 4, "5.1": 1, "5.2": 3, "5.3": 2, "5.4": 3,
    "6.1": 3, "6.2": 12, "6.3": 4, "6.4": 4, "6.5": 5, "6.6": 3, "6.8": 4, "7.1": 3, "7.2": 4, "7.3": 2, "7.4": 5,
    "7.5": 2, "7.6": 2, "8.1": 2, "8.2": 3, "8.3": 1, "8.4": 1, "9.1": 3, "9.2": 4, "10.1": 2, "10.2": 2, "10.3": 4,
    "10.4": 11, "10.5": 5, "10.6": 2, "10.7": 3, "11.1": 2, "11.2": 3, "11.3": 3, "11.4": 4, "11.5": 1, "11.6": 1,
    "12.1": 3, "12.2": 2, "12.3": 4, "13.1": 1, "13.2": 5, "13.3": 2, "13.4": 5, "14.1": 2, "14.2": 4, "14.3": 3,
    "15.1": 3, "15.2": 3, "15.3": 7, "16.1": 1, "16.2": 5, "16.3": 4, "16.4": 3, "16.5": 3, "17.1": 1, "17.2": 4,
    "17.3": 2,
}  # fmt: skip
REQUIREMENTS = {f"V{section}.{number}" for section, last in ASVS.items() for number in range(1, last + 1)}
# The provisions of table B.1: clause, the last number, and those that are in parts.
CLAUSES = {"5.0": 1, "5.1": 5, "5.2": 3, "5.3": 16, "5.4": 4, "5.5": 8, "5.6": 9, "5.7": 2, "5.8": 3, "5.9": 3}
CLAUSES |= {"5.10": 1, "5.11": 4, "5.12": 3, "5.13": 1, "6": 8}
PARTS = {"5.3-4", "5.3-6", "5.3-15", "5.6-4", "5.13-1", "6-3"}
NUMBERED = {f"{clause}-{number}" for clause, last in CLAUSES.items() for number in range(1, last + 1)}
PROVISIONS = (NUMBERED - PARTS) | {f"{each}{part}" for each in PARTS for part in "AB"} | {"5.1-2A"}


def section(title: str, text: str = SECURITY) -> str:
    """Return the text under a heading, up to the next heading of its rank."""
    rank = title.partition(" ")[0]
    match = re.search(rf"^{re.escape(title)}\n(.*?)(?=^{rank} |\Z)", text, re.MULTILINE | re.DOTALL)
    assert match, title
    return match[1]


def between(name: str) -> str:
    """Return the text between two marks."""
    match = re.search(rf"<!-- {name} -->\n(.*?)<!-- /{name} -->", SECURITY, re.DOTALL)
    assert match, name
    return match[1]


def rows(text: str) -> list[list[str]]:
    """Return the cells of every row of the tables in a text, without their heads."""
    lines = [line.strip("|").split(" | ") for line in text.splitlines() if re.match(r"\| (?!---)", line)]
    found = [[cell.strip() for cell in cells] for cells in lines]
    return [cells for cells in found if cells[0] not in ("id", "ids", "provision", "route", "file", "part", "package")]


ANSWERS = section("## OWASP ASVS 5.0, levels 1 and 2", COMPLIANCE).partition("### What does not apply")
ETSI = section("## ETSI EN 303 645 V3.1.3", COMPLIANCE)


@functools.cache
def names_in(path: str) -> frozenset[str]:
    """Return the tests in a file; none where there is no file."""
    file = ROOT / path
    tree = ast.parse(file.read_text()) if file.is_file() else ast.parse("")
    return frozenset(each.name for each in tree.body if isinstance(each, ast.FunctionDef))


def named() -> list[tuple[str, str]]:
    """Return every test that the documents cite."""
    documents = "".join(path.read_text() for path in PATHS)
    return CITED.findall(documents)


# The checklists


def test_every_requirement_of_the_asvs_is_answered_once():
    answered = [cells[0] for cells in rows(ANSWERS[0])]
    spared = [name.strip() for cells in rows(ANSWERS[2]) for name in cells[0].split(",")]
    covered = [each for name in spared for each in REQUIREMENTS if f"{each}.".startswith(f"{name}.")]
    assert sorted([*answered, *covered]) == sorted(REQUIREMENTS)
    assert len(REQUIREMENTS) == 253


def test_every_provision_of_en_303_645_is_answered_once():
    answered = [name.strip() for cells in rows(ETSI) for name in cells[0].split(",")]
    assert sorted(answered) == sorted(PROVISIONS)


@pytest.mark.parametrize("table", [ANSWERS[0], ETSI], ids=["ASVS", "EN 303 645"])
def test_every_answer_is_a_test_or_a_deviation_with_its_reason(table):
    for cells in rows(table):
        assert len(cells) == 4, cells
        assert re.match(r"`tests/[\w/]+\.py::\w+`", cells[3]) or re.match(r"Deviation: \S.{20}", cells[3]), cells


def test_what_does_not_apply_says_why():
    assert [cells for cells in rows(ANSWERS[2]) if len(cells) != 2 or len(cells[1]) < 10] == []


def test_every_test_that_is_named_is_there():
    assert [f"{path}::{name}" for path, name in named() if name not in names_in(path)] == []
    assert len(named()) > 400


def test_a_test_that_is_not_there_would_be_found():
    assert "test_nothing_of_the_kind" not in names_in("tests/web/auth/test_guard.py")
    assert names_in("tests/test_that_is_not_there.py") == frozenset()


# Figures


def minimum_rows() -> list[str]:
    reasons = {
        "bottle": "0.12.20 closes CVE-2022-31799 (errors while a request is read)",
        "waitress": "3.0.1 closes CVE-2024-49768 and CVE-2024-49769 (smuggling by a race, descriptors that stay); "
        "3.0.2 is the one whose internals the HTTP server uses",
        "cryptography": "47 is the first with HPKE",
    }
    told = {name: ".".join(map(str, version)) for name, version in check.MINIMUM_VERSIONS.items()}
    return [f"| {name} | {told[name]} | {reason} |" for name, reason in reasons.items()]


def test_the_minimum_versions_are_those_of_the_program():
    assert between("versions").splitlines() == ["| package | at least | why |", "| --- | --- | --- |", *minimum_rows()]
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    required = dict(re.findall(r"^(\w+) >= ([0-9.]+)", setup["options"]["install_requires"], re.MULTILINE))
    assert required == {name: ".".join(map(str, version)) for name, version in check.MINIMUM_VERSIONS.items()}


@pytest.mark.parametrize(("name", "old"), [("bottle", "0.12.19"), ("waitress", "3.0.0"), ("cryptography", "46.0.7")])
def test_check_tells_a_library_that_is_too_old(product: Product, tmp_path, name, old):
    told = tmp_path / "old" / f"{name}-{old}.dist-info"
    told.mkdir(parents=True)
    (told / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {old}\n")
    environment = {**product.environment, "PYTHONPATH": f"{told.parent}:{ROOT}"}
    done = product.command("check", env=environment)
    needed = ".".join(map(str, check.MINIMUM_VERSIONS[name]))
    assert f"FAIL  {name}: {old}; {needed} or later is needed" in done.stdout


def limit_rows() -> list[str]:
    limits, kib = Limits(), 1024
    told = {
        "a session ends: idle, absolute": f"{sessions.IDLE_SECONDS:g} s, {sessions.ABSOLUTE_SECONDS:g} s",
        "sessions; the longest idle is ended": sessions.SESSIONS_MAXIMUM,
        "wrong passwords before a delay; the longest delay": f"{throttle.FREE_FAILURES}, {throttle.DELAY_MAXIMUM:g} s",
        "clients whose failures are stored; for": f"{throttle.CLIENTS_MAXIMUM}, {failure_log.REMEMBERED:g} s",
        "passwords checked at once under attack; of those, of the Internet": f"{throttle.CHECKS_MAXIMUM}, {throttle.REMOTE_CHECKS}",
        "a request's header, its lines, its body": f"{server.HEADER_MAXIMUM // kib} KiB, {http_parser.LINES_MAXIMUM}, {forms.BODY_MAXIMUM // kib} KiB",
        "fields of a form": forms.FIELDS_MAXIMUM,
        "seconds for a header, a body, between requests": f"{limits.header:g}, {limits.body:g}, {limits.idle:g}",
        "connections in all, of one address": f"{limits.connections}, {limits.connections_each}",
        "test mails of one user (`web.tests`); one more after": f"{DEFAULTS['web.tests']}, {quota.TEST_SECONDS:g} s",
        "refused logins in tests of one user, and in mail after changes of the settings; one more after": f"{quota.LOGINS}, {quota.LOGINS}, {quota.LOGIN_SECONDS:g} s",
        "changes of the settings that are tried at once; one more after": f"{worker.RESETS_MAXIMUM}, {worker.RESET_SECONDS:g} s",
        "attempts for a warning of a changed server, with a refused login; earlier servers that are kept; warnings an hour": f"{server_change.TRIES_MAXIMUM}, {server_change.REFUSALS_MAXIMUM}, {server_change.PREVIOUS_MAXIMUM}, {server_change.HOURLY_MAXIMUM}",
        "seconds between warnings while mail goes to the new server; for which an earlier server is kept; for which a removed reader is warned": f"{server_change.USED_SECONDS:g}, {server_change.KEPT_SECONDS:g}, {server_change.GONE_SECONDS:g}",
        "recipients": recipients.RECIPIENTS_MAXIMUM,
        "a file of settings": f"{storage_files.SIZE_MAXIMUM // kib} KiB",
        "the maker's logo": f"{branding.LOGO_MAXIMUM // kib} KiB",
        "log lines about refusals; one more after": f"{guard.LINES_AT_ONCE}, {guard.LINE_SECONDS:g} s",
    }
    return [f"| {what} | {value} |" for what, value in told.items()]


def test_the_limits_are_those_of_the_program():
    assert between("limits").splitlines() == ["| what | at most |", "| --- | --- |", *limit_rows()]


def test_the_usual_words_are_those_of_the_program():
    assert between("words").split() == [f"`{each}`" for each in administrator.USUAL_WORDS]


def test_the_policy_for_reports_has_its_parts():
    told = section("## Reporting a vulnerability")
    for part in ("security contact", "within 3 working days", "within 14 days", "within 90", "latest release"):
        assert part in told.replace("\n", " "), part


def test_the_open_routes_are_those_of_the_program():
    routes = {tuple(each.split(" ")) for cells in rows(between("open")) for each in re.findall("`([^`]+)`", cells[0])}
    assert routes == {(method, "/" + path.split("/")[1]) for method, path in OPEN}


# Boundaries

# Files of the data folder that one user writes and reads, and no other: the hook, or the web process.
OWN = {"mail/ledger.sqlite3", "mail/reserve", "settings/names.toml", "settings/first-applied"}
CROSSINGS = {
    "socket": set(EVERYTHING),
    "file": {cells[0].strip("`").removeprefix("DATA/").replace("*", "") for cells in rows(between("data"))} - OWN,
}


def commands_of(parser: argparse.ArgumentParser, before: str = "") -> Iterator[str]:
    """The words of every command of a command line."""
    inner = [each for each in parser._actions if isinstance(each, argparse._SubParsersAction)]
    for name, one in (pair for each in inner for pair in each.choices.items()):
        yield from commands_of(one, f"{before}{name} ")
    if not inner:
        yield before.strip()


def crossings(kind: str) -> set[str]:
    """What the table of boundaries names of one kind."""
    cells = [each[1] for each in rows(between("boundaries")) if each[0] != "boundary"]
    return {name for each in cells for name in re.findall(rf"^{kind} `([^`]+)`$", each)}


@pytest.mark.parametrize("kind", CROSSINGS)
def test_every_word_of_the_socket_and_every_file_that_another_user_reads_is_a_boundary(kind):
    assert crossings(kind) == CROSSINGS[kind]
    assert len(CROSSINGS[kind]) >= 7


def test_every_command_is_a_boundary():
    assert crossings("command") == set(commands_of(cli_parser.parser()))


def test_every_boundary_has_every_answer():
    lines = [each for each in rows(between("boundaries")) if each[0] != "boundary"]
    assert [each for each in lines if len(each) != 5 or not all(each)] == []
    known = {"socket", "file", "command", "files", "every"}
    assert [each[1] for each in lines if each[1].partition(" ")[0] not in known] == []


# Data, keys, log


@pytest.fixture(scope="module")
def used(tmp_path_factory) -> Iterator[Product]:
    """A device with everything on flash; its pages run."""
    with Product(tmp_path_factory.mktemp("device")) as product:
        product.start()
        browser = product.logged_in()
        assert browser.update(**settings_form(2599)).status == 303
        added = {"do": "add", "address": "a@example.com", "lowest": "info"}
        assert browser.post("/recipients", revision=browser.get("/recipients").revision, **added).status == 303
        for _ in range(8):
            product.browser().post("/login", password="wrong")
        product.event()
        assert product.command("certificate").returncode == 0
        product.stop("mailhook")
        yield product


def test_every_file_of_the_device_is_in_the_table_of_data(used: Product):
    patterns = [cells[0].strip("`").removeprefix("DATA/") for cells in rows(between("data"))]
    files = {str(each.relative_to(used.folders.data)) for each in used.folders.data.rglob("*") if each.is_file()}
    assert [name for name in files if not any(fnmatch.fnmatch(name, pattern) for pattern in patterns)] == []
    assert len(files) > 7


def test_every_file_of_a_key_is_in_the_table_of_keys(device: Device):
    at = device.folders
    keys = section("## Keys")
    secret = {Path(cells[0].strip("`*")).name for cells in rows(between("data")) if cells[2] == "secret"}
    assert secret == {at.private_key.name, "key.pem", at.administrator.name}
    for name in (*secret, at.public_key.name, "certificate.pem"):
        assert f"`{name}`" in keys, name


def test_every_part_that_logs_is_in_the_table_of_the_log():
    listed = [cells for cells in rows(tables.between("docs/operator.md", "log")) if cells[0] != "component"]
    components = {cells[0].strip("`") for cells in listed}
    for path in SOURCES:
        text = path.read_text()
        if re.search(r"\blog\.(info|warning|error|exception)\(", text):
            package = ".".join(path.relative_to(ROOT).parent.parts)
            assert package in components, path
    everything = "".join(path.read_text() for path in SOURCES)
    lines = [cells[2].strip("`").replace("\\|", "|") for cells in listed]
    assert [line for line in lines if f'"{line}"' not in everything] == []


def test_logs_go_to_standard_error_alone():
    for path in SOURCES:
        assert not re.search(r"logging\.handlers|FileHandler|SysLogHandler|import syslog", path.read_text()), path


# What the program does not do


def calls(path: Path) -> Iterator[ast.Call]:
    return (each for each in ast.walk(ast.parse(path.read_text())) if isinstance(each, ast.Call))


def test_nothing_is_evaluated_unpickled_or_given_to_a_shell():
    """Templates are compiled from `views/` alone, by name."""
    forbidden = {"eval", "exec", "compile", "os.system", "os.popen", "pickle.loads", "marshal.loads", "yaml.load"}
    for path in SOURCES:
        text = path.read_text()
        assert not re.search(r"\b(import|from) (pickle|marshal|shelve|yaml|xml)\b|shell=True", text), path
        for call in calls(path):
            assert ast.unparse(call.func) not in forbidden, (path, call.lineno)
            if ast.unparse(call.func).endswith("SimpleTemplate"):
                assert [each.arg for each in call.keywords] == ["name", "lookup"], path


def test_no_weak_algorithm_is_named():
    for path in SOURCES:
        found = re.findall(r"(?i)\b(md5|sha1|rc4|3?des|ecb|cbc|pkcs1v15|cram-md5|ntlm)\b", path.read_text())
        assert found == [], path


def test_no_library_is_used_that_is_not_told():
    # Both are the standard library's: the first from Python 3.12 on, the second before it.
    allowed = {*sys.stdlib_module_names, "_sha2", "_sha256", "device_ui", *check.MINIMUM_VERSIONS}
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert {each.partition(".")[0] for each in names} <= allowed, path


# The pages of a form that came too late are those of a table; the page that another language was chosen on has a pattern; a stored list
# has its own path. The query of the History is encoded by the page, and the number has a pattern.
REDIRECTS = (
    r"'/[a-z/-]*'|return_path\.entrance\(self\.entrance\(\)\)|return_path\.checked\(text\(form, return_path\.FIELD\)\) or page or '/smtp'"
    r"|page if PAGE_PATTERN\.fullmatch\(page\) else '/'|return_path\.here\(self\.path\)|f'/history\?\{query\.own\}#event-\{number\}'"
)


def test_every_redirect_is_a_path_of_this_device():
    calls_of = (call for path in SOURCES for call in calls(path) if ast.unparse(call.func) == "see_other")
    targets = [ast.unparse(call.args[0]) for call in calls_of]
    assert [each for each in targets if not re.fullmatch(REDIRECTS, each)] == []
    assert all(re.fullmatch(r"/[a-z/-]*", page) for page, _ in login.SAVED_FORMS.values())
    assert not any(
        map(language.PAGE_PATTERN.fullmatch, ("//evil.example", "/\\evil.example", "https://evil.example", "/."))
    )
    assert all(re.fullmatch(r"/[a-z/-]*", page) for page in return_path.PAGES.values())
    # Of a list, with its order; what the query may hold is a pattern, too.
    assert all(re.fullmatch(r"/[a-z/-]*", each.PAGE.path) for each in (access, recipients_page))
    assert not any(return_path.is_part("/recipients", each) for each in ("sort=a\r\nx", "sort=//evil.example", "x=1"))
    assert len(targets) > 8


def test_the_script_makes_no_markup_keeps_nothing_and_hears_no_strangers():
    forbidden = ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function(", "localStorage")
    forbidden += ("sessionStorage", "indexedDB", "document.cookie", "postMessage", '"message"', '"paste"', "__proto__")
    for path in (ROOT / "static").rglob("*.js"):
        assert [word for word in forbidden if word in path.read_text()] == []


FORM = re.compile(r"<form\b([^>]*)>(.*?)</form>", re.DOTALL)


def test_every_form_with_a_secret_is_posted():
    found = {path.name: FORM.findall(path.read_text()) for path in (ROOT / "views").glob("*.tpl")}
    assert all(found[name] for name in ("login.tpl", "setup.tpl", "smtp.tpl"))
    asking = {name for name, each in found.items() if any('method="post"' not in begin for begin, _ in each)}
    assert not asking & {"login.tpl", "setup.tpl", "smtp.tpl", "recipients.tpl", "layout.tpl"}
    assert not [name for name in asking if "password" in (ROOT / "views" / name).read_text()]


def test_password_fields_tell_a_password_manager_what_they_are(used: Product):
    root = document.read(used.browser().get("/login").text)
    fields = [each for each in root.all("input") if each.attributes.get("type") == "password"]
    assert [each.attributes["autocomplete"] for each in fields] == ["current-password"]
    assert (ROOT / "views" / "setup.tpl").read_text().count('autocomplete="new-password"') == 2


def test_every_page_behind_the_login_has_a_sign_out(used: Product):
    browser = used.browser()
    browser.post("/login", password=ADMIN_PASSWORD)
    paths = {route.rule for route in app.routes(app.site(Device.load(used.folders))).routes if route.method == "GET"}
    behind = sorted(
        path
        for path in paths
        if path.count("/") and ("GET", path) not in OPEN and not re.search("<|csv|email-content/html", path)
    )
    shown = {
        path: page.text
        for path in behind
        if (page := browser.get(path)).headers["content-type"].startswith("text/html")
    }
    without = [path for path, text in shown.items() if text and 'action="/logout"' not in text]
    assert without == []
    assert len(shown) >= 5
