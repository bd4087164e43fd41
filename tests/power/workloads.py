"""What a user and the firmware do to a device: one row an action, and the sequences of them that are played.

A new action is a new row here, what its acknowledgement looks like in `story`, and what
it promises in `promises`.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from device_ui.mail import client
from device_ui.mail.catalog import SIGN_OF_LIFE
from device_ui.mail.events import Action
from tests.helpers.product import Browser, wait_for
from tests.power.stage import ROWS, Stage, form, password, person
from tests.servers.scripted import GOOD

# A commit writes two or three pages; SQLite begins anew after 1,000 of them.
FLOOD = 550
LATER, NO_ONE = "450 4.2.0 later", "550 5.1.1 no such user"


def save(stage: Stage) -> None:
    """Press Update on the SMTP tab."""
    browser = stage.browser()
    revision = browser.get("/smtp").revision
    answer = browser.post("/smtp", revision=revision, **form(stage.next("settings"), stage.server.port))
    assert answer.status == 303, answer.text


def apply(stage: Stage) -> None:
    """Apply a document as root: the settings of the tab, the list with somebody more, and what is mailed."""
    for kind in ("settings", "recipients"):
        stage.counts[kind] += 1
    settings, people = stage.counts["settings"], stage.counts["recipients"]
    content = {
        "device_ui": 1,
        "smtp": form(settings, stage.server.port),
        "recipients": {person(number): "info" for number in range(1, people + 1)},
        "notifications": {f"{700 + people}": "never"},
    }
    stage.begin("document", settings, people)
    stage.run("apply", "-", given=json.dumps(content))


def save_recipients(stage: Stage) -> None:
    """Put somebody on the list of recipients."""
    browser = stage.browser()
    fields = {"revision": browser.get("/recipients").revision, "do": "add", "lowest": "info"}
    answer = browser.post("/recipients", address=person(stage.next("recipients")), **fields)
    assert answer.status == 303, answer.text


def change_password(stage: Stage) -> None:
    """Set the administrator's password at the console."""
    stage.run("admin", "set-password", given=password(stage.next("password")) + "\n")
    stage.visitor = None


def accept(stage: Stage) -> None:
    """Raise an event while the mail server defers everything."""
    stage.server.script["RCPT"] = LATER
    _raised(stage)


def deliver(stage: Stage) -> None:
    """Raise an event that is mailed, and look until the history says so."""
    if stage.counts["settings"] < 0:
        save(stage)
    stage.server.script.pop("RCPT", None)
    number = _raised(stage)
    client.settings_changed(stage.folders.socket)  # what was deferred before must not hold this one back
    wait_for(lambda: stage.history(number) == "delivered", what="the delivery")


def mixed(stage: Stage) -> None:
    """Raise an event for three recipients of whom the server refuses one for good and defers one, which it takes later."""
    if stage.counts["settings"] < 0:
        save(stage)
    while stage.counts["recipients"] < 3:
        save_recipients(stage)
    refused, late, *taken = map(person, range(1, stage.counts["recipients"] + 1))
    answers = {refused: NO_ONE, late: LATER}
    stage.server.script["RCPT"] = lambda session, line: session.say(answers.get(_address(line), GOOD["RCPT"]))
    stage.begin("fates", {refused: "refused", late: "", **dict.fromkeys(taken, "delivered")})
    number = _raised(stage)
    client.settings_changed(stage.folders.socket)
    wait_for(lambda: len(stage.results(number)) > len(taken), what="the mail to whom the server takes")
    stage.begin("fates", {})
    stage.begin("takes", late)
    del answers[late]
    client.settings_changed(stage.folders.socket)
    wait_for(lambda: "waiting" not in stage.history(number), what="the mail to the last recipient")
    del stage.server.script["RCPT"]


def _address(line: str) -> str:
    return re.findall("<(.*)>", line)[0]


