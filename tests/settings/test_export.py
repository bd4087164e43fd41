"""The settings for a mailer of the maker's own, each format read back by what reads it in the field."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_ui.errors import DeviceUIError
from device_ui.settings import export
from device_ui.settings.fields import SmtpSettings
from tests.helpers.product import settings_form
from tests.servers.authority import Authority
from tests.servers.postfix import MailServer

STORED = SmtpSettings("mail.example.com", 587, "Storage alarms", "alarm@mail.example.com", sealed="hpke1.sealed")
RELAY = SmtpSettings("[::1]", 25, "x", "alarm@b.c", security="none", sign_in="none", from_address="d.e@f.g")
IMPLICIT = SmtpSettings("mail.example.com", 465, "x", "apikey", sign_in="provider", from_address="a@b.c", sealed="x")
PASSWORD = "Kp7!vRw2#Zt9"
PRINTABLE = "".join(map(chr, range(0x20, 0x7F)))
VISIBLE = st.text(st.characters(exclude_categories=["Cc", "Cs"]).filter(str.isprintable), min_size=1, max_size=100)


def test_values_are_the_fields_and_what_follows_from_them():
    assert export.values(STORED) == {
        "host": "mail.example.com",
        "port": 587,
        "sender_name": "Storage alarms",
        "account": "alarm@mail.example.com",
        "security": "auto",
        "sign_in": "manual",
        "from_address": "",
        "connection": "starttls",
        "mail_from": "alarm@mail.example.com",
    }


def test_password_is_there_only_when_it_is_given():
    assert export.values(STORED, PASSWORD) == {**export.values(STORED), "password": PASSWORD}


@pytest.mark.parametrize("name", ["json", "env", "msmtprc"])
def test_no_format_carries_a_password_or_its_sealed_form_unasked(name):
    written = export.FORMATS[name](export.values(STORED))
    assert "password" not in written.lower()
    assert "sealed" not in written


def test_formats_are_the_three_of_the_command_line():
    assert list(export.FORMATS) == ["json", "env", "msmtprc"]


def test_json_is_one_object_that_keeps_korean():
    written = export.to_json({"sender_name": "\ud55c\uae00", "port": 25})
    assert written == '{\n  "sender_name": "\ud55c\uae00",\n  "port": 25\n}\n'


@given(VISIBLE, VISIBLE)
@settings(max_examples=60, deadline=None)
def test_json_is_read_back(host, password):
    values = export.values(SmtpSettings(host, 25, "x", "a@b.c", sealed="x"), password)
    assert json.loads(export.to_json(values)) == values


def test_env_is_lines_for_a_shell():
    assert export.to_env(export.values(STORED, PASSWORD)).splitlines() == [
        "DEVICE_UI_SMTP_HOST=mail.example.com",
        "DEVICE_UI_SMTP_PORT=587",
        "DEVICE_UI_SMTP_SENDER_NAME='Storage alarms'",
        "DEVICE_UI_SMTP_ACCOUNT=alarm@mail.example.com",
        "DEVICE_UI_SMTP_SECURITY=auto",
        "DEVICE_UI_SMTP_SIGN_IN=manual",
        "DEVICE_UI_SMTP_FROM_ADDRESS=''",
        "DEVICE_UI_SMTP_CONNECTION=starttls",
        "DEVICE_UI_SMTP_MAIL_FROM=alarm@mail.example.com",
        "DEVICE_UI_SMTP_PASSWORD='Kp7!vRw2#Zt9'",
    ]


@pytest.mark.parametrize("shell", [["dash"], ["bash"], ["bash", "--posix"], ["busybox", "ash"]])
@pytest.mark.parametrize(
    "text",
    [PRINTABLE, "$(touch x) `id` ${HOME}", "'; exit 7; '", '"', "\\", "\ud55c\uae00 \U0001f4e7", "-n", "a'b'c", "~"],
)
def test_shell_reads_every_character_back(tmp_path, text, shell):
    path = tmp_path / "smtp.env"
    path.write_text(export.to_env({"host": text, "password": text[::-1]}))
    script = '. "$1"; printf "%s\\n%s" "$DEVICE_UI_SMTP_HOST" "$DEVICE_UI_SMTP_PASSWORD"'
    done = subprocess.run([*shell, "-c", script, "sh", str(path)], capture_output=True, cwd=tmp_path, timeout=60)
    assert done.stdout.decode() == f"{text}\n{text[::-1]}"
    assert (done.returncode, done.stderr, [each.name for each in tmp_path.iterdir()]) == (0, b"", ["smtp.env"])


def test_msmtprc_with_starttls_and_login():
    assert export.to_msmtprc(export.values(STORED, PASSWORD)).splitlines() == [
        "account device-ui",
        'host "mail.example.com"',
        "port 587",
        'from "alarm@mail.example.com"',
        "tls on",
        "tls_starttls on",
        "tls_trust_file system",
        "auth on",
        'user "alarm@mail.example.com"',
        'password "Kp7!vRw2#Zt9"',
        "account default : device-ui",
    ]


def test_msmtprc_with_tls_from_the_first_byte():
    lines = export.to_msmtprc(export.values(IMPLICIT)).splitlines()
    assert {"tls on", "tls_starttls off", "tls_trust_file system", 'user "apikey"', 'from "a@b.c"'} <= set(lines)


def test_msmtprc_for_a_relay_without_login():
    assert export.to_msmtprc(export.values(RELAY)).splitlines() == [
        "account device-ui",
        'host "::1"',
        "port 25",
        'from "d.e@f.g"',
        "tls off",
        "tls_starttls off",
        "auth off",
        "account default : device-ui",
    ]


@pytest.mark.parametrize(
    "text", [PRINTABLE, '"', '"quoted"', "\\", "#not a comment", "two words", " x ", "\ud55c\uae00"]
)
def test_msmtprc_takes_off_one_pair_of_quotes_and_nothing_else(text):
    # msmtp 1.8, conf.c: a value that starts and ends with a quote loses these two; nothing in it is an escape.
    lines = export.to_msmtprc(export.values(STORED, text)).splitlines()
    assert f'password "{text}"' in lines


def test_what_is_too_long_for_msmtp_is_told_and_not_written():
    key = export.values(STORED, "\u00e9" * 244)
    assert max(len(line.encode()) for line in export.to_msmtprc(key).splitlines()) == 499
    with pytest.raises(DeviceUIError) as caught:
        export.to_msmtprc(export.values(STORED, "\u00e9" * 244 + "x"))
    assert str(caught.value) == "msmtp cannot take this password: its lines have 499 bytes at most"


# Category Cc, Zl, Zp, Cf and Zs of Unicode: what ends a line for some reader, turns a text round, or cannot be seen.
HIDDEN = [
    "\n",
    "\r",
    "\0",
    "\t",
    "\x0b",
    "\x1b",
    "\x7f",
    "\x85",
    "\u2028",
    "\u2029",
    "\u202e",
    "\u2066",
    "\u200b",
    "\u00a0",
]


@pytest.mark.parametrize("hidden", HIDDEN)
@pytest.mark.parametrize("name", ["host", "account", "from_address", "password"])
def test_what_cannot_be_seen_is_refused_and_named(name, hidden):
    fields = {"account": "key", "sign_in": "provider", "from_address": "a@b.cc", "sealed": "x"}
    given = {**fields, name: f"a{hidden}b"}
    password = given.pop("password", PASSWORD)
    with pytest.raises(DeviceUIError, match=f"^{name} holds a character that cannot be seen"):
        export.values(SmtpSettings(given.pop("host", "h"), 25, "x", **given), password)


@pytest.mark.parametrize("name", ["\uc800\uc7a5\uc18c\u3000\uc54c\ub9bc", "\U0001f468\u200d\U0001f527", "A\u00a0B"])
def test_a_sender_name_keeps_wide_blanks_and_what_joins_an_emoji(name):
    assert export.values(SmtpSettings("h", 25, name, "a@b.cc"))["sender_name"] == name


@pytest.mark.parametrize("hidden", ["\u202e", "\u2066", "\u2028", "\u2029", "\n", "\x1b", "\x85"])
def test_a_sender_name_that_ends_a_line_or_turns_it_round_is_refused(hidden):
    with pytest.raises(DeviceUIError, match="^sender_name holds"):
        export.values(SmtpSettings("h", 25, f"a{hidden}b", "a@b.cc"))


@pytest.mark.parametrize("replaced", ["%U", "%H", "%C", "%M"])
def test_msmtp_is_given_no_address_that_it_would_change(tmp_path, replaced):
    address = f"a{replaced}@b.cc"
    with pytest.raises(DeviceUIError, match="^msmtp cannot take this from: it replaces %U, %H, %C and %M in it$"):
        export.to_msmtprc(export.values(SmtpSettings("h", 25, "x", address), PASSWORD))
    # So it does.
    done = msmtp(f"account a\nhost h\nfrom {address}\naccount default : a\n", tmp_path, "--pretend")
    assert f"from = {address}\n".encode() not in done.stdout


# What a provider's password may hold.
PASSWORDS = {
    "every printable one": PRINTABLE,
    "blanks around": " two  words ",
    "one quote": '"',
    "in quotes": '"in quotes"',
    "a quote at the end": 'x"',
    "backslashes": "\\\\n\\",
    "a comment": "# not a comment",
    "per cent": "%s%41%%",
    "beyond ASCII": "Zo\u00eb \u20ac\U0001d11e \ud55c\uae00",
    "longest": "x" * 256,
    "longest for msmtp": "\u00e9" * 244,
}
FIRST_BYTE = "manual@mail.example.com"
ACCOUNTS = {f"key.{number}": password for number, password in enumerate(PASSWORDS.values())}


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority("Test authority")


@pytest.fixture(scope="module")
def server(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MailServer]:
    folder, certificate = tmp_path_factory.mktemp("postfix"), authority.issue(["localhost"])
    accounts = {**ACCOUNTS, FIRST_BYTE: PASSWORD}
    with MailServer(folder=folder, certificate=certificate, accounts=accounts) as running:
        yield running


def msmtp(written: str, folder: Path, *options: str) -> subprocess.CompletedProcess[bytes]:
    """Debian's msmtp, with this file, is given a mail to send."""
    path = folder / "msmtprc"
    path.touch(0o600)  # msmtp refuses a password that others can read
    path.write_text(written)
    words = ["msmtp", "-C", str(path), *options, "ops@example.org"]
    return subprocess.run(words, input=b"Subject: x\n\ny\n", capture_output=True, timeout=60)


