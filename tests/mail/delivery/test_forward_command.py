"""The maker's program that gets every event: at least once, in order, with what was lost reported as a gap."""

from __future__ import annotations

import json
import random
import signal
import socket
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_ui.errors import Message, to_stored
from device_ui.mail import catalog
from device_ui.mail.clock import Clock
from device_ui.mail.delivery.environment import Environment
from device_ui.mail.delivery.forward_command import BYTES_MAXIMUM, LINES_MAXIMUM, ForwardCommand
from device_ui.mail.events import Delivery, Event
from device_ui.mail.outbox.outbox import Outbox
from device_ui.mail.outbox.retention import FORWARDED
from tests.helpers.delivery import NAMES
from tests.helpers.product import Product, no_thread, settings_form, wait_for
from tests.servers.scripted import ScriptedServer

DAY = 24 * 3600.0


class Engine:
    """The maker's program, a shell script that appends what it gets to a file: `more` comes after that."""

    def __init__(self, folder: Path, more: str = "") -> None:
        self.path, self.seen, self.code = folder / "forward", folder / "seen", folder / "code"
        self.path.write_text(
            f"#!/bin/sh\n/bin/cat >> {self.seen}\necho >> {self.seen}.runs\n{more}\n[ ! -e {self.code} ]\n"
        )
        self.path.chmod(0o755)

    @property
    def lines(self) -> list[dict]:
        """The lines of all runs."""
        return [json.loads(line) for line in self.seen.read_text().splitlines()] if self.seen.exists() else []

    @property
    def numbers(self) -> list[int]:
        """The numbers of all runs: of events, and those that a gap covers."""
        return [number for line in self.lines for number in covered(line)]

    @property
    def runs(self) -> int:
        """How often it ran."""
        path = self.seen.with_name("seen.runs")
        return len(path.read_text().splitlines()) if path.exists() else 0

    def breaks(self, is_broken: bool = True) -> None:
        """Let it exit with 1 from now on, or with 0 again."""
        self.code.write_text("") if is_broken else self.code.unlink()


def covered(line: dict) -> range:
    """The numbers that a line stands for."""
    return (
        range(line["gap"]["first"], line["gap"]["last"] + 1)
        if "gap" in line
        else range(line["number"], line["number"] + 1)
    )


class Bench:
    """A ledger and the hook's part that forwards, with clocks that the test moves."""

    def __init__(self, folder: Path, engine: Engine, rows: int = 100_000, seconds: float = 20.0) -> None:
        self.folder, self.engine, self.rows, self.seconds = folder, engine, rows, seconds
        self.now, self.wall = 1000.0, 1.8e9
        self.open()

    def open(self) -> None:
        """The process starts."""
        self.outbox = Outbox(self.folder / "ledger.sqlite3", rows_maximum=self.rows)
        self.clock = Clock(wall=lambda: self.wall, boot=lambda: self.now, boot_id="boot", synchronized=lambda: False)
        environment = Environment(NAMES, list, None, self.clock, lambda: self.now, lambda: 0.5)  # type: ignore[arg-type]
        self.forward = ForwardCommand(
            str(self.engine.path), self.outbox, catalog.built_in(), environment, seconds=self.seconds
        )

    def restart(self) -> None:
        """The process ends and starts again."""
        self.outbox.close()
        self.open()

    def accept(self, count: int = 1, text: str = "full", **fields: object) -> None:
        """Accept events."""
        stamp = self.clock.stamp()
        event = Event("303", "fault", stamp.time, stamp.time, "auditd", text, clock=stamp.clock, waiting=False)
        self.outbox.accept([event] * count)

    def work(self) -> None:
        """Do what the thread does, until every event was handed over."""
        while (wait := self.forward.round()) is not None:
            self.now += wait

    @property
    def cursor(self) -> int:
        """The cursor on flash."""
        return int(self.outbox.metadata().get(FORWARDED, "0"))


@pytest.fixture
def engine(folder):
    return Engine(folder)


@pytest.fixture
def bench(folder, engine):
    bench = Bench(folder, engine)
    yield bench
    bench.outbox.close()


# What the program gets.


def test_the_backlog_is_what_the_program_did_not_take(bench, engine):
    bench.accept(3)
    engine.breaks()
    bench.forward.round()
    assert bench.forward.backlog() == 3
    engine.breaks(False)
    bench.work()
    assert bench.forward.backlog() == 0


