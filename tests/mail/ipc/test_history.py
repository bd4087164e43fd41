"""The history: asked by date, type and code, in any order, page by page; each bad word is answered with its reason."""

from __future__ import annotations

import dataclasses
import itertools
import time
import tracemalloc
from collections.abc import Iterable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from device_ui.mail import catalog
from device_ui.mail.events import Action, Delivery, Event
from device_ui.mail.ipc import history
from device_ui.mail.ipc.history import BadQuery, Live
from device_ui.mail.outbox import outbox as queries
from device_ui.mail.outbox.outbox import ACTED_ON, FAILED_MAILS, OF_FAILED_MAILS, SPAN, Outbox, Query

NOON = 1795348800.0  # 2026-11-22 12:00 UTC
DAY = 24 * 3600.0
ONE, TWO = "one@example.com", "two@example.com"
KINDS = catalog.built_in()
MANY = 100_000
# Rules and no names: what a name means changes with every release of tzdata, for dates to come.
SEOUL, BERLIN, CAIRO = "KST-9", "CET-1CEST,M3.5.0,M10.5.0/3", "EET-2EEST,M4.5.5/0,M10.5.4/24"
HAVANA = "CST5CDT,M3.2.0/0,M11.1.0/1"


@pytest.fixture
def outbox(tmp_path, zone):
    zone("UTC")
    outbox = Outbox(tmp_path / "ledger.sqlite3")
    yield outbox
    outbox.close()


def event(code="303", at=NOON, waiting=False, **fields):
    return Event(code, KINDS[code].type, at, at, waiting=waiting, **fields)


def nobody(mail, kind):
    """Nobody is known who still waits for a mail."""
    return (), "", ""


def unwarned(number):
    """Nobody is still to be warned of a changed server."""
    return ()


def lines(outbox, waits=nobody, **request):
    query = history.read_query({name.rstrip("_"): value for name, value in request.items()})
    return [line for line in history.answer(query, outbox, KINDS, Live(waits, unwarned)) if line]


def events(outbox, **request):
    """The events of an answer, without its end."""
    return [line["event"] for line in lines(outbox, **request) if "event" in line]


def numbers(outbox, **request):
    return [each["number"] for each in events(outbox, **request)]


def delivered(outbox, number, *verdicts):
    ended = [Delivery(f"{place}@x.yy", each, "content", "250 ok", NOON) for place, each in enumerate(verdicts)]
    outbox.record(number, ended, done=True)


# The line of an event


def test_an_event_is_told_whole(outbox):
    outbox.accept([event(source="auditd", text="98 %\nfull")])
    outbox.record(1, [Delivery(ONE, "refused", "recipient", "550 no such user", NOON + 1)], done=True)
    assert events(outbox) == [
        {
            "number": 1,
            "time": "2026-11-22 12:00:00 +00:00 (UTC)",
            "seconds": NOON,
            "local": ("2026-11-22", "12:00:00", "+00:00 (UTC)"),
            "type": "fault",
            "code": "303",
            "name": "Audit log space: minor threshold exceeded",
            "source": "auditd",
            "text": "98 %\nfull",
            "state": "refused",
            "mail": 0,
            "deliveries": [
                {
                    "recipient": "one@example.com",
                    "verdict": "refused",
                    "step": "recipient",
                    "reply": "550 no such user",
                    "time": "2026-11-22 12:00:01 +00:00 (UTC)",
                    "seconds": NOON + 1,
                    "local": ("2026-11-22", "12:00:01", "+00:00 (UTC)"),
                }
            ],
            "again": [],
            "can": "send-again",
        }
    ]


def test_the_end_counts_what_matched_what_is_kept_and_what_was_removed(tmp_path, zone):
    zone("UTC")
    outbox = Outbox(tmp_path / "small.sqlite3", rows_maximum=100)
    outbox.accept([event("054") for _ in range(99)])
    outbox.accept([event() for _ in range(50)])
    told = lines(outbox, type="fault", limit=1)[-1]
    outbox.close()
    counts = {"matched": 50, "kept": 100, "removed": {"info": 49, "fault": 0, "waiting": 0}}
    assert told == {"end": {**counts, "catalog_problem": "", "set_aside": []}}


def test_a_ledger_that_was_set_aside_is_told_at_the_end(tmp_path):
    (tmp_path / "ledger.sqlite3").write_bytes(bytes(4096))
    outbox = Outbox(tmp_path / "ledger.sqlite3")
    told = lines(outbox)[-1]
    outbox.close()
    assert told["end"]["set_aside"] == ["ledger.sqlite3.damaged-1"]


