"""Imports run one way (docs/architecture.md): the web process has no way to a private key, and no process loads what it does not need.

Every import is read, inside functions and for type checkers too; what a process loads is measured in fresh interpreters.
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
# A folder of this list is a component with everything in it; any other module is one of its own.
FOLDERS = ("cli", "i18n", "provisioning", "settings", "storage")
FOLDERS += (
    "mail.delivery",
    "mail.ipc",
    "mail.message",
    "mail.oauth",
    "mail.outbox",
    "mail.smtp",
    "web.auth",
    "web.http",
    "web.pages",
)
# Component → the components that it imports, besides itself. `cli` may import everything, and nothing imports `cli`.
ALLOWED: dict[str, set[str]] = {
    "device_ui": set(),
    "errors": set(),
    "maker_file": {"errors"},
    "paths": set(),
    "resources": set(),
    "rate_limit": set(),
    "logging_setup": set(),
    "csv_export": {"errors"},
    "storage": {"errors"},
    "i18n": {"errors", "maker_file"},
    "settings": {"errors", "i18n", "storage"},
    "config": {"errors", "i18n", "maker_file", "paths", "settings"},
    "provisioning": {"config", "errors", "i18n", "mail.client", "settings", "storage"},
    "mail": set(),
    "mail.client": {"errors"},
    "mail.events": {"errors"},
    "mail.catalog": {"errors", "maker_file"},
    "mail.clock": {"device_ui", "mail.events"},
    "mail.format": {"errors", "i18n", "mail.catalog", "mail.events"},
    "mail.sendmail": {"logging_setup", "mail.catalog", "mail.client", "mail.sendmail_smtp"},
    "mail.sendmail_smtp": {"errors"},
    "mail.smtp": {"errors", "mail.events", "settings"},
    "mail.message": {"errors", "i18n", "mail.catalog", "mail.events", "mail.format", "resources", "settings"},
    "mail.oauth": {
        *("mail.catalog", "mail.clock", "mail.smtp"),
        *("device_ui", "errors", "rate_limit", "settings", "storage"),
    },
    "mail.outbox": {"errors", "mail.catalog", "mail.events", "storage"},
    "mail.delivery": {
        *("mail.catalog", "mail.clock", "mail.events", "mail.format", "mail.message", "mail.outbox", "mail.smtp"),
        *("errors", "rate_limit", "settings"),
    },
    "mail.ipc": {
        *("mail.catalog", "mail.client", "mail.clock", "mail.events", "mail.format", "mail.outbox"),
        *("errors", "rate_limit"),
    },
    "mail.daemon": {
        *("mail.catalog", "mail.clock", "mail.delivery", "mail.events", "mail.ipc", "mail.oauth", "mail.outbox"),
        *("config", "errors", "mail.smtp", "settings", "storage"),
    },
    "web": set(),
    "web.client_address": set(),
    "web.forms": {"errors"},
    "web.static_files": {"resources"},
    "web.templates": {"resources"},
    "web.heap": set(),
    "web.unavailable": {"i18n"},
    "web.branding": {"config", "errors", "web.static_files"},
    "web.http": {"logging_setup", "rate_limit", "web.client_address"},
    "web.auth": {"config", "errors", "rate_limit", "settings", "storage", "web.client_address", "web.forms"},
    "web.locale": {"i18n", "web.auth"},
    "web.context": {
        *("web.auth", "web.branding", "web.locale", "web.static_files", "web.templates"),
        *("config", "errors", "i18n", "mail.client", "settings"),
    },
    "web.pages": {
        *("web.auth", "web.context", "web.forms", "web.locale", "mail.client"),
        *("csv_export", "device_ui", "errors", "i18n", "settings"),
    },
    "web.app": {
        *("web.auth", "web.branding", "web.context", "web.pages"),
        *("config", "settings"),
    },
    "web.server": {
        *("web.app", "web.auth", "web.client_address", "web.forms", "web.heap", "web.http", "web.unavailable"),
        *("config", "errors", "storage"),
    },
    "cli": set(),
}


@dataclass(frozen=True)
class Arrow:
    """One module imports another; `for_types` when only a type checker follows it."""

    source: str
    target: str
    for_types: bool = False


@functools.cache
def modules(package: Path) -> dict[str, Path]:
    """Return every module of a package that is called ``device_ui``, by its name."""
    paths = {}
    for path in sorted(package.rglob("*.py")):
        parts = ("device_ui", *path.relative_to(package).with_suffix("").parts)
        paths[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return paths


def arrows(package: Path, more: Mapping[str, str] = MappingProxyType({})) -> list[Arrow]:
    """Return every import of one module of the package by another; `more` has lines to add to a module's source."""
    return [arrow for name in modules(package) for arrow in _arrows(package, name, more.get(name, ""))]


