"""Why no mail goes out, or an event waits: one word, with the evidence and what a person can change."""

from __future__ import annotations

from dataclasses import dataclass

from device_ui.errors import Text


@dataclass(frozen=True)
class Problem:
    """What blocks or delays mail.

    `word` is one of:

    - ``unset``, ``damaged``, ``unreadable``: the settings;
    - ``password``: the stored password cannot be opened;
    - ``login refused``, and ``too many logins`` (further settings wait);
    - ``sign-in``: the sign-in by OAuth 2.0 has failed, whether mail waits or not;
    - ``server``: the server cannot be reached, or defers an event that waits;
    - ``queued``: mail waits for its first try since the hook started or the settings changed;
    - ``budget``: the mails of this hour are used up, and an event waits for the next one;
    - ``refused``: the server refused the last mail for good; ``dropped``: the last mail was given up;
    - ``storage``, ``full``: the flash takes nothing, or the reserve is used;
    - ``removed``: retention removed events before they were mailed; ``clock``: the clock is not set;
    - ``fault``: a fault of this product;
    - ``certificate``: the mail server's has ended, but its key is trusted, and mail goes on.

    `step` and `reply` are those of the SMTP client. `advice` is one sentence on what a person can change. `is_retried`: a
    refused login is tried again by itself.
    """

    # The word chooses the page's sentence; the maker's program gets it with the step, and no text that a server chose.
    word: str = ""
    step: str = ""
    reply: Text = ""
    advice: Text = ""
    is_retried: bool = False