def test_the_catalogs_problem_is_at_the_end(outbox):
    query = history.read_query({})
    kinds = catalog.built_in("events.toml: line 3")
    told = list(history.answer(query, outbox, kinds, Live(nobody, unwarned)))
    assert told[-1]["end"]["catalog_problem"] == "events.toml: line 3"


def test_an_unknown_code_is_named_so(outbox):
    outbox.accept([event("998")])
    assert events(outbox)[0]["name"] == "Unknown event"


def test_a_message_of_the_system_is_named_by_its_first_line(outbox):
    outbox.accept([event("901", text="Cron <root@box> backup\n\nNo space left.\n")])
    told = events(outbox)[0]
    assert (told["name"], told["text"]) == ("Cron <root@box> backup", "No space left.")


@pytest.mark.parametrize(
    ("clock", "at", "told"),
    [
        ("@boot 5.000", 0.0, "not known (the device's clock was not set)"),
        ("@boot 5.000", NOON, "2026-11-22 12:00:00 +00:00 (UTC)"),
        ("before", NOON, "before 2026-11-22 12:00:00 +00:00 (UTC) (the device's clock was not set)"),
        ("", 1700000000.0, "2023-11-14 22:13:20 +00:00 (UTC)"),
    ],
)
def test_what_the_time_rests_on_is_told(outbox, clock, at, told):
    outbox.accept([event(at=at, clock=clock)])
    assert (str(events(outbox)[0]["time"]), events(outbox)[0]["seconds"]) == (told, at or None)


@pytest.mark.parametrize(
    ("waiting", "verdicts", "told"),
    [
        (True, [], "waiting"),
        (True, ["delivered"], "waiting"),
        (True, ["refused"], "waiting"),
        (False, [], "not mailed"),
        (False, ["delivered"], "delivered"),
        (False, ["delivered", "delivered"], "delivered"),
        (False, ["delivered", "refused"], "partly delivered"),
        (False, ["dropped", "delivered"], "partly delivered"),
        (False, ["refused"], "refused"),
        (False, ["refused", "dropped"], "refused"),
        (False, ["dropped"], "dropped"),
    ],
)
def test_one_word_for_what_became_of_it(waiting, verdicts, told):
    assert history.state(waiting, verdicts) == told


def test_each_event_of_a_digest_has_the_digests_deliveries(outbox):
    outbox.accept([event(waiting=True) for _ in range(3)])
    outbox.assign_to_mail([1, 3])
    outbox.record(1, [Delivery(ONE, "delivered", "content", "250 ok", NOON)], done=True)
    found = [(each["number"], each["mail"], each["state"]) for each in events(outbox, descending=False)]
    assert found == [(1, 1, "delivered"), (2, 0, "waiting"), (3, 1, "delivered")]
    assert events(outbox)[0]["deliveries"][0]["recipient"] == ONE


def test_an_undecided_event_has_no_deliveries_of_another_mail(outbox):
    outbox.accept([event(waiting=True), event(waiting=True)])
    delivered(outbox, 1, "delivered")
    assert [each["verdict"] for each in events(outbox)[0]["deliveries"]] == ["waiting"]


def test_what_waits_tells_what_is_final_and_the_last_answer(outbox):
    outbox.accept([event(waiting=True)])
    outbox.record(1, [Delivery(ONE, "delivered", "content", "250 ok", NOON)], done=False)
    told = lines(outbox, lambda mail, kind: ([ONE, TWO], "recipient", f"450 busy for {kind} {mail}"))[0]["event"]
    assert [(each["recipient"], each["verdict"], each["step"], each["reply"]) for each in told["deliveries"]] == [
        (ONE, "delivered", "content", "250 ok"),
        (TWO, "waiting", "recipient", "450 busy for fault 1"),
    ]
    waiting = told["deliveries"][1]
    assert (told["state"], waiting["time"], waiting["seconds"]) == ("waiting", "", None)


def test_the_last_answer_of_a_digest_is_asked_by_its_name(outbox):
    outbox.accept([event(waiting=True), event(waiting=True)])
    outbox.assign_to_mail([1, 2])
    asked = []
    lines(outbox, lambda mail, kind: (asked.append(mail) or [], "", ""))
    assert asked == [1, 1]


