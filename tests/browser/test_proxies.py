"""An operator's own TLS proxy in front, with its defaults, and a browser: genmon#1414, nocturne#999, gorilla/csrf#187."""

from __future__ import annotations

import re

import pytest

from tests.browser.conftest import labelled
from tests.helpers.product import ADMIN_PASSWORD, Product, settings_form, wait_for
from tests.servers.proxies import PROXIES, caddy, haproxy, proxied


@pytest.fixture(scope="module")
def product(tmp_path_factory):
    """A device that knows nothing of a proxy."""
    with Product(tmp_path_factory.mktemp("device")) as product:
        product.start().logged_in()
        yield product


def log_in(page, address: str) -> None:
    page.goto(f"{address}/login")
    page.get_by_label("Administrator’s password").fill(ADMIN_PASSWORD)
    page.get_by_role("button", name="Sign in").click()


def save(page, sender: str) -> None:
    for label, text in labelled(settings_form(2525, sender_name=sender)).items():
        page.get_by_label(label, exact=True).fill(text)
    with page.expect_navigation():
        page.get_by_role("button", name="Update", exact=True).click()


@pytest.mark.parametrize("start", PROXIES, ids=lambda start: start.__name__)
def test_behind_a_proxy_with_its_defaults_one_logs_in_and_saves(chromium, product, tmp_path, start):
    with proxied(start, product, tmp_path / "proxy") as proxy:
        context = chromium.new_context(ignore_https_errors=True, locale="en-GB")
        page = context.new_page()
        log_in(page, proxy.https)
        page.wait_for_url("**/smtp")
        save(page, start.__name__)
        assert page.get_by_text("Saved.", exact=True).is_visible()
        context.close()
    assert f'sender_name = "{start.__name__}"' in product.folders.settings.read_text()


@pytest.mark.parametrize("start", (caddy, haproxy), ids=lambda start: start.__name__)
def test_by_a_name_of_the_proxys_that_was_added_one_gets_in_and_by_no_other(chromium, product, tmp_path, start):
    """Both keep the browser's Host, so that the device sees its name."""
    owner = product.logged_in()
    with proxied(start, product, tmp_path / "proxy", "nas.lan") as proxy:
        context = chromium.new_context(ignore_https_errors=True, locale="en-GB")
        page = context.new_page()
        answer = page.goto(f"{proxy.https}/login")
        assert answer and answer.status == 421
        revision = owner.get("/others/access").revision
        assert owner.post("/others/access", revision=revision, do="add", name="nas.lan").status == 303
        log_in(page, proxy.https)
        page.wait_for_url("**/smtp")
        context.close()
        revision = owner.get("/others/access").revision
        assert owner.post("/others/access", revision=revision, do="remove", name="nas.lan").status == 303


def test_haproxys_own_check_finds_the_pages_up(product, tmp_path):
    """Its `option httpchk` asks by HTTP/1.0 without a Host: cerebro#494, zulip#37805."""
    with proxied(haproxy, product, tmp_path / "proxy") as proxy:
        log = tmp_path / "proxy" / "log"
        wait_for(lambda: proxy.process.poll() is None and _status(proxy) == 200, what="a page through HAProxy")
        assert not re.search(r"Server device/device is DOWN", log.read_text())


def _status(proxy) -> int:
    import http.client
    import ssl

    context = ssl.create_default_context(cafile=str(proxy.certificate))
    connection = http.client.HTTPSConnection("127.0.0.1", proxy.port, timeout=60, context=context)
    connection.request("GET", "/login")
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status
