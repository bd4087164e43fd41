"""Settings that change, that are damaged, or whose password cannot be opened: mail waits and is released."""

from __future__ import annotations

from pathlib import Path

import pytest

from device_ui.errors import CannotOpen, Damaged, NoKey, NotReadable
from device_ui.settings.fields import SmtpSettings
from tests.helpers.delivery import (
    DAY,
    HOUR,
    MINUTE,
    UNREACHABLE,
    no_key,
)


def test_events_before_settings_go_out_once_they_exist(desk):
    desk.raise_events(3)
    desk.work(2 * DAY, step=600)
    assert desk.problem == ("unset", "", "")
    desk.update()
    desk.work()
    assert desk.server.numbers == [1, 2, 3]
    assert (desk.waiting, desk.problem) == ([], ("", "", ""))


def test_settings_are_read_when_mail_is_sent(set_up):
    set_up.raise_events()
    set_up.save(host="new.example.com", sender_name="New name", sealed="two")
    set_up.work()
    settings, password = set_up.server.connects[0]
    assert (settings.host, password) == ("new.example.com", "opened two")
    assert b'From: "New name" <alarm@mail.example.com>' in set_up.server.mails[0]


def test_new_settings_are_seen_even_if_nobody_tells(set_up):
    """The hook may have been starting while the page told it."""
    set_up.server.stops = UNREACHABLE
    set_up.raise_events()
    set_up.work(5 * HOUR)
    set_up.server.stops = None
    set_up.save(host="new.example.com")
    set_up.work(MINUTE)
    assert set_up.waiting == []


def test_without_a_login_no_password_is_opened(desk):
    def never(_: SmtpSettings) -> str:
        raise AssertionError("there is nothing to open")

    desk.unseal = never
    desk.save(sign_in="none", sealed=None)
    desk.raise_events()
    desk.work()
    assert desk.server.connects[0][1] == ""
    assert desk.waiting == []


def test_damaged_settings_hold_mail_and_are_told(set_up):
    set_up.raise_events()
    path = set_up.store.path
    path.write_bytes(path.read_bytes().replace(b"587", b"588"))
    set_up.work(6 * DAY, step=600)
    assert set_up.problem == ("damaged", "", "its checksum does not match")
    assert (set_up.server.connects, set_up.waiting) == ([], [1])


def test_folder_in_the_place_of_the_settings_holds_mail_and_is_told(desk):
    desk.raise_events()
    desk.store.path.mkdir()
    desk.work(6 * DAY, step=600)
    assert desk.problem == ("damaged", "", "it is no regular file")
    assert (desk.server.connects, desk.waiting) == ([], [1])


@pytest.mark.parametrize(
    ("error", "reply"),
    [
        (CannotOpen("its bytes have changed"), "the stored password cannot be opened: its bytes have changed"),
        (NoKey("0123456789abcdef"), "the key 0123456789abcdef is not on this device"),
        (NoKey(), "the mail hook has made no key yet"),
        (Damaged(Path("private.key"), "it is empty"), "private.key is damaged: it is empty"),
        (NotReadable(Path("private.key"), OSError(13, "")), "private.key could not be read: Permission denied"),
    ],
    ids=lambda each: type(each).__name__,
)
def test_a_password_that_cannot_be_opened_holds_mail_and_is_told(set_up, error, reply):
    def unseal(_: SmtpSettings) -> str:
        raise error

    set_up.unseal = unseal
    set_up.raise_events()
    set_up.work(6 * DAY, step=600)
    assert set_up.problem == ("password", "", reply)
    assert (set_up.server.connects, set_up.waiting) == ([], [1])


def test_mail_goes_out_once_the_password_opens(set_up):
    opens, set_up.unseal = set_up.unseal, no_key
    set_up.raise_events()
    set_up.work(HOUR)
    set_up.unseal = opens
    set_up.work(MINUTE)
    assert (set_up.waiting, set_up.problem) == ([], ("", "", ""))
