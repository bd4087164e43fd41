"""Fixtures of the delivery tests."""

from __future__ import annotations

import logging
import ssl
import tempfile
from pathlib import Path

import pytest

from device_ui.mail.smtp import advice
from device_ui.mail.smtp.client import ClientOptions, SmtpClient
from device_ui.settings.fields import SmtpSettings
from tests.helpers.delivery import (
    MEMORY,
    Desk,
)


@pytest.fixture
def folder():
    """A folder in memory where there is such a place: thousands of commits are not what is tested here."""
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as name:
        yield Path(name)


@pytest.fixture
def desk(folder):
    """A device without settings."""
    desk = Desk(folder)
    yield desk
    desk.outbox.close()


@pytest.fixture
def set_up(desk):
    """A device with settings."""
    desk.save()
    return desk


@pytest.fixture
def no_advice(monkeypatch):
    """No mail that does not go out can be explained."""

    def breaks(*_: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(advice, "advise", breaks)


@pytest.fixture(scope="session")
def trusted():
    """What the system trusts; it takes 40 ms to read, and a test has dozens of sessions."""
    return ssl.create_default_context()


@pytest.fixture
def real(desk, trusted):
    """A desk whose sessions are real ones."""

    def connect(settings: SmtpSettings, password: str) -> SmtpClient:
        return SmtpClient(settings, password, ClientOptions(trusted, allow_loopback=True))

    desk.server.connect = connect
    return desk


@pytest.fixture(autouse=True)
def quiet(caplog):
    caplog.set_level(logging.WARNING)


@pytest.fixture
def berlin(zone):
    """The device is in a zone with summer time."""
    zone("Europe/Berlin")
