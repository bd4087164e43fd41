"""The mail of many events and the test mail: what a reader finds in them, and that nothing typed can add to them."""

from __future__ import annotations

import dataclasses
import html
import re
import tracemalloc
from email import message_from_bytes, policy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_ui.i18n.translator import load
from device_ui.mail import catalog
from device_ui.mail.catalog import Catalog, Kind
from device_ui.mail.events import CodeCount, Digest, Event
from device_ui.mail.ipc.requests import clean
from device_ui.mail.message.compose import compose, compose_digest, compose_test
from device_ui.mail.message.envelope import Envelope
from device_ui.settings.fields import SmtpSettings

NOON = 1795348800.0  # 2026-11-22 12:00 UTC
NOON_TEXT, LATER_TEXT = ("2026-11-22 12:00:00 +00:00 (UTC)", "2026-11-22 12:00:09 +00:00 (UTC)")
LEDGER = "0123456789abcdef"
KINDS = catalog.built_in()
DEVICE = {"name": "Storage", "model": "SA-100", "serial": "S-4711", "address": "192.0.2.7"}
TAGS = set("html head meta title style body div table tr th td h1 h2 span a br".split())
HOSTILE = [
    "a\nBcc: evil@example.com",
    "a\n\nbody",
    ".\nQUIT",
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "&lt;b&gt; & &amp;",
    "=?utf-8?b?Qm9zcw==?=",
    "a\u2028Bcc: x@y.zz",
    "\u202eevil",
    "From me",
    "경보 · 기억장치 😀",
    "x" * 4000,
    "Event numbers: 999",
]


@pytest.fixture(autouse=True)
def in_utc(zone):
    """Times are told in the device's zone."""
    zone("UTC")


def event(number, code="303", text="full", source="auditd", at=NOON, **fields):
    return Event(code, "fault", at, at, source, text, number=number, **fields)


def digest_of(*events, codes=None, ranges=None, count=None):
    """A digest of these events; `count` events of their first code if there are more than are listed."""
    codes = codes or [CodeCount(events[0].code, count or len(events), events[0].time, events[-1].time)]
    numbers = [each.number for each in events]
    return Digest(numbers[0], "fault", codes, ranges or [(numbers[0], numbers[-1])], events)


def envelope(device=DEVICE, recipients=("me@example.com",), sender="Lamp", removed=0):
    tab = SmtpSettings("mail.example.com", 587, sender, "lamp@example.com")
    return Envelope(tab, recipients, device, LEDGER, NOON + 60, removed)


def composed(digest, kinds=KINDS, **fields):
    return compose_digest(digest, kinds, envelope(**fields))


def parsed(raw):
    return message_from_bytes(raw, policy=policy.default)


def text_of(raw):
    """The text part with LF line ends."""
    return parsed(raw).get_body(("plain",)).get_content().replace("\r\n", "\n")


def html_of(raw):
    return parsed(raw).get_body(("html",)).get_content().replace("\r\n", "\n")


def rows(text):
    """The table's rows: name and value."""
    return dict(re.findall(r"^([A-Z][^:\n]*): +(.+)$", text, re.MULTILINE))


TWO = digest_of(
    event(2),
    event(3, "304", "fuller", at=NOON + 9),
    codes=[CodeCount("303", 4011, NOON, NOON + 9), CodeCount("304", 1, NOON + 9, NOON + 9)],
    ranges=[(2, 4012), (4020, 4020)],
)


# What it tells


def test_the_subject_has_the_codes_the_device_a_count_and_the_most_frequent_name():
    name = "Audit log space: minor threshold exceeded"
    assert parsed(composed(TWO))["subject"] == f"[fault 303 304] Storage: 4012 faults ({name} and 1 other kind)"


def test_a_digest_of_one_code_is_found_by_the_bracket_of_that_code():
    assert b"\r\nSubject: [fault 303] Storage: 2 faults (Audit" in composed(digest_of(event(1), event(2)))


