"""Copies of the product with one fault each, for the tools to find: a tool that finds none of them proves nothing."""

from __future__ import annotations

from pathlib import Path

from tests.helpers.product import Product
from tests.power.mutants import Mutant, mutate

__all__ = ["Mutant", "Mutated", "mutate"]


class Mutated(Product):
    """A device whose processes run a copy of the product."""

    prefork = None

    def __init__(self, folder: Path, copy: Path) -> None:
        super().__init__(folder)
        self._copy = copy

    @property
    def environment(self) -> dict[str, str]:
        """The environment of every process of this device."""
        return {**super().environment, "PYTHONPATH": str(self._copy)}
