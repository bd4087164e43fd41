"""Why no mail goes out: the words for it, which the page and the console tell, and what of it a restart finds again."""

from __future__ import annotations

import json
from dataclasses import dataclass

from device_ui.errors import Message, Text, from_json
from device_ui.mail.outbox.outbox import LOSS, Outbox

DROPPED = "dropped"
# What stands until mail goes out again; every other problem is looked for anew in each round.
LOSSES = ("refused", "dropped")
LASTING = ("", "server", "fault", *LOSSES)


@dataclass(frozen=True)
class Problem:
    """Why no mail goes out. `word` is one of ``unset``, ``damaged``, ``unreadable``, ``password``, ``login refused``,
    ``too many logins`` (were refused: other settings wait), ``server``, ``refused`` (the last mail, for good), ``dropped``
    (given up), ``storage``, ``full``, ``fault``, ``removed`` (events that the ledger's limit took unmailed), ``clock`` (not set); `step` and `reply` are the courier's; `advice`
    is one sentence that says what a person can change."""

    word: str = ""
    step: str = ""
    reply: Text = ""
    advice: Text = ""


def last_loss(outbox: Outbox) -> Problem:
    """A mail that reached nobody must be told until one is delivered, across a restart too."""
    try:
        verdict, step, reply = json.loads(outbox.metadata().get(LOSS, "null"), object_hook=from_json)
    except (ValueError, TypeError):  # none, or damaged
        return Problem()
    return Problem(
        DROPPED if verdict == DROPPED else "refused", str(step), reply if isinstance(reply, Message) else str(reply)
    )
