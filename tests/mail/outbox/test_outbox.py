"""The ledger keeps what it accepted: on flash before it says so, in order, and whatever becomes of the file."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_ui.errors import NotStored
from device_ui.mail.events import Action, Delivery, Event
from device_ui.mail.outbox.outbox import Outbox
from tests.helpers.product import ROOT

# Accepts batches of these sizes and says each time on descriptor 1 that they were accepted.
BATCHES = (1, 10, 100)
CHILD = f"""
import os, sys
from pathlib import Path
from device_ui.mail.outbox.outbox import Event, Outbox
outbox = Outbox(Path(sys.argv[1]))
for size in {BATCHES}:
    os.write(1, b"begin")
    outbox.accept([Event("303", "fault", 1.0, 1.0, text="full")] * size)
    os.write(1, b"accepted")
os._exit(0)
"""
# A system call of interest, as `strace -f -y` writes it: who, what, on which file.
CALL = re.compile(r"^\d+ +(\w+)\((\d+)<(.*?)>(.*)$", re.MULTILINE)


def event(text: str = "full", **fields: object) -> Event:
    return Event("303", "fault", 1.0, 2.0, "auditd", text, **fields)


def delivery(recipient: str = "me@example.com", verdict: str = "delivered") -> Delivery:
    return Delivery(recipient, verdict, "content", "250 ok", 3.0)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.sqlite3"


@pytest.fixture
def opened():
    """Opens ledgers that are closed when the test ends."""
    ledgers: list[Outbox] = []

    def open_(path: Path) -> Outbox:
        ledgers.append(Outbox(path))
        return ledgers[-1]

    yield open_
    for ledger in ledgers:
        ledger.close()


@pytest.fixture
def outbox(path, opened):
    return opened(path)


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of 256 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder], check=True, timeout=60)
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True, timeout=60)


def on_disk(path: Path) -> dict[str, bytes]:
    """Every byte of the ledger's folder, by file."""
    return {each.name: each.read_bytes() for each in path.parent.iterdir()}


def trace(tmp_path: Path) -> list[tuple[str, str, str]]:
    """What `CHILD` asks of the system, in order: call, file, the rest of the line."""
    log = tmp_path / "calls"
    calls = "trace=write,pwrite64,fsync,fdatasync"
    command = ["strace", "-f", "--seccomp-bpf", "-y", "-e", calls, "-o", log, sys.executable, "-c", CHILD]
    command.append(tmp_path / "ledger.sqlite3")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(command, check=True, timeout=60, env=environment, stdout=subprocess.DEVNULL)
    return [(call, file, rest) for call, _, file, rest in CALL.findall(log.read_text())]


@pytest.fixture(scope="module")
def accepting(tmp_path_factory) -> list[list[tuple[str, str]]]:
    """For each batch, the calls (name, file's ending) between its beginning and the moment it is called accepted."""
    batches: list[list[tuple[str, str]]] = []
    for call, file, rest in trace(tmp_path_factory.mktemp("traced")):
        if '"begin"' in rest:
            batches.append([])
        elif '"accepted"' in rest:
            batches[-1].append(("accepted", ""))
        elif batches:
            batches[-1].append((call, file.rpartition("sqlite3")[2]))
    assert len(batches) == len(BATCHES)
    return batches


# Accepted


def test_numbers_have_no_gap(outbox):
    assert outbox.accept([event(), event()]) == [1, 2]
    assert outbox.accept([event()]) == [3]


def test_numbers_go_on_after_a_restart(path, opened):
    first = opened(path)
    first.accept([event()] * 3)
    first.record(3, [delivery()], done=True)
    first.close()
    assert opened(path).accept([event()]) == [4]


def test_an_event_comes_back_as_it_was_accepted(outbox):
    kept = Event("042", "info", 1.25, 2.5, "Gerät", "Zeile 1\nZeile 2 · 경보", waiting=True)
    outbox.accept([kept])
    assert outbox.waiting() == [Event("042", "info", 1.25, 2.5, "Gerät", "Zeile 1\nZeile 2 · 경보", True, 1)]


def test_an_event_that_is_never_mailed_does_not_wait(outbox):
    outbox.accept([event(waiting=False), event()])
    assert [each.number for each in outbox.waiting()] == [2]


