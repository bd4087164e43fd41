"""What the pages share: the device, its stores, its guard, rendering, and the state of the mail path."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bottle import response

from device_ui.config import Device
from device_ui.errors import HookError
from device_ui.i18n.translator import LANGUAGES, PLAIN, Translator, translator_for
from device_ui.mail import client
from device_ui.settings.store import NameStore, NotificationStore, RecipientStore, Store
from device_ui.web import locale
from device_ui.web.auth.guard import Guard
from device_ui.web.auth.sessions import IDLE_SECONDS
from device_ui.web.static_files import PLAIN as PLAIN_FILES
from device_ui.web.static_files import StaticFiles
from device_ui.web.templates import template

if TYPE_CHECKING:
    from device_ui.web.auth.sessions import Session
    from device_ui.web.branding import Brand

    # The word for the mail path, and what the hook says beside it.
    State = tuple[str, Mapping[str, Any]]

# The sentence of the banner for each problem of the mail path (`delivery.status`); {reply} is the server's answer.
MAIL_PROBLEMS = {
    "damaged": "The stored settings are damaged. Mail waits until they are typed again.",
    "unreadable": "The mail service cannot read the settings: {reply}. Mail waits.",
    "password": "The stored password cannot be opened. Mail waits until it is typed again.",
    "login refused": "The mail server refused the login: “{reply}”. Mail waits until the settings change, so that the account is not locked.",
    "sign-in": "The sign-in by OAuth 2.0 has failed ({step}): “{reply}”. No mail goes out until that is put right; it is tried again.",
    "too many logins": "The mail server refused several logins. The new settings wait up to 20 minutes, so that the account is not locked. “Send test email” tries the saved settings at once; when it gets through, mail goes out.",
    "server": "Mail could not be delivered yet ({step}): “{reply}”. It is tried again.",
    "queued": "Mail waits for its first try since the mail service started or the settings changed.",
    "storage": "The device's storage has a problem: {reply}. Mail may be late.",
    "fault": "The mail service has a fault; its log has the details. Mail is tried again.",
    "full": "The device's disk is full. Events are accepted while its reserve lasts; free some space.",
    "budget": "As many mails went out as an hour may have. Further alarms wait for the next mail, within the hour.",
    "dropped": "A mail was given up after 5 days of trying ({step}): “{reply}”. It is not tried again by itself.",
    "refused": "The last mail was refused for good ({step}): “{reply}”. It is not tried again by itself.",
    "certificate": "The certificate of the mail server has ended ({reply}). Its key is trusted, so mail goes on: have the server's administrator renew it.",
    "denied": "The mail service does not know this web process's user; the maker sets it in device.toml (users.web).",
    "down": "The mail service is not running. Mail is paused until it starts; events cannot be accepted.",
}
# Where a mail stopped (`smtp.outcome.Step`), as part of those sentences.
AT_STEP = {
    "token sign-in": "at the device's stored sign-in",
    "token name": "at the look-up of the sign-in server's name",
    "token address": "at the check of the sign-in server's address",
    "token connect": "at the connection to the sign-in server",
    "token tls": "at the start of TLS with the sign-in server",
    "token certificate": "at the sign-in server's certificate",
    "token answer": "at the sign-in server's answer",
    "name": "at the look-up of the mail server's name",
    "address": "at the check of the mail server's address",
    "connect": "at the connection to the mail server",
    "greeting": "at the mail server's greeting",
    "ehlo": "at the mail server's answer to EHLO",
    "tls": "at the start of TLS",
    "certificate": "at the mail server's certificate",
    "login": "at the login",
    "sender": "at the sender's address",
    "recipient": "at the recipient's address",
    "content": "at the mail's content",
}
# For a login that worked before.
LOGIN_RETRIED = "The mail server refused the login, which worked before: “{reply}”. It is tried again a few times a day; a change of the settings tries it at once."
# The state in the head of every page, by the same words: as a text and not by colour alone (WCAG 2.2, 1.4.1), and also when
# there is no problem, so that an operator knows that it would be shown.
MAIL_STATES = {
    **dict.fromkeys(("", "certificate"), "Mail: ok"),
    "unset": "Mail: not set up",
    **dict.fromkeys(
        ("too many logins", "server", "queued", "budget", "storage", "fault", "full", "clock"), "Mail: late"
    ),
    **dict.fromkeys(("dropped", "refused", "removed"), "Mail: some not sent"),
}
# With every other word no mail is sent until the operator or the maker acts.
STOPPED = "Mail: stopped"
# Where an operator can act on a problem, from every page: the address and the text of the link that ends the banner.
TO_HISTORY = ("/history?outcome=not+delivered", "Send it again from History")
TO_TAB = ("/smtp", "Open the SMTP tab")
LINKS = {
    **dict.fromkeys(("dropped", "refused"), TO_HISTORY),
    **dict.fromkeys(("damaged", "password", "login refused", "too many logins", "server"), TO_TAB),
}
CLOCK_WRONG = "The device's clock is not set (it says {clock}): mail waits up to ten minutes for the right time."
REMOVED_UNMAILED = "{count} events were removed before they could be mailed, since the history was full."


@dataclass
class AppContext:
    """The objects that the pages share. `testing` is held during a test mail.

    A test occupies one of four threads for up to a minute: more at once would leave none for the pages.
    """

    device: Device
    store: Store
    recipients: RecipientStore
    names: NameStore
    notifications: NotificationStore
    guard: Guard
    brand: Brand | None = None
    testing: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    @cached_property
    def static_files(self) -> StaticFiles:
        """The files that the pages load: with the maker's brand, if there is one."""
        return self.brand.static_files() if self.brand else PLAIN_FILES

    @cached_property
    def public_key(self) -> Path:
        """The file of the key that passwords are sealed to; each page reads it anew."""
        return self.device.folders.public_key

    def mail_state(self) -> State:
        """Return the word for the mail path, ``""`` when well, and the hook's details."""
        # Asked for every page, which costs 0.1 ms: a cached state would show a problem that is gone, or hide a new one.
        try:
            return _state_of_answer(client.state(self.device.folders.socket))
        except HookError as error:
            return _state_of_error(error)

    def delivery(self) -> tuple[State, Mapping[str, Any] | None]:
        """Return the state of the mail path and what `client.delivery` returns, None if the hook does not say it."""
        # One question for both: asked for one after the other, the head of a page could contradict the rest.
        try:
            found = client.delivery(self.device.folders.socket)
        except HookError as error:
            # A hook with a fault in this answer may know the state; one that does not answer is not waited for twice.
            return (_state_of_error(error) if error.word == "down" else self.mail_state()), None
        details = found.get("state")  # a hook of an earlier version does not send it
        return (_state_of_answer(details) if isinstance(details, dict) else self.mail_state()), found

    def words(self) -> Translator:
        """Return the translator of this request's language."""
        return translator_for(locale.code(self.device["device.language"]), self.device.folders.etc)

    def render(self, name: str, session: Session | None = None, mail_state: State | None = None, **values: Any) -> str:
        """Return a page of `views/` in the layout. The hook is asked for the state of the mail path unless the page did it."""
        words, state = self.words(), (mail_state or self.mail_state()) if session else None
        response.content_type = "text/html; charset=UTF-8"
        response.set_header("Content-Language", words.code)
        response.set_header("Vary", locale.VARIES)
        # The values that the layout needs on every page; a page's own replace them.
        given = {
            "_": words,
            "languages": LANGUAGES,
            "here": locale.here(),
            "device": self.device,
            "brand": self.brand,
            "asset": self.static_files.url,
            "idle": int(IDLE_SECONDS),
            "idle_left": int(session.idle_left) if session else 0,
            "page": "smtp",
            "token": self.guard.form_token(),
            "session": state is not None,
            "path": mail_path(*state, words) if state else None,
        }
        return str(template(name).render({**given, **values}))


