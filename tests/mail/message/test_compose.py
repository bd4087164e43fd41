"""The mail of an event: what a person reads in it, and that nothing typed can add to its headers.

What is read back is read by `email`'s older parser and `email.header`: Python 3.11's newer one puts blanks between
neighbouring encoded words where RFC 2047, 6.2, wants none.
"""

from __future__ import annotations

import email
import html.parser
import re
import subprocess
import sys
from datetime import timedelta
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from email.utils import parseaddr, parsedate_to_datetime

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from device_ui.mail.catalog import OURS, Kind
from device_ui.mail.events import Event
from device_ui.mail.format import local_time
from device_ui.mail.ipc.requests import clean
from device_ui.mail.message.compose import compose
from device_ui.mail.message.envelope import Envelope
from device_ui.mail.message.headers import message_id
from device_ui.settings import rules
from device_ui.settings.fields import SmtpSettings
from tests.helpers.product import ROOT

ACCOUNT = "lamp@example.test"
LEDGER = "0123456789abcdef"
NAME, DESCRIPTION = ("Audit log space: minor threshold exceeded", "The audit log has filled more than it may.")
KIND = Kind("303", "fault", NAME, DESCRIPTION)
DEVICE = {
    "name": "Storage appliance",
    "model": "SA-100",
    "serial": "S-4711",
    "host_name": "nas",
    "address": "192.0.2.7",
}
EVENT = Event("303", "fault", 1700000000.9, 1700000060.0, source="auditd", text="at 80 %", number=42)


def mail_of(event=EVENT, kind=KIND, recipients=("me@example.test",), device=DEVICE, **changes):
    """The composed bytes; `changes` are of the settings."""
    values = {"host": "mail.example.test", "port": 587, "sender_name": "Lamp", "account": ACCOUNT, **changes}
    return compose(event, kind, Envelope(SmtpSettings(**values), recipients, device, LEDGER))


@pytest.mark.parametrize("name", ["a\nBcc: evil@example.com", "a\r\nBcc: evil@example.com", "a\n\nbody", "a\rb", "a\n"])
def test_a_header_that_would_be_two_is_never_sent(name):
    """The name of a damaged ledger stands in the Message-ID as it is."""
    with pytest.raises(HeaderParseError):
        compose(
            EVENT,
            KIND,
            Envelope(SmtpSettings("mail.example.test", 587, "Lamp", ACCOUNT), ["me@example.test"], DEVICE, name),
        )


def event_with(**changes):
    return Event(**{**EVENT.__dict__, **changes})


def parsed(raw):
    return email.message_from_bytes(raw)


def unfolded(value):
    return re.sub(r"\r?\n(?=[ \t])", "", value)


def read(value):
    """A header as a person reads it."""
    return str(make_header(decode_header(unfolded(value))))


def sender(mail):
    """Name and address of From. The address is never decoded: it may hold what looks like an encoded word."""
    name, address = parseaddr(unfolded(mail["From"]))
    return read(name), address


def parts(raw):
    """The text part and the HTML part, with LF line ends."""
    mail = parsed(raw)
    text, page = mail.get_payload()
    assert (text.get_content_type(), page.get_content_type()) == ("text/plain", "text/html")
    return [part.get_payload(decode=True).decode("utf-8").replace("\r\n", "\n") for part in (text, page)]


TAGS = set("html head meta title style body div table tr th td h1 span a br".split())