def test_nothing_to_accept_writes_nothing(outbox, path):
    before = on_disk(path)
    assert outbox.accept([]) == []
    assert on_disk(path) == before


def test_a_batch_is_accepted_whole_or_not_at_all(outbox):
    with pytest.raises(NotStored):
        outbox.accept([event(), event(), Event("303", "fault", float("nan"), 1.0)])
    assert outbox.waiting() == []
    assert outbox.accept([event()]) == [1]


@pytest.mark.parametrize("batch", range(len(BATCHES)), ids=[f"{size} events" for size in BATCHES])
def test_accepted_is_said_after_the_last_write_was_synced(accepting, batch):
    calls = accepting[batch]
    synced = [at for at, (call, file) in enumerate(calls) if call in ("fsync", "fdatasync") and file == "-wal"]
    written = [at for at, (call, file) in enumerate(calls) if call == "pwrite64" and file == "-wal"]
    assert written and synced and written[-1] < synced[-1] < calls.index(("accepted", ""))


@pytest.mark.parametrize("batch", range(len(BATCHES)), ids=[f"{size} events" for size in BATCHES])
def test_a_batch_is_one_sync(accepting, batch):
    assert len([call for call, _ in accepting[batch] if call in ("fsync", "fdatasync")]) == 1


def test_the_ledgers_name_is_on_flash_before_the_first_event(tmp_path):
    calls = trace(tmp_path)
    begin = next(at for at, (_, _, rest) in enumerate(calls) if '"begin"' in rest)
    assert ("fsync", str(tmp_path)) in [(call, file) for call, file, _ in calls[:begin]]


def test_what_was_accepted_outlives_a_killed_process(path, opened):
    # CHILD ends by os._exit, without closing anything.
    subprocess.run([sys.executable, "-c", CHILD, path], check=True, timeout=60, cwd=ROOT, stdout=subprocess.DEVNULL)
    assert opened(path).waiting_count() == sum(BATCHES)


# Waiting, and what became of it


def test_waiting_comes_oldest_first_in_pages(outbox):
    outbox.accept([event(str(number)) for number in range(1, 8)])
    assert [each.text for each in outbox.waiting(3)] == ["1", "2", "3"]
    assert [each.text for each in outbox.waiting(3, after=3)] == ["4", "5", "6"]
    assert [each.text for each in outbox.waiting(3, after=6)] == ["7"]


def test_what_waits_is_counted_and_its_newest_known(outbox):
    assert (outbox.waiting_count(), outbox.newest_waiting()) == (0, 0)
    outbox.accept([event()] * 4)
    outbox.record(4, [], done=True)
    assert (outbox.waiting_count(), outbox.newest_waiting()) == (3, 3)


def test_done_ends_the_waiting(outbox):
    outbox.accept([event(), event()])
    outbox.record(1, [delivery()], done=True)
    assert [each.number for each in outbox.waiting()] == [2]


def test_a_delivery_to_one_of_two_leaves_the_event_waiting(outbox):
    outbox.accept([event()])
    outbox.record(1, [delivery("a@example.com")], done=False)
    assert outbox.waiting_count() == 1
    assert outbox.deliveries(1) == [delivery("a@example.com")]


def test_the_last_word_about_a_recipient_counts(outbox):
    outbox.accept([event()])
    outbox.record(1, [delivery(verdict="dropped"), delivery("b@example.com")], done=False)
    outbox.record(1, [delivery(verdict="delivered")], done=True)
    assert outbox.deliveries(1) == [delivery("b@example.com"), delivery()]


def test_deliveries_of_another_event_are_not_told(outbox):
    outbox.accept([event(), event()])
    outbox.record(1, [delivery()], done=True)
    assert outbox.deliveries(2) == []


def test_what_became_of_it_outlives_a_restart(path, opened):
    first = opened(path)
    first.accept([event(), event()])
    first.record(1, [delivery()], done=True)
    first.close()
    again = opened(path)
    assert again.deliveries(1) == [delivery()]
    assert [each.number for each in again.waiting()] == [2]


