"""The maker's looks: name, logo and colours in the pages of a real web process, and what becomes of a wrong one: nothing waits for it."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from device_ui.config import Device
from device_ui.web import app, static_files
from device_ui.web.branding import SCHEMES, USES, Brand, load, weakness
from tests.helpers import document
from tests.helpers.product import Product, settings_form, wsgi
from tests.web.test_app import ALONE, HEADERS
from tests.web.test_static_files import WINDOW, first_visit, wire

SVG = b'<svg xmlns="http://www.w3.org/2000/svg" '
LOGO = (
    SVG
    + b'viewBox="0 0 96 32"><style>path{fill:#0a6b3c}</style><path d="M0 0h96v32H0z"/><script>alert(1)</script></svg>\n'
)
WHOLE = """
[device]
name = "NAS-4"
[brand]
name = "\ud55c\ube5b <b>& Co</b>"
logo = "logo.svg"
logo_dark = "dark.png"
logo_text = 'A "star"'
accent = "#0A6B3C"
accent_dark = "#6fd3a0"
"""
DARK_LOGO = b"\x89PNG\r\n\x1a\n"


def branded(product: Product, text: str = WHOLE, **files: bytes) -> Product:
    """A device whose maker wrote this device.toml, and `files` beside it by their names without a dot."""
    product.maker(text)
    for name, raw in {"logo.svg": LOGO, "dark.png": DARK_LOGO, **files}.items():
        (product.folders.etc / name).write_bytes(raw)
    return product


def looks(product: Product, text: str) -> Brand:
    """What becomes of a device.toml."""
    return load(Device.load(branded(product, text).folders))


@pytest.fixture(scope="module")
def longest(tmp_path_factory):
    """A device with the brand that adds most to a page, and a password and a host as long as usual ones."""
    text = WHOLE.replace("한빛 <b>& Co</b>", "가" * 40)
    with Product(tmp_path_factory.mktemp("longest")) as product:
        branded(product, text).start()
        assert "FAIL" not in product.call("check").stdout
        assert product.logged_in().update(**settings_form(587, host="smtp.mail-provider.example")).status == 303
        yield product


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """A device with a whole brand, at work; with settings as long as usual ones."""
    with Product(tmp_path_factory.mktemp("branded")) as product:
        branded(product).start()
        assert product.logged_in().update(**settings_form(587, host="smtp.mail-provider.example")).status == 303
        yield product


@pytest.fixture(scope="module")
def page(running):
    """Its login page."""
    return document.read(running.browser().get("/login").text)


def served(product: Product, pattern: str) -> tuple[str, bytes, dict[str, str]]:
    """A file that the login page loads: its path, its bytes, its headers."""
    path = re.search(rf'"(/static/{pattern})"', product.browser().get("/login").text)
    assert path
    head, _, body = wire(product, path[1]).partition(b"\r\n\r\n")
    lines = [line.partition(": ") for line in head.decode().split("\r\n")[1:]]
    return path[1], body, {name.lower(): value for name, _, value in lines}


# The pages


def test_the_name_stands_in_head_and_title_as_text(page):
    brand = page.by_class("brand")[0]
    assert brand.text.split() == "한빛 <b>& Co</b> NAS-4".split()
    assert page.all("title")[0].text == "Sign in · NAS-4 · 한빛 <b>& Co</b>"
    assert [each.text for each in page.all("b")] == ["English"]  # of the choice of a language


def test_the_logo_has_its_words_and_a_variant_for_the_dark(page):
    logo, dark = page.all("img")[0].attributes, page.all("source")[0].attributes
    assert (logo["alt"], dark["media"]) == ('A "star"', "(prefers-color-scheme:dark)")


@pytest.mark.parametrize(
    ("pattern", "body", "kind"),
    [
        (r"logo-[0-9a-f]{10}\.svg", LOGO, "image/svg+xml"),
        (r"logo-dark-[0-9a-f]{10}\.png", DARK_LOGO, "image/png"),
    ],
)
def test_the_logo_is_kept_for_ever_under_the_name_of_its_content(running, pattern, body, kind):
    _, found, headers = served(running, pattern)
    assert found == body
    assert headers["content-type"] == kind
    assert headers["cache-control"] == "public, max-age=31536000, immutable"
    assert headers["x-content-type-options"] == "nosniff"


def test_an_svg_that_is_opened_by_itself_may_do_nothing(running):
    _, _, headers = served(running, r"logo-[0-9a-f]{10}\.svg")
    assert headers["content-security-policy"] == ALONE
    _, _, icon = served(running, r"icon-[0-9a-f]{10}\.svg")
    assert icon["content-security-policy"] == ALONE


def test_the_colours_are_in_the_one_style_and_in_the_icon(running):
    _, style, headers = served(running, r"style-[0-9a-f]{10}\.css")
    own = static_files.ASSETS["style.css"].plain
    assert style.startswith(own)
    light = "@media screen and (prefers-color-scheme:light){:root{--blue:#0a6b3c;--on-blue:#ffffff}}"
    dark = "@media screen and (prefers-color-scheme:dark){:root{--blue:#6fd3a0;--on-blue:#14171a}}"
    assert light in style.decode() and dark in style.decode()
    assert headers["cache-control"] == "public, max-age=31536000, immutable"
    _, icon, _ = served(running, r"icon-[0-9a-f]{10}\.svg")
    assert (
        icon
        == static_files.ASSETS["icon.svg"].plain.replace(b"#175cd3", b"#0a6b3c")
        != static_files.ASSETS["icon.svg"].plain
    )


def test_the_policy_of_the_pages_stays_as_it_is(running):
    answer = running.browser().get("/login")
    assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS
    assert document.problems(answer.text) == []


@pytest.mark.parametrize("language", ["en", "ko"])
def test_the_whole_tab_fits_into_one_window_of_tcp_with_the_longest_brand(longest, language):
    """The logo is the maker's, up to 32 KiB; it comes once, and the page is complete without it."""
    shown = longest.browser().get("/login").text
    assert ("가" * 40 in shown, shown.count("/static/logo")) == (True, 2)
    assert first_visit(longest, language) <= WINDOW


