"""The catalogue of events: every code of the device, and a maker's own that is read or refused by name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from device_ui.errors import MakerFile
from device_ui.mail import catalog
from device_ui.mail.catalog import Kind
from tests.helpers.product import ROOT

# Code, type, and what the name must tell.
LISTED = [
    ("050", "info", "app allowed.*registered"),
    ("051", "info", "app allowed.*(removed|deleted)"),
    ("052", "info", "network drive.* mounted"),
    ("053", "info", "network drive.*unmounted"),
    ("054", "info", "server login.*succeeded"),
    ("055", "info", "server logout.*succeeded"),
    ("056", "fault", "server login.*failed"),
    ("057", "info", "admin two-factor.*set up"),
    ("058", "fault", "server access.*blocked"),
    ("101", "info", "admin console: login"),
    ("102", "info", "admin console: logout"),
    ("103", "info", "session ended.*idle"),
    ("104", "info", "session ended.*second login"),
    ("105", "fault", "admin console.*login attempt failed"),
    ("106", "fault", "admin console.*account locked"),
    ("107", "info", "account.*unlocked"),
    ("108", "info", "admin.*created"),
    ("109", "info", "admin.*updated"),
    ("110", "info", "admin.*two-factor.*reset"),
    ("111", "info", "admin.*deleted"),
    ("112", "info", "device.*registered"),
    ("113", "info", "device.*updated"),
    ("114", "info", "device.*deleted"),
    ("115", "info", "admin.*password changed"),
    ("117", "info", "admin console.*two-factor.*set up"),
    ("118", "info", "device admin.*added"),
    ("119", "info", "device admin.*deleted"),
    ("120", "info", "client package.*uploaded"),
    ("121", "info", "client package.*downloaded"),
    ("122", "info", "client package.*changed"),
    ("123", "info", "client package.*removed"),
    ("130", "info", "license key.*changed"),
    ("131", "info", "license key.*sync"),
    ("132", "fault", "license key.*expired"),
    ("133", "fault", "admin console.*attempt.*invalid source"),
    ("134", "info", "account.*unlocked after its lock time"),
    ("142", "fault", "access attempt.*unregistered"),
    ("143", "info", "duplicate login.*cancelled"),
    ("144", "fault", "authentication information.*used again"),
    ("152", "info", "server process.*started"),
    ("153", "info", "mail notification.*succeeded"),
    ("165", "info", "account.*unlocked after its lock time"),
    ("169", "fault", "server process.*stopped"),
    ("170", "fault", "client account.*locked"),
    ("201", "fault", "file access.*app.*not allowed"),
    ("303", "fault", "^Audit log space: minor threshold exceeded$"),
    ("304", "fault", "^Audit log space: major threshold exceeded$"),
    ("305", "fault", "^Audit log space: maximum exceeded$"),
    ("306", "fault", "mail notification.*failed"),
]
NEVER_MAILED = {"153", "306", "902", "904"}
OURS = ("153", "306", "901", "902", "903", "904", "905", "906")


@pytest.mark.parametrize(("code", "type_", "sense"), LISTED)
def test_a_code_of_the_device_has_its_type_and_its_sense(code, type_, sense):
    kind = catalog.built_in()[code]
    assert (kind.code, kind.type) == (code, type_)
    assert re.search(sense, kind.name, re.IGNORECASE)


def test_the_catalogue_holds_these_codes_and_no_other():
    assert sorted(catalog.built_in().kinds) == [
        *(code for code, _, _ in LISTED),
        "901",
        "902",
        "903",
        "904",
        "905",
        "906",
    ]


def test_mail_about_mail_is_never_sent():
    assert {code for code, kind in catalog.built_in().kinds.items() if not kind.mail} == NEVER_MAILED


def test_no_two_codes_share_a_name():
    names = [kind.name for kind in catalog.built_in().kinds.values()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("kind", catalog.built_in().kinds.values(), ids=lambda kind: kind.code)
def test_a_description_is_a_sentence_of_its_own(kind):
    assert kind.description.endswith(".") and kind.description[0].isupper()
    assert kind.name not in kind.description


@pytest.mark.parametrize("code", ["000", "116", "999"])
def test_an_unlisted_code_is_a_fault_that_is_mailed(code):
    kind = catalog.built_in()[code]
    assert (kind.code, kind.type, kind.name, kind.mail) == (code, "fault", "Unknown event", True)
    assert kind.description == "The firmware raised an event that the catalogue of this device does not list."


# A maker's own.

OWN = """
[700]
type = "info"
name = "문이 열렸습니다"
description = "Somebody opened the door."

