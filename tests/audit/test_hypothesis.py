"""hypothesis on every reader of bytes from outside: the promises of `targets`, on many more inputs than in ``make test``."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.audit.targets import TARGETS
from tests.security.test_fuzz_targets import inputs

EXAMPLES = int(os.environ.get("AUDIT_EXAMPLES", "1500"))


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_any_input_keeps_the_promises(name: str, data: st.DataObject) -> None:
    TARGETS[name](data.draw(inputs(name)))