@pytest.mark.parametrize("sort", ["number", "source"])
def test_an_event_that_the_limit_takes_while_it_is_read_is_left_out(sort, outbox):
    outbox.accept([event() for _ in range(120)])
    answer = history.answer(history.read_query({"limit": 0, "sort": sort}), outbox, KINDS, Live(nobody, unwarned))
    first = next(line for line in answer if line)
    outbox.write(lambda cursor: cursor.execute("DELETE FROM event WHERE number < 60"))
    assert [first["event"]["number"], *(line["event"]["number"] for line in answer if "event" in line)] == [
        *range(120, 70, -1),
        *range(70, 59, -1),
    ]


# Filters


@pytest.mark.parametrize(
    ("name", "first", "last", "found"),
    [
        (SEOUL, "2026-11-23", "2026-11-23", (1795359600, 1795446000)),
        ("UTC", "2026-11-23", "2026-11-23", (1795392000, 1795478400)),
        (BERLIN, "2026-10-25", "2026-10-25", (1792879200, 1792969200)),  # 25 hours
        (BERLIN, "2026-03-29", "2026-03-29", (1774738800, 1774821600)),  # 23 hours
        (CAIRO, "2026-04-24", "2026-04-24", (1776981600, 1777064400)),  # it begins at 01:00
        (HAVANA, "2026-11-01", "2026-11-01", (1793505600, 1793595600)),  # its first hour comes twice
        ("UTC", "2026-12-31", "2026-12-31", (1798675200, 1798761600)),
        ("UTC", "2028-02-28", "2028-02-29", (1835308800, 1835481600)),
        ("UTC", "", "2026-11-23", (None, 1795478400)),
        ("UTC", "2026-11-23", "", (1795392000, None)),
        ("UTC", "", "", (None, None)),
    ],
)
def test_days_are_those_of_the_devices_zone(zone, name, first, last, found):
    zone(name)
    query = history.read_query({"from": first, "to": last})
    assert (query.begin, query.end) == found


def test_a_day_holds_its_first_second_and_not_the_next_days(outbox, zone):
    zone(BERLIN)
    midnight = 1792879200.0
    outbox.accept([event(at=midnight + shift) for shift in (-0.5, 0.0, 25 * 3600 - 0.5, 25 * 3600)])
    assert numbers(outbox, from_="2026-10-25", to="2026-10-25", descending=False) == [2, 3]


def test_what_has_no_date_lies_on_no_day(outbox):
    outbox.accept([event(at=0.0, clock="@boot 5.000"), event()])
    assert numbers(outbox, to="2026-11-22") == numbers(outbox, from_="2026-11-22") == [2]
    assert numbers(outbox) == [2, 1]


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({}, [4, 3, 2, 1]),
        ({"type": "fault"}, [4, 1]),
        ({"type": "info"}, [3, 2]),
        ({"type": ""}, [4, 3, 2, 1]),
        ({"code": "054"}, [2]),
        ({"code": " 054 "}, [2]),
        ({"code": "000"}, []),
        ({"code": "303", "type": "info"}, []),
        ({"code": "303", "type": "fault", "from_": "2026-11-22", "to": "2026-11-22"}, [1]),
        ({"to": "2026-11-21"}, []),
    ],
)
def test_type_and_code_filter(outbox, asked, found):
    outbox.accept([event("303"), event("054"), event("055"), event("304", at=NOON + DAY)])
    assert numbers(outbox, **asked) == found
    assert lines(outbox, **asked)[-1]["end"]["matched"] == len(found)


# Outcome, source and text, beside a plain filter of a list

TEXTS = st.text("aAbB%_ '\"\\\n\u00e9\u00c9\ud55c", max_size=4)
# What became of an event: it waits, or the verdict of each of two recipients in its mail and in a mail that sent it again.
ENDS = st.one_of(st.none(), st.tuples(*[st.sampled_from(("", "delivered", "refused", "dropped"))] * 4))
FILED = st.tuples(TEXTS, TEXTS, ENDS)
NO_FIXTURE_PER_EXAMPLE = settings(
    max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)


def lower(text):
    """As SQLite does, A to Z alone."""
    return "".join(each.lower() if each.isascii() else each for each in text)


