"""A stored password reaches no other server than the one it was typed for, whatever is edited, and wherever.

One device with its real processes; its mail server, and thieves that record every byte. Each row is one edit by somebody
who does not know the password: on the page, by the test button, in the settings file, at the hook's own socket.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import datetime
import itertools
import threading
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from device_ui.errors import HookError
from device_ui.mail import client
from device_ui.mail.smtp.client import ClientOptions, SmtpClient
from device_ui.mail.smtp.connection import Timeouts
from device_ui.mail.smtp.outcome import SessionError
from device_ui.settings import keys, seal, store
from device_ui.settings.fields import SmtpSettings
from tests.helpers.product import PASSWORD, Browser, Product, settings_form, wait_for
from tests.security.test_canary import base64_forms
from tests.servers.authority import Certificates
from tests.servers.scripted import ScriptedServer, leading_to

ACCOUNT, OTHER = "alarm@mail.example.com", "Vn5%tGm8&Ljw"
# What a host may be changed to: other machines, and the same one in every other spelling.
HOSTS = ["127.0.0.2", "127.0.0.3", "127.1", "127.0.1", "0177.0.0.1", "0177.1", "0x7f.1", "0x7f000001", "2130706433"]
HOSTS += [
    "127.0.0.1.",
    "[127.0.0.1]",
    "0",
    "0.0.0.0",
    "::1",
    "[::1]",
    "::",
]
HOSTS += [
    "::127.0.0.1",
    "0:0:0:0:0:0:0:1",
    "localhost",
    "LOCALHOST",
    "localhost.",
]
HOSTS += [
    "Localhost",
    "\uff4cocalhost",
]
HOSTS += ["127.0.0.1:25", "127.0.0.1@127.0.0.2", "127.0.0.2#127.0.0.1", "127.0.0.1/127.0.0.2", "127.0.0.1 127.0.0.2"]
HOSTS += ["evil.example", "127.0.0.1.evil.example", "xn--localhost-.example", "m\u00e4il.example", "127.0.0\u200b.1"]
# The same in decimal, and so stored alike.
SAME_HOSTS = ["127.000.000.001", "127.0.0.01", "::ffff:127.0.0.1", "::FFFF:127.0.0.1", "[::ffff:7f00:1]"]
SAME_HOSTS += ["\uff11\uff12\uff17.0.0.1", "127\u30020\u30020\u30021", "\u2460\u2461\u2466.0.0.1", "127.0.0.1\u200b"]
ACCOUNTS = ["evil@mail.example.com", "Alarm@mail.example.com", "alarm@MAIL.example.com", "alarm@mail.example.net"]
ACCOUNTS += [
    "alarm@mail.example.com.evil.example",
    "alarm@mai1.example.com",
    "alarmX@mail.example.com",
    "al@rm.example",
]
SECURITIES = ["auto", "starttls", "tls"]
# What leaves the same server as it is: blanks around a value, zeros before a port.
SAME = [
    *({"host": host} for host in SAME_HOSTS),
    {"host": " 127.0.0.1 "},
    {"host": "127.0.0.1\u3000"},
    {"account": f" {ACCOUNT} "},
    {"zeros": "yes"},
    {},
]


def edits() -> Iterator[dict[str, str]]:
    """Every edit of the form that leads elsewhere; `port` is a name of `Device.ports`."""
    for host, port in itertools.product(HOSTS, ("home", "thief")):
        yield {"host": host, "port": port}
    yield from ({"host": host, "port": "thief"} for host in SAME_HOSTS)
    for host, security in itertools.product(["127.0.0.2", "::1", "localhost", "127.1", "evil.example"], SECURITIES):
        yield {"host": host, "security": security}
    yield from (
        {"port": port, "security": each} for port in ("thief", "imposter", "25") for each in ("none", *SECURITIES)
    )
    yield from ({"security": each} for each in SECURITIES)
    yield from ({"account": each, "port": port} for each in ACCOUNTS for port in ("home", "thief"))
    for sign_in in ("manual", "provider"):
        yield {"host": "127.0.0.2", "sign_in": sign_in, "from_address": "evil@evil.example"}
        yield {"account": "evil", "sign_in": sign_in, "from_address": "evil@evil.example"}


EDITS = list(edits())
# Of the settings file, and of what the web process hands to the hook.
FILE_EDITS = [{"host": host} for host in ("127.0.0.2", "127.1", "::1", "localhost", "127.0.0.1.", "LOCALHOST")]
FILE_EDITS += [
    {"port": "thief"},
    {"port": "imposter"},
    {"host": "127.0.0.2", "port": "thief"},
    {"account": ACCOUNTS[0]},
]
FILE_EDITS += [{"security": each} for each in SECURITIES]
FILE_EDITS += [{"port": "thief", "sign_in": "provider"}, {"host": "::1", "sign_in": "provider"}]
# One of each value that a password is bound to, and the same host in another spelling: the hook starts anew for each of them. What
# the password opens for is decided by the same function as for a test at the hook's socket, which has them all.
STORED_EDITS = [{"host": "127.0.0.2"}, {"host": "LOCALHOST"}, {"port": "thief"}, {"account": ACCOUNTS[0]}]
STORED_EDITS += [{"security": "tls"}, {"host": "::1", "sign_in": "provider"}]


@dataclass
class Device:
    """The product, set up for `home` with a password that only `home` may hear; the thieves wait elsewhere."""

    product: Product
    browser: Browser
    home: ScriptedServer
    thieves: Mapping[str, ScriptedServer]
    stored: bytes = b""

    @property
    def ports(self) -> dict[str, str]:
        """The ports that edits call by name."""
        named = {"home": self.home, "thief": self.thieves["port"], "imposter": self.thieves["no certificate"]}
        return {name: str(server.port) for name, server in named.items()}

    def form(self, edit: Mapping[str, str], **more: str) -> dict[str, str]:
        """The tab's fields as they are stored, with an edit."""
        fields = {**settings_form(self.home.port, security="none", password=""), **edit, **more}
        port = fields.get("port", "")
        fields["port"] = self.ports.get(port, port)
        if fields.pop("zeros", ""):
            fields["port"] = fields["port"].zfill(5)
        return {"revision": self.revision, **fields}

    @property
    def path(self) -> Path:
        return self.product.folders.settings

    @property
    def settings(self) -> SmtpSettings:
        found = store.Store(self.path).read()[0]
        assert found
        return found

    @property
    def revision(self) -> str:
        return store.Store(self.path).read()[1]

    def edited(self, settings: SmtpSettings, edit: Mapping[str, str]) -> SmtpSettings:
        """Settings with an edit, whatever the rules say."""
        values = {**edit, **({"port": int(self.ports[edit["port"]])} if "port" in edit else {})}
        return dataclasses.replace(settings, **values)

    def write(self, content: bytes) -> None:
        """Put a settings file in place by hand, and have the hook look."""
        self.path.write_bytes(content)
        client.settings_changed(self.product.folders.socket, seconds=20)

    def come_home(self) -> None:
        """The settings as they were; mail goes out with them."""
        if self.path.exists() and self.path.read_bytes() == self.stored and not self.product.state()["waiting"]:
            return
        # These tests change the settings more often than a hook ends its back-off early: a new one tries at once.
        self.product.stop("mailhook")
        self.path.write_bytes(self.stored)
        self.product.start_hook()
        wait_for(lambda: not self.product.state()["waiting"], what="the mail")

    def raise_one(self) -> int:
        return client.raise_event(self.product.folders.socket, "303", "disk", seconds=20)

    def problem(self) -> str:
        return str(self.product.state()["problem"])

    def stolen(self, password: str = PASSWORD) -> set[str]:
        """The thieves that heard a password, in any spelling."""
        return {name for name, server in self.thieves.items() if heard(server, password)}


