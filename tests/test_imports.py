"""Arrows run one way: the web process has no way to a private key, and neither process loads what it does not need.

Every import is read, inside functions and for type checkers too; the rest is looked at in fresh interpreters.
"""

from __future__ import annotations

import ast
import functools
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import pytest

from tests.helpers.product import ROOT

PACKAGE = ROOT / "device_ui"
# Packages that are components; any other module is one by itself.
COMPONENTS = (
    "cli",
    "i18n",
    "mail.delivery",
    "mail.ipc",
    "mail.message",
    "mail.outbox",
    "mail.smtp",
    "settings",
    "storage",
    "web.auth",
    "web.http",
    "web.pages",
)
# What a component may import besides itself; a name stands for a component or for a module.
ALLOWED = {
    "cli": None,  # everything
    "__main__": {"cli"},
    "errors": set(),
    "maker_file": {"errors"},
    "paths": set(),
    "rate_limit": set(),
    "logging_setup": set(),
    "csv_export": {"errors"},
    "config": {"errors", "i18n", "maker_file", "paths", "settings"},
    "storage": {"errors"},
    "i18n": {"errors", "maker_file"},
    "settings": {"errors", "i18n", "storage"},
    "mail.client": {"errors"},
    "mail.events": {"errors"},
    "mail.catalog": {"errors", "maker_file"},
    "mail.clock": {"", "errors", "mail.events"},
    "mail.format": {"errors", "i18n", "mail.catalog", "mail.events"},
    "mail.sendmail": {"logging_setup", "mail.catalog", "mail.client"},
    "mail.smtp": {"errors", "mail.events", "settings"},
    "mail.message": {"errors", "i18n", "mail.catalog", "mail.events", "mail.format", "settings"},
    "mail.outbox": {"errors", "mail.catalog", "mail.events", "storage"},
    "mail.delivery": {
        "errors",
        "mail.catalog",
        "mail.clock",
        "mail.events",
        "mail.message",
        "mail.outbox",
        "mail.smtp",
        "rate_limit",
        "settings",
    },
    "mail.ipc": {
        "errors",
        "mail.catalog",
        "mail.client",
        "mail.clock",
        "mail.events",
        "mail.format",
        "mail.outbox",
    },
    "mail.daemon": {
        "config",
        "errors",
        "mail.catalog",
        "mail.clock",
        "mail.delivery",
        "mail.ipc",
        "mail.outbox",
        "mail.smtp",
        "settings",
        "storage",
    },
    "web.http": {"logging_setup", "rate_limit", "web.client_address"},
    "web.client_address": set(),
    "web.auth": {"config", "errors", "rate_limit", "settings", "storage", "web.client_address"},
    "web.locale": {"i18n", "web.auth"},
    "web.forms": {"errors"},
    "web.templates": {"web.static_files"},
    "web.contrast": set(),
    "web.picture": set(),
    "web.static_files": {""},
    "web.branding": {"config", "errors", "web.contrast", "web.picture", "web.static_files"},
    "web.unavailable": {"i18n"},
    "web.context": {
        "config",
        "errors",
        "i18n",
        "mail.client",
        "settings",
        "web.auth",
        "web.branding",
        "web.locale",
        "web.static_files",
        "web.templates",
    },
    "web.pages": {
        "csv_export",
        "errors",
        "i18n",
        "mail.client",
        "settings",
        "web.auth",
        "web.context",
        "web.forms",
        "web.locale",
    },
    "web.app": {
        "config",
        "settings",
        "web.auth",
        "web.branding",
        "web.context",
        "web.http",
        "web.pages",
        "web.static_files",
    },
    "web.server": {
        "config",
        "errors",
        "storage",
        "web.app",
        "web.auth",
        "web.client_address",
        "web.forms",
        "web.http",
        "web.unavailable",
    },
    "": set(),
}


@dataclass(frozen=True)
class Arrow:
    """One module imports another; `for_types` when only a type checker follows it."""

    source: str
    target: str
    for_types: bool = False


