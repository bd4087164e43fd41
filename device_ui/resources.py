"""Find the folders `static` and `views`: beside the package in a checkout, inside it in an installation."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).parent


def find(name: str) -> Path:
    """Return the folder `static` or `views`."""
    return next(root / name for root in (PACKAGE, PACKAGE.parent) if (root / name).is_dir())
