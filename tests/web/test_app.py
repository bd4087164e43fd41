"""Every answer of every kind: its headers, its markup, and what it does not say."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import resource
import socket
import sys
import threading
import urllib.parse
from collections.abc import Callable

import pytest
from bottle import response

from device_ui import logging_setup
from device_ui.config import Device
from device_ui.settings import keys
from device_ui.web import app, static_files
from device_ui.web.context import MAIL_PROBLEMS, AppContext, mail_path
from tests.helpers import document
from tests.helpers.product import ADMIN_PASSWORD, PASSWORD, Browser, Page, Product, raw, settings_form
from tests.helpers.served import served

# OWASP Secure Headers; spelled out here, so that a header that is dropped there is missed here.
HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'self'; img-src 'self'; script-src 'self'; "
    "connect-src 'self'; frame-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}

ALONE = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; sandbox"
# Of documents, which a style sheet and a script are not.
OF_DOCUMENTS = ("content-security-policy", "x-frame-options", "permissions-policy", "cross-origin-opener-policy")


@pytest.fixture(scope="module")
def product(tmp_path_factory):
    """One device at work for all tests here."""
    with Product(tmp_path_factory.mktemp("product")) as product:
        yield product.start()


@pytest.fixture(scope="module")
def session(product):
    """A logged-in browser of a device with settings."""
    session = product.logged_in()
    assert session.update(**settings_form(2525)).status == 303
    return session


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A client of a device whose page `/fault` raises an exception."""
    product = Product(tmp_path_factory.mktemp("site"))
    product.folders.settings.parent.mkdir(parents=True)
    pages = app.routes(app.site(Device.load(product.folders)))
    pages.route("/fault", "GET", lambda: {}[PASSWORD])
    with served(pages) as port:
        yield Browser(port)


def parsed(answer: bytes) -> Page:
    """A raw answer as a page."""
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return Page(int(first.split()[1]), headers, body.decode())


def sent(product: Product, *lines: str) -> Page:
    """The answer to exactly these lines and Host, which the server then closes."""
    head = (*lines, f"Host: 127.0.0.1:{product.port}", "Connection: close", "", "")
    return parsed(raw(product.port, "\r\n".join(head).encode("latin-1")))


