"""The history as a spreadsheet opens it: every cell as it was, none of them a formula."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_ui import csv_export
from device_ui.errors import HookError

HEAD = ["number", "time", "type", "code", "name", "source", "what became of it", "text", "mail", "deliveries"]
HEAD += ["sent again"]
DELIVERY = {"recipient": "a@b.cc", "verdict": "delivered", "step": "content", "reply": "250 ok", "time": "2026-11-23"}
EVENT = {
    "number": 1742,
    "time": "2026-11-23 14:03:22 +09:00 (KST)",
    "seconds": 1795400602.0,
    "type": "fault",
    "code": "303",
    "name": "Audit log space: minor threshold exceeded",
    "source": "auditd",
    "text": "98 %",
    "state": "delivered",
    "mail": 1740,
    "deliveries": [DELIVERY],
}


def read(raw: bytes) -> list[list[str]]:
    """The rows as Python's reader of RFC 4180 sees them."""
    return list(csv.reader(io.StringIO(raw.decode("utf-8-sig"), newline=""), strict=True))


def written(*events: dict[str, object]) -> bytes:
    """The file of a whole answer."""
    return b"".join(csv_export.rows([*({"event": each} for each in events), {"end": {}}]))


def cell(text: str) -> str:
    """What a cell with this text reads back as."""
    return read(csv_export.row([text]))[0][0]


def test_a_file_has_a_head_and_a_row_for_each_event():
    assert read(written(EVENT)) == [
        HEAD,
        [
            "1742",
            "2026-11-23 14:03:22 +09:00 (KST)",
            "fault",
            "303",
            "Audit log space: minor threshold exceeded",
            "auditd",
            "delivered",
            "98 %",
            "1740",
            "a@b.cc: delivered, “250 ok”, 2026-11-23",
            "",
        ],
    ]


def test_a_file_without_events_has_its_head():
    assert read(written()) == [HEAD]


def test_a_file_begins_with_a_byte_order_mark_and_its_lines_end_in_crlf():
    raw = written(EVENT)
    assert raw.startswith(b"\xef\xbb\xbf")
    assert raw.count(b"\r\n") == raw.count(b"\n") == 2


def test_an_undecided_event_has_no_mail():
    assert read(written({**EVENT, "mail": 0}))[1][8] == ""


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        'he said "no"',
        "a,b",
        "a;b",
        "a\nb",
        "\r",
        "x\r\ny",
        "경보 😀",
        "'quoted'",
        " =1+1",
        "a=b",
        "1,5",
        '"',
        '""',
        '",',
    ],
)
def test_a_cell_reads_back_as_it_was(text):
    assert cell("x" + text) == "x" + text


@pytest.mark.parametrize(
    "text",
    [
        "=1+1",
        "=cmd|' /C calc'!A0",
        "+1",
        "-1+1",
        "@SUM(1)",
        "\t=1",
        "\r=1",
        "\n=1",
        '=HYPERLINK("http://x.yy","z")',
        "-",
        "＝1+1",
        "＋1",
        "－1",
        "＠x",
    ],
)
def test_no_cell_is_a_formula(text):
    assert cell(text) == "'" + text


@pytest.mark.parametrize("name", ["name", "source", "text", "code"])
def test_no_column_lets_a_formula_through(name):
    row = read(written({**EVENT, name: "=1+1"}))[1]
    assert "'=1+1" in row
    assert [each for each in row if each.startswith("=")] == []


def test_a_recipient_cannot_make_a_formula():
    assert read(written({**EVENT, "deliveries": [{**DELIVERY, "recipient": "=1+1@b.cc"}]}))[1][9].startswith(
        "'=1+1@b.cc"
    )


@given(st.lists(st.text(st.characters(exclude_categories=("Cs",))), min_size=1, max_size=10))
def test_any_row_reads_back(texts):
    starts = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
    assert read(csv_export.row(texts)) == [[f"'{each}" if each.startswith(starts) else each for each in texts]]


def test_half_a_character_is_replaced():
    assert csv_export.row(["a\ud800"]) == b'"a?"\r\n'


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, "a@b.cc: delivered, “250 ok”, 2026-11-23"),
        (
            {"verdict": "refused", "step": "recipient", "reply": "550 no"},
            "a@b.cc: refused at recipient, “550 no”, 2026-11-23",
        ),
        ({"verdict": "waiting", "step": "connect", "reply": "", "time": ""}, "a@b.cc: waiting at connect"),
        (
            {"recipient": "", "verdict": "waiting", "step": "connect", "time": "", "reply": "x"},
            "waiting at connect, “x”",
        ),
        (
            {"recipient": "", "verdict": "dropped", "step": "connect", "reply": "x"},
            "dropped at connect, “x”, 2026-11-23",
        ),
        ({"step": ""}, "a@b.cc: delivered, “250 ok”, 2026-11-23"),
    ],
)
def test_a_delivery_is_told(changes, told):
    assert csv_export.ends({"deliveries": [{**DELIVERY, **changes}]}) == [told]


def test_what_waits_for_nobody_in_particular_and_was_not_tried_is_not_told():
    waiting = {"recipient": "", "verdict": "waiting", "step": "connect", "reply": "", "time": ""}
    assert csv_export.ends({"deliveries": [waiting, DELIVERY]}) == ["a@b.cc: delivered, “250 ok”, 2026-11-23"]


def test_several_deliveries_share_a_cell():
    two = {**DELIVERY, "recipient": "c@d.ee", "verdict": "refused", "step": "recipient", "reply": "550 no"}
    assert read(written({**EVENT, "deliveries": [DELIVERY, two]}))[1][9] == (
        "a@b.cc: delivered, “250 ok”, 2026-11-23; c@d.ee: refused at recipient, “550 no”, 2026-11-23"
    )


def test_reply_does_not_pass_for_the_result_of_another_recipient():
    reply = "550 no”, 2026-11-23; duty@d.ee: delivered, “250 queued"
    two = [{**DELIVERY, "verdict": "refused", "step": "recipient", "reply": reply}, {**DELIVERY, "recipient": "c@d.ee"}]
    action = {"action": "send again", "number": 5, "source": reply, "time": "2026-11-24", "waiting": False}
    row = read(written({**EVENT, "deliveries": two, "again": [{**action, "deliveries": two}]}))[1]
    refused = "a@b.cc: refused at recipient, “550 no', 2026-11-23, duty@d.ee: delivered, '250 queued”, 2026-11-23"
    assert row[9].split("; ") == [refused, "c@d.ee: delivered, “250 ok”, 2026-11-23"]
    assert [each.endswith("duty@d.ee: delivered, 250 queued") for each in row[10].split("; ")] == [False, False]


def test_a_file_that_breaks_off_says_so_in_its_last_row_and_the_error_comes_through():
    def lines():
        yield {"event": EVENT}
        raise HookError("down", "the mail hook does not answer: timed out")

    found = []
    with pytest.raises(HookError):
        for each in csv_export.rows(lines()):
            found.append(each)
    table = read(b"".join(found))
    assert table[2] == [
        "THIS FILE IS NOT COMPLETE. The mail hook does not answer: timed out.",
        *[""] * 10,
    ]
