"""The README's lines for a maker and MAKER.md's examples, as a reader would type them."""

from __future__ import annotations

import re

from tests.helpers.product import ROOT

SECTION = re.compile(r"<!-- deb -->\n(.*?)<!-- /deb -->", re.DOTALL)
STEP = re.compile(r"^[0-9]+\. (?:`([^`]+)`)?", re.MULTILINE)


def deb_steps() -> list[str]:
    """Return the steps of "I have the deb": a command each, or an empty text for what is done in a browser."""
    found = SECTION.search((ROOT / "README.md").read_text())
    assert found
    return STEP.findall(found[1])


def maker_example(title: str) -> str:
    """Return the first shell example under a heading of MAKER.md."""
    found = re.search(
        rf"^## {re.escape(title)}\n.*?```sh\n(.*?)```",
        (ROOT / "device_ui/appliance/MAKER.md").read_text(),
        re.DOTALL | re.MULTILINE,
    )
    assert found
    return found[1]
