"""The maker's brand on the pages: name, logo and accent colours from ``brand.*`` of device.toml, each checked by itself.

Imported only for a device that has a brand. A wrong setting is left out, logged and reported by `device-ui check`; it
stops no process. The colours are appended to the one style sheet: the pages need no style of their own, and a browser
requests no further file.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from device_ui.config import BRAND, Device
from device_ui.errors import MakerFile
from device_ui.web.static_files import ASSETS, Asset, StaticFiles, packed

NAME_MAXIMUM = 40
# Bytes; the file stays in memory, and is most of a first visit.
LOGO_MAXIMUM = 32 * 1024
# With nosniff a browser trusts the Content-Type alone, which follows from the suffix; the content is not examined.
LOGO_KINDS = (".svg", ".png", ".webp")
# Nothing else: the value is put into the style sheet, where a brace or a url() would change other rules.
COLOUR = re.compile("#[0-9A-Fa-f]{6}")
# The colour in `static/icon.svg` that the accent replaces.
ICON_COLOUR = b"#175cd3"
# Styles of logo and name; a device without them does not send these. A long name breaks, so that the state of the mail
# path and the button stay beside it.
HEAD_STYLE = (
    ".brand{display:flex;flex-wrap:wrap;align-items:center;gap:0 .75rem}.device{font-weight:400;color:var(--soft)}"
    "@media(min-width:26rem){.brand{flex:1}}"
    ".logo{display:block;height:2rem;width:auto;max-width:min(100%,16rem);object-fit:contain;object-position:left}"
)
# Printed pages keep the program's own colours. A brighter button under the pointer could be too weak: it is underlined.
ACCENT_STYLE = "@media screen and (prefers-color-scheme:{scheme}){{:root{{--blue:{accent};--on-blue:{label}}}}}"
HOVER_STYLE = "button:hover{filter:none;text-decoration:underline}"


class Scheme(NamedTuple):
    """A colour scheme of `static/style.css`: the `label` on an accent-coloured button, and backgrounds by variable."""

    name: str
    label: str
    backgrounds: Mapping[str, str]


# Backgrounds of the accent, and the contrast that WCAG 2.2 requires at level AA: 4.5 for text (1.4.3), 3 for the focus
# ring (1.4.11). `label` is the other way round: a button's label on the accent.
USES = (
    ("label", "the label on a button", 4.5),
    ("page", "text on the page", 4.5),
    ("card", "text on a card", 4.5),
    ("input", "text in a field", 4.5),
    ("green-page", "text in a notice", 4.5),
    ("amber-page", "a ring in a banner", 3.0),
    ("red-page", "a ring in a list of errors", 3.0),
)
SCHEMES = {
    "accent": Scheme(
        "light",
        "#ffffff",
        {
            "page": "#f4f5f7",
            "card": "#ffffff",
            "input": "#ffffff",
            "green-page": "#e3f4e8",
            "amber-page": "#fff3d6",
            "red-page": "#fdecea",
        },
    ),
    "accent_dark": Scheme(
        "dark",
        "#14171a",
        {
            "page": "#14171a",
            "card": "#1e2327",
            "input": "#14171a",
            "green-page": "#143021",
            "amber-page": "#3a2c0a",
            "red-page": "#3c1a18",
        },
    ),
}


@dataclass(frozen=True)
class Brand:
    """The valid settings of ``brand.*``; `problems` are the others. `accents` are colours by the names of `SCHEMES`."""

    name: str
    logo: Asset | None
    logo_dark: Asset | None
    logo_text: str
    accents: Mapping[str, str]
    problems: Sequence[MakerFile]

    @property
    def title(self) -> str:
        """The end of every page's title."""
        return self.name or self.logo_text

    def static_files(self) -> StaticFiles:
        """Return the files of the pages: the logo, and style and icon with the accents."""
        return StaticFiles(self._assets())

    def _assets(self) -> Iterator[Asset]:
        yield packed("style.css", ASSETS["style.css"].plain + self._style().encode())
        yield from (each for each in (self.logo, self.logo_dark) if each)
        if "accent" in self.accents:
            icon = ASSETS["icon.svg"].plain.replace(ICON_COLOUR, self.accents["accent"].encode())
            yield packed("icon.svg", icon)

    def _style(self) -> str:
        colours = [
            ACCENT_STYLE.format(scheme=SCHEMES[name].name, accent=accent, label=SCHEMES[name].label)
            for name, accent in self.accents.items()
        ]
        return "".join([HEAD_STYLE if self.title else "", *colours, HOVER_STYLE if colours else ""])


