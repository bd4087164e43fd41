"""Every sentence that a page can show is there in every language, and nothing else is; English stays to the letter."""

from __future__ import annotations

import ast
import errno
import http.client
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from device_ui.errors import MakerFile
from device_ui.i18n import ko
from device_ui.i18n.translator import ENGLISH, LANGUAGES, PLACE, PLAIN, Translator, accepted, load, spoken
from device_ui.mail import catalog
from device_ui.mail.delivery import test_mail
from device_ui.mail.message import compose
from device_ui.mail.smtp import advice
from device_ui.settings import recipients
from device_ui.settings.fields import FIELDS
from tests.helpers.product import ROOT

# Modules whose sentences reach a page, besides the tables that are walked by name.
SHOWN = (
    "errors.py",
    "storage/toml_file.py",
    "settings/rules.py",
    "settings/fields.py",
    "settings/recipients.py",
    "mail/delivery/server_change.py",
    "mail/smtp/advice.py",
    "mail/smtp/connection.py",
    "mail/smtp/connect.py",
    "web/auth/administrator.py",
    "web/forms.py",
    "web/auth/guard.py",
    "web/context.py",
    "web/unavailable.py",
    "web/pages/login.py",
    "web/pages/history.py",
    "web/pages/language.py",
    "web/pages/event_codes.py",
    "web/pages/recipients.py",
    "web/pages/smtp.py",
    "web/pages/test_mail.py",
)
STATUSES = (400, 403, 404, 405, 413, 415, 421, 422, 500, 503)
# Sentences that are put together of several texts of the source, and those of the system, of bottle and of HTTP.
FOREIGN = {
    "{host} port {port}, after {failed}",
    "{host} port {port}; not used, since it is this device itself: {own}",
    "refused at {step}",
    "dropped at {step}",
    "waiting at {step}",
    "before {told} (the device's clock was not set)",
    "not known (the device's clock was not set)",
    "time not known (the device's clock was not set)",
    "the mail hook does not answer: {error}",
    "Method not allowed.",
    *(
        os.strerror(each)
        for each in (errno.ENOENT, errno.EACCES, errno.ENOSPC, errno.EROFS, errno.EIO, errno.ECONNREFUSED)
    ),
    # Python 3.13 calls them as RFC 9110 does.
    *("413 Request Entity Too Large", "422 Unprocessable Entity", "413 Content Too Large", "422 Unprocessable Content"),
    *(f"{code} {http.client.responses[code]}" for code in STATUSES),
}
# Two words with a blank between them: prose, and not a key or a pattern.
PROSE = re.compile(r"[A-Za-z’'“]{2,}[,:;.)”]* [a-zA-Z{(]")
# In those modules, and never on a page.
UNSEEN = re.compile(
    r"attachment;|<!doctype|text/|default-src|Accept-Language, |<time |device-ui: |a login that came too|a (request|form) (for|of) another|, after |; not used, |port or security"
)