def unstored(product: Product, session: Browser) -> Page:
    """Update while the web process can write no file."""
    process = product.processes["web"].pid
    before = resource.prlimit(process, resource.RLIMIT_FSIZE)
    resource.prlimit(process, resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        return session.update(**settings_form(2525))
    finally:
        resource.prlimit(process, resource.RLIMIT_FSIZE, before)


def without_key(product: Product, session: Browser) -> Page:
    """Update while the hook has no public key."""
    public = product.folders.public_key
    away = public.rename(public.with_name("away"))
    try:
        return session.update(**settings_form(2525))
    finally:
        away.rename(public)


def guessed(product: Product) -> Page:
    """Wrong passwords from another address until it must wait."""
    body = "password=wrong"
    lines = ("POST /login HTTP/1.1", f"Origin: http://127.0.0.1:{product.port}", f"Host: 127.0.0.1:{product.port}")
    kind = ("Content-Type: application/x-www-form-urlencoded", f"Content-Length: {len(body)}", "Connection: close")
    request = "\r\n".join((*lines, *kind, "", body)).encode()
    for _ in range(12):  # each may take its time on a slow machine: the delays double until they are longer
        page = parsed(raw(product.port, request, "127.0.0.9"))
        if page.status == 429:
            break
    return page


def large(product: Product) -> Page:
    """A form of 10 MB is announced."""
    return sent(product, "POST /smtp HTTP/1.1", "Content-Length: 10000000")


def streamed(product: Product, session: Browser) -> Page:
    """A test mail, whose steps come as lines."""
    form = urllib.parse.urlencode(settings_form(2525)).encode()
    lines = {"Origin": session.origin, "Accept": "application/x-ndjson"}
    return session.request("POST", "/smtp/test", form, lines)


FILES = ("the style", "the script", "the icon", "an old file")
ANSWERS: list[tuple[str, int, Callable[[Product, Browser], Page]]] = [
    ("the tab", 200, lambda product, session: session.get("/smtp")),
    ("the login", 200, lambda product, session: Browser(product.port).get("/login")),
    ("history", 200, lambda product, session: session.get("/history")),
    ("the history's file", 200, lambda product, session: session.get("/history.csv")),
    ("event codes", 200, lambda product, session: session.get("/others/event-codes")),
    ("a test, step by step", 200, lambda product, session: streamed(product, session)),
    ("health", 200, lambda product, session: Browser(product.port).get("/health")),
    ("the style", 200, lambda product, session: Browser(product.port).get("/static/style.css")),
    ("the script", 200, lambda product, session: Browser(product.port).get("/static/app.js")),
    ("the icon", 200, lambda product, session: Browser(product.port).get("/static/icon.svg")),
    ("the start", 303, lambda product, session: session.get("/")),
    ("no session", 303, lambda product, session: Browser(product.port).get("/smtp")),
    ("saved", 303, lambda product, session: session.update(**settings_form(2525))),
    ("an old file", 304, lambda product, session: session.get("/static/style.css", **{"If-None-Match": "*"})),
    ("no form", 400, lambda product, session: session.request("POST", "/smtp", b"x", {"Origin": f"http://127.0.0.1:{product.port}"})),
    ("no HTTP", 400, lambda product, session: sent(product, "GET /smtp HTTP/1.1", "bad header: x")),
    ("two lengths", 400, lambda product, session: sent(product, "POST /smtp HTTP/1.1", "Content-Length: 1, 2")),
    ("wrong password", 403, lambda product, session: Browser(product.port).post("/login", password="x")),
    ("wrong origin", 403, lambda product, session: session.request("POST", "/smtp", b"", {"Origin": "null"})),
    ("no page", 404, lambda product, session: session.get("/nowhere")),
    ("no file", 404, lambda product, session: session.get("/static/nothing.css")),
    ("wrong method", 405, lambda product, session: session.post("/health")),
    ("conflict", 409, lambda product, session: session.post("/smtp", revision="old", **settings_form(2525))),
    ("too large", 413, lambda product, session: large(product)),
    ("wrong type", 415, lambda product, session: session.request("POST", "/smtp", b"{}", {"Origin": f"http://127.0.0.1:{product.port}", "Content-Type": "application/json"})),
    ("wrong host", 421, lambda product, session: session.get("/smtp", Host="evil.example")),
    ("no date", 422, lambda product, session: session.get("/history?from=yesterday")),
    ("broken", 422, lambda product, session: session.update(host="")),
    ("too many", 429, lambda product, session: guessed(product)),
    ("large header", 431, lambda product, session: parsed(raw(product.port, b"GET /smtp HTTP/1.1\r\nX: ".ljust(8192, b"x")))),
    ("odd coding", 400, lambda product, session: sent(product, "POST /smtp HTTP/1.1", "Transfer-Encoding: gzip")),
    ("odd method", 501, lambda product, session: session.request("BREW", "/smtp", None, {})),
    ("options", 204, lambda product, session: session.request("OPTIONS", "/smtp", None, {})),
    ("no key", 503, without_key),
    ("not stored", 507, unstored),
]  # fmt: skip


@pytest.mark.parametrize(("name", "status", "ask"), ANSWERS, ids=[name for name, _, _ in ANSWERS])
def test_every_answer_carries_every_header_once(product, session, name, status, ask):
    page = ask(product, session)
    assert page.status == status
    # What is in static/ may be kept; everything else is not. A picture runs and loads nothing, opened by itself, too.
    expected = {**HEADERS, "cache-control": "no-cache"} if name in FILES else HEADERS
    if page.status == 200 and name in FILES:
        expected |= {"content-security-policy": ALONE} if name == "the icon" else dict.fromkeys(OF_DOCUMENTS)
    assert {header: page.headers.get(header) for header in HEADERS} == expected
    assert not {"server", "x-powered-by", "via"} & set(page.headers)


def test_a_fault_of_ours_carries_every_header_too(site):
    page = site.get("/fault")
    assert page.status == 500
    assert {header: page.headers.get(header) for header in HEADERS} == HEADERS


def test_no_header_is_there_twice(product):
    answer = raw(product.port, b"GET /login HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n").decode()
    names = re.findall(r"^([\w-]+):", answer.partition("\r\n\r\n")[0], re.MULTILINE)
    assert len(names) == len({name.lower() for name in names})


def test_a_page_may_set_a_header_of_its_own():
    def own(environ, start_response):
        start_response("200 OK", [("cache-control", "max-age=60")])
        return [b""]

    with served(own) as port:
        page = Browser(port).get("/")
    assert page.headers["cache-control"] == "max-age=60"
    assert page.headers["x-frame-options"] == "DENY"


@pytest.mark.parametrize(
    ("name", "status", "ask"), [each for each in ANSWERS if each[1] not in (204, 206, 304, 413, 431, 501)]
)
def test_every_page_is_sound_html_without_inline_code_and_other_hosts(product, session, name, status, ask):
    page = ask(product, session)
    if page.headers.get("content-type") == "text/html; charset=UTF-8" and page.text:
        assert document.problems(page.text) == []
    else:
        assert name in (
            "the history's file",
            "a test, step by step",
            "health",
            "the style",
            "the script",
            "the icon",
            "the start",
            "no session",
            "saved",
            "no HTTP",
            "two lengths",
            "odd coding",
        )
    assert "://" not in page.text.replace("http://www.w3.org/2000/svg", "")


@pytest.mark.parametrize(
    ("page", "wrong"),
    [
        ("<p>", "<p> stays open"),
        ("<b><i></b></i>", "</b> closes <i>"),
        ("<p id=a></p><p id=a></p>", "id a is there twice"),
        ("<label for=x></label>", "a label for nothing: x"),
        ("<input name=x>", "no label: x"),
        ("<p aria-describedby='x'></p>", "aria-describedby names no id: x"),
        ("<p onclick=x></p>", "onclick on <p>"),
        ("<p style=x></p>", "style on <p>"),
        ("<style></style>", "inline <style>"),
        ("<script>x</script>", "inline <script>"),
        ("<a href=//x></a>", "<a> leads to another host: //x"),
        ("<img src=https://x/>", "<img> leads to another host: https://x/"),
        ("<p class=a class=b></p>", "<p> has class twice"),
        ("<p><div></div></p>", "<div> in <p>"),
        ("<a href=#x></a>", "a link to no id: #x"),
    ],
)
def test_the_search_for_unsound_html_finds_it(page, wrong):
    assert wrong in document.problems(page)


@pytest.mark.parametrize("name", ["style.css", "tables.css"])
def test_a_style_loads_nothing(product, name):
    style = Browser(product.port).get(f"/static/{name}").text
    assert "url(" not in style
    assert "@import" not in style


# Faults


def test_a_fault_is_a_plain_page_and_the_trace_is_in_the_log(site, caplog):
    page = site.get("/fault")
    root = document.read(page.text)
    (main,) = root.all("main")
    assert main.text == "500 Internal Server Error The device had a fault. Its log has the details. To the SMTP tab"
    for word in ("Traceback", "KeyError", "bottle", ".py", PASSWORD):
        assert word not in page.text
    assert "| Traceback (most recent call last):" in caplog.messages


def test_a_fault_leaves_the_next_page_well(site):
    assert [site.get(path).status for path in ("/fault", "/static/style.css")] == [500, 200]


FORGED = "device_ui.web.pages.login: a login from 192.0.2.9 succeeded"
ANSI = "\x1b[31m\x1b]0;title\x07"


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        ("plain, 한국어 é", "plain, 한국어 é"),
        (f"a\n{FORGED}", f"a\\n{FORGED}"),
        (f"a\r\n{FORGED}", f"a\\r\\n{FORGED}"),
        (ANSI, r"\x1b[31m\x1b]0;title\x07"),
        ("\x7f\x85\x9b\0", r"\x7f\x85\x9b\x00"),
        ("\u2028\u2029\u202e\ud800", r"\u2028\u2029\u202e\ud800"),
    ],
)
def test_a_log_line_stays_one_plain_line_whatever_was_typed(typed, line):
    record = logging.LogRecord("device_ui", logging.INFO, "", 0, "%s", (typed,), None)
    assert logging_setup.LineFormatter(logging_setup.FORMAT).format(record) == f"device_ui: {line}"