@pytest.mark.parametrize(("others", "told"), [(0, "exceeded)"), (1, " and 1 other kind)"), (2, " and 2 other kinds)")])
def test_the_subject_counts_the_other_kinds(others, told):
    codes = [CodeCount(code, count, NOON, NOON) for code, count in (("303", 9), ("304", 2), ("301", 3))[: others + 1]]
    assert parsed(composed(digest_of(event(1), codes=codes)))["subject"].endswith(told)


def test_a_subject_has_eight_codes_and_the_header_field_all():
    every = [str(code) for code in range(300, 310)]
    mail = parsed(composed(digest_of(event(1), codes=[CodeCount(code, 1, NOON, NOON) for code in every])))
    assert mail["subject"].startswith("[fault 300 301 302 303 304 305 306 307 +2] Storage: 10 faults (")
    assert mail["X-Device-Event-Code"] == ", ".join(every)


def test_programs_find_codes_numbers_and_times_in_header_fields():
    found = {name: str(value) for name, value in parsed(composed(TWO)).items() if name.startswith("X-Device-")}
    assert found == {
        "X-Device-Event-Code": "303, 304",
        "X-Device-Event-Number": "2-4012, 4020",
        "X-Device-Event-Count": "4012",
        "X-Device-Event-Type": "fault",
        "X-Device-Event-Time": "2026-11-22T12:00:00+00:00/2026-11-22T12:00:09+00:00",
        "X-Device-Event-Source": "auditd",
        "X-Device-Name": "Storage",
        "X-Device-Serial": "S-4711",
    }


def test_it_is_in_the_thread_of_its_most_frequent_code():
    assert parsed(composed(TWO))["references"] == f"<code.303.{LEDGER}@device-ui.internal>"


def test_each_code_has_its_count_its_first_and_its_last_time():
    told = text_of(composed(TWO))
    assert "303 Audit log space: minor threshold exceeded\n4011 times, 12:00:00 to 12:00:09\n" in told
    assert "304 Audit log space: major threshold exceeded\nonce, 12:00:09\n" in told


def test_each_code_leads_to_its_description_in_both_parts():
    told, page = text_of(composed(TWO)), html_of(composed(TWO))
    for code, summary in (("303", "4011 times, 12:00:00 to 12:00:09"), ("304", "once, 12:00:09")):
        assert f"\n{summary}\nhttps://192.0.2.7/others/event-codes?code={code}\n" in told
        assert f'<a href="https://192.0.2.7/others/event-codes?code={code}" style="color:inherit">{code} ' in page


def test_a_time_of_a_different_day_has_its_day():
    digest = digest_of(event(1), event(2, at=NOON + 86400), codes=[CodeCount("303", 2, NOON, NOON + 86400)])
    told = text_of(composed(digest))
    assert "\n2 times, 12:00:00 to 2026-11-23 12:00:00\n" in told
    assert "\n2: 2026-11-23 12:00:00 (auditd)\n" in told


def test_all_numbers_are_told():
    assert rows(text_of(composed(TWO)))["Event numbers"] == "2-4012, 4020"


def test_type_and_device_are_told():
    told = rows(text_of(composed(TWO)))
    assert {name: told[name] for name in ("Type", "Device", "Model", "Serial number", "Address")} == {
        "Type": "fault",
        "Device": "Storage",
        "Model": "SA-100",
        "Serial number": "S-4711",
        "Address": "192.0.2.7",
    }


def test_each_listed_event_is_told_with_its_text():
    text = text_of(composed(TWO))
    assert "2: 12:00:00 (auditd)\n    full\n" in text
    assert "3: 12:00:09 (auditd)\n    fuller\n" in text


def test_what_is_not_listed_is_counted():
    assert "and 4010 more, which the History page lists" in text_of(composed(TWO))


