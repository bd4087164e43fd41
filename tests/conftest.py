"""What tests of the whole product share: folders of one device, and both processes started for real."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import pytest

from device_ui.config import Device, Folders
from tests.helpers.product import Product

# Hypothesis allows 200 ms for an example, which a busy machine exceeds.
hypothesis.settings.register_profile("unhurried", deadline=None)
hypothesis.settings.load_profile("unhurried")

TESTS = Path(__file__).parent
# Coverage takes 0.2 s of each process that it measures: it doubles or trebles the start. These folders start half of all
# processes. They test the whole product; each line has tests of its own component in the other folders.
UNMEASURED = {"appliance", "browser", "firmware", "power", "servers"}
# What makes a new process measure itself (coverage's "patch = subprocess"); empty without coverage.
MEASURING = {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_PROCESS")}


# First: a fixture of the test may start a process.
@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Let the processes of a test measure their coverage, except in the folders that need not."""
    is_measured = item.path.relative_to(TESTS).parts[0] not in UNMEASURED
    for name, value in MEASURING.items():
        if is_measured:
            os.environ[name] = value
        else:
            os.environ.pop(name, None)


@pytest.fixture
def folders(tmp_path):
    """The folders of a device that never started."""
    return Folders(tmp_path / "data", tmp_path / "run", tmp_path / "etc")


@pytest.fixture
def device(folders):
    """A device whose maker changed nothing."""
    return Device.load(folders)


@pytest.fixture
def product(tmp_path):
    """Both processes of one device, not started yet; whatever was started is stopped at the end."""
    with Product(tmp_path) as product:
        yield product
