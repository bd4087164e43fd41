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

from device_ui.mail.catalog import Kind
from device_ui.mail.events import Event
from device_ui.mail.ipc.requests import clean
from device_ui.mail.message.compose import Envelope, compose, message_id
from device_ui.settings import rules
from device_ui.settings.fields import SmtpSettings
from tests.helpers.product import ROOT

ACCOUNT = "lamp@example.test"
LEDGER = "0123456789abcdef"
NAME, DESCRIPTION = "Audit log space: minor threshold exceeded", "The audit log has filled more than it may."
KIND = Kind("303", "fault", NAME, DESCRIPTION)
DEVICE = {"name": "Storage appliance", "model": "SA-100", "serial": "S-4711", "address": "192.0.2.7"}
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


class Page(html.parser.HTMLParser):
    """The texts of an HTML page, and its tags."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.cells, self.texts = [], [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag == "td":
            self.cells.append("")
        elif tag == "br":
            self.cells[-1] += ""

    def handle_data(self, data):
        self.texts.append(data)
        if self.cells and "td" in self.tags:
            self.cells[-1] += data


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


HEADERS = ["Auto-Submitted", "Content-Type", "Date", "From", "MIME-Version", "Message-ID", "Subject", "To"]


@UNHURRIED
@given(name=NAMES, text=TEXTS, source=SOURCES, device=PRINTABLE)
@example("a\u2028Bcc: x@y.zz", "\n\nBcc: x@y.zz\n\n.\n", "a\u2028Bcc: x@y.zz", "Bcc: x")
def test_nothing_typed_adds_a_header_or_a_part(name, text, source, device):
    raw = mail_of(event_with(text=text, source=source), sender_name=name, device={**DEVICE, "name": device})
    mail = parsed(raw)
    assert sorted(mail.keys()) == HEADERS
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
    assert b"=?utf-8?" in raw and all(len(word) <= 75 for word in re.findall(rb"=\?utf-8\?[bqBQ]\?[^?]*\?=", raw))


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


@UNHURRIED
@given(device=PRINTABLE, name=PRINTABLE)
@example("홍길동의 저장 장치 " * 9, "감사 로그 " * 15)
@example("=?utf-8?q?x?=", "?=")
def test_the_subject_has_type_code_name_and_device(device, name):
    kind = Kind("303", "fault", name, DESCRIPTION)
    mail = parsed(mail_of(kind=kind, device={**DEVICE, "name": device}))
    assert read(mail["Subject"]) == f"[fault 303] {name} · {device}"


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


# Content.


def rows(text):
    """The labels and values of the text part; a value's later lines are indented."""
    found = {}
    for line in text.split("\n\n", 2)[2].rstrip("\n").split("\n"):
        label, _, value = line.partition(": ")
        found[label] = value.strip()
    return found


def test_the_text_part_tells_everything_there_is_to_know():
    assert parts(mail_of())[0] == (
        f"{NAME}\n"
        "\n"
        f"{DESCRIPTION}\n"
        "\n"
        f"Event:         303 {NAME}\n"
        "Type:          fault\n"
        "Time:          2023-11-14 22:13:20 +00:00 (UTC)\n"
        "Source:        auditd\n"
        "Text:          at 80 %\n"
        "Device:        Storage appliance\n"
        "Model:         SA-100\n"
        "Serial number: S-4711\n"
        "Address:       192.0.2.7\n"
        "Event number:  42\n"
    )


def test_the_html_part_says_the_same():
    page = parts(mail_of())[1]
    text = rows(parts(mail_of())[0])
    assert re.findall(r'<tr><th align="left" valign="top">(.*?)</th><td>(.*?)</td></tr>', page) == list(text.items())
    assert f"<h1>{NAME}</h1>\n<p>{DESCRIPTION}</p>" in page
    assert f"<title>[fault 303] {NAME} · Storage appliance</title>" in page


@pytest.mark.parametrize(
    ("missing", "label"), [("model", "Model"), ("serial", "Serial number"), ("address", "Address")]
)
def test_unknown_data_of_the_device_is_left_out(missing, label):
    text, page = parts(mail_of(device={**DEVICE, missing: ""}))
    assert label not in rows(text) and f">{label}<" not in page
    assert len(rows(text)) == 9


def test_an_event_without_text_and_source_is_a_mail_all_the_same():
    text = rows(parts(mail_of(event_with(text="", source="")))[0])
    assert "Text" not in text and "Source" not in text


def test_lines_of_a_text_stay_lines_in_both_parts():
    text, page = parts(mail_of(event_with(text="first\nsecond: x\n\nthird")))
    assert "Text:          first\n               second: x\n               \n               third\n" in text
    assert "<td>first<br>\nsecond: x<br>\n<br>\nthird</td>" in page


@UNHURRIED
@given(text=TEXTS)
@example("From here\n.\n..\nFrom there\n")
@example("trailing blanks   \nand =3D signs =\n")
@example("x" * 4000)
@example("가" * 4000)
@example("a\u2028b\u0085c")
def test_any_text_arrives_as_it_was_raised(text):
    assume(text.strip("\n"))
    text = clean(text, 4000)
    plain, page = parts(mail_of(event_with(text=text)))
    assert text.replace("\n", "\n" + " " * 15) in plain
    assert text in html.unescape(page.replace("<br>\n", "\n"))


@UNHURRIED
@given(value=PRINTABLE, field=st.sampled_from(["text", "source", "name", "model", "serial", "kind", "description"]))
@example("<script>alert(1)</script>", "text")
@example("</title><b>", "name")
@example("<b>&amp;\"'", "kind")
@example("<img src=x>", "description")
def test_nothing_typed_becomes_markup(value, field):
    event = event_with(**{field: value}) if field in ("text", "source") else EVENT
    device = {**DEVICE, field: value} if field in DEVICE else DEVICE
    changes = {"kind": value, "description": value}
    kind = Kind("303", "fault", changes["kind"] if field == "kind" else NAME, value if field == "description" else "D.")
    page = Page(parts(mail_of(event, kind, device=device))[1])
    rest = [tag for tag in page.tags if tag not in ("tr", "th", "td")]
    assert rest == ["html", "head", "meta", "title", "body", "h1", "p", "table"]
    assert value in "".join(page.texts)


def test_a_line_that_begins_with_from_is_not_changed():
    kind = Kind("303", "fault", "From now on", "From here it is downhill.")
    assert "\nFrom here it is downhill.\n" in parts(mail_of(kind=kind))[0]
    assert b"\r\nFrom here it is downhill.\r\n" in mail_of(kind=kind)


def test_english_is_readable_in_the_raw_mail_and_korean_is_base64():
    assert b"\r\nText:          at 80 %\r\n" in mail_of()
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