def heard(server: ScriptedServer, password: str) -> bool:
    """Whether a server received a password in any spelling."""
    raw = password.encode()
    needles = [raw, raw[::-1], raw.hex().encode(), urllib.parse.quote(password).encode(), *base64_forms(raw)]
    return any(needle in server.received for needle in needles)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Device]:
    """The device, its password typed for its server, a mail delivered with it."""
    chain = Certificates("mail.example.test", tmp_path_factory.mktemp("certificates")).chain()
    with contextlib.ExitStack() as stack:
        enter = stack.enter_context
        home = enter(ScriptedServer())
        thieves = {
            "port": enter(ScriptedServer()),
            "address": enter(ScriptedServer(address="127.0.0.2", port=home.port)),
            "IPv6": enter(ScriptedServer(address="::1", port=home.port)),
            "no certificate": enter(ScriptedServer(chain=chain)),
        }
        product = enter(Product(tmp_path_factory.mktemp("device")))
        product.maker("[mail]\ndigest_window = 0\nhourly_budget = 1000\n[web]\ntests = 1000\n").start()
        device = Device(product, product.logged_in(), home, thieves)
        saved = device.browser.update(**settings_form(home.port, security="none"))
        assert saved.status == 303
        device.stored = device.path.read_bytes()
        device.raise_one()
        wait_for(lambda: home.mails, what="the first mail")
        yield device