def test_no_route_but_the_files_is_added(running):
    assert running.browser().get("/static/logo.svg").headers["cache-control"] == "no-cache"
    assert running.browser().get("/static/dark.png").status == 404
    assert running.browser().get("/static/device.toml").status == 404


def test_check_tells_the_brand(running):
    assert "OK    brand: 한빛 <b>& Co</b>\n" in running.call("check").stdout


# Parts of a brand


def test_without_a_brand_the_pages_are_what_they_were(product):
    plain = app.site(Device.load(product.folders))
    assert (plain.brand, plain.static_files) == (None, static_files.PLAIN)
    page = wsgi(app.routes(app.site(Device.load(product.maker('[device]\nname = "NAS"\n').folders))), "GET", "/nowhere")
    assert '<p class="brand">NAS</p>\n' in page.text and "<title>404 Not Found · NAS</title>" in page.text


def test_without_a_brand_nothing_of_it_is_loaded(product):
    code = (
        "import sys; from pathlib import Path; from device_ui.config import *; from device_ui.web import app;"
        "app.site(Device.load(Folders(*map(Path, sys.argv[1:])))); print('device_ui.web.branding' in sys.modules)"
    )
    at = product.folders
    for text, expected in (("[device]\nname='x'\n", "False\n"), ("[brand]\nname='x'\n", "True\n")):
        words = [sys.executable, "-c", code, str(at.data), str(at.run), str(product.maker(text).folders.etc)]
        assert subprocess.run(words, env=product.environment, capture_output=True, text=True).stdout == expected


def test_a_logo_with_words_needs_no_name(product):
    found = looks(product, '[brand]\nlogo = "logo.svg"\nlogo_text = "Hanbit"\n')
    assert (found.title, found.problems) == ("Hanbit", [])


def test_one_colour_leaves_the_other_as_it_is(product):
    found = looks(product, '[brand]\naccent = "#0a6b3c"\n')
    style = found.static_files().serve("style.css").body.decode()
    assert style.count("prefers-color-scheme:light") == 1 and style.count("prefers-color-scheme:dark") == 1
    assert ".logo" not in style


def test_the_brands_names_are_no_password(product):
    device = Device.load(branded(product).folders)
    assert {"한빛 <b>& Co</b>", 'A "star"'} < set(device.guessable_names)


# What is wrong

