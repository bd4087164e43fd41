"""schemathesis on every form and address of the pages, by one who is logged in and one who is not: no odd answer."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from device_ui.config import Device, Folders
from device_ui.settings.fields import FIELDS
from device_ui.web import app
from device_ui.web.http.headers import HEADERS, OF_DOCUMENTS
from tests.audit.mutants import Mutant, Mutated, mutate
from tests.helpers import document
from tests.helpers.product import ADMIN_PASSWORD, PASSWORD, Browser, Product, free_port, settings_form

# Cases for each address.
CASES = int(os.environ.get("AUDIT_CASES", "100"))
# What is typed to break out of a page, a header or a template.
MARKUP = (
    '"><script src=//x></script>',
    "'><img src=x onerror=x>",
    "</title><b id=main>",
    "{{7*7}}",
    "%0d%0aX: y",
    "\r\nX: y",
)
NOW = "the revision that stands"
FORM = "application/x-www-form-urlencoded"
SOUND = {**settings_form(25), "sender_name": MARKUP[0]}


def typed(name: str, *sound: str) -> dict[str, str]:
    """A field as OpenAPI tells it: one of the `sound` values, markup, or any text."""
    schemathesis.openapi.format(name, st.sampled_from((*sound, *sound, *MARKUP)) | st.text())
    return {"type": "string", "format": name}


TEXT = typed("text", "")
REVISION = typed("revision", NOW, NOW, NOW, NOW, NOW, NOW, "")
SMTP = {each.name: typed(each.name, *each.choices, SOUND.get(each.name, "")) for each in FIELDS}


@dataclass(frozen=True)
class Address:
    """One path: its query's and its form's fields, and the statuses that its answers may have."""

    path: str
    query: Sequence[str] = ()
    form: Any = None
    statuses: Sequence[int] = (200,)

    @property
    def operation(self) -> dict[str, Any]:
        """It as OpenAPI 3.1 tells it."""
        told: dict[str, Any] = {"responses": {str(each): {"description": "-"} for each in self.statuses}}
        told["parameters"] = [{"name": name, "in": "query", "schema": TEXT} for name in self.query]
        if self.form is not None:
            schema = {"type": "object", "properties": self.form, "required": list(self.form)}
            told["requestBody"] = {"content": {FORM: {"schema": schema}}}
        return {"get" if self.form is None else "post": told}


BROKEN = (303, 400, 409, 413, 415, 422)
INSIDE = (
    Address("/smtp"),
    Address("/smtp", (), {**SMTP, "revision": REVISION}, BROKEN),
    # 429: too many tests; 503: another test runs.
    Address("/smtp/test", (), SMTP, (200, *BROKEN, 429, 503)),
    Address("/smtp", ("preset",)),
    # Not asked for by a form of its own, but by a button of the tab's.
    Address(
        "/smtp/trust",
        (),
        {**SMTP, "revision": TEXT, "offer": typed("offer", *("pin:" + "a" * 64, "ca:", "", "x") * 4)},
        (200, 400, 413, 415),
    ),
    Address("/smtp/try", (), {"token": TEXT}, (303, 400, 413, 415, 429, 503)),
    Address("/recipients", ("sort",)),
    Address("/recipients/test", (), {"address": TEXT}, (200, 400, 413, 415, 422, 429, 503)),
    Address(
        "/recipients",
        (),
        {
            "do": typed("do", *("add", "change", "remove") * 9),
            "address": typed("address", *(f"{name}@b.c" for name in "abcdefgh" * 3)),
            "lowest": typed("lowest", *("info", "fault") * 9),
            "revision": REVISION,
        },
        BROKEN,
    ),
    # 409: no such event, or its mail waits.
    Address(
        "/history",
        (),
        {"send-again": typed("number", "1", "2"), "query": TEXT},
        (303, 400, 409, 413, 415, 422, 429, 503),
    ),
    Address(
        "/history", (), {"try-now": typed("number", "1", "2"), "query": TEXT}, (303, 400, 409, 413, 415, 422, 429, 503)
    ),
    Address("/history", ("from", "to", "type", "code", "sort", "order", "page"), None, (200, 400, 422)),
    Address("/history.csv", ("from", "to", "type", "code", "sort", "order"), None, (200, 400, 422)),
    Address("/others/email-content", ("code", "form"), None, (200, 400, 422)),
    Address("/others/email-content/html", ("code", "form", "scheme"), None, (200, 400, 422)),
    Address("/others/event-codes", ("x",)),
    Address(
        "/others/event-codes",
        (),
        {
            "infos": typed("infos", *("on", "off") * 9),
            "summary_time": typed("summary_time", *("08:00", "23:59") * 9),
            "sign_of_life": typed("sign_of_life", *("off", "daily", "weekly") * 6),
            "303": typed("choice", *("at-once", "summary", "never") * 9),
            "revision": REVISION,
        },
        BROKEN,
    ),
    Address("/others/access", ("x",)),
    Address(
        "/others/access",
        (),
        {
            "do": typed("name-do", *("add", "remove") * 9),
            "name": typed("name", "ups.example.com"),
            "revision": REVISION,
        },
        BROKEN,
    ),
    # 303: these settings have no sign-in by OAuth 2.0.
    Address("/smtp/sign-in", (), {"do": typed("sign-in", "begin", "cancel")}, (303, 400, 413, 415)),
    Address("/language", (), {"language": typed("language", "en", "ko")}, (303, 400, 413, 415)),
)
OUTSIDE = (
    Address("/login", ("x",)),
    Address("/login", (), {"password": TEXT}, (303, 400, 403, 413, 415, 422, 429)),
    # 403: the login, which keeps what was typed.
    Address("/smtp", (), SMTP, (303, 400, 403, 413, 415)),
    Address("/language", (), {"language": typed("language", "en", "ko")}, (303, 400, 413, 415)),
    Address("/logout", (), {"x": TEXT}, (303, 400, 413, 415)),
    Address("/health", ("x",), None, (200, 503)),
    Address("/static/app.js", ("x",)),
)
NEW = (
    Address("/setup", ("code",)),
    Address("/setup", (), {"code": TEXT, "password": TEXT, "again": TEXT}, (303, 400, 403, 413, 415, 422, 429)),
)
FORMS = "device_ui/web/forms.py"
# What no answer may hold.
SECRETS = (PASSWORD, ADMIN_PASSWORD, "Traceback", "sealed = ")


def findings(browser: Browser, addresses: Sequence[Address], cases: int = CASES) -> Iterator[str]:
    """What is odd about the answers, a line for each address where something is."""
    for each in addresses:
        paths = {"openapi": "3.1.0", "info": {"title": "-", "version": "1"}, "paths": {each.path: each.operation}}
        for found in schemathesis.openapi.from_dict(paths).get_all_operations():
            yield from _tried(browser, each, found.ok().as_strategy(), cases)


def _tried(browser: Browser, address: Address, strategy: Any, cases: int) -> Iterator[str]:
    @given(case=strategy)
    @settings(max_examples=cases, deadline=None, suppress_health_check=list(HealthCheck))
    def one(case: Any) -> None:
        if isinstance(case.body, dict) and case.body.get("revision") == NOW:
            case.body["revision"] = browser.get(address.path).revision
        answer = case.call(base_url=f"http://127.0.0.1:{browser.port}", headers=_headers(browser))
        assert odd(answer, address) == []

    try:
        one()
    except AssertionError as error:
        yield f"{address.path}: {error}"


def _headers(browser: Browser) -> dict[str, str]:
    cookie = {"Cookie": browser.cookie} if browser.cookie else {}
    return {"Origin": f"http://127.0.0.1:{browser.port}", **cookie}


def odd(answer: Any, address: Address) -> list[str]:
    """What is wrong with one answer."""
    text = answer.content.decode()
    told = {name.lower(): value for name, (value, *_) in answer.headers.items()}
    wrong = [] if answer.status_code in address.statuses else [f"status {answer.status_code}"]
    # A style sheet or a script is no document.
    needless = OF_DOCUMENTS if address.path.startswith("/static/") and answer.status_code == 200 else ()
    wanted = [each for each in HEADERS if each[0].lower() not in needless]
    wrong += [f"{name} is missing" for name, value in wanted if told.get(name.lower()) != value]
    wrong += [f"it holds {secret}" for secret in SECRETS if secret in text]
    kind = told.get("content-type", "")
    if answer.status_code not in (303, 304) and not re.search("charset=UTF-8$", kind):
        wrong.append(f"the type is {kind}")
    wrong += [] if "x" not in told else ["a header was put in"]
    # What was typed is shown as it was typed until it is mended: a control character is refused, and never replaced.
    problems = document.problems(text) if kind.startswith("text/html") and answer.status_code != 303 else []
    return wrong + [each for each in problems if each != "invalid-codepoint"]


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """A device that is set up, with settings whose server nobody serves, and a few events."""
    with Product(tmp_path_factory.mktemp("device")) as product:
        product.start().save(**settings_form(free_port()))
        for code in ("101", "303", "999"):
            product.event(code, MARKUP[0])
        yield product


def test_who_is_logged_in_meets_no_odd_answer(busy: Product) -> None:
    assert list(findings(busy.logged_in(), INSIDE)) == []


def test_every_form_of_the_pages_is_one_of_these(tmp_path: Path) -> None:
    """By the routes themselves, so that a new form cannot be forgotten here."""
    device = Device.load(Folders(tmp_path / "data", tmp_path / "run", tmp_path / "etc"))
    forms = {route.rule for route in app.routes(app.site(device)).routes if route.method == "POST"}
    assert len(forms) > 10
    assert forms == {each.path for each in (*INSIDE, *OUTSIDE, *NEW) if each.form is not None}


def test_a_stranger_meets_no_odd_answer(busy: Product) -> None:
    busy.logged_in()
    assert list(findings(busy.browser(), OUTSIDE)) == []


def test_a_new_device_gives_no_odd_answer(product: Product) -> None:
    assert list(findings(product.start().browser(), NEW)) == []


def test_nothing_was_a_fault(busy: Product) -> None:
    assert "Traceback" not in busy.log("web") + busy.log("mailhook")


FAULTS = (
    Mutant("a code is not escaped", [("views/setup.tpl", 'value="{{code}}"', 'value="{{!code}}"')], ""),
    Mutant("a text stumbles", [(FORMS, 'fields.get(name, "")', 'fields.get(name, "").encode("latin-1").decode()')], ""),
)


@pytest.mark.parametrize("mutant", FAULTS, ids=lambda each: each.name)
def test_a_page_with_a_fault_is_found(mutant: Mutant, tmp_path: Path) -> None:
    mutate(mutant, tmp_path / "copy")
    with Mutated(tmp_path, tmp_path / "copy") as product:
        assert list(findings(product.start().browser(), NEW))