@pytest.fixture
def device(running: Device) -> Iterator[Device]:
    """The same for each edit: home's settings stand, and afterwards nobody else has heard the password."""
    running.come_home()
    yield running
    assert running.stolen() == set()


def name_of(edit: Mapping[str, str]) -> str:
    return " ".join(f"{name}={value}" for name, value in edit.items()).encode("unicode_escape").decode() or "nothing"


# First, while nothing else is to be announced.


def announcements(server: ScriptedServer) -> int:
    """How many mails told a server that it is left."""
    return sum(b"[info 902]" in mail for mail in server.mails)


def test_the_server_before_is_told_once(device):
    device.raise_one()
    wait_for(lambda: not device.product.state()["waiting"], what="the mail")
    before = announcements(device.home)
    assert device.browser.post("/smtp", **device.form({"port": "thief"}, password=OTHER)).status == 303
    wait_for(lambda: announcements(device.home) > before, what="the announcement")
    device.product.stop("mailhook")
    device.product.start_hook()
    heard_of = len(device.thieves["port"].mails)
    device.raise_one()
    wait_for(lambda: len(device.thieves["port"].mails) > heard_of, what="the next alarm")
    assert announcements(device.home) == before + 1


# On the page.


def test_there_are_more_than_two_hundred_edits():
    assert 2 * len(EDITS) + len(FILE_EDITS) > 250
    assert all(edit in FILE_EDITS for edit in STORED_EDITS)
    assert len({name_of(each) for each in EDITS}) == len(EDITS)


@pytest.mark.parametrize("edit", EDITS, ids=name_of)
def test_an_edit_on_the_page_asks_for_the_password_anew(device, edit):
    update = device.browser.post("/smtp", **device.form(edit))
    tested = device.browser.post("/smtp/test", **device.form(edit))
    assert (update.status, tested.status) == (422, 422)
    assert device.path.read_bytes() == device.stored


@pytest.mark.parametrize("edit", SAME, ids=name_of)
def test_what_is_the_same_after_all_keeps_it(device, edit):
    assert device.browser.post("/smtp", **device.form(edit)).status == 303
    assert device.path.read_bytes() == device.stored
    tested = device.browser.post("/smtp/test", **device.form(edit))
    assert (tested.status, "accepted the test mail" in tested.text) == (200, True)


