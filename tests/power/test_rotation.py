"""A power cut in a rotation loses no sign-in, but where the provider allows no second try; and then the reason is said."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests.power import rotation
from tests.power.mutants import Mutant, mutate
from tests.servers.provider import GRACE, SAME, STRICT

MOST = 300 if os.environ.get("DEVICE_UI_POWER") else 12
SIGN_IN = "device_ui/mail/oauth/sign_in.py"
STORED = "        made = self._granted(settings, grant, answer)\n        self._store(settings, made)\n"
MUTANTS = [
    Mutant(
        "a token is used before it is on flash",
        [(SIGN_IN, STORED, STORED.replace("self._store(settings, made)", '__import__("threading").Timer(0.3, self._store, (settings, made)).start()'))],
        STRICT,
        "used True",
    ),
    Mutant(
        "a renewal is asked for before that is on flash",
        [(SIGN_IN, "            self._ask(settings, replace(grant, asked=self._clock.moment()))\n", "")],
        STRICT,
        "grant ended",
    ),
]  # fmt: skip


@pytest.mark.parametrize("provider", [SAME, GRACE, STRICT])
def test_a_power_cut_loses_no_token_but_where_the_provider_allows_no_second_try(provider):
    tried, broken, lost = rotation.explore(provider, MOST)
    assert not broken, broken
    assert tried > 40
    assert (lost > 0) == (provider == STRICT)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda each: each.name)
def test_a_rotation_with_a_fault_is_found(mutant, tmp_path):
    mutate(mutant, tmp_path)
    words = [sys.executable, "-m", "tests.power.rotation", mutant.story]
    plain = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    done = subprocess.run(
        words, cwd=tmp_path, env={**plain, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == rotation.BROKEN, done.stdout + done.stderr
    assert [line for line in done.stdout.splitlines() if re.search(f"^BROKEN.*{mutant.finds}", line)]
