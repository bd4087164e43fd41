"""What is fuzzed: one function for each reader of bytes from outside. It takes any bytes and raises for a broken promise.

A promise is more than "it does not crash": what the form's parser takes, the file's reader takes; a mail is called
delivered only after the server's 250; each line at the hook's socket has one answer. The same functions serve
hypothesis (`test_targets.py`) and atheris (`fuzz.py`).
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import io
import json
import os
import re
import socket
import ssl
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import h11
from bottle import HTTPError
from waitress.adjustments import Adjustments

from device_ui.config import RANGES, SETTINGS, Device, Folders
from device_ui.errors import Damaged, MakerFile, Text
from device_ui.mail import catalog, sendmail
from device_ui.mail.clock import Clock
from device_ui.mail.delivery.batching import Batcher
from device_ui.mail.delivery.environment import Environment
from device_ui.mail.delivery.quota import Quota
from device_ui.mail.delivery.retry import random_fraction
from device_ui.mail.delivery.schedule import Schedule
from device_ui.mail.delivery.sender import Sender
from device_ui.mail.delivery.test_mail import Tester
from device_ui.mail.delivery.worker import DeliveryWorker
from device_ui.mail.ipc import requests, server
from device_ui.mail.ipc.connection import ClientConnections, listen
from device_ui.mail.ipc.peer_credentials import Permissions
from device_ui.mail.outbox.outbox import Outbox
from device_ui.mail.smtp.client import ClientOptions, SmtpClient
from device_ui.mail.smtp.outcome import Outcome, SessionError, Verdict
from device_ui.mail.smtp.redaction import REPLY_MAXIMUM
from device_ui.settings import fields as settings_fields
from device_ui.settings.fields import BY_NAME, FIELDS, LOCKABLE, SmtpSettings
from device_ui.settings.rules import Invalid
from device_ui.settings.store import RecipientStore, RecordStore, Store
from device_ui.web import forms
from device_ui.web.forms import BODY_MAXIMUM
from device_ui.web.http.parser import RequestParser
from device_ui.web.server import HEADER_MAXIMUM

MEMORY = Path("/dev/shm")
PASSWORD = "Kp7!vRw2#Zt9"
SEALED = "sealed:9f86d081884c7d65"
STORED = SmtpSettings("mail.example.com", 587, "Lamp", "lamp@example.com", sealed=SEALED)
CONTROLS = frozenset(map(chr, (*range(32), *range(127, 160))))
HINT = re.compile(r"[A-Z][A-Za-z0-9 ,:'$!@%*#?&+.“”-]*\.")


@functools.cache
def scratch() -> Path:
    """A folder that goes with this process."""
    return Path(_scratch().name)


@functools.cache
def _scratch() -> tempfile.TemporaryDirectory[str]:
    # Memory: thousands of files a second. A fuzzer, which ends without an end of the interpreter, has a TMPDIR of its own.
    memory = MEMORY if MEMORY.is_dir() and "TMPDIR" not in os.environ else None
    return tempfile.TemporaryDirectory(prefix="device-ui-fuzz-", dir=memory)


def is_line(text: Text) -> bool:
    """Whether this is one line that can be shown and logged."""
    return str(text).isprintable() and bool(str(text))


# The form of the SMTP tab


def form(raw: bytes) -> None:
    """What the parser takes, the file's reader takes; a stored password stays with its server; no hint quotes a secret."""
    try:
        fields = forms.read(raw)
    except HTTPError as error:
        assert error.status_code == 400
        return
    for current in (None, STORED):
        for locked in (frozenset[str](), frozenset(LOCKABLE)):
            _parsed(fields, current, locked)


def _parsed(fields: Mapping[str, str], current: SmtpSettings | None, locked: frozenset[str]) -> None:
    draft = settings_fields.parse(fields, current, locked)
    if draft.settings is None:
        assert draft.broken
        assert draft.password is None
        for name, broken in draft.broken.items():
            _told(BY_NAME[name], broken)
        return
    kept = draft.settings.sealed
    if kept is not None:
        assert current is not None
        assert (kept, draft.settings.bound_to, draft.password) == (current.sealed, current.bound_to, None)
    assert not any(CONTROLS & set(str(value)) for value in dataclasses.asdict(draft.settings).values())
    assert not locked or (draft.settings.security, draft.settings.sign_in) == ("auto", "manual")
    settings = dataclasses.replace(draft.settings, sealed=SEALED if draft.password else kept)
    assert settings_fields.validate_stored(dataclasses.asdict(settings)) == settings
    shown = {each.name: str(getattr(settings, each.name)) for each in FIELDS if not each.secret}
    assert settings_fields.parse(shown, settings).settings == settings, "what the page shows is saved as it stands"
    store = Store(scratch() / "smtp.toml")
    store.path.unlink(missing_ok=True)
    saved = store.save(settings, "")
    assert store.read() == (settings, saved)