def again(stage: Stage) -> None:
    """Send an event again that was delivered, and look until the history says that it is delivered again."""
    deliver(stage)
    number = stage.counts["number"]
    stage.begin("about", number)
    stage.begin("event", Action.SEND_AGAIN)
    client.send_again(stage.folders.socket, number)
    wait_for(lambda: stage.history(number) == "delivered", what="the second delivery")


def periodic(stage: Stage) -> None:
    """The daily summary and the sign of life that are due at the start are begun and delivered; look until the history says so."""
    wait_for(lambda: stage.rows({"code": SIGN_OF_LIFE.code, "limit": 9}), what="the sign of life")
    query = {"limit": 9, "sort": "number", "descending": True}
    wait_for(lambda: all("waiting" not in each["state"] for each in stage.rows(query)), what="the periodic mails")


def forward(stage: Stage) -> None:
    """Raise an event that is mailed, and look until the engine has it and its outcome."""
    deliver(stage)
    number = stage.counts["number"]
    wait_for(
        lambda: any(f'"number": {number}, ' in line and "outcome" in line for line in stage.engine()),
        what="the outcome",
    )


def away(stage: Stage) -> None:
    """Raise an event that is mailed while the engine is away; after the next start it is back, and gets that one before one more."""
    runs = len(stage.engine("runs"))
    (stage.folder / "away").touch()
    deliver(stage)
    wait_for(lambda: len(stage.engine("runs")) > runs, what="a run that fails")
    (stage.folder / "away").unlink()
    start(stage)
    forward(stage)  # not the outcome of the former: where that is lost, the promises say so


def prune(stage: Stage) -> None:
    """Raise so many events at once that the ledger's limit takes the oldest."""
    stage.server.script["RCPT"] = LATER
    kept = sum("end" not in line for line in client.history(stage.folders.socket, {"limit": 0}))
    texts = [f"event {stage.counts['event'] + place}" for place in range(1, max(6, ROWS + 5 - kept))]
    stage.counts["event"] += len(texts)
    stage.begin("event", *texts)
    stage.raise_lines([f"event 050 {text}" for text in texts])


def start(stage: Stage) -> None:
    """Start both processes: the first start and the set-up of a new device, else a restart."""
    if stage.processes:
        stage.stop()
    stage.start()
    if stage.counts["password"] < 0:
        code, chosen = stage.setup_code(), stage.next("password")
        stage.visitor = Browser(stage.port)
        fields = {"password": password(chosen), "again": password(chosen)}
        assert stage.visitor.post("/setup", code=code, **fields).status == 303


def rotate(stage: Stage) -> None:
    """Change the key at the console."""
    stage.begin("rotation")
    stage.run("rotate-key")


def reset(stage: Stage) -> None:
    """Erase the device at the console, and set it up anew."""
    stage.stop()
    stage.begin("reset")
    stage.run("factory-reset", "--yes")
    stage.count_from(-1)
    start(stage)


def storm(stage: Stage) -> None:
    """Raise many events of a kind at once, while settings are saved; the last of them in digests, if there are any."""
    stage.server.script.pop("RCPT", None)
    for _ in range(3):
        texts = [f"event {stage.counts['event'] + place}" for place in range(1, 8)]
        stage.counts["event"] += len(texts)
        stage.begin("event", *texts)
        stage.raise_lines([f"event 303 {text}" for text in texts])
        save(stage)
    wait_for(lambda: client.state(stage.folders.socket)["waiting"] == 0, what="the storm's end")


def flood(stage: Stage) -> None:
    """Raise so many events one by one that SQLite takes its journal into the ledger and begins it anew."""
    stage.server.script["RCPT"] = LATER
    for _ in range(FLOOD):
        _raised(stage)


def kill(stage: Stage) -> None:
    """Both processes die where they stand, and are started again."""
    stage.kill()
    stage.start()


def _raised(stage: Stage) -> int:
    text = f"event {stage.counts['event'] + 1}"
    stage.counts["event"] += 1
    stage.begin("event", text)
    stage.counts["number"] = client.raise_event(stage.folders.socket, "303", text)
    return stage.counts["number"]


