"""The sign-in by OAuth 2.0 of the stored settings: its state, the device's certificate, or a code for a person.

The mail hook signs in; this page shows what the hook says, and never gets a token or a key. Update on the SMTP tab comes first.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from bottle import HTTPError, HTTPResponse, request, response

from device_ui.errors import HookError, Message, Text
from device_ui.mail import client
from device_ui.settings.fields import BY_NAME, SmtpSettings
from device_ui.web.auth.guard import address, see_other
from device_ui.web.auth.sessions import Session
from device_ui.web.context import AppContext
from device_ui.web.forms import posted, text
from device_ui.web.pages import smtp
from device_ui.web.pages.powershell import lines

log = logging.getLogger(__name__)

PATH = "/smtp/sign-in"
# Seconds between two looks while a person signs in elsewhere, by a script, or by the browser without JavaScript.
REFRESH_SECONDS = 5
NOT_SHOWN = "The state of the sign-in cannot be shown. {reason}"
NOT_DONE = "This could not be done. {reason}"
TOO_MANY = "Too many sign-ins one after another. Please wait {seconds} seconds and try again."
KEPT = "Nothing was done: your session had ended. Please press the button again."
# The phase of a code that has ended → what became of it; see `mail.oauth.device_code.Phase`.
ENDED = {
    "done": "The sign-in is done.",
    "expired": "The code has expired. Begin again.",
    "declined": "The sign-in was declined at the provider.",
    "cancelled": "The sign-in was cancelled.",
}
FAILED = "The sign-in failed at {step}: {reply}"
FAILED_HERE = "The sign-in failed: {reply}"


def show(site: AppContext, session: Session) -> str | HTTPResponse:
    """Show the state; while a code waits for its person, the browser looks again by itself."""
    settings = _settings(site)
    if settings is None:
        return see_other("/smtp")
    return _page(site, session, settings, KEPT if session.take_saved_form(PATH) else "")


def update(site: AppContext, session: Session) -> str | HTTPResponse:
    """Begin or cancel a sign-in by a code."""
    settings, action = _settings(site), text(posted(), "do")
    if action not in ("begin", "cancel"):
        raise HTTPError(400, "The form does not say what to do.")
    if settings is None:
        return see_other("/smtp")
    try:
        client.sign_in(site.device.folders.socket, action)
    except HookError as error:
        log.warning("sign-in: %s: %s", action, error)
        response.status = 429 if error.seconds else 503
        if error.seconds:
            response.set_header("Retry-After", str(error.seconds))
        words = TOO_MANY if error.seconds else NOT_DONE
        values = {"seconds": error.seconds} if error.seconds else {"reason": error.sentence}
        return _page(site, session, settings, Message(words, **values))
    log.info("sign-in: %s, from %s", action, address())
    return see_other("/smtp/sign-in")


def certificate(site: AppContext, _session: Session) -> bytes | HTTPResponse:
    """Return the certificate with the fingerprint of the query, as a file that providers take."""
    # Imported here: the other pages do not need it, and the process is to stay small.
    import base64

    if _settings(site) is None:
        return see_other("/smtp")
    wanted = request.query.get("sha256", "")
    try:
        made = client.certificates(site.device.folders.socket)
    except HookError as error:
        raise HTTPError(503, Message(NOT_SHOWN, reason=error.sentence)) from error
    found = next((each for each in made if each["sha256"] == wanted), None)
    if found is None:
        raise HTTPError(404)
    # RFC 2585, section 4.1: one certificate in DER.
    response.content_type = "application/pkix-cert"
    response.set_header("Content-Disposition", f'attachment; filename="device-ui-{found["sha256"][:8]}.cer"')
    return base64.b64decode(found["der"])


def _settings(site: AppContext) -> SmtpSettings | None:
    """Return the stored settings if they sign in by OAuth 2.0."""
    settings = smtp.load(site)[0].settings
    return settings if settings is not None and settings.sign_in == "oauth" else None


def _page(site: AppContext, session: Session, settings: SmtpSettings, problem: Text = "") -> str:
    state: Mapping[str, Any] = {}
    made: Sequence[Mapping[str, str]] = ()
    socket = site.device.folders.socket
    try:
        state = client.sign_in(socket)
        if settings.oauth_grant == "certificate":
            made = client.certificates(socket)
    except HookError as error:
        log.warning("the sign-in cannot be shown: %s", error)
        if not problem:
            response.status, problem = 503, Message(NOT_SHOWN, reason=error.sentence)
    flow = state.get("flow", {})
    return site.render(
        "sign_in",
        session=session,
        grant=settings.oauth_grant,
        grant_words=BY_NAME["oauth_grant"].words[settings.oauth_grant],
        account=settings.account,
        state=state,
        flow=flow,
        refreshes=REFRESH_SECONDS if flow.get("phase") in ("asking", "waiting") else 0,
        certificates=made,
        powershell=lines(settings) if settings.oauth_provider == "microsoft" else "",
        day=_day,
        ended=_ended(flow),
        failed=_failure(state),
        problem=problem,
    )


def _ended(flow: Mapping[str, Any]) -> Text:
    """Return what became of the last code; ``""`` while one waits, or before the first."""
    if flow.get("phase") == "failed":
        return _failure(flow)
    return ENDED.get(flow.get("phase", ""), "")


def _failure(found: Mapping[str, Any]) -> Text:
    """Return a failure in one sentence, ``""`` for none."""
    if not found.get("problem") and found.get("phase") != "failed":
        return ""
    step = str(found.get("step", ""))
    reply = found.get("reply") or Message(str(found.get("problem", "")))
    labels = smtp.STEP_LABELS
    if not step:
        return Message(FAILED_HERE, reply=reply)
    return Message(FAILED, step=Message(labels.get(step, step)), reply=reply)


def _day(seconds: float) -> str:
    """Return the day of a moment (seconds since 1970), in UTC as the ends of certificates are."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d}"