def test_a_log_line_is_bounded():
    record = logging.LogRecord("device_ui", logging.INFO, "", 0, "x" * 9000, (), None)
    assert len(logging_setup.LineFormatter(logging_setup.FORMAT).format(record)) == 1000


def test_a_traceback_in_the_log_passes_for_no_message():
    try:
        raise ValueError(f"a\n{FORGED}\n{ANSI}")
    except ValueError:
        record = logging.LogRecord("device_ui", logging.ERROR, "", 0, "a fault", (), sys.exc_info())
    first, *rest = logging_setup.LineFormatter(logging_setup.FORMAT).format(record).split("\n")
    assert first == "device_ui: a fault"
    assert all(line.startswith("    ") for line in rest)
    assert "\x1b" not in "".join(rest)


def test_what_bottle_says_of_a_fault_passes_for_no_message(caplog):
    logging_setup.ErrorStream().write(f"Traceback\n{FORGED}\n")
    assert caplog.messages == ["| Traceback", f"| {FORGED}"]


def test_nothing_that_a_stranger_sends_forges_a_line(product):
    before = len(product.log("web"))
    typed = f"%0a{FORGED.replace(' ', '%20')}%1b[31m"
    own = f"127.0.0.1:{product.port}"
    for line in (f"GET /{typed} HTTP/1.1", f"POST /login?{typed} HTTP/1.1", f"GET /static/{typed} HTTP/1.1"):
        sent(product, line, f"User-Agent: {ANSI}", f"Referer: http://{own}/{typed}", f"X-Forwarded-For: 1\t{FORGED}")
    for field in ("password", "code", "again"):
        Browser(product.port, source="127.0.0.8").post("/login", **{field: f"x\n{FORGED}\n{ANSI}"})
    raw(product.port, f"GET / HTTP/1.1\r\nHost: x{ANSI}\n{FORGED}\r\n\r\n".encode())
    written = product.log("web")[before:]
    assert "\x1b" not in written
    assert FORGED not in written.split("\n")


