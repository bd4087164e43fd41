"""The real processes while the wall clock is wrong or jumps: libfaketime moves it, and leaves the monotonic clocks alone."""

from __future__ import annotations

import contextlib
import email
import email.policy
import email.utils
import importlib.util
import itertools
import os
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from device_ui.mail import client
from device_ui.mail.clock import BOOT_ID
from device_ui.mail.events import Event
from device_ui.mail.outbox.outbox import Outbox
from device_ui.settings.fields import SmtpSettings
from device_ui.settings.store import Store
from tests.helpers.product import PASSWORD, SECONDS, Product, listens, settings_form, wait_for
from tests.mail.test_daemon import save, state
from tests.servers.authority import Certificates
from tests.servers.scripted import ScriptedServer

YEAR = 365.25 * 24 * 3600
IN_1970 = 60.0
# Seconds since the boot of a device in which an event may have waited for its clock; the machine of the tests may have just started.
AGE = 700.0
NOT_SET = "not known (the device's clock was not set)"


class WallClock:
    """The wall clock of the processes that are started with its `environment`."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.shows(time.time())

    def shows(self, moment: float) -> None:
        """From now on it goes on from this moment (seconds since 1970)."""
        new = self.file.with_suffix(".new")
        new.write_text(f"{moment - time.time():+.3f}\n")
        new.replace(self.file)

    def environment(self, product: Product, monotonic: bool = False) -> dict[str, str]:
        """For a process whose wall clock this is; its monotonic clocks jump with it only if told so."""
        found = importlib.util.find_spec("libfaketime")
        assert found and found.origin
        library = Path(found.origin).parent / "vendor/libfaketime/src/libfaketime.so.1"
        faked = {"LD_PRELOAD": str(library), "FAKETIME_TIMESTAMP_FILE": str(self.file), "FAKETIME_NO_CACHE": "1"}
        alone = {} if monotonic else {"FAKETIME_DONT_FAKE_MONOTONIC": "1"}
        return {**product.environment, **faked, **alone, "NO_FAKE_STAT": "1"}

    @contextlib.contextmanager
    def jumping(self, *moments: float, seconds: float = 0.25) -> Iterator[None]:
        """It jumps from one of these moments to the next and back to the first, all the time."""
        end = threading.Event()

        def jump() -> None:
            for moment in itertools.cycle(moments):
                self.shows(moment)
                if end.wait(seconds):
                    return

        jumper = threading.Thread(target=jump)
        jumper.start()
        try:
            yield
        finally:
            end.set()
            jumper.join()


@pytest.fixture
def wall(tmp_path):
    return WallClock(tmp_path / "wall")


@pytest.fixture
def device(product, wall):
    """A device whose every event is a mail of its own; its hook has the wall clock."""
    product.folders.etc.mkdir()
    (product.folders.etc / "device.toml").write_text("[mail]\ndigest_window = 0\nhourly_budget = 100000\n")
    return product


def start(device: Product, wall: WallClock, *options: str) -> None:
    device.start_hook(*options, env=wall.environment(device))


def start_after_boot(product: Product, seconds: float, *options: str, wall: WallClock | None = None) -> None:
    """Start the hook so many seconds after a boot, by a time namespace of its own (time_namespaces(7))."""
    offset = seconds - time.clock_gettime(time.CLOCK_BOOTTIME)
    namespace = ["unshare", "--time", "--boottime", f"{offset:.0f}", "--"]
    product.logs["mailhook"] = product.folder / "mailhook.log"
    with product.logs["mailhook"].open("ab") as log:
        product.processes["mailhook"] = subprocess.Popen(
            [*namespace, product.python, "-m", "device_ui", "mailhook", "--allow-loopback", *options],
            env=wall.environment(product) if wall else product.environment,
            stdout=log,
            stderr=log,
        )
    wait_for(lambda: listens(product.folders.socket), what="the hook's start")


def alarm(device: Product, code: str = "303", **words: str) -> int:
    """Raise an event, which must not take long whatever the clock says."""
    return client.raise_event(device.folders.socket, code, "full", **words, seconds=SECONDS)


def history(device: Product) -> dict[int, dict[str, object]]:
    told = client.history(device.folders.socket, {"limit": 0, "sort": "number", "descending": False})
    return {line["event"]["number"]: line["event"] for line in told if "event" in line}


def held(device: Product, seconds: float) -> None:
    """Put an event into the ledger that has waited for the clock for so long when the hook starts `AGE` after the boot."""
    device.folders.ledger.parent.mkdir(parents=True, exist_ok=True)
    outbox = Outbox(device.folders.ledger)
    outbox.accept([Event("303", "fault", 0.0, 0.0, clock=f"@{BOOT_ID.read_text()[:8]} {AGE - seconds:.3f}")])
    outbox.close()


def number(mail: bytes) -> int:
    return int(re.search(rb"Message-ID: <([0-9]+)\.", mail)[1])


def date(mail: bytes) -> float:
    """Seconds since 1970 of the header."""
    return email.utils.parsedate_to_datetime(re.search(rb"^Date: (.*)\r$", mail, re.M)[1].decode()).timestamp()


def time_row(mail: bytes) -> str:
    """The row "Time" of the text part."""
    text = email.message_from_bytes(mail, policy=email.policy.default).get_body(("plain",)).get_content()
    return re.search(r"^Time: +(.*?)\r?$", text, re.M)[1]


def seconds(row: str) -> float:
    """Seconds since 1970 of a time as it is told to people."""
    return datetime.strptime(row[:26], "%Y-%m-%d %H:%M:%S %z").timestamp()


def cpu_seconds(device: Product) -> float:
    words = Path(f"/proc/{device.processes['mailhook'].pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def alarms(device: Product) -> tuple[float, list[int]]:
    """Raise ten events in a second and a half: the seconds of processor that the hook took, and their numbers."""
    before, pause = cpu_seconds(device), threading.Event()
    numbers = [alarm(device) for _ in range(10) if not pause.wait(0.15)]
    return cpu_seconds(device) - before, numbers


# An event under a wrong clock


def test_an_event_under_a_wrong_clock_is_dated_when_the_clock_is_right(device, wall):
    wall.shows(IN_1970)
    with ScriptedServer() as server:
        start(device, wall)
        save(device, server.port)
        happened = time.time()
        alarm(device)
        accepted = time.time()
        wait_for(lambda: time.time() > accepted + 2, what="two seconds")
        assert history(device)[1]["time"] == NOT_SET
        assert (server.sessions, history(device)[1]["state"]) == ([], "waiting")
        wall.shows(time.time())
        wait_for(lambda: history(device)[1]["state"] == "delivered", what="the mail")
        # Not the moment at which the clock was set; both are whole seconds.
        assert happened - 1 <= history(device)[1]["seconds"] <= accepted + 1
        device.stop("mailhook")
    assert happened - 1 <= seconds(time_row(server.mails[0])) <= accepted + 1
    assert abs(date(server.mails[0]) - time.time()) < 600


def test_the_next_event_brings_the_right_date_at_once(device, wall):
    wall.shows(IN_1970)
    with ScriptedServer() as server:
        start(device, wall)
        save(device, server.port)
        happened = time.time()
        alarm(device)
        wall.shows(time.time())
        alarm(device)
        wait_for(lambda: len(server.mails) == 2, seconds=30, what="both mails")
        device.stop("mailhook")
    assert all(abs(seconds(time_row(mail)) - happened) < SECONDS for mail in server.mails)


def test_a_clock_that_falls_back_to_1970_while_the_hook_runs_dates_nothing(device, wall):
    with ScriptedServer() as server:
        start(device, wall)
        save(device, server.port)
        alarm(device)
        wait_for(lambda: len(server.mails) == 1)
        wall.shows(IN_1970)
        alarm(device)
        assert history(device)[2]["time"] == NOT_SET
        assert state(device)["clock"].startswith("1970-01-01")
        device.stop("mailhook")
    assert len(server.mails) == 1


def test_a_clock_ten_years_ahead_mails_at_once_and_its_correction_too(device, wall):
    wall.shows(time.time() + 10 * YEAR)
    with ScriptedServer() as server:
        start(device, wall)
        save(device, server.port)
        alarm(device)
        wait_for(lambda: len(server.mails) == 1)
        wall.shows(time.time())
        alarm(device)
        wait_for(lambda: len(server.mails) == 2)
        device.stop("mailhook")
    assert abs(seconds(time_row(server.mails[0])) - time.time() - 10 * YEAR) < 600
    assert abs(seconds(time_row(server.mails[1])) - time.time()) < 600


def test_a_time_by_the_wrong_clock_says_how_long_ago_it_was(device, wall):
    wall.shows(1000.0)
    start_after_boot(device, AGE, wall=wall)
    alarm(device, time="1970-01-01T00:15:40Z")
    wall.shows(time.time())
    alarm(device)
    wait_for(lambda: history(device)[1]["seconds"], what="the date")
    assert abs(time.time() - 60 - history(device)[1]["seconds"]) < 50


def test_a_time_of_1970_under_a_right_clock_is_not_believed(device, wall):
    with ScriptedServer() as server:
        start(device, wall)
        save(device, server.port)
        alarm(device, time="1970-01-01T00:15:40Z")
        wait_for(lambda: server.mails)
        device.stop("mailhook")
    assert re.fullmatch(r"before 20.* \(the device's clock was not set\)", time_row(server.mails[0]))


def test_after_ten_minutes_without_a_clock_the_mail_goes_out_and_says_so(device, wall):
    held(device, 601)
    happened = time.time() - 601
    wall.shows(IN_1970)
    with ScriptedServer() as server:
        start_after_boot(device, AGE, wall=wall)
        save(device, server.port)
        wait_for(lambda: server.mails)
        wait_for(lambda: history(device)[1]["state"] == "delivered")
        assert history(device)[1]["time"] == NOT_SET
        wall.shows(time.time())
        alarm(device)
        wait_for(lambda: len(server.mails) == 2)
        assert abs(history(device)[1]["seconds"] - happened) < 60  # and not the ten minutes later at which it is asked
        device.stop("mailhook")
    assert time_row(server.mails[0]) == NOT_SET
    assert datetime.fromtimestamp(date(server.mails[0]), UTC).date().isoformat() == "2026-11-01"


def test_a_minute_before_that_it_waits(device, wall):
    held(device, 540)
    wall.shows(IN_1970)
    with ScriptedServer() as server:
        start_after_boot(device, AGE, wall=wall)
        save(device, server.port)
        alarm(device)
        wait_for(lambda: state(device)["problem"] == "clock")
        assert {each["state"] for each in history(device).values()} == {"waiting"}
        device.stop("mailhook")
    assert server.sessions == []


# A clock that jumps


def test_a_clock_that_jumps_dates_nothing_in_1970_and_loses_nothing(device, wall):
    now = time.time()
    with ScriptedServer() as server:
        start(device, wall)
        save(device, server.port)
        with wall.jumping(IN_1970, now - 20 * YEAR, now + 10 * YEAR, now):
            pause = threading.Event()
            numbers = [alarm(device) for _ in range(30) if not pause.wait(0.1)]
        wall.shows(time.time())
        numbers.append(alarm(device))
        wait_for(lambda: {each["state"] for each in history(device).values()} == {"delivered"}, what="all mail")
        told = history(device)
        device.stop("mailhook")
    assert sorted(map(number, server.mails)) == numbers == list(told)
    assert all(each["seconds"] > 1.79e9 for each in told.values())
    assert [mail for mail in server.mails if b"1970-" in mail or b"2006-" in mail or date(mail) < 1.79e9] == []


def test_a_jump_while_a_retry_waits_changes_nothing(device, wall):
    now = time.time()
    with ScriptedServer({"greeting": "421 not now"}) as server:
        start(device, wall)
        save(device, server.port)
        alarm(device)
        wait_for(lambda: state(device)["problem"] == "server")
        quiet, numbers = alarms(device)
        for _ in range(3):  # on a busy machine the same takes more of the processor now and then
            with wall.jumping(now + 10 * YEAR, now - 20 * YEAR, IN_1970):
                used, more = alarms(device)
            numbers += more
            # A hook that goes round while the clock jumps takes all there is of a second and a half.
            if used < 3 * quiet + 0.5:
                break
        wall.shows(now + 10 * YEAR)
        alarm(device)
        told = history(device)
        device.stop("mailhook")
    assert list(told) == [1, *numbers, len(numbers) + 2]
    assert {each["state"] for each in told.values()} == {"waiting"}
    assert len(server.sessions) == 1
    assert used < 3 * quiet + 0.5


def test_an_update_ends_the_wait_whatever_the_clock_says(device, wall):
    with ScriptedServer({"greeting": ["421 not now"]}) as server:
        start(device, wall)
        save(device, server.port)
        alarm(device)
        wait_for(lambda: state(device)["problem"] == "server")
        wall.shows(time.time() - 3600)
        with ScriptedServer() as other:
            save(device, other.port)
            wait_for(lambda: other.mails)
            device.stop("mailhook")
    assert len(server.sessions) <= 2  # a word about the first settings may come after the first try


# Sessions on the pages


def test_a_session_outlives_every_jump_and_its_cookie_has_no_date_that_a_wrong_clock_could_bend(product, wall):
    product.start_web(env=wall.environment(product))
    code = product.setup_code()
    browser = product.browser()
    page = browser.post("/setup", code=code, password="a plain sentence", again="a plain sentence")
    assert page.headers["set-cookie"]
    assert not re.search("expires|max-age", page.headers["set-cookie"], re.I)
    for moment in (IN_1970, time.time() - 20 * YEAR, time.time() + 10 * YEAR, time.time()):
        wall.shows(moment)
        assert browser.get("/smtp").status == 200


def test_a_session_ends_after_ten_idle_minutes_of_the_monotonic_clock(product, wall):
    product.start_web(env=wall.environment(product, monotonic=True))
    browser = product.logged_in()
    begin = time.time()
    wall.shows(begin + 9 * 60)
    assert browser.get("/smtp").status == 200
    wall.shows(begin + 18 * 60)
    assert browser.get("/smtp").status == 200
    wall.shows(begin + 29 * 60)
    assert browser.get("/smtp").status == 303


# Certificates


@pytest.fixture
def certificates(tmp_path):
    folder = tmp_path / "certificates"
    folder.mkdir()
    return Certificates("127.0.0.1", folder)


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Product, WallClock, ScriptedServer]]:
    """A hook that has settings for a server with a certificate, and whose clock a test may set."""
    folder = tmp_path_factory.mktemp("secured")
    (folder / "certificates").mkdir()
    certificates, wall = Certificates("127.0.0.1", folder / "certificates"), WallClock(folder / "wall")
    authority = certificates.authority.write(folder / "authority.pem")
    with Product(folder) as product, ScriptedServer(chain=certificates.chain()) as server:
        product.start_hook("--ca-file", str(authority), env=wall.environment(product))
        product.save(**settings_form(server.port))
        yield product, wall, server
        product.stop("mailhook")


@pytest.mark.parametrize(
    ("ahead", "problem", "advice"),
    [
        (-time.time() + IN_1970, "not yet valid", r"is valid from 20.* on, and the device's clock says 1970-01-01 .*: set the device's clock\."),
        (-25 * YEAR, "not yet valid", r"is valid from 20.* on, and the device's clock says 200[0-9]-.*: set the device's clock\."),
        (10 * YEAR, "expired", r"was valid until 20.*, and the device's clock says 203[0-9]-.*: ask .*, or set the device's clock if it is wrong\."),
    ],
    ids=["1970", "2001", "10 years ahead"],
)  # fmt: skip
def test_a_test_says_what_the_clock_says_when_the_certificate_does_not_fit_it(secured, ahead, problem, advice):
    product, wall, server = secured
    wall.shows(time.time() + ahead)
    told = client.test(product.folders.socket, None, ["a@b.example"])
    [result] = [line["result"] for line in told if "result" in line]
    assert (result["step"], result["problem"]) == ("certificate", problem)
    assert re.search(f"^The mail server's certificate {advice}$", str(result["advice"]))
    assert PASSWORD.encode() not in server.received


def test_mail_that_waits_for_a_certificate_says_what_the_clock_says(device, wall, certificates):
    held(device, 601)
    wall.shows(IN_1970)
    authority = certificates.authority.write(device.folder / "authority.pem")
    with ScriptedServer(chain=certificates.chain()) as server:
        start_after_boot(device, AGE, "--ca-file", str(authority), wall=wall)
        device.save(**settings_form(server.port))
        wait_for(lambda: state(device)["step"] == "certificate")
        advice = str(state(device)["advice"])
        device.stop("mailhook")
    assert advice.startswith(
        "The mail server's certificate is not valid yet by the device's clock, which says 1970-01-01 "
    )
    assert advice.endswith(": set the device's clock.")


# A power cut of a site

SPREADS = "first session after the boot: begins in"


@pytest.fixture
def site(product: Product) -> Iterator[tuple[Product, ScriptedServer]]:
    """A device with settings whose first session would wait up to ten minutes; its hook does not run yet."""
    product.maker("[mail]\nstart_spread = 600\n")
    with ScriptedServer() as server:
        values = {
            "host": "127.0.0.1",
            "port": server.port,
            "sender_name": "Alarms",
            "account": "alarm@mail.example.com",
        }
        product.folders.settings.parent.mkdir(parents=True)
        Store(product.folders.settings).save(SmtpSettings(**values, security="none", sign_in="none"), "")
        yield product, server


def test_a_hook_that_starts_with_the_device_spreads_its_first_session_and_no_test(site):
    product, server = site
    start_after_boot(product, 60)
    client.raise_event(product.folders.socket, "303", seconds=SECONDS)
    wait_for(lambda: SPREADS in product.log("mailhook"), what="the first mail")
    assert product.call("test").returncode == 0
    [drawn] = re.findall(rf"{SPREADS} (\d+) s", product.log("mailhook"))
    assert b"[fault 303]" not in server.mails[0] or int(drawn) < 10


def test_an_update_ends_the_wait(site):
    product, server = site
    start_after_boot(product, 60)
    client.raise_event(product.folders.socket, "303", seconds=SECONDS)
    wait_for(lambda: SPREADS in product.log("mailhook"), what="the first mail")
    client.settings_changed(product.folders.socket)
    wait_for(lambda: server.mails, what="the mail")


def test_a_hook_that_starts_five_minutes_after_the_boot_mails_at_once(site):
    product, server = site
    start_after_boot(product, 301)
    client.raise_event(product.folders.socket, "303", seconds=SECONDS)
    wait_for(lambda: server.mails, what="the mail")
    assert SPREADS not in product.log("mailhook")