def spelt(node: ast.AST) -> str:
    """A text of the source as the language's file spells it: a value is a place with its name."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(
            spelt(each) if isinstance(each, ast.Constant) else f"{{{named(each.value)}}}" for each in node.values
        )  # type: ignore[attr-defined]
    return ""


def named(node: ast.AST) -> str:
    """What a value in an f-string is called: the last word of it."""
    match node:
        case ast.Call(func=ast.Attribute(value=inner), args=[]):
            return named(inner)
        case ast.Call(args=[first, *_]) | ast.BoolOp(values=[first, *_]):
            return named(first)
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return name
        case ast.Subscript(slice=ast.Constant(value=name)):
            return str(name)
    return ""


def texts(path: Path) -> Iterator[str]:
    """Every text of a module but its docstrings and what goes to the log."""
    tree = ast.parse(path.read_text())
    passed: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            passed.add(id(node.value))
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("log."):
            passed.update(id(each) for each in ast.walk(node))
        if isinstance(node, ast.JoinedStr):
            passed.update(id(each) for each in ast.walk(node) if each is not node)
    yield from (spelt(node) for node in ast.walk(tree) if id(node) not in passed and spelt(node))


def of_templates() -> set[str]:
    """What the templates ask for."""
    calls = (re.findall(r"_\('((?:[^'\\]|\\.)*)'", path.read_text()) for path in (ROOT / "views").glob("*.tpl"))
    return {each for found in calls for each in found}


def of_catalogue() -> set[str]:
    """The names and descriptions of the events that ship."""
    return {text for kind in catalog.built_in().kinds.values() for text in (kind.name, kind.description)}


def of_mails() -> set[str]:
    """The labels and words of a mail: first of a pair, or asked for by itself."""
    found = set()
    trees = (
        ast.parse((ROOT / "device_ui" / "mail" / "message" / name).read_text()) for name in ("compose.py", "format.py")
    )
    for node in (each for tree in trees for each in ast.walk(tree)):
        pair = node.elts[0] if isinstance(node, ast.Tuple) and len(node.elts) == 2 else None
        asked_for = node.args[0] if isinstance(node, ast.Call) and ast.unparse(node.func) == "words" else None
        found |= {
            each.value for each in (pair, asked_for) if isinstance(each, ast.Constant) and isinstance(each.value, str)
        }
    return {
        *found,
        compose.REMOVED,
        compose.TEST_INTRO,
        test_mail.SAMPLE_TEXT,
        test_mail.SAMPLE_SOURCE,
        test_mail.SAMPLE_MESSAGE,
        "info",
        "fault",
    }


def of_source() -> set[str]:
    """Every text of the whole program: what a language's file may have."""
    return {each for path in (ROOT / "device_ui").rglob("*.py") if path.name != "ko.py" for each in texts(path)}


def asked() -> set[str]:
    """What a language's file must have."""
    prose = {each for name in SHOWN for each in texts(ROOT / "device_ui" / name) if PROSE.search(each)}
    tables = {each.label for each in FIELDS} | {each.help for each in FIELDS} | set(recipients.LOWEST.values())
    return {each for each in prose if not UNSEEN.search(each)} | of_templates() | tables | of_catalogue() | of_mails()


@pytest.mark.parametrize("code", [each for each in LANGUAGES if each != ENGLISH])
def test_a_language_has_every_sentence(code):
    words = load(code)
    assert sorted(each for each in asked() if words(each) == each and each not in ("SMTP", "HTML", "EHLO", "TLS")) == []


def test_a_language_has_no_sentence_that_nothing_shows():
    """Besides the words of the system and of bottle, which are nobody's here."""
    known = of_source() | of_templates() | of_catalogue() | FOREIGN
    assert sorted(each for each in ko.SENTENCES if each not in known) == []


def test_every_status_that_is_answered_has_its_name():
    """Of this Python: 3.13 calls two of them otherwise."""
    named = {f"{code} {http.client.responses[code]}" for code in STATUSES}
    assert named <= set(ko.SENTENCES)


def test_every_value_keeps_its_place():
    assert [
        each for each, told in ko.SENTENCES.items() if sorted(PLACE.findall(each)) != sorted(PLACE.findall(told))
    ] == []