# Where a server listens, which could hear a password.
@pytest.mark.parametrize(
    ("host", "port"), [("127.0.0.2", "home"), ("::1", "home"), ("localhost", "home"), ("localhost", "thief")]
)
def test_a_server_without_a_login_gets_mail_and_no_password(device, host, port):
    edit = device.form({"host": host, "port": port, "sign_in": "none"}, password=PASSWORD)
    assert device.browser.post("/smtp", **edit).status == 303
    assert b"hpke" not in device.path.read_bytes()
    back = device.form({"host": "127.0.0.1"}, sign_in="manual")
    assert device.browser.post("/smtp", **back).status == 422
    device.raise_one()
    wait_for(lambda: not device.product.state()["waiting"] or device.problem(), what="the attempt")


def test_of_two_tabs_the_older_one_hands_nothing_over(device):
    old = device.form({})
    assert device.browser.post("/smtp", **device.form({"port": "thief"}, password=OTHER)).status == 303
    assert device.browser.post("/smtp", **old).status == 409
    assert device.browser.post("/smtp", **{**old, "revision": device.revision}).status == 422
    assert device.browser.post("/smtp/test", **old).status == 422
    device.raise_one()
    wait_for(lambda: heard(device.thieves["port"], OTHER), what="the password that was typed for it")
    assert not heard(device.home, OTHER)


def test_saving_and_sending_at_once_mixes_nothing(device):
    """Home and thief in turn, each with its own password typed, while events are raised and tests are sent."""

    def send() -> None:
        for _ in range(30):
            device.raise_one()
            with contextlib.suppress(HookError):
                list(client.test(device.product.folders.socket))

    sender = threading.Thread(target=send)
    sender.start()
    turns = 0
    while sender.is_alive():
        turns += 1
        elsewhere = turns % 2 == 1
        edit = device.form({"port": "thief" if elsewhere else "home"}, password=OTHER if elsewhere else PASSWORD)
        assert device.browser.post("/smtp", **edit).status == 303
    sender.join()
    assert turns > 3
    assert not heard(device.home, OTHER)


# The settings file, by hand.


@pytest.mark.parametrize("edit", STORED_EDITS, ids=name_of)
def test_an_edit_of_the_file_with_a_right_checksum_opens_nothing(device, edit):
    device.raise_one()
    wait_for(lambda: not device.product.state()["waiting"], what="the mail")
    device.write(store.encode(device.edited(device.settings, edit)))
    device.raise_one()
    wait_for(lambda: device.problem() in ("password", "damaged"), what="a password that does not open")
    with pytest.raises(HookError) as caught:
        list(client.test(device.product.folders.socket))
    # "unset": the settings break a rule, since a login in the clear goes to loopback alone.
    assert caught.value.word in ("password", "unset")


@pytest.mark.parametrize(
    ("before", "after"), [(b'"127.0.0.1"', b'"127.0.0.2"'), (b'"none"', b'"tls"'), (b"alarm@", b"aalarm@")]
)
def test_an_edit_of_the_file_without_its_checksum_is_damage(device, before, after):
    assert before in device.stored
    device.write(device.stored.replace(before, after))
    device.raise_one()
    wait_for(lambda: device.problem() == "damaged", what="the damage")


def test_swapped_files_and_restored_backups_open_each_for_its_own_server(device):
    home = device.settings
    assert device.browser.post("/smtp", **device.form({"port": "thief"}, password=OTHER)).status == 303
    thief = device.settings
    swapped = [dataclasses.replace(home, sealed=thief.sealed), dataclasses.replace(thief, sealed=home.sealed)]
    for each in swapped:
        device.write(store.encode(each))
        device.raise_one()
        wait_for(lambda: device.problem() == "password", what="a password that does not open")
        device.write(store.encode(home))
        wait_for(lambda: not device.problem(), what="the mail")
    device.write(store.encode(thief))
    device.raise_one()
    wait_for(lambda: not device.problem(), what="the mail")
    assert not heard(device.home, OTHER)


# At the hook's socket, where only the web process and root can ask.


