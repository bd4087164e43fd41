"""What the maker fixed: device.toml, the folders, and the sockets that systemd hands over."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest

from device_ui import config as module
from device_ui.config import PAGES_ONLY, Device, Folders, listen_fds
from device_ui.errors import MakerFile
from tests.helpers.product import ROOT

DEFAULTS = {
    "device.name": "Storage appliance",
    "device.model": "",
    "device.serial": "",
    "device.language": "en",
    "brand.name": "",
    "brand.logo": "",
    "brand.logo_dark": "",
    "brand.logo_text": "",
    "brand.accent": "",
    "brand.accent_dark": "",
    "locks.security": False,
    "locks.sign_in": False,
    "locks.trust": False,
    "locks.oauth_provider": False,
    "locks.oauth_grant": False,
    "oauth.microsoft_login": "login.microsoftonline.com",
    "web.names": [],
    "web.url": "",
    "web.trusted_proxy": "",
    "web.tests": 10,
    "mail.helo_name": "",
    "mail.ca_file": "",
    "mail.digest_window": 60,
    "mail.hourly_budget": 60,
    "mail.high_importance": False,
    "mail.start_spread": 20,
    "mail.state_command": "",
    "mail.forward_command": "",
    "mail.forward_outcomes": False,
    "mail.allow_loopback": False,
    "ledger.rows": 100_000,
    "ledger.bytes": 33_554_432,
    "ledger.reserve": 1_048_576,
    "apply.first": False,
    "users.web": "device-ui",
    "users.mail": "device-mail",
    "users.event_group": "device-event",
}


def written(folders: Folders, text: str | bytes) -> Path:
    """A device.toml of this text."""
    folders.etc.mkdir(exist_ok=True)
    path = folders.etc / "device.toml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def refusal(folders: Folders, text: str | bytes) -> str:
    """Why a device.toml of this text stops the start."""
    path = written(folders, text)
    with pytest.raises(MakerFile) as caught:
        Device.load(folders)
    assert caught.value.path == path
    assert str(caught.value) == f"{path}: {caught.value.reason}"
    assert "\n" not in str(caught.value)
    return caught.value.reason


# device.toml.


def test_settings_are_these_and_no_others_each_with_a_word_about_it():
    assert {name: default for name, default, _ in module.SETTINGS} == DEFAULTS
    assert all(about for _, _, about in module.SETTINGS)


@pytest.mark.parametrize("text", [None, "", "# nothing\n", "[device]\n", "[mail]\n[locks]\n"])
def test_what_the_maker_does_not_say_is_the_default(folders, text):
    if text is not None:
        written(folders, text)
    device = Device.load(folders)
    assert {name: device[name] for name in DEFAULTS} == DEFAULTS
    assert (device.name, device.locked, device.folders) == ("Storage appliance", frozenset(), folders)


def test_every_setting_is_taken(folders):
    written(
        folders,
        """
        [device]
        name = "\ud55c\uae00 NAS"
        model = "X-1"
        serial = "0001"
        language = "ko"
        [brand]
        name = "\ud55c\ube5b"
        logo = "logo.svg"
        logo_dark = "logo-dark.svg"
        logo_text = "Hanbit"
        accent = "#0a6b3c"
        accent_dark = "#6fd3a0"
        [locks]
        security = true
        sign_in = true
        trust = true
        oauth_provider = true
        oauth_grant = true
        [oauth]
        microsoft_login = "login.microsoftonline.us"
        [web]
        names = ["nas.example.com", "nas"]
        url = "https://nas.example.com:8443"
        trusted_proxy = "192.0.2.9"
        tests = 1000
        [mail]
        helo_name = "nas.example.com"
        ca_file = "/etc/ssl/own.pem"
        digest_window = 0
        hourly_budget = 2
        high_importance = true
        start_spread = 600
        state_command = "/usr/lib/nas/led"
        forward_command = "/usr/lib/nas/forward"
        forward_outcomes = true
        allow_loopback = true
        [ledger]
        rows = 100
        bytes = 1048576
        reserve = 0
        [apply]
        first = true
        [users]
        web = "www"
        mail = "post"
        event_group = "events"
        """,
    )
    device = Device.load(folders)
    assert dict(device.settings) == {
        "device.name": "\ud55c\uae00 NAS",
        "device.model": "X-1",
        "device.serial": "0001",
        "device.language": "ko",
        "brand.name": "\ud55c\ube5b",
        "brand.logo": "logo.svg",
        "brand.logo_dark": "logo-dark.svg",
        "brand.logo_text": "Hanbit",
        "brand.accent": "#0a6b3c",
        "brand.accent_dark": "#6fd3a0",
        "locks.security": True,
        "locks.sign_in": True,
        "locks.trust": True,
        "locks.oauth_provider": True,
        "locks.oauth_grant": True,
        "oauth.microsoft_login": "login.microsoftonline.us",
        "web.names": ["nas.example.com", "nas"],
        "web.url": "https://nas.example.com:8443",
        "web.trusted_proxy": "192.0.2.9",
        "web.tests": 1000,
        "mail.helo_name": "nas.example.com",
        "mail.ca_file": "/etc/ssl/own.pem",
        "mail.digest_window": 0,
        "mail.hourly_budget": 2,
        "mail.high_importance": True,
        "mail.start_spread": 600,
        "mail.state_command": "/usr/lib/nas/led",
        "mail.forward_command": "/usr/lib/nas/forward",
        "mail.forward_outcomes": True,
        "mail.allow_loopback": True,
        "ledger.rows": 100,
        "ledger.bytes": 1_048_576,
        "ledger.reserve": 0,
        "apply.first": True,
        "users.web": "www",
        "users.mail": "post",
        "users.event_group": "events",
    }
    assert (device.name, device.locked) == (
        "\ud55c\uae00 NAS",
        frozenset({"security", "sign_in", "trust", "oauth_provider", "oauth_grant"}),
    )


@pytest.mark.parametrize(
    "login", ["", "https://login.example.com", "login.example.com/", "a b", "user@login.example.com", "h:123456"]
)
def test_host_of_microsofts_sign_in_is_a_name(folders, login):
    assert "oauth.microsoft_login" in refusal(folders, f'[oauth]\nmicrosoft_login = "{login}"\n')


@pytest.mark.parametrize("name", ["security", "sign_in", "oauth_provider", "oauth_grant"])
def test_one_lock_locks_one_choice(folders, name):
    written(folders, f"[locks]\n{name} = true\n")
    assert Device.load(folders).locked == frozenset({name})


WRONG_KINDS = {
    str: ("1", "true", '["x"]', "2026-01-01"),
    bool: ('"true"', "1", "0", "[]"),
    list: ('"x"', "true", "[1]"),
    int: ('"60"', "true", "1.5", "[]"),
}
KIND_WORDS = {str: "a text", bool: "true or false", list: "a list of texts", int: "a whole number"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (name, value)
        for name, default in DEFAULTS.items()
        for value in WRONG_KINDS[type(default)]
        if not name.startswith(PAGES_ONLY)  # which stop nothing (below, and tests/web/test_branding.py)
    ],
)
def test_setting_of_the_wrong_kind_stops_the_start(folders, name, value):
    section, _, key = name.partition(".")
    assert refusal(folders, f"[{section}]\n{key} = {value}\n") == f"{name} must be {KIND_WORDS[type(DEFAULTS[name])]}"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("[locks]\nsecurty = true\n", "locks.securty"),
        ("[lock]\nsecurity = true\n", "lock.security"),
        ("[Locks]\nsecurity = true\n", "Locks.security"),
        ("security = true\n", "security"),
        ("locks = true\n", "locks"),
        ('"locks.security" = true\n', "locks.security"),
        ("[[locks]]\nsecurity = true\n", "locks"),
        ("[locks.security]\nx = true\n", None),
        ("[locks.more]\nx = true\n", "locks.more"),
        ("[device]\nNAME = 'x'\n", "device.NAME"),
    ],
)
def test_name_that_is_no_setting_stops_the_start(folders, text, name):
    assert refusal(folders, text) == (f"{name} is no setting" if name else "locks.security must be true or false")


@pytest.mark.parametrize("value", [r'"a\nb"', r'"a\u0000b"', r'"\u200b"', r'"\u2028"'])
@pytest.mark.parametrize("name", ["device.name", "mail.helo_name"])
def test_text_that_cannot_be_printed_stops_the_start(folders, name, value):
    section, _, key = name.partition(".")
    assert refusal(folders, f"[{section}]\n{key} = {value}\n") == f"{name} must be printable"


@pytest.mark.parametrize(("name", "value"), [("web.names", "true"), ("web.trusted_proxy", "[1]")])
def test_what_is_none_of_the_pages_own_settings_is_left_out_and_told(folders, name, value):
    section, _, key = name.partition(".")
    assert left_out(folders, f"[{section}]\n{key} = {value}\n", name) == (
        DEFAULTS[name],
        f"{name} must be {KIND_WORDS[type(DEFAULTS[name])]}",
    )


@pytest.mark.parametrize(
    "value",
    ["*", "10.0.0.0/8", "nginx", "10.0.0.1 ", " 10.0.0.1", "10.0.0.1, 10.0.0.2", "10.0.0.01", "2001:DB8::1", "[::1]"],
)
def test_a_proxy_that_would_be_everybody_or_nobody_is_left_out_and_told(folders, value):
    """waitress believes whoever comes for "*"; every other of these is no peer's address."""
    assert left_out(folders, f'[web]\ntrusted_proxy = "{value}"\n', "web.trusted_proxy") == (
        "",
        "web.trusted_proxy must be one IP address, as the system spells it",
    )


