"""The ledger's limit: what goes first, what never goes, and that every event that went is counted."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_ui.mail import catalog
from device_ui.mail.clock import Clock
from device_ui.mail.delivery.batching import Batcher
from device_ui.mail.delivery.environment import Environment
from device_ui.mail.delivery.quota import Quota
from device_ui.mail.delivery.schedule import Schedule
from device_ui.mail.delivery.sender import Sender
from device_ui.mail.delivery.worker import DeliveryWorker
from device_ui.mail.events import Delivery, Event
from device_ui.mail.outbox import retention
from device_ui.mail.outbox.outbox import Outbox
from device_ui.mail.smtp.outcome import Outcome
from device_ui.settings.fields import SmtpSettings
from device_ui.settings.store import Store
from tests.helpers.product import ROOT

MEMORY = Path("/dev/shm")
OK = Delivery("a@example.com", "delivered", "content", "250 ok", 3.0)
NOW = 1_800_000_000.0
MIB = 1024 * 1024


def event(type_: str = "fault", text: str = "", waiting: bool = True) -> Event:
    return Event("303" if type_ == "fault" else "101", type_, NOW, NOW, text=text, waiting=waiting)


FAULT, INFO = event(), event("info")
DONE_FAULT, DONE_INFO = event(waiting=False), event("info", waiting=False)
CHANGE = Event("902", "info", NOW, NOW, waiting=False)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder in memory where there is such a place."""
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as name:
        yield Path(name)


@pytest.fixture
def small(folder):
    """A ledger of ten events at most."""
    outbox = Outbox(folder / "ledger.sqlite3", rows_maximum=10)
    yield outbox
    outbox.close()


def kept(outbox: Outbox) -> list[int]:
    return [row[0] for row in outbox.read("SELECT number FROM event ORDER BY number", ())]


def with_deliveries(outbox: Outbox) -> list[int]:
    return [row[0] for row in outbox.read("SELECT DISTINCT number FROM delivery ORDER BY number", ())]


# What goes


@pytest.mark.parametrize(
    ("there", "gone"),
    [
        ([FAULT, INFO, DONE_FAULT, DONE_INFO, DONE_INFO], [4]),
        ([FAULT, INFO, DONE_FAULT, DONE_FAULT, INFO], [3]),
        ([FAULT, FAULT, INFO, INFO, FAULT], [3]),
        ([FAULT, FAULT, FAULT, FAULT, FAULT], [1]),
    ],
    ids=["mailed infos first", "then mailed faults", "then infos that wait", "then faults that wait"],
)
def test_the_least_missed_goes_first_and_of_it_the_oldest(small, there, gone):
    small.accept([*there, *[FAULT] * 5])
    small.accept([FAULT])
    assert kept(small) == [number for number in range(1, 12) if number not in gone]


def test_one_kind_after_the_other_goes_when_one_is_not_enough(small):
    small.accept([FAULT, INFO, DONE_FAULT, DONE_INFO, *[FAULT] * 6])
    small.accept([FAULT] * 4)
    assert kept(small) == [*range(5, 15)]
    assert small.removed() == {"removed_info": 1, "removed_fault": 1, "removed_waiting": 2, "removed_untold": 2}


def test_no_other_event_pushes_out_the_newest_change_of_the_server(tmp_path):
    """Whoever changes it may raise any number of others."""
    with closing(Outbox(tmp_path / "ledger.sqlite3", rows_maximum=300)) as outbox:
        outbox.accept([CHANGE] * 5)
        for _ in range(10):
            outbox.accept([FAULT, DONE_INFO] * 50)
        assert [each.number for each in outbox.select("code = '902' ORDER BY number", ())] == [3, 4, 5]
        assert outbox.count <= 300
        outbox.accept([CHANGE] * 300)
        outbox.accept([CHANGE] * 300)
        assert outbox.count <= 300


def test_what_is_being_accepted_never_goes(small):
    small.accept([FAULT] * 10)
    assert small.accept([DONE_INFO]) == [11]
    assert kept(small) == [*range(2, 12)]


def test_a_batch_beyond_the_limit_is_kept_whole(small):
    small.accept([FAULT] * 10)
    assert small.accept([DONE_INFO] * 30) == [*range(11, 41)]
    assert kept(small) == [*range(11, 41)]
    small.accept([FAULT])
    assert kept(small) == [*range(32, 42)]


def test_below_the_limit_nothing_goes(small):
    small.accept([DONE_INFO] * 10)
    assert small.count == 10
    assert small.removed() == {"removed_info": 0, "removed_fault": 0, "removed_waiting": 0, "removed_untold": 0}