@functools.cache
def modules(package: Path) -> dict[str, Path]:
    """Every module of a package that is called ``device_ui``, by its name."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = ("device_ui", *path.relative_to(package).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def arrows(package: Path, more: Mapping[str, str] = MappingProxyType({})) -> list[Arrow]:
    """Every import of one module of the package by another; `more` are lines that are read as if some had them."""
    return [arrow for name in modules(package) for arrow in _arrows(package, name, more.get(name, ""))]


@functools.cache
def _arrows(package: Path, source: str, more: str) -> Sequence[Arrow]:
    known = modules(package)
    path = known[source]
    tree = ast.parse(f"{path.read_text()}\n{more}\n")
    checks = [node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)]
    for_types = {id(inner) for check in checks for each in check.body for inner in ast.walk(each)}
    folder = source if path.name == "__init__.py" else source.rpartition(".")[0]
    return [
        Arrow(source, target, id(node) in for_types)
        for node in ast.walk(tree)
        for target in _targets(node, folder, known)
    ]


def _targets(node: ast.AST, folder: str, known: Mapping[str, Path]) -> Iterable[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names if alias.name.partition(".")[0] == "device_ui"]
    if not isinstance(node, ast.ImportFrom):
        return []
    base = node.module or ""
    if node.level:
        above = folder.split(".")[: len(folder.split(".")) - node.level + 1]
        base = ".".join([*above, base] if base else above)
    if base.partition(".")[0] != "device_ui":
        return []
    named = [f"{base}.{alias.name}" for alias in node.names]
    return [each if each in known else base for each in named]


def component(module: str) -> str:
    """Return the component of a module; its own name, without the package's, when it is one by itself."""
    name = module.removeprefix("device_ui").lstrip(".")
    return next((each for each in COMPONENTS if f"{name}.".startswith(f"{each}.")), name)


def is_allowed(arrow: Arrow) -> bool:
    """Return whether DESIGN draws this arrow."""
    start, end = component(arrow.source), component(arrow.target)
    allowed = ALLOWED.get(start, set())
    return start == end or allowed is None or end in allowed


def cycles(found: Iterable[Arrow]) -> list[str]:
    """The modules that import themselves by way of others. What only a type checker follows is no way."""
    ways: dict[str, set[str]] = {}
    for arrow in found:
        if not arrow.for_types:
            ways.setdefault(arrow.source, set()).add(arrow.target)
    return sorted(start for start in ways if start in _reached(start, ways))


def _reached(start: str, ways: Mapping[str, set[str]]) -> set[str]:
    reached: set[str] = set()
    ahead = list(ways[start])
    while ahead:
        module = ahead.pop()
        if module not in reached:
            reached.add(module)
            ahead.extend(ways.get(module, ()))
    return reached


# The arrows of the product.


def test_every_arrow_is_one_that_the_design_draws():
    assert [arrow for arrow in arrows(PACKAGE) if not is_allowed(arrow)] == []


def test_no_module_imports_itself_by_way_of_others():
    assert cycles(arrows(PACKAGE)) == []


def test_nothing_imports_the_command_line():
    inner = [arrow for arrow in arrows(PACKAGE) if component(arrow.target) == "cli"]
    assert {arrow.source for arrow in inner if component(arrow.source) != "cli"} == {"device_ui.__main__"}


def test_the_table_names_every_component_and_no_arrow_that_is_not_there():
    packages = {"mail", "web"}
    assert {component(name) for name in modules(PACKAGE)} - packages == set(ALLOWED)
    drawn = {(start, end) for start, ends in ALLOWED.items() for end in ends or ()}
    assert drawn <= {(component(arrow.source), component(arrow.target)) for arrow in arrows(PACKAGE)}


def test_no_component_imports_itself_by_way_of_others():
    found = {
        Arrow(component(arrow.source), component(arrow.target), arrow.for_types)
        for arrow in arrows(PACKAGE)
        if component(arrow.source) != component(arrow.target)
    }
    assert cycles(found) == []


def test_arrows_are_found_at_all():
    found = arrows(PACKAGE)
    assert Arrow("device_ui.settings.store", "device_ui.storage.files") in found
    assert Arrow("device_ui.web.pages.smtp", "device_ui.mail.client") in found
    assert Arrow("device_ui.mail.daemon", "device_ui.mail.smtp.client", for_types=True) in found
    assert Arrow("device_ui.config", "device_ui.settings.fields") in found
    assert any(
        arrow.source == "device_ui.cli.commands" and component(arrow.target).startswith("web.") for arrow in found
    )


def test_no_module_is_imported_by_a_name_that_is_made_up_on_the_way():
    texts = {name: path.read_text() for name, path in modules(PACKAGE).items()}
    words = ("import_module", "__import__", "exec(", "runpy", "eval(")
    assert [(name, word) for name, text in texts.items() for word in words if word in text] == []


