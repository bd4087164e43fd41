"""A WSGI application behind the product's own HTTP server, in a thread of this process."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from device_ui.web import server
from tests.helpers.product import SECONDS, free_port


@contextlib.contextmanager
def served(application: Callable[..., Iterable[bytes]], **options: Any) -> Iterator[int]:
    """Serve an application on loopback; the port. `options` are those of `server.open_listeners`."""
    port = free_port()
    listeners = server.open_listeners(application, f"127.0.0.1:{port}", **options)
    thread = threading.Thread(target=listeners.run)
    thread.start()
    try:
        yield port
    finally:
        listeners.drain(0)
        thread.join(SECONDS)
        assert not thread.is_alive()