def sent_by_msmtp(server: MailServer, written: str, folder: Path, *options: str) -> bytes:
    """The mail that msmtp sends with this file, as it arrived."""
    before = len(server.mails())
    done = msmtp(written, folder, *options)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    return server.wait_for(before + 1)[before]


@pytest.mark.parametrize("number", range(len(PASSWORDS)), ids=list(PASSWORDS))
def test_msmtp_signs_in_with_any_password(server, authority, tmp_path, number):
    account = f"key.{number}"
    settings = SmtpSettings("localhost", server.submission_port, "x", account, "auto", "provider", "a.b-c@example.org")
    written = export.to_msmtprc(export.values(settings, ACCOUNTS[account]))
    trust = f"--tls-trust-file={authority.write(tmp_path / 'ca.pem')}"
    raw = sent_by_msmtp(server, written, tmp_path, trust)
    assert raw.startswith(b"Return-Path: <a.b-c@example.org>\n")
    assert b"SMTPSA id" in raw  # ESMTPSA, or UTF8SMTPSA where msmtp asks for that (RFC 6531, 4.3)
    assert server.logins()[-1] == (account, True)


def test_msmtp_sends_with_tls_from_the_first_byte(server, authority, tmp_path):
    settings = SmtpSettings("localhost", server.tls_port, "x", FIRST_BYTE, "tls")
    trust = f"--tls-trust-file={authority.write(tmp_path / 'ca.pem')}"
    raw = sent_by_msmtp(server, export.to_msmtprc(export.values(settings, PASSWORD)), tmp_path, trust)
    assert b"SMTPSA id" in raw  # ESMTPSA, or UTF8SMTPSA where msmtp asks for that (RFC 6531, 4.3)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[127.0.0.1]"])
