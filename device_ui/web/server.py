"""The web process: the pages behind the HTTP listeners, on an address or on the sockets of systemd."""

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
from device_ui.web import app, client_address, heap, unavailable
from device_ui.web.auth.administrator import Administrator, Record
from device_ui.web.forms import BODY_MAXIMUM
from device_ui.web.http.connection import Limits
from device_ui.web.http.listener import Listener, Listeners, TcpListener, UnixListener

log = logging.getLogger(__name__)

# A page takes a millisecond; only a login computes. Four threads serve an appliance and cost little memory.
THREADS = 4
HEADER_MAXIMUM = 8 * 1024
# Bytes of a response that wait for a slow client: in this process, and in the kernel.
WAITING_MAXIMUM, SENDING_MAXIMUM = 256 * 1024, 256 * 1024
# Descriptors beside connections: files, the hook's socket, connections that were just accepted.
DESCRIPTORS_BESIDES = 64
# Idle seconds before the process exits: longer than a browser keeps its connection, or an operator reads the login page.
IDLE_SECONDS = 60.0
# Between two checks of files that do not let the pages start.
CHECK_SECONDS = 1.0
# For the open connections to get their 503 before the pages start.
DRAIN_SECONDS = 2.0
UNIX = "unix:"
PORT_MAXIMUM = 65535
# The proxy is in the socket's group; no other user may connect.
SOCKET_MODE = "660"


def serve(device: Device, listen: str, trusted_proxy: str = "", idle_seconds: float = IDLE_SECONDS) -> None:
    """Serve `listen` (``host:port`` or ``unix:PATH``) or the sockets of systemd, until SystemExit (see `cli.launch`).

    On sockets of systemd the process exits after `idle_seconds` without a connection, a session or a failed login that
    is not stored; the next connection starts it again.

    X-Forwarded-For and X-Forwarded-Proto are believed on a Unix socket and from the address `trusted_proxy`. Raises
    OSError when the address cannot be bound, `DeviceUIError` when `listen` is no address.
    """
    # A core dump could hold a password that is being typed.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    heap.bound()
    prepare(device)
    sockets = listen_fds(os.environ)
    site = app.site(device)
    limits = Limits(connections=connection_limit())
    listeners = open_listeners(app.routes(site), listen, sockets, trusted_proxy, limits)
    if sockets:
        # Only with systemd: nothing else would start the process again.
        listeners.exit_when_idle(idle_seconds, site.guard.may_exit)
    log.info("pages served at %s", "systemd's socket" if sockets else _shown(listen))
    if listeners.run():
        log.info("idle, exiting; the next connection starts the pages again")
    # Failed logins are stored before the end: a restart must give a guesser no new tries.
    site.guard.throttle.settle()


def serve_unavailable(is_startable: Callable[[], bool], idle_seconds: float = IDLE_SECONDS) -> None:
    """Answer connections of systemd's sockets with `unavailable`, until the pages can start or for `idle_seconds`.

    `is_startable` is called every `CHECK_SECONDS`. The next connection starts a new process.
    """
    # The same listeners as for the pages: while the file is wrong, a client can do no more harm than otherwise.
    limits = Limits(connections=connection_limit())
    listeners = open_listeners(unavailable.answer, "", listen_fds(os.environ), limits=limits)
    listeners.exit_when_idle(idle_seconds, lambda: True)

    def check(*_: object) -> None:
        if is_startable():
            listeners.drain(DRAIN_SECONDS)

    signal.signal(signal.SIGALRM, check)
    # A timer and no thread: its handler runs in the thread that accepts connections.
    signal.setitimer(signal.ITIMER_REAL, CHECK_SECONDS, CHECK_SECONDS)
    listeners.run()
    signal.setitimer(signal.ITIMER_REAL, 0)


def prepare(device: Device, *, quiet: bool = False) -> Record | None:
    """Make the folders and, on a new device, the setup code; print the code unless `quiet`.

    Return the administrator's record, None when it is damaged. Raises `NotStored`, `NotReadable`.
    """
    # Also on a device without an installer, such as a checkout.
    for folder in device.layout("web"):
        files.make_folder(*folder)
    # A record that is gone on a used device must not open the set-up again to the first visitor.
    is_new = not device.folders.settings.exists() and not files.quarantined_files(device.folders.settings)
    try:
        record = Administrator(device.folders.administrator).begin(is_new=is_new)
    except Damaged as damage:
        # The pages start all the same: their login says what to do at the console.
        log.error("%s; device-ui admin set-password chooses a new password", damage)
        return None
    if record and not record.is_set_up and not quiet:
        # The console and the journal show it; both need physical access or root.
        print(f"setup code: {record.code}", file=sys.stderr, flush=True)
    return record


