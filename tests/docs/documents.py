"""The documents of the repository: their examples, headings and links."""

from __future__ import annotations

import re
from pathlib import Path

from tests.helpers.product import ROOT

PATHS = [ROOT / name for name in ("README.md", "SECURITY.md", "CHANGELOG.md")] + sorted((ROOT / "docs").glob("*.md"))
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def example(path: str, language: str) -> str:
    """Return the first example of a document in a language. Raises ValueError for none."""
    match = re.search(rf"^```{language}\n(.*?)^```$", (ROOT / path).read_text(), re.DOTALL | re.MULTILINE)
    if not match:
        raise ValueError(f"{path} has no example in {language}")
    return match[1]


def headings(text: str) -> set[str]:
    """Return the places of a document that a link can lead to, as GitHub names them."""
    lines = re.findall(r"^#+ (.*)$", FENCED.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", line).lower().replace(" ", "-") for line in lines}


def broken_links(path: Path, text: str) -> list[str]:
    """Return the links of a document at `path` to a file or a heading that does not exist; links of the web are not followed."""
    broken = []
    for link in LINK.findall(FENCED.sub("", text)):
        target, _, place = link.partition("#")
        file = (path.parent / target).resolve() if target else path
        if link.startswith(("http:", "https:")):
            continue
        if not file.exists() or (place and place not in headings(text if file == path else file.read_text())):
            broken.append(link)
    return broken
