"""What proves that a form is of a page of this device, as reported of other products: the strongest that is there decides."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import pytest

from tests.helpers.product import ADMIN_PASSWORD, Browser, Page, Product, settings_form


@pytest.fixture(scope="module")
def product(tmp_path_factory):
    """One device at work for all tests here, that its maker also calls ``nas.example``."""
    with Product(tmp_path_factory.mktemp("product")) as product:
        product.maker('[web]\nnames = ["nas.example"]\n').start().logged_in()
        yield product


@dataclass
class Silent:
    """A browser that says nothing of where a form is from, unless a test says what; with a jar of cookies by name."""

    product: Product
    host: str = ""
    jar: dict[str, str] = field(default_factory=dict)
    says: dict[str, str] = field(default_factory=dict)

    def ask(self, method: str, path: str, body: bytes | None = None) -> Page:
        headers = {"Host": self.host or f"127.0.0.1:{self.product.port}", **self.says}
        if self.jar:
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.jar.items())
        browser = Browser(self.product.port)
        page = browser.request(method, path, body, headers)
        for pair in filter(None, (browser.cookie, browser.known)):
            name, _, value = pair.partition("=")
            self.jar[name] = value.strip('"')
        return page

    def token(self, path: str = "/login") -> str:
        """The token of the forms of a page."""
        tokens = set(re.findall(r'name="token" value="([^"]*)"', self.ask("GET", path).text))
        assert len(tokens) == 1
        return tokens.pop()

    def send(self, path: str, **form: str) -> Page:
        from urllib.parse import urlencode

        return self.ask("POST", path, urlencode(form).encode())

    def log_in(self) -> Silent:
        assert self.send("/login", password=ADMIN_PASSWORD, token=self.token()).status == 303
        return self


@pytest.fixture
def silent(product):
    return Silent(product)


# The token


def test_a_browser_that_says_nothing_logs_in_and_saves_by_the_forms_own_token(silent):
    silent.log_in()
    tab = silent.ask("GET", "/smtp")
    assert tab.status == 200
    form = {**settings_form(2525), "revision": tab.revision, "token": silent.token("/smtp")}
    assert silent.send("/smtp", **form).status == 303
    assert "Saved." in silent.ask("GET", "/smtp").text


def test_every_form_of_every_page_carries_it(silent):
    silent.log_in()
    paths = (
        "/smtp",
        "/recipients",
        "/history",
        "/others/event-codes",
        "/others/email-content",
        "/others/access",
        "/nowhere",
    )
    for path in paths:
        text = silent.ask("GET", path).text
        forms = re.findall(r'<form[^>]*method="post".*?</form>', text, re.DOTALL)
        assert forms and all('name="token"' in form for form in forms), path


@pytest.mark.parametrize("token", [None, "", "x", "A" * 20, "é"])
def test_without_it_nothing_is_taken(silent, token):
    silent.log_in()
    form = settings_form(2525) if token is None else {**settings_form(2525), "token": token}
    assert silent.send("/smtp", **form).status == 403


def test_a_token_of_another_browser_is_none(product, silent):
    strange = Silent(product).token()
    assert silent.log_in().send("/logout", token=strange).status == 403
    assert silent.ask("GET", "/smtp").status == 200


def test_a_token_without_its_cookie_is_none(silent):
    token = silent.token()
    silent.jar.clear()
    assert silent.send("/login", password=ADMIN_PASSWORD, token=token).status == 403


def test_the_token_of_no_cookie_is_none(product, silent):
    """The page for a name that is not the device's sets no cookie, and has a token that everybody can know."""
    token = Silent(product, "evil.example").token()
    assert silent.send("/login", password=ADMIN_PASSWORD, token=token).status == 403


