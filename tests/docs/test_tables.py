"""Every table that the documents have from the product's own tables is up to date (`python -m tests.docs` writes them)."""

from __future__ import annotations

import re

import pytest

from device_ui.config import SETTINGS
from tests.docs import tables
from tests.docs.documents import PATHS


def check(path: str, mark: str) -> None:
    expected = tables.TABLES[path, mark]()
    assert len(expected) > 5
    assert tables.between(path, mark).splitlines() == expected


def test_the_field_table_is_the_table_of_fields():
    check("docs/operator.md", "fields")


def test_the_table_of_providers_is_the_table_of_presets():
    check("docs/operator.md", "presets")


def test_the_table_of_log_lines_is_all_that_is_logged():
    check("docs/operator.md", "log")


def test_the_settings_table_is_the_table_of_settings():
    check("docs/configuration.md", "settings")


def test_the_command_table_is_the_command_line():
    check("docs/configuration.md", "commands")


def test_the_component_table_is_that_of_the_imports():
    check("docs/architecture.md", "components")


def test_each_component_is_described():
    described = dict(
        re.findall(r"^\| `([^`]+)` \| ([^|]+) \|", tables.between("docs/architecture.md", "components"), re.M)
    )
    assert [name for name in tables.ALLOWED if not described.get(name, "").strip()] == []


def test_every_table_is_checked():
    names = {
        ("README.md", "run"),
        ("docs/operator.md", "fields"),
        ("docs/operator.md", "presets"),
        ("docs/operator.md", "log"),
        ("docs/architecture.md", "components"),
    }
    names |= {("docs/configuration.md", "settings"), ("docs/configuration.md", "commands")}
    assert set(tables.TABLES) == names


def test_every_setting_is_in_one_table_alone():
    documents = "".join(path.read_text() for path in PATHS)
    names = [name for name, _, _ in SETTINGS]
    assert [name for name in names if len(re.findall(rf"^\| `{re.escape(name)}` ", documents, re.M)) != 1] == []


def test_a_part_that_is_not_there_is_an_error():
    with pytest.raises(ValueError, match="no part nothing"):
        tables.between("README.md", "nothing")
