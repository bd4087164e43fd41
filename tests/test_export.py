"""The settings for a mailer of the maker's own, each format read back by what reads it in the field."""

from __future__ import annotations

import json
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_ui.settings import export
from device_ui.settings.smtp import SmtpSettings

STORED = SmtpSettings("mail.example.com", 587, "Storage alarms", "alarm@mail.example.com", sealed="hpke1.sealed")
RELAY = SmtpSettings("[::1]", 25, "x", "alarm@b.c", security="none", sign_in="none", from_address="d.e@f.g")
IMPLICIT = SmtpSettings("mail.example.com", 465, "x", "apikey", sign_in="provider", from_address="a@b.c", sealed="x")
PASSWORD = "Kp7!vRw2#Zt9"
PRINTABLE = "".join(map(chr, range(0x20, 0x7F)))
VISIBLE = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=100)


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


@pytest.mark.parametrize(
    "text",
    [PRINTABLE, "$(touch x) `id` ${HOME}", "'; exit 7; '", '"', "\\", "\ud55c\uae00 \U0001f4e7", "-n", "a'b'c", "~"],
)
def test_shell_reads_every_character_back(tmp_path, text):
    path = tmp_path / "smtp.env"
    path.write_text(export.to_env({"host": text, "password": text[::-1]}))
    script = '. "$1"; printf "%s\\n%s" "$DEVICE_UI_SMTP_HOST" "$DEVICE_UI_SMTP_PASSWORD"'
    done = subprocess.run(["sh", "-c", script, "sh", str(path)], capture_output=True, cwd=tmp_path, timeout=20)
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