def test_the_cookie_of_the_login_page_is_no_session_and_none_later(silent):
    silent.token()
    before = dict(silent.jar)
    assert silent.ask("GET", "/smtp").status == 303
    silent.log_in()
    assert {name: silent.jar[name] for name in before} != before
    silent.jar = before
    assert silent.ask("GET", "/smtp").status == 303


def test_the_token_does_not_tell_the_cookie(silent):
    silent.log_in()
    token = silent.token("/smtp")
    assert all(token not in value for value in silent.jar.values())


def test_a_form_that_cannot_be_read_proves_nothing(product, silent):
    silent.log_in()
    for body in (b"token=%FF", b"token=a&token=a", b"x"):
        assert silent.ask("POST", "/logout", body).status == 403


# What decides


OWN, OTHER = "http://127.0.0.1:{port}", "https://evil.example"


@pytest.mark.parametrize(
    "says",
    [
        pytest.param({"Sec-Fetch-Site": "same-origin"}, id="Sec-Fetch-Site"),
        pytest.param({"Origin": OWN}, id="Origin"),
        pytest.param({"Referer": OWN + "/login?to=%2Fhistory"}, id="Referer"),
        pytest.param({"Referer": OWN}, id="Referer-without-a-path"),
        pytest.param({"Sec-Fetch-Site": "same-origin", "Origin": OTHER}, id="gorilla/csrf#187"),
        pytest.param({"Sec-Fetch-Site": "same-origin", "Origin": OTHER, "Referer": OTHER + "/"}, id="helm-api#631"),
        pytest.param({"Sec-Fetch-Site": "same-origin", "Origin": "null"}, id="sandboxed-by-a-proxys-policy"),
        pytest.param({"Sec-Fetch-Site": "same-origin", "Origin": "https://nas.example:8443"}, id="hermes-webui#368"),
        pytest.param(
            {"Sec-Fetch-Site": "same-origin", "Origin": "https://nas.customer.example", "X-Forwarded-Host": "inner"},
            id="Yuzu#2537, mcp-context-forge#3437",
        ),
        pytest.param({"Origin": OWN, "X-Forwarded-Proto": "https"}, id="portainer#12690"),
        pytest.param({"Origin": OWN, "Referer": OTHER + "/"}, id="Origin-before-Referer"),
        pytest.param({"Origin": "https://127.0.0.1:{port}"}, id="genmon#1414-tls-ended-before-the-device"),
    ],
)
def test_the_strongest_evidence_is_enough(product, silent, says):
    silent.says = {name: value.replace("{port}", str(product.port)) for name, value in says.items()}
    assert silent.send("/login", password=ADMIN_PASSWORD).status == 303


@pytest.mark.parametrize(
    "says",
    [
        pytest.param({"Sec-Fetch-Site": "cross-site", "Origin": OWN, "Referer": OWN + "/"}, id="cross-site"),
        pytest.param({"Sec-Fetch-Site": "same-site", "Origin": OWN}, id="same-site"),
        pytest.param({"Sec-Fetch-Site": "none"}, id="none"),
        pytest.param({"Sec-Fetch-Site": ""}, id="empty"),
        pytest.param({"Origin": OTHER, "Referer": OWN + "/"}, id="Origin-of-another"),
        pytest.param({"Origin": "null", "Referer": OWN + "/"}, id="Origin-null"),
        pytest.param({"Origin": ""}, id="Origin-empty"),
        pytest.param({"Referer": OTHER + "/"}, id="Referer-of-another"),
        pytest.param({"Referer": OTHER + "/?" + OWN}, id="Referer-that-names-us"),
        pytest.param({"Referer": OWN + "@evil.example/"}, id="Referer-with-a-user"),
        pytest.param({"Referer": OWN + ".evil.example/"}, id="Referer-that-begins-like-us"),
        pytest.param({"Referer": "/login"}, id="Referer-without-an-origin"),
        pytest.param({"Referer": ""}, id="Referer-empty"),
        pytest.param({"Origin": "https://127.0.0.1:{port}.evil.example"}, id="https-that-begins-like-us"),
        pytest.param({"Origin": "ftp://127.0.0.1:{port}"}, id="another-scheme"),
        pytest.param({"Origin": OTHER, "X-Forwarded-Host": "evil.example"}, id="mission-control#592"),
        pytest.param({"Origin": OTHER, "Forwarded": "host=evil.example;proto=https"}, id="hermes-webui#219"),
    ],
)
def test_evidence_against_a_form_refuses_it_even_with_the_right_token(product, silent, says):
    token = silent.token()
    silent.says = {name: value.replace("{port}", str(product.port)) for name, value in says.items()}
    assert silent.send("/login", password=ADMIN_PASSWORD, token=token).status == 403


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        pytest.param("nas.example:443", "https://nas.example", id="PegaProx#626"),
        pytest.param("nas.example", "https://nas.example:443", id="PegaProx#626-reverse"),
        pytest.param("nas.example:80", "http://nas.example", id="80"),
        pytest.param("NAS.example", "http://nas.EXAMPLE", id="case"),
    ],
)
def test_a_default_port_may_be_written_out(product, host, origin):
    silent = Silent(product, host, says={"Origin": origin})
    assert silent.send("/login", password=ADMIN_PASSWORD).status == 303


