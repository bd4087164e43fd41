"""What tests of the whole product share: folders of one device, and both processes started for real."""

from __future__ import annotations

import hypothesis
import pytest

from device_ui.config import Device, Folders
from tests.helpers.product import Product

# Hypothesis allows 200 ms for an example, which a busy machine exceeds.
hypothesis.settings.register_profile("unhurried", deadline=None)
hypothesis.settings.load_profile("unhurried")


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