def test_a_digest_that_lists_all_counts_no_more():
    assert "more, which" not in text_of(composed(digest_of(event(1), event(2))))


def test_both_parts_tell_the_same():
    text, page = text_of(composed(TWO)), html.unescape(html_of(composed(TWO)))
    for value in (*rows(text).values(), "4011 times, 12:00:00 to 12:00:09", "full", "fuller", "and 4010 more"):
        assert value in page
    assert page.count("<h2") == 2


def test_an_unknown_code_is_told_so():
    told = text_of(composed(digest_of(event(1, "998"), event(2, "998"))))
    assert "998 Unknown event\n2 times, " in told


def test_times_that_are_not_known_are_told_so():
    digest = digest_of(event(1, at=0.0, clock="@boot 5.000"), event(2, at=0.0, clock="@boot 6.000"))
    told = text_of(composed(digest))
    assert "\n2 times, time not known (the device's clock was not set)\n" in told
    assert "\n1: not known (the device's clock was not set) (auditd)\n" in told


def test_it_is_dated_by_its_first_event_that_has_a_date():
    digest = digest_of(event(1, at=0.0, clock="@boot 5.000"), event(2), event(3, at=NOON + 9))
    assert parsed(composed(digest))["date"].datetime.timestamp() == NOON


def test_without_any_date_it_is_dated_now_and_never_1970():
    digest = digest_of(event(1, at=0.0, clock="@boot 5.000"))
    assert parsed(composed(digest))["date"].datetime.timestamp() == NOON + 60


def test_what_the_ledger_removed_unmailed_is_told():
    told = "37 events were removed before they could be mailed: the ledger was full."
    assert rows(text_of(composed(TWO, removed=37)))["Not mailed"] == told
    assert "Not mailed" not in text_of(composed(TWO))


def test_its_message_id_is_its_name_and_never_changes():
    ids = {str(parsed(composed(TWO, sender=name))["message-id"]) for name in ("Lamp", "Other")}
    assert ids == {f"<2.{LEDGER}@device-ui.internal>"}
    assert composed(TWO).count(b"Message-ID:") == 1


# Messages of the system, and long texts

MESSAGE = "Cron <root@box> backup\n\nNo space left on device.\nSee the log."


def test_a_message_of_the_system_is_told_in_full():
    text = text_of(composed(digest_of(event(1, "901", MESSAGE, ""), event(2, "901", "mdadm: degraded", ""))))
    assert "1: 12:00:00\n    Cron <root@box> backup\n    \n    No space left on device.\n    See the log.\n" in text
    assert "2: 12:00:00\n    mdadm: degraded\n" in text


def test_ten_long_messages_are_told_in_full():
    texts = [f"subject {number}\n" + f"{number}" * 9900 for number in range(10)]
    text = text_of(composed(digest_of(*[event(n + 1, "901", each) for n, each in enumerate(texts)])))
    assert [f"{number}" * 9900 in text for number in range(10)] == [True] * 10


def test_beyond_a_hundred_thousand_characters_there_are_excerpts():
    texts = [f"{number % 10}" * 4000 for number in range(100)]
    text = text_of(composed(digest_of(*[event(n + 1, "303", each) for n, each in enumerate(texts)])))
    listed = [len(each) for each in re.findall(r"^    ([0-9]+)(?: \[…\])?$", text, re.MULTILINE)]
    assert listed[:24] == [4000] * 24
    assert listed[-50:] == [200] * 50
    assert sum(listed) <= 100_000 + 100 * 200


def test_the_largest_digest_takes_three_times_its_size_at_most():
    """The hook's memory has a bound, and this mail is what takes most of it: 1.5 MB in two languages."""
    events = [event(number, "303", "디스크 장애 " * 570) for number in range(1, 101)]
    both = dataclasses.replace(envelope(), languages=[load("en"), load("ko")])
    compose_digest(digest_of(*events), KINDS, both)  # what is made once is not its own
    tracemalloc.start()
    try:
        raw = compose_digest(digest_of(*events), KINDS, both)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(raw) > 1_400_000
    assert peak < 3 * len(raw)


