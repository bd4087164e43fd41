"""The paths of the three folders and of the hook's socket, for the command line and the fast path of an event.

Texts and not `pathlib` objects: pathlib takes longer to import than an event takes to raise.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

DATA, RUN, ETC = "/var/lib/device-ui", "/run/device-ui", "/etc/device-ui"
SOCKET = "hook.sock"


def find(data: str | None, environment: Mapping[str, str]) -> tuple[str, str, str]:
    """Return the absolute paths of the folders data, run and etc.

    ``--data`` (`data`) counts before the environment variables, which count before the system's folders.
    """
    # With a data folder of its own the run folder is inside it, so that `make run` needs no root.
    chosen = data or environment.get("DEVICE_UI_DATA")
    run = environment.get("DEVICE_UI_RUN") or (os.path.join(chosen, "run") if chosen else RUN)
    etc = environment.get("DEVICE_UI_ETC") or ETC
    return _absolute(chosen or DATA), _absolute(run), _absolute(etc)


def hook_socket(data: str | None, environment: Mapping[str, str]) -> str:
    """Return the path of the hook's socket."""
    return os.path.join(find(data, environment)[1], SOCKET)


def _absolute(path: str) -> str:
    # A process may change its folder later, and prints these paths for a person to copy.
    return path if os.path.isabs(path) else os.path.join(os.getcwd(), path)