@functools.cache
def _arrows(package: Path, source: str, more: str) -> Sequence[Arrow]:
    known = modules(package)
    path = known[source]
    tree = ast.parse(f"{path.read_text()}\n{more}\n")
    checks = [node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)]
    for_types = {id(inner) for check in checks for line in check.body for inner in ast.walk(line)}
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
    return [name if name in known else base for name in named]


def component(module: str) -> str:
    """Return the component of a module: its folder, or its own name."""
    name = "cli" if module == "device_ui.__main__" else module.removeprefix("device_ui.")
    return next((folder for folder in FOLDERS if f"{name}.".startswith(f"{folder}.")), name)


def is_allowed(arrow: Arrow) -> bool:
    """Return whether the design has this import."""
    source, target = component(arrow.source), component(arrow.target)
    if source in ("cli", target):
        return True
    return target in ALLOWED.get(source, set())


def cycles(imports: Iterable[Arrow]) -> list[str]:
    """Return the modules that import themselves through others. Imports for a type checker alone do not count."""
    ways: dict[str, set[str]] = {}
    for arrow in imports:
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


def between_components(imports: Iterable[Arrow]) -> list[Arrow]:
    """Return the arrows from one component to another, those for a type checker too."""
    pairs = {(component(arrow.source), component(arrow.target)) for arrow in imports}
    return [Arrow(*pair) for pair in pairs if pair[0] != pair[1]]


# The imports of the product


def test_every_import_is_one_that_the_design_has():
    assert [arrow for arrow in arrows(PACKAGE) if not is_allowed(arrow)] == []


def test_no_module_imports_itself_through_others():
    assert cycles(arrows(PACKAGE)) == []


def test_no_component_imports_itself_through_others():
    assert cycles(between_components(arrows(PACKAGE))) == []


def test_the_design_itself_has_no_cycle():
    assert cycles([Arrow(source, target) for source, targets in ALLOWED.items() for target in targets]) == []


def test_nothing_imports_the_command_line():
    imports = arrows(PACKAGE)
    assert [arrow for arrow in imports if component(arrow.target) == "cli" != component(arrow.source)] == []
    assert not any("cli" in targets for targets in ALLOWED.values())


def test_the_table_has_every_component_and_no_arrow_that_is_not_there():
    assert {component(name) for name in modules(PACKAGE)} == set(ALLOWED)
    listed = {(source, target) for source, targets in ALLOWED.items() for target in targets}
    assert listed - {(component(arrow.source), component(arrow.target)) for arrow in arrows(PACKAGE)} == set()


def test_every_module_is_named_in_the_contract_of_its_folder():
    contracts = {path: ast.get_docstring(ast.parse(path.read_text())) or "" for path in PACKAGE.rglob("*/__init__.py")}
    assert len(contracts) > 10
    assert [
        f"{path.parent.name}.{module.stem}"
        for path, contract in contracts.items()
        for module in sorted(path.parent.glob("*.py"))
        if module != path and f"`{module.stem}`" not in contract
    ] == []


def test_imports_are_found_at_all():
    imports = arrows(PACKAGE)
    assert Arrow("device_ui.settings.store", "device_ui.storage.files") in imports
    assert Arrow("device_ui.web.pages.smtp", "device_ui.mail.client") in imports
    assert Arrow("device_ui.mail.daemon", "device_ui.mail.smtp.client", for_types=True) in imports
    assert Arrow("device_ui.config", "device_ui.settings.fields") in imports
    assert any(
        arrow.source == "device_ui.cli.commands" and component(arrow.target).startswith("web") for arrow in imports
    )


def test_no_module_is_imported_by_a_name_that_is_computed():
    texts = {name: path.read_text() for name, path in modules(PACKAGE).items()}
    words = ("import_module", "__import__", "exec(", "runpy", "eval(")
    assert [(name, word) for name, text in texts.items() for word in words if word in text] == []


def test_no_module_of_the_web_process_opens_a_password_or_names_the_private_key():
    texts = {name: path.read_text() for name, path in modules(PACKAGE).items() if name.startswith("device_ui.web.")}
    words = (
        "unseal",
        "open_password",
        "open_record",
        "SealedRecord",
        "load_password",
        "load_private",
        "load_pair",
        "new_private_key",
    )
    assert len(texts) > 20
    assert [(name, word) for name, text in texts.items() for word in words if word in text] == []


