"""The templates of `views/`: each compiled once, whichever page includes it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from bottle import SimpleTemplate, html_escape

from device_ui.resources import find

SPECIAL = re.compile("[&<>\"']")
# The templates of the SMTP tab's first visit.
USUAL = ("layout", "login", "smtp", "delivery", "rules", "reveal")


def escaped(text: str) -> str:
    """Return the text as HTML, also for an attribute. One search first: most texts have no special character."""
    return str(html_escape(text)) if SPECIAL.search(text) else text


class Template(SimpleTemplate):  # type: ignore[misc]  # bottle has no types
    """bottle's template with `escaped`; included templates are of this class and compiled once for all pages."""

    def prepare(self, escape_func: Callable[[str], str] = escaped, **settings: Any) -> None:
        """Set up the template; called by bottle, once."""
        super().prepare(escape_func, **settings)
        self.cache = _templates

    def execute(self, _stdout: list[str], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Append the rendered template to `_stdout`. Return no name that it has set: nothing uses the names of an included one.

        Among a template's names are functions of bottle that refer to all of them (`include`, `get`). Such a cycle would keep
        the finished page, and what the form held, in memory until Python's garbage collector finds it.
        """
        super().execute(_stdout, kwargs).clear()
        return {}

    def _include(self, _env: dict[str, Any], _name: str | None = None, **kwargs: Any) -> dict[str, Any]:
        super()._include(_env, _name, **kwargs)
        # Included by `rebase`, with the page as `base`: the template of the page has ended, and bottle does not return its names.
        if "base" in kwargs:
            _env.clear()
        return {}


_templates: dict[str, Template] = {}


def template(name: str) -> Template:
    """Return a template of `views/`, compiled once."""
    file = f"{name}.tpl"
    # Two threads may compile the same template at once; either result serves.
    if file not in _templates:
        _templates[file] = Template(name=file, lookup=[str(find("views"))])
    return _templates[file]


def compile_usual() -> None:
    """Compile `USUAL`. Early in the start: later imports reuse the memory that compiling takes for a moment."""
    for name in USUAL:
        template(name).co  # noqa: B018  # made when it is first asked for