def test_a_short_text_is_told_whole_however_many_came_before():
    texts = ["x" * 10_000] * 12 + ["a short one\nof two lines"]
    text = text_of(composed(digest_of(*[event(n + 1, "303", each) for n, each in enumerate(texts)])))
    assert "    a short one\n    of two lines\n" in text


@pytest.mark.parametrize("letter", ["x", "&", '"', "경", "😀", "\n"])
@pytest.mark.parametrize("first_line", [True, False])
def test_the_longest_digest_is_one_that_servers_take(letter, first_line):
    """Postfix takes 10,240,000 bytes unless told otherwise."""
    text = letter * 10_000 if first_line else "s\n" + letter * 9_998
    raw = composed(digest_of(*[event(n, "901", text) for n in range(1, 101)]))
    assert len(raw) < 3_000_000


# Hostile texts


def assert_sound(raw, recipients=1):
    """One mail, one of each header, two parts, lines that every server takes."""
    names = [name.lower() for name in parsed(raw).keys()]  # noqa: SIM118
    fixed = (
        "from to subject date message-id references auto-submitted x-auto-response-suppress mime-version content-type"
    )
    assert sorted(name for name in names if not name.startswith("x-device-")) == sorted(fixed.split())
    assert len(names) == len(set(names))
    assert max(len(line) for line in raw.split(b"\r\n")) <= 998
    assert raw.count(b"\n") == raw.count(b"\r\n")
    assert raw.isascii()
    assert [part.get_content_type() for part in parsed(raw).iter_parts()] == ["text/plain", "text/html"]
    assert len(parsed(raw)["to"].addresses) == recipients