# The cookies


def test_two_devices_behind_one_name_on_two_ports_end_no_login_of_each_other(product, tmp_path):
    """OctoPrint#1479, openchamber#2377, pyload#4512."""
    with Product(tmp_path) as other:
        other.maker('[web]\nnames = ["nas.example"]\n').start().logged_in()
        jar: dict[str, str] = {}
        one, two = Silent(product, "nas.example:81", jar), Silent(other, "nas.example:82", jar)
        one.log_in()
        two.log_in()
        assert (one.ask("GET", "/smtp").status, two.ask("GET", "/smtp").status) == (200, 200)
        assert len([name for name in jar if name.startswith("session-")]) == 2
        assert len([name for name in jar if name.startswith("device-ui-browser-")]) == 2


def test_two_devices_behind_a_proxy_that_hides_the_port_have_cookies_of_their_own(product, tmp_path):
    """strom#489: the port that the device sees may be the same; the administrator's record is not."""
    with Product(tmp_path) as other:
        other.start()
        assert other.call("admin", "set-password", input=ADMIN_PASSWORD + "\n").returncode == 0
        jar: dict[str, str] = {}
        one, two = Silent(product, "127.0.0.1:8080", jar), Silent(other, "127.0.0.1:8080", jar)
        one.log_in()
        two.log_in()
        assert (one.ask("GET", "/smtp").status, two.ask("GET", "/smtp").status) == (200, 200)


def test_no_cookie_has_a_name_that_another_program_uses(product, silent):
    """archivesspace#36, open-msupply#11094: `session`, `auth` and `language` are everybody's."""
    silent.log_in()
    silent.send("/language", language="ko", token=silent.token("/smtp"))
    assert all(
        re.fullmatch(r"session-[0-9a-f]{8}|device-ui-browser-[0-9a-f]{8}|device-ui-language", name)
        for name in silent.jar
    )


# A load balancer's check


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_health_answers_http_1_0_without_a_host(product, method):
    """zulip#37805, docker-zulip#554, cerebro#494, tengine#1073."""
    from tests.helpers.product import raw

    answer = raw(product.port, f"{method} /health HTTP/1.0\r\n\r\n".encode()).decode()
    assert re.match(r"HTTP/1\.0 (200|503) ", answer)


def test_it_names_no_host_and_gets_no_cookie(product):
    from tests.helpers.product import raw

    assert "set-cookie" not in raw(product.port, b"GET /health HTTP/1.0\r\n\r\n").decode().lower()
    assert "set-cookie" not in raw(product.port, b"GET /login HTTP/1.0\r\n\r\n").decode().lower()