def outcome(ends):
    """What a person would say of these results."""
    if ends is None:
        return "waiting"
    first, again = [each for each in ends[:2] if each], [each for each in ends[2:] if each]
    if not first:
        return "not mailed"
    best = {}
    for who, verdict in [*zip("ab", ends[:2], strict=True), *(zip("ab", ends[2:], strict=True) if again else ())]:
        if verdict:
            best[who] = min(verdict, best.get(who, verdict))
    # Who is on the list no more counts only with the event in hand.
    gone = {who for who, verdict in zip("ab", ends[2:], strict=True) if again and not verdict}
    best = {who: verdict for who, verdict in best.items() if verdict == "delivered" or who not in gone}
    if set(best.values()) == {"delivered"}:
        return "delivered"
    return (
        "partly delivered" if "delivered" in best.values() else "refused" if "refused" in best.values() else "dropped"
    )


def filed(outbox, source, text, ends):
    """Store an event with these results."""
    (number,) = outbox.accept([event(source=source, text=text, waiting=ends is None)], [True])
    if ends and any(ends[:2]):
        stored(outbox, number, ends[:2])
        if any(ends[2:]):
            (again,) = outbox.accept(
                [dataclasses.replace(event(), about=number, text=Action.SEND_AGAIN, waiting=True)], [True]
            )
            stored(outbox, again, ends[2:])
    return number


def stored(outbox, number, verdicts):
    ended = [Delivery(who, each, "content", "", NOON) for who, each in zip("ab", verdicts, strict=True) if each]
    outbox.record(number, ended, done=True)


@NO_FIXTURE_PER_EXAMPLE
@given(st.lists(FILED, max_size=8), TEXTS, TEXTS, st.sampled_from(["", *queries.OUTCOMES]))
def test_outcome_source_and_text_filter_as_a_list_would_be_filtered(tmp_path_factory, listed, source, text, wanted):
    outbox = Outbox(tmp_path_factory.mktemp("filter") / "ledger.sqlite3")
    try:
        names = {filed(outbox, *each): each for each in listed}
        expected = [
            number
            for number, (its_source, its_text, ends) in names.items()
            if lower(source.strip()) in lower(its_source)
            and lower(text.strip()) in lower(its_text)
            and (
                not wanted
                or outcome(ends) == wanted
                or wanted == "not delivered"
                and outcome(ends) in queries.STATES
                and outcome(ends) in ("partly delivered", "refused", "dropped")
            )
        ]
        found = lines(outbox, source=source, text=text, outcome=wanted, descending=False)
        assert [each["event"]["number"] for each in found[:-1]] == expected
        assert found[-1]["end"]["matched"] == len(expected)
        assert {each["event"]["number"]: each["event"]["state"] for each in found[:-1]} == {
            number: outcome(names[number][2]) for number in expected
        }
    finally:
        outbox.close()


@pytest.mark.parametrize("again", ["delivered", "refused"])
def test_an_event_that_a_corrected_address_has_got_is_delivered(outbox, again):
    (number,) = outbox.accept([event(waiting=True)], [True])
    outbox.record(
        number, [Delivery(ONE, "delivered", "", "", NOON), Delivery("tow@", "refused", "", "", NOON)], done=True
    )
    (later,) = outbox.accept([event(about=number, text=Action.SEND_AGAIN, waiting=True)], [True])
    outbox.record(later, [Delivery(TWO, again, "", "", NOON)], done=True)
    wanted = "delivered" if again == "delivered" else "partly delivered"
    assert lines(outbox)[0]["event"]["state"] == wanted
    assert numbers(outbox, outcome=wanted) == [number]


@pytest.mark.parametrize(("part", "found"), [("DISK é", [1]), ("disk É", []), ("disk", [2, 1]), ("%", [2]), ("_", [])])
def test_a_part_of_a_text_is_found_without_the_case_of_a_to_z(outbox, part, found):
    outbox.accept([event(text="Disk é is full"), event(text="dISK at 5 %")])
    assert numbers(outbox, text=part) == found


def test_a_server_change_waits_while_its_notifications_do(outbox):
    outbox.accept([event("902"), event("902")])
    live = Live(nobody, lambda number: [Delivery(ONE, "waiting", "", "", 0.0)] * (number == 1), [1])
    for wanted, found in (("waiting", [1]), ("not mailed", [2])):
        answer = [*history.answer(history.read_query({"outcome": wanted}), outbox, KINDS, live)]
        assert [(each["event"]["number"], each["event"]["state"]) for each in answer if "event" in each] == [
            (found[0], wanted)
        ]


# What a person asked for an event