def test_every_advice_is_there():
    words = load("ko")
    sentences = [row[-1] for row in advice.ADVICE] + [*advice.CLOSER.values(), advice.FALLBACK.sentence]
    assert [each for each in sentences if each not in ko.SENTENCES] == []
    assert words("Nothing listens at port 26 of mail.example.com: change SMTP Port, usually to 587, or to 465.") == (
        "mail.example.com의 26번 포트에서 응답하는 서버가 없습니다. SMTP 포트를 변경하세요(보통 587 또는 465)."
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


@pytest.mark.parametrize("said", ["550 5.1.1 a@b.cc gets faults only.", "421 port port 25", "Nobody knows", "", "."])
def test_what_a_server_says_stays_as_it_is(said):
    assert load("ko")(said) == said


def test_a_reason_within_a_sentence_is_told_too():
    told = load("ko")(
        "Nothing was saved. The file smtp.toml could not be stored: No space left on device. The settings are as before."
    )
    assert (
        told
        == "저장되지 않았습니다. smtp.toml 파일: 저장할 수 없습니다(장치에 남은 공간이 없습니다). 설정은 이전과 같습니다."
    )


@pytest.mark.parametrize("said", ["x is damaged: ", "refused at ", "Refused at ", "waiting at dropped at "])
def test_what_a_stranger_nests_without_end_stays_as_it_is(said):
    """And is answered at all: each level is another call."""
    told = load("ko")(said * 2000)
    assert said * 1990 in told


def test_english_is_what_was_said():
    assert PLAIN("Saved.") == "Saved."
    assert PLAIN("Up to {maximum} addresses.", maximum=20) == "Up to 20 addresses."


def test_values_with_braces_stay_values():
    words = Translator("xx", {"{who} was removed.": "weg: {who}"})
    assert words("{0.__class__} was removed.") == "weg: {0.__class__}"
    assert words("{who} was removed.", who="{x}") == "weg: {x}"


def test_the_maker_names_his_own_events(tmp_path):
    (tmp_path / "ko.toml").write_text('"Fan: stopped" = "팬 정지"\n"Saved." = "저장 완료."\n')
    words = load("ko", tmp_path)
    assert (words("Fan: stopped"), words("Saved."), words("Undo")) == ("팬 정지", "저장 완료.", "실행 취소")


def test_a_makers_file_that_is_wrong_is_read_and_told_once(tmp_path, caplog):
    (tmp_path / "ko.toml").write_text('"Saved." = 1')
    first = spoken("ko", tmp_path)
    (tmp_path / "ko.toml").write_text('"Saved." = "저장 완료."')
    assert spoken("ko", tmp_path) is first and first("Saved.") == "저장되었습니다."
    assert [each.partition(":")[0] for each in caplog.messages] == ["the maker's words are not used"]


@pytest.mark.parametrize(
    ("english", "told"),
    [
        ("Too many attempts. Please wait {seconds} s.", "{seconds} {"),
        ("Too many attempts. Please wait {seconds} s.", "{seconds} }"),
        ("Too many attempts. Please wait {seconds} s.", "{seconds} {seconds.real}"),
        ("Too many attempts. Please wait {seconds} s.", "{seconds!r}"),
        ("Too many attempts. Please wait {seconds} s.", "{seconds:>{seconds}}"),
        ("Too many attempts. Please wait {seconds} s.", "{{seconds}}"),
        ("Saved.", "{"),
        ("Saved.", "{0}"),
        ("Fan {} stopped", "팬 {} 정지"),
        ("Fan {who} of {", "팬 {who} {"),
    ],
)
def test_braces_that_would_break_a_page_are_told_before(tmp_path, english, told):
    (tmp_path / "ko.toml").write_text(f'"{english}" = "{told}"')
    with pytest.raises(MakerFile, match="needs a text with the same places in braces"):
        load("ko", tmp_path)


@pytest.mark.parametrize("english", ["Fan {1}: stopped", "Fan {: stopped"])
def test_a_makers_name_may_hold_braces(tmp_path, english):
    (tmp_path / "ko.toml").write_text(f'"{english}" = "팬 {{: 정지"')
    assert load("ko", tmp_path)(english) == "팬 {: 정지"


@pytest.mark.parametrize("text", ['"Saved." = 1', '"{count} infos" = "x"', "no TOML", '[section]\n"a" = "b"'])
def test_a_makers_words_that_are_wrong_are_told(tmp_path, text):
    (tmp_path / "ko.toml").write_text(text)
    with pytest.raises(MakerFile, match=r"ko\.toml: "):
        load("ko", tmp_path)