@pytest.mark.parametrize(
    "value",
    ["nas.example", "ftp://nas", "https://", "https://nas/path", "https://a b", "https://u@nas", "javascript:x"],
)
def test_an_address_that_a_mail_cannot_link_to_is_left_out_and_told(folders, value):
    assert left_out(folders, f'[web]\nurl = "{value}"\n', "web.url") == (
        "",
        "web.url must be an address such as https://nas.example, without a path",
    )


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("", ""),
        ('names = ["nas.example", "nas"]', "https://nas.example"),
        ('names = ["nas.example"]\nurl = "http://nas:8080/"', "http://nas:8080/"),
        ('url = "https://[2001:db8::1]:8443"', "https://[2001:db8::1]:8443"),
    ],
)
def test_links_in_mails_lead_to_the_makers_address(folders, text, url):
    written(folders, f"[web]\n{text}\n")
    assert Device.load(folders).pages_url == url


@pytest.mark.parametrize("value", ["", "127.0.0.1", "2001:db8::1", "::ffff:10.0.0.1", "fe80::1%eth0"])
def test_an_address_of_a_proxy_is_taken(folders, value):
    written(folders, f'[web]\ntrusted_proxy = "{value}"\n')
    assert Device.load(folders)["web.trusted_proxy"] == value