def load(device: Device) -> Brand:
    """Return the brand of a device. Raises nothing for a wrong setting: it is one of the brand's `problems`."""
    path, problems = device.folders.etc / "device.toml", list(device.left_out)

    def valid(name: str, check: Callable[[str], Any]) -> Any:
        """Return the checked setting; None when it is empty or wrong."""
        value = device[f"{BRAND}{name}"]
        try:
            return check(value) if value else None
        except ValueError as error:
            # Each setting by itself: a weak colour must not hide the logo.
            problems.append(MakerFile(path, f"{BRAND}{name}: {error}"))
            return None

    name, text = valid("name", _short) or "", valid("logo_text", _short) or ""
    logos = {each: valid(each, partial(_logo, device, each, name or text)) for each in ("logo", "logo_dark")}
    accents = {each: valid(each, partial(_accent, scheme)) for each, scheme in SCHEMES.items()}
    return Brand(
        name,
        logos["logo"],
        # A logo for dark mode alone would leave light mode without one.
        logos["logo_dark"] if logos["logo"] else None,
        text,
        {each: accent for each, accent in accents.items() if accent},
        problems,
    )


def weakness(accent: str, scheme: Scheme) -> str:
    """Return where an accent has too little contrast (WCAG 2.2, level AA), at its weakest; ``""`` when nowhere."""
    colours = {"label": scheme.label, **scheme.backgrounds}
    ratios = [(_contrast(accent, colours[variable]), least, variable, place) for variable, place, least in USES]
    # The one that misses its own minimum by most: 4.5 for text, 3 for the focus ring.
    ratio, least, variable, place = min(ratios, key=lambda use: use[0] / use[1])
    if ratio >= least:
        return ""
    # Truncated, not rounded: 4.497 is less than 4.5.
    return f"{accent} has a contrast of {int(ratio * 100) / 100:.2f}:1 to {colours[variable]} ({place}); {least}:1 is needed"


def _contrast(one: str, other: str) -> float:
    """Return the contrast ratio of two colours such as ``#175cd3``, from 1 to 21 (WCAG 2.2, "contrast ratio")."""

    def luminance(colour: str) -> float:
        # WCAG 2.2, "relative luminance": sRGB to linear light; 0.04045 is the corrected threshold.
        levels = (int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5))
        red, green, blue = (each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in levels)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def _short(text: str) -> str:
    text = text.strip()
    if not text:
        raise ValueError("blanks alone say nothing")
    if len(text) > NAME_MAXIMUM:
        raise ValueError(f"{len(text)} characters are too many, {NAME_MAXIMUM} are the most")
    return text


def _accent(scheme: Scheme, colour: str) -> str:
    if not COLOUR.fullmatch(colour):
        raise ValueError(f"{colour} is no colour such as #175cd3")
    problem = weakness(colour, scheme)
    if problem:
        raise ValueError(problem)
    return colour.lower()


def _logo(device: Device, setting: str, alternative: str, name: str) -> Asset:
    """Read a logo in ETC, to be served as ``logo`` or ``logo-dark``. `alternative` is its text for screen readers."""
    # WCAG 2.2, 1.1.1: an image without a text is nothing to a screen reader.
    if not alternative:
        raise ValueError("brand.name or brand.logo_text must say what it shows")
    if setting != "logo" and not device["brand.logo"]:
        raise ValueError("there is no brand.logo beside it")
    raw = _read(device.folders.etc, name)
    kind = Path(name).suffix.lower()
    if kind not in LOGO_KINDS:
        raise ValueError(f"{name} does not end in .svg, .png or .webp")
    return packed(f"{setting.replace('_', '-')}{kind}", raw)


def _read(etc: Path, name: str) -> bytes:
    path = etc / name
    # The maker's file is trusted, but a typing error must not publish /etc/shadow.
    if path.parent != etc or not path.name or name.startswith("."):
        raise ValueError(f"{name} is not the name of a file in {etc}")
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ValueError(f"{name} is no file")
        with path.open("rb") as file:
            # One byte more than allowed shows that it is too large, whatever its size.
            raw = file.read(LOGO_MAXIMUM + 1)
    except OSError as error:
        raise ValueError(f"{name}: {os.strerror(error.errno or 0)}") from error
    if len(raw) > LOGO_MAXIMUM:
        raise ValueError(f"{name} has more than {LOGO_MAXIMUM // 1024} KiB")
    return raw
