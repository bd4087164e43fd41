"""Nobody is logged in and no mail waits: how many processes are left when each has had its time to rest."""

from __future__ import annotations

import contextlib
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.bench.rows import Row
from tests.bench.stand import COMMAND, Stand, answered, environment
from tests.helpers.product import wait_for
from tests.servers.activation import Activated

# Longer than the pages (a minute) and the hook (twice the window of a digest) wait for the next caller.
SECONDS = 300.0


def rows() -> Iterator[Row]:
    """Both are started for whoever knocks, as systemd does it, rest, and are started again."""
    with tempfile.TemporaryDirectory() as name, Stand(Path(name)) as product, contextlib.ExitStack() as stack:
        product.folders.run.mkdir()
        pages = socket.create_server(("127.0.0.1", product.port))
        hook = socket.socket(socket.AF_UNIX)
        hook.bind(str(product.folders.socket))
        hook.listen(8)
        both = []
        for word, listener in (("mailhook", hook), ("web", pages)):
            code = f"sys.argv[1:] = [{word!r}]\n{COMMAND}"
            log = product.folder / f"{word}.log"
            both.append(stack.enter_context(Activated(listener, code, environment(product), log)))
        left = []
        for _ in range(2):
            assert answered(product.port, "/login")
            assert product.state()["waiting"] == 0
            assert all(each.process for each in both)
            with contextlib.suppress(AssertionError):  # then the row tells how many stayed
                wait_for(lambda: not any(each.process for each in both), SECONDS)
            left.append(float(sum(each.process is not None for each in both)))
    yield Row("nobody logged in, no mail waiting", "none", "processes", left, [0.0] * len(left), 0)