def test_what_was_lost_is_written_only_when_it_is_another(path, opened):
    outbox = opened(path)
    outbox.accept([event() for _ in range(8)])
    changes = []
    for number, verdict in enumerate(["delivered", "delivered", "refused", "refused", "delivered", "delivered"], 1):
        before = outbox.read("SELECT total_changes()", ())[0][0]
        outbox.record(number, [delivery(verdict=verdict)], done=True)
        changes.append(outbox.read("SELECT total_changes()", ())[0][0] - before)
    assert changes == [2, 2, 3, 2, 3, 2]  # the result, the event, and a loss that differs
    outbox.record(7, [delivery(verdict="refused"), delivery("b@example.com")], done=False)
    assert "last_loss" in outbox.metadata()
    outbox.record(8, [delivery()], done=False, is_event=False)
    outbox.record(8, [], done=True)
    assert "last_loss" in outbox.metadata()


# Giving up

WHY = [delivery(f"{number}@example.com", "dropped") for number in range(20)]


@pytest.mark.parametrize("alone", [False, True], ids=["undecided", "by itself"])
def test_a_ledger_full_of_what_is_given_up_takes_a_row_a_recipient(path, opened, alone):
    outbox = opened(path)
    outbox.accept([Event("303", ("fault", "info")[number % 2], 1.0, 1.0) for number in range(1000)], [alone] * 1000)
    size = outbox.read("PRAGMA page_count", ())[0][0]
    assert outbox.expire(900, {"fault": WHY, "info": WHY[:1]}) == 900
    assert outbox.read("SELECT number, count(*) FROM delivery GROUP BY 1", ()) == [(1, 20), (2, 1)]
    assert outbox.read("PRAGMA page_count", ())[0][0] <= size + 8  # 4 KiB each: the index of digests, and these rows
    assert [each.number for each in outbox.waiting(1000)] == [*range(901, 1001)]
    assert {each.mail for each in outbox.waiting(1000)} == ({*range(901, 1001)} if alone else {0})
    for number in (1, 2, 899, 900):
        kept = outbox.event(number)
        assert [each.verdict for each in outbox.deliveries(kept.mail)] == ["dropped"] * (20 if number % 2 else 1)


def test_what_is_given_up_stays_in_the_mail_that_somebody_has_a_verdict_on(path, opened):
    outbox = opened(path)
    outbox.accept([event() for _ in range(8)], [False, True])
    assert outbox.assign_to_mail([3, 4]) == 3
    assert outbox.assign_to_mail([5, 8]) == 5
    outbox.record(2, [delivery("0@example.com")], done=False)
    assert outbox.expire(7, {"fault": WHY[:2]}) == 6
    assert [outbox.event(number).mail for number in range(1, 9)] == [1, 2, 3, 3, 5, 1, 1, 5]
    assert [each.number for each in outbox.waiting()] == [5, 8]
    assert [[each.verdict for each in outbox.deliveries(mail)] for mail in (1, 2, 3, 5)] == [
        ["dropped", "dropped"],
        ["delivered", "dropped"],
        ["dropped", "dropped"],
        [],
    ]


# Metadata, and reading


def test_a_fact_outlives_a_restart(path, opened):
    first = opened(path)
    first.set_metadata("refused", "yes")
    first.close()
    assert opened(path).metadata()["refused"] == "yes"


def test_a_fact_is_replaced_and_forgotten(outbox):
    outbox.set_metadata("refused", "yes")
    outbox.set_metadata("refused", "no")
    assert outbox.metadata()["refused"] == "no"
    outbox.set_metadata("refused", None)
    assert "refused" not in outbox.metadata()


def test_a_fact_that_stands_writes_nothing(outbox, path):
    outbox.set_metadata("refused", "yes")
    before = on_disk(path)
    outbox.set_metadata("refused", "yes")
    outbox.set_metadata("never said", None)
    assert on_disk(path) == before


def test_reading_writes_nothing(outbox, path):
    outbox.accept([event()] * 3)
    before = on_disk(path)
    for _ in range(100):
        outbox.waiting()
        outbox.waiting_count()
        outbox.newest_waiting()
        outbox.deliveries(1)
        outbox.metadata()
    assert on_disk(path) == before


