"""Who gets in: the request's host, its origin, its session; through the real door with bytes that no browser sends."""

from __future__ import annotations

import re
import socket
from http.client import HTTPException
from pathlib import Path

import pytest
from bottle import HTTPError, request, response

from device_ui.config import Device
from device_ui.web import app
from device_ui.web.auth import return_path
from device_ui.web.auth.administrator import Administrator
from device_ui.web.auth.guard import Guard, address, own_names
from device_ui.web.auth.sessions import Sessions
from device_ui.web.auth.throttle import Throttle
from tests.helpers import document
from tests.helpers.product import (
    ADMIN_PASSWORD,
    SECONDS,
    Browser,
    Product,
    choose_password,
    listens,
    raw,
    settings_form,
    wait_for,
)
from tests.web.auth.test_sessions import Clock
from tests.web.auth.test_throttle import attacked

STRANGER = "This device does not go by that name. Use its address. There an administrator can add the name, under Others, Access."
FOREIGN = "This form was not sent by a page of this device."
NEW_PASSWORD = "another sentence for tests"


@pytest.fixture(scope="module")
def product(tmp_path_factory):
    """One device at work for all tests here, that its maker also calls ``nas.example``."""
    with Product(tmp_path_factory.mktemp("product")) as product:
        product.folders.etc.mkdir()
        (product.folders.etc / "device.toml").write_text('[web]\nnames = ["NAS.example"]\n')
        product.start().logged_in()
        yield product


@pytest.fixture(scope="module")
def session(product):
    return product.logged_in()


@pytest.fixture
def browser(product, session):
    """A logged-in browser; each test its own, so that it may sign out of its cookie jar."""
    return Browser(product.port, session.cookie)


def asked(product: Product, *lines: str, body: bytes = b"", version: str = "1.1") -> tuple[int, str]:
    """The status and text of a request with exactly these lines after its first."""
    first, *rest = lines
    head = "\r\n".join((f"{first} HTTP/{version}", *rest, "Connection: close", "", ""))
    answer = raw(product.port, head.encode("latin-1") + body).decode()
    return int(answer.split(" ", 2)[1]), answer


def posted(product: Product, browser: Browser, *headers: str) -> int:
    """The status of a sign-out whose headers are spelled out."""
    cookie = f"Cookie: {browser.cookie}"
    return asked(product, "POST /logout", f"Host: 127.0.0.1:{product.port}", cookie, "Content-Length: 0", *headers)[0]


# Host


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.0.0.1:8080",
        "192.0.2.7:80",
        "10.1.2.3",
        "[::1]",
        "[2001:db8::1]:8443",
        "localhost",
        "LocalHost:8080",
        "localhost.",
        "nas.example",
        "NAS.EXAMPLE:81",
        socket.gethostname(),
        f"{socket.gethostname().partition('.')[0]}.local",
    ],
)
def test_the_device_answers_to_its_addresses_and_names(product, host):
    assert asked(product, "GET /login", f"Host: {host}")[0] == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8080",
        "nas.example.evil.example",
        "evilnas.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "127.1",
        "2130706433",
        "0x7f.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:x",
        "127.0.0.1:123456",
        "127.0.0.1:80:80",
        "127.0.0.1@evil.example",
        "user@127.0.0.1",
        "127.0.0.1 evil.example",
        "127.0.0.1,evil.example",
        "127.0.0.1/",
        "[::1",
        "::1]",
        "[::1]x",
        "[evil.example]",
        "[]",
        "[::ffff:1.2.3.4.5]",
        "::1:::",
        "-",
        ".",
        "..",
        "*",
        "",
        " ",
        "\x01",
        "é",
        "١٢٧.٠.٠.١".encode().decode("latin-1"),
        "a" * 5000,
    ],
)
def test_a_strangers_name_is_answered_421(product, host):
    status, answer = asked(product, "GET /login", f"Host: {host}")
    assert status in (400, 421)
    assert 'name="password"' not in answer


def test_a_stranger_is_told_to_use_the_address(product):
    status, answer = asked(product, "GET /login", "Host: evil.example")
    assert status == 421
    assert STRANGER in answer
    assert "evil.example" not in answer


