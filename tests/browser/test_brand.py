"""A maker's looks in a real browser: axe-core finds nothing, the logo is drawn and moves nothing, and runs nothing."""

from __future__ import annotations

import base64
import re

import pytest

from tests.browser.conftest import Running, give_cookie
from tests.browser.test_access import TAGS, found, look_everywhere
from tests.helpers.product import Product, settings_form
from tests.web.test_branding import SVG, branded

# Words, style and, for whoever opens it by itself, a script and a form.
LOGO = (
    SVG + b'viewBox="0 0 96 32"><style>path{fill:#0a6b3c}@media (prefers-color-scheme:dark){path{fill:#6fd3a0}}</style>'
    b'<path d="M0 0h96v32H0z"/><script>document.documentElement.remove()</script></svg>'
)
# The weakest colours that are let through: nothing is to spare.
WEAKEST = {"accent": "#6d6d6d", "accent_dark": "#919191"}
TEXT = """
[device]
name = "NAS-4"
[brand]
name = "\ud55c\ube5b"
logo = "logo.svg"
"""
DRAWN = """
async kind => {
  const canvas = Object.assign(document.createElement("canvas"), {width: 90, height: 30});
  canvas.getContext("2d").fillRect(0, 0, 90, 30);
  return canvas.toDataURL(kind).split(",")[1];
}
"""
SIZE = "logo => [logo.complete, logo.naturalWidth / logo.naturalHeight, logo.getBoundingClientRect().height]"


@pytest.fixture(scope="module")
def signed(tmp_path_factory):
    """A branded device that is set up, and a client that is signed in to it."""
    with Product(tmp_path_factory.mktemp("branded")) as product:
        colours = "".join(f'{name} = "{colour}"\n' for name, colour in WEAKEST.items())
        branded(product, TEXT + colours, **{"logo.svg": LOGO}).start()
        assert product.call("check").stdout.count("FAIL") == 0
        client = product.logged_in()
        assert client.update(**settings_form(2599)).status == 303
        yield Running(product, client)


def test_axe_finds_nothing_with_the_weakest_colours_that_are_taken(revisit, signed):
    visitor = revisit(signed.product)
    give_cookie(visitor, signed.client)
    visitor.open("/smtp")
    # What only some states show: a banner's button, and a list of errors.
    visitor.page.locator(".toast").evaluate("toast => toast.hidden = false")
    visitor.update()
    look_everywhere(visitor)


def test_axe_finds_a_colour_that_would_not_be_taken(revisit, signed):
    visitor = revisit(signed.product)
    give_cookie(visitor, signed.client)
    visitor.open("/smtp")
    visitor.page.evaluate("document.documentElement.style.setProperty('--blue', '#8a8a8e')")
    assert [each for each in found(visitor, runOnly=TAGS) if each.startswith("color-contrast")]


def test_a_button_under_the_pointer_is_no_weaker(revisit, signed):
    visitor = revisit(signed.product)
    visitor.open("/login")
    button = visitor.page.get_by_role("button", name="Sign in")
    button.hover()
    assert button.evaluate("button => getComputedStyle(button).filter") == "none"


def test_the_logo_is_drawn_and_moves_nothing_below_it(visit, signed):
    visitor, held = visit(signed.product), []
    visitor.page.route("**/logo-*", lambda route: held.append(route))
    with visitor.page.expect_request("**/logo-*"):
        visitor.page.goto(f"http://127.0.0.1:{visitor.port}/login", wait_until="domcontentloaded")
    main, logo = visitor.page.locator("main"), visitor.page.get_by_role("banner").locator("img")
    assert not logo.evaluate(SIZE)[0]
    before = main.bounding_box()
    held[0].continue_()
    visitor.page.wait_for_load_state("load")
    assert logo.evaluate(SIZE) == [True, 3, 32]
    assert main.bounding_box() == before


def test_a_logo_with_a_script_runs_nothing(visit, signed):
    visitor = visit(signed.product)
    visitor.open("/login")
    visitor.open(visitor.page.locator("img").get_attribute("src"))
    assert visitor.page.locator("path").count() == 1
    (blocked,) = visitor.complaints
    assert "Blocked script execution" in blocked and "sandboxed" in blocked
    visitor.complaints.clear()


@pytest.mark.parametrize("kind", ["image/webp", "image/png"])
def test_a_picture_that_a_program_wrote_is_drawn(visit, product, kind):
    visitor = visit(product)
    raw = base64.b64decode(visitor.page.evaluate(DRAWN, kind))  # on the empty page that a browser opens with
    name = f"logo.{kind.partition('/')[2]}"
    branded(product, TEXT.replace("logo.svg", name), **{name: raw}).start_web()
    visitor.open("/setup")
    logo = visitor.page.get_by_role("banner").locator("img")
    assert logo.evaluate(SIZE) == [True, 3, 32]
    assert re.search(r"/logo-\w+\." + kind.partition("/")[2], logo.get_attribute("src"))
