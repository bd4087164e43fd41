"""A message is shown in the reader's language, with its values as they are; English is the key."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from device_ui.errors import Damaged, MakerFile, Message, NotStored, Sentence, from_json, to_json
from device_ui.i18n import po_file
from device_ui.i18n.translator import PLAIN, Translator, accepted, load, translator_for

GERMAN = Translator(
    "de", {"{who} was removed.": "{who} wurde entfernt.", "faults only": "nur Fehler", "gets {what}": "bekommt {what}"}
)


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ("", "en"),
        ("ko", "ko"),
        ("ko-KR,ko;q=0.9,en-US;q=0.8,en;q=0.7", "ko"),
        ("en-US,en;q=0.9,ko;q=0.8", "en"),
        ("de, KO ; q=0.5", "ko"),
        ("de-DE,de;q=0.9", "en"),
        ("ko;q=0, en;q=0.1", "en"),
        ("ko;q=0", "en"),
        ("*", "en"),
        ("ko;q=2, ko;q=-1, ko;q=x", "en"),
        ("ko" * 10_000, "en"),
    ],
)
def test_the_browser_says_which_language(header, code):
    assert accepted(header, "en") == code


def test_what_no_language_of_ours_is_asked_for_gets_the_makers():
    assert accepted("de", "ko") == "ko"


def test_text_is_its_own_key():
    assert (PLAIN("faults only"), GERMAN("faults only"), GERMAN("550 no")) == ("faults only", "nur Fehler", "550 no")


def test_message_is_translated_and_then_filled():
    message = Message("{who} was removed.", who="a@b.cc")
    assert (PLAIN(message), GERMAN(message), str(message)) == (
        "a@b.cc was removed.",
        "a@b.cc wurde entfernt.",
        "a@b.cc was removed.",
    )


def test_values_can_be_given_with_a_text():
    assert GERMAN("{who} was removed.", who="a@b.cc") == "a@b.cc wurde entfernt."


def test_message_within_a_message_is_translated_and_a_text_is_not():
    assert GERMAN("gets {what}", what=Message("faults only")) == "bekommt nur Fehler"
    assert GERMAN("gets {what}", what="faults only") == "bekommt faults only"


@pytest.mark.parametrize("value", ["{who}", "{0.__class__}", "{", "}", "{who!r}", "\\1"])
def test_value_is_not_searched_for_places(value):
    assert GERMAN("{who} was removed.", who=value) == f"{value} wurde entfernt."


@pytest.mark.parametrize("template", ["{who.real} {who!r} {who:>9} {} {0} { }", "no place", "{other}"])
def test_brace_that_is_no_place_stays_as_it_is(template):
    assert PLAIN(template, who="a@b.cc") == template


@pytest.mark.parametrize("said", ["550 5.1.1 a@b.cc gets faults only.", "x is damaged: " * 2000, ""])
def test_answer_of_a_mail_server_stays_as_it_is(said):
    assert load("ko")(said) == said


def test_error_is_a_sentence_in_each_language():
    error = NotStored(Path("/data/smtp.toml"), OSError(28, "No space left on device"))
    assert str(error) == "smtp.toml could not be stored: No space left on device"
    assert PLAIN(error.sentence) == "The file smtp.toml could not be stored: No space left on device."
    assert load("ko")(error.sentence) == "파일 smtp.toml: 저장할 수 없습니다(장치에 남은 공간이 없습니다)."


def test_reason_within_a_sentence_is_translated_too():
    message = Message("Nothing was saved. {reason} The settings are as before.", reason=Sentence("it is empty"))
    assert str(message) == "Nothing was saved. It is empty. The settings are as before."
    assert load("ko")(message) == "저장되지 않았습니다. 비어 있습니다. 설정은 이전과 같습니다."


def test_message_crosses_the_socket_of_the_hook_whole():
    error = Damaged(Path("smtp.toml"), Message("{name} breaks its rule", name="port"))
    line = json.dumps({"reply": error.message, "waiting": 3}, default=to_json)
    assert json.loads(line, object_hook=from_json) == {"reply": error.message, "waiting": 3}


@pytest.mark.parametrize("value", [{"template": 1, "values": {}}, {"template": "x"}, {"template": "x", "values": []}])
def test_other_object_is_no_message(value):
    assert from_json(value) == value


def test_value_that_is_no_message_is_no_json():
    with pytest.raises(TypeError):
        json.dumps({"path": Path("x")}, default=to_json)


def test_the_maker_names_his_own_events(tmp_path):
    (tmp_path / "ko.toml").write_text('"Fan: stopped" = "팬 정지"\n"Saved." = "저장 완료."\n')
    words = load("ko", tmp_path)
    assert (words("Fan: stopped"), words("Saved."), words("Undo")) == ("팬 정지", "저장 완료.", "실행 취소")


def test_wrong_file_of_the_maker_is_logged_once_and_not_used(tmp_path, caplog):
    (tmp_path / "ko.toml").write_text('"Saved." = 1')
    first = translator_for("ko", tmp_path)
    (tmp_path / "ko.toml").write_text('"Saved." = "저장 완료."')
    assert translator_for("ko", tmp_path) is first and first("Saved.") == "저장되었습니다."
    assert [each.partition(":")[0] for each in caplog.messages] == ["maker's sentences not used"]


@pytest.mark.parametrize("translation", ["", "{minutes}", "{seconds.real}", "{seconds!r}", "{seconds} {minutes}"])
def test_translation_of_the_maker_needs_the_same_places(tmp_path, translation):
    (tmp_path / "ko.toml").write_text(f'"Too many attempts. Please wait {{seconds}} s." = "{translation}"')
    with pytest.raises(MakerFile, match="needs a text with the same places in braces"):
        load("ko", tmp_path)


@pytest.mark.parametrize("english", ["Fan {1}: stopped", "Fan {: stopped"])
def test_name_of_the_maker_may_hold_braces(tmp_path, english):
    (tmp_path / "ko.toml").write_text(f'"{english}" = "팬 {{: 정지"')
    assert load("ko", tmp_path)(english) == "팬 {: 정지"


@pytest.mark.parametrize("text", ['"Saved." = 1', '"{count} infos" = "x"', "no TOML", '[section]\n"a" = "b"'])
def test_wrong_file_of_the_maker_is_named(tmp_path, text):
    (tmp_path / "ko.toml").write_text(text)
    with pytest.raises(MakerFile, match=r"ko\.toml: "):
        load("ko", tmp_path)


CATALOGUE = r"""# A translator's comment.
msgid ""
msgstr ""
"Language: de\n"
"X-Language-Name: Deutsch\n"