@pytest.mark.parametrize(
    ("version", "line"),
    [
        *((("1.1", path)) for path in ("GET /login", "GET /health", "GET /")),
        *(
            (("1.0", path))
            for path in (
                "GET /login",
                "GET /",
                "GET /smtp",
                "POST /health",
                "GET /health/",
                "GET http://evil.example/login",
            )
        ),
    ],
)
def test_a_request_without_a_host_is_answered_400(product, version, line):
    assert asked(product, line, version=version)[0] == 400


def test_a_name_that_was_pointed_at_the_device_sees_and_changes_nothing(product, browser):
    """DNS rebinding: the browser sends the attacker's name, and its own page's origin with it."""
    host, cookie = "Host: rebound.example", f"Cookie: {browser.cookie}"
    for path in ("/", "/smtp", "/login", "/health", "/static/style.css"):
        assert asked(product, f"GET {path}", host, cookie)[0] == 421
    origin = ("Origin: http://rebound.example", "Sec-Fetch-Site: same-origin", "Content-Length: 0")
    assert asked(product, "POST /logout", host, cookie, *origin)[0] == 421
    assert browser.get("/smtp").status == 200


@pytest.mark.parametrize("header", ["X-Forwarded-Host: evil.example", "Forwarded: host=evil.example", "X-Host: a"])
def test_no_header_of_a_proxy_is_believed(product, browser, header):
    own = f"Host: 127.0.0.1:{product.port}"
    assert asked(product, "GET /login", own, header)[0] == 200
    assert asked(product, "GET /login", "Host: evil.example", header.replace("evil.example", "127.0.0.1"))[0] == 421
    origin = f"Origin: http://127.0.0.1:{product.port}"
    assert posted(product, browser, origin.replace("127.0.0.1", "evil.example"), header) == 403


# Origin


def test_a_form_of_our_own_page_is_taken(product):
    own = f"Origin: http://127.0.0.1:{product.port}"
    for headers in ([own], [own, "Sec-Fetch-Site: same-origin"], ["Sec-Fetch-Site: same-origin"]):
        assert posted(product, Browser(product.port, "session=x"), *headers) == 303


@pytest.mark.parametrize("name", ["nas.example:81", "[::1]:8080", "192.0.2.7"])
def test_the_origin_is_compared_with_the_name_that_was_used(product, name):
    assert (
        asked(product, "POST /logout", f"Host: {name}", f"Origin: http://{name.upper()}", "Content-Length: 0")[0] == 303
    )


@pytest.mark.parametrize(
    "headers",
    [
        [],
        ["Origin: null"],
        ["Origin: "],
        ["Origin: http://evil.example"],
        ["Origin: http://127.0.0.1"],
        ["Origin: http://127.0.0.1:1"],
        ["Origin: http://localhost:{port}"],
        ["Origin: http://127.0.0.1:{port}.evil.example"],
        ["Origin: http://evil.example/http://127.0.0.1:{port}"],
        ["Origin: http://127.0.0.1:{port}@evil.example"],
        ["Origin: http://user@127.0.0.1:{port}"],
        ["Origin: http://127.0.0.1:{port}/"],
        ["Origin: http://127.0.0.1:{port} http://evil.example"],
        ["Origin: 127.0.0.1:{port}"],
        ["Origin: //127.0.0.1:{port}"],
        ["Origin: file://"],
        ["Origin: http://["],
        ["Origin: http://[::1"],
        ["Origin: \xff\xfe"],
        ["Origin: http://127.0.0.1:{port}", "Sec-Fetch-Site: cross-site"],
        ["Origin: http://127.0.0.1:{port}", "Sec-Fetch-Site: same-site"],
        ["Origin: http://127.0.0.1:{port}", "Sec-Fetch-Site: none"],
        ["Origin: http://127.0.0.1:{port}", "Sec-Fetch-Site: "],
        ["Sec-Fetch-Site: same-origin, cross-site"],
        ["Sec-Fetch-Site: cross-site"],
        ["Sec-Fetch-Site: none"],
    ],
)
def test_a_form_from_elsewhere_changes_nothing(product, browser, headers):
    assert posted(product, browser, *(each.replace("{port}", str(product.port)) for each in headers)) == 403
    assert browser.get("/smtp").status == 200


