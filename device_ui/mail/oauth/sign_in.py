"""The sign-in of one device: an access token when mail needs one, kept alive without mail too.

A renewal may replace the refresh token, and the provider may refuse the former one from then on (RFC 9700, section 4.14.2). So:

1. ``asked`` is on flash before the request is sent. That proves that the flash takes a write: a full disk burns no rotation.
2. The provider is asked.
3. The new tokens are on flash.
4. Only then is the new access token used.

After a cut between 1 and 3 the stored token is presented once more. Most providers take it; where one does not, the reason is
reported as it is. One renewal at a time, for mail, test, command and timer.
"""

from __future__ import annotations

import contextlib
import datetime
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from device_ui.errors import CannotOpen, Conflict, Damaged, Message, NoKey, NotReadable, NotStored, Text
from device_ui.mail.catalog import SIGN_IN_DEAD, SIGN_IN_ENDS, Kind
from device_ui.mail.oauth.outcome import TokenError, retry_seconds
from device_ui.mail.oauth.record import SignInRecord, StoredSignIn
from device_ui.mail.oauth.signing_key import Certificate, SigningKeys, days_left
from device_ui.mail.smtp.outcome import SmtpProblem, Step

if TYPE_CHECKING:
    from device_ui.mail.clock import Clock
    from device_ui.mail.oauth.token_client import TokenClient, Tokens
    from device_ui.mail.smtp.connection import OnStep
    from device_ui.settings.fields import SmtpSettings

log = logging.getLogger(__name__)

# Seconds before the end of an access token in which it is not used any more.
MARGIN_SECONDS = 120.0
# The longest time between two runs of device-ui-token.timer, in seconds: a day, its random delay of up to 6 hours, an
# hour in reserve.
RUN_SECONDS = 31 * 3600.0
# A person's sign-in is renewed without mail as if it ended after a week without use, or earlier if the provider says so. Most
# answers do not say it; a custom authorization server of Okta has this limit by default. A tenant may be stricter than
# its provider.
IDLE_SECONDS = 7 * 24 * 3600
# If the life that is left is shorter than a renewed one by more than this, in seconds, renewals do not extend it: its end is fixed.
FIXED_SECONDS = 3600
# Days before an end at which an event warns.
WARNING_DAYS = (60, 30, 14, 7, 1)
# Why a record, or the key in it, cannot be read or written.
STORE_ERRORS = (NotStored, NotReadable, NoKey, Damaged, CannotOpen, Conflict)
ENDS = {
    "certificate": Message("The certificate of the sign-in ends on {day}, in {days} days."),
    "secret": Message(
        "The client secret of the sign-in ends on {day}, in {days} days: type a new one on the SMTP tab."
    ),
    "device": Message(
        "The device could not renew the sign-in, which ends on {day}, in {days} days: check its connection to the sign-in server, or sign in again on the SMTP tab."
    ),
    "fixed": Message(
        "The provider ends the sign-in on {day}, in {days} days, although the device renews it: sign in again on the SMTP tab before that."
    ),
}
NEEDS_MAIL = Message(
    "The sign-in cannot be kept without mail: its provider ends it sooner than the device renews it, once a day. Have the provider allow a longer one, such as by the scope offline_access, or choose a different grant."
)
NO_REFRESH = Message(
    "the provider gave no refresh token, without which the sign-in ends with its first access token: add offline_access to the scope, and have the provider allow refresh tokens for this application"
)
# `StoredSignIn.warned` of `NEEDS_MAIL`.
NEEDS_MAIL_WARNED = "needs mail"
UPLOAD = Message(
    "Upload the new certificate to the provider before that: it is on the SMTP tab, with the SHA-256 {fingerprint}."
)


@dataclass(frozen=True)
class Access:
    """An access token; `is_new` if the provider made it now."""

    token: str = field(repr=False)
    is_new: bool