AT = '[brand]\nname = "Hanbit"\n'
WRONG = {
    'nam = "x"': "brand.nam is no setting",
    'logo = ["logo.svg"]': "brand.logo must be a text",
    'logo_text = "a\\nb"': "brand.logo_text must be printable",
    "logo_text = '" + 41 * "x" + "'": "brand.logo_text: 41 characters are too many, 40 are the most",
    "logo_text = '  '": "brand.logo_text: blanks alone say nothing",
    'accent = "green"': "brand.accent: green is no colour such as #175cd3",
    'accent = "#0a6"': "brand.accent: #0a6 is no colour such as #175cd3",
    'accent = "#0a6b3c;}"': "brand.accent: #0a6b3c;} is no colour such as #175cd3",
    'accent = "#ff8800"': "brand.accent: #ff8800 has a contrast of 2.09:1 to #e3f4e8 (text in a notice); 4.5:1 is needed",
    'accent_dark = "#0a6b3c"': "brand.accent_dark: #0a6b3c has a contrast of 2.15:1 to #143021 (text in a notice); 4.5:1 is needed",
    'logo = "none.svg"': "brand.logo: none.svg: No such file or directory",
    'logo = "../etc/logo.svg"': "brand.logo: ../etc/logo.svg is not the name of a file in {etc}",
    'logo = "/etc/hostname"': "brand.logo: /etc/hostname is not the name of a file in {etc}",
    'logo = ".."': "brand.logo: .. is not the name of a file in {etc}",
    'logo = "folder"': "brand.logo: folder is no file",
    'logo = "pipe"': "brand.logo: pipe is no file",
    'logo = "large.svg"': "brand.logo: large.svg has more than 32 KiB",
    'logo = "device.toml"': "brand.logo: device.toml does not end in .svg, .png or .webp",
    'logo_dark = "logo.svg"': "brand.logo_dark: there is no brand.logo beside it",
}


@pytest.mark.parametrize("line", WRONG, ids=[line.partition(" =")[0] + str(n) for n, line in enumerate(WRONG)])
def test_what_is_wrong_is_left_out_and_told_in_one_line(product, line):
    branded(product, f"{AT}{line}\n", **{"large.svg": LOGO.ljust(32 * 1024 + 1)})
    (product.folders.etc / "folder").mkdir()
    os.mkfifo(product.folders.etc / "pipe")
    found = load(Device.load(product.folders))
    assert [each.reason for each in found.problems] == [WRONG[line].replace("{etc}", str(product.folders.etc))]
    assert (found.name, found.logo, found.logo_dark, found.logo_text, found.accents) == ("Hanbit", None, None, "", {})


def test_a_logo_is_never_without_a_text(product):
    branded(product, "[brand]\nlogo = 'logo.svg'\nname = ' '\nlogo_text = '  Hanbit '\n")
    found = load(Device.load(product.folders))
    assert (found.name, found.logo_text, found.logo is not None) == ("", "Hanbit", True)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('brand = "x"', "brand is no setting"),
        ("[[brand]]\nname = 'x'", "brand is no setting"),
        ('[brand]\nlogo = "logo.svg"\n', "brand.logo: brand.name or brand.logo_text must say what it shows"),
        ("[brand.name]\nx = 1", "brand.name must be a text"),
        ('[brand]\ncolour = "red"', "brand.colour is no setting"),
    ],
)
def test_a_brand_of_the_wrong_shape_is_told_likewise(product, text, reason):
    device = Device.load(branded(product, text).folders)
    found = load(device)
    assert [each.reason for each in found.problems] == [reason]
    assert (found.title, device.is_branded) == ("", True)


def test_without_a_logo_for_the_light_there_is_none_for_the_dark(product):
    found = looks(product, AT + 'logo = "none.svg"\nlogo_dark = "dark.png"\n')
    assert (len(found.problems), found.logo, found.logo_dark) == (1, None, None)


def test_a_logo_of_the_largest_size_is_taken(product):
    branded(product, AT + 'logo = "Hanbit.WEBP"\n', **{"Hanbit.WEBP": bytes(32 * 1024)})
    found = load(Device.load(product.folders))
    assert found.problems == []
    assert found.logo and found.logo.name == "logo.webp"