# Paths and methods


@pytest.mark.parametrize(
    "path",
    ["/nowhere", "/smtp/", "/SMTP", "/smtp/../smtp", "/%00", "/<script>", "/" + "x" * 4000, "/.git/config"],
)
def test_an_unknown_path_is_answered_404_and_stays_text(product, session, path):
    page = sent(product, f"GET {path} HTTP/1.1", f"Cookie: {session.cookie}")
    assert page.status == 404
    assert document.problems(page.text) == []


@pytest.mark.parametrize("path", ["/x%20is%20damaged:%20" + "x%20is%20damaged:%20" * 250, "/Saved.", "/static/x"])
def test_a_path_is_never_looked_up_among_our_sentences(product, path):
    page = sent(product, f"GET {path} HTTP/1.1", "Accept-Language: ko")
    assert page.status == 404
    assert "<p>이 장치에 없는 페이지입니다.</p>" in page.text


@pytest.mark.parametrize(
    "path",
    [
        "/static/",
        "/static",
        "/static/../setup.cfg",
        "/static/..",
        "/static/..%2fsetup.cfg",
        "/static/%2e%2e/setup.cfg",
        "/static/%2e%2e%2fsetup.cfg",
        "/static/..%5csetup.cfg",
        "/static/....//setup.cfg",
        "/static//etc/passwd",
        "/static/%2fetc%2fpasswd",
        "//etc/passwd",
        "/static/style.css%00",
        "/static/style.css/",
        "/static/style.css/../../setup.cfg",
        "/static/Style.css",
        "/static/.hidden",
        "/static/__init__.py",
        "/static/%252e%252e/setup.cfg",
        "/views/layout.tpl",
        "/device_ui/__init__.py",
    ],
)
def test_nothing_but_the_static_files_is_served(product, path):
    page = sent(product, f"GET {path} HTTP/1.1")
    assert page.status in (400, 404)
    for word in ("[metadata]", "root:", "{{title}}", "__version__"):
        assert word not in page.text


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("style.css", "text/css; charset=UTF-8"),
        ("app.js", "text/javascript; charset=UTF-8"),
        ("tables.css", "text/css; charset=UTF-8"),
        ("tables.js", "text/javascript; charset=UTF-8"),
        ("icon.svg", "image/svg+xml"),
    ],
)
def test_static_files_are_served_with_their_type(product, name, kind):
    page = Browser(product.port).get(f"/static/{name}")
    assert page.headers["content-type"] == kind
    assert page.text.encode() == static_files.ASSETS[name].plain


