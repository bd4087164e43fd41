"""The test mail: what is typed on the SMTP tab is tried by the mail hook, step by step. No setting is saved.

The script of the page requests the steps as they happen, as lines of JSON; a browser without it gets one page at the end.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import math
import re
from collections.abc import Generator, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from bottle import HTTPResponse, request, response

from device_ui.errors import Damaged, HookError, Message, NoKey, NotReadable, Text
from device_ui.i18n.translator import Translator
from device_ui.mail import client
from device_ui.settings.fields import BY_NAME, ParsedForm, SmtpSettings, parse
from device_ui.web.auth.guard import address
from device_ui.web.auth.sessions import Session
from device_ui.web.context import AppContext
from device_ui.web.forms import posted, text
from device_ui.web.pages import smtp

if TYPE_CHECKING:
    Line = dict[str, Any]
    Lines = Generator[Line, None, None]

log = logging.getLogger(__name__)


LINES_TYPE = "application/x-ndjson"
PLEASE_CORRECT = "Nothing was sent. Please correct:"
NOT_MADE = "The test could not be made. {reason}"
BUSY = "Another test is running. Please wait a minute."
TOO_MANY = "Too many tests one after another. Please wait {seconds} seconds and try again."
TOO_MANY_LOGINS = (
    "Too many logins were refused. Please wait {minutes} minutes and try again, so that the account is not locked."
)
# By `HookError.word`. The limits are the hook's: a compromised web process cannot evade them. "down" may come in the middle, when
# the mail may be on its way already.
PROBLEMS = {
    "busy": BUSY,
    "too-many": TOO_MANY,
    "too-many-logins": TOO_MANY_LOGINS,
    "down": "The mail service does not answer, so the test has no result. Please try again.",
}
ACCEPTED = "The mail server accepted the test mail for {recipients}."
NOT_ACCEPTED = "The test mail was not sent."
NOT_ACCEPTED_BY_ALL = "The test mail was not sent to everybody."
ANSWERED, SAVES_NOTHING = "The server answered: “{reply}”", "The test saves nothing."
LOOK_FOR_IT = "If it does not arrive, look in the spam folder."
# Steps at which the recipients can have different verdicts: RCPT is answered for each, and the content only for those that RCPT
# accepted (RFC 5321, 3.3).
OF_EACH = ("recipient", "content")
# The problem where the server gave an answer: its words are shown instead.
ANSWER = "answer"
# A reply of an SMTP server (RFC 5321, 4.2); any other text is a reason in the words of this product.
REPLY_PATTERN = re.compile(r"[2-5][0-9]{2}(?:[ -].*)?", re.DOTALL)
# A line each, the fingerprints first: the server chooses the texts below them, which must not pass for a fingerprint.
CERTIFICATE = (
    "SHA-256 of the key: {key}",
    "SHA-256 of the certificate: {whole}",
    "Valid from {begins} to {ends}",
    "Names in the certificate: {names}",
    "Subject: “{subject}”",
    "Issuer: “{issuer}”",
)
OFFER = {"name": "offer", "formAction": "/smtp/trust", "className": "second"}
TRUST_KEY, GIVE_AUTHORITY = "Trust this key", "Give the authority"
# Problems of a certificate that no trust changes.
NO_OFFERS = ("weak TLS", "revoked")
BECAME = {"delivered": "accepted", "refused": "refused", "try later": "not accepted now"}


def run(site: AppContext, session: Session) -> str | HTTPResponse | Iterator[bytes]:
    """Try what is typed: by the rules of Update first, then by the mail server."""
    form = posted()
    stored, problem = smtp.load(site)
    # With the form's own revision: a test saves nothing, so an Update after it must still find a change of a different writer.
    page = partial(smtp.page, site, session, stored, form, revision=text(form, "revision"))
    draft = parse(form, stored.settings, site.device.locked)
    if draft.settings is None and not problem:
        response.status = 422
        return page(broken=draft.broken, summary=PLEASE_CORRECT)
    # Sealed even for a test: the hook takes no password in the clear, and no log of its socket can hold one.
    settings, problem = _sealed(site, draft, problem)
    if settings is None:
        response.status = 503
        return page(problem=Message(NOT_MADE, reason=problem))
    log.info("a test mail was asked for from %s", address())
    lines = _lines(site, settings, site.words())
    # By Accept and not by a second path: without the script the same button posts the same form.
    if LINES_TYPE in request.get_header("Accept", ""):
        answer: str | Iterator[bytes] = _sent(lines)
    else:
        # A typed password is never sent back, so it has to be typed again for the Update.
        test, problem = _at_the_end(lines, site.words(), retype=draft.password is not None)
        answer = page(problem=problem, test=test)
    return answer


def to_address(site: AppContext, recipient: str) -> tuple[Line | None, str]:
    """Send a test mail by the stored settings to one address. Return what `_at_the_end` returns."""
    log.info("a test mail was asked for from %s", address())
    test, problem = _at_the_end(_lines(site, None, site.words(), [recipient]), site.words(), retype=False)
    # Fields of the SMTP tab, which the page of the recipients does not have.
    return {**test, "field": "", "offers": []} if test else None, problem


def _sealed(site: AppContext, draft: ParsedForm, problem: Text) -> tuple[SmtpSettings | None, Text]:
    """Return the settings to test with a sealed password; or None, and why they cannot be tested."""
    if problem or draft.settings is None:
        return None, problem
    try:
        return smtp.sealed(site, draft, draft.settings), ""
    except (NoKey, Damaged, NotReadable) as error:
        return None, error.sentence


def _lines(site: AppContext, settings: SmtpSettings | None, words: Translator, to: Sequence[str] = ()) -> Lines:
    """Yield each step, then the result or a problem, as they are shown. One test at a time.

    `settings` None: the stored ones; `to` none: the device's recipients.
    """
    # Not blocking: a second request would occupy one of four threads for the minute of the first.
    if not site.testing.acquire(blocking=False):
        _unavailable()
        yield {"problem": words(BUSY)}
        return
    try:
        for line in client.test(site.device.folders.socket, dataclasses.asdict(settings) if settings else None, to):
            shown = {name: SHOWN[name](value, words) for name, value in line.items() if name in SHOWN}
            if "result" in shown and "trust" in site.device.locked:  # Update would refuse it
                shown["result"]["offers"] = []
            yield shown
    except HookError as error:
        log.warning("a test mail has no result: %s", error)
        _unavailable(*((429, error.seconds) if error.seconds else ()))
        yield {"problem": _problem(error, words)}
    finally:
        site.testing.release()


def _problem(error: HookError, words: Translator) -> str:
    """Return why there is no result, in one sentence."""
    values = {"reason": words(error.sentence), "seconds": error.seconds, "minutes": math.ceil(error.seconds / 60)}
    return words(PROBLEMS.get(error.word, NOT_MADE), **values)


def _sent(lines: Lines) -> Iterator[bytes]:
    """Return the lines for the script, each as it comes. The status of a test that did not begin is 429 or 503."""
    # Before the status is sent: `_lines` sets it if there is no first step.
    first = next(lines)
    response.content_type = LINES_TYPE
    return _encoded(first, lines)


def _encoded(first: Line, lines: Lines) -> Iterator[bytes]:
    with contextlib.closing(lines):  # a browser that goes away must not leave the test locked
        yield _json(first)
        for line in lines:
            yield _json(line)


def _json(line: Line) -> bytes:
    # In ASCII (the default): the script may decode a piece that ends within a character.
    return json.dumps(line).encode() + b"\n"


def _at_the_end(lines: Lines, words: Translator, *, retype: bool) -> tuple[Line | None, str]:
    """Return what the page shows of all lines, None if the test did not begin; and the problem that ended it, or ``""``."""
    steps: list[Line] = []
    result: Line = _shown_result({}, words)
    problem = ""
    for line in lines:
        steps += [line["step"]] if "step" in line else []
        result = line.get("result", result)
        problem = line.get("problem", problem)
    # Steps before the problem stay on the page: they show how far the test got.
    if problem:
        result = {**result, "sentence": words("The test was broken off.")}
    return {**result, "steps": steps, "retype": retype} if steps or not problem else None, problem


def _unavailable(status: int = 503, seconds: int = 60) -> None:
    # RFC 9110, 10.2.3: how long to wait. A test takes a minute at most.
    response.status = status
    response.set_header("Retry-After", str(seconds))


def _shown_step(step: Mapping[str, Any], words: Translator) -> Line:
    """Return ``label``, ``time`` and ``told`` (what the step found), each a text."""
    return {
        "label": _label(step.get("name"), words),
        "time": words("{seconds} s", seconds=f"{float(step.get('seconds', 0)):.2f}"),
        "told": words(step.get("told", "")),
    }


def _shown_result(result: Mapping[str, Any], words: Translator) -> Line:
    """Return ``sentence``, ``failed``, ``reply``, ``advice``, ``field``, ``hint`` and ``kept``, each a text; ``listed``, texts.

    These, each of one or more lines, are of the recipients, or of the certificates that the server showed; ``offers`` are the buttons that fill one of them in.
    Where something failed, ``copy`` and ``copied`` name the button that copies the result, before and after.
    """
    # The hook is a different user: a field or word that this page does not know is not used.
    recipients = result.get("recipients", ())
    delivered = result.get("verdict") == "delivered"
    field, reply = str(result.get("field", "")), result.get("reply", "")
    chain = result.get("chain", ())
    certificates = [_certificate(each, words) for each in chain]
    return {
        "sentence": _sentence(recipients, words, delivered=delivered),
        "failed": _failed(str(result.get("step", "")), str(result.get("problem", "")), reply, words),
        "reply": words(ANSWERED, reply=str(reply)) if _is_answer(reply) else "",
        "advice": words(result.get("advice", "")),
        "field": field if field in BY_NAME else "",
        # One or the other: a session that fails at the certificate has no recipients yet.
        "listed": [_became(each, words) for each in recipients] if _differ(recipients) else certificates,
        "offers": [] if result.get("problem") in NO_OFFERS else _offers(chain, words),
        "hint": words(LOOK_FOR_IT) if delivered else "",
        "kept": words(SAVES_NOTHING),
        "copy": "" if delivered else words("Copy this result"),
        "copied": words("Copied"),
    }


def _sentence(recipients: Sequence[Mapping[str, Any]], words: Translator, *, delivered: bool) -> str:
    if delivered:
        return words(ACCEPTED, recipients=", ".join(str(each["recipient"]) for each in recipients))
    some = any(each["verdict"] == "delivered" for each in recipients)
    return words(NOT_ACCEPTED_BY_ALL if some else NOT_ACCEPTED)


def _failed(step: str, problem: str, reply: Text, words: Translator) -> str:
    """Return ``Connect: refused (nothing listens at this port)``; the server's own answer is shown beside it, not in it."""
    # The reply is left out where it only repeats the word of the problem.
    word = "" if problem == ANSWER else problem
    own = "" if reply in ("", word) or _is_answer(reply) else f"({words(reply)})"
    return ": ".join(filter(None, (_label(step, words), " ".join(filter(None, (words(word), own))))))