def test_an_action_is_told_with_its_event_and_is_none(outbox):
    outbox.accept([event(waiting=True), event(waiting=True)], [True, True])
    delivered(outbox, 1, "refused")
    asked = {"about": 1, "source": '{"template": "History, from {by}", "values": {"by": "192.0.2.7"}}', "waiting": True}
    outbox.accept([event(text=Action.SEND_AGAIN, **asked)], [True])
    told = lines(outbox, lambda mail, kind: (["0@x.yy", TWO], "", ""), descending=False)
    (again,) = told[0]["event"]["again"]
    assert [each["event"]["number"] for each in told[:-1]] == [1, 2]
    assert (told[0]["event"]["state"], told[-1]["end"]["kept"]) == ("waiting", 2)
    assert (again["number"], again["action"], str(again["source"])) == (3, "send again", "History, from 192.0.2.7")
    assert [(each["recipient"], each["verdict"]) for each in again["deliveries"]] == [
        ("0@x.yy", "waiting"),
        (TWO, "waiting"),
    ]


def test_what_waits_says_when_its_mail_is_tried(outbox):
    outbox.accept([event(waiting=True), event(waiting=True), event(waiting=True)], [True, True, True])
    delivered(outbox, 1, "refused")
    delivered(outbox, 2, "delivered")
    outbox.accept([event(about=1, text=Action.SEND_AGAIN, waiting=True)], [True])
    live = Live(nobody, unwarned, next_try=lambda mail: NOON + mail)
    told = history.answer(history.read_query({"descending": False}), outbox, KINDS, live)
    assert [each["event"].get("next") for each in told if "event" in each] == [NOON + 4, None, NOON + 3]


# The picture


@pytest.mark.parametrize(
    ("name", "asked", "now", "count", "first", "last"),
    [
        ("UTC", {}, NOON, 30, "2026-10-24", "2026-11-22"),
        ("UTC", {"from": "2026-11-20"}, NOON, 3, "2026-11-20", "2026-11-22"),
        ("UTC", {"to": "2026-11-10"}, NOON, 30, "2026-10-12", "2026-11-10"),
        ("UTC", {"from": "2026-11-30"}, NOON, 24, "2026-11-30", "2026-11-30"),
        (BERLIN, {"from": "2026-10-25", "to": "2026-10-25"}, NOON, 25, "2026-10-25", "2026-10-25"),
        (BERLIN, {"from": "2026-03-29", "to": "2026-03-29"}, NOON, 23, "2026-03-29", "2026-03-29"),
        ("UTC", {"from": "2026-01-01", "to": "2026-01-31"}, NOON, 31, "2026-01-01", "2026-01-31"),
        ("UTC", {"from": "2025-01-01", "to": "2025-12-31"}, NOON, 23, "2025-01-01", "2025-12-31"),
        ("UTC", {"from": "1971-01-01", "to": "9997-12-31"}, NOON, 24, "1971-01-01", "9997-12-31"),
        ("UTC", {"from": "0001-01-01", "to": "9998-12-31"}, NOON, 0, "", ""),
        ("UTC", {"from": "2026-11-23", "to": "2026-11-22"}, NOON, 0, "", ""),
    ],
)
def test_the_bars_are_days_or_the_hours_of_one(outbox, zone, name, asked, now, count, first, last):
    zone(name)
    live = Live(nobody, unwarned, now=now)
    bars = [*history.answer(history.read_query(asked), outbox, KINDS, live, has_bars=True)][-1]["end"].get("bars", [])
    assert len(bars) == count
    assert not bars or (bars[0]["from"], bars[-1]["to"]) == (first, last)
    assert {bool(each["hour"]) for each in bars} == ({count < 26 and first == last} if bars else set())


@NO_FIXTURE_PER_EXAMPLE
@given(st.lists(st.tuples(st.integers(-40, 3), st.sampled_from(("303", "054")), ENDS), max_size=12))
def test_the_bars_count_what_a_list_would(tmp_path_factory, listed):
    outbox = Outbox(tmp_path_factory.mktemp("bars") / "ledger.sqlite3")
    try:
        for day, code, ends in listed:
            number = filed(outbox, "", "", ends)
            row = (NOON + day * DAY, code, KINDS[code].type, number)
            outbox.write(
                lambda cursor, row=row: cursor.execute(
                    "UPDATE event SET time = ?, code = ?, type = ? WHERE number = ?", row
                )
            )
        bars = [
            *history.answer(history.read_query({}), outbox, KINDS, Live(nobody, unwarned, now=NOON), has_bars=True)
        ][-1]
        lost = ("partly delivered", "refused", "dropped")
        counted = [
            (
                sum(day == place - 29 and code == "303" for day, code, _ in listed),
                sum(day == place - 29 and code == "054" for day, code, _ in listed),
                sum(day == place - 29 and outcome(ends) in lost for day, _, ends in listed),
            )
            for place in range(30)
        ]
        assert [(each["fault"], each["info"], each["lost"]) for each in bars["end"]["bars"]] == counted
    finally:
        outbox.close()