def test_a_password_is_unsealed_in_one_place_which_checks_it():
    calls = {name for name, path in modules(PACKAGE).items() if "seal.unseal(" in path.read_text()}
    assert calls == {"device_ui.settings.keys"}
    functions = {
        node.name: ast.unparse(node)
        for node in ast.walk(ast.parse(modules(PACKAGE)["device_ui.settings.keys"].read_text()))
        if isinstance(node, ast.FunctionDef) and "seal.unseal(" in ast.unparse(node)
    }
    # What the hook sealed for itself has a purpose of its own, which is no password's.
    assert set(functions) == {"open_password", "open_record"}
    assert "purpose" in functions["open_record"] and "purpose" not in functions["open_password"]


def test_only_the_hooks_own_records_are_opened_for_another_purpose():
    calls = {name for name, path in modules(PACKAGE).items() if "open_record(" in path.read_text()}
    assert calls == {"device_ui.settings.keys", "device_ui.settings.sealed_record"}


# A wrong import is found, wherever it hides


def planted(module: str, code: str) -> list[Arrow]:
    """Return the wrong imports of a product in which one module has these lines too."""
    assert module in modules(PACKAGE), module
    return [arrow for arrow in arrows(PACKAGE, {module: code}) if not is_allowed(arrow)]


@pytest.mark.parametrize(
    ("module", "code", "target"),
    [
        ("web.app", "from device_ui.mail.smtp import client", "mail.smtp.client"),
        ("web.app", "from device_ui.mail.smtp.client import SmtpClient", "mail.smtp.client"),
        ("web.app", "import device_ui.mail.outbox.outbox", "mail.outbox.outbox"),
        ("web.app", "import device_ui.mail.outbox.outbox as client", "mail.outbox.outbox"),
        ("web.app", "from ..mail.outbox import outbox", "mail.outbox.outbox"),
        ("web.app", "from ..mail.outbox.outbox import Outbox", "mail.outbox.outbox"),
        ("web.pages.smtp", "from ...mail.ipc import server", "mail.ipc.server"),
        ("web.pages", "from ...mail.ipc import server", "mail.ipc.server"),
        ("web.app", "def later():\n    from device_ui.mail.ipc import server", "mail.ipc.server"),
        ("web.app", "if TYPE_CHECKING:\n    from device_ui.mail.ipc.server import IpcServer", "mail.ipc.server"),
        ("web.app", "try:\n    from device_ui.mail import daemon\nexcept ImportError:\n    pass", "mail.daemon"),
        ("web.app", "from device_ui.mail import client, daemon", "mail.daemon"),
        ("web.app", "from device_ui.mail import *", "mail"),
        ("web.app", "from device_ui.cli import run", "cli.run"),
        ("web.http.listener", "from device_ui.web.pages import smtp", "web.pages.smtp"),
        ("web.http.connection", "from device_ui.web import app", "web.app"),
        ("web.http.response", "from ..auth import guard", "web.auth.guard"),
        ("web.http.parser", "from device_ui import errors", "errors"),
        ("web.auth.guard", "from ..pages import login", "web.pages.login"),
        ("web.auth.guard", "from device_ui.web import context", "web.context"),
        ("web.pages.login", "from device_ui.web import app", "web.app"),
        ("web.pages.login", "from device_ui.web.http import headers", "web.http.headers"),
        ("web.templates", "from device_ui.web import context", "web.context"),
        ("mail.ipc.server", "from device_ui.web.auth import guard", "web.auth.guard"),
        ("mail.ipc.server", "import device_ui.web", "web"),
        ("mail.ipc.server", "from device_ui.cli import check", "cli.check"),
        ("mail.ipc.server", "from device_ui.mail.smtp import client", "mail.smtp.client"),
        ("mail.ipc.server", "from device_ui.mail import daemon", "mail.daemon"),
        ("mail.delivery.worker", "from device_ui.mail.ipc import server", "mail.ipc.server"),
        ("mail.delivery.worker", "from device_ui import config", "config"),
        ("mail.outbox.outbox", "from device_ui.mail.delivery import retry", "mail.delivery.retry"),
        ("mail.outbox.outbox", "from device_ui.settings import store", "settings.store"),
        ("mail.message.compose", "from device_ui.mail.outbox import outbox", "mail.outbox.outbox"),
        ("mail.message.compose", "from device_ui.mail.smtp import client", "mail.smtp.client"),
        ("mail.smtp.client", "from device_ui.mail.outbox import outbox", "mail.outbox.outbox"),
        ("mail.smtp.client", "from device_ui.mail import clock", "mail.clock"),
        ("mail.smtp.client", "from device_ui.mail.oauth import token_client", "mail.oauth.token_client"),
        ("mail.oauth.sign_in", "from device_ui.web import context", "web.context"),
        ("mail.oauth.sign_in", "from device_ui.mail.delivery import worker", "mail.delivery.worker"),
        ("mail.ipc.requests", "from device_ui.mail.oauth import sign_in", "mail.oauth.sign_in"),
        ("web.app", "from device_ui.mail.oauth import sign_in", "mail.oauth.sign_in"),
        ("mail.smtp.client", "from device_ui.i18n import translator", "i18n.translator"),
        ("mail.events", "from device_ui.mail.outbox import outbox", "mail.outbox.outbox"),
        ("mail.client", "from device_ui.mail import catalog", "mail.catalog"),
        ("settings.fields", "from device_ui.config import Device", "config"),
        ("settings.fields", "from device_ui.mail import client", "mail.client"),
        ("settings.fields", "from ..web import forms", "web.forms"),
        ("storage.files", "from device_ui.settings import store", "settings.store"),
        ("storage.files", "from device_ui.i18n import translator", "i18n.translator"),
        ("i18n.translator", "from device_ui.settings import rules", "settings.rules"),
        ("config", "from device_ui.mail import client", "mail.client"),
        ("errors", "from device_ui.settings import rules", "settings.rules"),
    ],
)
def test_wrong_import_is_found(module, code, target):
    assert (f"device_ui.{module}", f"device_ui.{target}") in {
        (arrow.source, arrow.target) for arrow in planted(f"device_ui.{module}", code)
    }


