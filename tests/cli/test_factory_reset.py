"""A factory reset leaves nothing, the key goes first, and one that was interrupted is finished by whatever starts next."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest

from tests.helpers.product import Product, settings_form


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of a device with settings, recipients, a history, an administrator, and a damaged file kept aside."""
    with Product(tmp_path_factory.mktemp("used")) as product:
        browser = product.start().logged_in()
        assert browser.update(**settings_form(2599)).status == 303
        revision = browser.get("/recipients").revision
        added = {"do": "add", "address": "a@example.com", "lowest": "info", "revision": revision}
        assert browser.post("/recipients", **added).status == 303
        product.event("303", "remember me")
        assert product.call("certificate").returncode == 0
    kept = product.folders.settings.with_name("smtp.toml.damaged-1")
    kept.write_text("an older password, perhaps")
    return product.folders.data


@pytest.fixture
def used(product: Product, data: Path) -> Product:
    """A copy of this device; nothing runs."""
    shutil.copytree(data, product.folders.data)
    return product


def left(product: Product) -> set[str]:
    """Every file that is left in the data folder."""
    return {str(each.relative_to(product.folders.data)) for each in product.folders.data.rglob("*") if each.is_file()}


def was_killed(product: Product, at: int) -> bool:
    """Reset the device and kill that when it removes a file, the first or a later one; False: it removed fewer."""
    injection = f"inject=unlink,unlinkat:signal=SIGKILL:when={at}"
    return product.command_under_strace(injection, "factory-reset", "--yes") == -signal.SIGKILL


def test_nothing_is_left(used: Product):
    assert used.folders.private_key.exists()
    done = used.call("factory-reset", "--yes")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "Everything is erased. Start the mail hook and the pages; device-ui setup-code shows the new setup code.\n"
    )
    assert left(used) == set()


def test_it_asks_first(used: Product):
    before = left(used)
    done = used.call("factory-reset")
    assert done.returncode == 64
    assert done.stderr == "device-ui: this erases every setting and the history; --yes says that you mean it\n"
    assert left(used) == before


def test_it_does_not_pull_the_ledger_from_under_a_running_hook(used: Product):
    used.start_hook()
    done = used.call("factory-reset", "--yes")
    assert done.returncode == 75
    assert done.stderr == "device-ui: the mail hook is running; stop both processes first\n"
    assert used.folders.ledger.exists()


def test_afterwards_the_device_is_new(used: Product):
    code = used.folders.administrator.read_text()
    used.call("factory-reset", "--yes")
    used.start()
    assert used.setup_code() and used.setup_code() not in code
    assert used.event() == 1
    used.logged_in()


def test_one_that_is_killed_anywhere_is_finished_by_the_next_start(product: Product, data: Path):
    kills, is_killed = 0, True
    while is_killed:  # at the first file, the second, and so on, until it ends by itself
        shutil.copytree(data, product.folders.data, dirs_exist_ok=True)
        files = left(product)
        is_killed = was_killed(product, at=kills + 1)
        kills += is_killed
        if kills > 1 or not (product.folders.data / "factory-reset-begun").exists():
            assert not product.folders.private_key.exists()
        done = product.call("check")
        assert (product.folders.data / "factory-reset-begun").exists() is False
        assert left(product) == set(), done.stdout
    assert kills >= len(files)


def test_the_key_is_the_first_to_go(used: Product):
    assert was_killed(used, at=2)
    assert not used.folders.private_key.exists()
    assert used.folders.settings.exists()


def test_what_cannot_be_erased_is_told_and_nothing_starts(used: Product):
    assert was_killed(used, at=2)
    assert used.command_under_strace("inject=unlink,unlinkat:error=EROFS", "check") == 78
    assert used.folders.settings.exists()
    assert (used.folders.data / "factory-reset-begun").exists()


def test_without_the_mark_nothing_is_erased(used: Product):
    before = left(used)
    used.call("check")
    assert before <= left(used)
