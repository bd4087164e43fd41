"""The paths of the three folders and of the hook's socket, as texts, for the command line and the fast path of an event."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

DATA, RUN, ETC = "/var/lib/device-ui", "/run/device-ui", "/etc/device-ui"
SOCKET = "hook.sock"


def find(data: str | None, environment: Mapping[str, str]) -> tuple[str, str, str]:
    """Return the folders data, run and etc, of ``--data`` and the three environment variables.

    The run folder is in a data folder that is not the system's, so that a device on a desk needs no root.
    """
    chosen = data or environment.get("DEVICE_UI_DATA")
    run = environment.get("DEVICE_UI_RUN") or (os.path.join(chosen, "run") if chosen else RUN)
    etc = environment.get("DEVICE_UI_ETC") or ETC
    return _absolute(chosen or DATA), _absolute(run), _absolute(etc)


def hook_socket(data: str | None, environment: Mapping[str, str]) -> str:
    """Return the path of the hook's socket."""
    return os.path.join(find(data, environment)[1], SOCKET)


def _absolute(path: str) -> str:
    return path if os.path.isabs(path) else os.path.join(os.getcwd(), path)