@pytest.mark.parametrize(
    ("module", "code"),
    [
        ("web.app", "from device_ui.web.pages import smtp"),
        ("web.pages.smtp", "import device_ui.mail.client"),
        ("web.http.listener", "from device_ui.web import client_address"),
        ("mail.ipc.server", "from device_ui.mail.outbox.outbox import Outbox"),
        ("mail.delivery.worker", "from device_ui.mail.smtp import client"),
        ("web.pages.smtp", "from device_ui.errors import Damaged"),
        ("cli.check", "from device_ui.mail.outbox import outbox"),
        ("settings.fields", "import os, json.decoder"),
    ],
)
def test_right_import_is_accepted(module, code):
    assert planted(f"device_ui.{module}", code) == []


def test_a_new_folder_is_found():
    assert component("device_ui.mail.new.token") not in ALLOWED
    assert not is_allowed(Arrow("device_ui.mail.new.token", "device_ui.errors"))


@pytest.mark.parametrize("where", ["{}", "def later():\n    {}"])
def test_cycle_is_found(where):
    line = where.format("from device_ui.settings import store")
    names = cycles(arrows(PACKAGE, {"device_ui.settings.rules": line}))
    assert {"device_ui.settings.rules", "device_ui.settings.fields", "device_ui.settings.store"} <= set(names)


def test_cycle_of_components_is_found_without_a_cycle_of_modules():
    there = Arrow("device_ui.web.pages.smtp", "device_ui.web.auth.guard")
    back = Arrow("device_ui.web.auth.throttle", "device_ui.web.pages.language", for_types=True)
    assert cycles([there, back]) == []
    assert cycles(between_components([there, back])) == ["web.auth", "web.pages"]


def test_cycle_for_types_alone_is_none():
    there, back = Arrow("device_ui.a", "device_ui.b"), Arrow("device_ui.b", "device_ui.a", for_types=True)
    assert cycles([there, back]) == []
    assert cycles([there, Arrow("device_ui.b", "device_ui.a")]) == ["device_ui.a", "device_ui.b"]


# What a process loads.


def loaded(code: str, *words: str) -> set[str]:
    """Return the modules of a fresh interpreter after this code; without coverage, which loads its own."""
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
    # What pathlib and dataclasses load differs between the versions of Python.
    found = loaded(WEB) - loaded("import bottle, waitress, pathlib, dataclasses, typing")
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

    made = started()
    assert "cryptography" in made  # for the public key
    assert {each for each in made if each.rpartition(".")[2] in ("backend", "rsa", "ec")} == set()
    assert started() & UNNEEDED == set()


def test_a_start_that_finishes_no_reset_loads_nothing_to_stop_units_and_to_print(folders):
    code = (
        "import sys\nfrom pathlib import Path\nfrom device_ui.config import Folders\nfrom device_ui.cli import launch\n"
    )
    found = loaded(
        f"{code}launch.finish_reset(Folders(*map(Path, sys.argv[1:])))",
        *map(str, (folders.data, folders.run, folders.etc)),
    )
    assert "device_ui.cli.factory_reset" in found
    assert found & {"subprocess", "device_ui.cli.output", "device_ui.csv_export"} == set()


def test_a_mail_is_composed_without_the_names_of_characters():
    found = loaded("from tests.helpers import mails\nmails.single('en')")
    assert "device_ui.mail.message.render" in found and "html.entities" not in found


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
