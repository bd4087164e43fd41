"""Every sentence that a page or a mail can show has its translation in every language, with its values, and nothing else has."""

from __future__ import annotations

import ast
import errno
import http.client
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from device_ui.errors import Message
from device_ui.i18n import po_file
from device_ui.i18n.translator import ENGLISH, FOLDER, LANGUAGES, PLACE, places
from device_ui.mail import catalog
from device_ui.mail.delivery import test_mail
from device_ui.mail.message import content
from device_ui.mail.smtp import advice, outcome
from device_ui.settings import notifications, recipients
from device_ui.settings.fields import CHOICE_WORDS, FIELDS
from device_ui.settings.presets import PRESETS
from device_ui.web import context
from device_ui.web.pages import history, smtp
from device_ui.web.pages import notifications as notifications_page
from device_ui.web.pages import recipients as recipients_page
from device_ui.web.pages import test_mail as test_mail_page
from tests.helpers.product import ROOT

SOURCE = ROOT / "device_ui"
OTHERS = [code for code in LANGUAGES if code != ENGLISH]
# Modules whose sentences reach a page, besides the tables that are walked by name.
SHOWN = (
    "errors.py",
    "storage/toml_file.py",
    "settings/rules.py",
    "settings/fields.py",
    "settings/trust_rules.py",
    "settings/recipients.py",
    "settings/names.py",
    "settings/notifications.py",
    "mail/delivery/certificate_watch.py",
    "mail/delivery/periodic.py",
    "mail/delivery/server_change.py",
    "mail/smtp/advice.py",
    "mail/smtp/connection.py",
    "mail/smtp/connect.py",
    "mail/smtp/trust.py",
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
    "web/pages/access.py",
    "web/pages/notifications.py",
    "web/pages/delivery_state.py",
    "web/pages/sign_in.py",
    "web/pages/stored_list.py",
    "web/pages/smtp.py",
    "web/pages/test_mail.py",
)
STATUSES = (400, 403, 404, 405, 413, 415, 421, 422, 500, 503)
# Sentences of the system, of bottle and of HTTP.
FOREIGN = {
    "Method not allowed.",
    *(
        os.strerror(each)
        for each in (errno.ENOENT, errno.EACCES, errno.ENOSPC, errno.EROFS, errno.EIO, errno.ECONNREFUSED)
    ),
    # Python 3.13 names them as RFC 9110 does.
    *("413 Request Entity Too Large", "422 Unprocessable Entity", "413 Content Too Large", "422 Unprocessable Content"),
    *(f"{code} {http.client.responses[code]}" for code in STATUSES),
}
# Two words with a blank between them, or a word with a full stop: prose, and not a key or a pattern.
PROSE = re.compile(r"[A-Za-z’'“]{2,}[,:;.)”]* [a-zA-Z{(]|^[A-Z][a-z]+\.$")
# In those modules, and never on a page.
UNSEEN = re.compile(
    r"attachment;|<!doctype|text/|default-src|Accept-Language, |<time |device-ui: |a login that came too|a (request|form) (for|of) another|port or security|is not JSON|^\{when\}|^color-scheme:|^not all$|^-----|KEY-----$"
)
# What translates a template with values: `Message(template, …)` and a `Translator`.
FILLS = ("Message", "words", "_")


def trees(folder: Path = SOURCE) -> Iterator[ast.Module]:
    return (ast.parse(path.read_text()) for path in sorted(folder.rglob("*.py")))


def texts(tree: ast.Module) -> set[str]:
    """Every text of a module but docstrings, pieces of f-strings and log lines."""
    passed: set[int] = set()
    for node in ast.walk(tree):
        is_log = isinstance(node, ast.Call) and ast.unparse(node.func).startswith("log.")
        if isinstance(node, ast.Expr | ast.JoinedStr) or is_log:
            passed.update(id(each) for each in ast.walk(node) if not isinstance(node, ast.Expr) or each is node.value)
    found = (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in passed)
    return {node.value for node in found if isinstance(node.value, str)}


def calls_of_templates() -> Iterator[ast.Call]:
    """Every call of ``_`` in the templates of pages."""
    for path in (ROOT / "views").glob("*.tpl"):
        text = path.read_text()
        for match in re.finditer(r"\b_\(", text):
            end = next(end for end in range(match.end(), len(text)) if _is_whole(text[match.start() : end + 1]))
            call = ast.parse(text[match.start() : end + 1], mode="eval").body
            assert isinstance(call, ast.Call)
            yield call


def _is_whole(text: str) -> bool:
    try:
        ast.parse(text, mode="eval")
    except SyntaxError:
        return False
    return text.endswith(")")


def of_templates() -> set[str]:
    firsts = (call.args[0] for call in calls_of_templates())
    return {first.value for first in firsts if isinstance(first, ast.Constant)}


def of_event_catalogue() -> set[str]:
    """The names and descriptions of the events that ship."""
    return {text for kind in catalog.built_in().kinds.values() for text in (kind.name, kind.description)}


def of_mails() -> set[str]:
    """The labels and sentences of a mail: first of a pair, or given to a translator."""
    found = set()
    modules = [*trees(SOURCE / "mail" / "message"), ast.parse((SOURCE / "mail" / "format.py").read_text())]
    for node in (each for tree in modules for each in ast.walk(tree)):
        pair = node.elts[0] if isinstance(node, ast.Tuple) and len(node.elts) == 2 else None
        given = node.args[0] if isinstance(node, ast.Call) and ast.unparse(node.func) == "words" else None
        found |= {
            each.value for each in (pair, given) if isinstance(each, ast.Constant) and isinstance(each.value, str)
        }
    samples = {test_mail.SAMPLE_TEXT, test_mail.SAMPLE_SOURCE, test_mail.SAMPLE_MESSAGE}
    return {*filter(None, found), *samples, content.REMOVED, content.TEST_INTRO, content.BELOW, "info", "fault"}