class SignIn:
    """The sign-in of one device. Any thread may call.

    `token_client` makes what a request needs, at the first one: a process that asks for no token loads neither ssl nor http.client.
    `raise_event` receives a kind and a text.
    """

    def __init__(
        self,
        record: SignInRecord,
        keys: SigningKeys,
        token_client: Callable[[], TokenClient],
        clock: Clock,
        raise_event: Callable[[Kind, Text], None],
    ) -> None:
        self._record, self.keys, self._token_client = record, keys, token_client
        self._clock, self._raise_event = clock, raise_event
        self._lock = threading.Lock()
        # Tokens that the provider made and the flash did not take, with what they are bound to.
        self._unstored: tuple[tuple[str, ...], StoredSignIn] | None = None
        # Whether a renewal that is stored as `asked`, by this process or one before, may still have no answer.
        self._is_unanswered = True
        # Tries in a row that ended at a problem that a person has to see to.
        self._dead_tries = 0

    def access(
        self,
        settings: SmtpSettings,
        secret: str,
        on_step: OnStep = lambda _step, _details: None,
        *,
        renews: bool = False,
    ) -> Access:
        """Return an access token for these settings, whose client secret is `secret`. Raises `TokenError`.

        `renews`: a new one in any case.
        """
        with self._lock:
            try:
                stored = self._load(settings)
                if not renews and stored.access and self._is_fresh(stored):
                    return Access(stored.access, is_new=False)
                made = self._renewed(settings, secret, stored, on_step)
            except TokenError as error:
                self._note(settings, error)
                raise
            except STORE_ERRORS as error:
                raise TokenError(Step.TOKEN_SIGN_IN, SmtpProblem.NOT_STORED, error.message) from error
            self._dead_tries = 0
            return Access(made.access, is_new=True)

    def refused(self, settings: SmtpSettings, reply: Text) -> TokenError:
        """Return the error of a new access token that the mail server refuses, and note it."""
        # Of a new one alone: an older one may have been revoked, and its successor is tried first (`OAuthSession.open`).
        error = TokenError(Step.LOGIN, SmtpProblem.TOKEN_REFUSED, reply)
        with self._lock:
            self._note(settings, error)
        return error

    def accepted(self, settings: SmtpSettings) -> None:
        """Note that the mail server took a token: whatever was wrong is not any more. Writes nothing when that is known."""
        with self._lock, contextlib.suppress(NotReadable):
            self._dead_tries = 0
            stored = self._record.known(settings)
            if stored.problem:
                self._try_store(settings, replace(self._record.load(settings), problem="", step="", reply=""))

    def signed_in(self, settings: SmtpSettings, made: Tokens) -> None:
        """Keep the tokens of a person who signed in. Raises `STORE_ERRORS`, and `TokenError` without a refresh token."""
        # A provider may leave it out (RFC 6749, 5.1): some do unless the scope has offline_access (OpenID Connect Core 1.0, 11), or
        # the application is allowed to have it. Mail would then stop after the first access token.
        if not made.refresh:
            raise TokenError(Step.TOKEN_ANSWER, SmtpProblem.NOT_SIGNED_IN, NO_REFRESH)
        with self._lock:
            self._unstored, self._is_unanswered, self._dead_tries = None, False, 0
            self._record.store(settings, self._with_tokens(settings, StoredSignIn(), made))

    def keep_alive(self, settings: SmtpSettings, secret: str) -> None:
        """Do what a day without mail needs: renew or try the sign-in, make the next certificate, warn of an end.

        Raises `DeviceUIError`: a `TokenError` is noted.
        """
        try:
            if settings.oauth_grant == "certificate" and self._clock.is_right():
                self.keys.make_next(settings)
            stored = self._record.known(settings)
            age = self._age(stored.renewed)
            # A secret and a certificate are tried daily, so that one that was revoked is known before an alarm needs it.
            if settings.oauth_grant != "device" or age is None or age >= _renewal_seconds(stored) or stored.problem:
                self.access(settings, secret, renews=True)
        finally:
            self._warn(settings)

    def state(self, settings: SmtpSettings) -> Mapping[str, Any]:
        """Return what is known of the sign-in, for a person; no secret. Raises `NotReadable`."""
        stored = self._record.known(settings)
        return {
            "grant": settings.oauth_grant,
            "person": stored.person,
            "renewed": self._renewed_at(stored),
            "ends": self._ends(settings, stored),
            "is_fixed": _is_fixed(stored),
            "warning_days": self._warning_days(settings, stored)[::-1],
            "needs_mail": NEEDS_MAIL if _needs_mail(stored) else "",
            "problem": stored.problem,
            "step": stored.step,
            "reply": stored.reply,
        }

    # Tokens.

    def _load(self, settings: SmtpSettings) -> StoredSignIn:
        """Return the sign-in of these settings; what the flash did not take is stored first. Raises `TokenError`."""
        if self._unstored and self._unstored[0] == settings.bound_to:
            self._store(settings, self._unstored[1])
        self._unstored = None
        return self._record.load(settings)

    def _renewed(self, settings: SmtpSettings, secret: str, stored: StoredSignIn, on_step: OnStep) -> StoredSignIn:
        client = self._token_client()
        exchange = client.begin(on_step)
        if settings.oauth_grant != "device":
            made = self._with_tokens(settings, stored, client.for_app(settings, secret, exchange))
            # Nothing rotates: a token that is not stored costs a request, and no mail waits for the flash.
            self._try_store(settings, made)
            return made
        if not stored.refresh:
            raise TokenError(Step.TOKEN_SIGN_IN, SmtpProblem.NOT_SIGNED_IN, "nobody has signed in yet")
        # The answer to an earlier renewal was lost, and the provider may have replaced the token in it. If it refuses this one,
        # that is why, and no fault of the person or the application.
        was_asked = bool(stored.asked) and self._is_unanswered
        is_sent = False

        def before_send() -> None:
            nonlocal is_sent
            self._mark_asked(settings, replace(stored, asked=self._clock.moment()))
            is_sent = True

        try:
            answer = client.refreshed(settings, stored.refresh, exchange, before_send)
        except TokenError as error:
            if is_sent and error.problem in ANSWERED:
                self._is_unanswered = False
            if error.problem == SmtpProblem.GRANT_ENDED and was_asked:
                raise TokenError(Step.TOKEN_ANSWER, SmtpProblem.RENEWAL_LOST, error.reply) from error
            raise
        made = self._with_tokens(settings, stored, answer)
        self._store(settings, made)
        self._is_unanswered = False
        return made

    def _mark_asked(self, settings: SmtpSettings, asked: StoredSignIn) -> None:
        try:
            self._record.store(settings, asked)
        except STORE_ERRORS as error:
            log.error("sign-in not renewed: not stored: %s", error)
            raise TokenError(Step.TOKEN_SIGN_IN, SmtpProblem.NOT_STORED, error.message) from error
        self._is_unanswered = True

    def _store(self, settings: SmtpSettings, made: StoredSignIn) -> None:
        """Put tokens on flash. Raises `TokenError`: they are kept in memory, and not used before they are on flash."""
        try:
            self._record.store(settings, made)
        except STORE_ERRORS as error:
            log.error("renewed sign-in not stored: %s", error)
            self._unstored = settings.bound_to, made
            raise TokenError(Step.TOKEN_SIGN_IN, SmtpProblem.NOT_STORED, error.message) from error

    def _try_store(self, settings: SmtpSettings, stored: StoredSignIn) -> None:
        try:
            self._record.store(settings, stored)
        except STORE_ERRORS as error:
            log.error("sign-in not stored: %s", error)

    def _with_tokens(self, settings: SmtpSettings, stored: StoredSignIn, made: Tokens) -> StoredSignIn:
        from device_ui.mail.oauth.token_client import idle_seconds

        # A renewal whose answer does not repeat the life has not changed it.
        idle = (idle_seconds(settings, made) or stored.idle_seconds) if settings.oauth_grant == "device" else 0
        return StoredSignIn(
            refresh=made.refresh or stored.refresh,  # RFC 6749, section 6: none in the answer keeps the old one
            access=made.access,
            person=made.person or stored.person,
            renewed=self._clock.moment(),
            seconds=made.seconds,
            idle_seconds=idle,
            life_seconds=max(stored.life_seconds, idle),
            # A mail server that refused the last token may refuse this one: only its answer ends that.
            **(
                {name: getattr(stored, name) for name in ("problem", "step", "reply")}
                if stored.step == Step.LOGIN
                else {}
            ),
            warned=stored.warned,
        )

    def _is_fresh(self, stored: StoredSignIn) -> bool:
        age = self._age(stored.renewed)
        # Half of its life at most: with the whole margin a token of two minutes would never be fresh.
        return age is not None and age < stored.seconds - min(MARGIN_SECONDS, stored.seconds / 2)

    def _age(self, moment: str) -> float | None:
        """Return the seconds since a moment of `Clock.moment`, None where they are not known.

        The wall clock may have jumped; then the longer time counts, after which a sign-in is renewed too early at worst. A moment
        after now is of a clock that was ahead, or damaged: it proves nothing.
        """
        wall, _, rest = moment.partition(" ")
        boot_id, _, boot = rest.partition(" ")
        this_boot, now = self._clock.since_boot
        try:
            ages = [now - float(boot)] if boot_id == this_boot else []
            if float(wall) and (today := self._clock.seconds()):
                ages.append(today - float(wall))
        except ValueError:
            return None
        return max((age for age in ages if age >= 0), default=None)

    def _renewed_at(self, stored: StoredSignIn) -> float:
        """Return when a sign-in last succeeded, in seconds since 1970; 0 where that is not known."""
        now = self._clock.seconds()
        if not now:
            return _wall(stored.renewed)
        age = self._age(stored.renewed)
        return 0.0 if age is None else now - age

    # What a person has to see to.

    def _note(self, settings: SmtpSettings, error: TokenError) -> None:
        """Note a problem: on flash if a person has to see to it and it is new, with an event if it worked before."""
        if not error.is_dead:
            return
        self._dead_tries += 1
        error.retry_after = max(error.retry_after, retry_seconds(self._dead_tries))
        try:
            stored = self._record.load(settings)
        except NotReadable as unreadable:
            log.error("sign-in not read: %s", unreadable)
            return
        is_known = stored.problem == error.problem and _code(stored.reply) == _code(error.reply)
        if is_known or stored.problem == SmtpProblem.RENEWAL_LOST:  # the latter is why a sign-in has ended
            return
        log.error("sign-in failed: %s", error)
        if stored.renewed and not stored.problem:
            self._raise_event(SIGN_IN_DEAD, Message("{step}: {reply}", step=Message(error.step), reply=error.reply))
        # Nothing of a refused sign-in is used again, but the refresh token: a provider may have been wrong.
        failed = replace(stored, access="", asked="", problem=error.problem, step=error.step, reply=error.reply)
        self._try_store(settings, failed)

    def _warn(self, settings: SmtpSettings) -> None:
        stored = self._record.known(settings)
        if _needs_mail(stored):
            if stored.warned != NEEDS_MAIL_WARNED:
                self._raise_event(SIGN_IN_ENDS, NEEDS_MAIL)
                self._note_warning(settings, NEEDS_MAIL_WARNED)
            return
        day = self._ends(settings, stored)
        now = self._clock.seconds()
        if not day or not now:
            return
        days = days_left(day, now)
        warning = next((f"{each} {day}" for each in self._warning_days(settings, stored) if days <= each), "")
        if warning == stored.warned:
            return
        if warning:
            words = ENDS["fixed" if _is_fixed(stored) else settings.oauth_grant]
            text: Text = Message(words.template, day=day, days=max(days, 0))
            following = self.keys.certificates(settings)[1:] if settings.oauth_grant == "certificate" else []
            if following:
                upload = Message(UPLOAD.template, fingerprint=following[0].sha256)
                text = Message("{ends} {upload}", ends=text, upload=upload)
            self._raise_event(SIGN_IN_ENDS, text)
        self._note_warning(settings, warning)

    def _note_warning(self, settings: SmtpSettings, warning: str) -> None:
        with self._lock:
            self._try_store(settings, replace(self._record.load(settings), warned=warning))

    def _warning_days(self, settings: SmtpSettings, stored: StoredSignIn) -> list[int]:
        """Return the days before the end at which to warn, the last one first. A person's sign-in that lives short always ends
        soon: it is not warned of before half of its time is over."""
        days = sorted(WARNING_DAYS)
        if settings.oauth_grant != "device":
            return days
        return [each for each in days if each * 24 * 3600 <= stored.life_seconds / 2]

    def _ends(self, settings: SmtpSettings, stored: StoredSignIn) -> str:
        """Return the day on which the sign-in ends if no one does anything, ``""`` where that is not known."""
        if settings.oauth_grant == "secret":
            return settings.oauth_until
        if settings.oauth_grant == "certificate":
            present: list[Certificate] = self.keys.certificates(settings)[:1]
            return present[0].ends if present else ""
        renewed = self._renewed_at(stored)
        if not renewed or not stored.idle_seconds:
            return ""
        return str(datetime.datetime.fromtimestamp(renewed + stored.idle_seconds, datetime.UTC).date())