def _told(field: settings_fields.Field, broken: Invalid) -> None:
    assert broken.sentence in field.sentences
    assert all(HINT.fullmatch(str(hint)) for hint in broken.hints), "a hint is one of ours"


# Files


def record_file(raw: bytes) -> None:
    """A settings file is read or damaged, under a good checksum too; and what was read is written and read as it is."""
    signed = raw + b'\nsha256 = "' + hashlib.sha256(raw + b"\n").hexdigest().encode() + b'"\n'
    for store in (Store(scratch() / "hand.toml"), RecipientStore(scratch() / "list.toml")):
        for content in (raw, signed):
            _reread(store, content)


def _reread(store: RecordStore[object], content: bytes) -> None:
    store.path.write_bytes(content)
    try:
        settings, revision = store.read()
    except Damaged as damage:
        assert is_line(damage.reason), damage.reason
        return
    saved = store.save(settings, revision)
    assert store.read() == (settings, saved)


def device_file(raw: bytes) -> None:
    """device.toml gives every setting, of its kind and in its range; or one line that names the file."""
    folders = Folders(scratch(), scratch(), scratch())
    (scratch() / "device.toml").write_bytes(raw)
    try:
        device = Device.load(folders)
    except MakerFile as error:
        assert is_line(str(error)), str(error)
        return
    assert device.settings.keys() == {name for name, _, _ in SETTINGS}
    for name, default, _ in SETTINGS:
        assert type(device[name]) is type(default)
        assert name not in RANGES or device[name] in RANGES[name]


def catalog_file(raw: bytes) -> None:
    """events.toml gives kinds that a mail can tell of; or one line that names the file."""
    (scratch() / "events.toml").write_bytes(raw)
    try:
        found = catalog.load(scratch())
    except MakerFile as error:
        assert is_line(str(error)), str(error)
        return
    assert catalog.MESSAGE.code in found.kinds
    for code, kind in found.kinds.items():
        assert re.fullmatch("[0-9]{3}", code)
        assert (kind.code, kind.type in catalog.TYPES, type(kind.mail)) == (code, True, bool)
        assert is_line(kind.name)
        assert is_line(kind.description)


# A message for sendmail


def message(raw: bytes) -> None:
    """Every message that says anything becomes a text that fits into an event, with a source on one line."""
    dotted, whole = sendmail.Call(), sendmail.Call(dot_ends=False)
    assert len(sendmail.read(io.BytesIO(raw), dotted)) <= len(raw)
    read = sendmail.read(io.BytesIO(raw), whole)
    assert read == raw or len(raw) > sendmail.LINE_MAXIMUM
    found = sendmail.parse(read, whole)
    text = sendmail.as_text(found)
    assert len(found.subject.splitlines()) == 1
    assert found.text or not read.decode("utf-8", "replace").strip(), "nothing that was said is lost"
    assert requests.clean(text, requests.MESSAGE_MAXIMUM).count("[…") <= text.count("[…"), "no second cut"
    assert len(sendmail.source(whole, found).splitlines()) == 1


# A request at the HTTP door


Heard = tuple[str, int, tuple[object, ...]]


def request(raw: bytes) -> None:
    """A request is heard the same however it is cut; what is let in, a second reader (h11) hears alike."""
    whole = _heard([raw])
    for size in (1, 7):
        assert _heard([raw[start : start + size] for start in range(0, len(raw), size)]) == whole
    kind, taken, told = whole
    if kind == "request":
        assert _heard_by_another(raw) == (raw[taken:], told)


def _heard(pieces: Sequence[bytes]) -> Heard:
    """``request``, ``refused`` or ``more``; how many bytes were its own; what was heard."""
    parser = RequestParser(Adjustments(max_request_body_size=BODY_MAXIMUM + 1, max_request_header_size=HEADER_MAXIMUM))
    taken = 0
    for piece in pieces:
        rest = piece
        while rest:
            consumed = parser.received(rest)
            taken, rest = taken + consumed, rest[consumed:]
            if parser.completed:
                return _ended(parser, taken)
            assert consumed
    return "more", taken, ()