def files(root: document.Element) -> list[str]:
    """The files that a page loads."""
    return [each.attributes["href"] for each in root.all("link")] + [
        each.attributes["src"] for each in root.all("script")
    ]


# Tables and lists have style and script of their own, so that the first visit of the SMTP tab stays small.
TABLES = ("icon.svg", "style.css", "tables.css", "app.js", "tables.js")


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("/smtp", ("icon.svg", "style.css", "app.js")),
        ("/recipients", TABLES),
        ("/history", TABLES),
        ("/others/event-codes", TABLES),
        ("/others/email-content", TABLES),
        ("/others/access", TABLES),
    ],
)
def test_every_file_that_a_page_names_is_there(session, path, names):
    named = files(document.read(session.get(path).text))
    assert named == [static_files.PLAIN.url(name) for name in names]
    assert {session.get(name).status for name in named} == {200}


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "TRACE"])
@pytest.mark.parametrize("path", ["/smtp", "/login", "/health", "/static/style.css"])
def test_another_method_is_answered_405(product, session, method, path):
    page = session.request(method, path, None, {"Origin": f"http://127.0.0.1:{product.port}"})
    assert page.status == 405
    assert "GET" in page.headers["allow"]


def test_signing_out_takes_no_link(session):
    assert session.get("/logout").status == 405
    assert session.get("/smtp").status == 200


@pytest.mark.parametrize("path", ["/smtp", "/login", "/health", "/static/style.css", "/nowhere", "/"])
def test_head_is_get_without_the_body(session, path):
    got, head = session.get(path), session.request("HEAD", path, None, {})
    assert (head.status, head.text) == (got.status, "")
    if path != "/nowhere":
        assert head.headers["content-length"] == got.headers["content-length"]


def test_a_body_on_get_is_not_read(product, session):
    lines = ("GET /smtp HTTP/1.1", f"Host: 127.0.0.1:{product.port}", f"Cookie: {session.cookie}", "Connection: close")
    answer = raw(product.port, "\r\n".join((*lines, "Content-Length: 9", "", "host=evil")).encode())
    assert parsed(answer).status == 200
    assert b"evil" not in answer


def test_a_query_on_the_tab_changes_nothing(session):
    assert session.get("/smtp?host=evil.example&x=%FF").text == session.get("/smtp").text


# Large forms


