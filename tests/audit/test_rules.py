"""The rules of the SMTP tab against the second reading of the manual, on ten times as many inputs as in ``make test``."""

from __future__ import annotations

import pytest

from tests.settings.test_rules import SECOND_READING, agree


@pytest.mark.parametrize(("rule", "reading", "inputs", "count"), SECOND_READING)
def test_rules_agree_with_a_second_reading_of_the_manual(rule, reading, inputs, count):
    agree(rule, reading, inputs, 10 * count, seed=3)
