"""How the maker wants the pages to look: name, logo and colours, each used only where it is right.

Loaded for a device whose device.toml says something of it. What is wrong is left out, and told by `device-ui check` and in the
log; it stops nothing. The colours become the end of the one stylesheet, so that the pages need no style of their own and no
browser asks for another file.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from device_ui.config import BRAND, Device
from device_ui.errors import MakerFile
from device_ui.web import contrast, picture
from device_ui.web.static_files import ASSETS, Asset, StaticFiles, packed

NAME_MAXIMUM = 40
LOGO_MAXIMUM = 32 * 1024
COLOUR = re.compile("#[0-9A-Fa-f]{6}")
# The colour of the icon in `static/`, which the accent takes the place of.
ICON_COLOUR = b"#175cd3"
# What the logo and the name look like; nothing of it is in the style of a device without them. A long name breaks, so that
# the state of the mail path and the button stay beside it.
HEAD_STYLE = (
    ".brand{display:flex;flex-wrap:wrap;align-items:center;gap:0 .75rem}.device{font-weight:400;color:var(--soft)}"
    "@media(min-width:26rem){.brand{flex:1}}"
    ".logo{display:block;height:2rem;width:auto;max-width:min(100%,16rem);object-fit:contain;object-position:left}"
)
# On paper the program's own colours stand. A brighter button under the pointer could be too weak: it is underlined.
ACCENT_STYLE = "@media screen and (prefers-color-scheme:{scheme}){{:root{{--blue:{accent};--on-blue:{label}}}}}"
HOVER_STYLE = "button:hover{filter:none;text-decoration:underline}"
SCHEMES = {"accent": ("light", contrast.LIGHT), "accent_dark": ("dark", contrast.DARK)}


@dataclass(frozen=True)
class Logo:
    """A picture of the maker's: its file, and its size in pixels of CSS."""

    asset: Asset
    width: int
    height: int


@dataclass(frozen=True)
class Brand:
    """What is right of ``brand.*``, and in `problems` what is not. `accents` are by the names of `SCHEMES`."""

    name: str
    logo: Logo | None
    logo_dark: Logo | None
    logo_text: str
    accents: Mapping[str, str]
    problems: Sequence[MakerFile]

    @property
    def title(self) -> str:
        """What a page's title ends with."""
        return self.name or self.logo_text

    def shelf(self) -> StaticFiles:
        """The files of the pages: with the colours in style and icon, and with the logo."""
        return StaticFiles(self._assets())

    def _assets(self) -> Iterator[Asset]:
        yield packed("style.css", ASSETS["style.css"].plain + self._style().encode())
        yield from (each.asset for each in (self.logo, self.logo_dark) if each)
        if "accent" in self.accents:
            icon = ASSETS["icon.svg"].plain.replace(ICON_COLOUR, self.accents["accent"].encode())
            yield packed("icon.svg", icon)

    def _style(self) -> str:
        colours = [
            ACCENT_STYLE.format(scheme=SCHEMES[name][0], accent=accent, label=SCHEMES[name][1].label)
            for name, accent in self.accents.items()
        ]
        return "".join([HEAD_STYLE if self.title else "", *colours, HOVER_STYLE if colours else ""])


def load(device: Device) -> Brand:
    """The looks of a device. Nothing is raised for what is wrong with them, or with what else is told with them."""
    path, problems = device.folders.etc / "device.toml", list(device.left_out)

    def right(name: str, judge: Callable[[str], Any]) -> Any:
        """What `judge` makes of a setting; None when the maker does not say it, or says it wrongly."""
        value = device[f"{BRAND}{name}"]
        try:
            return judge(value) if value else None
        except ValueError as error:
            problems.append(MakerFile(path, f"{BRAND}{name}: {error}"))
            return None

    name, text = right("name", _short) or "", right("logo_text", _short) or ""
    logos = {each: right(each, partial(_logo, device, each, name or text)) for each in ("logo", "logo_dark")}
    accents = {each: right(each, partial(_accent, scheme)) for each, (_, scheme) in SCHEMES.items()}
    return Brand(
        name,
        logos["logo"],
        logos["logo_dark"] if logos["logo"] else None,
        text,
        {each: accent for each, accent in accents.items() if accent},
        problems,
    )


def _short(text: str) -> str:
    text = text.strip()
    if not text:
        raise ValueError("blanks alone say nothing")
    if len(text) > NAME_MAXIMUM:
        raise ValueError(f"{len(text)} characters are too many, {NAME_MAXIMUM} are the most")
    return text


def _accent(scheme: contrast.Scheme, colour: str) -> str:
    if not COLOUR.fullmatch(colour):
        raise ValueError(f"{colour} is no colour such as #175cd3")
    weakness = contrast.weakness(colour, scheme)
    if weakness:
        raise ValueError(weakness)
    return colour.lower()


def _logo(device: Device, setting: str, told: str, name: str) -> Logo:
    """A picture in ETC, served under a name of ours. `told` is what stands for it where nobody sees it."""
    if not told:
        raise ValueError("brand.name or brand.logo_text must say what it shows")
    if setting != "logo" and not device["brand.logo"]:
        raise ValueError("there is no brand.logo beside it")
    raw = _read(device.folders.etc, name)
    found = picture.look(raw)
    return Logo(packed(f"{setting.replace('_', '-')}{found.ending}", raw), found.width, found.height)


def _read(etc: Path, name: str) -> bytes:
    path = etc / name
    if path.parent != etc or not path.name or name.startswith("."):
        raise ValueError(f"{name} is not the name of a file in {etc}")
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ValueError(f"{name} is no file")
        with path.open("rb") as file:
            raw = file.read(LOGO_MAXIMUM + 1)
    except OSError as error:
        raise ValueError(f"{name}: {os.strerror(error.errno or 0)}") from error
    if len(raw) > LOGO_MAXIMUM:
        raise ValueError(f"{name} has more than {LOGO_MAXIMUM // 1024} KiB")
    return raw
