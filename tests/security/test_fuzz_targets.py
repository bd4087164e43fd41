"""Whatever comes from outside keeps the promises of `audit.targets`: some inputs here, many in ``make audit``."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.audit.seeds import SEEDS, WORDS
from tests.audit.targets import TARGETS


@st.composite
def inputs(draw, name):
    """A sound input with some of it left out, and words and bytes of any kind put in; or nothing but those."""
    raw = draw(st.sampled_from([*SEEDS[name], b""]))
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, len(raw)))
        out = draw(st.sampled_from([0, 0, 1, 2, 8, 64]))
        put = draw(st.sampled_from(WORDS[name]) | st.binary(max_size=4) | st.text(max_size=3).map(str.encode))
        raw = raw[:at] + put * draw(st.sampled_from([1, 1, 1, 2, 3000])) + raw[at + out :]
    return raw


@pytest.mark.parametrize("name", TARGETS)
@given(data=st.data())
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_input_keeps_the_promises(name, data):
    TARGETS[name](data.draw(inputs(name)))


@pytest.mark.parametrize(("name", "seed"), [(name, seed) for name, seeds in SEEDS.items() for seed in seeds])
def test_a_sound_input_keeps_the_promises(name, seed):
    TARGETS[name](seed)
