"""Whether a colour can be seen where the pages use it: the contrast that WCAG 2.2 asks for at level AA. Pure.

The backgrounds are those of `static/style.css` (tests/web/test_contrast.py compares them).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

# WCAG 2.2, 1.4.3 and 1.4.11: for text; for borders, marks and the ring around what has the focus.
TEXT, BESIDES = 4.5, 3.0


class Use(NamedTuple):
    """A place where the accent stands against another colour: which place, the colour, the least ratio."""

    place: str
    against: str
    least: float


class Scheme(NamedTuple):
    """The light or the dark: the `variables` of the style, and the `label` on a button of the accent's colour."""

    label: str
    variables: Mapping[str, str]

    def uses(self) -> Iterator[Use]:
        """Every place."""
        yield Use("the label on a button", self.label, TEXT)
        for variable, place, least in PLACES:
            yield Use(place, self.variables[variable], least)


# What the accent stands on, by the variables of the style: as text of links and buttons, and as the ring around them.
PLACES = (
    ("page", "text on the page", TEXT),
    ("card", "text on a card", TEXT),
    ("input", "text in a field", TEXT),
    ("green-page", "text in a notice", TEXT),
    ("amber-page", "a ring in a banner", BESIDES),
    ("red-page", "a ring in a list of errors", BESIDES),
)
LIGHT = Scheme(
    "#ffffff",
    {
        "page": "#f4f5f7",
        "card": "#ffffff",
        "input": "#ffffff",
        "green-page": "#e3f4e8",
        "amber-page": "#fff3d6",
        "red-page": "#fdecea",
    },
)
DARK = Scheme(
    "#14171a",
    {
        "page": "#14171a",
        "card": "#1e2327",
        "input": "#14171a",
        "green-page": "#143021",
        "amber-page": "#3a2c0a",
        "red-page": "#3c1a18",
    },
)


def ratio(one: str, other: str) -> float:
    """The contrast of two colours such as ``#175cd3``, from 1 to 21 (WCAG 2.2, contrast ratio)."""
    darker, lighter = sorted((_luminance(one), _luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def weakness(accent: str, scheme: Scheme) -> str:
    """Where an accent is weakest, if that is too weak: which ratio it has there, and which is needed; else ``""``."""
    use = min(scheme.uses(), key=lambda each: ratio(accent, each.against) / each.least)
    found = ratio(accent, use.against)
    if found >= use.least:
        return ""
    # Cut, not rounded: 4.497 is not 4.5.
    return f"{accent} has a contrast of {int(found * 100) / 100:.2f}:1 to {use.against} ({use.place}); {use.least}:1 is needed"


def _luminance(colour: str) -> float:
    red, green, blue = (_linear(int(colour[place : place + 2], 16) / 255) for place in (1, 3, 5))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _linear(value: float) -> float:
    return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
