"""The lines of "I have the deb" and the examples of the maker's guide, as a reader types them."""

from __future__ import annotations

import re

from tests.helpers.product import ROOT

APPLIANCE = ROOT / "docs" / "appliance.md"
SECTION = re.compile(r"<!-- deb -->\n(.*?)<!-- /deb -->", re.DOTALL)
STEP = re.compile(r"^[0-9]+\. (?:`([^`]+)`)?", re.MULTILINE)


def deb_steps() -> list[str]:
    """Return the steps of "I have the deb": a command each, or an empty text for a step in a browser."""
    found = SECTION.search(APPLIANCE.read_text())
    assert found
    return STEP.findall(found[1])


def maker_example(title: str) -> str:
    """Return the first shell example under a heading of the maker's guide."""
    found = re.search(
        rf"^### {re.escape(title)}\n.*?```sh\n(.*?)```",
        APPLIANCE.read_text(),
        re.DOTALL | re.MULTILINE,
    )
    assert found
    return found[1]
