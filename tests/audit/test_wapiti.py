"""wapiti through all pages, logged in: every form and address is tried with its payloads, and nothing is found."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.audit.mutants import Mutant, Mutated, mutate
from tests.helpers.product import ROOT, Browser, Product, free_port, settings_form

WAPITI = ROOT / ".venv" / "wapiti" / "bin" / "wapiti"
SECONDS = int(os.environ.get("AUDIT_SCAN_SECONDS", "150"))
# Its modules that ask nobody but the device.
MODULES = (
    "backup,blindsql,cookieflags,crlf,csp,csrf,exec,file,htaccess,http_headers,methods,permanentxss,redirect,shellshock,"
    "sql,xss"
)
HISTORY = "views/history.tpl"
# What it says, and why it stays.
EXPECTED = {
    "Cross Site Request Forgery": "a form is guarded by its origin, not by a token, and wapiti sends ours with each",
    "Secure Flag cookie": "of the language, which is no secret, and without TLS; under TLS every cookie has it",
}


def findings(browser: Browser, folder: Path) -> tuple[dict[str, list[str]], int]:
    """What it finds, kind by kind, and how many requests of the pages it knew."""
    report, base = folder / "report.json", f"http://127.0.0.1:{browser.port}"
    words: list[str | Path] = [
        WAPITI,
        "--url",
        f"{base}/smtp",
        "--scope",
        "domain",
        "--module",
        MODULES,
        "--exclude",
        f"{base}/logout",
    ]
    words += ["--header", f"Origin: {base}", "--header", f"Cookie: {browser.cookie}", "--no-bugreport"]
    words += ["--max-scan-time", str(SECONDS // 3), "--max-attack-time", str(SECONDS // 12)]
    words += ["--format", "json", "--output", str(report), "--store-session", str(folder / "session")]
    done = subprocess.run(
        words, env={**os.environ, "HOME": str(folder)}, capture_output=True, text=True, timeout=20 * SECONDS
    )
    assert report.exists(), done.stdout + done.stderr
    told = json.loads(report.read_text())
    found = {**told["vulnerabilities"], **told["anomalies"]}
    lines = {
        kind: [f"{each['method']} {each['path']}: {each['info']}" for each in those] for kind, those in found.items()
    }
    return {kind: those for kind, those in lines.items() if those}, int(told["infos"]["crawled_pages_nbr"])


@pytest.fixture
def scanned(product: Product) -> Iterator[Product]:
    product.start().save(**settings_form(free_port()))
    for code in ("101", "303", "999"):
        product.event(code, "a text")
    yield product


def test_it_finds_nothing_unexpected(scanned: Product, tmp_path: Path) -> None:
    browser = scanned.logged_in()
    found, pages = findings(browser, tmp_path)
    # Not each of these: on a busy machine the time of a module may be over before it has seen every cookie.
    assert found and found.keys() <= EXPECTED.keys(), found
    assert pages > 50
    assert browser.get("/smtp").status == 200, "it was logged in to the end"
    assert "Traceback" not in scanned.log("web") + scanned.log("mailhook")


def test_it_finds_a_page_that_does_not_escape(tmp_path: Path) -> None:
    fault = Mutant(
        "a filter is not escaped",
        [(HISTORY, "value=\"{{typed.get(name, '')}}\"", "value=\"{{!typed.get(name, '')}}\"")],
        "",
    )
    mutate(fault, tmp_path / "copy")
    with Mutated(tmp_path, tmp_path / "copy") as product:
        found, _ = findings(product.start().logged_in(), tmp_path)
    assert "Reflected Cross Site Scripting" in found