def _ended(parser: RequestParser, taken: int) -> Heard:
    if parser.error:
        return "refused", 0, ()
    if parser.empty:
        return "empty", taken, ()
    body = parser.get_body_stream().getvalue()
    target = parser.first_line.split(b" ")[1]
    return "request", taken, (parser.command.encode(), target, parser.headers.get("HOST", "").encode("latin-1"), body)


def _heard_by_another(raw: bytes) -> tuple[bytes, tuple[object, ...]]:
    peer = h11.Connection(h11.SERVER, max_incomplete_event_size=2 * BODY_MAXIMUM)
    peer.receive_data(raw.lstrip(b"\r\n"))  # RFC 9112, 2.2: empty lines before a request, which h11 does not know
    head = peer.next_event()
    assert isinstance(head, h11.Request), head
    body = b""
    while isinstance(event := peer.next_event(), h11.Data):
        body += event.data
    assert isinstance(event, h11.EndOfMessage), event
    rest, _ = peer.trailing_data
    return bytes(rest), (head.method, head.target, dict(head.headers).get(b"host", b""), body)


# A mail server's replies


class Said:
    """A socket whose peer says these bytes, piece by piece, and then nothing more; `heard` is what it was told."""

    def __init__(self, raw: bytes, size: int) -> None:
        self._pieces = [raw[start : start + size] for start in range(0, len(raw), size)]
        self.heard = b""

    def settimeout(self, seconds: float) -> None:
        assert seconds > 0

    def setsockopt(self, *_: int) -> None:
        """Nothing here is delayed."""

    def recv(self, most: int) -> bytes:
        piece = self._pieces.pop(0) if self._pieces else b""
        assert len(piece) <= most
        return piece

    def sendall(self, raw: bytes) -> None:
        self.heard += raw

    def getsockname(self) -> tuple[str, int]:
        return "127.0.0.1", 40_000

    def getpeername(self) -> tuple[str, int]:
        return "127.0.0.1", 25

    def close(self) -> None:
        self._pieces = []


class Wired(SmtpClient):
    """A courier that is connected already."""

    def __init__(self, peer: Said) -> None:
        settings = dataclasses.replace(STORED, host="127.0.0.1", security="none")
        super().__init__(settings, PASSWORD, ClientOptions(NO_TLS), on_step=self._seen)
        self._peer, self.told = peer, ""

    def _connect(self) -> None:
        self._connection.attach(self._peer)  # type: ignore[arg-type]

    def _seen(self, _step: str, told: Text) -> None:
        self.told += f" {told}"  # apart, so that two of them do not make a secret together


RECIPIENTS = ("one@example.com", "two@example.com")
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
FOR_GOOD = re.compile(rb"^[ +]?5", re.MULTILINE)


def replies(raw: bytes) -> None:
    """Whatever a server says: a verdict for each recipient, delivered only after 354 and 250, refused only by a 5xx;
    one login at most, nothing unprintable and nothing secret in what is told; the same however it arrives."""
    outcomes, told, heard = _session(raw, 4096)
    assert _session(raw, 3) == (outcomes, told, heard)
    assert outcomes.keys() in (set(), set(RECIPIENTS))
    for outcome in outcomes.values():
        assert outcome.verdict in Verdict
        assert outcome.verdict != Verdict.DELIVERED or (b"354" in raw and heard.endswith(b"\r\n.\r\nQUIT\r\n"))
        assert outcome.verdict != Verdict.REFUSED or FOR_GOOD.search(raw)
        assert str(outcome.reply).isprintable()
        assert len(str(outcome.reply)) <= REPLY_MAXIMUM
    assert heard.upper().count(b"AUTH") <= 1
    assert told.isprintable()
    assert PASSWORD[:8] not in " ".join([told, *(str(each.reply) for each in outcomes.values())])


def _session(raw: bytes, size: int) -> tuple[dict[str, Outcome], str, bytes]:
    peer = Said(raw, size)
    courier = Wired(peer)
    outcomes: dict[str, Outcome] = {}
    try:
        courier.open()
        outcomes = courier.deliver(RECIPIENTS, b"Subject: one\r\n\r\nhello\r\n")
    except SessionError as stopped:
        courier.told += f" {stopped.reply}"
    courier.close()
    return outcomes, courier.told, peer.heard


# The hook's socket


PART = frozenset({"event", "kind", "step"})
WORD = re.compile(rb"accepted ([0-9]+)|error [a-z-]+ [^\n]+")
TURNS = 10_000