def test_no_module_of_the_web_room_opens_a_password_or_names_the_private_key():
    texts = {name: path.read_text() for name, path in modules(PACKAGE).items() if name.startswith("device_ui.web")}
    words = ("unseal", "open_password", "load_password", "load_private", "load_pair", "new_private_key")
    assert texts
    assert [(name, word) for name, text in texts.items() for word in words if word in text] == []


def test_a_password_is_unsealed_in_one_place_which_checks_it():
    calls = {name for name, path in modules(PACKAGE).items() if "seal.unseal(" in path.read_text()}
    assert calls == {"device_ui.settings.keys"}
    (found,) = (
        each
        for each in ast.walk(ast.parse(modules(PACKAGE)["device_ui.settings.keys"].read_text()))
        if isinstance(each, ast.FunctionDef) and "seal.unseal(" in ast.unparse(each)
    )
    assert found.name == "open_password"


# A wrong arrow is seen, wherever it hides.


def planted(module: str, code: str) -> list[Arrow]:
    """The wrong arrows of a product in which one module has another line."""
    return [arrow for arrow in arrows(PACKAGE, {module: code}) if not is_allowed(arrow)]


@pytest.mark.parametrize(
    ("module", "code", "target"),
    [
        ("web.app", "from device_ui.mail.smtp import client", "mail.smtp.client"),
        ("web.app", "from device_ui.mail.smtp.client import SmtpClient", "mail.smtp.client"),
        ("web.app", "import device_ui.mail.outbox", "mail.outbox"),
        ("web.app", "import device_ui.mail.outbox as client", "mail.outbox"),
        ("web.app", "from ..mail import outbox", "mail.outbox"),
        ("web.app", "from ..mail.outbox.outbox import Outbox", "mail.outbox.outbox"),
        ("web.pages.smtp", "from ...mail.ipc import server", "mail.ipc.server"),
        ("web.pages", "from ...mail.ipc import server", "mail.ipc.server"),
        ("web.app", "def later():\n    from device_ui.mail.ipc import server", "mail.ipc.server"),
        ("web.app", "if TYPE_CHECKING:\n    from device_ui.mail.ipc.server import IpcServer", "mail.ipc.server"),
        ("web.app", "try:\n    from device_ui.mail import daemon\nexcept ImportError:\n    pass", "mail.daemon"),
        ("web.app", "from device_ui.mail import client, daemon", "mail.daemon"),
        ("web.app", "from device_ui.mail import *", "mail"),
        ("web.app", "from device_ui.cli import run", "cli.run"),
        ("web.http.parser", "from device_ui.web import app", "web.app"),
        ("mail.ipc.server", "from device_ui.web.auth import guard", "web.auth.guard"),
        ("mail.ipc.server", "import device_ui.web", "web"),
        ("mail.ipc.server", "from device_ui.cli import check", "cli.check"),
        ("mail.smtp.client", "from device_ui.mail.outbox import outbox", "mail.outbox.outbox"),
        ("settings.fields", "from device_ui.config import Device", "config"),
        ("settings.fields", "from device_ui.mail import client", "mail.client"),
        ("settings.fields", "from ..web import forms", "web.forms"),
        ("config", "from device_ui.mail import client", "mail.client"),
        ("errors", "from device_ui.settings import rules", "settings.rules"),
    ],
)
def test_wrong_arrow_is_seen(module, code, target):
    assert (f"device_ui.{module}", f"device_ui.{target}") in {
        (arrow.source, arrow.target) for arrow in planted(f"device_ui.{module}", code)
    }


@pytest.mark.parametrize(
    ("module", "code"),
    [
        ("web.pages.smtp", "from device_ui.mail import client"),
        ("web.pages.smtp", "import device_ui.mail.client"),
        ("mail.smtp.client", "from device_ui.settings.rules import Invalid"),
        ("web.pages.smtp", "from device_ui.errors import Damaged"),
        ("cli.check", "from device_ui.mail.outbox import outbox"),
        ("settings.fields", "import os, json.decoder"),
    ],
)
def test_right_arrow_is_let_through(module, code):
    assert planted(f"device_ui.{module}", code) == []


@pytest.mark.parametrize("where", ["{}", "def later():\n    {}"])
def test_cycle_is_seen(where):
    line = where.format("from device_ui.settings import store")
    found = cycles(arrows(PACKAGE, {"device_ui.settings.rules": line}))
    assert {"device_ui.settings.rules", "device_ui.settings.fields", "device_ui.settings.store"} <= set(found)


