"""Eighty events through Exim, OpenSMTPD and nodemailer, with limits low: each arrives once, and the page was right."""

from __future__ import annotations

import contextlib
import functools
import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from device_ui.mail import client
from tests.helpers.document import read
from tests.helpers.product import Product, wait_for
from tests.servers.keeper import Taken
from tests.servers.mailers import (
    MAILERS,
    REFUSED,
    Limits,
    Mailer,
    ThrottledExim,
    running,
)

EVENTS, BURST = 80, 20
CODES = ("303", "304", "301", "054")
READERS = [f"reader{number}@mail.example.test" for number in range(7)]
TEXT = "disk 3 in bay 2 failed, serial WD-WX12; " * 10
SENTENCES = {
    "refused": "refused for good (at the recipient's address)",
    "server": "could not be delivered yet (at the sender's address)",
}
# The mails of a session, the recipients of a mail, the bytes of a mail: a digest of a burst is larger.
LIMITS = Limits(mails=1, recipients=5, size=30_000)

pytestmark = pytest.mark.timeout(600)


@dataclass
class Said:
    """What the device said at one moment, after the events of these numbers were `raised`."""

    raised: set[int]
    waiting: int
    problem: str
    health: str
    banner: str


@dataclass
class Run:
    """What a server took and what the device said of it: `said` are the samples, two a second."""

    mailer: Mailer
    numbers: list[int] = field(default_factory=list)
    events: list[dict] = field(default_factory=list)
    taken: dict[str, list[bytes]] = field(default_factory=dict)
    said: list[Said] = field(default_factory=list)

    def is_over(self) -> bool:
        """Return whether all were raised, and none waited for its mail at the last sample."""
        return (
            len(self.numbers) == EVENTS
            and bool(self.said)
            and (self.said[-1].waiting, len(self.said[-1].raised)) == (0, EVENTS)
        )


def document(port: int) -> str:
    """The settings: every reader, and one whom the server refuses."""
    recipients = "".join(f'"{each}" = "info"\n' for each in [*READERS, REFUSED])
    return f"""device_ui = 1
[smtp]
host = "127.0.0.1"
port = {port}
security = "none"
sign_in = "none"
sender_name = "Storage alarms"
account = "alarm@mail.example.com"
[recipients]
{recipients}"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Run]:
    """A device at each server, all at once: they wait most of the time."""
    with ThreadPoolExecutor(len(MAILERS)) as pool:
        folders = [tmp_path_factory.mktemp("device") for _ in MAILERS]
        return dict(zip(MAILERS, pool.map(deliver, MAILERS, folders), strict=True))


@pytest.fixture(params=MAILERS)
def run(request, runs) -> Run:
    return runs[request.param]


def deliver(name: str, folder: Path) -> Run:
    """Raise the events on a device that delivers to the server of this name, and wait until none is left."""
    with running(name, LIMITS) as mailer, Product(folder) as product:
        product.maker("[mail]\ndigest_window = 1\nhourly_budget = 10000\n").start()
        applied = product.command("apply", "-", input=document(mailer.port))
        assert applied.returncode == 0, applied.stdout + applied.stderr
        done, ended = Run(mailer), threading.Event()
        with ThreadPoolExecutor(1) as pool, contextlib.ExitStack() as stack:
            stack.callback(ended.set)
            watcher = pool.submit(watch, product, done, ended)
            codes, pause = itertools.cycle(CODES), threading.Event()
            for _ in range(EVENTS // BURST):
                done.numbers += [
                    client.raise_event(product.folders.socket, next(codes), text=TEXT) for _ in range(BURST)
                ]
                pause.wait(0.5)
            # By the samples: a question to each hook every 20 ms, for a minute, takes more of the processor than the mails.
            wait_for(lambda: done.is_over() or watcher.done(), 500, "the end of the queue")
        watcher.result()
        lines = client.history(product.folders.socket, {"limit": 0, "descending": False})
        done.events = [line["event"] for line in lines if "event" in line]
        wait_for(lambda: arrived(mailer) >= set(done.numbers), what="the last mail in its mailbox")
        done.taken = mailer.taken()
        return done


def arrived(mailer: Mailer) -> set[int]:
    """The events that every reader has a mail of."""
    mails = mailer.taken()
    names = [each.partition("@")[0] for each in READERS]
    return set.intersection(*({n for raw in mails.get(name, []) for n in told_by(raw)} for name in names))


@functools.cache
def told_by(raw: bytes) -> list[int]:
    """The events that a mail tells of; each mail is looked at again and again while another is on its way."""
    return Taken(raw, 0, 0.0).told


def watch(product: Product, run: Run, ended: threading.Event) -> None:
    """Sample what the device says, twice a second and at the end, beside the events that were raised before."""
    browser = product.logged_in()
    is_last = False
    while not is_last:
        is_last = ended.wait(0.5)
        raised = set(run.numbers)
        state, health, page = product.state(), browser.get("/health"), browser.get("/smtp")
        banners = [each.text for each in read(page.text).by_class("banner")]
        run.said.append(Said(raised, state["waiting"], state["problem"], health.text, "\n".join(banners)))
        if not state["waiting"]:  # the server has all of them, and some servers sort them into mailboxes later
            wait_for(lambda raised=raised: arrived(run.mailer) >= raised, what="a mail that waits nowhere")


def test_each_event_is_in_one_mail_to_each_reader(run):
    for name in (each.partition("@")[0] for each in READERS):
        told = [number for raw in run.taken[name] for number in told_by(raw)]
        assert sorted(told) == sorted(run.numbers)


def test_the_ledger_has_what_the_server_did_with_each_recipient(run):
    for event in run.events:
        verdicts = {each["recipient"]: each["verdict"] for each in event["deliveries"]}
        assert verdicts == {**dict.fromkeys(READERS, "delivered"), REFUSED: "refused"}, event


def test_the_page_was_right_at_every_moment(run):
    """The server refuses one reader and takes the mail of all others: only one that throttles defers what waits."""
    problems = [said.problem for said in run.said]
    assert len(problems) > 3
    may_defer = isinstance(run.mailer, ThrottledExim)
    assert set(problems) <= ({"", "refused", "server"} if may_defer else {"", "refused"})
    # On a slow machine nothing is throttled: there are fewer mails in a minute.
    losses = [problem for problem in problems if problem != "server"]
    assert losses == sorted(losses), "a loss is reported until a mail reaches all its readers"
    assert problems[-1] == "refused"
    for said in run.said:
        # The three are read one after the other, and the mail path may change between them.
        if said.problem == said.health.strip():
            assert SENTENCES[said.problem] in said.banner or may_defer
            assert said.waiting or said.problem != "server"
