"""The rotation of a refresh token, cut everywhere: a process renews under strace, and the device starts on every disk that is left.

``python -m tests.power.rotation strict`` plays it against a provider that allows no second try; a broken promise is a line
``BROKEN`` and the exit code 3. With ``renew`` it is the process under strace, and with ``persist`` one whose calls fail.

What the provider has done by the time of a cut is not on the disk. Before the request is sent it has done nothing; while the answer
is under way it may have rotated or not, so both are tried; after the answer it has.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import ssl
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from device_ui.config import Folders
from device_ui.mail.clock import Clock
from device_ui.mail.daemon import sign_in_records
from device_ui.mail.oauth.https import Exchange
from device_ui.mail.oauth.outcome import TokenError
from device_ui.mail.oauth.record import SignInRecord
from device_ui.mail.oauth.sign_in import SignIn
from device_ui.mail.oauth.signing_key import SigningKeys
from device_ui.mail.oauth.token_client import TokenClient, Tokens
from device_ui.mail.smtp.client import ClientOptions
from device_ui.mail.smtp.outcome import SmtpProblem, Step
from device_ui.mail.smtp.tls import trusted
from device_ui.settings import keys
from device_ui.settings.fields import SmtpSettings
from tests.power import disk, story
from tests.power.disk import Disk, Point
from tests.power.stage import CALLS, STRACE
from tests.power.story import Asked, Deed, Synced
from tests.servers.authority import Certificates
from tests.servers.provider import SAME, STRICT, Provider
from tests.servers.scripted import leading_to

HOST = "login.example.test"
MEMORY = Path("/dev/shm")
RENEWALS, TRIES = 2, 3
BROKEN = 3


@dataclass(frozen=True)
class Cut:
    """A place for a cut: the disk's `point`, the rotations that the provider may have done, and whether the newest token was used."""

    point: Point
    rotations: Sequence[int]
    is_used: bool


@functools.cache
def trust(authority: str) -> ssl.SSLContext:
    """Return what trusts this authority: no part of a disk, and the system's own took most of the time of each start on one."""
    return trusted([authority])


def settings_for(issuer: str) -> SmtpSettings:
    """The settings of a person's sign-in."""
    values = {"host": "mail.example.test", "port": 587, "sender_name": "Lamp", "account": "alarm@example.test"}
    oauth = {"sign_in": "oauth", "oauth_provider": "custom", "oauth_grant": "device", "oauth_client": "device-1"}
    return SmtpSettings(**values, **oauth, oauth_issuer=issuer)  # type: ignore[arg-type]


def sign_in(flash: Path, authority: str) -> SignIn:
    """What the hook makes of a disk when it starts."""
    folders = Folders(flash / "data", flash / "run", flash / "etc")
    tokens, key = sign_in_records(folders)
    clock = Clock()
    signing = SigningKeys(key, clock.now)
    options = ClientOptions(trust(authority), "", allow_loopback=True, resolver=leading_to("127.0.0.1"))
    client = TokenClient(lambda *on_step: Exchange(options, *on_step), signing, HOST)
    return SignIn(SignInRecord(tokens), signing, lambda: client, clock, lambda *_: None)


def renew(flash: Path, authority: str, issuer: str) -> None:
    """Renew some times, and mark in the trace how far it is; stop at a refusal, which no cut explains."""
    device = sign_in(flash, authority)
    marks = os.open("/dev/null", os.O_WRONLY)
    for number in range(1, RENEWALS + 1):

        def on_step(step: Step, _details: object, number: int = number) -> None:
            if step == Step.TOKEN_ANSWER:
                os.write(marks, f"mark {json.dumps(['answer', number])}".encode())

        try:
            device.access(settings_for(issuer), "", on_step, renews=True)
        except TokenError as error:
            os.write(marks, f"mark {json.dumps(['refused', error.problem])}".encode())
            return
        os.write(marks, f"mark {json.dumps(['used', number])}".encode())


def persist(flash: Path, authority: str, issuer: str) -> None:
    """Renew until it is done, three times at most; print the problem of each try, ``done`` for none."""
    device = sign_in(flash, authority)
    for _ in range(TRIES):
        try:
            device.access(settings_for(issuer), "", renews=True)
        except TokenError as error:
            print(error.problem)
        else:
            print("done")
            return