# Orders and pages


@pytest.fixture
def mixed(outbox):
    """Events that every column orders differently."""
    rows = [("303", 3, "b"), ("054", 1, "C"), ("303", 2, "a"), ("999", 4, ""), ("304", 1, "B")]
    outbox.accept([event(code, NOON + shift, source=source) for code, shift, source in rows])
    for number, verdicts in ((1, ["refused"]), (2, ["delivered"]), (4, ["delivered", "refused"]), (5, ["delivered"])):
        delivered(outbox, number, *verdicts)
    return outbox


SORTS = {
    "number": [1, 2, 3, 4, 5],
    "time": [2, 5, 3, 1, 4],
    "type": [1, 3, 4, 5, 2],
    "code": [2, 1, 3, 5, 4],
    "name": [5, 1, 3, 2, 4],
    "source": [4, 3, 1, 5, 2],
    "state": [3, 2, 5, 4, 1],
}


@pytest.mark.parametrize("sort", SORTS)
@pytest.mark.parametrize("descending", [False, True])
def test_every_column_sorts_both_ways(mixed, sort, descending):
    names = {each["number"]: each["name"] for each in events(mixed)}
    expected = sorted(SORTS["number"], key=lambda number: (names[number].lower(), number))
    expected = {**SORTS, "name": [4, *[each for each in expected if each != 4]]}[sort]
    assert numbers(mixed, sort=sort, descending=descending) == (expected[::-1] if descending else expected)


def test_events_of_one_state_stand_together(outbox):
    verdicts = [["refused"], [], ["delivered", "dropped"], ["dropped"], ["delivered"], ["dropped", "refused"]]
    verdicts += [["delivered", "refused"], ["delivered", "delivered"]]
    outbox.accept([event(waiting=True) for _ in range(20)])
    for number in range(1, 19):
        delivered(outbox, number, *verdicts[number % 8])
    states = [each["state"] for each in events(outbox, sort="state", descending=False)]
    runs = [each for place, each in enumerate(states) if place == 0 or states[place - 1] != each]
    assert runs == ["not mailed", "delivered", "partly delivered", "dropped", "refused", "waiting"]


@pytest.mark.parametrize(
    ("offset", "limit", "found"),
    [
        (0, 2, [5, 4]),
        (2, 2, [3, 2]),
        (4, 2, [1]),
        (5, 2, []),
        (10**9, 50, []),
        (0, 0, [5, 4, 3, 2, 1]),
        (1, 0, [4, 3, 2, 1]),
        (0, 10**9, [5, 4, 3, 2, 1]),
    ],
)
def test_a_page_of_it(outbox, offset, limit, found):
    outbox.accept([event() for _ in range(5)])
    assert numbers(outbox, offset=offset, limit=limit) == found
    assert lines(outbox, offset=offset, limit=limit)[-1]["end"]["matched"] == 5


def test_unless_asked_otherwise_it_is_the_newest_fifty(outbox):
    outbox.accept([event() for _ in range(60)])
    assert numbers(outbox) == list(range(60, 10, -1))


# Bad words