def test_without_a_program_there_is_no_backlog(bench):
    bench.accept(3)
    environment = Environment(NAMES, list, None, bench.clock, lambda: bench.now, lambda: 0.5)  # type: ignore[arg-type]
    assert ForwardCommand("", bench.outbox, catalog.built_in(), environment).backlog() is None


def test_event_is_one_line_of_json(bench, engine):
    bench.accept(text='line one\nline "two" \u2028 한')
    bench.work()
    moment = engine.lines[0].pop("time")
    assert moment.startswith("2027-01-15T") and moment[-6] in "+-"
    assert engine.lines[0] | {"time": ""} == {
        "number": 1,
        "ledger": bench.outbox.id,
        "time": "",
        "code": "303",
        "type": "fault",
        "name": catalog.built_in()["303"].name,
        "text": 'line one\nline "two" \u2028 한',
        "source": "auditd",
        "device": "Storage",
        "serial": "7",
    }


def test_event_before_the_clock_is_right_has_the_seconds_since_the_start_of_the_device(bench, engine):
    bench.wall = 100.0
    bench.restart()
    bench.accept()
    bench.work()
    line = engine.lines[0]
    assert (line["time"], line["boot"], line["monotonic"]) == (None, "boot", 1000.0)


def test_event_of_the_device_itself_is_in_english(bench, engine):
    source = to_stored(Message("SMTP tab, from {by}", by="192.0.2.7"))
    bench.outbox.accept([Event("902", "info", 1.8e9, 1.8e9, source, to_stored(Message("by apply")), waiting=False)])
    bench.work()
    assert (engine.lines[0]["source"], engine.lines[0]["text"]) == ("SMTP tab, from 192.0.2.7", "by apply")


def test_its_environment_holds_a_path_and_nothing_else(folder):
    engine = Engine(folder, f"/usr/bin/env > {folder}/environment")
    bench = Bench(folder, engine)
    bench.accept()
    bench.work()
    names = {line.partition("=")[0] for line in (folder / "environment").read_text().splitlines()}
    assert names - {"PWD", "OLDPWD", "SHLVL", "_"} == {"PATH"}


