"""Where ``device-ui`` begins: a plain ``event`` is raised at once, all other words are the command line's.

A shell script raises alarms by the hundred, and loading argparse and all the commands takes longer than the alarm. Only
what is spelt out is taken here: an abbreviation, ``--text=T``, ``--help`` or a mistake goes to ``__main__``, which
says what it always says. Here nothing is imported that an alarm does not need (tests/test_alarm.py).
"""

from __future__ import annotations

import os
import sys

from device_ui import places
from device_ui.errors import HookError
from device_ui.mail import client

OPTIONS = {"--text": "text", "--source": "source", "--time": "time", "--data": "data"}


def understood(words: list[str]) -> dict[str, str] | None:
    """What ``event CODE [--text T] [--source S] [--time T] [--data DIR]`` asks for; None when argparse is to read it."""
    if words[:1] != ["event"]:
        return None
    found: dict[str, str] = {}
    rest = iter(words[1:])
    for word in rest:
        name = OPTIONS.get(word, "" if word.startswith("-") or "code" in found else "code")
        value = next(rest, "-") if word in OPTIONS else word
        if not name or value.startswith("-"):
            return None
        found[name] = value
    return found if "code" in found else None


def main() -> int:
    """Run the command of `sys.argv`; its exit code."""
    asked = None if os.path.basename(sys.argv[0]) == "sendmail" else understood(sys.argv[1:])
    if asked is None:
        from device_ui import __main__ as commands

        return commands.main()
    try:
        path = places.hook_socket(asked.get("data"), os.environ)
        number = client.raise_event(path, *(asked.get(name, "") for name in ("code", "text", "source", "time")))
        print(f"accepted {number}")
    except (HookError, OSError) as error:
        from device_ui import __main__ as commands

        return commands.failed(error)
    return 0