def _state_of_answer(details: Mapping[str, Any]) -> State:
    return str(details.get("problem", "")), details


def _state_of_error(error: HookError) -> State:
    # A hook that refuses this user is running: "down" would send the operator to the wrong place.
    return {"not-stored": "storage", "denied": "denied"}.get(error.word, "down"), {"reply": error.reason}


@dataclass(frozen=True)
class MailPath:
    """The mail path as every page shows it: `state` in a word or two, and the `problem` in one sentence.

    `problem` is ``""`` when mail is sent, or no settings are stored yet. `link` is the page that helps, as in `LINKS`.
    """

    state: str
    problem: str
    is_well: bool
    link: tuple[str, str] = ("", "")


def mail_path(word: str, details: Mapping[str, Any], words: Translator = PLAIN) -> MailPath:
    """Return the hook's word for the mail path and its `details` (see `client.state`) in the reader's language."""
    # A step that this page does not know is shown by its own name.
    step, reply = str(details.get("step", "")), words(details.get("reply", ""))
    step = words(AT_STEP.get(step, step))
    template = LOGIN_RETRIED if details.get("is_retried") else MAIL_PROBLEMS.get(word, "")
    sentence = words(template, step=step, reply=reply)
    clock = words(CLOCK_WRONG, clock=details["clock"]) if details.get("clock") else ""
    removed = words(REMOVED_UNMAILED, count=details["removed"]) if details.get("removed") else ""
    problem = " ".join(filter(None, (sentence, words(details.get("advice", "")), removed, clock)))
    return MailPath(words(MAIL_STATES.get(word, STOPPED)), problem, is_well=not word, link=LINKS.get(word, ("", "")))