def test_run_has_a_hundred_lines_at_most_and_fewer_long_ones(bench, engine):
    bench.accept(250)
    bench.work()
    assert (engine.runs, engine.numbers) == (3, list(range(1, 251)))
    assert LINES_MAXIMUM == 100
    bench.accept(100, text="x" * 10_000)
    bench.work()
    assert engine.runs == 3 + -(-100 * 10_000 // BYTES_MAXIMUM)
    assert engine.numbers == list(range(1, 351))


def test_without_a_program_nothing_waits(folder):
    engine = Engine(folder)
    engine.path = ""  # type: ignore[assignment]
    bench = Bench(folder, engine)
    bench.accept()
    assert bench.forward.is_idle() and bench.forward.round() is None


# The cursor.


def test_only_an_exit_with_0_moves_the_cursor_which_is_on_flash(bench, engine):
    bench.accept(3)
    engine.breaks()
    assert bench.forward.round() == pytest.approx(35.0)
    assert (bench.cursor, bench.forward.is_idle()) == (0, False)
    engine.breaks(False)
    bench.work()
    assert (bench.cursor, bench.forward.is_idle()) == (3, True)
    assert engine.numbers == [1, 2, 3, 1, 2, 3]
    bench.restart()
    bench.work()
    assert engine.runs == 2


def test_try_that_fails_writes_nothing_and_the_waits_grow_to_an_hour(bench, engine):
    bench.accept()
    engine.breaks()
    before = {path.name: path.read_bytes() for path in bench.folder.glob("ledger*")}
    waits = []
    for _ in range(12):
        waits.append(bench.forward.round())
        bench.accept()  # a new event is no reason to try earlier
        assert bench.forward.round() == waits[-1]
        bench.now += waits[-1] or 0
        if len(waits) == 1:
            before = {path.name: path.read_bytes() for path in bench.folder.glob("ledger*")}
            bench.forward.round()
            assert {path.name: path.read_bytes() for path in bench.folder.glob("ledger*")} == before
            bench.now += 4000
    assert 30 <= waits[0] <= 40 and 2700 <= waits[-1] <= 3600 and waits == sorted(waits)


def test_failure_is_logged_once(bench, engine, caplog):
    bench.accept()
    engine.breaks()
    for _ in range(3):
        bench.now += bench.forward.round()
    assert [record.getMessage() for record in caplog.records] == [f"{engine.path} ended with 1"]


@pytest.mark.parametrize("more", ["/bin/sleep 600 & wait", "trap '' TERM; /bin/sleep 600"])
def test_program_that_does_not_end_is_killed_with_what_it_started_and_its_events_are_handed_over_again(folder, more):
    engine = Engine(folder, f"echo $$ > {folder}/leader\n[ -e {folder}/awake ] || {{ {more}; }}")
    bench = Bench(folder, engine, seconds=0.5)
    bench.accept(2)
    assert bench.forward.round() > 0
    leader = int((folder / "leader").read_text())
    wait_for(lambda: not _group(leader), what="the end of the group")
    assert bench.cursor == 0
    (folder / "awake").touch()
    bench.now += 40
    bench.work()
    assert (engine.numbers, bench.cursor) == ([1, 2, 1, 2], 2)


def _group(leader: int) -> list[str]:
    """The processes of a group that are not zombies."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(") ")[2].split()
        except OSError:
            continue
        if int(fields[2]) == leader and fields[0] != "Z":
            found.append(path.parent.name)
    return found


def test_program_that_reads_nothing_is_judged_by_its_exit_alone(folder):
    engine = Engine(folder)
    engine.path.write_text(f"#!/bin/sh\n[ ! -e {engine.code} ]\n")
    bench = Bench(folder, engine)
    bench.accept(100, text="x" * 2000)
    engine.breaks()
    assert bench.forward.round() > 0
    engine.breaks(False)
    bench.now += 40
    bench.work()
    assert bench.cursor == 100


@pytest.mark.parametrize("text", ["-1", "12x", "9" * 30, "999", "", "\u0661"])
def test_damaged_cursor_hands_over_again_and_loses_nothing(bench, engine, text):
    bench.accept(3)
    bench.outbox.set_metadata(FORWARDED, text)
    bench.restart()
    bench.work()
    assert engine.numbers == [1, 2, 3]


def test_program_that_cannot_be_run_is_logged_and_tried_again(bench, engine, caplog):
    bench.accept()
    engine.path.chmod(0o644)
    bench.now += bench.forward.round()
    assert "could not be run: Permission denied" in caplog.text
    engine.path.chmod(0o755)
    bench.work()
    assert engine.numbers == [1]


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
MOMENTS = st.one_of(
    TEXTS,
    st.sampled_from(["@boot", "@boot ", "@boot x", "@boot nan", "@boot inf", "@boot 1e400", "@", "later", "@boot 7.5"]),
)
TIMES = st.one_of(st.just(0.0), st.floats(allow_nan=False))
MESSAGES = st.one_of(
    TEXTS, TEXTS.map(lambda text: '{"template": ' + text), st.just('{"template": "{a}", "values": {"b": []}}')
)


@given(MOMENTS, TIMES, MESSAGES, st.sampled_from(["303", "902", "901", "\x00"]))
@settings(max_examples=60, deadline=None)
def test_event_with_a_damaged_value_holds_back_no_other(values, clock, time, text, code):
    bench, engine = values
    bench.accept(3)
    damaged = bench.outbox.last - 1
    query = "UPDATE event SET clock = ?, time = ?, text = ?, source = ?, code = ? WHERE number = ?"
    bench.outbox.write(lambda cursor: cursor.execute(query, (clock, time, text, text, code, damaged)))
    engine.seen.unlink(missing_ok=True)
    bench.work()
    lines = [json.loads(line, parse_constant=pytest.fail) for line in engine.seen.read_text().splitlines()]
    assert [line["number"] for line in lines] == [damaged - 1, damaged, damaged + 1]


@pytest.fixture(scope="module")
def values(tmp_path_factory):
    """A ledger and an engine for the examples of a property."""
    folder = tmp_path_factory.mktemp("damaged")
    engine = Engine(folder)
    bench = Bench(folder, engine)
    yield bench, engine
    bench.outbox.close()


# Gaps.


def test_engine_that_is_away_for_a_month_finds_what_the_ledger_kept_and_a_gap_for_the_rest(folder, engine):
    bench = Bench(folder, engine, rows=200)
    engine.breaks()
    for _ in range(30):
        bench.accept(40)
        bench.forward.round()
        bench.now += DAY
    assert bench.outbox.count <= 200
    tries = len(engine.lines)
    engine.breaks(False)
    bench.work()
    found = engine.lines[tries:]
    assert [number for line in found for number in covered(line)] == list(range(1, 1201))
    assert [line["gap"] for line in found if "gap" in line] == [
        {"first": 1, "last": 1200 - bench.outbox.count, "count": 1200 - bench.outbox.count}
    ]


def test_gaps_in_between_are_in_their_places(folder, engine):
    bench = Bench(folder, engine)
    bench.accept(10)
    for number in (1, 4, 5, 6, 9):
        bench.outbox.write(
            lambda cursor, number=number: cursor.execute("DELETE FROM event WHERE number = ?", (number,))
        )
    bench.work()
    assert [(line.get("number"), line.get("gap")) for line in engine.lines] == [
        (None, {"first": 1, "last": 1, "count": 1}),
        (2, None),
        (3, None),
        (None, {"first": 4, "last": 6, "count": 3}),
        (7, None),
        (8, None),
        (None, {"first": 9, "last": 9, "count": 1}),
        (10, None),
    ]


def test_event_that_was_handed_over_before_it_was_removed_is_no_gap(folder, engine):
    bench = Bench(folder, engine, rows=200)
    for _ in range(20):
        bench.accept(40)
        bench.work()
    assert not any("gap" in line for line in engine.lines)
    assert engine.numbers == list(range(1, 801))


def test_new_ledger_has_a_name_of_its_own(folder, engine):
    bench = Bench(folder, engine)
    bench.accept(2)
    bench.work()
    bench.outbox.close()
    (folder / "ledger.sqlite3").unlink()
    bench.open()
    bench.accept(1)
    bench.work()
    assert [line["number"] for line in engine.lines] == [1, 2, 1]
    assert engine.lines[0]["ledger"] != engine.lines[2]["ledger"] == bench.outbox.id


@given(st.lists(st.sampled_from(["accept", "storm", "break", "mend", "restart", "round", "hour"]), max_size=25))
@settings(max_examples=15)
def test_whatever_happens_the_engine_has_every_number_in_order_and_copies_only_of_a_run_that_failed(
    tmp_path_factory, steps
):
    folder = tmp_path_factory.mktemp("forward")
    engine = Engine(folder)
    bench = Bench(folder, engine, rows=150)
    for step in steps:
        match step:
            case "accept":
                bench.accept()
            case "storm":
                bench.accept(90)
            case "break":
                engine.breaks()
            case "mend":
                engine.code.unlink(missing_ok=True)
            case "restart":
                bench.restart()
            case "round":
                bench.forward.round()
            case "hour":
                bench.now += 3600
    engine.code.unlink(missing_ok=True)
    bench.now += 3600
    bench.work()
    numbers = engine.numbers
    assert sorted(set(numbers)) == list(range(1, bench.outbox.last + 1))
    # Each number first comes after the one before it.
    assert [number for place, number in enumerate(numbers) if number not in numbers[:place]] == sorted(set(numbers))
    bench.outbox.close()


# Outcomes.


@pytest.fixture
def asked(bench):
    """A maker who asks for outcomes."""
    bench.outbox.keep_outcomes(True)
    return bench


def mailed(bench: Bench, text: str = "x") -> int:
    """An event whose mail waits."""
    [number] = bench.outbox.accept([Event("303", "fault", 1.8e9, 1.8e9, "test", text)], [True])
    return number


def ends(bench: Bench, number: int, *verdicts: str, done: bool = True) -> None:
    """A mail's results, each of a recipient."""
    results = [Delivery(f"r{place}@example.com", each, "DATA", "250", 1.8e9) for place, each in enumerate(verdicts)]
    bench.outbox.record(number, results, done=done)


def outcomes(engine: Engine) -> list[tuple[int, str]]:
    """The outcomes of all runs."""
    return [(line["number"], line["outcome"]) for line in engine.lines if "outcome" in line]


@pytest.mark.parametrize(
    ("verdicts", "state"),
    [
        (["delivered", "delivered"], "delivered"),
        (["delivered", "refused"], "partly delivered"),
        (["refused"], "refused"),
        (["dropped"], "dropped"),
    ],
)
def test_outcome_follows_its_event_once_the_mail_ended(asked, engine, verdicts, state):
    number = mailed(asked)
    asked.work()
    ends(asked, number, *verdicts[:1], done=False)
    asked.work()
    assert outcomes(engine) == asked.outbox.outcomes(number, 9) == [] and asked.forward.is_idle()
    ends(asked, number, *verdicts)
    asked.work()
    assert engine.lines[-1] == {
        "number": number,
        "ledger": asked.outbox.id,
        "outcome": state,
        "device": "Storage",
        "serial": "7",
    }
    asked.restart()
    asked.outbox.keep_outcomes(True)
    asked.work()
    assert len(engine.lines) == 2


def test_without_being_asked_there_are_none_and_nothing_is_kept(bench, engine):
    ends(bench, mailed(bench), "delivered")
    bench.work()
    assert outcomes(engine) == [] and bench.outbox.read("SELECT * FROM outcome", ()) == []


def test_outcomes_that_are_not_asked_for_any_more_are_forgotten(asked, engine):
    ends(asked, mailed(asked), "delivered")
    asked.restart()
    asked.outbox.keep_outcomes(False)
    asked.work()
    assert outcomes(engine) == [] and not asked.outbox.has_outcomes


def test_outcome_of_a_digest_is_one_for_each_of_its_events(asked, engine):
    events = [Event("303", "fault", 1.8e9, 1.8e9, "test", "x")] * 3
    mail = asked.outbox.assign_to_mail(asked.outbox.accept(events))
    ends(asked, mail, "delivered")
    asked.work()
    assert outcomes(engine) == [(1, "delivered"), (2, "delivered"), (3, "delivered")]


def test_outcome_of_an_event_that_is_sent_again_is_that_of_both_mails(asked, engine):
    number = mailed(asked)
    ends(asked, number, "delivered", "refused")
    asked.work()
    again = Event("303", "fault", 1.8e9, 1.8e9, "page", "send again", about=number)
    [action] = asked.outbox.accept([again], [True])
    asked.outbox.record(action, [Delivery("r1@example.com", "delivered", "DATA", "250", 1.8e9)], done=True)
    asked.work()
    assert outcomes(engine) == [(number, "partly delivered"), (number, "delivered")]


def test_outcomes_of_given_up_and_unwanted_events_are_forwarded(asked, engine):
    given_up, unwanted = mailed(asked), 2
    asked.outbox.accept([Event("050", "info", 1.8e9, 1.8e9, "test", "x")])
    dropped = [Delivery("r@example.com", "dropped", "", "given up", 1.8e9)]
    asked.outbox.expire(given_up, {"fault": dropped})
    asked.outbox.discard_waiting("info")
    asked.work()
    assert outcomes(engine) == [(given_up, "dropped"), (unwanted, "not mailed")]


def test_outcome_comes_again_until_the_program_has_it_and_never_before_its_event(asked, engine):
    # So long that a run has room for more lines, but not for more events.
    numbers = [mailed(asked, "x" * 10_000) for _ in range(150)]
    for number in numbers:
        ends(asked, number, "delivered")
    engine.breaks()
    asked.forward.round()
    failed = len(engine.lines)
    asked.restart()
    asked.outbox.keep_outcomes(True)
    engine.breaks(False)
    asked.work()
    lines = engine.lines[failed:]
    assert [line["number"] for line in lines if "outcome" not in line] == numbers
    assert [line["number"] for line in lines if "outcome" in line] == numbers
    assert {line.get("outcome", "delivered") for line in lines} == {"delivered"}
    for number in numbers:
        event, outcome = (place for place, line in enumerate(lines) if line["number"] == number)
        assert "outcome" in lines[outcome] and event < outcome


def test_outcome_that_changes_while_the_program_runs_is_handed_over_again(asked, engine):
    number = mailed(asked)
    ends(asked, number, "refused")
    before = asked.outbox.outcomes(number, 10)
    ends(asked, number, "delivered")
    asked.outbox.forwarded(number, before)
    assert [state for *_, state in asked.outbox.outcomes(number, 10)] == ["delivered"]
    assert asked.outbox.has_outcomes


def test_engine_that_is_away_gets_the_outcome_of_each_event_that_it_has_or_that_the_ledger_kept(folder, engine):
    bench = Bench(folder, engine, rows=200)
    bench.outbox.keep_outcomes(True)
    known = [mailed(bench) for _ in range(50)]
    bench.work()
    # The limit removes these, whose mails are over, and keeps those that wait.
    for number in known[:25]:
        ends(bench, number, "delivered")
    for _ in range(30):
        for number in [mailed(bench) for _ in range(40)]:
            ends(bench, number, "delivered")
    for number in known[25:]:
        ends(bench, number, "delivered")
    assert bench.outbox.read("SELECT count(*) FROM outcome", ())[0][0] <= 250
    bench.work()
    kept = {event.number for event in bench.outbox.select("number > 0", ())}
    assert kept & {*known} == {*known[25:]}
    assert dict(outcomes(engine)) == {
        number: "delivered" if number in kept else "removed" for number in [*known, *sorted(kept - {*known})]
    }


def test_hook_hands_over_an_outcome_as_soon_as_the_mail_ended(product, tmp_path):
    engine = Engine(tmp_path)
    product.maker(f'[mail]\nforward_command = "{engine.path}"\nforward_outcomes = true\n')
    with ScriptedServer(features=("AUTH PLAIN LOGIN",)) as server:
        product.start().save(**settings_form(server.port), security="none")
        number = product.event("303")
        wait_for(lambda: (number, "delivered") in outcomes(engine), what="the outcome")
    assert len(outcomes(engine)) == 1


# In the hook.


@pytest.fixture
def forwarding(product: Product, tmp_path: Path):
    """A device whose maker has a program."""
    engine = Engine(tmp_path)
    product.maker(f'[mail]\nforward_command = "{engine.path}"\n')
    return product, engine


def test_hook_hands_over_every_event_mailed_or_not_and_a_storm_is_a_few_runs(forwarding):
    product, engine = forwarding
    product.start_hook()
    for code in ("303", "153", "999"):
        product.event(code)
    wait_for(lambda: engine.numbers == [1, 2, 3], what="three events")
    raise_many(product, 200)
    wait_for(lambda: engine.numbers[-1:] == [203], what="the storm")
    assert engine.numbers == list(range(1, 204))
    assert engine.runs < 100


def raise_many(product: Product, count: int) -> None:
    """Raise events on one connection, all at once."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(product.folders.socket))
        answers = sock.makefile("rb")
        sock.sendall(b"event 303 full\n" * count)
        for _ in range(count):
            assert answers.readline().startswith(b"accepted ")


def test_hook_that_is_killed_again_and_again_loses_nothing(forwarding):
    product, engine = forwarding
    chance = random.Random(18)
    for _ in range(6):
        product.start_hook()
        for _ in range(5):
            raise_many(product, 30)
        threading.Event().wait(chance.random())
        product.stop("mailhook", signal.SIGKILL)
    product.start_hook()
    last = product.event("303")
    wait_for(lambda: last in engine.numbers, what="the last event")
    assert set(engine.numbers) == set(range(1, last + 1))
    assert not any("gap" in line for line in engine.lines)


def test_program_that_hangs_delays_neither_an_event_nor_the_end_of_the_hook(product, tmp_path):
    engine = Engine(tmp_path, f"echo $$ > {tmp_path}/leader; exec /bin/sleep 600")
    product.maker(f'[mail]\nforward_command = "{engine.path}"\n').start_hook()
    product.event("303")
    wait_for(lambda: (tmp_path / "leader").exists() and (tmp_path / "leader").read_text(), what="the program")
    product.event("303")
    assert product.stop("mailhook") == 0
    wait_for(lambda: not _group(int((tmp_path / "leader").read_text())), what="the end of the program")


def test_system_without_a_thread_accepts_events_all_the_same(bench, caplog):
    with no_thread():
        bench.forward.start()
    assert "was not run" in caplog.text
    bench.forward.stop()


def test_thread_hands_over_what_was_accepted_and_ends(bench, engine):
    bench.outbox.on_change = bench.forward.wake
    bench.forward.start()
    bench.accept()
    wait_for(lambda: engine.numbers == [1], what="the event")
    bench.accept()
    wait_for(lambda: engine.numbers == [1, 2], what="the second event")
    bench.forward.stop()
    assert not [each for each in threading.enumerate() if each.name == "forward command" and each.is_alive()]


def test_check_names_a_program_that_cannot_be_run(product):
    product.maker('[mail]\nforward_command = "/nonexistent/program"\n')
    assert (
        "FAIL  forward program: /nonexistent/program cannot be run (mail.forward_command"
        in product.command("check").stdout
    )
