"""The pages of one device for all tests of a module, asked without a server, and the hook that answers them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from device_ui.config import Folders
from tests.helpers.fake_hook import FakeHook, Pages, signed_in


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Pages:
    """The pages of a device that is set up, for somebody who is signed in."""
    folder = tmp_path_factory.mktemp("device")
    return signed_in(Folders(folder / "data", folder / "run", folder / "etc"))


@pytest.fixture(scope="module")
def running(device: Pages) -> Iterator[FakeHook]:
    """The hook's socket, once a module."""
    with FakeHook(device.folders.socket) as fake:
        yield fake


@pytest.fixture
def hook(running: FakeHook) -> FakeHook:
    """A hook that says what the test wants, and heard nothing yet."""
    return running.reset()