DATE = "{} is a date, written as 2026-11-23"
COUNT = "{} is a whole number from 0 on"
SORT = "it can be sorted by number, time, type, code, name, source, state"
OUTCOME = "the outcome is one of waiting, delivered, partly delivered, refused, dropped, not mailed, not delivered"
WORDS = ("from", "to", "type", "code", "outcome", "source", "text", "sort")
TYPE, CODE, DESCENDING = "the type is info or fault", "a code has three digits", "descending is true or false"
BAD = [
    *[("from", value, DATE.format("from")) for value in ("2026-02-30", "2026-13-01", "26-11-23", "2026-11-23T00:00")],
    *[("to", value, DATE.format("to")) for value in ("tomorrow", "2026-W48-1", "20261123", "２０２６-11-23", "0000-01-01")],
    ("to", "' OR 1=1 --", DATE.format("to")),
    ("from", "2026-11-23' OR '1'='1", DATE.format("from")),
    *[("type", value, TYPE) for value in ("Fault", "warning", "fault' --", "fault\0", "info,fault")],
    *[("code", value, CODE) for value in ("30", "3033", "abc", "3.3", "٣٠٣", "303' OR ''='", "30%", "\ud800", "x" * 60_000)],
    *[("sort", value, SORT) for value in ("Number", "text", "number; DROP TABLE event", "number DESC", "1", "rowid")],
    *[("outcome", value, OUTCOME) for value in ("Refused", "lost", "refused' --", "waiting,refused")],
    *[(name, "x" * 201, f"{name} has 200 characters at most") for name in ("source", "text")],
    *[(name, value, f"{name} is a text") for name in WORDS for value in (1, None, [1], {})],
    *[("descending", value, DESCENDING) for value in ("true", 1, 0, None, [])],
    *[(name, value, COUNT.format(name)) for name in ("offset", "limit") for value in (-1, 1.0, "1", None, True, 10**9 + 1, [])],
]  # fmt: skip


@pytest.mark.parametrize(("name", "value", "reason"), BAD, ids=range(len(BAD)))
def test_a_bad_word_is_answered_with_its_reason(name, value, reason):
    with pytest.raises(BadQuery) as caught:
        history.read_query({name: value})
    assert str(caught.value) == reason


def test_nothing_typed_is_part_of_the_query():
    request = {"from": "2026-11-01", "to": "2026-11-30", "type": "fault", "code": "303", "sort": "source"}
    query = history.read_query({**request, "offset": 77, "limit": 88})
    for typed in ("2026", "fault", "303", "77", "88"):
        assert typed not in query.where


# A hundred thousand events


class CountingOutbox(Outbox):
    """A ledger that counts the rows it hands out, in all and at most at once."""

    handed = largest = 0

    def read(self, query, values):
        rows = super().read(query, values)
        self.handed, self.largest = self.handed + len(rows), max(self.largest, len(rows))
        return rows

    def numbers(self, query, values):
        found = super().numbers(query, values)
        self.handed, self.largest = self.handed + len(found), max(self.largest, len(found))
        return found


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    outbox = CountingOutbox(
        tmp_path_factory.mktemp("many") / "ledger.sqlite3", rows_maximum=2 * MANY, bytes_maximum=2**30
    )
    codes = sorted(KINDS.kinds)
    for start in range(0, MANY, 10_000):
        outbox.accept(
            [event(codes[n % len(codes)], NOON + n, source=f"s{n % 7}") for n in range(start, start + 10_000)]
        )
    ended = [(n, ONE, ("delivered", "refused")[n % 2], "content", "250 ok", NOON) for n in range(1, MANY + 1)]
    outbox.write(lambda cursor: cursor.executemany("INSERT INTO delivery VALUES (?, ?, ?, ?, ?, ?)", ended))
    yield outbox
    outbox.close()


@pytest.mark.parametrize(
    ("sort", "asked"),
    [
        *((sort, asked) for sort in SORTS for asked in ({}, {"offset": 50_000})),
        *(("state", asked) for asked in ({"type": "fault"}, {"code": "303"}, {"from_": "2026-11-23"})),
    ],
)
def test_a_page_of_a_hundred_thousand_is_read_in_small_pieces(many, sort, asked):
    many.handed = many.largest = 0
    began = time.perf_counter()
    found = events(many, sort=sort, limit=50, **asked)
    print(f"{sort} {asked}: {1000 * (time.perf_counter() - began):.0f} ms")
    assert len(found) == 50
    pieces, page = MANY // 2000, min(50 + asked.get("offset", 0), 2000)
    assert many.largest <= 2000
    # Of each piece its end, its count and a page of it, whose keys are read again where it is longer than 50; then the events, their
    # deliveries, the facts.
    assert many.handed <= pieces * (2 + page + (page if page > 50 else 0)) + 50 + 50 + 11