def of_tables() -> set[str]:
    fields = {text for each in FIELDS for text in (each.label, each.help)}
    advices = {row.sentence for row in advice.ADVICE} | set(advice.CLOSER.values())
    labels = (
        recipients.LOWEST,
        recipients_page.SORTS,
        smtp.STEPS,
        smtp.SIGN_IN_STEPS,
        history.COLUMNS,
        history.TYPES,
        test_mail_page.BECAME,
        context.MAIL_STATES,
    )
    labels += (notifications.CHOICES, notifications.SIGNS, notifications_page.INFO_CHOICES)
    # The others are names of companies.
    presets = {Message(each.hint).template for each in PRESETS.values()} | {
        PRESETS[word].title for word in ("google-relay", "relay")
    }
    return fields | presets | advices | {label for table in labels for label in table.values()} | set(outcome.Step)


def needed() -> set[str]:
    """What a catalogue must have."""
    shown = set().union(*(texts(ast.parse((SOURCE / name).read_text())) for name in SHOWN))
    prose = {each for each in shown if PROSE.search(each) and not UNSEEN.search(each)}
    prose -= {text for row in advice.ADVICE for text in (row.evidence, *row.says)}
    return prose | of_templates() | of_tables() | of_event_catalogue() | of_mails()


def catalogue(code: str) -> list[tuple[str, str]]:
    with (FOLDER / f"{code}.po").open(encoding="utf-8") as lines:
        _, *found = po_file.entries(lines)
    return found


def filled(call: ast.Call, constants: dict[str, str]) -> tuple[str, set[str]] | None:
    """The template of a call with values, and their names; None where they are only known when it runs."""
    if not call.args or not call.keywords or any(each.arg is None for each in call.keywords):
        return None
    first = call.args[0]
    template = first.value if isinstance(first, ast.Constant) else constants.get(ast.unparse(first))
    return (template, {str(each.arg) for each in call.keywords}) if isinstance(template, str) else None


def fillings() -> Iterator[tuple[str, set[str]]]:
    """Every template of the product that is filled with values, and their names."""
    for tree in trees():
        named = [each for each in tree.body if isinstance(each, ast.Assign) and isinstance(each.value, ast.Constant)]
        constants = {ast.unparse(each.targets[0]): each.value.value for each in named}
        calls = (each for each in ast.walk(tree) if isinstance(each, ast.Call) and ast.unparse(each.func) in FILLS)
        yield from (found for call in calls if (found := filled(call, constants)))
    yield from (found for call in calls_of_templates() if (found := filled(call, {})))


@pytest.mark.parametrize("code", OTHERS)
def test_language_has_every_sentence(code):
    assert sorted(needed() - {key for key, _ in catalogue(code)} - {"SMTP", "HTML", "EHLO", "TLS"}) == []


@pytest.mark.parametrize("code", OTHERS)
def test_language_has_no_sentence_that_nothing_shows(code):
    known = set().union(*map(texts, trees())) | of_templates() | of_event_catalogue() | FOREIGN
    assert sorted(key for key, _ in catalogue(code) if key not in known) == []


@pytest.mark.parametrize("code", OTHERS)
def test_language_has_each_sentence_once(code):
    keys = [key for key, _ in catalogue(code)]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize("code", OTHERS)
def test_translation_keeps_every_place_for_a_value(code):
    assert [key for key, translation in catalogue(code) if places(key) != places(translation)] == []


# The values of the selects. In prose "provider" and "none" are words as well: there a value follows the name of its field,
# without an article. The choices of OAuth 2.0 (device, secret, certificate) are words of every second sentence.
VALUES = "|".join(
    sorted({choice for field in FIELDS if not field.name.startswith(("oauth", "trust")) for choice in field.choices})
)
NAMED = re.compile(
    rf"\b(?:(?i:sign-in|security)\b[^.:;“”]*(?<!the )(?<!this )\b(?:{VALUES})|auto|manual|starttls|tls)\b"
)
UNNAMED_IN_KOREAN = re.compile(rf"(?<![A-Za-z])(?:{VALUES})(?![A-Za-z])")


@pytest.mark.parametrize(
    "former", ["change the sign-in to none.", "choose the sign-in provider", "Connection security auto"]
)
def test_a_value_in_a_sentence_is_found(former):
    assert NAMED.search(former)


def test_no_sentence_names_a_choice_by_its_value():
    # A step of a test is named "tls" as well.
    assert [key for key in needed() - set(outcome.Step) if NAMED.search(PLACE.sub("", key))] == []


@pytest.mark.parametrize("code", OTHERS)
def test_no_translation_names_a_choice_by_its_value(code):
    shown = [PLACE.sub("", translation) for _, translation in catalogue(code)]
    assert [text for text in shown if UNNAMED_IN_KOREAN.search(text)] == []


def test_the_words_of_a_choice_are_written_once():
    words = {each.template for each in CHOICE_WORDS.values()}
    assert len(words) > 5
    assert [key for key in needed() if any(f"“{each}”" in key for each in words)] == []


def test_every_place_of_a_sentence_gets_its_value():
    found = list(fillings())
    assert len(found) > 50
    assert [(template, names) for template, names in found if places(template) != names] == []


@pytest.mark.parametrize("code", OTHERS)
def test_every_status_that_is_answered_has_its_name(code):
    named = {f"{status} {http.client.responses[status]}" for status in STATUSES}
    assert named <= {key for key, _ in catalogue(code)}


def test_korean_is_offered_by_its_own_name():
    assert LANGUAGES == {"en": "English", "ko": "한국어"}