def test_a_form_from_elsewhere_is_refused_in_words(product):
    status, answer = asked(product, "POST /login", "Host: 127.0.0.1", "Content-Length: 0")
    assert status == 403
    assert FOREIGN in answer


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "TRACE"])
def test_every_method_that_may_change_something_needs_our_origin(product, browser, method):
    headers = ("Host: 127.0.0.1", f"Cookie: {browser.cookie}", "Origin: http://evil.example", "Content-Length: 0")
    assert asked(product, f"{method} /smtp", *headers)[0] == 403


# Every page but those before the login needs a session


def routes(device: Device) -> list[tuple[str, str]]:
    """Every route of the application, a new one too, with something for its wildcards."""
    found = [
        (each.method, re.sub(r"<name:[^>]*\]\*>", "style.css", each.rule))
        for each in app.routes(app.site(device)).routes
    ]
    return [each for each in found if each != ("OPTIONS", "*")]


OPEN = {
    ("GET", "/"): (303, "/smtp"),
    ("GET", "/login"): (200, None),
    ("POST", "/login"): (403, None),
    ("GET", "/setup"): (303, "/login"),
    ("POST", "/setup"): (303, "/login"),
    ("POST", "/logout"): (303, "/login"),
    ("POST", "/language"): (400, None),
    ("GET", "/health"): (200, None),
    ("GET", "/metrics"): (401, None),
    ("GET", "/static/style.css"): (200, None),
}
# The login itself, with what was typed (tests/web/pages/test_late_forms.py).
LATE = {
    ("POST", path): (403, None)
    for path in (
        *("/smtp", "/smtp/test", "/smtp/trust", "/smtp/sign-in", "/recipients"),
        *("/others/access", "/others/event-codes", "/history"),
    )
}


def wanted_login(path: str) -> str:
    """The login for who asks for a page; it leads back to most of them (tests/web/auth/test_return_path.py)."""
    page = return_path.PAGES.get(path, "")
    return f"/login?to={page.replace('/', '%2F')}" if page not in ("", "/smtp") else "/login"


def test_every_route_but_the_entrance_needs_a_session(product, session):
    session.update(**settings_form(2525))
    found = routes(Device.load(product.folders))
    assert ("GET", "/smtp") in found
    assert set(OPEN) < set(found)
    for method, path in found:
        # One wrong password is enough: the throttle counts them.
        for cookie in ("",) if (method, path) == ("POST", "/login") else ("", "session=", "session=forged", "other=1"):
            visitor = Browser(product.port, cookie)
            page = visitor.post(path, password="x") if method == "POST" else visitor.get(path)
            expected = (OPEN | LATE).get((method, path), (303, wanted_login(path)))
            assert (page.status, page.headers.get("location")) == expected, (method, path)
            assert "alarm@mail.example.com" not in page.text


def test_a_form_without_a_session_is_not_saved(product, session):
    before = product.folders.settings.read_bytes()
    page = Browser(product.port).post("/smtp", revision=session.get("/smtp").revision, **settings_form(26))
    assert (page.status, document.read(page.text).all("h1")[0].text) == (403, "Sign in")
    assert product.folders.settings.read_bytes() == before


# The cookie


def enter(product: Product, cookie: str = "", password: str = ADMIN_PASSWORD) -> tuple[Browser, str]:
    """A fresh login, by a browser that brings a cookie along; the browser and the cookie as it was set."""
    browser = Browser(product.port, cookie)
    page = browser.post("/login", password=password)
    assert page.status == 303
    return browser, page.headers["set-cookie"]


def test_the_cookie_is_for_this_site_and_no_script(product):
    _, cookie = enter(product)
    pair, *attributes = (each.strip().lower() for each in cookie.split(";"))
    assert re.fullmatch("session-[0-9a-f]{8}=[a-z0-9_-]{43}", pair)
    assert sorted(attributes) == ["httponly", "path=/", "samesite=strict"]


