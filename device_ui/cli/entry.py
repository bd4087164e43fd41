"""The start of ``device-ui``: run ``event``, ``web`` and ``mailhook`` without argparse, and pass all other commands to `parser`.

A shell script can raise a hundred events, and importing argparse and all commands takes longer than an event. In a process that
serves, they would also take more than 1 MiB. Only options that are written out are read here: an abbreviation, ``--text=T``,
``--help`` or an error goes to `parser`. Nothing is imported here that an event does not need (tests/cli/test_entry.py).
"""

from __future__ import annotations

import os
import sys

from device_ui import paths
from device_ui.errors import DeviceUIError
from device_ui.mail import client

# The commands that are run here: the names of their arguments in order, and of their options. Those in `FLAGS` have no value.
COMMANDS = {
    "event": (("code",), {"--text": "text", "--source": "source", "--time": "time", "--data": "data"}),
    "web": ((), {"--listen": "listen", "--data": "data"}),
    "mailhook": ((), {"--ca-file": "ca_file", "--url": "url", "--allow-loopback": "allow_loopback", "--data": "data"}),
}
FLAGS = ("--allow-loopback",)


def parsed(words: list[str]) -> dict[str, str] | None:
    """Return the arguments of ``event CODE [--text T] …``, ``web …`` or ``mailhook …``; None when argparse must read them."""
    if not words or words[0] not in COMMANDS:
        return None
    plain, options = COMMANDS[words[0]]
    found: dict[str, str] = {}
    rest = iter(words[1:])
    for word in rest:
        name = options.get(
            word, "" if word.startswith("-") else next((each for each in plain if each not in found), "")
        )
        # "-" stands in for a missing value, which argparse then reports.
        value = word if word not in options else "yes" if word in FLAGS else next(rest, "-")
        # An unknown option, a further argument, or a value that argparse would take for an option.
        if not name or value.startswith("-"):
            return None
        found[name] = value
    return found if set(plain) <= set(found) else None


def main() -> int:
    """Run the command of `sys.argv`; return its exit code."""
    code = _run()
    try:
        # While an error can still be reported; standard output may have been closed by what started this process.
        if sys.stdout:
            sys.stdout.flush()
    except OSError as error:
        from device_ui.cli import launch, output

        output.discard(sys.stdout)
        return code or launch.failed(error)
    return code


def _run() -> int:
    # As a link at /usr/sbin/sendmail the words are those of sendmail, and "event" would be a recipient.
    arguments = None if os.path.basename(sys.argv[0]) == "sendmail" else parsed(sys.argv[1:])
    if arguments is None:
        from device_ui.cli import parser as command_line

        return command_line.main()
    try:
        return _event(arguments) if sys.argv[1] == "event" else _start(sys.argv[1], arguments)
    # Imported for an error only; the exit codes and the sentence are those of `parser`.
    except (DeviceUIError, OSError) as error:
        from device_ui.cli import launch

        return launch.failed(error)


def _event(arguments: dict[str, str]) -> int:
    # Without device.toml: an event must not wait for a typing error of the maker.
    path = paths.hook_socket(arguments.get("data"), os.environ)
    number = client.raise_event(path, *(arguments.get(name, "") for name in ("code", "text", "source", "time")))
    print(f"accepted {number}")
    return 0


def _start(command: str, arguments: dict[str, str]) -> int:
    from device_ui.cli import launch

    if command == "web":
        return launch.web(arguments.get("data"), arguments.get("listen", launch.LISTEN))
    return launch.mailhook(
        arguments.get("data"),
        arguments.get("ca_file", ""),
        arguments.get("url", ""),
        allow_loopback="allow_loopback" in arguments,
    )
