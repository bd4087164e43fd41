"""SIGKILL at random under load: at the end the numbers told, the ledger and the mails received balance exactly.

The recipients have different fates: one takes every mail, one is refused for good, and one is deferred while the load lasts.
The balance is one for each of them.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from device_ui.errors import HookError
from device_ui.mail import client
from device_ui.settings.recipients import Recipient
from device_ui.settings.store import RecipientStore
from tests.helpers.product import Product, wait_for
from tests.servers.keeper import Keeper, relay_form

# Kills under load; for a release it is a hundred.
KILLS = int(os.environ.get("DEVICE_UI_KILLS", "8"))
DRAIN_SECONDS = 60.0
# Events that a hook has accepted at least before it is killed.
RAISED = 50
RAISERS = 4
# The longest that a raiser rests between two events: so many a second that a digest can spell all its numbers.
REST_SECONDS = 0.02
TAKES, REFUSED, LATE = "takes@example.com", "refused@example.com", "late@example.com"
CODES = ("303", "304", "999", "054", "055")
DEVICE = "[mail]\nhourly_budget = 1000000\ndigest_window = 1\n[ledger]\nrows = 1000000\nbytes = 1073741824\n"

pytestmark = pytest.mark.timeout(10 * KILLS + 2 * DRAIN_SECONDS + 120)


@dataclass
class Books:
    """What a run came to: the numbers `told` as accepted, those in the `ledger`, the server's `keeper`, and by kill the
    Message-ID of the mail that the killed session brought last, with each recipient of it (none: no mail).

    `early` and `results` are what the hook says of each mail and recipient: when the load ends, and at the end."""

    keeper: Keeper
    told: list[int] = field(default_factory=list)
    ledger: list[int] = field(default_factory=list)
    in_flight: list[list[tuple[str, str]]] = field(default_factory=list)
    early: dict[tuple[int, str], str] = field(default_factory=dict)
    results: dict[tuple[int, str], str] = field(default_factory=dict)

    @property
    def taken(self) -> Counter[tuple[str, str]]:
        """How often the server took each mail, by its Message-ID, for each recipient."""
        return Counter((mail.id, each) for mail in self.keeper.mails for each in mail.recipients)

    @property
    def mails_by_id(self) -> dict[str, list[Sequence[int]]]:
        """For each Message-ID the numbers that each of its copies told of."""
        found: dict[str, list[Sequence[int]]] = defaultdict(list)
        for mail in self.keeper.mails:
            found[mail.id].append(mail.told)
        return found


class Load:
    """Several threads that raise events by the Python call, without a rest but for `REST_SECONDS`."""

    def __init__(self, product: Product, books: Books) -> None:
        self._product, self._books = product, books
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._raise, args=(seed,)) for seed in range(RAISERS)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(30)

    def _raise(self, seed: int) -> None:
        chance = random.Random(seed)
        while not self._over.wait(chance.uniform(0, REST_SECONDS)):
            with contextlib.suppress(HookError):  # killed before it could answer: nothing was promised
                self._books.told.append(client.raise_event(self._product.folders.socket, chance.choice(CODES), "full"))


def kill(product: Product, books: Books, chance: random.Random, is_worst: bool) -> None:
    """Kill the hook at a random moment, or after it at the worst one: when the server has just taken a mail."""
    keeper, dead = books.keeper, threading.Event()

    def now() -> None:
        product.processes["mailhook"].kill()
        dead.set()

    threading.Event().wait(chance.uniform(0, 0.8))
    if is_worst:
        keeper.taken = now
        dead.wait(3)
    product.stop("mailhook", signal.SIGKILL)
    keeper.taken = lambda: None
    keeper.wait_until_alone()
    last = keeper.mails[-1] if keeper.mails else None
    is_in_flight = last is not None and last.session == keeper.sessions
    books.in_flight.append([(last.id, each) for each in last.recipients] if last and is_in_flight else [])


def history(product: Product) -> list[Mapping[str, Any]]:
    """Every event with its results, as the hook says."""
    lines = client.history(product.folders.socket, {"limit": 0, "descending": False})
    return [line["event"] for line in lines if "event" in line]


def results(events: Sequence[Mapping[str, Any]]) -> dict[tuple[int, str], str]:
    """What has become of each event for each recipient."""
    return {(event["number"], each["recipient"]): each["verdict"] for event in events for each in event["deliveries"]}


def only_one_waits(product: Product) -> bool:
    """Whether each mail went to whom the server takes under load."""
    return all(address == LATE or verdict != "waiting" for (_, address), verdict in results(history(product)).items())


def fates(numbers: Sequence[int], late: str) -> dict[tuple[int, str], str]:
    """What becomes of these events for each recipient."""
    expected = {TAKES: "delivered", REFUSED: "refused", LATE: late}
    return {(number, each): fate for number in numbers for each, fate in expected.items()}


def objection(address: str) -> str:
    """What the server says to a recipient under load."""
    return {REFUSED: "550 5.1.1 no such user", LATE: "452 4.2.2 mailbox full"}.get(address, "")


@pytest.fixture(scope="module")
def books(tmp_path_factory) -> Iterator[Books]:
    """The books after `KILLS` kills under load, every second one at the worst moment, the last restart, and a drain."""
    chance = random.Random(1742)
    with Product(tmp_path_factory.mktemp("kill")) as product, Keeper() as keeper:
        product.folders.etc.mkdir()
        (product.folders.etc / "device.toml").write_text(DEVICE)
        keeper.objection = objection
        product.start_hook().save(**relay_form(keeper.port))
        RecipientStore(product.folders.recipients).save([Recipient(each) for each in (REFUSED, LATE, TAKES)], "")
        books = Books(keeper)
        with Load(product, books):
            for number in range(KILLS):
                raised = len(books.told)
                wait_for(lambda raised=raised: len(books.told) >= raised + RAISED, what="the load")
                kill(product, books, chance, is_worst=number % 2 == 1)
                product.start_hook()
        wait_for(lambda: only_one_waits(product), DRAIN_SECONDS, "the mails to whom the server takes")
        books.early |= results(history(product))
        keeper.objection = lambda address: objection(address) if address == REFUSED else ""
        product.save(**relay_form(keeper.port, sender_name="Mended"))  # what was deferred waits no longer
        wait_for(lambda: product.state()["waiting"] == 0, DRAIN_SECONDS, "the drain")
        events = history(product)
        books.results |= results(events)
        books.ledger += [event["number"] for event in events]
        product.stop("mailhook")
        keeper.wait_until_alone()
        mails = books.mails_by_id
        print(
            f"{len(books.in_flight)} kills, {len(books.told)} numbers told, "
            f"{len(books.ledger)} in the ledger, {len(keeper.mails)} mails, {sum(books.taken.values()) - len(books.taken)} twice, "
            f"{sum(len(copies[0]) > 1 for copies in mails.values())} digests"
        )
        yield books


def test_it_was_killed_often_and_under_load(books):
    assert len(books.in_flight) == KILLS
    assert len(books.told) >= RAISED * KILLS


def test_singles_digests_and_mails_in_flight_all_came(books):
    sizes = {len(copies[0]) > 1 for copies in books.mails_by_id.values()}
    assert sizes == {False, True}
    assert any(books.in_flight)


def test_every_number_told_is_in_the_ledger(books):
    assert set(books.told) - set(books.ledger) == set()


def test_no_number_is_told_twice(books):
    assert [number for number, count in Counter(books.told).items() if count > 1] == []


def test_the_numbers_have_no_gap(books):
    assert books.ledger == list(range(1, len(books.ledger) + 1))


def test_every_number_of_the_ledger_is_mailed_under_exactly_one_message_id(books):
    mailed = sorted(number for copies in books.mails_by_id.values() for number in copies[0])
    assert mailed == books.ledger


def test_every_number_is_spelt(books):
    assert [mail.counted for mail in books.keeper.mails if mail.counted] == []


def test_a_mail_that_came_twice_tells_of_the_same_events(books):
    assert [name for name, copies in books.mails_by_id.items() if any(each != copies[0] for each in copies)] == []


def test_only_the_mail_in_flight_at_a_kill_comes_twice_and_to_its_recipients_alone(books):
    allowed = Counter(each for mail in books.in_flight for each in mail)
    assert {pair: count for pair, count in books.taken.items() if count - 1 > allowed[pair]} == {}


def test_each_recipient_has_its_own_fate_for_every_number(books):
    assert books.early == fates(books.ledger, "waiting")
    assert books.results == fates(books.ledger, "delivered")


def test_no_recipient_is_reported_done_whom_the_server_did_not_take(books):
    taken = {(number, each) for mail in books.keeper.mails for number in mail.told for each in mail.recipients}
    assert {pair for pair, verdict in books.results.items() if verdict == "delivered"} == taken