# Problems of an answer: the provider decided, so the token was not replaced without our knowing.
ANSWERED = (
    SmtpProblem.GRANT_ENDED,
    SmtpProblem.CLIENT_REFUSED,
    SmtpProblem.ANSWER,
    SmtpProblem.BUSY,
    SmtpProblem.REDIRECTED,
)


def _renewal_seconds(stored: StoredSignIn) -> float:
    """Return the age at which a daily run renews a person's sign-in: the next run may be in the second half of its life."""
    return min(stored.idle_seconds or IDLE_SECONDS, IDLE_SECONDS) / 2 - RUN_SECONDS


def _code(reply: Text) -> str:
    """Return the code that a provider's reply begins with: it chooses the advice. What follows may have a time or a number."""
    return str(reply).partition(":")[0]


def _needs_mail(stored: StoredSignIn) -> bool:
    """Return whether a person's sign-in ends sooner than the next daily run may come."""
    return 0 < stored.life_seconds < RUN_SECONDS


def _is_fixed(stored: StoredSignIn) -> bool:
    """Return whether renewals do not move the end of a person's sign-in: the life in the answers becomes shorter."""
    return stored.idle_seconds < stored.life_seconds - FIXED_SECONDS


def _wall(moment: str) -> float:
    """Return the seconds since 1970 of a moment of `Clock.moment`, 0 where it has none."""
    wall = moment.partition(" ")[0]
    return float(wall) if wall.isascii() and wall.isdigit() else 0.0
