"""The web process: waitress around the pages, on an address or on the socket that systemd hands over."""

from __future__ import annotations

import logging
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from waitress.adjustments import Adjustments
from waitress.task import ThreadedTaskDispatcher

from device_ui.config import Device, listen_fds
from device_ui.errors import Damaged, DeviceUIError
from device_ui.storage import files
from device_ui.web import app, client_address, unavailable
from device_ui.web.auth.administrator import Administrator, Record
from device_ui.web.forms import BODY_MAXIMUM
from device_ui.web.http.connection import Limits
from device_ui.web.http.listener import Listener, Listeners, TcpListener, UnixListener

log = logging.getLogger(__name__)

# A page takes a millisecond; only a login computes. Four threads serve an appliance and cost little memory.
THREADS = 4
HEADER_MAXIMUM = 8 * 1024
# Bytes of an answer that wait in memory for a slow reader, and in the kernel.
WAITING_MAXIMUM, SENDING_MAXIMUM = 256 * 1024, 256 * 1024
# Descriptors that are no connections: files, the hook's socket, connections taken at once.
DESCRIPTORS_BESIDES = 64
# Without a visitor for so long the pages rest: longer than a browser keeps its connection, or reads the login page.
REST_SECONDS = 60.0
# Between two looks at files that do not let the pages start.
LOOK_SECONDS = 1.0
# Within which connections that are open get their 503 before the pages start.
DRAIN_SECONDS = 2.0
UNIX = "unix:"
PORT_MAXIMUM = 65535
# Whoever is in the socket's group may be the proxy, and nobody else.
SOCKET_MODE = "660"


def serve(device: Device, listen: str, trusted_proxy: str = "", rest_seconds: float = REST_SECONDS) -> None:
    """Serve `listen` (``host:port`` or ``unix:PATH``) or what systemd hands over, until SIGTERM or SIGINT.

    Handed sockets are served until nobody is logged in and nobody came for `rest_seconds`: the next connection
    starts the pages again.

    X-Forwarded-For and X-Forwarded-Proto are believed of the other end of a Unix socket, and of the address
    `trusted_proxy`. Raises OSError when the address cannot be had, `DeviceUIError` when it is none.
    """
    # No core dump may hold a password that somebody is just typing.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    prepare(device)
    # Before the first socket listens: a client that sees it may already end this process.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    handed = listen_fds(os.environ)
    site = app.site(device)
    server = open_doors(app.routes(site), listen, handed, trusted_proxy, Limits(connections=_connections()))
    if handed:
        server.rest_after(rest_seconds, site.may_rest)
    log.info("the pages are served at %s", "systemd's socket" if handed else _shown(listen))
    if server.run():
        log.info("the pages rest; the next connection starts them again")
    site.guard.throttle.settle()


def serve_unavailable(is_startable: Callable[[], bool], rest_seconds: float = REST_SECONDS) -> None:
    """Answer what systemd hands over with `unavailable` until the pages can start, or until they rest.

    `is_startable` is called every `LOOK_SECONDS`. The next connection starts a new process.
    """
    server = open_doors(unavailable.answer, "", listen_fds(os.environ), limits=Limits(connections=_connections()))
    server.rest_after(rest_seconds, lambda: True)

    def look(*_: object) -> None:
        if is_startable():
            server.drain(DRAIN_SECONDS)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, LOOK_SECONDS, LOOK_SECONDS)
    server.run()
    signal.setitimer(signal.ITIMER_REAL, 0)


def prepare(device: Device, *, quiet: bool = False) -> Record | None:
    """Make the folders and, on a new device, the setup code, which is printed for the console and the journal."""
    for folder in device.layout("web"):
        files.make_folder(*folder)
    is_new = not device.folders.settings.exists() and not files.set_aside_files(device.folders.settings)
    try:
        found = Administrator(device.folders.administrator).begin(is_new=is_new)
    except Damaged as damage:
        log.error("%s; device-ui admin set-password chooses a new password", damage)
        return None
    if found and not found.is_set_up and not quiet:
        print(f"setup code: {found.code}", file=sys.stderr, flush=True)
    return found


def open_doors(
    application: Callable[..., Iterable[bytes]],
    listen: str,
    handed: Sequence[socket.socket] = (),
    trusted_proxy: str = "",
    limits: Limits = Limits(),  # noqa: B008  # frozen
) -> Listeners:
    """waitress with our doors, listening; ``run()`` serves until SystemExit. Raises as `serve` does."""
    dispatcher = ThreadedTaskDispatcher()
    dispatcher.set_thread_count(THREADS)
    channels: dict[int, Any] = {}
    shared = {"map": channels, "dispatcher": dispatcher}
    adjustments = _adjustments(listen, handed)
    doors = [kind(application, adj=adjustments, **shared, **where) for kind, where in _places(adjustments, handed)]
    # Beside a Unix socket an address is not believed.
    is_unix = any(isinstance(each, UnixListener) for each in doors)
    for door in doors:
        door.limits = limits
        door.trusted_proxy = client_address.plain(trusted_proxy) if trusted_proxy and not is_unix else ""
    return Listeners(channels, adjustments, [], dispatcher)


def _where(listen: str, handed: Sequence[socket.socket]) -> dict[str, Any]:
    """Where waitress listens. It believes no proxy: its reader lets more than one address pass (see `answers`). Raises ValueError."""
    if handed:  # waitress would not have both kinds; it is told of neither
        return {}
    if listen.startswith(UNIX):
        return {"unix_socket": listen.removeprefix(UNIX), "unix_socket_perms": SOCKET_MODE}
    port = listen.rpartition(":")[2]
    if port.isdecimal() and int(port) > PORT_MAXIMUM:  # getaddrinfo(3) takes it, and cuts it to 16 bits
        raise ValueError(f"{port} is no port")
    return {"listen": listen}


def _adjustments(listen: str, handed: Sequence[socket.socket]) -> Adjustments:
    try:
        found = Adjustments(
            **_where(listen, handed),
            ident="",
            server_name="device",
            asyncore_use_poll=True,  # select() ends at descriptor 1023
            outbuf_high_watermark=WAITING_MAXIMUM,
            max_request_body_size=BODY_MAXIMUM + 1,  # waitress refuses this size itself
            max_request_header_size=HEADER_MAXIMUM,
            clear_untrusted_proxy_headers=True,
        )
    except ValueError as error:
        raise DeviceUIError(f"the pages cannot be served at {listen}: {error}") from error
    found.socket_options = [*found.socket_options, (socket.SOL_SOCKET, socket.SO_SNDBUF, SENDING_MAXIMUM)]
    return found


def _places(
    adjustments: Adjustments, handed: Sequence[socket.socket]
) -> Iterator[tuple[type[Listener], dict[str, Any]]]:
    """The kind of each door, and where it opens."""
    if adjustments.unix_socket:
        yield UnixListener, {}
    elif not handed:
        yield from ((TcpListener, {"sockinfo": each}) for each in adjustments.listen)
    for each in handed:
        kind = UnixListener if each.family == socket.AF_UNIX else TcpListener
        told = (each.family, each.type, each.proto, each.getsockname())
        yield kind, {"_sock": each, "bind_socket": False, "sockinfo": told}


def _connections() -> int:
    """As many connections as the limit of open files has room for, `Limits` at most."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = Limits.connections + DESCRIPTORS_BESIDES
    if soft < wanted <= hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    return max(1, min(wanted, soft) - DESCRIPTORS_BESIDES)


def _shown(listen: str) -> str:
    return listen if listen.startswith(UNIX) else f"http://{listen}/"


def _leave(*_: object) -> None:
    raise SystemExit(0)