def test_a_ledger_keeps_its_name_and_two_have_different_ones(path, opened, tmp_path):
    first = opened(path)
    first.close()
    assert opened(path).id == first.id
    assert opened(tmp_path / "other.sqlite3").id != first.id
    assert re.fullmatch("[0-9a-f]{16}", first.id)


def test_the_ledger_is_for_its_owner_alone_whatever_the_umask(path, opened):
    before = os.umask(0)
    try:
        opened(path).accept([event()])
    finally:
        os.umask(before)
    modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}
    assert modes == dict.fromkeys(("ledger.sqlite3", "ledger.sqlite3-wal", "ledger.sqlite3.made"), 0o600)


def test_what_waits_is_found_by_an_index(outbox):
    """However long the history grows: a full scan would read all of it at every look."""
    plan = outbox.read("EXPLAIN QUERY PLAN SELECT number FROM event WHERE waiting AND number > 5 ORDER BY number", ())
    assert "INDEX waiting" in plan[0][-1]


# A disk that is full, a file that cannot be had


def fill(folder: Path) -> Path:
    """Fill a disk to its last byte."""
    heap = folder / "heap"
    with heap.open("wb", buffering=0) as file, pytest.raises(OSError):
        while True:
            file.write(bytes(4096))
    return heap


def test_a_full_disk_is_told_and_nothing_is_half_accepted(small_disk, opened):
    outbox = opened(small_disk / "ledger.sqlite3")
    outbox.accept([event()])
    fill(small_disk)
    with pytest.raises(NotStored, match="disk is full"):
        outbox.accept([event("x" * 4000)] * 20)
    assert [each.number for each in outbox.waiting()] == [1]


def test_a_disk_with_room_again_accepts_again(small_disk, opened):
    path = small_disk / "ledger.sqlite3"
    outbox = opened(path)
    heap = fill(small_disk)
    for _ in range(3):
        with pytest.raises(NotStored):
            outbox.accept([event("x" * 4000)] * 20)
    heap.unlink()
    assert outbox.accept([event()]) == [1]
    outbox.close()
    again = opened(path)
    assert [each.number for each in again.waiting()] == [1]
    assert again.set_aside is None


def test_a_full_disk_does_not_keep_the_ledger_from_being_read(small_disk, opened):
    path = small_disk / "ledger.sqlite3"
    first = opened(path)
    first.accept([event()])
    first.close()
    fill(small_disk)
    again = opened(path)
    assert again.waiting_count() == 1
    assert again.set_aside is None


def test_a_new_ledger_on_a_full_disk_is_told(small_disk):
    fill(small_disk)
    with pytest.raises(NotStored):
        Outbox(small_disk / "ledger.sqlite3")


def test_a_missing_folder_is_told(tmp_path):
    with pytest.raises(NotStored, match="No such file or directory"):
        Outbox(tmp_path / "nowhere" / "ledger.sqlite3")


def test_a_closed_ledger_is_told(path):
    outbox = Outbox(path)
    outbox.close()
    with pytest.raises(NotStored):
        outbox.accept([event()])


def test_a_ledger_in_use_is_not_set_aside(outbox, path, opened):
    with pytest.raises(NotStored, match="^ledger.sqlite3 could not be stored: database is locked$"):
        Outbox(path)
    assert [each.name for each in path.parent.glob("*damaged*")] == []
    assert outbox.accept([event()]) == [1]


def test_an_older_or_foreign_process_cannot_write_while_we_hold_it(outbox, path):
    with closing(sqlite3.connect(path, timeout=0)) as stranger:
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            stranger.execute("DELETE FROM event")


# Damage


def ledger_bytes(count: int = 60) -> bytes:
    """A sound ledger of several pages, closed."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "ledger")
        outbox = Outbox(path)
        outbox.accept([event("t" * 300)] * count)
        outbox.record(1, [delivery()], done=True)
        outbox.close()
        return path.read_bytes()


def page_end(raw: bytes, name: str) -> int:
    """Where the first page of an index ends; the cells of a page begin at its end."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(raw)
        file.flush()
        with closing(sqlite3.connect(file.name)) as connection:
            query = "SELECT rootpage FROM sqlite_schema WHERE name = ? AND type = 'index'"
            return 4096 * connection.execute(query, (name,)).fetchone()[0]