def test_the_cookie_is_secure_under_tls(tmp_path):
    guard, _ = guarded(tmp_path, scheme="https")
    guard.sign_in(guard.administrator.load())
    assert any("; secure" in value.lower() for name, value in response.headerlist if name == "Set-Cookie")


def proxied(folder: Path, path: str, *lines: str, body: str = "") -> str:
    """The answer of the pages behind a proxy that ends TLS, which asked in these lines."""
    head = (f"{path} HTTP/1.1", "Host: nas.example", "X-Forwarded-For: 192.0.2.7", "X-Forwarded-Proto: https", *lines)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(SECONDS)
        sock.connect(str(folder / "web.sock"))
        sock.sendall("\r\n".join((*head, "Connection: close", "", body)).encode())
        return b"".join(iter(lambda: sock.recv(65536), b"")).decode()


@pytest.fixture(scope="module")
def behind_proxy(tmp_path_factory):
    """A device whose pages listen on a Unix socket."""
    with Product(tmp_path_factory.mktemp("proxied")) as product:
        product.folders.etc.mkdir()
        (product.folders.etc / "device.toml").write_text('[web]\nnames = ["nas.example"]\n')
        choose_password(product.folders.administrator)
        product.spawn("web", "--listen", f"unix:{product.folder}/web.sock")
        wait_for(lambda: listens(product.folder / "web.sock"), what="the socket")
        yield product


def log_in_under_tls(folder: Path, *lines: str) -> str:
    """The cookie that a login through the proxy sets."""
    body = f"password={ADMIN_PASSWORD.replace(' ', '+')}"
    kind = ("Content-Type: application/x-www-form-urlencoded", f"Content-Length: {len(body)}")
    answer = proxied(folder, "POST /login", "Origin: https://nas.example", *kind, *lines, body=body)
    cookie, known = re.findall(r"(?im)^set-cookie: (.*)\r$", answer)
    assert known.startswith("__Host-device-ui-browser-")
    assert {"httponly", "path=/", "samesite=strict", "secure"} < {each.strip().lower() for each in known.split(";")}
    return cookie


def test_under_tls_the_cookie_is_secure_and_this_hosts_alone(behind_proxy):
    pair, *attributes = (each.strip() for each in log_in_under_tls(behind_proxy.folder).split(";"))
    assert re.fullmatch("__Host-session-[0-9a-f]{8}=[A-Za-z0-9_-]{43}", pair)
    assert sorted(each.lower() for each in attributes) == ["httponly", "path=/", "samesite=strict", "secure"]
    assert proxied(behind_proxy.folder, "GET /smtp", f"Cookie: {pair}").startswith("HTTP/1.1 200 ")
    assert "a login from 192.0.2.7 succeeded" in behind_proxy.log("web")


def test_under_tls_a_cookie_set_without_it_is_nobody(behind_proxy):
    """Another program of this host, or a page without TLS, can plant one; it cannot plant __Host-."""
    pair = log_in_under_tls(behind_proxy.folder).partition(";")[0].removeprefix("__Host-")
    assert proxied(behind_proxy.folder, "GET /smtp", f"Cookie: {pair}").startswith("HTTP/1.1 303 ")


def test_under_tls_a_form_from_a_page_without_it_is_refused(behind_proxy):
    answer = proxied(behind_proxy.folder, "POST /logout", "Origin: http://nas.example", "Content-Length: 0")
    assert answer.startswith("HTTP/1.1 403 ")


def test_under_tls_signing_out_takes_the_cookie(behind_proxy):
    cookie = log_in_under_tls(behind_proxy.folder).partition(";")[0]
    answer = proxied(
        behind_proxy.folder, "POST /logout", "Origin: https://nas.example", "Content-Length: 0", f"Cookie: {cookie}"
    )
    assert re.search(r"(?im)^set-cookie: __Host-session-[0-9a-f]{8}=.*secure", answer)
    assert proxied(behind_proxy.folder, "GET /smtp", f"Cookie: {cookie}").startswith("HTTP/1.1 303 ")


