"""The SMTP tab: show what is stored, and Update. Its fields are `settings.fields.FIELDS`."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Mapping
from typing import Any

from bottle import HTTPResponse, html_escape, request, response

from device_ui.errors import Conflict, Damaged, DeviceUIError, HookError, Message, NoKey, NotReadable, NotStored, Text
from device_ui.i18n.translator import Translator
from device_ui.mail import client
from device_ui.settings import keys, rules, seal
from device_ui.settings.fields import (
    ADVANCED_HINTS,
    BY_NAME,
    FIELDS,
    PASSWORD_SIGN_INS,
    SIGN_INS,
    ParsedForm,
    SmtpSettings,
    needed_fields,
    needs_secret,
    parse,
)
from device_ui.settings.presets import PRESETS
from device_ui.settings.rules import Invalid
from device_ui.settings.store import Stored
from device_ui.settings.trust_rules import NEEDED_WITH
from device_ui.web.auth.guard import address, see_other
from device_ui.web.auth.sessions import Session
from device_ui.web.context import AppContext
from device_ui.web.forms import posted, text
from device_ui.web.pages import delivery_state

log = logging.getLogger(__name__)

SAVED = "Saved."
SAVED_PAUSED = "Saved. The mail service is not running: mail is paused until it starts."
IN_DOUBT = "It is not certain that this was saved. {reason} Please press Update again."
PASSWORD_LOST = "The stored password can no longer be opened: the device's key has changed. Please type it again."
CHANGED_MEANWHILE = (
    "The settings have changed since you opened this page, so nothing was saved. Below are your own values; "
    "what is stored now stands beside them. Press Update again to replace it. The stored password is never shown; it may have changed as well."
)
# After a login that came in between.
KEPT = "Nothing was saved yet. Below is what you typed before you signed in, the password excepted. Press Update again."
NOT_SAVED = "Nothing was saved. {reason} The settings are as before."
PLEASE_CORRECT = "Nothing was saved. Please correct:"
# What a test found and a person chose to trust.
TRUSTED = {
    "pin": "The server's key is filled in, and not saved yet. Before you press Update, compare its SHA-256 with what the server's administrator gives: whoever answered the test would be trusted.",
    "ca": "The authority is filled in, and not saved yet. Before you press Update, make sure that it is your own: every server with a certificate of it would be trusted.",
    "": "Paste the certificate of your authority under “Advanced”, then press Update. The server did not show it.",
}
TYPE_PASSWORD = "Type the password again as well."
TRIED = "Waiting mail is tried now."
# By `HookError.word`; any other word says that the hook does not answer.
NOT_TRIED = {
    "too-many": "Too many tries one after another. Please wait {seconds} seconds and try again.",
    "held": delivery_state.NOTHING_TRIED,
}
HOOK_DOWN = "The mail service does not answer. Please try again."
# The manual's note at the foot of the tab, and the pages that it names.
NOTE = (
    "For a description of the event codes for which emails are sent, refer to {codes}, and for an explanation of the email "
    "content sent during events, refer to {content}."
)
NOTE_LINKS = {"codes": ("/others/event-codes", "Event Codes"), "content": ("/others/email-content", "Email Content")}
# The steps of a test mail in their order, as they are shown; their number is the length of the progress bar.
STEPS = {
    "name": "Name",
    "address": "Address",
    "connect": "Connect",
    "greeting": "Greeting",
    "ehlo": "EHLO",
    "tls": "TLS",
    "certificate": "Certificate",
    "login": "Login",
    "sender": "Sender",
    "recipient": "Recipient",
    "content": "Content",
}
# The steps to an access token, before those.
SIGN_IN_STEPS = {
    "token name": "Sign-in server: name",
    "token address": "Sign-in server: address",
    "token connect": "Sign-in server: connect",
    "token tls": "Sign-in server: TLS",
    "token certificate": "Sign-in server: certificate",
    "token answer": "Sign-in server: answer",
}
# Of every step at which a mail can stop.
STEP_LABELS = {"token sign-in": "Stored sign-in", **SIGN_IN_STEPS, **STEPS}


def show(site: AppContext, session: Session) -> str:
    """Show the stored values."""
    stored, problem = load(site)
    # HEAD must not use up what is shown once.
    if request.method != "GET":
        return page(site, session, stored, _values(stored.settings), problem=problem)
    kept = session.take_saved_form("/smtp")
    if kept:
        return page(site, session, stored, kept, problem=problem or KEPT, revision=kept["revision"], unsaved=True)
    values, preset = _values(stored.settings), request.query.get("preset")
    if preset in PRESETS:
        # Unsaved: a link that anybody can write must not change where mail goes.
        filled = {**values, **PRESETS[preset].values}
        return page(site, session, stored, filled, problem=problem, preset=preset, unsaved=True)
    return page(site, session, stored, values, notice=session.take_notice(), problem=problem, preset=preset)


def update(site: AppContext, session: Session) -> str | HTTPResponse:
    """Check every rule, seal, store, notify the hook, and redirect: only then is it called saved."""
    form = posted()
    with session.lock:  # a double click sends the form twice at once
        stored, problem = load(site)
        # The first of the two forms was saved; the second gets the same answer, and not a conflict.
        if session.is_duplicate_submit(form, stored.revision):
            session.notice = _notify_hook(site, stored.revision)
            return see_other("/smtp")
        return _update(site, session, form, stored, problem)


def _update(
    site: AppContext, session: Session, form: Mapping[str, str], stored: Stored[SmtpSettings], problem: Text
) -> str | HTTPResponse:
    revision = text(form, "revision")
    if problem:
        log.error("the settings were not saved: %s", problem)
        response.status = 503
        return page(site, session, stored, form, problem=Message(NOT_SAVED, reason=problem), revision=revision)
    if revision != stored.revision:
        # Before the rules: an empty password would be checked against settings that this form did not show.
        return _conflict(site, session, form)
    draft = parse(form, stored.settings, site.device.locked)
    if draft.settings is None:
        response.status = 422
        return page(site, session, stored, form, broken=draft.broken)
    try:
        settings = sealed(site, draft, draft.settings)
        revision = site.store.save(settings, revision)
    except Conflict:  # saved by another thread, or at the console, since it was read
        return _conflict(site, session, form)
    except (NotStored, NoKey, Damaged, NotReadable) as error:
        log.error("the settings were not saved: %s", error)
        # RFC 4918, 11.5: a full or read-only disk is 507; a client may repeat a 503 later.
        response.status = 507 if isinstance(error, NotStored) else 503
        # With the present revision: the new file may be in place, and a second Update must not be a conflict.
        if getattr(error, "in_doubt", False):
            return page(site, session, load(site)[0], form, problem=Message(IN_DOUBT, reason=error.sentence))
        return page(site, session, stored, form, problem=Message(NOT_SAVED, reason=error.sentence))
    # Who and not what: an account or a host need not be known to every reader of the log.
    log.info("the SMTP settings were saved from %s", address())
    session.remember(form, revision)
    # After the file is on flash, and whatever the hook answers: it reads the settings before its next mail, and every minute while mail waits.
    session.notice = _notify_hook(site, revision)
    return see_other("/smtp")


def trust(site: AppContext, session: Session) -> str:
    """Fill in, unsaved, which certificate of the server is trusted: the button of a test has ``offer``, such as ``pin:`` and a key."""
    form, (stored, problem) = posted(), load(site)
    chosen, _, value = text(form, "offer").partition(":")
    if chosen not in NEEDED_WITH.values():
        return page(site, session, stored, form, problem=problem, revision=text(form, "revision"))
    # The value is checked by Update as if it was typed, which it could have been.
    filled = {"trust": chosen, **{name: value for name, needs in NEEDED_WITH.items() if needs == chosen}}
    # Never sent back: a typed password, or one that is stored for a different trust. The script puts the fields into a form that is
    # not sent anew, so that a password typed there stays.
    retype = (
        needs_secret(form.get("sign_in", SIGN_INS[0]), form.get("oauth_grant", "")) and "keeps_password" not in form
    )
    words = site.words()
    notice = " ".join(map(words, [TRUSTED[chosen if value else ""], *([TYPE_PASSWORD] if retype else [])]))
    given = {"notice": notice, "problem": problem, "revision": text(form, "revision"), "trusts": True}
    return page(site, session, stored, {**form, **filled}, **given)


def try_now(site: AppContext, session: Session) -> str | HTTPResponse:
    """Let the hook try waiting mail at once. Nothing typed is saved, and nothing is sent that did not wait."""
    try:
        client.try_waiting(site.device.folders.socket, address())
    except HookError as error:
        log.warning("waiting mail is not tried: %s", error)
        response.status = 409 if error.word == "held" else 429 if error.seconds else 503
        if error.word != "held":
            response.set_header("Retry-After", str(error.seconds or 60))
        stored, _ = load(site)
        problem = Message(NOT_TRIED.get(error.word, HOOK_DOWN), seconds=error.seconds)
        return page(site, session, stored, _values(stored.settings), problem=problem)
    session.notice = TRIED
    return see_other("/smtp")


def _conflict(site: AppContext, session: Session, form: Mapping[str, str]) -> str:
    response.status = 409
    return page(site, session, load(site)[0], form, problem=CHANGED_MEANWHILE, beside=True)


def load(site: AppContext) -> tuple[Stored[SmtpSettings], Text]:
    """Return the stored settings, and why they cannot be read, else ``""``. A password that cannot be opened is omitted."""
    try:
        stored = site.store.load()
    except DeviceUIError as error:
        return Stored(None, ""), error.sentence
    settings = stored.settings
    # As if none were stored: an Update with an empty password is then refused, and not saved with one that never opens.
    if settings and _is_lost(site, settings):
        stored = dataclasses.replace(stored, settings=dataclasses.replace(settings, sealed=None))
    return stored, ""


def _is_lost(site: AppContext, settings: SmtpSettings) -> bool:
    """Return whether the stored password was sealed to a key that this device no longer has."""
    if settings.sealed is None:
        return False
    # By the ids, which are public: this process has no key to try.
    with contextlib.suppress(NoKey, Damaged, NotReadable):  # then saving a new one says so
        return seal.sealed_for(settings.sealed) not in keys.public_ids(site.public_key)
    return False


def sealed(site: AppContext, draft: ParsedForm, settings: SmtpSettings) -> SmtpSettings:
    """Return the settings with a typed password sealed for their server. Raises `NoKey`, `Damaged`, `NotReadable`."""
    if draft.password is None:
        return settings
    public = keys.load_public(site.public_key)
    return dataclasses.replace(settings, sealed=seal.seal(draft.password, public, settings.bound_to))


def _notify_hook(site: AppContext, revision: str) -> str:
    """Notify the mail hook of a save; return the sentence for the operator."""
    try:
        client.settings_changed(site.device.folders.socket, revision, address())
    except HookError as error:
        return SAVED_PAUSED if error.word == "down" else SAVED
    return SAVED


def _values(settings: SmtpSettings | None) -> Mapping[str, str]:
    # As a form has them: what is stored and what was typed are shown and compared alike.
    if settings is None:
        return {}
    return {field.name: str(getattr(settings, field.name)) for field in FIELDS if not field.secret}


def _has_lost_password(stored: Stored[SmtpSettings]) -> bool:
    return stored.settings is not None and stored.settings.needs_secret and stored.settings.sealed is None


def _shown(values: Mapping[str, str]) -> dict[str, str]:
    # A missing choice is the default: browsers do not send a locked field.
    return {each.name: values.get(each.name, "") or next(iter(each.choices), "") for each in FIELDS if not each.secret}


def page(
    site: AppContext, session: Session, stored: Stored[SmtpSettings], values: Mapping[str, str], **shown: Any
) -> str:
    """Return the tab; `shown` are the parameters of `_parameters`."""
    return site.render("smtp", session, **_parameters(site, stored, values, **shown))


def _note(words: Translator) -> str:
    """Return the manual's note as HTML."""
    # Escaped before the links are put in: a translation is a text, and a maker may have written it.
    html: str = html_escape(words(NOTE))
    for place, (path, name) in NOTE_LINKS.items():
        title = html_escape(f"{words('Others')} > {words(name)}")
        html = html.replace(f"{{{place}}}", f'<a href="{path}">{title}</a>')
    return html