SOUND = ledger_bytes()
INDEX_END = page_end(SOUND, "waiting")
DAMAGED = {
    "zeros": bytes(len(SOUND)),
    "a short file of zeros": bytes(100),
    "text": b"these are not the bytes you are looking for\n" * 100,
    "its first page is gone": bytes(4096) + SOUND[4096:],
    "its header is random": bytes(range(100, 200)) + SOUND[100:],
    "cut in its header": SOUND[:50],
    "cut after its first page": SOUND[:4096],
    "cut in the middle": SOUND[: len(SOUND) // 2 + 7],
    "a page in the middle is random": SOUND[:16384] + bytes(range(256)) * 16 + SOUND[20480:],
    "its version is one that never was": SOUND[:60] + b"\x80\x01\x02\x03" + SOUND[64:],
    "its version is forgotten": SOUND[:60] + bytes(4) + SOUND[64:],
    "a table has another name": SOUND.replace(b"TABLE event", b"TABLE evenx"),
    "its schema is no text": SOUND.replace(b"CREATE TABLE event", b"CREATE \xff\xfe\xfd\xfc\xfb event"),
    "a column has another name": SOUND.replace(
        b"    time REAL NOT NULL,\n    acc", b"    tame REAL NOT NULL,\n    acc"
    ),
    "an entry of its index is wrong": SOUND[: INDEX_END - 1] + b"\x7f" + SOUND[INDEX_END:],
    "its header forbids writing": SOUND[:18] + b"\x2c" + SOUND[19:],
    "its name is gone": SOUND.replace(b"ledger_id", b"ledger_xx"),
}


@pytest.mark.parametrize("raw", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_ledger_is_kept_and_a_new_one_starts(path, opened, raw):
    path.write_bytes(raw)
    outbox = opened(path)
    assert outbox.set_aside == path.with_name("ledger.sqlite3.damaged-1")
    assert outbox.set_aside.read_bytes() == raw
    assert outbox.accept([event()]) == [1]


def test_a_damaged_ledger_is_kept_with_its_wal(path, opened):
    path.write_bytes(bytes(8192))
    wal = path.with_name("ledger.sqlite3-wal")
    wal.write_bytes(b"what a power cut left")
    outbox = opened(path)
    outbox.accept([event()])
    assert outbox.set_aside.with_name("ledger.sqlite3.damaged-1-wal").read_bytes() == b"what a power cut left"


def test_the_wal_of_a_damaged_ledger_is_not_written_into_it(path, opened):
    """Closing a damaged ledger before it is renamed would."""
    path.write_bytes(SOUND)
    subprocess.run([sys.executable, "-c", CHILD, path], check=True, timeout=60, cwd=ROOT, stdout=subprocess.DEVNULL)
    raw = path.read_bytes()
    path.write_bytes(raw[:16384] + bytes(range(256)) * 16 + raw[20480:])
    before = on_disk(path)
    outbox = opened(path)
    after = on_disk(path)
    assert outbox.set_aside
    assert after["ledger.sqlite3.damaged-1"] == before["ledger.sqlite3"]
    assert after["ledger.sqlite3.damaged-1-wal"] == before["ledger.sqlite3-wal"]


@pytest.mark.parametrize("left", [b"", b"S", None], ids=["no byte", "one byte", "nothing"])
def test_a_ledger_that_was_emptied_is_no_new_one(path, opened, left):
    """SQLite takes either for a file that is still to be made, and removes the -wal."""
    first = opened(path)
    first.accept([event()])
    first.close()
    path.unlink() if left is None else path.write_bytes(left)
    path.with_name("ledger.sqlite3-wal").write_bytes(b"what is left")
    outbox = opened(path)
    assert outbox.set_aside == path.with_name("ledger.sqlite3.damaged-1")
    assert outbox.set_aside.read_bytes() == (left or b"")
    assert outbox.set_aside.with_name("ledger.sqlite3.damaged-1-wal").read_bytes() == b"what is left"
    assert outbox.accept([event()]) == [1]


def test_a_ledger_that_was_not_made_yet_is_not_called_damaged(path, opened):
    path.write_bytes(b"")
    assert opened(path).set_aside is None


def test_a_ledger_that_is_used_says_that_it_was_made(path, opened):
    path.write_bytes(SOUND)
    opened(path).close()
    path.write_bytes(b"")
    assert opened(path).set_aside


def test_what_was_set_aside_is_told_until_it_is_removed(path, opened):
    path.write_bytes(bytes(4096))
    opened(path).close()
    outbox = opened(path)
    assert (outbox.set_aside, outbox.earlier) == (None, ["ledger.sqlite3.damaged-1"])
    path.with_name("ledger.sqlite3.damaged-1").unlink()
    assert outbox.earlier == []


def test_a_second_damaged_ledger_does_not_replace_the_first(path, opened):
    for number in (1, 2):
        path.write_bytes(bytes([number]) * 4096)
        opened(path).close()
    assert path.with_name("ledger.sqlite3.damaged-1").read_bytes() == b"\x01" * 4096
    assert path.with_name("ledger.sqlite3.damaged-2").read_bytes() == b"\x02" * 4096


def test_a_sound_ledger_is_not_set_aside(path, opened):
    path.write_bytes(SOUND)
    outbox = opened(path)
    assert outbox.set_aside is None
    assert outbox.waiting_count() == 59


def test_a_flipped_bit_in_a_text_hides_no_other_event(path, opened):
    path.write_bytes(SOUND.replace(b"t" * 300, b"t" * 299 + b"\xff", 1))
    outbox = opened(path)
    assert len(outbox.waiting(100)) == 59
    assert "t" * 299 + "\ufffd" in {each.text for each in outbox.waiting(100)}


def test_a_damaged_ledger_that_cannot_be_set_aside_is_told(small_disk):
    path = small_disk / "ledger.sqlite3"
    path.write_bytes(bytes(8192))
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True, timeout=60)
    with pytest.raises(NotStored):
        Outbox(path)
    assert path.read_bytes() == bytes(8192)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_after_any_damage_events_are_accepted(data):
    raw = bytearray(SOUND)
    for _ in range(data.draw(st.integers(1, 3))):
        where = data.draw(st.one_of(st.integers(0, 150), st.integers(0, len(raw) - 1)))
        piece = data.draw(st.binary(min_size=1, max_size=64))
        raw[where : where + len(piece)] = piece
    del raw[data.draw(st.one_of(st.just(len(raw)), st.integers(0, len(raw)))) :]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "ledger")
        path.write_bytes(raw)
        try:
            outbox = Outbox(path)
        except NotStored as error:  # the version happens to be one of a newer device-ui
            assert "newer version" in error.reason
            return
        try:
            assert outbox.accept([event()])
            outbox.waiting(1000)
        finally:
            outbox.close()