class Page(html.parser.HTMLParser):
    """The texts of an HTML page, those that are shown, and its tags."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.texts, self.shown = [], [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)

    def handle_data(self, data):
        self.texts.append(data)
        if "table" in self.tags:
            self.shown.append(data)


# A busy machine is no bug.
UNHURRIED = settings(deadline=None)

# What is typed or raised, as the product lets it in.

ANY = st.characters(exclude_categories=("Cs",))
NAMES = st.text(ANY, min_size=1, max_size=100).map(rules.sender_name).filter(lambda name: isinstance(name, str))
TEXTS = st.text(ANY, max_size=300).map(lambda text: clean(text, 4000))
SOURCES = st.text(ANY, max_size=120).map(lambda text: clean(text.replace("\n", " "), 100))
PRINTABLE = st.text(ANY, min_size=1, max_size=100).filter(str.isprintable)
NASTY = [
    "a\\",
    '"',
    '\\"',
    "a, b <x@y.zz>",
    "a <b@c.dd>, e",
    "=?utf-8?q?spoofed?=",
    "=?utf-8?b?Qm9zcw==?= <boss@example.test>",
    "?=",
    "=?",
    "(comment)",
    "x" * 100,
    "\\" * 100,
    '"' * 100,
    "홍길동 " * 25,
    "😀" * 100,
    "a\u2028Bcc: x@y.zz",
    "a\u2029b",
    "a\u2028 b",
    "e\u0301",
    "\u202eevil",
    "\ufeffx",
    "a  b   c",
    "한 글",
    "From: me",
    ";:,.@<>[]",
]


def each_of(parameter, values):
    """Hypothesis examples for these values of one parameter."""

    def decorate(function):
        for value in values:
            function = example(**{parameter: value})(function)
        return function

    return decorate


# Headers.


HEADERS = """Auto-Submitted Content-Type Date From MIME-Version Message-ID References Subject To X-Auto-Response-Suppress
    X-Device-Event-Code X-Device-Event-Number X-Device-Event-Source X-Device-Event-Time X-Device-Event-Type X-Device-Name
    X-Device-Serial""".split()


@UNHURRIED
@given(name=NAMES, text=TEXTS, source=SOURCES, device=PRINTABLE)
@example("a\u2028Bcc: x@y.zz", "\n\nBcc: x@y.zz\n\n.\n", "a\u2028Bcc: x@y.zz", "Bcc: x")
def test_nothing_typed_adds_a_header_or_a_part(name, text, source, device):
    raw = mail_of(event_with(text=text, source=source), sender_name=name, device={**DEVICE, "name": device})
    mail = parsed(raw)
    assert set(HEADERS) - {"X-Device-Event-Source", "X-Device-Name"} <= set(mail.keys()) <= set(HEADERS)
    assert len(mail.keys()) == len(set(mail.keys()))
    assert [sorted(part.keys()) for part in mail.get_payload()] == [
        ["Content-Transfer-Encoding", "Content-Type", "MIME-Version"]
    ] * 2
    assert not mail.defects


@UNHURRIED
@given(name=NAMES, text=TEXTS, device=PRINTABLE)
@example("x" * 100, "y" * 4000, "z" * 100)
@example("\\" * 100, "가" * 4000, "나" * 100)
@example("가" * 100, "\n" * 300, "a b " * 25)
def test_every_line_is_short_enough_for_any_server(name, text, device):
    raw = mail_of(event_with(text=text), sender_name=name, device={**DEVICE, "name": device})
    assert re.search(rb"(?<!\r)\n|\r(?!\n)", raw) is None
    assert raw.endswith(b"\r\n") and raw.isascii() and b"\0" not in raw
    assert max(map(len, raw.split(b"\r\n"))) <= 998
    assert all(len(word) <= 75 for word in re.findall(rb"=\?utf-8\?[bqBQ]\?[^?]*\?=", raw))


@UNHURRIED
@given(name=NAMES)
@each_of("name", NASTY)
def test_the_sender_is_read_back_as_it_was_typed(name):
    blanked = name.replace("\u2028", " ").replace("\u2029", " ")
    assert sender(parsed(mail_of(sender_name=name))) == (blanked, ACCOUNT)


def test_a_quoted_name_is_never_folded():
    name = "Lamp of the long corridor, " * 3 + "second floor"
    assert f'\r\nFrom: "{name}" <{ACCOUNT}>\r\n'.encode() in mail_of(sender_name=name)


@UNHURRIED
@given(local=st.text("abzAZ09!#$%&'+/=^_`{|}~?", min_size=1, max_size=60))
@example("=?utf-8?q?x?=")
@example("a" * 88)
def test_every_account_of_the_manual_is_the_from_address(local):
    account = f"{local}@example.tst"
    for name in ("Lamp", "램프" * 40):
        assert parseaddr(unfolded(parsed(mail_of(sender_name=name, account=account))["From"]))[1] == account


def test_mail_is_from_the_from_address_where_there_is_one():
    mail = parsed(mail_of(account="key-4711", sign_in="provider", from_address="nas.one@example.test"))
    assert sender(mail) == ("Lamp", "nas.one@example.test")


def on_one_line(text):
    return " ".join(text.split())


@UNHURRIED
@given(device=PRINTABLE, name=PRINTABLE)
@example("홍길동의 저장 장치 " * 9, "감사 로그 " * 15)
@example("=?utf-8?q?x?=", "?=")
@example("a" * 100, "b" * 100)
def test_the_subject_has_type_code_device_text_and_name(device, name):
    assume(on_one_line(name) not in ("", "at 80 %"))
    kind = Kind("303", "fault", name, DESCRIPTION)
    mail = parsed(mail_of(kind=kind, device={**DEVICE, "name": device}))
    told = f"[fault 303] {on_one_line(device)}: at 80 % ({on_one_line(name)})"
    assert read(mail["Subject"]) == told


def test_an_english_subject_is_readable_in_the_raw_line():
    """A filter that decodes nothing (procmail, a ticket system) finds it."""
    assert (
        b"\r\nSubject: [fault 303] Storage appliance: at 80 % (Audit log space: minor\r\n threshold exceeded)\r\n"
        in mail_of()
    )


def test_the_bracket_is_readable_in_the_raw_line_of_any_language():
    raw = mail_of(kind=Kind("303", "fault", "감사 로그 공간", DESCRIPTION), device={**DEVICE, "name": "저장 장치"})
    assert b"\r\nSubject: [fault 303] =?utf-8?b?" in raw
    assert read(parsed(raw)["Subject"]) == "[fault 303] 저장 장치: at 80 % (감사 로그 공간)"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", NAME),
        (" \n ", NAME),
        (NAME, NAME),
        ("disk 2 is at 91 %", f"disk 2 is at 91 % ({NAME})"),
        ("first\n\n  second\nthird", f"first ({NAME})"),
        ("NAME  USED\ntank  91 %", f"NAME USED tank 91 % ({NAME})"),
        ("x" * 60, f"{'x' * 60} ({NAME})"),
        ("x" * 61, f"{'x' * 57}... ({NAME})"),
    ],
)
def test_the_subject_says_what_happened_in_60_characters(text, told):
    assert read(parsed(mail_of(event_with(text=text)))["Subject"]) == f"[fault 303] Storage appliance: {told}"


def test_the_subject_takes_the_events_type_and_not_the_catalogues():
    mail = parsed(mail_of(event_with(type="info", code="152")))
    assert read(mail["Subject"]).startswith("[info 152] ")


def test_all_recipients_are_named():
    everybody = [f"{'r' * 60}{number}@example.test" for number in range(20)]
    assert unfolded(parsed(mail_of(recipients=everybody))["To"]).strip().split(", ") == everybody


def test_the_message_id_is_the_same_for_every_composition():
    one, two = (parsed(mail_of(sender_name=name))["Message-ID"] for name in ("Lamp", "Other"))
    assert one == two == "<42.0123456789abcdef@device-ui.internal>"


def test_two_events_and_two_ledgers_have_message_ids_of_their_own():
    assert len({message_id("a1", 1), message_id("a1", 11), message_id("a", 1), message_id("b1", 1)}) == 4


def test_the_date_is_when_the_event_was_accepted_with_a_zone():
    written = parsed(mail_of())["Date"]
    assert re.fullmatch(r"[A-Z][a-z]{2}, \d{2} [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d [+-]\d{4}", written)
    assert parsedate_to_datetime(written).timestamp() == 1700000060


def test_the_mail_says_that_a_machine_sent_it():
    mail = parsed(mail_of())
    assert (mail["Auto-Submitted"], mail["MIME-Version"]) == ("auto-generated", "1.0")
    assert mail.get_content_type() == "multipart/alternative"


# Headers for programs.


def facts(raw):
    """The header fields of the device, decoded."""
    return {name: read(value) for name, value in parsed(raw).items() if name.startswith("X-Device-")}


def test_programs_find_what_happened_in_header_fields():
    assert facts(mail_of()) == {
        "X-Device-Event-Code": "303",
        "X-Device-Event-Number": "42",
        "X-Device-Event-Type": "fault",
        "X-Device-Event-Time": local_time(EVENT.time).isoformat(),
        "X-Device-Event-Source": "auditd",
        "X-Device-Name": "Storage appliance",
        "X-Device-Serial": "S-4711",
    }


@UNHURRIED
@given(source=SOURCES, serial=PRINTABLE)
@example("a\u2028X-Device-Event-Code: 101", "S\u2028-1")
@example("=?utf-8?q?x?=", "가" * 100)
def test_a_field_for_programs_has_its_value_and_nothing_else(source, serial):
    found = facts(mail_of(event_with(source=source), device={**DEVICE, "serial": serial}))
    assert found["X-Device-Event-Code"] == "303"
    assert found.get("X-Device-Event-Source", "") == on_one_line(source)
    assert found.get("X-Device-Serial", "") == on_one_line(serial)


@pytest.mark.parametrize("time", [0.0, 1e18, float("nan")])
def test_a_time_that_is_not_known_has_no_field(time):
    assert "X-Device-Event-Time" not in parsed(mail_of(event_with(time=time)))


def test_no_program_answers():
    """RFC 3834, and Exchange ([MS-OXCMAIL], 2.2.3.2.14)."""
    mail = parsed(mail_of())
    assert (mail["Auto-Submitted"], mail["X-Auto-Response-Suppress"]) == ("auto-generated", "All")


def test_mails_of_a_code_refer_to_one_id():
    ids = [
        parsed(mail_of(event_with(number=number, code=code)))["References"]
        for number, code in [(1, "303"), (2, "303"), (3, "304")]
    ]
    assert ids == [f"<code.{code}.{LEDGER}@device-ui.internal>" for code in ("303", "303", "304")]


@pytest.mark.parametrize(
    ("event_type", "importance", "told"), [("fault", "", None), ("fault", "high", "high"), ("info", "high", None)]
)
def test_only_faults_are_marked_and_only_where_the_maker_wants_it(event_type, importance, told):
    mail = parsed(mail_of(event_with(type=event_type), device={**DEVICE, "importance": importance}))
    assert mail["Importance"] == told


# Content.


def rows(text):
    """The labels and values of the text part's last block, without a value's later lines, which are indented."""
    found = {}
    for line in text.rstrip("\n").rpartition("\n\n")[2].split("\n"):
        if line.startswith(" "):
            continue
        label, _, value = line.partition(": ")
        found[label] = value.strip()
    return found


def test_the_text_part_tells_everything_there_is_to_know(zone):
    zone("UTC")
    day = f"{local_time(EVENT.time):%Y-%m-%d}"
    assert parts(mail_of())[0].replace(day, "DAY") == (
        "FAULT 303 - Storage appliance - DAY 22:13 +00:00\n"
        "\n"
        "at 80 %\n"
        "\n"
        f"{NAME}\n"
        f"{DESCRIPTION}\n"
        "https://192.0.2.7/others/event-codes?code=303\n"
        "\n"
        "Open event 42 on the device:\n"
        "https://192.0.2.7/history?code=303&from=DAY&to=DAY#event-42\n"
        "\n"
        f"Event:         303 {NAME}\n"
        "Type:          fault\n"
        "Time:          DAY 22:13:20 +00:00 (UTC)\n"
        "Source:        auditd\n"
        "Device:        Storage appliance\n"
        "Model:         SA-100\n"
        "Serial number: S-4711\n"
        "Host name:     nas\n"
        "Address:       192.0.2.7\n"
        "Event number:  42\n"
    )


def test_the_html_part_says_the_same_in_the_same_order():
    text, page = parts(mail_of())
    shown = " ".join(" ".join(Page(page).shown).split())
    places = [
        shown.index(value) for value in ("FAULT 303", "at 80 %", NAME, DESCRIPTION, "Open event 42 on the device")
    ]
    assert places == sorted(places)
    cells = re.findall(r"<th [^>]*>(.*?)</th><td [^>]*>(.*?)</td>", page)
    assert {label: re.sub("<.*?>", "", value) for label, value in cells} == rows(text)
    assert f'<a href="https://192.0.2.7/others/event-codes?code=303" style="color:inherit">303 {NAME}</a>' in page
    assert f"<title>[fault 303] Storage appliance: at 80 % ({NAME})</title>" in page


@pytest.mark.parametrize(
    ("url", "address", "link"),
    [
        ("https://nas.example", "192.0.2.7", "https://nas.example/history?"),
        ("http://127.0.0.1:8080/", "127.0.0.1", "http://127.0.0.1:8080/history?"),
        ("", "192.0.2.7", "https://192.0.2.7/history?"),
        ("", "2001:db8::7", "https://[2001:db8::7]/history?"),
        ("", "fe80::7%eth0", "https://[fe80::7]/history?"),
    ],
)
def test_both_parts_lead_to_the_event_on_the_device(url, address, link):
    text, page = parts(mail_of(device={**DEVICE, "url": url, "address": address}))
    assert f"\n{link}code=303&from=" in text
    assert f'href="{link}code=303&amp;from=' in page


def test_without_an_address_there_is_no_link():
    text, page = parts(mail_of(device={**DEVICE, "address": ""}))
    assert "Open event" not in text + page and "href" not in page


def test_the_preview_says_what_happened_first():
    page = parts(mail_of())[1]
    (preview,) = re.findall(r"<div style=\"display:none[^>]*>(.*?)</div>", page)
    assert preview == f"at 80 % - Storage appliance - {NAME} - {DESCRIPTION}"
    assert page.index(preview) < page.index("FAULT 303")


@pytest.mark.parametrize(("event_type", "colour"), [("fault", "#b42318"), ("info", "#475467")])
def test_a_word_and_a_colour_tell_the_type(event_type, colour):
    page = parts(mail_of(event_with(type=event_type)))[1]
    assert page.count(f'bgcolor="{colour}"') == 1
    assert f">{event_type.upper()} 303</h1>" in page


@pytest.mark.parametrize(
    ("missing", "label"), [("model", "Model"), ("serial", "Serial number"), ("address", "Address")]
)
def test_unknown_data_of_the_device_is_left_out(missing, label):
    text, page = parts(mail_of(device={**DEVICE, missing: ""}))
    assert label not in rows(text) and f">{label}<" not in page
    assert len(rows(text)) == 9


def test_an_event_without_text_and_source_is_a_mail_all_the_same():
    text = parts(mail_of(event_with(text="", source="")))[0]
    assert "Source" not in rows(text)
    assert f"\n\n{NAME}\n\n{DESCRIPTION}\nhttps://" in text


TABLE = "NAME    USED  AVAIL\ntank   9.94T   990G\n  sda      -      -"


def test_a_table_keeps_its_layout_in_both_parts():
    text, page = parts(mail_of(event_with(text=TABLE)))
    assert f"\n\n{TABLE}\n\n" in text
    assert (
        ">NAME&nbsp;&nbsp;&nbsp; USED&nbsp; AVAIL<br>tank&nbsp;&nbsp; 9.94T&nbsp;&nbsp; 990G<br>"
        "&nbsp; sda&nbsp;&nbsp;&nbsp;&nbsp;&nbsp; -&nbsp;&nbsp;&nbsp;&nbsp;&nbsp; -</td>" in page
    )
    assert len(re.findall("monospace", page)) == 1


def raw_text(page):
    """The HTML with the lines and blanks of its texts, as a mail program shows them."""
    return html.unescape(page.replace("<br>", "\n").replace("&nbsp;", " "))


@UNHURRIED
@given(text=TEXTS)
@example("From here\n.\n..\nFrom there\n")
@example("trailing blanks   \nand =3D signs =\n")
@example("x" * 4000)
@example("가" * 4000)
@example("a\u2028b\u0085c")
@example("$title ${text} $$ $")
def test_any_text_arrives_as_it_was_raised(text):
    text = clean(text, 4000)
    lines = re.sub(r"\A(?: *\n)+", "", text).rstrip()
    assume(lines)
    plain, page = parts(mail_of(event_with(text=text)))
    assert f"\n\n{lines}\n\n" in re.sub(r"(?<=\n\n)(?: *\n)+", "", plain) or f"\n\n{lines}\n\n" in plain
    for line in lines.split("\n"):
        assert line in raw_text(page)


@UNHURRIED
@given(value=PRINTABLE, field=st.sampled_from(["text", "source", "name", "model", "serial", "kind", "description"]))
@example("<script>alert(1)</script>", "text")
@example("</title><b>", "name")
@example("<b>&amp;\"'", "kind")
@example("<img src=x>", "description")
@example("$url ${content} $$", "text")
def test_nothing_typed_becomes_markup(value, field):
    event = event_with(**{field: value}) if field in ("text", "source") else EVENT
    device = {**DEVICE, field: value} if field in DEVICE else DEVICE
    kind = Kind("303", "fault", value if field == "kind" else NAME, value if field == "description" else "D.")
    page = Page(parts(mail_of(event, kind, device=device))[1])
    assert set(page.tags) <= TAGS
    assert (page.tags.count("meta"), page.tags.count("a"), page.tags.count("h1")) == (5, 2, 1)
    assert on_one_line(value) in on_one_line("".join(page.texts))


@pytest.mark.parametrize(
    ("code", "text", "subject", "told"),
    [
        ("901", "SMART error\nTo: root\n\nDevice: /dev/sda", "SMART error", "To: root\n\nDevice: /dev/sda"),
        ("901", "SMART error", "SMART error", "SMART error"),
        ("902", "Before: a\nNow: b", "Before: a Now: b (Mail server changed)", "Before: a\nNow: b"),
    ],
)
def test_an_event_that_an_earlier_version_accepted_is_mailed_under_its_id(code, text, subject, told):
    """Its text is as that version wrote it: recipients in the second line, and sentences that are finished."""
    raw = mail_of(event_with(code=code, text=text), OURS[code])
    assert read(parsed(raw)["Subject"]) == f"[fault {code}] Storage appliance: {subject}"
    assert parsed(raw)["Message-ID"] == "<42.0123456789abcdef@device-ui.internal>"
    assert f"\n\n{told}\n\n" in parts(raw)[0]


def test_a_line_that_begins_with_from_is_not_changed():
    kind = Kind("303", "fault", "From now on", "From here it is downhill.")
    assert "\nFrom here it is downhill.\n" in parts(mail_of(kind=kind))[0]
    assert b"\r\nFrom here it is downhill.\r\n" in mail_of(kind=kind)


def test_english_is_readable_in_the_raw_mail_and_korean_is_base64():
    assert b"\r\nSource:        auditd\r\n" in mail_of()
    encodings = [each["Content-Transfer-Encoding"] for each in parsed(mail_of(event_with(text="가"))).get_payload()]
    assert encodings == ["base64", "base64"]


def test_lines_inside_base64_end_in_crlf_as_well():
    for part in parsed(mail_of(event_with(text="가\n나"))).get_payload():
        assert re.search(rb"(?<!\r)\n|\r(?!\n)", part.get_payload(decode=True)) is None


# Time zones: the process's own, so each is tried in a process of its own.

ZONE_SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
from tests.mail.message import test_compose
raw = test_compose.mail_of()
print(test_compose.parsed(raw)["Date"])
print(test_compose.rows(test_compose.parts(raw)[0])["Time"])
"""


