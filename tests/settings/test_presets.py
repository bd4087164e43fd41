"""The providers that the tab can fill in: what their documentation says, and that Update takes it."""

from __future__ import annotations

import re

import pytest

from device_ui.settings.fields import parse
from device_ui.settings.presets import PRESETS

# A second reading of the sources: host, port and sign-in of each.
READ = {
    "microsoft-365": ("smtp.office365.com", 587, "oauth"),
    "gmail": ("smtp.gmail.com", 587, "provider"),
    "google-relay": ("smtp-relay.gmail.com", 587, "none"),
    "amazon-ses": ("email-smtp.us-east-1.amazonaws.com", 587, "provider"),
    "sendgrid": ("smtp.sendgrid.net", 587, "provider"),
    "mailgun": ("smtp.mailgun.org", 587, "provider"),
    "brevo": ("smtp-relay.brevo.com", 587, "provider"),
    "zoho": ("smtp.zoho.com", 465, "provider"),
    "yahoo": ("smtp.mail.yahoo.com", 465, "provider"),
    "icloud": ("smtp.mail.me.com", 587, "provider"),
    "fastmail": ("smtp.fastmail.com", 465, "provider"),
    "proton": ("smtp.protonmail.ch", 587, "provider"),
    "gmx": ("mail.gmx.net", 587, "provider"),
    "naver": ("smtp.naver.com", 465, "provider"),
    "daum": ("smtp.daum.net", 465, "provider"),
    "relay": ("", 25, "none"),
}


def test_presets_are_what_the_sources_say():
    assert {word: (each.host, each.port, each.sign_in) for word, each in PRESETS.items()} == READ


@pytest.mark.parametrize("word", PRESETS)
def test_update_takes_a_preset_with_what_a_person_adds(word):
    added = {"sender_name": "Storage", "account": "alarm.one@example.com", "password": "abcd efgh ijkl mnop"}
    added |= {"oauth_tenant": "contoso.example", "oauth_client": "a1b2"} if PRESETS[word].sign_in == "oauth" else {}
    form = {**added, "from_address": "alarm.one@example.com", **PRESETS[word].values}
    draft = parse({**form, "host": form["host"] or "relay.example.com"}, None)
    assert draft.broken == {}
    # No preset sends anything in the clear, and implicit TLS is for its own port (RFC 8314, 3.3).
    assert draft.settings.connection == ("tls" if PRESETS[word].port == 465 else "starttls")


@pytest.mark.parametrize("word", PRESETS)
def test_every_preset_has_its_source_and_one_hint(word):
    preset = PRESETS[word]
    assert re.fullmatch(r"https://[a-z0-9.-]+/[A-Za-z0-9/._#-]+", preset.source)
    assert str(preset.hint).endswith(".") and len(str(preset.hint)) < 250
    assert re.fullmatch(r"[a-z0-9-]+", word)
