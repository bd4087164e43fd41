"""A power cut in a rotation loses no sign-in, but where the provider allows no second try; and then the reason is said.

A call that fails in a renewal loses none either, as long as the process lives: tokens that are not on flash stay in memory.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from device_ui.mail.oauth.outcome import TokenError
from device_ui.mail.smtp.outcome import SmtpProblem
from tests.power import rotation
from tests.power.faults import Durable, Injection, Scene, injections, sampled
from tests.power.mutants import Mutant, mutate
from tests.servers.authority import Certificates
from tests.servers.provider import GRACE, SAME, STRICT, Provider

MOST = 300 if os.environ.get("DEVICE_UI_POWER") else 12
# Faults of one renewal in the ordinary tests.
FEW = 5
SIGN_IN = "device_ui/mail/oauth/sign_in.py"
STORED = "        made = self._with_tokens(settings, stored, answer)\n        self._store(settings, made)\n"
MUTANTS = [
    Mutant(
        "a token is used before it is on flash",
        [(SIGN_IN, STORED, STORED.replace("self._store(settings, made)", '__import__("atexit").register(self._store, settings, made)'))],
        STRICT,
        "used True",
    ),
    Mutant(
        "a renewal is asked for before that is on flash",
        [(SIGN_IN, "            self._mark_asked(settings, replace(stored, asked=self._clock.moment()))\n", "")],
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
    done = subprocess.run(
        words,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == rotation.BROKEN, done.stdout + done.stderr
    assert [line for line in done.stdout.splitlines() if re.search(f"^BROKEN.*{mutant.finds}", line)]


class Renewal:
    """A device in `scene` on which a person has signed in at a strict provider; `run` puts that back."""

    def __init__(self, scene: Scene, provider: Provider, authority: str) -> None:
        self.scene, self.provider, self.authority = scene, provider, authority
        self.settings = rotation.sign_in_first(scene.folder, authority, provider)
        self._signed_in = scene.folders.sign_in.read_bytes()

    def run(self, fault: Injection | None = None) -> tuple[list[str], str]:
        """Renew anew while calls fail; return the problem of each try (``done``: none) and the trace."""
        self.scene.folders.sign_in.write_bytes(self._signed_in)
        self.provider.refresh, self.provider.requests = self.provider.issued[:1], []
        words = ["tests.power.rotation", "persist", str(self.scene.folder), self.authority, self.provider.issuer]
        outcome = self.scene.run(words, faults=fault.words if fault else ())
        assert outcome.code == 0, outcome.err
        return outcome.out.split("\n")[:-1], outcome.trace

    def start(self) -> str:
        """Return the problem of a device that starts on what is there and renews, ``""`` for none."""
        try:
            rotation.sign_in(self.scene.folder, self.authority).access(self.settings, "", renews=True)
        except TokenError as error:
            return error.problem
        return ""


@pytest.fixture
def renewal(tmp_path: Path) -> Iterator[Renewal]:
    certificates = Certificates(rotation.HOST, tmp_path)
    authority = str(certificates.authority.write(tmp_path / "authority.pem"))
    with Provider(certificates.chain(), STRICT) as provider:
        yield Renewal(Scene(tmp_path / "device"), provider, authority)


@pytest.mark.timeout(3600)
def test_a_call_that_fails_in_a_renewal_loses_no_token_while_the_process_lives(renewal):
    tries, clean = renewal.run()
    assert tries == ["done"]
    found = []
    for fault in sampled(injections(clean), FEW):
        tries, trace = renewal.run(fault)
        found += [f"{fault}: {each}" for each in wrong_with(renewal, fault, tries, trace)]
    assert not found, "\n".join(found)


def wrong_with(renewal: Renewal, fault: Injection, tries: list[str], trace: str) -> list[str]:
    """Every promise that a renewal with a fault has broken."""
    durable, folder = Durable(trace), renewal.scene.folders.sign_in.parent
    found = [] if "(INJECTED)" in trace else ["missed"]
    found += [f"{path} was synced again" for path in durable.synced_again]
    found += [f"{path.name} was set aside" for path in folder.glob("*.damaged-*")]
    if set(tries) - {"done", SmtpProblem.NOT_STORED}:
        found.append(f"it said {tries}")
    if tries[-1] == "done":
        found += [f"{path} is not on flash" for path in sorted(durable.unsynced)]
    elif not fault.is_for_ever:
        found.append(f"it was not done when the fault had ended: {tries}")
    # A process that ended with tokens that no flash took: as after a power cut, a strict provider takes no other, and that is said.
    is_lost = tries[-1] != "done" and renewal.provider.forms
    problem = renewal.start()
    if problem not in (("", SmtpProblem.RENEWAL_LOST) if is_lost else ("",)):
        found.append(f"the next start has {problem}, after {tries}")
    return found


def test_a_disk_that_takes_nothing_has_no_provider_asked(renewal):
    for call in ("write", "fsync"):
        tries, trace = renewal.run(Injection(call, 1, "ENOSPC", is_for_ever=True))
        assert "(INJECTED)" in trace
        assert tries == [SmtpProblem.NOT_STORED] * rotation.TRIES
        assert renewal.provider.forms == []
        assert renewal.start() == ""


def test_a_flash_that_fails_while_the_provider_answers_has_the_token_kept_in_memory(renewal):
    """The third fsync is that of the file with the new tokens: two are those of the mark before."""
    tries, trace = renewal.run(Injection("fsync", 3, "ENOSPC", is_for_ever=False))
    assert "(INJECTED)" in trace
    assert tries == [SmtpProblem.NOT_STORED, "done"]
    assert len(renewal.provider.forms) == 2
    assert renewal.start() == ""