# Another version's ledger


@pytest.mark.parametrize("version", [6, 7, 1000])
def test_a_newer_ledger_is_refused_and_left_as_it_is(path, version):
    raw = SOUND[:60] + version.to_bytes(4, "big") + SOUND[64:]
    path.write_bytes(raw)
    with pytest.raises(NotStored, match=f"it was written by a newer version of device-ui \\(ledger {version}\\)"):
        Outbox(path)
    assert {name: raw for name, raw in on_disk(path).items() if raw} == {"ledger.sqlite3": raw}


OLD = """
CREATE TABLE event (
    number INTEGER PRIMARY KEY,
    code TEXT NOT NULL,
    type TEXT NOT NULL,
    time REAL NOT NULL,
    accepted REAL NOT NULL,
    source TEXT NOT NULL,
    text TEXT NOT NULL,
    waiting INTEGER NOT NULL
) STRICT;
CREATE INDEX waiting ON event (number) WHERE waiting;
CREATE TABLE delivery (
    number INTEGER NOT NULL,
    recipient TEXT NOT NULL,
    verdict TEXT NOT NULL,
    step TEXT NOT NULL,
    reply TEXT NOT NULL,
    time REAL NOT NULL,
    PRIMARY KEY (number, recipient)
) STRICT, WITHOUT ROWID;
CREATE TABLE fact (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO event VALUES (1, '303', 'fault', 5.0, 6.0, 'smart', 'done', 0), (2, '304', 'fault', 7.0, 8.0, '', 'waits', 1);
INSERT INTO delivery VALUES (1, 'a@example.com', 'delivered', 'content', '250 ok', 9.0);
INSERT INTO fact VALUES ('ledger_id', 'f00d');
PRAGMA user_version = 1;
"""