#. a comment of a tool
#: device_ui/web/pages/smtp.py:1
#, python-brace-format
msgid "{who} was \"removed\"."
msgstr "{who} wurde „entfernt“."

#, python-brace-format, fuzzy
#| msgid "before"
msgid "{count} events"
msgstr "{count} Ereignis"

msgid ""
"two"
"\nlines"
msgstr ""
"zwei\n"
"Zeilen"
msgid "without translation"
msgstr ""

#, fuzzy
#~ msgid "gone"
#~ msgstr "weg"

msgid "last"
msgstr "zuletzt"
"""


def test_catalogue_is_read_as_a_translators_tool_writes_it():
    assert dict(po_file.entries(CATALOGUE.splitlines())) == {
        "": "Language: de\nX-Language-Name: Deutsch\n",
        '{who} was "removed".': "{who} wurde „entfernt“.",
        "two\nlines": "zwei\nZeilen",
        "last": "zuletzt",
    }


@pytest.mark.parametrize(
    "line", ["msgid x", "msgid", 'msgctxt "menu"', 'msgid_plural "x"', "text", 'msgstr "x', "msgid 1"]
)
def test_line_that_is_none_of_a_catalogue_is_named(line):
    with pytest.raises(ValueError, match="^line 3 "):
        list(po_file.entries(['msgid "a"', 'msgstr "b"', line]))