def _is_answer(reply: Text) -> bool:
    """Return whether this is the server's own answer."""
    return isinstance(reply, str) and bool(REPLY_PATTERN.fullmatch(reply))


def _certificate(each: Mapping[str, Any], words: Translator) -> str:
    """Return the lines for one certificate, the fingerprints first."""
    values = {
        # On one line each.
        **{name: " ".join(str(each.get(name, "")).split()) for name in ("subject", "issuer", "begins", "ends")},
        "names": " ".join(", ".join(map(str, each.get("names", ()))).split()) or "-",
        "key": _spaced(each.get("key_sha256", "")),
        "whole": _spaced(each.get("sha256", "")),
    }
    return "\n".join(words(line, **values) for line in CERTIFICATE)


def _spaced(digits: object) -> str:
    """Return a fingerprint as openssl and browsers show it: ``0F:1A:…``."""
    text = str(digits).upper()
    return ":".join(text[start : start + 2] for start in range(0, len(text), 2))


def _offers(chain: Sequence[Mapping[str, Any]], words: Translator) -> list[dict[str, str]]:
    """Return the buttons for the two ways to trust what was shown that are not "ignore errors": its key, or an authority.

    In the words of the DOM: the script assigns them as they are.
    """
    if not chain:
        return []
    # The topmost that may issue others; none, if the server keeps its authority to itself.
    authority = next((str(each.get("pem", "")) for each in reversed(chain) if each.get("pem")), "")
    values = {TRUST_KEY: f"pin:{chain[0].get('key_sha256', '')}", GIVE_AUTHORITY: f"ca:{authority}"}
    return [{"label": words(name), "value": value, **OFFER} for name, value in values.items()]


def _differ(recipients: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether the recipients are listed one by one: the server judged one of them by itself and did not accept it."""
    return any(each["step"] in OF_EACH and each["verdict"] != "delivered" for each in recipients)


def _became(each: Mapping[str, Any], words: Translator) -> str:
    """Return a line for one recipient: ``a@b.c: refused at Recipient: “550 no such user”``."""
    became = words(BECAME.get(each["verdict"], str(each["verdict"])))
    if each.get("step") and each["verdict"] != "delivered":
        became = words("{became} at {step}", became=became, step=_label(each["step"], words))
    return f"{each['recipient']}: {became}" + (f": “{words(each['reply'])}”" if each.get("reply") else "")


def _label(step: Any, words: Translator) -> str:
    # A step that this page does not know is shown by its own name.
    name = str(step or "")
    return words(smtp.STEP_LABELS.get(name, name))


# By the names in a line of the hook. A later hook may have more: the page shows what it knows.
SHOWN = {"step": _shown_step, "result": _shown_result}