def open_listeners(
    application: Callable[..., Iterable[bytes]],
    listen: str,
    sockets: Sequence[socket.socket] = (),
    trusted_proxy: str = "",
    limits: Limits = Limits(),  # noqa: B008  # frozen
) -> Listeners:
    """Return listeners at `listen`, or on `sockets` of systemd; ``run()`` serves. Raises as `serve` does."""
    dispatcher = ThreadedTaskDispatcher()
    dispatcher.set_thread_count(THREADS)
    channels: dict[int, Any] = {}
    shared = {"map": channels, "dispatcher": dispatcher}
    adjustments = _adjustments(listen, sockets)
    listeners = [kind(application, adj=adjustments, **shared, **where) for kind, where in _kinds(adjustments, sockets)]
    # A proxy in front connects to the Unix socket, if there is one: then no address may claim to be the proxy.
    is_unix = any(isinstance(each, UnixListener) for each in listeners)
    for listener in listeners:
        listener.limits = limits
        listener.trusted_proxy = client_address.plain(trusted_proxy) if trusted_proxy and not is_unix else ""
    return Listeners(channels, adjustments, [], dispatcher)


def connection_limit() -> int:
    """Return the connections that the limit of open files has room for, `Limits` at most; raise that limit if possible."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = Limits.connections + DESCRIPTORS_BESIDES
    # A process may raise its own soft limit (setrlimit(2)); with less room fewer connections are accepted.
    if soft < needed <= hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
        soft = needed
    return max(1, min(needed, soft) - DESCRIPTORS_BESIDES)


def _address(listen: str, sockets: Sequence[socket.socket]) -> dict[str, Any]:
    """Return waitress's settings of where to listen. Raises ValueError."""
    if sockets:  # waitress refuses two kinds of sockets in one process; it gets neither
        return {}
    if listen.startswith(UNIX):
        return {"unix_socket": listen.removeprefix(UNIX), "unix_socket_perms": SOCKET_MODE}
    port = listen.rpartition(":")[2]
    if port.isdecimal() and int(port) > PORT_MAXIMUM:  # getaddrinfo(3) accepts it, and truncates it to 16 bits
        raise ValueError(f"{port} is no port")
    return {"listen": listen}


def _adjustments(listen: str, sockets: Sequence[socket.socket]) -> Adjustments:
    try:
        found = Adjustments(
            **_address(listen, sockets),
            ident="",
            server_name="device",
            asyncore_use_poll=True,  # select() fails beyond descriptor 1023
            outbuf_high_watermark=WAITING_MAXIMUM,
            max_request_body_size=BODY_MAXIMUM + 1,  # waitress refuses this size itself
            max_request_header_size=HEADER_MAXIMUM,
            # waitress's own reader of proxy headers accepts more than one address; `http.response` reads them.
            clear_untrusted_proxy_headers=True,
        )
    except ValueError as error:
        raise DeviceUIError(f"the pages cannot be served at {listen}: {error}") from error
    # Bounds the memory of the kernel for slow clients: without it the buffer of each connection grows (tcp(7), tcp_wmem).
    found.socket_options = [*found.socket_options, (socket.SOL_SOCKET, socket.SO_SNDBUF, SENDING_MAXIMUM)]
    return found


def _kinds(
    adjustments: Adjustments, sockets: Sequence[socket.socket]
) -> Iterator[tuple[type[Listener], dict[str, Any]]]:
    """Yield the kind of each listener, and waitress's parameters of its socket."""
    if adjustments.unix_socket:
        yield UnixListener, {}
    elif not sockets:
        yield from ((TcpListener, {"sockinfo": each}) for each in adjustments.listen)
    for each in sockets:
        kind = UnixListener if each.family == socket.AF_UNIX else TcpListener
        # waitress requires the parameters of getaddrinfo(3), although the socket is open already.
        info = (each.family, each.type, each.proto, each.getsockname())
        yield kind, {"_sock": each, "bind_socket": False, "sockinfo": info}


def _shown(listen: str) -> str:
    return listen if listen.startswith(UNIX) else f"http://{listen}/"
