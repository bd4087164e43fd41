"""What the tests of the booted package share: the image, the packages, and the figures that are printed at the end."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.boot import packages
from tests.boot.image import Image, cached
from tests.boot.site import Site
from tests.servers.authority import Authority

FIGURES: dict[str, str] = {}


def pytest_configure() -> None:
    """Refuse a number of power cuts that is none, before anything is built."""
    if not re.fullmatch("[1-9][0-9]{0,3}", os.environ.get("PULLS", "1")):
        raise pytest.UsageError("PULLS= must be a number from 1 to 9999: how many power cuts are tried")


@pytest.fixture(scope="session")
def image() -> Iterator[Image]:
    with cached(packages.suite()) as image:
        yield image


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of this checkout."""
    return packages.current(tmp_path_factory.mktemp("package"))


@pytest.fixture(scope="session")
def former_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of commit `packages.FORMER`."""
    assert packages.has_former(), f"this clone does not have commit {packages.FORMER}: fetch the whole history"
    return packages.former(tmp_path_factory.mktemp("former"))


@pytest.fixture
def figure(record_property: Callable[[str, object], None]) -> Callable[[str, object], None]:
    """Call it with a name and a value to have them printed after the tests."""
    return record_property


@pytest.fixture(scope="session")
def authority() -> Authority:
    """Who vouches for the mail server's certificate."""
    return Authority("boot")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Site]:
    """The place that the device is installed at."""
    with Site(tmp_path_factory.mktemp("site"), authority) as site:
        yield site


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Keep the figures of a test, which may have run in another process."""
    if report.when == "call":
        FIGURES.update({str(name): str(value) for name, value in report.user_properties})


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the figures, a line each."""
    if FIGURES:
        terminalreporter.section("the booted package")
        for name, value in FIGURES.items():
            terminalreporter.write_line(f"{name}: {value}")