def test_no_query_of_a_page_reads_a_whole_table(many):
    """Each piece is found by the events' numbers, results and actions by their indexes."""
    query = Query(
        begin=NOON, end=NOON + 1, type="fault", code="303", outcome="not delivered", source="s", text="t", sort="state"
    )
    values = {**query.values(",303,"), "first": 1, "last": 2000}
    for statement in (
        f"SELECT {SPAN} FROM event WHERE {query.where}",
        f"SELECT number FROM event WHERE {query.where} {query.order} LIMIT :maximum",
    ):
        plan = plan_of(many, statement, values)
        assert plan[0] == "SEARCH event USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"
        assert scans(plan) == []
        assert any("USING INDEX about" in each for each in plan) and any(
            "delivery USING PRIMARY KEY" in each for each in plan
        )


def test_no_query_of_the_picture_reads_a_whole_table(many):
    """The events that may be lost are found by the indexes of failed results, of digests and of actions."""
    for statement, values, first in (
        (FAILED_MAILS, (0, 1), "SEARCH delivery USING INDEX failed (number>?)"),
        (OF_FAILED_MAILS, ("[1]",), "COMPOUND QUERY"),
        (ACTED_ON, (), "SCAN later USING COVERING INDEX about"),
    ):
        plan = plan_of(many, statement, values)
        assert plan[0] == first and scans(plan) == ([first] if "SCAN" in first else [])
    plan = plan_of(many, OF_FAILED_MAILS, ("[1]",))
    assert {
        "SEARCH event USING INTEGER PRIMARY KEY (rowid=?)",
        "SEARCH event USING COVERING INDEX digest (mail=?)",
    } <= set(plan)


def test_the_picture_of_a_hundred_thousand_counts_and_reads_few_rows(many):
    """Most pieces are within one bar, so a picture hands out a row for each, and one more at each edge."""
    many.handed = many.largest = 0
    query, live = history.read_query({"limit": 1}), Live(nobody, unwarned, now=NOON + MANY)
    bars = [*history.answer(query, many, KINDS, live, has_bars=True)][-1]["end"]["bars"]
    counted = [sum(each[name] for each in bars) for name in ("fault", "info", "lost")]
    assert (counted[0] + counted[1], counted[2]) == (MANY, MANY // 2)
    # Of each piece its end, its counts and the first number; two edges; then the refused mails, their events and times.
    assert many.handed <= MANY // 2000 * 3 + 2 * 2 + 3 * MANY // 2 + 20
    assert many.largest <= 2000


def plan_of(outbox, statement, values):
    return [row[3] for row in Outbox.read(outbox, f"EXPLAIN QUERY PLAN {statement}", values)]


def scans(plan):
    """The tables that are read from the first row to the last."""
    usual = ("SCAN json_each", "SCAN CONSTANT", "SCAN (subquery")
    return [each for each in plan if each.startswith("SCAN") and not each.startswith(usual)]


def found_by(outbox: Outbox, query: Query) -> Iterable[int]:
    search = outbox.find(query, ",303,")
    while True:
        try:
            next(search)
        except StopIteration as end:
            return end.value[1]


OF_MANY = {
    "source": lambda number: f"s{(number - 1) % 7}",
    "state": lambda number: ("delivered", "refused")[number % 2],
}


@pytest.mark.parametrize("sort", OF_MANY)
@pytest.mark.parametrize("descending", [False, True])
def test_hundred_thousand_are_sorted_as_a_list_would_be(many, sort, descending):
    expected = sorted(range(1, MANY + 1), key=lambda number: (OF_MANY[sort](number), number), reverse=descending)
    found = found_by(many, Query(sort=sort, descending=descending, offset=12_345, limit=0))
    assert list(found) == expected[12_345:]


def test_an_offset_beyond_the_last_event_takes_no_steps_of_its_own(outbox):
    """A page that was taken over could keep the hook busy for minutes."""
    outbox.accept([event() for _ in range(5)])
    steps = itertools.islice(outbox.find(Query(offset=10**9), ",303,"), 100)
    assert sum(1 for _ in steps) < 100


def test_sorting_hundred_thousand_takes_a_few_mebibytes(many):
    """Four may read at once, and the hook has 64 MiB."""
    tracemalloc.start()
    try:
        numbers = sum(1 for _ in found_by(many, Query(sort="source", limit=0)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (numbers, peak < 4 * 2**20) == (MANY, True)


def test_all_of_a_hundred_thousand_come_a_few_rows_at_a_time(many):
    answer = history.answer(history.read_query({"limit": 0, "sort": "code"}), many, KINDS, Live(nobody, unwarned))
    for _ in range(MANY // 2000 + 200):
        many.largest = 0
        assert next(answer) or many.largest <= 2000
    assert many.largest <= 50
