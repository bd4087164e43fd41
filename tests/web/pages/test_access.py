"""Others › Access: an administrator adds the name that a router or a proxy gave the device, and takes it back."""

from __future__ import annotations

import pytest

from tests.helpers import document
from tests.helpers.product import Browser, Page, Product
from tests.web.pages.test_smtp import limited

PATH, NAME = "/others/access", "nas.lan"
STRANGER = "This device does not go by that name. Use its address. There an administrator can add the name, under Others, Access."


@pytest.fixture(scope="module")
def product(tmp_path_factory):
    """Both processes of a device that is set up."""
    with Product(tmp_path_factory.mktemp("access")) as product:
        yield product.start()


@pytest.fixture
def owner(product):
    """The administrator, who came by address; nobody added a name yet."""
    for path in product.folders.names.parent.glob(f"{product.folders.names.name}*"):
        path.unlink()
    return product.logged_in()


def change(owner: Browser, do: str, name: str, **more: str) -> Page:
    """Press a button of the page."""
    return owner.post(PATH, **{"revision": owner.get(PATH).revision, "do": do, "name": name, **more})


def reached(product: Product, name: str) -> int:
    """The status of the login page by this name."""
    return Browser(product.port).get("/login", Host=f"{name}:{product.port}").status


def test_a_name_is_added_for_good_and_taken_back(product, owner):
    """kelvin#137: a name that the router gave."""
    assert reached(product, NAME) == 421
    assert change(owner, "add", " NAS.lan\t").status == 303
    page = owner.get(PATH)
    assert "NAS.lan is on the list." in page.text and document.problems(page.text) == []
    assert reached(product, NAME) == 200
    product.stop("web")
    product.start_web()
    assert reached(product, NAME) == 200
    owner = product.logged_in()
    assert change(owner, "remove", NAME).status == 303
    assert f"{NAME} was removed." in owner.get(PATH).text
    assert reached(product, NAME) == 421


def test_a_head_request_does_not_use_up_the_notice(owner):
    assert change(owner, "add", NAME).status == 303
    owner.request("HEAD", PATH, None, {})
    assert f"{NAME} is on the list." in owner.get(PATH).text


def test_an_unknown_name_adds_nothing_not_even_itself(product, owner):
    """The page of DNS rebinding: its own name, its own origin, and a session that it cannot have."""
    revision = owner.get(PATH).revision
    body = f"revision={revision}&do=add&name=evil.example".encode()
    rebound = {"Host": f"evil.example:{product.port}", "Origin": f"http://evil.example:{product.port}"}
    page = owner.request("POST", PATH, body, rebound)
    assert page.status == 421 and STRANGER in page.text
    assert reached(product, "evil.example") == 421
    assert not product.folders.names.exists()


def test_without_a_login_nothing_is_added(product, owner):
    browser = Browser(product.port)
    page = browser.post(PATH, revision="", do="add", name=NAME)
    assert page.status == 403 and 'name="kept-name" value="nas.lan"' in page.text
    assert reached(product, NAME) == 421


def test_by_a_name_that_was_added_another_one_is_added_but_not_itself_removed(product, owner):
    change(owner, "add", NAME)
    by_name = product.logged_in()
    by_name.headers = {"Host": f"{NAME}:{product.port}"}
    origin = {"Origin": f"http://{NAME}:{product.port}"}
    login = by_name.request("POST", "/login", b"password=a+plain+sentence+for+tests", origin)
    assert login.status == 303
    revision = by_name.get(PATH).revision
    page = by_name.request("POST", PATH, f"revision={revision}&do=remove&name={NAME}".encode(), origin)
    assert page.status == 422
    assert "You reached this page by this name. Use the device’s address to remove it." in page.text
    assert by_name.request("POST", PATH, f"revision={revision}&do=add&name=nas".encode(), origin).status == 303
    assert reached(product, "nas") == 200


@pytest.mark.parametrize("name", ["", "http://nas.lan", "192.0.2.1", "nas.lan:8080", "*.lan"])
def test_what_is_no_name_is_refused_and_shown_again(product, owner, name):
    page = change(owner, "add", name)
    assert page.status == 422
    assert "Please enter a host name, such as nas.example: no address, no scheme, no port." in page.text
    assert document.read(page.text).by_id("name").attributes["value"] == name


def test_two_who_change_it_at_once_overwrite_nothing_unseen(owner):
    revision = owner.get(PATH).revision
    change(owner, "add", NAME)
    page = owner.post(PATH, revision=revision, do="add", name="other.lan")
    assert page.status == 409
    assert "The list has changed since you opened this page" in page.text


def test_a_full_flash_adds_nothing_and_says_so(product, owner):
    with limited(product):
        page = change(owner, "add", NAME)
    assert page.status == 507
    assert "Nothing was changed." in page.text
    assert reached(product, NAME) == 421


def test_a_damaged_list_opens_no_door_and_is_told(product, owner):
    change(owner, "add", NAME)
    product.folders.names.write_bytes(product.folders.names.read_bytes().replace(b"nas.lan", b"evl.lan"))
    assert reached(product, NAME) == 421
    assert reached(product, "evl.lan") == 421
    page = owner.get(PATH)
    assert "The list was damaged and could not be read. It was set aside as" in page.text
    assert change(owner, "add", NAME).status == 303
    assert reached(product, NAME) == 200


def test_a_button_of_no_form_is_refused(owner):
    assert change(owner, "x", NAME).status == 400


def test_a_change_is_logged_with_its_address(product, owner):
    before = product.log("web")
    change(owner, "add", NAME)
    assert f"the names of this device were changed from 127.0.0.1: {NAME}" in product.log("web").removeprefix(before)
