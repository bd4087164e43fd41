"""Damaged files: the device starts, says what is wrong, keeps what it set aside, and never falls into open set-up."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from device_ui.config import Device, Folders
from device_ui.errors import Damaged, DeviceUIError
from device_ui.mail.events import Event
from device_ui.mail.outbox.outbox import Outbox
from device_ui.settings import keys, seal
from device_ui.settings.recipients import Recipient
from device_ui.settings.store import RecipientStore, RecordStore, Store
from device_ui.web.auth.administrator import Administrator
from device_ui.web.server import prepare
from tests.helpers.product import PASSWORD, Product, wait_for
from tests.power.faults import ALL, make_used

# Damages of a kind in the ordinary tests; opening a ledger costs ten times a settings file.
FEW, FEW_LEDGERS = 100, 40
HEADER_BYTES = 100
PAGE_BYTES = 4096


def flipped(sound: bytes, bit: int) -> bytes:
    return sound[: bit // 8] + bytes([sound[bit // 8] ^ 1 << bit % 8]) + sound[bit // 8 + 1 :]


def overwritten(sound: bytes) -> Iterator[bytes]:
    """As long as it was, of noise, zeros and 0xFF: whole, and one block of it."""
    for noise in (random.Random(4).randbytes(len(sound)), bytes(len(sound)), b"\xff" * len(sound)):
        yield noise
        yield noise[:512] + sound[512:]
        yield sound[: len(sound) // 2] + noise[len(sound) // 2 :]


def damages(sound: bytes) -> list[bytes]:
    """Every kind of damage to a small file: overwritten, cut at each byte, longer, each bit flipped."""
    cut = [sound[:length] for length in range(len(sound))]
    longer = [sound + b"\0", sound + b"\n", sound + sound, sound + bytes(5000), b"\0" + sound]
    bits = [flipped(sound, bit) for bit in range(8 * len(sound))]
    found = sorted({*overwritten(sound), *cut, *longer, *bits} - {sound})
    return found if ALL else [*overwritten(sound), b"", *longer, *random.Random(4).sample(found, FEW)]


@dataclass(frozen=True)
class Wounded:
    """A device in use, one of whose files can be damaged; the others are `others`, byte by byte."""

    folders: Folders
    sound: dict[Path, bytes]

    def wound(self, path: Path, raw: bytes) -> None:
        """Everything as it was, but for one file."""
        for each in [*self.folders.data.glob("*/*")]:
            if each not in self.sound:
                each.unlink()
        for each, content in self.sound.items():
            each.write_bytes(raw if each == path else content)

    def wrong(self, path: Path, raw: bytes, *, is_kept: bool) -> list[str]:
        """The other files that changed; the damaged one when it is `is_kept` nowhere."""
        others = [each for each in self.sound if each != path]
        changed = [each.name for each in others if not each.exists() or each.read_bytes() != self.sound[each]]
        kept = [each.read_bytes() for each in (path, *path.parent.glob(f"{path.name}.damaged-*")) if each.exists()]
        return changed + ([f"{path.name} is not kept"] if is_kept and raw not in kept else [])


@pytest.fixture(scope="module")
def used(tmp_path_factory):
    """A device in use."""
    folder = tmp_path_factory.mktemp("used")
    folders = Folders(folder / "data", folder / "run", folder / "etc")
    make_used(folders)
    RecipientStore(folders.recipients).save((Recipient("a@example.com"), Recipient("b@example.com", "fault")), "")
    return Wounded(folders, {path: path.read_bytes() for path in folders.data.glob("*/*")})


def reads_as_damaged(store: RecordStore, used: Wounded, raw: bytes) -> list[str]:
    used.wound(store.path, raw)
    found = store.load()
    told = [] if (found.settings, found.revision) == (None, "") else [f"{raw!r} reads as {found.settings}"]
    told += [] if found.damaged and found.damaged.read_bytes() == raw else [f"{raw!r} is not told"]
    again = store.load()
    told += [] if again == found else [f"{raw!r} is told once only"]
    return told + used.wrong(store.path, raw, is_kept=True)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", [Store, RecipientStore])
def test_damaged_settings_are_kept_and_told_and_no_wrong_value_is_read(used, kind):
    store = kind(used.folders.settings if kind is Store else used.folders.recipients)
    found = [each for raw in damages(used.sound[store.path]) for each in reads_as_damaged(store, used, raw)]
    assert found == []


def opens(used: Wounded, raw: bytes) -> list[str]:
    """What is wrong with a start on such a record: it must be told, and no setup code made."""
    path = used.folders.administrator
    used.wound(path, raw)
    found = prepare(Device.plain(used.folders), quiet=True)
    told = [] if found is None else [f"{raw!r} starts as {found}"]
    try:
        Administrator(path).load()
        told.append(f"{raw!r} is not told")
    except Damaged:
        pass
    return told + used.wrong(path, raw, is_kept=True)


@pytest.mark.timeout(3600)
def test_a_damaged_administrators_record_never_opens_the_set_up(used):
    assert [each for raw in damages(used.sound[used.folders.administrator]) for each in opens(used, raw)] == []


def test_a_damaged_record_of_a_device_that_is_being_set_up_makes_no_second_code(used, tmp_path):
    folders = Folders(tmp_path / "data", tmp_path / "run", tmp_path / "etc")
    prepare(Device.plain(folders), quiet=True)
    fresh = Wounded(folders, {folders.administrator: folders.administrator.read_bytes()})
    found = [each for raw in damages(fresh.sound[folders.administrator]) for each in opens(fresh, raw)]
    assert found == []


@pytest.mark.parametrize("missing", ["nothing", "the settings"])
def test_a_missing_record_of_a_device_in_use_never_opens_the_set_up(used, missing):
    at = used.folders
    used.wound(at.settings, b"damaged" if missing == "the settings" else used.sound[at.settings])
    Store(at.settings).load()
    at.administrator.unlink()
    assert prepare(Device.plain(at), quiet=True) is None
    assert not at.administrator.exists()


def loses_key(used: Wounded, raw: bytes) -> list[str]:
    at = used.folders
    used.wound(at.private_key, raw)
    pair = keys.load_pair(at.private_key, at.public_key)
    settings, _ = Store(at.settings).read()
    told = [] if keys.load_public(at.public_key) == pair.public else [f"{raw!r}: the halves do not fit"]
    lost = seal.sealed_for(settings.sealed) not in keys.public_ids(at.public_key)
    told += [] if lost else [f"{raw!r}: the old key's password is not told as lost"]
    aside = [each.read_bytes() for each in at.private_key.parent.glob("private.key.damaged-*")]
    told += [] if aside == [raw] else [f"{raw!r} is not kept"]
    used.wound(at.private_key, raw)
    return told


@pytest.mark.timeout(3600)
def test_a_damaged_private_key_is_kept_and_a_new_pair_made(used):
    assert [each for raw in damages(used.sound[used.folders.private_key]) for each in loses_key(used, raw)] == []


def mends_public(used: Wounded, raw: bytes) -> list[str]:
    at = used.folders
    used.wound(at.public_key, raw)
    try:
        keys.load_public(at.public_key)
        return [f"{raw!r} is taken for a key"]
    except Damaged:
        keys.load_pair(at.private_key, at.public_key)
    settings, _ = Store(at.settings).read()
    pair = keys.load_opening(at.private_key, settings.sealed)
    is_open = seal.unseal(settings.sealed, pair.private, settings.bound_to) == PASSWORD
    is_mended = at.public_key.read_bytes() == used.sound[at.public_key]
    return used.wrong(at.public_key, raw, is_kept=False) + ([] if is_open and is_mended else [f"{raw!r}: not mended"])


@pytest.mark.timeout(3600)
def test_a_damaged_public_key_is_never_sealed_to_and_is_made_anew(used):
    assert [each for raw in damages(used.sound[used.folders.public_key]) for each in mends_public(used, raw)] == []


def ledger_damages(sound: bytes) -> list[bytes]:
    """Each bit of the header, a sample of the other bits, cuts, and blocks overwritten."""
    chosen = random.Random(4)
    header = [flipped(sound, bit) for bit in range(8 * HEADER_BYTES)]
    rest = [flipped(sound, bit) for bit in chosen.sample(range(8 * HEADER_BYTES, 8 * len(sound)), 800)]
    cut = [sound[:length] for length in (*range(HEADER_BYTES + 1), *range(512, len(sound), 512))]
    pages = [
        sound[:start] + filler * PAGE_BYTES + sound[start + PAGE_BYTES :]
        for start in range(0, len(sound), PAGE_BYTES)
        for filler in (b"\0", b"\xff")
    ]
    found = [*header, *rest, *cut]
    return [b"", sound[:1], *overwritten(sound), *pages, *(found if ALL else chosen.sample(found, FEW_LEDGERS))]


def accepts(used: Wounded, raw: bytes) -> list[str]:
    """What is wrong with a ledger of these bytes: it accepts, and holds what it held or is kept aside."""
    path = used.folders.ledger
    used.wound(path, raw)
    try:
        outbox = Outbox(path)
    except DeviceUIError as error:
        return [] if "newer version" in str(error) and path.read_bytes() == raw else [f"does not start: {error}"]
    number = outbox.accept([Event("303", "fault", 1e9, 1e9, "", "new")])[0]
    held = {event.number: event.text for event in outbox.select("1", ())}
    outbox.close()
    told = [] if held.get(number) == "new" else ["an accepted event is not there"]
    if outbox.set_aside:
        told += [] if outbox.set_aside.read_bytes() == raw else ["what was set aside is not what was there"]
        told += [] if len(held) == 1 else ["old events in a new ledger"]
    else:  # of a text, a flipped bit goes unseen: it has no checksum
        told += [] if len(held) == 4 else [f"not set aside, and holds {held}"]
    return told + used.wrong(path, raw, is_kept=False)


@pytest.mark.timeout(3600)
def test_a_damaged_ledger_is_kept_and_events_are_accepted(used):
    found = [
        f"{number}: {each}"
        for number, raw in enumerate(ledger_damages(used.sound[used.folders.ledger]))
        for each in accepts(used, raw)
    ]
    assert found == []


# The real processes: what they say of each file, on a page or in the log, and where.
TOLD = {
    "settings": (
        "/smtp",
        "The stored settings were damaged and could not be read. They were set aside as smtp.toml.damaged-1",
    ),
    "recipients": ("/recipients", "It was set aside as recipients.toml.damaged-1"),
    "private_key": ("/smtp", "The stored password can no longer be opened: the device&#039;s key has changed."),
    "administrator": ("/login", "The administrator&#039;s record of this device is damaged."),
    "ledger": ("mailhook", "ledger damaged; it is kept as ledger.sqlite3.damaged-1"),
}


@pytest.mark.parametrize("name", TOLD)
@pytest.mark.parametrize("filler", [b"\0", b"\xff", b"x"] if ALL else [b"\0"])
def test_both_processes_start_on_a_damaged_file_and_say_so(name, filler, tmp_path):
    where, sentence = TOLD[name]
    with Product(tmp_path) as product:
        make_used(product.folders)
        RecipientStore(product.folders.recipients).save((Recipient("a@example.com"),), "")
        path = getattr(product.folders, name)
        path.write_bytes(filler * path.stat().st_size)
        product.start_hook().spawn("web", "--listen", f"127.0.0.1:{product.port}")
        wait_for(lambda: "pages served" in product.log("web"), what="the pages' start")
        assert product.event("303", "new")
        browser = product.browser() if where == "/login" else product.logged_in()
        told = product.log(where) if where == "mailhook" else browser.get(where).text
        assert sentence in told
        assert browser.get("/setup").status != 200