def test_the_ledger_of_an_older_program_keeps_its_events_and_what_waits(path):
    with contextlib.closing(sqlite3.connect(path)) as old:
        old.executescript(OLD)
    with contextlib.closing(Outbox(path)) as outbox:
        assert (outbox.set_aside, outbox.id, outbox.last) == (None, "f00d", 2)
        assert [each.text for each in outbox.waiting()] == ["waits"]
        assert outbox.event(1) == Event("303", "fault", 5.0, 6.0, "smart", "done", False, 1, 0, "")
        assert outbox.deliveries(1)[0].reply == "250 ok"
        assert outbox.accept([event()]) == [3]
    with contextlib.closing(Outbox(path)) as outbox:
        assert (outbox.set_aside, outbox.last) == (None, 3)


def without_outcomes(ledger: sqlite3.Connection) -> None:
    """Make a ledger one of version 4, which had no outcomes."""
    ledger.execute("DROP TABLE outcome")
    ledger.execute("PRAGMA user_version = 4")


def test_the_ledger_before_outcomes_keeps_every_row(path):
    with contextlib.closing(Outbox(path)) as outbox:
        outbox.accept([event(text="first"), event(text="second")])
        outbox.record(1, [delivery(verdict="refused")], done=True)
        before = outbox.select("1", ())
    with contextlib.closing(sqlite3.connect(path)) as old:
        without_outcomes(old)
    with contextlib.closing(Outbox(path)) as outbox:
        outbox.keep_outcomes(True)
        assert (outbox.set_aside, outbox.select("1", ()), outbox.has_outcomes) == (None, before, False)
        outbox.record(2, [delivery()], done=True)
        assert [state for *_, state in outbox.outcomes(2, 9)] == ["delivered"]


def without_actions(ledger: sqlite3.Connection) -> None:
    """Make a ledger one of version 3, which had no actions."""
    without_outcomes(ledger)
    for statement in ("DROP INDEX about", "DROP INDEX failed", "ALTER TABLE event DROP COLUMN about"):
        ledger.execute(statement)
    ledger.execute("PRAGMA user_version = 3")


def test_the_ledger_before_actions_keeps_every_row(path):
    with contextlib.closing(Outbox(path)) as outbox:
        outbox.accept([event(text="first"), event(text="second")])
        outbox.record(1, [delivery(verdict="refused")], done=True)
        before = outbox.select("1", ())
    with contextlib.closing(sqlite3.connect(path)) as old:
        without_actions(old)
    with contextlib.closing(Outbox(path)) as outbox:
        assert (outbox.set_aside, outbox.select("1", ())) == (None, before)
        assert outbox.accept([again(1)], [True]) == [3]
        assert (outbox.ended(3, ["a@b.c"]), outbox.count) == (set(), 2)


# An event that is sent again


def again(number: int, action: Action = Action.SEND_AGAIN, **fields: Any) -> Event:
    """A person's action on an event."""
    fields = {"waiting": action == Action.SEND_AGAIN, **fields}
    return dataclasses.replace(event(), about=number, text=action, source="History", **fields)


def results(**verdicts: str) -> list[Delivery]:
    return [delivery(recipient=f"{name}@b.c", verdict=verdict) for name, verdict in verdicts.items()]


@pytest.mark.parametrize(
    ("rounds", "ended"),
    [
        ([{"a": "delivered", "b": "refused"}], {"a@b.c"}),
        ([{"a": "delivered", "b": "dropped", "c": "delivered"}], {"a@b.c", "c@b.c"}),
        ([{"a": "refused"}], set()),
        ([{"a": "delivered", "b": "delivered"}], set()),
        ([{"a": "delivered", "b": "refused"}, {"b": "delivered"}], set()),
        ([{"a": "delivered", "b": "refused"}, {"b": "refused"}], {"a@b.c"}),
        ([{"a": "delivered"}, {"a": "refused"}], set()),
    ],
)
def test_what_is_sent_again_goes_to_those_who_did_not_get_it_or_to_all(outbox, rounds, ended):
    outbox.accept([event()], [True])
    outbox.record(1, results(**rounds[0]), done=True)
    for number, verdicts in enumerate(rounds[1:], 2):
        assert outbox.accept([again(1)], [True]) == [number]
        outbox.record(number, results(**verdicts), done=True)
    (number,) = outbox.accept([again(1)], [True])
    everyone = {each.recipient for verdicts in rounds for each in results(**verdicts)}
    assert outbox.ended(number, everyone) == ended
    outbox.record(number, results(z="delivered"), done=False)
    assert outbox.ended(number, everyone) == {*ended, "z@b.c"}


