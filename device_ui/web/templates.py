"""The templates of `views/`: each compiled once, whichever page includes it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from bottle import SimpleTemplate, html_escape

from device_ui.web import static_files

SPECIAL = re.compile("[&<>\"']")
# What everybody sees who comes to set up mail.
USUAL = ("layout", "login", "smtp", "rules", "reveal")


def escaped(text: str) -> str:
    """The text as HTML, in an attribute, too. bottle looks for each special character; most texts of a page have none."""
    return str(html_escape(text)) if SPECIAL.search(text) else text


class Template(SimpleTemplate):  # type: ignore[misc]  # bottle has no types
    """bottle's, with our way to escape; what a template includes is of its kind, and the same for every page."""

    def prepare(self, escape_func: Callable[[str], str] = escaped, **settings: Any) -> None:
        """Called by bottle, once."""
        super().prepare(escape_func, **settings)
        self.cache = _templates


_templates: dict[str, Template] = {}


def template(name: str) -> Template:
    """A template of `views/`, compiled once."""
    file = f"{name}.tpl"
    if file not in _templates:
        _templates[file] = Template(name=file, lookup=[str(static_files.find("views"))])
    return _templates[file]


def compile_usual() -> None:
    """Compile what is surely asked for. Early: the memory that it takes for a moment is used again by what is loaded after."""
    for name in USUAL:
        template(name).co  # noqa: B018  # made when it is first asked for