@pytest.mark.parametrize("edit", FILE_EDITS, ids=name_of)
def test_a_stored_password_in_a_test_of_another_server_opens_nothing(device, edit):
    asked = dataclasses.asdict(device.edited(device.settings, edit))
    with pytest.raises(HookError) as caught:
        list(client.test(device.product.folders.socket, asked, ["evil@evil.example"]))
    assert caught.value.word in ("password", "bad-request")


# The name that was typed leads elsewhere now: the certificate tells, and it is asked for before any login.


@pytest.mark.parametrize("security", ["auto", "starttls"])
@pytest.mark.parametrize("imposter", ["port", "no certificate"])
def test_an_imposter_at_the_address_of_the_server_gets_no_login(device, imposter, security):
    typed = "Bw4#xHq6*Rzk"
    server = device.thieves[imposter]
    edit = device.form({"port": str(server.port), "security": security}, password=typed)
    tested = device.browser.post("/smtp/test", **edit)
    assert (tested.status, "The test mail was not sent." in tested.text) == (200, True)
    assert device.browser.post("/smtp", **edit).status == 303
    device.raise_one()
    wait_for(lambda: device.problem() == "server", what="the attempt")
    assert device.stolen(typed) == set()


HOST, TYPED = "mail.example.test", SmtpSettings("mail.example.test", 0, "Alarms", ACCOUNT, sealed="sealed")
# What answers at the new address: nobody else has the certificate of the name that was typed.
NEW_ADDRESSES = {
    "another name": lambda known: known.chain("evil.example"),
    "a name below": lambda known: known.chain(f"mail.{HOST}"),
    "the address": lambda known: known.chain("127.0.0.2"),
    "another authority": lambda known: Certificates(HOST, known.folder).chain(),
    "expired": lambda known: known.chain(not_after=datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)),
    "no TLS": lambda _: None,
}


@pytest.mark.parametrize("tls_first", [False, True])
@pytest.mark.parametrize("shown", NEW_ADDRESSES)
def test_a_name_that_leads_elsewhere_now_gets_no_login(tmp_path, shown, tls_first):
    known = Certificates(HOST, tmp_path)
    chain = NEW_ADDRESSES[shown](known)
    with (
        ScriptedServer(chain=known.chain()) as home,
        ScriptedServer(chain=chain, tls_first=tls_first and chain is not None, address="127.0.0.2") as thief,
    ):
        for server, address, security in (
            (home, "127.0.0.1", "starttls"),
            (thief, "127.0.0.2", "tls" if tls_first else "auto"),
        ):
            settings = dataclasses.replace(TYPED, port=server.port, security=security)
            options = ClientOptions(known.context, allow_loopback=True, resolver=leading_to(address))
            courier = SmtpClient(settings, PASSWORD, options, Timeouts(attempt=3, greeting=1))
            with contextlib.suppress(SessionError):
                courier.open()
            courier.close()
        assert (heard(home, PASSWORD), heard(thief, PASSWORD)) == (True, False)
    assert thief.sessions


# The table would have seen it.


def test_the_server_that_it_was_typed_for_did_hear_it(device):
    assert heard(device.home, PASSWORD)
    assert base64.b64encode(f"\0{ACCOUNT}\0{PASSWORD}".encode()) in device.home.received


def test_what_is_not_sealed_to_a_server_would_be_heard(device):
    """As a product would do that takes the password along: the thieves' ears are good."""
    public = keys.load_public(device.product.folders.public_key)
    settings = device.edited(device.settings, {"port": "thief"})
    typed = "Hd9!kPf3$Ynv"
    sealed = seal.seal(typed, public, settings.bound_to)
    lines = list(
        client.test(device.product.folders.socket, dataclasses.asdict(dataclasses.replace(settings, sealed=sealed)))
    )
    assert lines[-1]["result"]["verdict"] == "delivered"
    assert device.stolen(typed) == {"port"}
