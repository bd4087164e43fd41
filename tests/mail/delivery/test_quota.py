"""What one user used up of the network stays used up, whatever ends in between, and nobody else has less for it."""

from __future__ import annotations

import pytest

from device_ui.mail.clock import Clock
from device_ui.mail.delivery.quota import LOGINS, MAIL, METADATA, TEST_SECONDS, Quota
from device_ui.mail.outbox.outbox import Outbox

WEB, ROOT = 33, 0


class Desk:
    """A device that started 1,000 s ago, and its quota of three tests; `restart` is another hook on the same ledger."""

    def __init__(self, folder) -> None:
        self.path, self.booted, self.boot_id = folder / "ledger.sqlite3", 1000.0, "one"
        self.outbox = Outbox(self.path)
        self.restart()

    def restart(self) -> None:
        self.outbox.close()
        self.outbox = Outbox(self.path)
        clock = Clock(wall=lambda: 2e9, boot=lambda: self.booted, boot_id=self.boot_id, synchronized=lambda: True)
        self.quota = Quota(self.outbox, clock, 3)

    def taken(self, user=WEB, what="tests", tries=4) -> list[int]:
        return [self.quota.take(what, user) for _ in range(tries)]


@pytest.fixture
def desk(tmp_path):
    desk = Desk(tmp_path)
    yield desk
    desk.outbox.close()


def test_each_user_and_each_limit_has_a_bucket_of_its_own(desk):
    assert [desk.taken(), desk.taken(ROOT)] == [[0, 0, 0, 30]] * 2
    assert desk.taken(MAIL, "logins", LOGINS + 1) == [*[0] * LOGINS, 1200]


def test_another_hook_goes_on_where_the_last_one_was(desk):
    desk.taken()
    desk.restart()
    assert desk.taken() == [30] * 4
    desk.booted += 30
    desk.restart()
    assert desk.taken() == [0, 30, 30, 30]


def test_another_start_of_the_device_gives_nothing_back(desk):
    desk.taken()
    desk.booted, desk.boot_id = 5.0, "two"
    desk.restart()
    assert desk.taken() == [30] * 4


def test_a_clock_that_runs_backwards_locks_nobody_out(desk):
    desk.taken()
    desk.booted = 5.0
    desk.restart()
    assert max(desk.taken()) <= 3 * TEST_SECONDS


@pytest.mark.parametrize(
    "fact", ["", "{", "[]", "1", '{"full": 1}', '{"full": {"tests 33": "x"}}', '{"full": {"x": 1}}']
)
def test_a_damaged_count_is_none(desk, fact):
    desk.outbox.set_metadata(METADATA, fact)
    desk.restart()
    assert desk.taken() == [0, 0, 0, 30]


def test_what_is_whole_again_is_not_kept(desk):
    desk.taken()
    desk.booted += 3600
    desk.taken(ROOT, tries=1)
    assert "tests 33" not in desk.outbox.metadata()[METADATA]