class Hooked:
    """A hook with its ledger, its postman and a tester whose couriers reach nobody, turned by hand."""

    def __init__(self, folder: Path) -> None:
        self.store = Store(folder / "stored.toml")
        self.store.save(STORED, "")
        self.outbox = Outbox(folder / "ledger.sqlite3", rows_maximum=100)
        device = {"name": "Lamp", "model": "", "serial": ""}
        kinds, clock = catalog.built_in(), Clock(self.outbox.newest_date())
        environment = Environment(device, tuple, self, clock, time.monotonic, random_fraction)
        sender = Sender(self.outbox, kinds, self._nobody, environment)
        quota = Quota(self.outbox, clock, 1_000_000)
        schedule = Schedule(self.outbox, Batcher(), environment)
        worker = DeliveryWorker(self.outbox, self.store, schedule, sender, quota, lambda _: None)
        verified = worker.settings_verified
        tester = Tester(self.store, sender, self._nobody, quota, wake=lambda: self.hook.wake(), verified=verified)
        asked = requests.RequestHandler(self.outbox, kinds, worker, tester, clock, lambda: self.hook.wake())
        self.path = folder / "hook.sock"
        callers = ClientConnections(listen(self.path), Permissions("", ""))
        self.hook = server.IpcServer(callers, self.outbox, asked, worker)
        self.number = 0

    def _nobody(self, *_: object) -> SmtpClient:
        raise SessionError("connect", "refused", "nobody listens")

    def can_unseal(self, _: SmtpSettings) -> bool:
        return True

    def unseal(self, _: SmtpSettings) -> str:
        return PASSWORD

    def answers(self, raw: bytes) -> list[bytes]:
        """What one caller is answered who says this and nothing more, line by line."""
        with socket.socket(socket.AF_UNIX) as caller:
            caller.connect(str(self.path))
            caller.setblocking(False)
            rest, heard = memoryview(raw), bytearray()
            for _ in range(TURNS):
                rest = self._said(caller, rest)
                self.hook.turn(0.001)  # a thread may be at work for this answer
                try:
                    while piece := caller.recv(65_536):
                        heard += piece
                    return bytes(heard).splitlines()
                except BlockingIOError:
                    continue
                except ConnectionResetError:
                    return bytes(heard).splitlines()
        raise AssertionError("the hook does not come to an end")

    @staticmethod
    def _said(caller: socket.socket, rest: memoryview) -> memoryview:
        try:
            while rest:
                rest = rest[caller.send(rest) :]
            caller.shutdown(socket.SHUT_WR)
        except (BlockingIOError, BrokenPipeError, ConnectionResetError):
            pass
        except OSError:  # said already
            pass
        return rest


@functools.cache
def hooked() -> Hooked:
    """The hook of this process."""
    return Hooked(scratch())


def line(raw: bytes) -> None:
    """Each line has one answer in its order, event numbers have no gap, no answer holds a secret, the next is served."""
    mine = hooked()
    answers = mine.answers(raw)
    lines = [each for each in raw.split(b"\n") if each.strip()]
    finals = list(_finals(answers, mine))
    is_long = any(len(each) > server.LINE_MAXIMUM for each in lines)
    assert len(finals) == len(lines) or (is_long and len(finals) <= len(lines)), (lines, answers)
    for said, final in zip(lines, finals, strict=False):
        assert said.lstrip().startswith(b"{") == final.startswith(b"{")
    told = b"\n".join(answers)
    assert SEALED.encode() not in told
    assert PASSWORD.encode() not in told
    assert list(_finals(mine.answers(b'{"do": "state"}\n'), mine))


def _finals(answers: Sequence[bytes], mine: Hooked) -> Iterator[bytes]:
    """The last line of each answer."""
    for each in answers:
        if each.startswith(b"{"):
            told = json.loads(each)
            assert len(told) == 1 or told.keys() == {"error", "reason"}
            if PART & told.keys():
                continue
            number = told.get("accepted")
        else:
            word = WORD.fullmatch(each)
            assert word, each
            # In words nobody asks for a test, whose couriers stumble here.
            assert not each.startswith(b"error fault "), each
            number = int(word[1]) if word[1] else None
        if number is not None:
            mine.number += 1
            assert number == mine.number, "a number is left out or given twice"
        yield each


Target = Callable[[bytes], None]
TARGETS: Mapping[str, Target] = {
    "form": form,
    "record": record_file,
    "device": device_file,
    "catalog": catalog_file,
    "message": message,
    "request": request,
    "replies": replies,
    "line": line,
}