def test_a_form_of_10_mb_is_refused_and_the_next_page_served(product, session):
    before = product.folders.settings.read_bytes() if product.folders.settings.exists() else None
    assert large(product).status == 413
    with contextlib.suppress(OSError):  # the server may have closed before all of it was sent
        page = session.request(
            "POST", "/smtp", b"host=" + b"a" * 10_000_000, {"Origin": f"http://127.0.0.1:{product.port}"}
        )
        assert page.status == 413
    assert session.get("/smtp").status == 200
    assert (product.folders.settings.read_bytes() if product.folders.settings.exists() else None) == before


@pytest.mark.parametrize(("size", "status"), [(64 * 1024, 422), (64 * 1024 + 1, 413), (100_000, 413)])
def test_64_kib_is_the_limit(product, session, size, status):
    lines = ("POST /smtp HTTP/1.1", f"Host: 127.0.0.1:{product.port}", f"Cookie: {session.cookie}", "Connection: close")
    kind = ("Content-Type: application/x-www-form-urlencoded", f"Content-Length: {size}")
    own = f"Origin: http://127.0.0.1:{product.port}"
    revision = session.get("/smtp").revision
    body = (f"revision={revision}&host=" + "a" * size)[:size] if status == 422 else ""
    head = "\r\n".join((*lines, *kind, own, "", body)).encode()
    assert parsed(raw(product.port, head)).status == status


def test_a_form_in_chunks_is_held_to_the_same_limit(product, session):
    lines = ("POST /smtp HTTP/1.1", f"Host: 127.0.0.1:{product.port}", f"Cookie: {session.cookie}", "Connection: close")
    kind = ("Content-Type: application/x-www-form-urlencoded", "Transfer-Encoding: chunked")
    head = "\r\n".join((*lines, *kind, f"Origin: http://127.0.0.1:{product.port}", "", "")).encode()
    size = 64 * 1024 + 1
    assert parsed(raw(product.port, head + f"{size:x}\r\n".encode() + b"a" * size)).status == 413


# What the page says of the mail path


class Hook:
    """A site whose hook says what the test wants."""

    def __init__(self, word: str, **details: str) -> None:
        self.state = (word, details)


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("", ""),
        ("unset", ""),
        ("damaged", "The stored settings are damaged. Mail waits until they are typed again."),
        ("unreadable", "The mail service cannot read the settings: 535 {no}. Mail waits."),
        ("password", "The stored password cannot be opened. Mail waits until it is typed again."),
        ("login refused", "The mail server refused the login: “535 {no}”. Mail waits until the settings change, so that the account is not locked."),
        ("too many logins", "The mail server refused several logins. The new settings wait up to 20 minutes, so that the account is not locked. “Send test email” tries the saved settings at once; when it gets through, mail goes out."),
        ("server", "Mail could not be delivered yet (at the connection to the mail server): “535 {no}”. It is tried again."),
        ("queued", "Mail waits for its first try since the mail service started or the settings changed."),
        ("budget", "As many mails went out as an hour may have. Further alarms wait for the next mail, within the hour."),
        ("refused", "The last mail was refused for good (at the connection to the mail server): “535 {no}”. It is not tried again by itself."),
        ("denied", "The mail service does not know this web process's user; the maker sets it in device.toml (users.web)."),
        ("storage", "The device's storage has a problem: 535 {no}. Mail may be late."),
        ("fault", "The mail service has a fault; its log has the details. Mail is tried again."),
        ("down", "The mail service is not running. Mail is paused until it starts; events cannot be accepted."),
        ("a word of tomorrow", ""),
    ],
)  # fmt: skip
def test_each_word_of_the_hook_has_its_sentence(word, sentence):
    assert mail_path(word, {"step": "connect", "reply": "535 {no}"}).problem == sentence
    assert (word in MAIL_PROBLEMS) == bool(sentence)


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("", "Mail: ok"),
        ("unset", "Mail: not set up"),
        ("server", "Mail: late"),
        ("queued", "Mail: late"),
        ("budget", "Mail: late"),
        ("clock", "Mail: late"),
        ("refused", "Mail: some not sent"),
        ("login refused", "Mail: stopped"),
        ("too many logins", "Mail: late"),
        ("down", "Mail: stopped"),
        ("a word of tomorrow", "Mail: stopped"),
    ],
)
def test_the_head_of_a_page_says_how_the_mail_path_is(word, told):
    assert (mail_path(word, {}).state, mail_path(word, {}).is_well) == (told, word == "")