def _parameters(
    site: AppContext,
    stored: Stored[SmtpSettings],
    values: Mapping[str, str] | None = None,
    *,
    broken: Mapping[str, Invalid] | None = None,
    notice: Text = "",
    problem: Text = "",
    revision: str | None = None,
    beside: bool = False,
    summary: str = PLEASE_CORRECT,
    test: Mapping[str, Any] | None = None,
    unsaved: bool = False,
    preset: str | None = None,
    trusts: bool = False,
) -> dict[str, Any]:
    """Return the parameters of the template. `values` (None: the stored ones) are shown as typed, secret ones never.

    `beside` shows the stored value beside a different one. `unsaved`: `values` are not stored. `summary` is the line above the
    broken fields; `test` is the result of a test mail, from `pages.test_mail`. `preset` is the provider whose values are filled in;
    any other text shows the list of providers, and None shows neither. `trusts`: a trusted certificate is filled in.
    """
    now = _shown(_values(stored.settings))
    shown = now if values is None else _shown(values)
    locked = site.device.locked
    state, delivery = site.delivery()
    # A value from before the maker locked its field is shown beside the locked one: the next Update replaces it.
    shown = {**shown, **{name: BY_NAME[name].choices[0] for name in locked}}
    return {
        "fields": needed_fields(shown),
        "values": shown,
        "broken": broken or {},
        "opens_advanced": trusts
        or any(hint in ADVANCED_HINTS for each in (broken or {}).values() for hint in each.hints),
        "summary": summary,
        "test": test,
        "beside": {name: now[name] for name in shown if now[name] != shown[name] and (beside or name in locked)},
        "notice": notice,
        "problem": problem or (PASSWORD_LOST if _has_lost_password(stored) else ""),
        "damaged": stored.damaged,
        "quarantine_failed": stored.quarantine_failed,
        # A stored password is for its own server and trust, and not for that of a preset or a test.
        "has_password": bool(stored.settings and stored.settings.sealed) and preset not in PRESETS and not trusts,
        # A form without the password of a sign-in that needs none keeps nothing: it is said before Update does it.
        "removes_password": bool(stored.settings and stored.settings.sealed),
        "needs_password": needs_secret(shown["sign_in"], shown["oauth_grant"]),
        "password_sign_ins": PASSWORD_SIGN_INS,
        "preset": PRESETS.get(preset or ""),
        "presets": None if preset is None or preset in PRESETS else PRESETS,
        "locked": locked,
        "revision": stored.revision if revision is None else revision,
        # After a POST that saved something there is a redirect, so any page that answers a POST is not stored.
        "unsaved": unsaved or request.method == "POST",
        "steps": len(STEPS) + (len(SIGN_IN_STEPS) if shown["sign_in"] == "oauth" else 0),
        "signs_in": bool(stored.settings and stored.settings.sign_in == "oauth"),
        "note": _note(site.words()),
        "mail_state": state,
        "delivery": delivery_state.panel(site, stored.settings, delivery),
        # For the script, which checks the password's rules during typing by the same table.
        "sequences": rules.SEQUENCES,
        "sequence_length": rules.SEQUENCE_LENGTH,
    }