def sign_in_first(flash: Path, authority: str, provider: Provider) -> SmtpSettings:
    """Make a device on which a person has just signed in; return its settings."""
    folders = Folders(flash / "data", flash / "run", flash / "etc")
    folders.sign_in.parent.mkdir(0o700, parents=True, exist_ok=True)
    folders.public_key.parent.mkdir(parents=True, exist_ok=True)
    keys.load_pair(folders.private_key, folders.public_key)
    settings = settings_for(provider.issuer)
    made = Tokens("access-first", provider.sign_in(), 3600, 0, provider.person)
    sign_in(flash, authority).signed_in(settings, made)
    return settings


def cuts(before: disk.Tree, steps: Sequence[story.Step]) -> Iterator[Cut]:
    """The places for a cut: before each sync is done, while an answer is under way, when a token is used, and at the end."""
    model, rotations, used = Disk(before), 0, 0
    for step in steps:
        match step:
            case Deed(do):
                do(model)
            case Synced():
                yield Cut(model.point(), (rotations,), used == rotations)
                step.do(model)
            case Asked("answer", _):
                yield Cut(model.point(), (rotations, rotations + 1), is_used=False)
                rotations += 1
            case Asked("used", _):
                used += 1
                yield Cut(model.point(), (rotations,), is_used=True)
    yield Cut(model.point(), (rotations,), used == rotations)


def explore(rotation: str, most: int) -> tuple[int, Counter[str], int]:
    """Return how many disks were tried, the broken promises, and how often a token was lost as a strict provider allows."""
    folder = Path(tempfile.mkdtemp(prefix="device-ui-power-", dir=MEMORY))
    try:
        certificates = Certificates(HOST, folder)
        authority = folder / "authority.pem"
        certificates.authority.write(authority)
        with Provider(certificates.chain(), rotation) as provider:
            return _explored(folder, str(authority), provider, most)
    finally:
        shutil.rmtree(folder)


def _explored(folder: Path, authority: str, provider: Provider, most: int) -> tuple[int, Counter[str], int]:
    flash, trace = folder / "flash", folder / "trace"
    settings = sign_in_first(flash, authority, provider)
    before = disk.load(flash)
    words = [*STRACE, "-e", f"trace={CALLS}", "-o", str(trace), sys.executable, "-m", "tests.power.rotation", "renew"]
    subprocess.run([*words, str(flash), authority, provider.issuer], check=True)
    with trace.open() as lines:
        steps = story.read(lines, flash)
    given = list(provider.issued)
    tried, broken, lost = 0, Counter[str](), 0
    broken.update(
        f"{step.values[0]} without a cut" for step in steps if isinstance(step, Asked) and step.kind == "refused"
    )
    assert broken or sum(isinstance(step, Asked) and step.kind == "used" for step in steps) == RENEWALS
    for place, cut in enumerate(cuts(before, steps)):
        for tree in cut.point.states(most, f"{provider.rotation} {place}"):
            for rotations in cut.rotations:
                tried += 1
                provider.refresh = list(given if provider.rotation == SAME else given[: rotations + 1])
                problem = _started(folder / "disk", tree, authority, settings)
                # Between the answer and the flash a strict provider's token is lost with the power; that must be said.
                may_be_lost = provider.rotation == STRICT and not cut.is_used
                if problem == SmtpProblem.RENEWAL_LOST and may_be_lost:
                    lost += 1
                elif problem:
                    broken[f"{problem} with a {provider.rotation} provider, cut {place}, used {cut.is_used}"] += 1
    return tried, broken, lost


def _started(place: Path, tree: disk.Tree, authority: str, settings: SmtpSettings) -> str:
    """Return the problem of a device that starts on this disk and renews, ``""`` for none."""
    place.mkdir()
    try:
        disk.build(tree, place)
        sign_in(place, authority).access(settings, "", renews=True)
    except TokenError as error:
        return error.problem
    finally:
        shutil.rmtree(place)
    return ""


def main() -> int:
    """Renew, or play a provider; not 0 when a promise was broken."""
    if work := {"renew": renew, "persist": persist}.get(sys.argv[1]):
        work(Path(sys.argv[2]), *sys.argv[3:5])
        return 0
    tried, broken, lost = explore(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 12)
    print(f"{tried} disks, {lost} tokens lost as this provider allows")
    for line, count in broken.items():
        print(f"BROKEN {count} times: {line}")
    return BROKEN if broken else 0


if __name__ == "__main__":
    sys.exit(main())
