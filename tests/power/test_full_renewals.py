"""A small disk that is full, or fills in the middle of a renewal: a refresh token that is good for one use is not lost.

The disks are real file systems (tmpfs, ext4). The provider is a strict one: presenting a spent token ends the grant.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from device_ui.mail.oauth.outcome import TokenError
from device_ui.mail.oauth.sign_in import SignIn
from device_ui.mail.smtp.outcome import SmtpProblem
from tests.power import rotation, test_full_disks
from tests.power.faults import ALL
from tests.power.test_full_disks import KIB, Disk
from tests.servers.authority import Certificates
from tests.servers.provider import STRICT, Answer, Provider, Request

disk = test_full_disks.disk
# Room that is left, in KiB; with as much as the last a renewal fits.
LEVELS = range(0, 33) if ALL else (0, 1, 2, 4, 8, 32)


class Filling(Provider):
    """Calls `meanwhile` once it has rotated, before its answer is sent."""

    meanwhile: Callable[[], None] = staticmethod(lambda: None)

    def _answer(self, request: Request) -> Answer:
        answer = super()._answer(request)
        if request.path.endswith("/token"):
            self.meanwhile()
        return answer


class Renewal:
    """A device whose flash is `disk`, on which a person has signed in."""

    def __init__(self, disk: Disk, provider: Filling, authority: str) -> None:
        self.disk, self.provider, self.authority = disk, provider, authority
        self.settings = rotation.sign_in_first(disk.folder, authority, provider)

    def start(self) -> SignIn:
        """The process starts on what is on the disk."""
        return rotation.sign_in(self.disk.folder, self.authority)

    def problem(self, device: SignIn, *, renews: bool = True) -> str:
        """Renew, or use the token of the last renewal; why that failed, ``""`` if it did not."""
        try:
            found = device.access(self.settings, "", renews=renews)
        except TokenError as error:
            return error.problem
        assert found.token == self.provider.access[-1]
        return ""


@pytest.fixture
def renewal(disk: Disk, tmp_path: Path) -> Iterator[Renewal]:
    certificates = Certificates(rotation.HOST, tmp_path)
    authority = str(certificates.authority.write(tmp_path / "authority.pem"))
    with Filling(certificates.chain(), STRICT) as provider:
        yield Renewal(disk, provider, authority)


def test_disk_without_room_has_no_provider_asked(renewal: Renewal) -> None:
    """At each fill level: the renewal is whole, or the provider is not asked; and with room again it is whole."""
    found = set()
    for room in LEVELS:
        renewal.disk.leave(room * KIB)
        asked, device = len(renewal.provider.forms), renewal.start()
        problem = renewal.problem(device)
        found.add(problem)
        assert problem in ("", SmtpProblem.NOT_STORED), room
        assert (len(renewal.provider.forms) > asked) == (problem == ""), room
        renewal.disk.free()
        # The same process, and one that starts on what is there.
        assert renewal.problem(device) == renewal.problem(renewal.start()) == "", room
    assert found == {"", SmtpProblem.NOT_STORED}


def test_disk_that_fills_while_the_provider_answers_loses_no_token(renewal: Renewal) -> None:
    """The spent token is on the disk, and the new one in memory: with room it is stored, and the provider is not asked again."""
    device = renewal.start()
    renewal.provider.meanwhile = lambda: renewal.disk.leave(0)
    assert [renewal.problem(device), renewal.problem(device)] == 2 * [SmtpProblem.NOT_STORED]
    assert len(renewal.provider.forms) == 1
    renewal.provider.meanwhile = lambda: None
    renewal.disk.free()
    assert renewal.problem(device, renews=False) == ""
    assert len(renewal.provider.forms) == 1
    assert renewal.problem(renewal.start()) == ""
    assert renewal.provider.refresh
