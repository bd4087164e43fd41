"""The picture above the History: a bar for each day or hour as inline SVG of 4 KB at most. Pure.

Faults are stacked on infos, and a triangle above a bar marks events that did not reach everybody: by its form and place, and
not by a colour alone (WCAG 2.2, 1.4.1). The picture is hidden from screen readers and from the keyboard; the page has the
same counts and links in a table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bottle import html_escape

# Bytes. A page with a picture shall cost a phone no more than one without.
SIZE_MAXIMUM = 4096
# Units of the picture: one in x for each bar, and in y the whole height and that of the highest bar.
HEIGHT, BAR_HEIGHT = 60, 48
# The least height: one fault among a thousand infos must be seen.
LEAST = 2

Bar = Mapping[str, Any]


def svg(bars: Sequence[Bar], link: Callable[[Bar], str]) -> str:
    """Return the picture; `link` returns the address of a bar, ``""`` for none.

    Links that would make it larger than `SIZE_MAXIMUM`, such as those of a long text that is searched for, are left out.
    """
    maximum = max((bar["fault"] + bar["info"] for bar in bars), default=0)
    infos, faults, marks, links = [], [], [], []
    for x, bar in enumerate(bars):
        info, fault = (_height(bar[name], maximum) for name in ("info", "fault"))
        # Relative commands without blanks: thirty bars in three paths take a quarter of what thirty elements would.
        infos += [f"M{x} {HEIGHT}v-{info}h.8v{info}z"] if info else []
        faults += [f"M{x} {HEIGHT - info}v-{fault}h.8v{fault}z"] if fault else []
        marks += [f"M{x} {HEIGHT - info - fault - 2}h.8l-.4-6z"] if bar["lost"] else []
        # The whole height is the target, so that a low bar can be hit.
        address = html_escape(link(bar))
        links += [f'<a href="{address}" tabindex="-1"><path d="M{x} 0h1v{HEIGHT}h-1z"/></a>'] if address else []
    paths = [
        f'<path class="{name}" d="{"".join(of)}"/>' for name, of in (("i", infos), ("f", faults), ("u", marks)) if of
    ]
    head = f'<svg class="bars" viewBox="0 0 {len(bars)} {HEIGHT}" preserveAspectRatio="none" aria-hidden="true">'
    plain = f"{head}{''.join(paths)}</svg>"
    whole = f"{head}{''.join(paths)}{''.join(links)}</svg>"
    return whole if len(whole.encode()) <= SIZE_MAXIMUM else plain


def _height(count: int, maximum: int) -> int:
    # Two least heights may stack beside a highest bar: they have room below the mark.
    return max(LEAST, count * (BAR_HEIGHT - LEAST) // maximum) if count else 0