def test_no_number_is_given_twice_also_after_reopening(folder):
    numbers = []
    for _ in range(5):
        outbox = Outbox(folder / "ledger.sqlite3", rows_maximum=3)
        numbers += outbox.accept([DONE_INFO] * 4)
        numbers += outbox.accept([DONE_INFO])
        outbox.close()
    assert numbers == [*range(1, 26)]


def test_a_hundredth_goes_at_once(folder):
    outbox = Outbox(folder / "ledger.sqlite3", rows_maximum=1000)
    outbox.accept([DONE_INFO] * 1000)
    outbox.accept([FAULT])
    assert outbox.count == 990
    outbox.close()


# What became of it goes too


def test_what_became_of_an_event_goes_with_it(small):
    small.accept([DONE_INFO, DONE_INFO, *[FAULT] * 8])
    small.record(1, [OK], done=True)
    small.record(2, [OK], done=True)
    small.accept([FAULT])
    assert with_deliveries(small) == [2]


def test_what_became_of_a_digest_stays_while_it_tells_of_something_that_is_kept(small):
    small.accept([INFO] * 3)
    small.assign_to_mail([1, 2, 3])
    small.record(1, [OK], done=True)
    small.accept([FAULT] * 7)
    for left in ([2, 3], [3]):
        small.accept([FAULT])
        assert kept(small)[: len(left)] == left
        assert with_deliveries(small) == [1]
    small.accept([FAULT])
    assert with_deliveries(small) == []


def test_the_last_of_a_digest_to_go_need_not_be_its_last_number(small):
    small.accept([INFO, FAULT])
    small.assign_to_mail([1, 2])
    small.record(1, [OK], done=True)
    small.accept([*[FAULT] * 8, FAULT])
    assert kept(small)[0] == 2
    assert with_deliveries(small) == [1]


# The count is exact

BATCH = st.lists(st.sampled_from([FAULT, INFO, DONE_FAULT, DONE_INFO]), min_size=1, max_size=6)
STEPS = st.one_of(
    BATCH.map(lambda events: ("accept", events)),
    st.tuples(st.sampled_from(["record", "decide", "reopen"]), st.integers(1, 40)),
)


class Model:
    """What a ledger of `most` rows must keep and count, in lists."""

    def __init__(self, most: int) -> None:
        self.most, self.last = most, 0
        self.rows: dict[int, list[object]] = {}  # type, waiting, mail
        self.delivered: set[int] = set()
        self.removed = {"removed_info": 0, "removed_fault": 0, "removed_waiting": 0, "removed_untold": 0}

    def accept(self, events: list[Event]) -> None:
        before = sorted(self.rows)
        for each in events:
            self.last += 1
            self.rows[self.last] = [each.type, each.waiting, 0]
        beyond = len(self.rows) - self.most
        left = min(beyond + len(before) // 100, len(before)) if beyond > 0 else 0
        order = [("info", False), ("fault", False), ("info", True), ("fault", True)]
        going = sorted(before, key=lambda number: (order.index(tuple(self.rows[number][:2])), number))[:left]
        for number in going:
            kind, waiting, mail = self.rows.pop(number)
            self.removed["removed_waiting" if waiting else f"removed_{kind}"] += 1
            self.removed["removed_untold"] += bool(waiting and (mail or number) not in self.delivered)
        mails = {row[2] or number for number, row in self.rows.items()}
        self.delivered -= set(going) - mails

    def decide(self, numbers: list[int]) -> None:
        chosen = [each for each in numbers if each in self.rows and self.rows[each][1:] == [True, 0]]
        for each in chosen:
            self.rows[each][2] = chosen[0]

    def record(self, number: int) -> None:
        self.delivered.add(number)
        for each, row in self.rows.items():
            if row[2] == number or (each == number and not row[2]):
                row[1] = False


def obey(model: Model, outbox: Outbox, what: str, value: object) -> None:
    if what == "accept":
        model.accept(value)
        outbox.accept(value)
    elif what == "decide":
        model.decide([value, value + 1, value + 2])
        outbox.assign_to_mail([value, value + 1, value + 2])
    else:
        model.record(value)
        outbox.record(value, [OK], done=True)


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 12), st.lists(STEPS, max_size=25))
def test_what_is_kept_or_counted_is_what_was_accepted(most, steps):
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as name:
        path = Path(name) / "ledger.sqlite3"
        model, outbox = Model(most), Outbox(path, rows_maximum=most)
        try:
            for what, value in steps:
                if what == "reopen":
                    outbox.close()
                    outbox = Outbox(path, rows_maximum=most)
                else:
                    obey(model, outbox, what, value)
                assert kept(outbox) == sorted(model.rows)
                assert outbox.removed() == model.removed
                assert outbox.count + sum(model.removed[each] for each in list(model.removed)[:3]) == outbox.last
        finally:
            outbox.close()