ACTIONS: Mapping[str, Callable[[Stage], None]] = {
    "save": save,
    "recipients": save_recipients,
    "password": change_password,
    "accept": accept,
    "deliver": deliver,
    "prune": prune,
    "start": start,
    "rotate": rotate,
    "reset": reset,
}
EXTRA: Mapping[str, Callable[[Stage], None]] = {
    "apply": apply,
    "again": again,
    "periodic": periodic,
    "forward": forward,
    "away": away,
    "mixed": mixed,
    "storm": storm,
    "flood": flood,
    "kill": kill,
}
# Those of the latter that are also played by themselves, on a device in use.
ALONE = ("apply", "again", "periodic", "forward", "away", "mixed")
LONG: Sequence[tuple[str, ...]] = (
    ("start", "save", "recipients", "accept", "deliver", "password", "save", "prune", "deliver", "start", "accept"),
    ("storm", "start", "storm", "deliver", "prune", "save"),
    ("prune", "prune", "deliver", "start", "prune", "accept", "deliver", "recipients", "password"),
    ("start", "storm", "save", "password", "accept", "start", "deliver", "storm"),
    ("rotate", "save", "rotate", "deliver", "kill", "reset", "save", "accept", "reset", "rotate", "save", "deliver"),
    (
        "start",
        "apply",
        "deliver",
        "save",
        "apply",
        "rotate",
        "apply",
        "kill",
        "apply",
        "recipients",
        "apply",
        "deliver",
    ),
    ("start", "mixed", "kill", "mixed", "deliver", "prune", "mixed", "start", "accept", "mixed"),
    ("again", "start", "again", "kill", "again", "recipients", "again", "deliver"),
    ("periodic", "start", "periodic", "kill", "deliver", "periodic"),
    ("forward", "away", "deliver", "kill", "forward", "again", "away"),
    ("mixed", "recipients", "mixed", "start", "kill", "mixed", "reset", "mixed"),
    ("start", "kill", "save", "accept", "kill", "deliver", "kill", "prune", "kill", "password", "save"),
)


def sequences(length: int) -> list[tuple[str, ...]]:
    """Every sequence of exactly so many actions."""
    return list(itertools.product(ACTIONS, repeat=length))


def woven(length: int, row: int) -> list[tuple[str, ...]]:
    """Every sequence of so many actions, `row` of them in each longer one: a de Bruijn sequence, cut into pieces.

    What a sequence begins on is then a device that has lived a while; played one by one, on a bare one, they would cost
    three times the recordings and prove no more.
    """
    names = list(ACTIONS)
    circle = [names[each] for word in _lyndon_words(len(names), length) if length % len(word) == 0 for each in word]
    line = [*circle, *circle[: length - 1]]
    return [tuple(line[place : place + row + length - 1]) for place in range(0, len(circle), row)]


def _lyndon_words(symbols: int, longest: int) -> Iterator[list[int]]:
    """In their order, as Duval makes them (1988): those whose length divides `longest` are a de Bruijn sequence."""
    word = [-1]
    while word:
        word[-1] += 1
        yield list(word)
        word = (word * longest)[:longest]
        while word and word[-1] == symbols - 1:
            word.pop()


def is_fresh(sequence: Sequence[str]) -> bool:
    """Whether it begins on a device that never started."""
    return sequence[0] == "start"


def play(stage: Stage, sequence: Sequence[str]) -> None:
    """Play the actions, each marked as a chapter: 0 the start of a device in use, then 1, 2 …; the last is the end."""
    stage.begin("chapter", 0)
    if not is_fresh(sequence):
        stage.start()
    for number, name in enumerate(sequence, 1):
        stage.begin("chapter", number)
        (ACTIONS | EXTRA)[name](stage)
    stage.begin("chapter", len(sequence) + 1)
    stage.stop()
