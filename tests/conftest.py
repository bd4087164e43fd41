"""What tests of the whole product share: folders of one device, and both processes started for real."""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

from device_ui.config import Device, Folders
from tests.helpers.prefork import Prefork
from tests.helpers.product import Product

# Hypothesis allows 200 ms for an example, which a busy machine exceeds.
hypothesis.settings.register_profile("unhurried", deadline=None)
hypothesis.settings.load_profile("unhurried")

# PYTHONDONTWRITEBYTECODE spares the disk pytest's copies of the test modules, and has each of the workers rewrite the asserts
# of all of them anew: half of the time that they take to collect. For this process alone; those that it starts inherit the variable.
sys.dont_write_bytecode = False

TESTS = Path(__file__).parent
# npm may have found no registry for this provider (.ci/environment).
collect_ignore = (
    [] if Path(sys.prefix, "node/node_modules/oidc-provider").is_dir() else ["servers/test_oidc_provider.py"]
)
# The modules that take longest, longest first, so that none of them is the last to begin and ends alone. The workers of
# setup.cfg are more than the processors, since many tests wait: for a process, a browser, the next try of a mail.
LONGEST = (
    "servers/test_mailers.py",
    "power/test_power.py",
    "browser/test_access.py",
    "appliance/test_package.py",
    "appliance/test_ansible.py",
    "servers/test_storms.py",
    "security/test_boundaries.py",
    "servers/test_fleet.py",
    "mail/smtp/test_client.py",
    "browser/test_main_job.py",
    "security/test_limits.py",
    "test_make.py",
    "browser/test_oauth_provider.py",
    "servers/test_forward_examples.py",
    "security/test_ownership.py",
    "mail/ipc/test_history.py",
    "security/test_separation.py",
    "browser/test_history.py",
    "browser/test_text_browsers.py",
)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Collect without the garbage collector, which finds nothing to free while ten thousand tests are made, and visits them all."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()  # what was collected stays until the end
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the tests by module, the longest first; xdist hands modules out in this order."""
    rank = {TESTS / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path, len(rank)))


@pytest.fixture(scope="session", autouse=True)
def prefork() -> Iterator[None]:
    """Fork the processes of all devices from one that has the product loaded: the imports take most of the time of a start."""
    environment = {**os.environ, "PYTHONPATH": str(TESTS.parent)}
    with Prefork(Path(sys.executable), environment) as Product.prefork:
        yield
    Product.prefork = None


@pytest.fixture
def zone() -> Iterator[Callable[[str | None], None]]:
    """Sets the device's time zone; None is the machine's own."""
    before = os.environ.get("TZ")

    def put(name: str | None) -> None:
        os.environ.pop("TZ", None)
        if name is not None:
            os.environ["TZ"] = name
        time.tzset()

    yield put
    put(before)


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
