"""A sample of the disks started with the real processes: what the user sees on the pages and the firmware at the socket."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from device_ui.config import Folders
from device_ui.mail import client
from tests.helpers.product import Product
from tests.power import disk
from tests.power.disk import Tree
from tests.power.explore import MEMORY, cuts, record
from tests.power.promises import Known
from tests.power.stage import password


def sample(sequence: tuple[str, ...], count: int) -> list[str]:
    """Play a story and start the real processes on so many of its disks; the broken promises."""
    with tempfile.TemporaryDirectory(prefix="device-ui-power-", dir=MEMORY) as name:
        recording = record(sequence, Path(name) / "stage")
        disks = [(tree, cut.known) for cut in cuts(recording) for tree in cut.point.states(100, "real")]
        chosen = random.Random("real").sample(disks, min(count, len(disks)))
        return [line for tree, known in chosen for line in start(tree, known, recording.maker, Path(name) / "real")]


def start(tree: Tree, known: Known, maker: Path, folder: Path) -> list[str]:
    """Start both processes on a disk in `folder`, which must be new; the promises that a user finds broken."""
    flash = folder / "flash"
    flash.mkdir(parents=True)
    disk.build(tree, flash)
    try:
        with Product(folder) as product:
            product.folders = Folders(flash / "data", folder / "run", maker)
            product.start()
            return [*_pages(product, known), *_socket(product, known)]
    finally:
        shutil.rmtree(folder)


def _pages(product: Product, known: Known) -> Iterator[str]:
    browser = product.browser()
    is_open = browser.get("/smtp").headers.get("location", "").endswith("/setup")
    if is_open and known.told["password"] >= 0:
        yield "the pages open the set-up again"
    if is_open or known.asked["password"] < 0:
        return
    for number in range(max(known.told["password"], 0), known.asked["password"] + 1):
        if browser.post("/login", password=password(number)).status == 303:
            break
    else:
        yield "the password opens nothing"
        return
    page = browser.get("/smtp").text
    names = [
        f"Storage alarms {number}" for number in range(max(known.told["settings"], 0), known.asked["settings"] + 1)
    ]
    if known.told["settings"] >= 0 and not any(f'"{name}"' in page for name in names):
        yield "the tab does not show the settings"
    if "damaged" in page:
        yield "the tab tells of damage"


def _socket(product: Product, known: Known) -> Iterator[str]:
    lines = client.history(product.folders.socket, {"limit": 0})
    states = {each["event"]["number"]: each["event"]["state"] for each in lines if "event" in each}
    newest = max(known.events, default=0)
    if newest and newest not in states:
        yield f"event {newest} is not in the history"
    if any(states.get(number, "delivered") != "delivered" for number in known.delivered):
        yield "the history says that a delivered event waits"
    if product.event() <= newest:
        yield "a number is given twice"
