"""Where ``device-ui`` begins: a plain ``event`` is raised at once, and both processes start; all other words are the command line's.

A shell script raises alarms by the hundred, and loading argparse and all the commands takes longer than the alarm; in a
process that stays they would hold more than a MiB for as long as it runs. Only what is spelt out is taken here: an
abbreviation, ``--text=T``, ``--help`` or a mistake goes to ``__main__``, which says what it always says. Here nothing is
imported that an alarm does not need (tests/cli/test_entry.py).
"""

from __future__ import annotations

import os
import sys

from device_ui import paths
from device_ui.errors import DeviceUIError
from device_ui.mail import client

# Of each command that is taken here: its words in their order, and its options by what they are called further on. An option of
# `FLAGS` has no value.
COMMANDS = {
    "event": (("code",), {"--text": "text", "--source": "source", "--time": "time", "--data": "data"}),
    "web": ((), {"--listen": "listen", "--data": "data"}),
    "mailhook": ((), {"--ca-file": "ca_file", "--allow-loopback": "allow_loopback", "--data": "data"}),
}
FLAGS = ("--allow-loopback",)


def understood(words: list[str]) -> dict[str, str] | None:
    """What ``event CODE [--text T] …``, ``web …`` or ``mailhook …`` ask for; None when argparse is to read it."""
    if not words or words[0] not in COMMANDS:
        return None
    plain, options = COMMANDS[words[0]]
    found: dict[str, str] = {}
    rest = iter(words[1:])
    for word in rest:
        name = options.get(
            word, "" if word.startswith("-") else next((each for each in plain if each not in found), "")
        )
        value = word if word not in options else "yes" if word in FLAGS else next(rest, "-")
        if not name or value.startswith("-"):
            return None
        found[name] = value
    return found if set(plain) <= set(found) else None


def main() -> int:
    """Run the command of `sys.argv`; its exit code."""
    asked = None if os.path.basename(sys.argv[0]) == "sendmail" else understood(sys.argv[1:])
    if asked is None:
        from device_ui.cli import parser as command_line

        return command_line.main()
    try:
        return _event(asked) if sys.argv[1] == "event" else _started(sys.argv[1], asked)
    except (DeviceUIError, OSError) as error:
        from device_ui.cli import launch

        return launch.failed(error)


def _event(asked: dict[str, str]) -> int:
    path = paths.hook_socket(asked.get("data"), os.environ)
    number = client.raise_event(path, *(asked.get(name, "") for name in ("code", "text", "source", "time")))
    print(f"accepted {number}")
    return 0


def _started(command: str, asked: dict[str, str]) -> int:
    from device_ui.cli import launch

    if command == "web":
        return launch.web(asked.get("data"), asked.get("listen", launch.LISTEN))
    return launch.mailhook(asked.get("data"), asked.get("ca_file", ""), allow_loopback="allow_loopback" in asked)
