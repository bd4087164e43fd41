"""What the pages share: the device, its settings, its guard, the templates, and what is told of the mail path."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bottle import SimpleTemplate, response

import device_ui
from device_ui.device import Device
from device_ui.errors import HookError
from device_ui.mail import client
from device_ui.settings.store import RecipientStore, Store
from device_ui.web.allowance import Allowance
from device_ui.web.guard import Guard

# Seconds that make up for one test mail: as many as a person tries, and too few to try ports or passwords by the thousand.
TEST_SECONDS = 30.0

PACKAGE = Path(device_ui.__file__).parent
# In a checkout they stand beside the package, in an installation inside it.
ROOTS = (PACKAGE, PACKAGE.parent)

# What the page says about each word of `postman.Problem`; {reply} is the server's answer.
MAIL_PROBLEMS = {
    "damaged": "The stored settings are damaged. Mail waits until they are typed again.",
    "unreadable": "The mail service cannot read the settings: {reply}. Mail waits.",
    "password": "The stored password cannot be opened. Mail waits until it is typed again.",
    "login refused": "The mail server refused the login: “{reply}”. Mail waits until the settings change, so that the account is not locked.",
    "server": "Mail could not be delivered yet ({step}): “{reply}”. It is tried again.",
    "storage": "The device's storage has a problem: {reply}. Mail may be late.",
    "fault": "The mail service has a fault; its log tells more. Mail is tried again.",
    "full": "The device's disk is full. Events are accepted while its reserve lasts; free some space.",
    "dropped": "A mail was given up after 5 days of trying ({step}): “{reply}”. It is not sent again.",
    "refused": "The last mail was refused for good ({step}): “{reply}”. It is not sent again.",
    "denied": "The mail service does not know this web process's user; the maker sets it in device.toml (users.web).",
    "down": "The mail service is not running. Mail is paused until it starts; events cannot be accepted.",
}
CLOCK_WRONG = "The device's clock is not set (it says {clock}): mail waits up to ten minutes for the right time."
REMOVED_UNMAILED = "{count} events were removed before they could be mailed, since the history was full."


@dataclass
class Site:
    """What the pages share. `testing` is held while a test mail is under way: each ties up a thread for a minute.

    `tests` are those that may still be made.
    """

    device: Device
    store: Store
    recipients: RecipientStore
    guard: Guard
    tests: Allowance
    testing: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def mail_problem(self) -> str:
        """What keeps mail back, in one sentence; ``""`` when nothing does, or no settings are stored yet."""
        word, details = self.mail_state()
        told = MAIL_PROBLEMS.get(word, "").format(step=details.get("step", ""), reply=details.get("reply", ""))
        clock = CLOCK_WRONG.format(clock=details["clock"]) if details.get("clock") else ""
        removed = REMOVED_UNMAILED.format(count=details["removed"]) if details.get("removed") else ""
        return " ".join(filter(None, (told, details.get("advice", ""), removed, clock)))

    def mail_state(self) -> tuple[str, dict[str, Any]]:
        """The word for the mail path, ``""`` when well, and what the hook says beside it."""
        try:
            details = dict(client.state(self.device.folders.socket))
        except HookError as error:
            word = {"not-stored": "storage", "denied": "denied"}.get(error.word, "down")
            return word, {"reply": error.reason}
        return str(details.get("problem", "")), details

    def render(self, name: str, **values: Any) -> str:
        """A page of `views/` in the layout."""
        values.setdefault("session", None)
        values.setdefault("page", "smtp")
        values.setdefault("mail_problem", "")
        response.content_type = "text/html; charset=UTF-8"
        return str(template(name).render(device=self.device, **values))


def find(name: str) -> Path:
    """The folder `static` or `views`."""
    return next(root / name for root in ROOTS if (root / name).is_dir())


_templates: dict[str, SimpleTemplate] = {}


def template(name: str) -> SimpleTemplate:
    """A template of `views/`, compiled once."""
    if name not in _templates:
        _templates[name] = SimpleTemplate(name=f"{name}.tpl", lookup=[str(find("views"))])
    return _templates[name]