def test_the_socket_is_for_its_group_alone(behind_proxy):
    assert (behind_proxy.folder / "web.sock").stat().st_mode & 0o777 == 0o660


def test_without_the_proxy_no_cookie_is_called_secure(product):
    browser = Browser(product.port, headers={"X-Forwarded-Proto": "https"})
    page = browser.post("/login", password=ADMIN_PASSWORD)
    assert page.headers["set-cookie"].startswith("session-")
    assert "secure" not in page.headers["set-cookie"].lower()


def test_the_address_of_a_proxy_without_one_is_unknown(tmp_path):
    guarded(tmp_path)
    for told, plain in (("localhost", "unknown"), ("192.0.2.7\n x", "unknown"), ("::FFFF:192.0.2.7", "192.0.2.7")):
        request.environ["REMOTE_ADDR"] = told
        assert address() == plain


def test_a_cookie_that_was_there_before_is_not_adopted(product):
    planted = "session=" + "A" * 43
    browser, _ = enter(product, planted)
    assert browser.cookie != planted
    assert Browser(product.port, planted).get("/smtp").status == 303


def test_a_second_login_ends_the_first_session_of_this_browser(product):
    first, _ = enter(product)
    before = first.cookie
    assert first.post("/login", password=ADMIN_PASSWORD).status == 303
    assert Browser(product.port, before).get("/smtp").status == 303
    assert first.get("/smtp").status == 200


def test_signing_out_ends_the_session_and_takes_the_cookie(product):
    browser, _ = enter(product)
    kept = browser.cookie
    page = browser.post("/logout")
    assert (page.status, page.headers["location"]) == (303, "/login")
    assert kept.partition("=")[0] in page.headers["set-cookie"]
    assert "max-age=-1" in page.headers["set-cookie"].lower()
    assert Browser(product.port, kept).get("/smtp").status == 303


@pytest.mark.parametrize(
    "jar",
    [
        "{0}; other=1",
        "other=1; {0}",
        "a,b=c; {0}",
        'j={{"a": 1}}; {0}',
        "noise; {0}",
        "=; ;{0}",
        "expires=1;{0}",
        "ü=ü; {0}",
    ],
)
def test_another_programs_cookie_on_this_host_locks_nobody_out(product, browser, jar):
    """Cookies know no ports: what another program set there comes along, odd as it may be."""
    page = browser.get("/smtp", Cookie=jar.format(browser.cookie).encode().decode("latin-1"))
    assert page.status == 200


@pytest.mark.parametrize(
    "jar", ["", ";", "session", "session=", "=", "SESSION=x", "a,b=c", "\xff", "session=\xff" * 50]
)
def test_an_odd_cookie_is_nobody(product, jar):
    page = Browser(product.port).get("/smtp", Cookie=jar)
    assert (page.status, page.headers["location"]) == (303, "/login")


# A new password


def test_a_new_password_ends_every_session_even_if_its_owner_enters_first(product):
    """The thief's session must not survive because the owner's login came before the thief's next click."""
    thief, _ = enter(product)
    other, _ = enter(product)
    assert product.call("admin", "set-password", input=NEW_PASSWORD + "\n").returncode == 0
    try:
        owner, _ = enter(product, password=NEW_PASSWORD)
        assert [each.get("/smtp").status for each in (thief, other, owner)] == [303, 303, 200]
    finally:
        product.call("admin", "set-password", input=ADMIN_PASSWORD + "\n")
    assert owner.get("/smtp").status == 303


def test_a_login_that_began_before_the_new_password_does_not_get_in(tmp_path):
    """To check a password takes a while; the owner may change it in that while, against whoever knows the old one."""
    guard, _ = guarded(tmp_path)
    checked = guard.administrator.verify(ADMIN_PASSWORD)
    guard.administrator.set_password(NEW_PASSWORD)
    assert checked and guard.sign_in(checked) is None
    assert (guard.sessions.is_empty(), response.headerlist) == (True, [("Content-Type", "text/html; charset=UTF-8")])
    assert guard.sign_in(guard.administrator.verify(NEW_PASSWORD)) is not None