[701]
type = "fault"
name = "Fan: stopped"
description = "A fan has stopped."
mail = false
"""


def own(tmp_path, text):
    """An etc folder with this ``events.toml``."""
    (tmp_path / "events.toml").write_text(text, encoding="utf-8")
    return tmp_path


def test_without_a_file_the_built_in_catalogue_serves(tmp_path):
    assert catalog.load(tmp_path).kinds == catalog.built_in().kinds


def test_without_a_folder_the_built_in_catalogue_serves(tmp_path):
    assert catalog.load(tmp_path / "none").kinds == catalog.built_in().kinds


def test_a_makers_catalogue_takes_the_place_of_the_built_in_one(tmp_path):
    assert catalog.load(own(tmp_path, OWN)).kinds == {
        "700": Kind("700", "info", "문이 열렸습니다", "Somebody opened the door.", True),
        "701": Kind("701", "fault", "Fan: stopped", "A fan has stopped.", False),
        **{code: catalog.built_in()[code] for code in OURS},
    }


@pytest.mark.parametrize("mail", ["", "mail = true\n"], ids=["unsaid", "true"])
@pytest.mark.parametrize("code", sorted(NEVER_MAILED))
def test_no_makers_catalogue_makes_mail_about_mail(tmp_path, code, mail):
    kind = catalog.load(own(tmp_path, table(code) + mail))[code]
    assert (kind.name, kind.description, kind.mail) == ("Door", "It opened.", False)


def test_a_maker_decides_the_type_of_what_the_firmware_raises_and_no_other(tmp_path):
    text = "".join(table(code, type='"fault"' if code in ("153", "902", "905") else '"info"') for code in OURS)
    found = catalog.load(own(tmp_path, text))
    assert [found[code].type for code in OURS] == ["fault", "info", "info", "info", "fault", "fault", "info", "fault"]


@pytest.mark.parametrize(("code", "type_"), [("903", "fault"), ("905", "info"), ("906", "fault")])
def test_no_makers_catalogue_keeps_a_mail_of_the_device_itself_from_being_sent(tmp_path, code, type_):
    kind = catalog.load(own(tmp_path, table(code) + "mail = false\n"))[code]
    assert (kind.name, kind.type, kind.mail) == ("Door", type_, True)


def test_the_makers_manual_has_no_catalogue_that_mails_about_mail():
    text = (ROOT / "docs/appliance.md").read_text()
    example = re.search(r"```toml\n# /etc/device-ui/events.toml\n(.*?)```", text, re.DOTALL)
    found = catalog.parse(Path("events.toml"), example[1])
    assert (found["153"].mail, found["306"].mail, found["703"].mail) == (False, False, True)


def test_an_empty_catalogue_makes_every_event_an_unknown_one(tmp_path):
    assert catalog.load(own(tmp_path, ""))["303"].name == "Unknown event"


GOOD = {"type": '"info"', "name": '"Door"', "description": '"It opened."'}


def table(code="700", **changes):
    """A table of `GOOD` with changes; None leaves a line out."""
    lines = [f"{name} = {value}" for name, value in {**GOOD, **changes}.items() if value is not None]
    return "\n".join([f"[{code}]", *lines, ""])


FIELDS = "only type, name, description and mail are known"
NAME = "name must be 1 to 100 printable characters on one line"
DESCRIPTION = "description must be 1 to 1000 printable characters on one line"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (table("70"), "[70]: a code has three digits"),
        (table("7000"), "[7000]: a code has three digits"),
        (table("70a"), "[70a]: a code has three digits"),
        (table('"٧٠٠"'), "[٧٠٠]: a code has three digits"),
        (table('"700\\n"'), "[700?]: a code has three digits"),
        ("700 = 1\n", f"[700]: {FIELDS}"),
        (table(colour='"red"'), f"[700]: {FIELDS}"),
        (table() + 'code = "700"\n', f"[700]: {FIELDS}"),
        (table("x"), "[x]: a code has three digits"),
        (table() + "[700.more]\nx = 1\n", f"[700]: {FIELDS}"),
        ("[[700]]\n", f"[700]: {FIELDS}"),
        (table(type=None), "[700]: type must be info or fault"),
        (table(type='"warning"'), "[700]: type must be info or fault"),
        (table(type='"Info"'), "[700]: type must be info or fault"),
        (table(type="1"), "[700]: type must be info or fault"),
        (table(type='["info"]'), "[700]: type must be info or fault"),
        (table(mail='"no"'), "[700]: mail must be true or false"),
        (table(mail="0"), "[700]: mail must be true or false"),
        (table(name=None), f"[700]: {NAME}"),
        (table(name="700"), f"[700]: {NAME}"),
        (table(name='""'), f"[700]: {NAME}"),
        (table(name=f'"{"x" * 101}"'), f"[700]: {NAME}"),
        (table(name='"a\\nBcc: x@y.zz"'), f"[700]: {NAME}"),
        (table(name='"a\\u2028b"'), f"[700]: {NAME}"),
        (table(description=None), f"[700]: {DESCRIPTION}"),
        (table(description='""'), f"[700]: {DESCRIPTION}"),
        (table(description=f'"{"x" * 1001}"'), f"[700]: {DESCRIPTION}"),
        (table(description='"""a\nb"""'), f"[700]: {DESCRIPTION}"),
        (table() + table("701", type='"x"'), "[701]: type must be info or fault"),
    ],
)
def test_an_error_in_a_makers_catalogue_is_named(text, reason, tmp_path):
    with pytest.raises(MakerFile) as caught:
        catalog.load(own(tmp_path, text))
    assert re.sub(r" \(at line [0-9]+, column [0-9]+\)$", "", caught.value.reason) == reason
    assert str(caught.value) == f"{tmp_path / 'events.toml'}: {caught.value.reason}"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('[700]\ntype = "infos"\n', "line 2, column 1"),
        ('# first\n\n  ["700"]\n\t type = "infos"\n', "line 4, column 3"),
        ("[ '700' ]\n", "line 1, column 1"),
        (table() + "[701]\ntype = 'info'\nname = ''\ndescription = 'x'\n", "line 7, column 1"),
        (table() + "[70]\n", "line 5, column 1"),
        (table() + "[701]\nname = 'x'\n" + table("702"), "line 5, column 1"),
        ("\n701 = 1\n", "line 2, column 1"),
        ("[700]\ncolour = 1\n", "line 2, column 1"),
        ('["가"]\n', "line 1, column 1"),
    ],
)
def test_an_error_in_a_makers_catalogue_has_its_line_and_column(text, place, tmp_path):
    with pytest.raises(MakerFile) as caught:
        catalog.load(own(tmp_path, text))
    assert caught.value.reason.endswith(f" (at {place})")


def test_a_spelling_that_cannot_be_found_again_is_told_without_a_place(tmp_path):
    with pytest.raises(MakerFile) as caught:
        catalog.load(own(tmp_path, '["\\u0037" ]\n'))
    assert caught.value.reason == "[7]: a code has three digits"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (table() + table(), "line 5"),
        ('[700]\ntype = "info"\ntype = "fault"\n', "line 3"),
        ("[700\n", "line 1"),
        ("x", "end"),
    ],
)
def test_broken_toml_is_told_with_its_line(text, line, tmp_path):
    with pytest.raises(MakerFile) as caught:
        catalog.load(own(tmp_path, text))
    assert line in caught.value.reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("x = " + "[" * 5000, "it is nested too deeply"),
        ("x = " + "9" * 5000, "Exceeds the limit (4300 digits) for integer"),
        ('["a\\u001bb"]', "[a?b]: a code has three digits"),
    ],
    ids=["deep", "long", "unprintable"],
)
def test_a_file_that_no_person_wrote_is_told_in_one_line_too(text, reason, tmp_path):
    with pytest.raises(MakerFile, match=f"^[^\n\x1b]*: {re.escape(reason)}"):
        catalog.load(own(tmp_path, text))


def test_names_of_the_greatest_length_are_taken(tmp_path):
    text = table(name=f'"{"가" * 100}"', description=f'"{"나" * 1000}"', mail="true")
    assert catalog.load(own(tmp_path, text))["700"].mail


def test_a_file_that_is_not_utf_8_is_told(tmp_path):
    (tmp_path / "events.toml").write_bytes(b'[700]\nname = "\xff"\n')
    with pytest.raises(MakerFile) as caught:
        catalog.load(tmp_path)
    assert caught.value.reason == "it is not UTF-8"


def test_a_file_that_cannot_be_read_is_told(tmp_path):
    (tmp_path / "events.toml").mkdir()
    with pytest.raises(MakerFile) as caught:
        catalog.load(tmp_path)
    assert caught.value.reason == "Is a directory"


def test_a_folder_that_cannot_be_looked_into_is_told(tmp_path):
    with pytest.raises(MakerFile) as caught:
        catalog.load(tmp_path / ("x" * 300))
    assert caught.value.reason == "File name too long"


def test_a_link_that_leads_nowhere_is_told(tmp_path):
    (tmp_path / "events.toml").symlink_to(tmp_path / "none")
    with pytest.raises(MakerFile) as caught:
        catalog.load(tmp_path)
    assert caught.value.reason == "No such file or directory"