# Bytes


@pytest.mark.parametrize("length", [20, 1000, 9000], ids=["short", "long", "longer than a page"])
def test_the_bytes_hold_within_a_tenth(folder, length):
    outbox = Outbox(folder / "ledger.sqlite3", bytes_maximum=MIB)
    batch = [event("info", "x" * length, waiting=False)] * 20
    for _ in range(40_000_000 // 20 // (length + 200) // 10):
        outbox.accept(batch)
    pages, free, size = (
        outbox.read(f"PRAGMA {each}", ())[0][0] for each in ("page_count", "freelist_count", "page_size")
    )
    assert 0.7 * MIB < (pages - free) * size <= 1.1 * MIB
    assert pages * size <= 1.2 * MIB
    outbox.close()
    assert (folder / "ledger.sqlite3").stat().st_size <= 1.2 * MIB


def test_a_ledger_that_is_opened_with_a_smaller_limit_shrinks_with_the_next_event(folder):
    outbox = Outbox(folder / "ledger.sqlite3")
    outbox.accept([DONE_INFO] * 50)
    outbox.close()
    outbox = Outbox(folder / "ledger.sqlite3", rows_maximum=10)
    outbox.accept([FAULT])
    assert kept(outbox) == [*range(42, 52)]
    outbox.close()


# One commit

CHILD = """
import os, sys
from pathlib import Path
from device_ui.mail.outbox.outbox import Event, Outbox
outbox = Outbox(Path(sys.argv[1]), rows_maximum=10)
outbox.accept([Event("101", "info", 1.0, 1.0, waiting=False)] * 10)
os.write(1, b"begin")
outbox.accept([Event("303", "fault", 1.0, 1.0)] * 5)
os.write(1, b"accepted")
os._exit(0)
"""


def test_what_goes_costs_no_sync_of_its_own(tmp_path):
    log = tmp_path / "calls"
    strace = ["strace", "-f", "--seccomp-bpf", "-y", "-e", "trace=write,fsync,fdatasync", "-o", log]
    command = [*strace, sys.executable, "-c", CHILD]
    subprocess.run(
        [*command, tmp_path / "ledger.sqlite3"],
        check=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
    )
    calls = log.read_text()
    accepting = calls[calls.index('"begin"') : calls.index('"accepted"')]
    assert len(re.findall(r"(?:fsync|fdatasync)\(", accepting)) == 1


# What went unmailed is told once


class Courier:
    """Takes every mail, or defers every mail while `busy`."""

    is_open, local_address, size_maximum, busy = True, "192.0.2.7", 0, False
    certificates = ()

    def __init__(self) -> None:
        self.mails: list[bytes] = []

    def open(self, on_wait=None) -> None: ...

    def close(self) -> None: ...

    def deliver(self, recipients: list[str], message: bytes, **_: object) -> dict[str, Outcome]:
        self.mails.append(message)
        outcome = (
            Outcome("try later", "recipient", "450 busy") if self.busy else Outcome("delivered", "content", "250 ok")
        )
        return {each: outcome for each in recipients}


class NoPasswords:
    """Settings without a login."""

    def can_unseal(self, _: SmtpSettings) -> bool:
        return True


@pytest.fixture
def post(folder, small):
    """A postman over the small ledger, its courier, and a clock that we move."""
    store, courier, now = Store(folder / "smtp.toml"), Courier(), [1000.0]
    store.save(SmtpSettings("mail.example.com", 587, "Alarms", "alarm@mail.example.com", sign_in="none"), "")
    clock = Clock(wall=lambda: NOW, boot=lambda: now[0], boot_id="boot", synchronized=lambda: False)
    names = {"name": "NAS", "model": "", "serial": ""}
    environment = Environment(names, tuple, NoPasswords(), clock, lambda: now[0], lambda: 0.0)
    schedule = Schedule(small, Batcher(window=0), environment)
    sender = Sender(small, catalog.built_in(), lambda *_: courier, environment)
    worker = DeliveryWorker(small, store, schedule, sender, Quota(small, clock), lambda _: None)
    return worker, courier, now


def untold(mails: list[bytes]) -> list[int]:
    """How many events each mail says went unmailed, of those that say so."""
    found = [re.search(rb"Not mailed: +([0-9]+) events were removed before they could be", mail) for mail in mails]
    return [int(each[1]) for each in found if each]


def test_what_went_unmailed_is_told_in_one_mail(post, small):
    postman, courier, _ = post
    small.accept([FAULT] * 10)
    small.accept([FAULT] * 3)
    postman.round()
    assert len(courier.mails) == 10
    assert untold(courier.mails) == untold(courier.mails[:1]) == [3]
    assert small.removed()["removed_untold"] == 0
    assert small.removed()["removed_waiting"] == 3


def test_what_went_unmailed_is_told_again_while_no_mail_was_delivered(post, small):
    postman, courier, now = post
    small.accept([FAULT] * 10)
    small.accept([FAULT] * 3)
    courier.busy = True
    postman.round()
    assert small.removed()["removed_untold"] == 3
    courier.busy, count = False, len(courier.mails)
    now[0] += 4000
    postman.round()
    assert untold(courier.mails[count:]) == [3]
    assert small.removed()["removed_untold"] == 0


def test_what_goes_while_a_mail_is_under_way_is_told_in_the_next(post, small):
    postman, courier, _ = post
    small.accept([FAULT] * 10)
    small.accept([FAULT] * 3)

    def deliver(recipients: list[str], message: bytes, **_: object) -> dict[str, Outcome]:
        if not courier.mails:
            small.accept([FAULT] * 2)
        return Courier.deliver(courier, recipients, message)

    courier.deliver = deliver
    postman.round()
    assert untold(courier.mails) == [3, 2]


# Whose it is

RAISER, MEMBER, WEB = 0, 60, 33
LONG = "\U0001f4a5" * 2500  # 10,000 bytes


def by(user: int, count: int, text: str = "", type_: str = "fault") -> list[Event]:
    return [dataclasses.replace(event(type_, text), user=user)] * count


def counts(outbox: Outbox) -> dict[int, int]:
    return dict(outbox.read("SELECT uid, count(*) FROM event GROUP BY uid", ()))


@pytest.mark.parametrize("size", [1, 7, 40], ids=["one by one", "few", "more than a share"])
def test_who_floods_pays_for_it(folder, size):
    outbox = Outbox(folder / "ledger.sqlite3", rows_maximum=100)
    ours = outbox.accept(by(RAISER, 60))
    for _ in range(400 // size):
        outbox.accept(by(MEMBER, size))
    assert counts(outbox)[RAISER] == 60
    assert set(ours) <= set(kept(outbox))
    assert outbox.count <= 100 + size
    outbox.close()


def test_who_has_less_than_a_share_finds_room_where_there_is_most(folder):
    outbox = Outbox(folder / "ledger.sqlite3", rows_maximum=100)
    outbox.accept([*by(RAISER, 70), *by(MEMBER, 30)])
    outbox.accept(by(WEB, 1))
    assert counts(outbox) == {RAISER: 68, MEMBER: 30, WEB: 1}
    outbox.close()


def test_long_texts_are_paid_by_who_writes_them(folder):
    outbox = Outbox(folder / "ledger.sqlite3", bytes_maximum=MIB)
    ours = outbox.accept(by(RAISER, 1000))
    for _ in range(40):
        outbox.accept(by(MEMBER, 10, LONG))
    assert set(ours) <= set(kept(outbox))
    pages, free, size = (
        outbox.read(f"PRAGMA {each}", ())[0][0] for each in ("page_count", "freelist_count", "page_size")
    )
    assert (pages - free) * size <= 1.2 * MIB
    outbox.close()


def test_what_the_device_itself_recorded_is_pushed_out_by_nobody(folder):
    outbox = Outbox(folder / "ledger.sqlite3", rows_maximum=100)
    [changed] = outbox.accept([dataclasses.replace(FAULT, code="902", waiting=False)])
    for _ in range(50):
        outbox.accept([*by(MEMBER, 5), *by(WEB, 5, type_="info")])
    assert changed in kept(outbox)
    outbox.close()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([RAISER, MEMBER, WEB]), st.integers(1, 9)), min_size=10, max_size=60))
def test_who_holds_no_more_than_a_share_loses_nothing(batches):
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as name:
        path = Path(name) / "ledger.sqlite3"
        outbox = Outbox(path, rows_maximum=80)
        for number, (user, count) in enumerate(batches):
            before = counts(outbox)
            outbox.accept(by(user, count))
            after = counts(outbox)
            poor = {each for each, rows in before.items() if rows <= 80 // retention.SHARES and each != user}
            assert {each: after[each] for each in poor} == {each: before[each] for each in poor}
            if number % 10 == 9:
                outbox.close()
                outbox = Outbox(path, rows_maximum=80)
            assert {each: rows for each, (rows, _) in outbox._usage.items()} == after
        outbox.close()