@pytest.mark.parametrize("hostile", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize("code", ["303", "901"])
def test_no_text_adds_a_header_or_markup(hostile, code):
    raw = composed(digest_of(event(1, code, hostile, hostile.replace("\n", " ")[:100]), event(2)))
    assert_sound(raw)
    page = html_of(raw)
    assert set(re.findall(r"<([a-z0-9]+)", page)) <= TAGS
    assert rows(text_of(raw))["Event numbers"] == "1-2"


@pytest.mark.parametrize("hostile", HOSTILE, ids=range(len(HOSTILE)))
def test_no_name_adds_a_header_or_markup(hostile):
    name = clean(hostile.replace("\n", " "), 100)
    kinds = Catalog({"303": Kind("303", "fault", name, name)})
    raw = composed(digest_of(event(1), event(2)), kinds, sender=name, device={**DEVICE, "name": name})
    assert_sound(raw)
    assert "<script" not in html_of(raw)
    assert "<img" not in html_of(raw)


def test_korean_arrives_as_it_was_typed():
    kinds = Catalog({"303": Kind("303", "fault", "감사 로그 공간", "설명")})
    raw = composed(digest_of(event(1, text="가득 참", source="감사"), event(2)), kinds, sender="저장 장치")
    assert parsed(raw)["subject"].replace(" ", "") == "[fault 303] Storage: 2 faults (감사 로그 공간)".replace(" ", "")
    assert str(parsed(raw)["from"]) == "저장 장치 <lamp@example.com>"
    assert "303 감사 로그 공간\n" in text_of(raw)
    assert "1: 12:00:00 (감사)\n    가득 참\n" in text_of(raw)


def test_twenty_recipients_are_all_named():
    recipients = [f"operator-number-{number}@storage.example.com" for number in range(20)]
    raw = composed(TWO, recipients=recipients)
    assert_sound(raw, 20)
    assert [str(each.addr_spec) for each in parsed(raw)["to"].addresses] == recipients


def test_five_hundred_ranges_fit_the_lines():
    raw = composed(
        digest_of(event(1), codes=[CodeCount("303", 900, NOON, NOON)], ranges=[(n, n) for n in range(1, 1800, 2)])
    )
    assert_sound(raw)
    assert rows(text_of(raw))["Event numbers"].endswith("997, 999, and 400 more up to 1799")


ANY = st.text(st.characters(exclude_categories=("Cs",)), max_size=200)


@settings(deadline=None, max_examples=100)
@given(text=ANY.map(lambda text: clean(text, 4000)), source=ANY.map(lambda text: clean(text.replace("\n", " "), 100)))
def test_any_text_makes_a_sound_mail_and_arrives(text, source):
    raw = composed(digest_of(event(1, text=text, source=source), event(2)))
    assert_sound(raw)
    told = text_of(raw)
    for line in text.split("\n"):
        assert line.rstrip() in told
    assert source in told


# The test mail

EXAMPLE = (event(7, text="an example"), KINDS["303"])


def test_the_test_mail_says_that_it_is_one_and_shows_an_alarm_as_alarms_look():
    raw = compose_test(envelope(), "f00d", EXAMPLE)
    assert_sound(raw)
    assert parsed(raw)["subject"] == "[test] Storage: E-mail works"
    assert text_of(raw) == (
        "TEST - Storage - 2026-11-22 12:01 +00:00\n"
        "\n"
        "E-mail works\n"
        "\n"
        '"Send test email" was pressed on this device, or device-ui test was run. Mail from this device arrives here. '
        "Alarms look like the example below.\n"
        "\n"
        "Sent:          2026-11-22 12:01:00 +00:00 (UTC)\n"
        "Device:        Storage\n"
        "Model:         SA-100\n"
        "Serial number: S-4711\n"
        "Address:       192.0.2.7\n"
        "\n"
        "Example: FAULT 303 - Storage - 2026-11-22 12:00 +00:00\n"
        "\n"
        "an example\n"
        "\n"
        "Audit log space: minor threshold exceeded\n"
        f"{KINDS['303'].description}\n"
    )
    page, alarm = html_of(raw), html_of(compose(*EXAMPLE, envelope()))
    cells = re.compile(r'<td class="ink" style="padding:16px.*?</td>|bgcolor="#b42318"')
    assert cells.findall(page)[-2:] == cells.findall(alarm)


def test_no_program_takes_the_example_for_an_alarm():
    found = {name: str(value) for name, value in parsed(compose_test(envelope(), "f", EXAMPLE)).items()}
    facts = {name: value for name, value in found.items() if name.startswith("X-Device-")}
    assert facts == {"X-Device-Event-Type": "test", "X-Device-Name": "Storage", "X-Device-Serial": "S-4711"}


def test_the_test_mail_has_an_id_that_no_event_can_have():
    assert parsed(compose_test(envelope(), "f00d", EXAMPLE))["message-id"] == f"<test.f00d.{LEDGER}@device-ui.internal>"


def test_the_test_mail_is_dated_now():
    assert parsed(compose_test(envelope(), "f00d", EXAMPLE))["date"].datetime.timestamp() == NOON + 60


def test_the_test_mail_leaves_out_what_the_device_does_not_know():
    told = rows(text_of(compose_test(envelope({**DEVICE, "model": "", "serial": ""}), "f00d", EXAMPLE)))
    assert set(told) - {"Example", "Audit log space"} == {"Sent", "Device", "Address"}


@pytest.mark.parametrize("hostile", HOSTILE, ids=range(len(HOSTILE)))
def test_no_name_adds_to_the_test_mail(hostile):
    name = clean(hostile.replace("\n", " "), 100)
    raw = compose_test(envelope({**DEVICE, "name": name, "model": name}, sender=name), "f00d", EXAMPLE)
    assert_sound(raw)
    assert "<script" not in html_of(raw)
    assert "<img" not in html_of(raw)