def test_msmtp_sends_through_a_relay_without_login(server, tmp_path, host):
    settings = SmtpSettings(host, server.relay_port, "x", "alarm@b.cc", "none", "none", "d.e@f.gg")
    raw = sent_by_msmtp(server, export.to_msmtprc(export.values(settings)), tmp_path)
    assert raw.startswith(b"Return-Path: <d.e@f.gg>\n")


def test_msmtp_trusts_the_system_and_so_refuses_a_stranger(server, tmp_path):
    settings = SmtpSettings("localhost", server.submission_port, "x", FIRST_BYTE)
    done = msmtp(export.to_msmtprc(export.values(settings, PASSWORD)), tmp_path)
    assert (done.returncode, done.stdout) == (69, b"")
    assert b"TLS certificate verification failed" in done.stderr


@pytest.fixture
def stored(product, server):
    """A device that is set up for a provider whose password holds every printable character."""
    product.start_hook()
    form = {"host": "localhost", "sign_in": "provider", "account": "key.0", "from_address": "a.b-c@example.org"}
    product.save(**settings_form(server.submission_port, password=PRINTABLE, **form))
    return product


def test_the_command_writes_what_msmtp_sends_with(stored, server, authority, tmp_path):
    done = stored.command("settings", "--format", "msmtprc", "--reveal")
    assert (done.returncode, done.stderr) == (0, "")
    trust = f"--tls-trust-file={authority.write(tmp_path / 'ca.pem')}"
    assert b"SMTPSA id" in sent_by_msmtp(server, done.stdout, tmp_path, trust)