def test_cycle_for_types_alone_is_none():
    there, back = Arrow("device_ui.a", "device_ui.b"), Arrow("device_ui.b", "device_ui.a", for_types=True)
    assert cycles([there, back]) == []
    assert cycles([there, Arrow("device_ui.b", "device_ui.a")]) == ["device_ui.a", "device_ui.b"]


# What a process loads.


def loaded(code: str, *words: str) -> set[str]:
    """The modules that stand in a fresh interpreter after this code; it measures no coverage, which loads its own."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)", *words],
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return set(done.stdout.split())


WEB = """
import device_ui.web.app, device_ui.web.server
import device_ui.web.pages.login, device_ui.web.pages.smtp
"""
HOOK = "import device_ui.mail.ipc.server, device_ui.mail.delivery.worker, device_ui.mail.outbox.outbox"
CLIENT = "import device_ui.mail.client"


def test_web_process_starts_without_cryptography_and_everything_of_mail_but_the_client():
    found = loaded(WEB)
    assert {"bottle", "waitress", "device_ui.web.server", "device_ui.web.pages.smtp"} <= found
    assert found & {"cryptography", "_cffi_backend", "smtplib", "sqlite3", "_sqlite3", "asyncio"} == set()
    assert {name for name in found if name.startswith("device_ui.mail")} == {"device_ui.mail", "device_ui.mail.client"}


def test_web_process_adds_little_of_the_standard_library_to_what_bottle_and_waitress_load():
    # What these three load differs between versions of Python.
    found = loaded(WEB) - loaded("import bottle, waitress, dataclasses, pathlib, typing")
    ours = {"secrets", "signal", "fcntl", "pwd", "resource", "_sha2", "_sha256"}
    assert {name for name in found if not name.startswith("device_ui")} <= ours


def test_web_process_adds_no_part_of_ssl_and_email_to_what_bottle_and_waitress_load():
    # bottle loads ssl and email.message by itself (through http.client); more than that would be ours.
    floor = loaded("import bottle, waitress")
    assert {each for each in loaded(WEB) - floor if each.partition(".")[0] in ("ssl", "_ssl", "email")} == set()


def test_hook_starts_without_what_only_a_mail_needs():
    found = loaded(HOOK)
    assert {"sqlite3", "device_ui.mail.ipc.server"} <= found
    assert (
        found & {"ssl", "_ssl", "smtplib", "email", "cryptography", "asyncio", "tomllib", "bottle", "waitress"} == set()
    )


def test_daemon_starts_without_what_only_a_mail_needs():
    assert loaded("import device_ui.mail.daemon") & UNNEEDED == set()


# hashlib loads OpenSSL, 3.5 MiB.
UNNEEDED = {"ssl", "_ssl", "smtplib", "email", "cryptography", "bottle", "hashlib", "_hashlib", "secrets"}
STARTED = """
import os, sys
from pathlib import Path
from device_ui.config import Device, Folders
from device_ui.mail.daemon import Daemon
Daemon(Device.load(Folders(*map(Path, sys.argv[1:]))))
"""


def test_hook_that_has_its_key_starts_without_cryptography(folders):
    def started() -> set[str]:
        return loaded(STARTED, *map(str, (folders.data, folders.run, folders.etc)))

    assert "cryptography" in started()  # which makes the key
    assert started() & UNNEEDED == set()


def test_client_is_the_standard_library_and_our_errors_alone():
    names = {name.partition(".")[0] for name in loaded(CLIENT) - loaded("pass")}
    assert names - {"device_ui"} <= set(sys.stdlib_module_names)
    assert {name for name in loaded(CLIENT) if name.startswith("device_ui.")} == {
        "device_ui.errors",
        "device_ui.mail",
        "device_ui.mail.client",
    }


def test_rules_and_table_load_no_part_of_cryptography():
    code = (
        "import device_ui.settings.store, device_ui.settings.seal, device_ui.settings.keys, device_ui.settings.export"
    )
    assert loaded(code) & {"cryptography", "ssl", "email", "sqlite3", "smtplib"} == set()


def test_sealing_loads_no_other_algorithm():
    code = (
        "from device_ui.settings import seal\nseal.seal('x', bytes([9]) + bytes(31), ('host', '25', 'a@b.c', 'auto'))"
    )
    found = {name for name in loaded(code) if name.startswith("cryptography.hazmat.")}
    assert "cryptography.hazmat.primitives.asymmetric.x25519" in found
    assert {name for name in found if name.rpartition(".")[2] in ("backend", "rsa", "ec", "dsa", "ed25519")} == set()