@pytest.mark.parametrize("path", ["/smtp", "/recipients", "/history", "/others/event-codes", "/others/email-content"])
def test_the_mail_path_is_in_sight_on_every_page(session, path):
    (state,) = document.read(session.get(path).text).by_class("state")
    assert state.text.startswith(("✓ Mail: ", "! Mail: "))


def test_health_is_ok_without_a_login(product, session):
    page = Browser(product.port).get("/health")
    assert (page.status, page.text, page.headers["content-type"]) == (200, "ok\n", "text/plain; charset=UTF-8")


def test_health_and_tab_tell_a_hook_that_is_down(tmp_path):
    with Product(tmp_path) as product:
        product.start_web()
        page = product.browser().get("/health")
        assert (page.status, page.text) == (503, "down\n")
        (banner,) = document.read(product.logged_in().get("/smtp").text).by_class("banner")
        assert (
            banner.text == "The mail service is not running. Mail is paused until it starts; events cannot be accepted."
        )


@pytest.mark.parametrize(("word", "status", "text"), [("", 200, "ok\n"), ("login refused", 503, "login-refused\n")])
def test_health_is_one_word(word, status, text):
    hook = Hook(word, reply="535 5.7.8 alarm@mail.example.com")
    hook.mail_state = lambda: hook.state
    response.bind()
    assert (app.health(hook), response.status_code) == (text, status)


def test_a_new_device_is_not_called_well(tmp_path):
    with Product(tmp_path) as product:
        page = product.start().browser().get("/health")
        assert (page.status, page.text) == (503, "unset\n")
        assert document.read(product.logged_in().get("/smtp").text).by_class("banner") == []


def test_the_makers_name_stays_text(tmp_path):
    with Product(tmp_path) as product:
        product.folders.etc.mkdir()
        (product.folders.etc / "device.toml").write_text('[device]\nname = "<b>NAS</b> & Söhne"\n')
        page = product.start_web().browser().get("/setup")
        root = document.read(page.text)
        assert [each.text for each in root.by_class("brand")] == ["<b>NAS</b> & Söhne"]
        assert root.all("title")[0].text == "Set up · <b>NAS</b> & Söhne"


def test_the_key_that_the_web_process_has_opens_nothing(product):
    """It knows the public key; the private one is a file of its own that this test can read as root, and it cannot."""
    assert keys.load_public(product.folders.public_key) != keys.load_private(product.folders.private_key).private
    assert os.stat(product.folders.private_key).st_mode & 0o077 == 0


def test_no_fault_of_ours_was_met(product):
    """After everything above."""
    assert "Traceback" not in product.log("web")
    assert ADMIN_PASSWORD not in product.log("web")


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        ({"error": "denied", "reason": "no"}, "The mail service does not know this web process"),
        ({"error": "not-stored", "reason": "disk I/O error"}, "The device's storage has a problem: disk I/O error."),
    ],
)
def test_a_hook_that_says_no_is_not_called_down(device, answer, sentence):
    site = AppContext(device, None, None, None, None, None)  # type: ignore[arg-type]
    device.folders.run.mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(device.folders.socket))
        listener.listen()

        def serve() -> None:
            sock, _ = listener.accept()
            with sock:
                sock.recv(65536)
                sock.sendall(json.dumps(answer).encode() + b"\n")

        thread = threading.Thread(target=serve)
        thread.start()
        assert mail_path(*site.mail_state()).problem.startswith(sentence)
        thread.join(60)