@pytest.mark.parametrize("content", [b"damaged", None])
def test_a_record_that_is_damaged_meanwhile_lets_nobody_in(tmp_path, content):
    guard, _ = guarded(tmp_path)
    checked = guard.administrator.verify(ADMIN_PASSWORD)
    guard.administrator.path.unlink() if content is None else guard.administrator.path.write_bytes(content)
    with pytest.raises(HTTPError) as caught:  # the password was right: nothing else may be said of it
        guard.sign_in(checked)
    assert (caught.value.status_code, guard.sessions.is_empty()) == (503, True)


# What is not to be seen from outside


def guarded(tmp_path, clock: Clock | None = None, scheme: str = "http", cookie: str = "") -> tuple[Guard, Clock]:
    """A guard with its own clock, and a request bound to this thread."""
    clock = clock or Clock()
    guard = Guard(Administrator(tmp_path / "a.toml"), Sessions(clock), Throttle(clock), own_names([]))
    choose_password(guard.administrator.path)
    request.bind(
        {"wsgi.url_scheme": scheme, "HTTP_HOST": "127.0.0.1", "HTTP_COOKIE": cookie, "REMOTE_ADDR": "192.0.2.1"}
    )
    response.bind()
    return guard, clock


def signed_in(guard: Guard) -> str:
    """Sign in, and bring the cookie with the next request."""
    guard.sign_in(guard.administrator.load())
    (cookie,) = [value for name, value in response.headerlist if name == "Set-Cookie" and value.startswith("session-")]
    request.bind({"HTTP_HOST": "127.0.0.1", "HTTP_COOKIE": cookie.partition(";")[0], "wsgi.url_scheme": "http"})
    return cookie


def test_ten_idle_minutes_end_it(tmp_path):
    guard, clock = guarded(tmp_path)
    signed_in(guard)
    clock.now += 599
    assert guard.session() is not None
    clock.now += 600
    assert guard.session() is None


def test_a_login_that_is_pushed_out_at_once_is_told(tmp_path):
    class Stuck(Clock):
        """Ten minutes pass between any two looks: what many logins at once do, without them."""

        def __call__(self) -> float:
            self.now += 600
            return self.now

    guard, _ = guarded(tmp_path, Stuck())
    with pytest.raises(HTTPError) as raised:
        guard.sign_in(guard.administrator.load())
    assert (raised.value.status_code, raised.value.body) == (503, "Too many logins at once. Please try again.")


def test_a_wait_is_told_in_whole_seconds_never_too_short(tmp_path):
    guard, clock = guarded(tmp_path)
    assert [guard.attempt(guard.record()) for _ in range(4)] == [0, 0, 0, 1]
    clock.now += 0.3
    assert guard.attempt(guard.record()) == 1


def test_a_try_is_over_with_its_request(tmp_path):
    guard, clock = guarded(tmp_path)
    guard.throttle = attacked(clock)
    assert [guard.attempt(guard.record()), guard.throttle.attempt("192.0.2.2")] == [0, 1]
    guard.finish_request()
    guard.finish_request()
    assert [guard.throttle.attempt(f"192.0.2.{number}") for number in (2, 3)] == [0, 1]


@pytest.mark.parametrize("content", [b"damaged", None])
def test_without_a_sound_record_only_the_console_helps(tmp_path, content):
    guard, _ = guarded(tmp_path)
    guard.administrator.path.unlink() if content is None else guard.administrator.path.write_bytes(content)
    with pytest.raises(HTTPError) as raised:
        guard.entrance()
    assert raised.value.status_code == 503
    assert "device-ui admin set-password" in raised.value.body


def test_the_makers_names_are_read_without_case():
    assert "nas.example" in own_names(["NAS.Example"])


def test_no_fault_of_ours_was_met(product):
    """After everything above."""
    with pytest.raises((OSError, HTTPException)):
        Browser(1).get("/")
    assert "Traceback" not in product.log("web")