@pytest.mark.parametrize(
    "name",
    ["https://nas.example", "nas.example:8443", "nas.example.", "", "*.example", "nas example", "나스", "x" * 254],
)
def test_a_name_that_no_browser_asks_for_is_left_out_and_told(folders, name):
    assert left_out(folders, f'[web]\nnames = ["nas", "{name}"]\n', "web.names") == (
        [],
        "web.names must be names such as nas.example: no scheme, no port, no dot at the end",
    )


def left_out(folders, text: str, name: str) -> tuple[object, str]:
    """What stands for a setting that the pages do without, and what is told of it. No alarm is lost for it."""
    written(folders, text)
    device = Device.load(folders)
    (problem,) = device.left_out
    return device[name], str(problem).partition(": ")[2]


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("[device]\nname = \n", "at line 2, column 8"),
        ("[device]\nname = 'x'\n\n[locks\n", "at line 4"),
        ("[device]\nname = 'x'\nname = 'y'\n", "at line 3"),
        ('name = "never closed', "at end of document"),
    ],
)
def test_broken_toml_is_told_with_its_line(folders, text, where):
    assert where in refusal(folders, text)


def test_file_that_is_no_utf_8_is_told(folders):
    assert "UTF-8" in refusal(folders, b"[device]\nname = '\xff'\n")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[web]\nnames = " + "[" * 5000, "it is nested too deeply"),
        ("[mail]\ndigest_window = " + "9" * 5000, "Exceeds the limit (4300 digits) for integer"),
        ("[mail]\ndigest_window = 0x" + "f" * 5000, "mail.digest_window must be from 0 to 3600"),
        ('["a\\nb"]\n"c\\u001bd" = 1', "a?b.c?d is no setting"),
    ],
    ids=["deep", "long", "long in hexadecimal", "unprintable"],
)
def test_a_file_that_no_person_wrote_is_told_in_one_line_too(folders, text, reason):
    assert refusal(folders, text).startswith(reason)


def test_folder_in_the_files_place_is_told_and_not_taken_for_missing(folders):
    (folders.etc / "device.toml").mkdir(parents=True)
    with pytest.raises(MakerFile) as caught:
        Device.load(folders)
    assert caught.value.reason == "Is a directory"


# Folders.

SYSTEM = ("/var/lib/device-ui", "/run/device-ui", "/etc/device-ui")
ALL_SET = {"DEVICE_UI_DATA": "/d", "DEVICE_UI_RUN": "/r", "DEVICE_UI_ETC": "/e"}


@pytest.mark.parametrize(
    ("data", "environment", "expected"),
    [
        (None, {}, SYSTEM),
        ("", {}, SYSTEM),
        (None, {"DEVICE_UI_DATA": "", "DEVICE_UI_RUN": "", "DEVICE_UI_ETC": ""}, SYSTEM),
        (None, ALL_SET, ("/d", "/r", "/e")),
        ("/c", ALL_SET, ("/c", "/r", "/e")),
        ("/c", {}, ("/c", "/c/run", "/etc/device-ui")),
        (None, {"DEVICE_UI_DATA": "/d"}, ("/d", "/d/run", "/etc/device-ui")),
        ("/c", {"DEVICE_UI_DATA": "/d"}, ("/c", "/c/run", "/etc/device-ui")),
        (None, {"DEVICE_UI_RUN": "/r"}, ("/var/lib/device-ui", "/r", "/etc/device-ui")),
        (None, {"DEVICE_UI_ETC": "/e"}, ("/var/lib/device-ui", "/run/device-ui", "/e")),
    ],
)
def test_command_line_goes_before_the_environment_and_that_before_the_system(data, environment, expected):
    found = Folders.find(data, environment)
    assert (str(found.data), str(found.run), str(found.etc)) == expected