def test_no_alarm_waits_for_a_wrong_brand(product):
    """Both processes start, an event is accepted, the pages have the program's own looks; check and the log name each mistake."""
    text = '[device]\nname = "NAS"\n[brand]\nlogo = 7\ncolor = "red"\naccent = "#ffff00"\n'
    assert branded(product, text).start().event() == 1
    assert '<p class="brand">NAS</p>' in product.browser().get("/setup").text
    done = product.call("check")
    path = product.folders.etc / "device.toml"
    expected = [
        f"{path}: brand.logo must be a text",
        f"{path}: brand.color is no setting",
        f"{path}: brand.accent: #ffff00 has a contrast of 1.01:1 to #f4f5f7 (text on the page); 4.5:1 is needed",
    ]
    assert done.returncode == 78
    told = [line.removeprefix("WARN  brand: ") for line in done.stdout.splitlines() if line.startswith("WARN  brand: ")]
    assert [each.removesuffix("; not used") for each in told] == expected
    logged = [line.partition(": ")[2] for line in product.log("web").splitlines() if "brand." in line]
    assert logged == told


# Contrast: the accent on every background of the style

STYLE = static_files.ASSETS["style.css"].plain.decode()
# The variables of the two colour schemes, as the style has them: the light, and what the dark changes.
VARIABLES = [dict(re.findall(r"--([\w-]+):(#[0-9a-f]+)", block)) for block in re.findall(r":root\{(.*?)\}", STYLE)[:2]]
LIGHT, DARK = SCHEMES["accent"], SCHEMES["accent_dark"]
IN_BOTH = pytest.mark.parametrize(
    ("scheme", "variables"), [(LIGHT, VARIABLES[0]), (DARK, VARIABLES[1])], ids=["light", "dark"]
)


def long(colour: str) -> str:
    """#fff as #ffffff."""
    return colour if len(colour) == 7 else "#" + "".join(digit * 2 for digit in colour[1:])


@IN_BOTH
def test_backgrounds_are_those_of_the_style(scheme, variables):
    assert {
        name: long(colour) for name, colour in variables.items() if name in scheme.backgrounds
    } == scheme.backgrounds


def test_every_background_of_the_style_is_checked():
    used = set(re.findall(r"background:var\(--([\w-]+)\)", STYLE)) - {"blue"}
    assert {"label", *used} == {variable for variable, _, _ in USES}
    assert used == set(LIGHT.backgrounds) == set(DARK.backgrounds)


@IN_BOTH
def test_the_programs_own_accent_is_strong_enough(scheme, variables):
    assert weakness(long(variables["blue"]), scheme) == ""


@pytest.mark.parametrize(
    ("accent", "scheme", "problem"),
    [
        ("#0a6b3c", LIGHT, ""),
        ("#6fd3a0", DARK, ""),
        # The ratios of the contrast checkers of WebAIM and TPGi.
        ("#ff8800", LIGHT, "#ff8800 has a contrast of 2.09:1 to #e3f4e8 (text in a notice); 4.5:1 is needed"),
        ("#0a6b3c", DARK, "#0a6b3c has a contrast of 2.15:1 to #143021 (text in a notice); 4.5:1 is needed"),
        ("#ffffff", LIGHT, "#ffffff has a contrast of 1.00:1 to #ffffff (the label on a button); 4.5:1 is needed"),
        ("#3a2c0a", DARK, "#3a2c0a has a contrast of 1.04:1 to #143021 (text in a notice); 4.5:1 is needed"),
        ("#777777", LIGHT._replace(backgrounds=dict.fromkeys(LIGHT.backgrounds, "#ffffff")), "#777777 has a contrast of 4.47:1 to #ffffff (the label on a button); 4.5:1 is needed"),
        ("#767676", LIGHT._replace(backgrounds=dict.fromkeys(LIGHT.backgrounds, "#ffffff")), ""),
    ],
)  # fmt: skip
def test_a_weak_accent_is_refused_with_the_place_where_it_is_weakest(accent, scheme, problem):
    assert weakness(accent, scheme) == problem


def test_a_contrast_just_too_weak_is_not_rounded_up():
    problems = [weakness(f"#{level:02x}{level:02x}{level:02x}", LIGHT) for level in range(256)]
    first = next(place for place, problem in enumerate(problems) if problem)
    assert all(problems[first:])
    assert "has a contrast of 4.4" in problems[first]
