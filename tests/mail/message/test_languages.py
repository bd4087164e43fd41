"""Who gets the mail chooses its language; where they differ, one mail tells everything in each."""

from __future__ import annotations

import re
from email import message_from_bytes, policy
from email.message import EmailMessage

import pytest

from device_ui.i18n.translator import load
from device_ui.mail.catalog import MESSAGE, built_in
from device_ui.mail.events import CodeCount, Digest, Event
from device_ui.mail.message.compose import compose, compose_digest, compose_test, languages
from device_ui.mail.message.envelope import Envelope
from device_ui.settings import recipients
from device_ui.settings.fields import SmtpSettings
from device_ui.settings.recipients import Recipient, from_values, to_values
from device_ui.settings.rules import Invalid

SETTINGS = SmtpSettings("mail.example.com", 587, "Alarms", "alarm@mail.example.com")
DEVICE = {"name": "NAS", "model": "", "serial": "", "address": "192.0.2.1", "language": "en"}
EVENT = Event("303", "fault", 1795400602.0, 1795400602.0, "auditd", "98 %", number=7)
MINOR = built_in()["303"]
LISTED = (Recipient("a@b.cc"), Recipient("k@b.cc", "info", "ko"), Recipient("e@b.cc", "info", "en"))


def read(raw: bytes) -> EmailMessage:
    found = message_from_bytes(raw, policy=policy.default)
    assert isinstance(found, EmailMessage)
    return found


def parts(mail: EmailMessage) -> tuple[str, str]:
    return tuple(mail.get_body((kind,)).get_content() for kind in ("plain", "html"))  # type: ignore[union-attr, return-value]


def composed(*codes: str) -> EmailMessage:
    words = tuple(load(code) for code in codes)
    return read(compose(EVENT, MINOR, Envelope(SETTINGS, ["a@b.cc"], DEVICE, "x", 1.0, languages=words)))


def test_a_korean_mail_is_korean_but_for_what_mail_rules_look_for():
    mail = composed("ko")
    plain, page = parts(mail)
    assert mail["subject"] == "[fault 303] NAS: 98 % (감사 로그 공간: 1차 임계값 초과)"
    assert "유형:" in plain and "장애" in plain and "98 %" in plain and "Type" not in plain
    assert '<html lang="ko">' in page and "Audit" not in page


def test_one_mail_has_both_languages_and_one_message_id():
    mail = composed("en", "ko")
    plain, page = parts(mail)
    assert (
        mail["subject"]
        == "[fault 303] NAS: 98 % (Audit log space: minor threshold exceeded / 감사 로그 공간: 1차 임계값 초과)"
    )
    assert mail["message-id"] == composed("ko")["message-id"] == composed("en")["message-id"]
    assert plain.index("Type:") < plain.index("유형:")
    assert '<html lang="en">' in page and '<td lang="ko"' in page
    assert "--- 한국어 ---" in plain.splitlines()


def test_a_mail_of_two_languages_says_so_first_and_has_the_device_once():
    for part in parts(composed("en", "ko")):
        assert part.index("아래에 한국어 내용이 있습니다.") < part.index("Type")
        assert "Address" in part and "주소" not in part


@pytest.mark.parametrize("said", ["refused at " * 350 + "it", "Saved.", "Fan: stopped is damaged: no"])
def test_the_subject_of_a_message_of_the_system_stays_as_it_came(said):
    """It is no sentence of ours, whatever it looks like, and it never keeps the mail back."""
    event = Event("901", "fault", 1.0, 1.0, "root", f"{said}\n\nwhat follows", number=7)
    envelope = Envelope(SETTINGS, ["k@b.cc"], DEVICE, "x", 1.0, languages=(load("ko"),))
    digest = Digest(7, "fault", (CodeCount("901", 1, 1.0, 1.0),), ((7, 7),), (event,))
    mail, gathered = (read(compose(event, MESSAGE, envelope)), read(compose_digest(digest, built_in(), envelope)))
    assert mail["subject"] == f"[fault 901] NAS: {said if len(said) <= 200 else said[:197] + '...'}"
    assert said in parts(mail)[0]
    assert said[:150] in parts(gathered)[0]


def test_the_test_mail_is_in_the_language_too():
    envelope = Envelope(SETTINGS, ["k@b.cc"], DEVICE, "x", 1.0, languages=(load("ko"),))
    mail = read(compose_test(envelope, "t", (EVENT, MINOR)))
    assert mail["subject"] == "[test] NAS: 이메일이 정상 작동합니다"
    assert "예시: 장애 303" in parts(mail)[0]


def test_the_subject_of_a_digest_is_in_the_language_too():
    digest = Digest(7, "fault", (CodeCount("303", 2, 1.0, 1.0),), ((7, 8),), (EVENT,))
    envelope = Envelope(SETTINGS, ["k@b.cc"], DEVICE, "x", 1.0, languages=(load("ko"),))
    raw = compose_digest(digest, built_in(), envelope)
    assert read(raw)["subject"] == "[fault 303] NAS: 장애 2건 (감사 로그 공간: 1차 임계값 초과)"
    assert b"\r\nSubject: [fault 303] =?utf-8?b?" in raw


def test_korean_columns_line_up():
    """A terminal gives a Hangul syllable two cells (Unicode, UAX 11)."""
    lines = parts(composed("ko"))[0].replace("\r\n", "\n").rstrip("\n").rpartition("\n\n")[2].split("\n")
    # A line of blanks goes on with the one before it: the link of a code.
    cells = [re.match(r"[^:]+: +", line)[0] for line in lines if not line.startswith(" ")]
    assert len({sum(2 if "가" <= each <= "힣" else 1 for each in cell) for cell in cells}) == 1


@pytest.mark.parametrize(
    ("addresses", "own", "codes"),
    [
        (["a@b.cc"], "en", ["en"]),
        (["a@b.cc"], "ko", ["ko"]),
        (["k@b.cc"], "en", ["ko"]),
        (["a@b.cc", "k@b.cc", "e@b.cc"], "en", ["en", "ko"]),
        (["k@b.cc", "e@b.cc"], "en", ["ko", "en"]),
        (["stranger@b.cc"], "ko", ["ko"]),
        ([], "en", ["en"]),
    ],
)
def test_the_languages_of_a_mail_are_those_of_its_recipients(addresses, own, codes):
    assert [each.code for each in languages(addresses, LISTED, {**DEVICE, "language": own})] == codes


def test_the_list_keeps_each_language_and_writes_none_as_before():
    values = to_values(LISTED)
    assert list(values.values()) == ["info a@b.cc", "info ko k@b.cc", "info en e@b.cc"]
    assert from_values(values) == LISTED


@pytest.mark.parametrize(
    "line", ["info xx a@b.cc", "info ko ko a@b.cc", "info  a@b.cc", "ko a@b.cc", "info ko", "info"]
)
def test_a_line_with_an_unknown_language_breaks_its_rule(line):
    assert str(from_values({"recipient_01": line})) == "recipient_01 breaks its rule"


def test_a_language_that_is_not_there_is_refused():
    assert isinstance(recipients.add((), "a@b.cc", "info", "xx"), Invalid)
    assert isinstance(recipients.change(LISTED, "a@b.cc", "info", "xx"), Invalid)