@pytest.mark.parametrize(
    "reader",
    [
        ["jq", "--join-output", ".password"],
        [sys.executable, "-c", "import json, sys; print(end=json.load(sys.stdin)['password'])"],
    ],
)
def test_the_command_writes_json_that_its_readers_read(stored, reader):
    written = stored.command("settings", "--reveal").stdout
    done = subprocess.run(reader, input=written, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, PRINTABLE, "")
    tool = [sys.executable, "-m", "json.tool"]
    assert subprocess.run(tool, input=written, capture_output=True, text=True, timeout=60).returncode == 0


@pytest.mark.parametrize("shell", [["dash"], ["bash"], ["busybox", "ash"]])
def test_the_command_writes_lines_that_a_shell_evaluates(stored, shell, tmp_path):
    (tmp_path / "env").write_text(stored.command("settings", "--format", "env", "--reveal").stdout)
    script = '. "$1"; printf %s "$DEVICE_UI_SMTP_PASSWORD"'
    done = subprocess.run([*shell, "-c", script, "sh", tmp_path / "env"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, PRINTABLE, "")


def test_a_password_too_long_for_msmtp_is_one_line_and_no_file(stored, server):
    form = {"host": "localhost", "sign_in": "provider", "account": "key.0", "from_address": "a.b-c@example.org"}
    stored.save(**settings_form(server.submission_port, password="\ud55c" * 256, **form))
    done = stored.command("settings", "--format", "msmtprc", "--reveal")
    assert (done.returncode, done.stdout) == (78, "")
    assert done.stderr == "device-ui: msmtp cannot take this password: its lines have 499 bytes at most\n"