def test_relative_folder_is_made_absolute():
    found = Folders.find("here", {"DEVICE_UI_ETC": "there"})
    assert (found.data, found.run, found.etc) == (
        Path.cwd() / "here",
        Path.cwd() / "here" / "run",
        Path.cwd() / "there",
    )


def test_files_have_their_places():
    folders = Folders()
    assert [
        *(folders.settings, folders.recipients, folders.administrator),
        *(folders.private_key, folders.public_key, folders.ledger, folders.socket),
    ] == [
        Path("/var/lib/device-ui/settings/smtp.toml"),
        Path("/var/lib/device-ui/settings/recipients.toml"),
        Path("/var/lib/device-ui/web/administrator.toml"),
        Path("/var/lib/device-ui/mail/private.key"),
        Path("/var/lib/device-ui/public/mailhook.pub"),
        Path("/var/lib/device-ui/mail/ledger.sqlite3"),
        Path("/run/device-ui/hook.sock"),
    ]


# The system's name, and systemd's sockets.


def test_host_name_is_lower_case():
    assert module.host_name() == os.uname().nodename.lower()


@pytest.mark.parametrize(
    "environment",
    [{}, {"LISTEN_FDS": "2"}, {"LISTEN_PID": "1", "LISTEN_FDS": "2"}, {"LISTEN_PID": "", "LISTEN_FDS": "2"}],
)
def test_sockets_for_another_process_are_left_alone(environment):
    assert listen_fds(environment) == []


def test_no_socket_was_handed_over():
    assert listen_fds({"LISTEN_PID": str(os.getpid())}) == []
    assert listen_fds({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "0"}) == []


AS_SYSTEMD = """
import os, socket, sys
sys.path.insert(0, sys.argv[1])
from device_ui.config import listen_fds
# As systemd does: the descriptors stand at 3 and after, and the process knows that they are meant for it.
made = [socket.socket(family, socket.SOCK_STREAM) for family in (socket.AF_UNIX, socket.AF_INET)]
high = [os.dup2(each.fileno(), 50 + number) for number, each in enumerate(made)]
for number, each in enumerate(high):
    os.dup2(each, 3 + number)
for each in made:
    each.detach()
found = listen_fds({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "2"})
print([(each.fileno(), each.family.name) for each in found])
"""


def test_systemds_sockets_are_taken_in_their_order():
    done = subprocess.run(
        [sys.executable, "-c", AS_SYSTEMD, str(ROOT)], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "[(3, 'AF_UNIX'), (4, 'AF_INET')]\n"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('[device]\nlanguage = "fr"', "device.language must be en or ko"),
        ("[web]\ntests = 0", "web.tests must be from 1 to 1000"),
        ("[mail]\nhourly_budget = 1", "mail.hourly_budget must be from 2 to 1000000"),
        ("[mail]\nstart_spread = 601", "mail.start_spread must be from 0 to 600"),
        ("[mail]\nstart_spread = 2.5", "mail.start_spread must be a whole number"),
        ("[mail]\ndigest_window = -1", "mail.digest_window must be from 0 to 3600"),
        ("[mail]\ndigest_window = 3601", "mail.digest_window must be from 0 to 3600"),
        ("[ledger]\nrows = 99", "ledger.rows must be from 100 to 10000000"),
        ("[ledger]\nbytes = 1048575", "ledger.bytes must be from 1048576 to 1099511627775"),
        ("[ledger]\nreserve = -1", "ledger.reserve must be from 0 to 1073741823"),
        ("[ledger]\nrows = true", "ledger.rows must be a whole number"),
    ],
)
def test_a_limit_that_makes_no_sense_stops_the_start(folders, line, reason):
    assert refusal(folders, line) == reason


def test_names_are_looked_up_for_folders_that_are_still_to_be_made(folders):
    """The system's name service takes half a MiB, and a folder that is there keeps its owner."""
    found = pwd.getpwuid(os.getuid())
    device = Device(
        folders, {**Device.plain(folders).settings, "users.web": found.pw_name, "users.mail": found.pw_name}
    )
    first = device.layout("web")
    assert first[0][2] == first[1][2] == (found.pw_uid, found.pw_gid)
    for path, _, _ in first:
        path.mkdir(parents=True)
    assert [owner for _, _, owner in device.layout("web")[:2]] == [(-1, -1)] * 2
