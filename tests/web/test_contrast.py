"""The contrast of an accent: the figures of WCAG, the style's own colours, and words that say what is missing."""

from __future__ import annotations

import re

import pytest

from device_ui.web import static_files
from device_ui.web.contrast import BESIDES, DARK, LIGHT, PLACES, TEXT, Scheme, ratio, weakness

STYLE = static_files.ASSETS["style.css"].plain.decode()
# The two blocks of variables, as the style has them: the light, and what the dark changes.
BLOCKS = [dict(re.findall(r"--([\w-]+):(#[0-9a-f]+)", block)) for block in re.findall(r":root\{(.*?)\}", STYLE)[:2]]


def long(colour: str) -> str:
    """#fff as #ffffff."""
    return colour if len(colour) == 7 else "#" + "".join(digit * 2 for digit in colour[1:])


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("#000000", "#ffffff", 21),
        ("#ffffff", "#000000", 21),
        ("#123456", "#123456", 1),
        # As the contrast checkers of WebAIM and TPGi say.
        ("#767676", "#ffffff", 4.54),
        ("#777777", "#ffffff", 4.48),
        ("#ff0000", "#ffffff", 4.00),
        ("#00ff00", "#ffffff", 1.37),
        ("#0000ff", "#ffffff", 8.59),
    ],
)
def test_ratio_is_that_of_wcag(one, other, expected):
    assert ratio(one, other) == pytest.approx(expected, abs=0.006)


@pytest.mark.parametrize(("scheme", "block"), [(LIGHT, 0), (DARK, 1)], ids=["light", "dark"])
def test_backgrounds_are_those_of_the_style(scheme: Scheme, block: int):
    assert {
        name: long(colour) for name, colour in BLOCKS[block].items() if name in scheme.variables
    } == scheme.variables


def test_every_background_of_the_style_is_looked_at():
    used = set(re.findall(r"background:var\(--([\w-]+)\)", STYLE))
    assert used - {"blue"} == {variable for variable, _, _ in PLACES} == set(LIGHT.variables) == set(DARK.variables)


@pytest.mark.parametrize(("scheme", "block"), [(LIGHT, 0), (DARK, 1)], ids=["light", "dark"])
def test_the_programs_own_colour_is_strong_enough(scheme: Scheme, block: int):
    assert weakness(long(BLOCKS[block]["blue"]), scheme) == ""


@pytest.mark.parametrize(
    ("accent", "scheme", "told"),
    [
        ("#0a6b3c", LIGHT, ""),
        ("#6fd3a0", DARK, ""),
        ("#ff8800", LIGHT, "#ff8800 has a contrast of 2.09:1 to #e3f4e8 (text in a notice); 4.5:1 is needed"),
        ("#0a6b3c", DARK, "#0a6b3c has a contrast of 2.15:1 to #143021 (text in a notice); 4.5:1 is needed"),
        ("#ffffff", LIGHT, "#ffffff has a contrast of 1.00:1 to #ffffff (the label on a button); 4.5:1 is needed"),
        ("#3a2c0a", DARK, "#3a2c0a has a contrast of 1.04:1 to #143021 (text in a notice); 4.5:1 is needed"),
    ],
)
def test_a_weak_colour_is_told_where_it_is_weakest(accent, scheme, told):
    assert weakness(accent, scheme) == told


def test_just_too_weak_is_not_rounded_up():
    greys = [f"#{level:02x}{level:02x}{level:02x}" for level in range(256)]
    told = [weakness(grey, LIGHT) for grey in greys]
    last = max(place for place, each in enumerate(told) if not each)
    assert told[: last + 1] == [""] * (last + 1)
    assert all(told[last + 1 :])
    assert "has a contrast of 4.4" in told[last + 1]
    assert all(ratio(greys[last], use.against) >= use.least for use in LIGHT.uses())


def test_the_least_ratios_are_those_of_level_aa():
    assert (TEXT, BESIDES) == (4.5, 3.0)
