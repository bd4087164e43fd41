"""/metrics: numbers for the token alone, in the text format that Prometheus reads."""

from __future__ import annotations

import base64
import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from device_ui import __version__
from device_ui.mail import client
from device_ui.web.auth.metrics_token import MetricsToken
from device_ui.web.pages.metrics import METRICS, text
from tests.helpers.fake_hook import signed_in
from tests.helpers.product import ADMIN_PASSWORD, Browser, Page, Product, choose_password


@pytest.fixture(scope="module")
def product(tmp_path_factory):
    """One device at work for all tests here, with a program that takes no event."""
    with Product(tmp_path_factory.mktemp("product")) as product:
        product.maker('[mail]\nforward_command = "/bin/false"\n').start()
        choose_password(product.folders.administrator)
        yield product


@pytest.fixture
def token(product):
    """A fresh token."""
    return MetricsToken(product.folders.metrics_token).renew()


def scraped(product: Product, authorization: str) -> Page:
    return Browser(product.port).get("/metrics", Authorization=authorization)


def samples(page: Page) -> dict[str, float]:
    """The numbers of an answer, as Prometheus' own parser reads them, by name and labels."""
    found = {}
    for family in text_string_to_metric_families(page.text):
        assert family.documentation
        assert family.type in ("gauge", "counter")
        for each in family.samples:
            found[each.name + "".join(f" {value}" for value in each.labels.values())] = each.value
    return found


def test_the_numbers_are_those_of_the_device(product, token):
    before = samples(scraped(product, f"Bearer {token}"))
    for each in ("a", "b"):
        client.raise_event(product.folders.socket, "303", each)
    page = scraped(product, f"Bearer {token}")
    assert (page.status, page.headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    found = samples(page)
    added = {name for name in found if found[name] == before[name] + 2}
    assert added == {
        *(
            "device_ui_events_total",
            "device_ui_events_stored",
            "device_ui_events_waiting",
            "device_ui_events_to_forward",
        )
    }
    others = {name.removeprefix("device_ui_"): found[name] for name in set(found) - added}
    assert others == {
        f"info {__version__}": 1,
        "mail_hook_up": 1,
        "mail_ok": 0,  # no settings are stored
        "events_removed_total info": 0,
        "events_removed_total fault": 0,
        "events_removed_total unmailed": 0,
        "mail_delivered_timestamp_seconds": 0,
        "disk_reserve_used": 0,
        "clock_right": 1,
    }


def test_there_are_about_ten_metrics_and_no_text_of_the_device(product, token):
    client.raise_event(product.folders.socket, "303", "disk 4711 of Anna")
    page = scraped(product, f"bearer {token}")
    assert 8 <= page.text.count("# TYPE ") <= 14
    assert not re.search("4711|Anna|303", page.text)


@pytest.mark.parametrize(
    "spell",
    [
        lambda token: "",
        lambda token: "Bearer",
        lambda token: "Bearer ",
        lambda token: token,
        lambda token: f"Basic {token}",
        lambda token: f"Basic {base64.b64encode(f'admin:{ADMIN_PASSWORD}'.encode()).decode()}",
        lambda token: f"Bearer {token[:-1]}",
        lambda token: f"Bearer {token}A",
        lambda token: f"Bearer {token[:-1]}{'A' if token[-1] != 'A' else 'B'}",
        lambda token: f"Bearer {token}, Bearer {token}",
        lambda token: "Bearer " + "A" * 43,
        lambda token: "Bearer " + "é" * 43,
        lambda token: "Bearer" + " " * 4000 + token,
    ],
)
def test_a_wrong_token_gets_nothing(product, token, spell):
    page = scraped(product, spell(token).encode().decode("latin-1"))
    assert (page.status, page.headers["www-authenticate"]) == (401, "Bearer")
    assert "device_ui_" not in page.text
    assert "set-cookie" not in page.headers


def test_a_session_and_its_password_are_no_token(product, token):
    page = product.logged_in().get("/metrics")
    assert (page.status, "device_ui_" in page.text) == (401, False)


def test_a_new_token_ends_the_former_one(product, token):
    assert scraped(product, f"Bearer {token}").status == 200
    newer = product.call("metrics-token").stdout.strip()
    assert [scraped(product, f"Bearer {each}").status for each in (token, newer)] == [401, 200]
    assert product.call("metrics-token", "--remove").returncode == 0
    assert scraped(product, f"Bearer {newer}").status == 401


def test_the_device_keeps_no_token(product, token):
    path = product.folders.metrics_token
    assert token not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("damage", [b"", b"hash = 1\n", None])
def test_no_token_is_right_without_a_sound_file(tmp_path, damage):
    path = tmp_path / "metrics.toml"
    token = MetricsToken(path)
    header = f"Bearer {token.renew()}"
    assert token.is_right(header)
    path.unlink()
    if damage is not None:
        path.write_bytes(damage)
    assert not token.is_right(header)
    assert not token.is_right("Bearer ")
    assert token.is_right(f"Bearer {token.renew()}")


def test_guests_fill_no_log_through_a_damaged_file(tmp_path, caplog):
    path = tmp_path / "metrics.toml"
    path.write_bytes(b"hash = 1\n")
    token = MetricsToken(path)
    assert not any(token.is_right("Bearer " + "A" * 43) for _ in range(100))
    assert 20 <= len(caplog.messages) < 30


def test_a_hook_that_is_down_is_a_number(folders):
    pages = signed_in(folders)
    header = f"Bearer {MetricsToken(folders.metrics_token).renew()}"
    page = pages.get("/metrics", HTTP_AUTHORIZATION=header)
    assert page.status == 200
    assert samples(page) == {f"device_ui_info {__version__}": 1, "device_ui_mail_hook_up": 0}


def test_a_hook_that_was_taken_over_adds_no_line():
    keys = [key for *_, numbers in METRICS for _, key in numbers]
    assert text(dict.fromkeys(keys, "1\nevil 2"), is_up=True) == text({}, is_up=True)