@pytest.mark.parametrize(
    ("zone", "date", "time"),
    [
        ("KST-9", "Wed, 15 Nov 2023 07:14:20 +0900", "2023-11-15 07:13:20 +09:00 (KST)"),
        ("EST5EDT,M3.2.0,M11.1.0", "Tue, 14 Nov 2023 17:14:20 -0500", "2023-11-14 17:13:20 -05:00 (EST)"),
        ("NZST-12NZDT,M9.5.0,M4.1.0/3", "Wed, 15 Nov 2023 11:14:20 +1300", "2023-11-15 11:13:20 +13:00 (NZDT)"),
        ("<+0545>-5:45", "Wed, 15 Nov 2023 03:59:20 +0545", "2023-11-15 03:58:20 +05:45 (+0545)"),
        ("UTC0", "Tue, 14 Nov 2023 22:14:20 +0000", "2023-11-14 22:13:20 +00:00 (UTC)"),
    ],
)
def test_times_are_in_the_devices_zone(zone, date, time):
    done = subprocess.run(
        [sys.executable, "-c", ZONE_SCRIPT, str(ROOT)],
        env={"TZ": zone, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.splitlines() == [date, time], done.stderr


def test_a_time_of_the_distant_future_can_be_shown():
    text = rows(parts(mail_of(event_with(time=timedelta(days=365.2425 * 8028).total_seconds())))[0])
    assert text["Time"].startswith("999")
