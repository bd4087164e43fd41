"""The hook's words: whatever is asked is answered or refused with a reason; nothing that is asked can be a crash."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from device_ui.errors import Message, NotStored, RequestError, from_stored
from device_ui.mail import catalog
from device_ui.mail.catalog import Catalog, Kind
from device_ui.mail.clock import Clock
from device_ui.mail.delivery import test_mail
from device_ui.mail.delivery.environment import Environment
from device_ui.mail.delivery.quota import Quota
from device_ui.mail.delivery.retry import random_fraction
from device_ui.mail.delivery.sender import Sender
from device_ui.mail.events import Delivery, Event
from device_ui.mail.ipc import protocol
from device_ui.mail.ipc.peer_credentials import EVENT_ONLY, EVERYTHING, Peer
from device_ui.mail.ipc.requests import RequestHandler
from device_ui.mail.outbox.outbox import Outbox
from device_ui.settings.fields import SmtpSettings
from device_ui.settings.store import Store
from tests.helpers.product import SECONDS, no_thread

NOW = 1795348800.0
USER, ROOT = 1000, Peer(0, EVERYTHING)
KINDS = catalog.built_in()
FIELDS = {"host": "127.0.0.1", "port": 25, "sender_name": "A", "account": "a@b.cc", "security": "none"}


class Bell:
    """What the words need of a postman."""

    changed = 0
    told = ("", "")
    chosen = (True, False)
    # What `try_waiting` and `next_try` return.
    busy, planned, blocked = 0, None, False

    def settings_changed(self, *told: str) -> None:
        self.changed += 1
        self.told = told

    def state(self) -> dict[str, object]:
        return {"problem": "", "waiting": 3}

    def try_waiting(self, *told: str) -> int:
        self.told = told
        return self.busy

    def next_try(self, number: int = 0) -> float | None:
        return self.planned

    def is_blocked(self) -> bool:
        return self.blocked

    def wait_details(self):
        return lambda mail, kind: ((), "", "")

    def decide(self, kind: Kind) -> tuple[bool, bool]:
        return self.chosen if kind.mail else (False, False)

    def open_notices(self, number: int) -> tuple[()]:
        return ()

    def events_with_notices(self) -> tuple[()]:
        return ()


def unreachable(*_: object) -> None:
    """No test of these comes as far as a server."""
    raise OSError("no network here")


class Room:
    """The words of one device, its ledger and its postman."""

    def __init__(self, folder, kinds=KINDS, **limits: int) -> None:
        self.outbox, self.bell, self.woken = (Outbox(folder / "ledger.sqlite3", **limits), Bell(), threading.Event())
        clock = Clock(wall=lambda: NOW, boot=lambda: 5000.0, boot_id="boot", synchronized=lambda: False)
        names = {"name": "Storage", "model": "", "serial": ""}
        environment = Environment(names, tuple, None, clock, time.monotonic, random_fraction)
        sender = Sender(self.outbox, kinds, unreachable, environment)
        quota = Quota(self.outbox, clock)
        made = test_mail.Tester(
            Store(folder / "smtp.toml"), sender, unreachable, quota, wake=self.woken.set, verified=unreachable
        )
        self.requests = RequestHandler(self.outbox, kinds, self.bell, made, clock, self.woken.set)
        self.requests.add({"metrics": lambda: {"metrics": {"events": self.outbox.last}}})
        added = ("sign-in", "certificate", "token", "keep-alive")
        self.requests.add_background(dict.fromkeys(added, lambda _: {"ok": True}), is_slow=False)

    def ask(self, may=EVERYTHING, **request):
        """The answer, a long one as a list."""
        answer = self.requests.handle(request, Peer(USER, may))
        return list(self.lines(answer)) if isinstance(answer, Iterator) else answer

    def lines(self, answer):
        """The lines of a long answer, as they come."""
        for line in answer:
            if line is None:
                assert self.woken.wait(SECONDS)
                self.woken.clear()
            else:
                yield line

    def refusal(self, may=EVERYTHING, **request) -> tuple[str, str]:
        """The word and the reason it is refused with."""
        with pytest.raises(RequestError) as caught:
            self.ask(may, **request)
        return caught.value.word, str(caught.value.reason)


@pytest.fixture
def room(tmp_path):
    room = Room(tmp_path)
    yield room
    room.outbox.close()


# Who may ask what


@pytest.mark.parametrize("do", sorted(EVERYTHING - EVENT_ONLY))
def test_who_may_only_raise_events_may_ask_for_nothing_else(room, do):
    assert room.refusal(EVENT_ONLY, do=do) == ("denied", "this user may not ask for that")
    assert isinstance(room.ask(EVENT_ONLY, do="event", code="303"), Event)


@pytest.mark.parametrize("do", sorted(EVERYTHING))
def test_a_stranger_may_ask_for_nothing(room, do):
    assert room.refusal(frozenset(), do=do, code="303") == ("denied", "this user may not ask for that")


@pytest.mark.parametrize("may", [EVENT_ONLY, EVERYTHING])
def test_nobody_can_pretend_that_the_mail_server_changed(room, may):
    forged = {"do": "event", "code": "902", "source": "SMTP tab, from 192.0.2.7", "text": "Now: mail.evil.example"}
    assert room.refusal(may, **forged) == ("denied", "only the device itself can raise 902")
    assert room.ask(may, do="event", code="901").code == "901"


def test_a_word_that_was_added_is_answered_to_those_who_may(room):
    assert room.ask(do="metrics") == {"metrics": {"events": 0}}


def test_what_waits_for_the_summary_is_not_tried_now(room):
    room.outbox.accept([Event("303", "fault", NOW, NOW, in_summary=True)])
    assert room.refusal(EVERYTHING, do="try-now", number=1)[0] == "not-waiting"


@pytest.mark.parametrize("code", ["903", "904", "905", "906"])
def test_nobody_can_pretend_an_event_of_the_device_itself(room, code):
    assert room.refusal(EVERYTHING, do="event", code=code) == ("denied", f"only the device itself can raise {code}")


@pytest.mark.parametrize("chosen", [(True, False), (True, True), (False, False)])
def test_an_event_waits_as_the_operator_chose(room, chosen):
    room.bell.chosen = chosen
    event = room.ask(do="event", code="303")
    assert (event.waiting, event.in_summary) == chosen
    assert not room.ask(do="event", code="153").waiting


def test_nobody_can_where_the_maker_describes_it_anew(tmp_path):
    room = Room(tmp_path, Catalog({"902": Kind("902", "info", "Ours", "d", mail=False)}))
    assert room.refusal(EVERYTHING, do="event", code="902")[0] == "denied"
    room.outbox.close()


@pytest.mark.parametrize("do", [None, "", "History", "history ", "obey", "__init__", 1, [], {}, ["history"]])
def test_a_word_that_is_none_is_refused(room, do):
    assert room.refusal(do=do) == ("bad-request", "unknown word")


# The catalogue


def test_the_catalogue_comes_in_order_of_code(room):
    *kinds, end = room.ask(do="catalog")
    codes = [line["kind"]["code"] for line in kinds]
    assert codes == sorted(KINDS.kinds)
    assert end == {"end": {"problem": ""}}


def test_a_kind_is_told_whole(room):
    found = {line["kind"]["code"]: line["kind"] for line in room.ask(do="catalog")[:-1]}
    assert found["303"] == {
        "code": "303",
        "type": "fault",
        "name": "Audit log space: minor threshold exceeded",
        "description": KINDS["303"].description,
        "mail": True,
    }
    assert found["306"]["mail"] is False
    assert [code for code, kind in found.items() if "periodic" in kind] == ["905"]


def test_the_makers_kinds_are_told_and_why_his_file_is_not_used(tmp_path):
    problem = "events.toml: it is broken (at line 3, column 7)"
    room = Room(tmp_path, Catalog({"700": Kind("700", "info", "Ours", "d")}, problem))
    *found, end = room.ask(do="catalog")
    room.outbox.close()
    assert [line["kind"]["code"] for line in found] == ["153", "306", "700", "901", "902", "903", "904", "905", "906"]
    assert end == {"end": {"problem": "events.toml: it is broken (at line 3, column 7)"}}


def test_the_state_tells_the_catalogs_problem(tmp_path):
    room = Room(tmp_path, catalog.built_in("events.toml: broken"))
    assert room.ask(do="state") == {"state": {"problem": "", "waiting": 3, "catalog": "events.toml: broken"}}
    room.outbox.close()


# Email content


@pytest.mark.parametrize("code", ["303", "901", "998", "000"])
def test_any_code_has_its_mail(room, code):
    assert room.ask(do="content", code=code)[0]["content"]["subject"].startswith(f"[{KINDS[code].type} {code}] ")


@pytest.mark.parametrize("code", [None, "", "30", "3033", "303\n", " 303", 303, [], {}, "٣٠٣", "\ud800", "../"])
def test_a_code_that_is_none_has_no_mail(room, code):
    assert room.refusal(do="content", code=code) == ("bad-request", "a code has three digits")


def test_a_digest_of_a_code_has_its_mail(room):
    assert "2 faults" in room.ask(do="content", code="303", count=2)[0]["content"]["subject"]


@pytest.mark.parametrize("count", [0, 11, -1, 1.5, True, None, "2", [2]])
def test_a_count_that_is_none_has_no_mail(room, count):
    refused = room.refusal(do="content", code="303", count=count)
    assert (refused[0], str(refused[1])) == ("bad-request", "a sample has 1 to 10 events")


def test_without_a_thread_a_request_is_refused_and_the_next_one_served(room):
    with no_thread():
        assert room.refusal(do="content", code="303")[0] == "exhausted"
    assert room.ask(do="content", code="303")[0]["content"]


def test_requests_whose_callers_left_fill_no_memory_and_no_place_of_another_user(room):
    # The thread is held at the first: nothing of the others is begun.
    go = threading.Event()
    room.bell.waits = lambda: go.wait(SECONDS)
    one = Peer(USER, EVERYTHING)
    held = [room.requests.handle({"do": "history"}, one)]
    with pytest.raises(RequestError, match="this user asks for too much already"):
        for _ in range(1000):
            held.append(room.requests.handle({"do": "content", "code": "303"}, one))
    assert len(held) == 4
    held.append(room.requests.handle({"do": "content", "code": "303"}, ROOT))
    go.set()


# The history


@pytest.mark.parametrize("name", ["from", "to", "type", "code", "sort"])
@pytest.mark.parametrize("value", [1, None, True, [], ["number"], {}, {"number": 1}])
def test_a_word_of_another_kind_is_refused_and_no_crash(room, name, value):
    assert room.refusal(do="history", **{name: value}) == ("bad-request", f"{name} is a text")


def test_the_history_comes_with_the_catalogs_problem(tmp_path):
    room = Room(tmp_path, catalog.built_in("events.toml: broken"))
    room.outbox.accept([room.ask(do="event", code="303", text="full")])
    first, end = filter(None, room.ask(do="history", limit=1))
    room.outbox.close()
    assert (first["event"]["number"], first["event"]["text"]) == (1, "full")
    assert end["end"]["catalog_problem"] == "events.toml: broken"


def test_a_ledger_that_cannot_be_read_is_told_within_the_answer(room):
    answer = room.requests.handle({"do": "history"}, ROOT)
    room.outbox.close()
    with pytest.raises(NotStored):
        list(room.lines(answer))


# What a person asks for an event


def mailed(room, code="303", verdict="refused", waiting=False):
    """An event with a result."""
    event = dataclasses.replace(room.ask(do="event", code=code), user=77)
    (number,) = room.outbox.accept([event], [True])
    if verdict:
        room.outbox.record(number, [Delivery("a@b.c", verdict, "content", "", NOW)], done=not waiting)
    return number


@pytest.mark.parametrize("verdict", ["refused", "dropped", "delivered"])
def test_what_has_a_result_is_sent_again(room, verdict):
    number = mailed(room, verdict=verdict)
    asked = room.ask(do="send-again", number=number, by="192.0.2.7")
    assert (asked.about, asked.text, asked.code, asked.type, asked.user) == (number, "send again", "303", "fault", USER)
    assert (asked.waiting, asked.time, from_stored(asked.source)) == (
        True,
        NOW,
        Message("History, from {by}", by="192.0.2.7"),
    )


@pytest.mark.parametrize("by", [None, "", "unknown", 7, "x\nBcc: a@b.c"])
def test_a_page_without_an_address_is_told_as_the_page(room, by):
    assert room.ask(do="send-again", number=mailed(room), by=by).source == "History"


def test_what_waits_is_tried_now_and_not_sent_again(room):
    number = mailed(room, waiting=True)
    assert room.refusal(do="send-again", number=number)[0] == "waiting"
    asked = room.ask(do="try-now", number=number)
    assert (asked.about, asked.text, asked.waiting) == (number, "try now", False)


def test_what_is_sent_again_already_waits(room):
    number = mailed(room)
    room.outbox.accept([room.ask(do="send-again", number=number)], [True])
    assert room.refusal(do="send-again", number=number)[0] == "waiting"
    assert room.refusal(do="try-now", number=mailed(room))[0] == "not-waiting"


def test_two_requests_before_a_commit_are_one(room):
    number = mailed(room)
    room.ask(do="send-again", number=number)
    assert room.refusal(do="send-again", number=number)[0] == "too-many"
    assert room.ask(do="send-again", number=mailed(room)).about != number


def test_a_request_for_another_event_between_them_does_not_make_two_of_them(room):
    one, other = mailed(room), mailed(room)
    room.ask(do="send-again", number=one)
    room.ask(do="send-again", number=other)
    assert room.refusal(do="send-again", number=one)[0] == "too-many"
    assert room.refusal(do="send-again", number=other)[0] == "too-many"


@pytest.mark.parametrize("code", ["153", "303"])
def test_what_was_never_mailed_is_not_sent_again(room, code):
    room.outbox.accept([dataclasses.replace(room.ask(do="event", code=code), waiting=False)])
    assert room.refusal(do="send-again", number=1)[0] == "not-mailed"


def test_a_change_of_the_mail_server_is_not_sent_again(room):
    room.outbox.accept([Event("902", "info", NOW, NOW, waiting=False)])
    room.outbox.record(1, [Delivery("a@b.c (old.example.com)", "dropped", "", "", NOW)], done=True)
    assert room.refusal(do="send-again", number=1)[0] == "not-mailed"


@pytest.mark.parametrize("do", ["send-again", "try-now"])
@pytest.mark.parametrize("number", [None, True, "1", 1.0, 0, -1, 2**63, []])
def test_a_number_that_is_none_is_refused(room, do, number):
    assert room.refusal(do=do, number=number) == ("bad-request", "number is the number of an event")


def test_an_event_that_is_gone_and_an_action_are_refused(room):
    mailed(room)
    (action,) = room.outbox.accept([room.ask(do="send-again", number=1)], [True])
    assert [room.refusal(do="send-again", number=number)[0] for number in (99, action)] == ["gone", "gone"]


def test_a_user_has_ten_actions_at_once(room):
    numbers = [mailed(room) for _ in range(11)]
    for number in numbers[:10]:
        room.ask(do="send-again", number=number)
    with pytest.raises(RequestError) as caught:
        room.ask(do="send-again", number=numbers[10])
    assert (caught.value.word, 0 < caught.value.seconds <= 30) == ("too-many", True)
    assert room.requests.handle({"do": "send-again", "number": numbers[10]}, ROOT).about == numbers[10]


def test_what_one_user_asks_for_displaces_no_event_of_another(tmp_path):
    """A web process that was taken over sends root's alarms again and again, and the ledger's limit is reached."""
    room = Room(tmp_path, rows_maximum=80)
    with contextlib.closing(room.outbox):
        numbers = [mailed(room) for _ in range(60)]
        asked = room.ask(do="send-again", number=1)
        for number in numbers * 2:
            room.outbox.accept([dataclasses.replace(asked, about=number, waiting=False)], [True])
        assert [*room.outbox.events(numbers)] == numbers


# Settings


def test_new_settings_reach_the_postman(room):
    assert room.ask(do="settings-changed") == {"ok": True}
    assert room.bell.changed == 1


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:DB8::0001", "2001:db8::1"),
        ("unknown", ""),
        ("192.0.2.7\nBcc: x@y.example", ""),
        ("fe80::1%eth0", "fe80::1"),
        ("fe80::1%a\nBcc: <x@y.example>", "fe80::1"),
        (7, ""),
        (None, ""),
        (["192.0.2.7"], ""),
    ],
)
def test_only_an_address_of_the_network_is_told_of_who_changed_the_settings(room, given, told):
    room.ask(do="settings-changed", revision="abc", by=given)
    assert room.bell.told[0] == "abc" and str(room.bell.told[1]) == (told and f"SMTP tab, from {told}")


def test_apply_is_told_too(room):
    room.ask(do="settings-changed", revision="abc", by="apply")
    assert str(room.bell.told[1]) == "by apply"


# Delivery


def test_try_now_is_passed_on_with_who_asks(room):
    assert room.ask(do="try-waiting", by="192.0.2.7") == {"ok": True}
    assert [str(each) for each in room.bell.told] == ["SMTP tab, from 192.0.2.7"]


def test_too_many_tries_are_refused_with_the_time_to_wait(room):
    room.bell.busy = 17
    with pytest.raises(RequestError) as caught:
        room.ask(do="try-waiting")
    assert (caught.value.word, caught.value.as_answer()["seconds"]) == ("too-many", 17)


def test_nothing_is_tried_while_a_problem_holds_all_mail_back(room):
    """A refused login: the page must not say that mail is tried, and History must not record a try that was none."""
    number = mailed(room, waiting=True)
    room.bell.blocked = True
    for request in ({"do": "try-waiting"}, {"do": "try-now", "number": number}):
        assert room.refusal(**request)[0] == "held"
    assert room.bell.told == ("", "")


def test_a_new_ledger_has_delivered_nothing(room):
    nothing = {"last": {"mail": 0, "results": []}, "waiting": 0, "since": 0.0, "next": None, "results": []}
    assert room.ask(do="delivery") == {"delivery": {**nothing, **room.ask(do="state")}}


def test_what_waits_is_counted_from_the_oldest_with_the_next_try(room):
    events = [Event("303", "fault", NOW - age, NOW - age) for age in (60, 30)]
    room.outbox.accept([*events, Event("153", "info", NOW - 90, NOW - 90, waiting=False)])
    room.bell.planned = 12.0
    told = room.ask(do="delivery")["delivery"]
    assert (told["waiting"], told["since"], told["next"]) == (2, NOW - 60, NOW + 12)


def sent(room, mail: int, *results: tuple[str, str, float]) -> None:
    room.outbox.record(
        mail, [Delivery(who, verdict, "content", "250", time) for who, verdict, time in results], done=True
    )


def test_the_last_delivery_is_the_newest_by_time_and_has_all_its_results(room):
    room.outbox.accept([Event("303", "fault", NOW, NOW)] * 3)
    sent(room, 3, ("a@b.cc", "delivered", NOW - 60))
    sent(room, 1, ("a@b.cc", "delivered", NOW - 5), ("c@d.ee", "refused", NOW - 5))
    sent(room, 2, ("a@b.cc", "dropped", NOW))
    last = room.ask(do="delivery")["delivery"]["last"]
    assert last["mail"] == 1
    assert [(each["recipient"], each["verdict"]) for each in last["results"]] == [
        ("a@b.cc", "delivered"),
        ("c@d.ee", "refused"),
    ]


def test_each_recipient_has_the_result_of_its_own_last_mail(room):
    room.outbox.accept([Event("303", "fault", NOW, NOW)] * 2)
    sent(room, 1, ("a@b.cc", "refused", NOW - 9), ("c@d.ee", "refused", NOW - 9))
    sent(room, 2, ("a@b.cc", "delivered", NOW))
    found = {
        each["recipient"]: (each["verdict"], each["mail"]) for each in room.ask(do="delivery")["delivery"]["results"]
    }
    assert found == {"a@b.cc": ("delivered", 2), "c@d.ee": ("refused", 1)}


# Anything at all

VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(st.characters(), max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=5,
)
NAMES = ("code", "text", "source", "time", "from", "to", "type", "sort", "descending", "offset", "limit", "settings")
REQUESTS = st.fixed_dictionaries(
    {"do": st.sampled_from(sorted(EVERYTHING))}, optional=dict.fromkeys((*NAMES, "more", "to"), VALUES)
)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(request=REQUESTS)
def test_whatever_is_asked_is_answered_or_refused(room, request):
    try:
        answer = room.requests.handle(request, ROOT)
    except RequestError as refused:
        assert refused.word in {"bad-request", "unset", "gone"}
        assert refused.reason
        return
    answers = list(room.lines(answer)) if isinstance(answer, Iterator) else [answer]
    for each in answers:
        assert isinstance(each, Event) or json.dumps(each)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from([each.name for each in dataclasses.fields(SmtpSettings)]), value=VALUES)
def test_whatever_a_field_of_a_test_is_it_is_refused_or_well(room, name, value):
    tab = {**FIELDS, "sign_in": "manual", "from_address": "", "sealed": None, name: value}
    with pytest.raises(RequestError) as caught:
        room.requests.handle({"do": "test", "settings": tab, "to": ["no address"]}, ROOT)
    assert caught.value.word == "bad-request"


@pytest.mark.parametrize("depth", [10, 500, 900, 990, 5000])
@pytest.mark.parametrize("name", ["host", "port", "account", "sealed", "sign_in"])
def test_nothing_is_nested_too_deep(room, name, depth):
    request = {"do": "test", "settings": {**FIELDS, "sign_in": "manual", "from_address": "", name: 0}}
    line = json.dumps(request).replace(f'"{name}": 0', f'"{name}": {"[" * depth}{"]" * depth}')
    with pytest.raises(RequestError):
        room.requests.handle(protocol.from_json(line.encode()), ROOT)