def test_an_event_of_a_digest_is_sent_again_alone(outbox):
    outbox.accept([event(), event()])
    outbox.assign_to_mail([1, 2])
    outbox.record(1, results(a="refused"), done=True)
    outbox.accept([again(1)], [True])
    mail = outbox.digest(3, 10)
    assert ([each.about for each in mail.events], mail.count) == ([1], 1)
    outbox.record(3, results(a="delivered"), done=True)
    assert [each.verdict for each in outbox.deliveries(1)] == ["refused"]
    assert outbox.waiting_count() == 0


def test_what_is_given_up_is_recorded_for_those_it_was_sent_to_again(outbox):
    """Not for a recipient who got the event before, and not as a part of a digest of new events."""
    outbox.accept([event(), event()], [True, True])
    outbox.record(1, results(a="delivered", b="refused"), done=True)
    outbox.accept([again(1), event()], [True])
    assert outbox.expire(4, {"fault": results(a="dropped", b="dropped")}) == 3
    assert [(each.recipient, each.verdict) for each in outbox.deliveries(3)] == [("b@b.c", "dropped")]
    assert outbox.digest(2, 10).ranges == [(2, 2), (4, 4)]
    assert [each.recipient for each in outbox.deliveries(2)] == ["a@b.c", "b@b.c"]


def test_an_action_is_no_event_and_has_a_place_in_the_limit(tmp_path):
    with contextlib.closing(Outbox(tmp_path / "small.sqlite3", rows_maximum=10)) as outbox:
        outbox.accept([event(waiting=False, user=33)])
        outbox.accept([again(1, waiting=False, user=33)], [True])
        outbox.accept([event(waiting=False, user=33) for _ in range(8)])
        assert (outbox.count, len(outbox.actions([1])[1])) == (9, 1)
        outbox.accept([event(waiting=False, user=33), event(waiting=False, user=33)])
        assert (outbox.actions([1]), outbox.removed()["removed_fault"]) == ({}, 1)


def test_the_ledger_before_users_keeps_every_row_and_no_second_copy(path):
    with contextlib.closing(Outbox(path)) as outbox:
        outbox.accept([event(text="x" * 3000)] * 200)
        before = outbox.waiting(200)
    with contextlib.closing(sqlite3.connect(path)) as old:
        without_actions(old)
        old.execute("ALTER TABLE event DROP COLUMN uid")
        old.execute("PRAGMA user_version = 2")
    size = path.stat().st_size
    with contextlib.closing(Outbox(path)) as outbox:
        assert (outbox.set_aside, outbox.waiting(200)) == (None, before)
        assert outbox.accept([dataclasses.replace(event(), user=33)]) == [201]
    assert path.stat().st_size <= size + 64 * 1024
    with contextlib.closing(Outbox(path)) as outbox:
        assert [each.user for each in outbox.waiting(2, 199)] == [-1, 33]


def test_an_older_ledger_that_is_not_as_it_was_is_set_aside(path):
    with contextlib.closing(sqlite3.connect(path)) as old:
        old.executescript(OLD.replace("    source TEXT NOT NULL,\n", "").replace("'smart', ", "").replace("'', ", ""))
    with contextlib.closing(Outbox(path)) as outbox:
        assert outbox.set_aside is not None


# Threads


def test_threads_that_accept_and_record_at_once_lose_nothing(outbox):
    numbers: list[int] = []
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(20):
                mine = outbox.accept([event(), event()])
                numbers.extend(mine)
                outbox.record(mine[0], [delivery()], done=True)
                outbox.set_metadata("last", str(mine[0]))
                outbox.waiting()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert sorted(numbers) == list(range(1, 321))
    assert outbox.waiting_count() == 160
