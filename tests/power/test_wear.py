"""Flash wears out: a save, an event, a mail and a try that fails write what they must, and no more."""

from __future__ import annotations

from tests.bench.__main__ import BLOCK, table

STORM = 50
# What SQLite puts before each page in its -wal.
FRAME = 24


def test_nothing_writes_more_than_twice_what_it_must():
    found = {name: wear for name, _, wear in table(STORM)}
    update, same, retry = (found[f"one {name}"] for name in ("Update", "Update that changes nothing", "try that fails"))
    assert (update.blocks, update.syncs) <= (2, 2)
    assert (same.size, retry.size, retry.syncs) == (0, 0, 0)
    assert found["one event"].blocks <= 4
    # The event, the index of what waits, what became of it, and where one of these did not fit.
    assert found["one delivery"].size <= 6 * (BLOCK + FRAME)
    assert found[f"a storm of {STORM} events, accepted"].size <= STORM * 4 * BLOCK
