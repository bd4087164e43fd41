"""Renewal without loss, and a grant that lives without mail."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import threading

import pytest

from device_ui.errors import NotStored, RequestError
from device_ui.mail.daemon import sign_in_records
from device_ui.mail.oauth.outcome import DAY, HOUR, TokenError
from device_ui.mail.oauth.requests import NEW_KEYS, SignInRequests
from device_ui.mail.oauth.sign_in import RUN_SECONDS
from device_ui.mail.oauth.signing_key import days_left
from device_ui.mail.smtp.outcome import SmtpProblem
from device_ui.settings import rotation as key_rotation
from device_ui.settings.sealed_record import BOUND, bound_text
from device_ui.settings.store import Store
from device_ui.storage import toml_file
from tests.helpers.product import ROOT
from tests.mail.oauth.conftest import settings_for, signed_in
from tests.servers.provider import GRACE, SAME, STRICT, http, silent

ROTATIONS = (SAME, GRACE, STRICT)
RENEWAL = 3600.0


def failure(bench, settings, secret="", **more) -> TokenError:
    with pytest.raises(TokenError) as caught:
        bench.sign_in.access(settings, secret, **more)
    return caught.value


def stored(bench, settings):
    return bench.record.load(settings)


# The three grants


def test_certificate_gets_a_token_once_it_is_uploaded(bench, provider):
    settings = settings_for(provider, "certificate")
    (certificate,) = bench.keys.make(settings)
    assert failure(bench, settings).problem == SmtpProblem.CLIENT_REFUSED
    provider.uploaded = [certificate.der]
    access = bench.sign_in.access(settings, "")
    assert (access.token, access.is_new) == (provider.access[-1], True)
    assert provider.assertions[-1]["alg"] == "PS256"
    assert provider.assertions[-1]["exp"] - provider.assertions[-1]["iat"] == 600
    assert len({each["jti"] for each in provider.assertions}) == len(provider.assertions)


@pytest.mark.parametrize(
    "change",
    [
        {"host": "evil.example.test"},
        {"port": 2587},
        {"security": "tls"},
        {"oauth_client": "another"},
        {"oauth_issuer": "https://evil.example.test"},
    ],
)
def test_changed_server_or_application_gets_no_token_by_the_former_certificate(bench, provider, change):
    """Pass-back: whoever can change the settings must not have a token made for a mail server of his own."""
    settings = settings_for(provider, "certificate")
    provider.uploaded = [bench.keys.make(settings)[0].der]
    bench.sign_in.access(settings, "")
    asked = len(provider.forms)
    changed = settings_for(provider, "certificate", **change)
    with pytest.raises(TokenError):
        bench.sign_in.access(changed, "")
    assert len(provider.forms) == asked
    assert bench.keys.certificates(changed) == []
    assert bench.sign_in.access(settings, "", renews=True).is_new  # and back again: nothing was lost
    first = bench.keys.certificates(settings)
    assert bench.keys.make(changed) != first


def test_keys_are_not_made_without_end(bench, provider):
    """A taken-over web process can change the settings and ask for a certificate, again and again."""
    store = Store(bench.folders.settings)
    bench.folders.settings.parent.mkdir(parents=True)
    requests = SignInRequests(store, bench.sign_in, None, lambda _settings: "", lambda: None)
    made = set()
    with pytest.raises(RequestError) as refused:
        for number in range(NEW_KEYS + 1):
            store.save(settings_for(provider, "certificate", oauth_client=f"client-{number}"), store.read()[1])
            for _ in range(2):  # the second asks for the same
                (found,) = requests.certificate({})["certificates"]
            made.add(found["sha256"])
    assert (refused.value.word, len(made)) == ("too-many", NEW_KEYS)


def test_another_mailbox_needs_no_other_certificate(bench, provider):
    settings = settings_for(provider, "certificate")
    provider.uploaded = [bench.keys.make(settings)[0].der]
    other = settings_for(provider, "certificate", account="backup@example.test", sender_name="Other")
    assert bench.sign_in.access(other, "").is_new


def test_no_certificate_yet_is_said(bench, provider):
    error = failure(bench, settings_for(provider, "certificate"))
    assert (error.step, error.problem) == ("token sign-in", SmtpProblem.NOT_SIGNED_IN)
    assert provider.forms == []


def test_client_secret_gets_a_token(bench, provider):
    settings = settings_for(provider, "secret")
    assert bench.sign_in.access(settings, provider.secret).token == provider.access[-1]
    assert "client_secret" not in provider.forms[-1]  # it goes in the header, as the metadata says
    assert failure(bench, settings, "wrong", renews=True).problem == SmtpProblem.CLIENT_REFUSED


def test_clock_of_the_provider_dates_the_assertion_that_this_clock_would_not(bench, provider):
    settings = settings_for(provider, "certificate")
    provider.uploaded = [bench.keys.make(settings)[0].der]
    refused = http(401, {"error": "invalid_client"}, "Date: Fri, 15 Jan 2027 12:00:00 GMT")
    provider.answers["/token"] = [refused]
    bench.sign_in.access(settings, "")
    assert len(provider.forms) == 2
    assert abs(provider.assertions[-1]["iat"] - 1800014400) < 5  # that date


def test_stored_token_serves_until_shortly_before_its_end(bench, provider):
    settings = settings_for(provider, "secret")
    first = bench.sign_in.access(settings, provider.secret)
    bench.restart()
    bench.later(3400)
    assert bench.sign_in.access(settings, provider.secret) == dataclasses.replace(first, is_new=False)
    bench.later(100)
    assert bench.sign_in.access(settings, provider.secret).token != first.token


def test_stored_token_serves_in_the_second_in_which_it_was_made(bench, provider):
    bench.later(0.7)
    settings = settings_for(provider, "secret")
    first = bench.sign_in.access(settings, provider.secret)
    assert bench.sign_in.access(settings, provider.secret) == dataclasses.replace(first, is_new=False)


def test_after_a_reboot_with_a_clock_that_is_not_set_no_token_is_taken_for_fresh(bench, provider):
    settings = settings_for(provider, "secret")
    first = bench.sign_in.access(settings, provider.secret)
    bench.boot_id, bench.boot, bench.wall = "second", 5.0, 0.0
    bench.restart()
    assert bench.sign_in.access(settings, provider.secret).token != first.token


YEARS = 20 * 365 * DAY


def reboot(bench, boot_id: str) -> None:
    bench.boot_id, bench.boot = boot_id, 10.0
    bench.restart()


def test_token_of_a_clock_that_was_ahead_is_not_fresh(bench, provider):
    settings = settings_for(provider, "secret")
    bench.wall += YEARS
    bench.restart()
    first = bench.sign_in.access(settings, provider.secret)
    bench.wall -= YEARS
    reboot(bench, "second")
    assert bench.sign_in.access(settings, provider.secret).token != first.token


def test_sign_in_of_a_clock_that_was_ahead_is_renewed_at_the_next_run(bench, provider):
    bench.wall += YEARS
    bench.restart()
    settings = signed_in(bench, provider, lives=90 * DAY)
    bench.wall -= YEARS
    reboot(bench, "second")
    before = bench.sign_in.state(settings)
    assert (before["renewed"], before["ends"]) == (0, "")
    bench.sign_in.keep_alive(settings, "")
    assert (len(provider.forms), bench.sign_in.state(settings)["renewed"]) == (1, bench.wall)


def test_sign_in_of_a_clock_that_was_ahead_has_its_day_in_the_same_start(bench, provider):
    bench.wall += YEARS
    bench.restart()
    settings = signed_in(bench, provider)
    bench.wall -= YEARS
    assert bench.sign_in.state(settings)["renewed"] == bench.wall


@pytest.mark.parametrize("rotation", ROTATIONS)
def test_person_stays_signed_in(bench, provider, rotation):
    settings = signed_in(bench, provider, rotation)
    for _ in range(4):
        bench.later(RENEWAL)
        bench.restart()
        assert bench.sign_in.access(settings, "").token == provider.access[-1]
    assert stored(bench, settings).refresh == provider.refresh[-1]
    assert stored(bench, settings).person == provider.person
    assert stored(bench, settings).asked == ""


# Bound to where they belong


@pytest.mark.parametrize(
    "change",
    [
        {"host": "evil.example.test"},
        {"port": 465},
        {"account": "other@example.test"},
        {"security": "tls"},
        {"oauth_client": "device-2"},
        {"oauth_issuer": "https://evil.example.test"},
        {"oauth_provider": "microsoft", "oauth_issuer": "", "oauth_tenant": "example.test"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_changed_bound_field_voids_the_tokens(bench, provider, change):
    settings = signed_in(bench, provider)
    changed = dataclasses.replace(settings, **change)
    assert (stored(bench, changed).refresh, stored(bench, changed).access) == ("", "")
    assert stored(bench, settings).refresh
    record = bench.file(bench.folders.sign_in)
    # Even with the other settings written over its own, the sealed text does not open.
    values = {**toml_file.decode(record), BOUND: bound_text(changed.bound_to)}
    bench.folders.sign_in.write_bytes(toml_file.encode("moved", values))
    assert (stored(bench, changed).refresh, stored(bench, changed).access) == ("", "")


def test_what_is_not_bound_keeps_the_tokens(bench, provider):
    settings = signed_in(bench, provider)
    assert stored(bench, dataclasses.replace(settings, sender_name="Other", from_address="x@y.zz")).refresh


def test_nothing_of_a_token_or_key_is_readable_at_rest(bench, provider):
    settings = signed_in(bench, provider)
    bench.keys.make(settings)
    assert bench.folders.sign_in.stat().st_mode & 0o777 == bench.folders.sign_in_key.stat().st_mode & 0o777 == 0o600
    raw = bench.file(bench.folders.sign_in) + bench.file(bench.folders.sign_in_key)
    grant = stored(bench, settings)
    assert grant.refresh.encode() not in raw and grant.access.encode() not in raw
    assert grant.refresh not in repr(grant) and grant.access not in repr(grant)


def test_key_can_be_rotated(bench, provider):
    settings = signed_in(bench, provider)
    before = stored(bench, settings)
    by_certificate = settings_for(provider, "certificate")
    provider.uploaded = [bench.keys.make(by_certificate)[0].der]
    pair = bench.folders.private_key, bench.folders.public_key
    key_rotation.rotate(Store(bench.folders.settings), *pair, sign_in_records(bench.folders))
    bench.restart()
    assert stored(bench, settings) == before
    assert bench.sign_in.access(by_certificate, "").token == provider.access[-1]


# A renewal that is cut


@pytest.mark.parametrize(("rotation", "is_alive"), [(SAME, True), (GRACE, True), (STRICT, False)])
def test_lost_answer_is_asked_for_once_more(bench, provider, rotation, is_alive):
    settings = signed_in(bench, provider, rotation)
    bench.later(RENEWAL)
    provider.lost = 1
    assert failure(bench, settings).problem == SmtpProblem.CLOSED
    assert stored(bench, settings).asked != ""
    bench.restart()  # the power was cut meanwhile
    if is_alive:
        assert bench.sign_in.access(settings, "").token == provider.access[-1]
        assert stored(bench, settings).asked == ""
    else:
        assert failure(bench, settings).problem == SmtpProblem.RENEWAL_LOST
        assert bench.sign_in.state(settings)["problem"] == "renewal lost"
        assert failure(bench, settings).problem == SmtpProblem.GRANT_ENDED
        assert bench.sign_in.state(settings)["problem"] == "renewal lost"  # which is the reason, still


class PowerCut(BaseException):
    """The device goes off."""


@pytest.mark.parametrize("rotation", ROTATIONS)
@pytest.mark.parametrize("is_asked", [False, True], ids=["before it is marked", "after it was marked"])
def test_power_cut_before_the_request_loses_no_token(bench, provider, rotation, is_asked):
    settings = signed_in(bench, provider, rotation)
    bench.later(RENEWAL)

    def cut(_settings, _refresh, _exchange, before_send):
        if is_asked:
            before_send()
        raise PowerCut

    bench.client.refreshed = cut
    with pytest.raises(PowerCut):
        bench.sign_in.access(settings, "")
    bench.boot_id, bench.boot = "second", 10.0
    bench.restart()
    assert bench.sign_in.access(settings, "").token == provider.access[-1]


@pytest.mark.parametrize("rotation", ROTATIONS)
def test_power_cut_after_the_tokens_are_on_flash_loses_none(bench, provider, rotation):
    settings = signed_in(bench, provider, rotation)
    bench.later(RENEWAL)
    store, cuts = bench.record.store, []

    def cut(settings, grant):
        store(settings, grant)
        if not grant.asked:
            cuts.append(grant)
            raise PowerCut

    bench.record.store = cut
    with pytest.raises(PowerCut):
        bench.sign_in.access(settings, "")
    bench.boot_id, bench.boot = "second", 10.0
    bench.restart()
    assert bench.sign_in.access(settings, "").token == provider.access[-1]
    assert stored(bench, settings).refresh == provider.refresh[-1]
    assert len(cuts) == 1


def test_renewal_is_on_flash_before_it_is_asked_for(bench, provider):
    settings = signed_in(bench, provider, STRICT)
    bench.later(RENEWAL)
    seen = []
    original = provider.renew
    provider.renew = lambda token: (seen.append(stored(bench, settings).asked), original(token))[1]
    bench.sign_in.access(settings, "")
    assert seen and seen[0]


def test_token_is_on_flash_before_it_is_used(bench, provider):
    settings = signed_in(bench, provider, STRICT)
    bench.later(RENEWAL)
    access = bench.sign_in.access(settings, "")
    bench.restart()
    assert (stored(bench, settings).access, stored(bench, settings).refresh) == (access.token, provider.refresh[-1])


def full(bench, monkeypatch, after):
    """Let the flash take so many records, and no more; return what makes it take them again."""
    count = 0
    store = type(bench.record).store
    is_full = [True]

    def limited(self, settings, grant):
        nonlocal count
        count += 1
        if is_full[0] and count > after:
            raise NotStored(bench.folders.sign_in, OSError(28, os.strerror(28)))
        store(self, settings, grant)

    monkeypatch.setattr(type(bench.record), "store", limited)
    return lambda: is_full.__setitem__(0, False)


@pytest.mark.parametrize("rotation", ROTATIONS)
def test_full_disk_burns_no_rotation(bench, provider, monkeypatch, rotation):
    settings = signed_in(bench, provider, rotation)
    bench.later(RENEWAL)
    free = full(bench, monkeypatch, 0)
    error = failure(bench, settings)
    assert (error.step, error.problem) == ("token sign-in", SmtpProblem.NOT_STORED)
    assert provider.forms == []
    free()
    assert bench.sign_in.access(settings, "").token == provider.access[-1]


def test_disk_that_fills_while_the_provider_answers_loses_no_token(bench, provider, monkeypatch):
    settings = signed_in(bench, provider, STRICT)
    bench.later(RENEWAL)
    free = full(bench, monkeypatch, 1)
    assert failure(bench, settings).problem == SmtpProblem.NOT_STORED
    assert failure(bench, settings).problem == SmtpProblem.NOT_STORED
    assert len(provider.forms) == 1
    free()
    assert bench.sign_in.access(settings, "").token == provider.access[-1]
    assert len(provider.forms) == 1
    assert stored(bench, settings).refresh == provider.refresh[-1]


def test_full_disk_stops_no_mail_where_nothing_rotates(bench, provider, monkeypatch):
    full(bench, monkeypatch, 0)
    assert bench.sign_in.access(settings_for(provider, "secret"), provider.secret).token == provider.access[-1]


def test_one_renewal_at_a_time(bench, provider):
    settings = signed_in(bench, provider, STRICT)
    bench.later(RENEWAL)
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(bench.sign_in.access(settings, "").token)) for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert found == [provider.access[-1]] * 5
    assert len(provider.forms) == 1


def test_network_that_is_down_writes_nothing(bench, provider):
    settings = signed_in(bench, provider, STRICT)
    bench.later(RENEWAL)
    before = bench.file(bench.folders.sign_in)
    bench.resolver = lambda host, port: []
    bench.restart()
    for _ in range(3):
        assert failure(bench, settings).step == "token name"
    assert bench.file(bench.folders.sign_in) == before


@pytest.mark.parametrize(
    "answer", [(503, {}), (429, {}), (500, "oops"), (200, "no JSON"), (200, {}), (400, {"error": "?"})]
)
def test_odd_answer_keeps_the_token(bench, provider, answer):
    settings = signed_in(bench, provider)
    bench.later(RENEWAL)
    provider.answers["/token"] = [answer]
    error = failure(bench, settings)
    assert not error.is_dead
    assert bench.sign_in.access(settings, "").token == provider.access[-1]
    assert bench.events == []


def test_refusal_without_a_word_asks_for_a_new_sign_in_and_is_tried_again(bench, provider):
    """As Glewlwyd 2.7.5 refuses a refresh token that was used before."""
    settings = signed_in(bench, provider)
    bench.later(RENEWAL)
    provider.answers["/token"] = [http(400, "")]
    error = failure(bench, settings)
    assert (error.problem, error.retry_after) == (SmtpProblem.GRANT_ENDED, HOUR)
    assert [code for code, _ in bench.events] == ["904"]
    assert bench.sign_in.access(settings, "").token == provider.access[-1]


def test_page_of_something_in_between_ends_no_sign_in(bench, provider):
    settings = signed_in(bench, provider)
    bench.later(RENEWAL)
    provider.answers["/token"] = [http(400, "<html>400 Bad Request</html>")]
    assert not failure(bench, settings).is_dead
    assert bench.events == []


def test_missing_refresh_token_in_an_answer_keeps_the_old(bench, provider):
    settings = signed_in(bench, provider, SAME)
    bench.later(RENEWAL)
    bench.sign_in.access(settings, "")
    assert stored(bench, settings).refresh == provider.refresh[0]


@pytest.mark.parametrize("path", ["sign_in", "sign_in_key"])
def test_damaged_record_is_kept_aside_and_asks_for_a_sign_in(bench, provider, path):
    settings = signed_in(bench, provider) if path == "sign_in" else settings_for(provider, "certificate")
    bench.keys.make(settings)
    file = getattr(bench.folders, path)
    file.write_bytes(file.read_bytes()[:-9])
    bench.restart()
    error = failure(bench, settings)
    assert (error.step, error.problem) == ("token sign-in", SmtpProblem.NOT_SIGNED_IN)
    assert list(file.parent.glob("*.damaged-1"))


# Refusals are tried again


def test_dead_sign_in_is_tried_hourly_then_daily(bench, provider):
    settings = settings_for(provider, "secret")
    waits = [failure(bench, settings, "wrong").retry_after for _ in range(26)]
    assert waits == [HOUR] * 24 + [DAY] * 2
    assert bench.sign_in.access(settings, provider.secret).is_new
    assert failure(bench, settings, "wrong", renews=True).retry_after == HOUR


def test_sign_in_that_ends_raises_an_event_once(bench, provider):
    settings = signed_in(bench, provider)
    provider.refresh = []
    bench.later(RENEWAL)
    for _ in range(3):
        failure(bench, settings)
    assert [code for code, _ in bench.events] == ["904"]
    assert bench.sign_in.state(settings)["problem"] == "grant ended"
    bench.restart()
    failure(bench, settings)
    assert len(bench.events) == 1
    provider.sign_in()
    signed_in(bench, provider)
    assert bench.sign_in.state(settings)["problem"] == ""


def test_refused_token_is_noted_until_the_mail_server_takes_one(bench, provider):
    settings = settings_for(provider, "secret")
    bench.sign_in.access(settings, provider.secret)
    error = bench.sign_in.refused(settings, "535 5.7.3 no")
    assert (error.problem, error.retry_after, error.login_refused) == (SmtpProblem.TOKEN_REFUSED, HOUR, False)
    assert bench.sign_in.access(settings, provider.secret).is_new  # a refused token is not used again
    assert bench.sign_in.state(settings)["problem"] == "token refused"
    bench.sign_in.accepted(settings)
    assert bench.sign_in.state(settings)["problem"] == ""


# Alive without mail


@pytest.mark.parametrize("rotation", ROTATIONS)
def test_hundred_days_without_mail_keep_a_persons_grant(bench, provider, rotation):
    settings = signed_in(bench, provider, rotation)
    used = bench.wall
    for _ in range(100):
        bench.later(DAY)
        bench.boot_id = str(bench.wall)
        bench.boot = 10.0
        bench.restart()
        before = len(provider.forms)
        bench.sign_in.keep_alive(settings, "")
        if len(provider.forms) > before:
            assert bench.wall - used < 90 * DAY
            used = bench.wall
    assert bench.wall - used <= 3 * DAY
    assert len(provider.forms) == 33  # every third day: a renewal costs two writes to the flash
    assert bench.events == []


# Hours after midnight at which the daily runs begin: the timer draws a delay for each day.
DELAYS = (0, 6, 0, 6, 6, 0, 3)


def runs(bench, days: int):
    """Turn the clocks to one daily run after another, each by a new process."""
    begun = bench.wall
    for day in range(days):
        bench.later(begun + (day + 1) * DAY + DELAYS[day % len(DELAYS)] * HOUR - bench.wall)
        bench.restart()
        yield day


def test_longest_time_between_two_runs_is_that_of_the_timer():
    timer = (ROOT / "device_ui" / "appliance" / "device-ui-token.timer").read_text()
    assert "\nOnCalendar=daily\n" in timer and "\nRandomizedDelaySec=6h\n" in timer
    assert RUN_SECONDS > DAY + 6 * HOUR


@pytest.mark.parametrize(
    ("days", "is_said", "renewals"),
    [(1.5, True, 14), (3, True, 14), (6, True, 7), (7, False, 5), (7, True, 5), (14, True, 5), (90, True, 5)],
)
def test_sign_in_is_renewed_in_the_first_half_of_the_life_that_its_provider_gives(
    bench, provider, days, is_said, renewals
):
    settings = signed_in(bench, provider, lives=days * DAY if is_said else 0)
    used, unused = bench.wall, []
    for _ in runs(bench, 14):
        if bench.wall - used >= days * DAY:
            provider.refresh = []
        asked = len(provider.forms)
        bench.sign_in.keep_alive(settings, "")
        if len(provider.forms) > asked:
            unused.append(bench.wall - used)
            used = bench.wall
    assert max(unused) <= max(days * DAY / 2, 30 * HOUR)
    assert (len(unused), bench.events) == (renewals, [])


@pytest.mark.parametrize(
    ("grant", "days", "warned"),
    [
        ("device", 90, [30, 14, 7, 1]),
        ("device", 14, [7, 1]),
        ("device", 1.5, []),
        ("secret", 0, [60, 30, 14, 7, 1]),
        ("certificate", 0, [60, 30, 14, 7, 1]),
    ],
)
def test_page_lists_the_days_at_which_events_warn(bench, provider, grant, days, warned):
    settings = signed_in(bench, provider, lives=days * DAY) if grant == "device" else settings_for(provider, grant)
    bench.keys.make(settings)
    bench.keys.make_next = lambda _settings: None
    state = bench.sign_in.state(settings)
    assert state["warning_days"] == warned
    provider.answers["/token"] = (503, {})
    found, begun, whole = [], bench.wall, days_left(state["ends"], bench.wall)
    # Each day of a warning, and those beside it.
    for left in sorted((each + beside for each in (60, 30, 14, 7, 1) for beside in (1, 0, -1)), reverse=True):
        if not 0 < left <= int(whole):
            continue
        bench.wall = begun + (whole - left) * DAY
        bench.events.clear()
        with contextlib.suppress(TokenError):
            bench.sign_in.keep_alive(settings, "")
        found += [left for code, _ in bench.events if code == "903"]
    assert found == warned


NEEDS_MAIL = (
    "The sign-in cannot be kept without mail: its provider ends it sooner than the device renews it, once a day. "
    "Have the provider allow a longer one, such as by the scope offline_access, or choose a different grant."
)


@pytest.mark.parametrize("hours", [0.5, 24])
def test_sign_in_that_ends_before_the_next_run_is_said_to_need_mail(bench, provider, hours):
    settings = signed_in(bench, provider, lives=hours * HOUR)
    assert str(bench.sign_in.state(settings)["needs_mail"]) == NEEDS_MAIL
    for _ in runs(bench, 2):
        provider.refresh = []  # it has ended
        with pytest.raises(TokenError):
            bench.sign_in.keep_alive(settings, "")
    assert [code for code, _ in bench.events] == ["904", "903"]
    assert bench.events[1][1] == NEEDS_MAIL


def test_sign_in_that_a_run_can_keep_needs_no_mail(bench, provider):
    assert bench.sign_in.state(signed_in(bench, provider, lives=2 * DAY))["needs_mail"] == ""
    assert bench.sign_in.state(signed_in(bench, provider))["needs_mail"] == ""


def test_renewal_that_fails_is_the_devices_until_the_sign_in_ends(bench, provider):
    settings = signed_in(bench, provider, lives=7 * DAY)
    provider.answers["/token"] = (503, {})
    failed = 0
    for _ in runs(bench, 6):
        with contextlib.suppress(TokenError):
            bench.sign_in.keep_alive(settings, "")
            continue
        failed += 1
    assert failed == 5  # daily, from the second run on
    assert bench.events == [
        (
            "903",
            "The device could not renew the sign-in, which ends on 2027-01-22, in 1 days: "
            "check its connection to the sign-in server, or sign in again on the SMTP tab.",
        )
    ]


def test_end_that_no_renewal_moves_is_warned_of(bench, provider):
    settings = signed_in(bench, provider, lives=20 * DAY)
    end = bench.wall + 20 * DAY
    assert bench.sign_in.state(settings)["is_fixed"] is False
    for _ in runs(bench, 19):
        provider.refresh_expires_in = int(end - bench.wall)
        bench.sign_in.keep_alive(settings, "")
    state = bench.sign_in.state(settings)
    assert (state["is_fixed"], state["ends"], state["needs_mail"]) == (True, "2027-02-04", "")
    sentence = (
        "The provider ends the sign-in on 2027-02-04, in {} days, although the device renews it: "
        "sign in again on the SMTP tab before that."
    )
    assert bench.events == [("903", sentence.format(days)) for days in (7, 1)]


def test_clock_that_jumps_a_hundred_days_renews_at_once(bench, provider):
    settings = signed_in(bench, provider, STRICT)
    bench.wall += 100 * DAY
    bench.sign_in.keep_alive(settings, "")
    assert len(provider.forms) == 1
    assert bench.sign_in.access(settings, "").token == provider.access[-1]


def test_secret_that_ended_is_known_within_a_day(bench, provider):
    settings = settings_for(provider, "secret")
    bench.sign_in.keep_alive(settings, provider.secret)
    bench.later(DAY)
    provider.secret = "another one"
    with pytest.raises(TokenError):
        bench.sign_in.keep_alive(settings, "the old one")
    assert [code for code, _ in bench.events][-1:] == ["904"]


@pytest.mark.parametrize("grant", ["secret", "certificate"])
def test_end_is_warned_of_60_30_14_7_and_1_days_before(bench, provider, grant):
    settings = settings_for(provider, grant)
    provider.uploaded = [bench.keys.make(settings)[0].der]
    bench.keys.make_next = lambda _settings: None
    end = bench.sign_in.state(settings)["ends"]
    warned = []
    # Each day of a warning, and those beside it.
    for days in (61, 60, 59, 31, 30, 29, 15, 14, 13, 8, 7, 6, 2, 1, 0):
        bench.later((days_left(end, bench.wall) - days) * DAY)
        bench.restart()
        bench.keys.make_next = lambda _settings: None
        bench.events.clear()
        bench.sign_in.keep_alive(settings, provider.secret)
        warned += [(days_left(end, bench.wall), code) for code, text in bench.events if end in text]
    assert warned == [(days, "903") for days in (60, 30, 14, 7, 1)]


def test_certificate_rolls_over_without_an_outage(bench, provider):
    settings = settings_for(provider, "certificate")
    provider.uploaded = [bench.keys.make(settings)[0].der]
    bench.later(680 * DAY)
    bench.sign_in.keep_alive(settings, "")
    old, new = bench.keys.certificates(settings)
    assert old.ends < new.ends
    assert new.sha256 in bench.events[-1][1]
    assert bench.sign_in.access(settings, "", renews=True).is_new  # by the old one: the new one is not uploaded
    provider.uploaded.append(new.der)
    assert bench.sign_in.access(settings, "", renews=True).is_new
    assert bench.keys.certificates(settings) == [new]
    provider.uploaded.remove(old.der)
    assert bench.sign_in.access(settings, "", renews=True).is_new
    assert bench.sign_in.state(settings)["problem"] == ""


def test_slow_provider_holds_nothing_longer_than_the_deadline(bench, provider):
    bench.seconds = 2.0
    bench.restart()
    provider.answers["/token"] = silent
    assert failure(bench, settings_for(provider, "secret"), provider.secret).problem == SmtpProblem.SILENT
