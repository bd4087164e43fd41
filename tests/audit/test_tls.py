"""testssl.sh and sslyze against the real nginx and stunnel: clean but for what follows from a self-signed certificate."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.product import ROOT
from tests.servers.front import PROXIES, Front, standing

SSLYZE = ROOT / ".venv" / "audit" / "bin" / "sslyze"

# What testssl.sh finds, and why it stays.
TESTSSL_EXPECTED = {
    "cert_chain_of_trust": "self-signed: no authority vouches for a device that is reached by address",
    "cert_revocation": "nobody could revoke it",
    "DNS_CAArecord": "an address has no DNS record",
    "HSTS": "with a certificate that browsers warn of, it would lock the owner out (RFC 6797, 12.1)",
    "HTTP_status_code": "/ leads to /smtp",
    "sessionresumption_ticket": "no ticket is given, so that it cannot try one",
    "engine_problem": "of the machine that scans: its openssl has no GOST",
}
# What sslyze finds beside Mozilla's "intermediate" configuration.
SSLYZE_EXPECTED = {"certificate_path_validation"}


@pytest.fixture(scope="module", params=PROXIES, ids=lambda start: start.__name__)
def front(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    with standing(request.param, tmp_path_factory.mktemp("device")) as found:
        yield found


def test_testssl_finds_nothing_unexpected(front: Front, tmp_path: Path):
    told = tmp_path / "testssl.json"
    words = ["testssl", "--quiet", "--color", "0", "--warnings", "batch", "--jsonfile", str(told)]
    done = subprocess.run([*words, f"https://127.0.0.1:{front.port}"], capture_output=True, text=True, timeout=3600)
    findings = json.loads(told.read_text())
    assert len(findings) > 100, done.stdout[-2000:]
    odd = [each for each in findings if each["severity"] not in ("OK", "INFO") and each["id"] not in TESTSSL_EXPECTED]
    assert odd == []


def sslyze(front: Front, *options: str) -> str:
    words = [SSLYZE, *options, f"127.0.0.1:{front.port}"]
    return subprocess.run(words, capture_output=True, text=True, timeout=300).stdout


def test_sslyze_finds_mozillas_configuration(front: Front):
    told = sslyze(front, "--mozilla_config=intermediate").partition("COMPLIANCE")[2]
    assert set(re.findall(r"^\s+\* (\w+):", told, re.MULTILINE)) == SSLYZE_EXPECTED, told


def test_sslyze_finds_no_compression_no_early_data_and_no_renegotiation(front: Front):
    told = sslyze(front, "--compression", "--early_data", "--reneg", "--robot", "--heartbleed", "--openssl_ccs")
    found = dict(re.findall(r"^ \* ([^\n:]+):\s*\n(.*?)(?:\n\n|\Z)", told, re.MULTILINE | re.DOTALL))
    assert "Compression disabled" in found["Deflate Compression"]
    assert "Not Supported" in found["TLS 1.3 Early Data"]
    assert "Client Renegotiation DoS Attack:   OK" in found["Session Renegotiation"]
    assert not re.search(r"VULNERABLE -|FAILED", told), told
