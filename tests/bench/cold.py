"""Cold: no process runs, and a line comes to the hook's socket, which systemd holds open."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from device_ui.mail import client
from tests.bench.mail import ACCOUNT, MAIL, TO, Mails, mail_server
from tests.bench.rows import Row, seconds, turns
from tests.bench.stand import COMMAND, Stand, environment, run
from tests.helpers.product import PASSWORD, wait_for
from tests.servers.activation import Activated

# One mail, as a script of the firmware would send it; the certificate may be of the system's authorities or of this file's.
ONE_MAIL = f"""
import smtplib, ssl, sys
authority, port, account, password, to = sys.argv[1:]
with smtplib.SMTP("localhost", int(port), timeout=60) as session:
    context = ssl.create_default_context()
    context.load_verify_locations(authority)
    session.starttls(context=context)
    session.login(account, password)
    session.sendmail(account, [to], {MAIL!r})
"""
# Of Postfix's queue manager, as soon as its smtpd(8) answers 250.
TAKEN = b"(queue active)"


def rows() -> Iterator[Row]:
    """From the line to its answer, and to the mail server's."""
    with mail_server() as mails, mails.product() as product:
        product.save(**mails.form)
        product.stop("mailhook")
        product.folders.socket.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(product.folders.socket))
            listener.listen(8)
            options = ["mailhook", "--allow-loopback", "--ca-file", str(mails.authority)]
            code = f"sys.argv[1:] = {options!r}\n{COMMAND}"
            with Activated(listener, code, environment(product), product.folder / "mailhook.log") as hook:
                yield accepted(product, hook)
                yield taken(mails, product, hook)


def accepted(product: Stand, hook: Activated) -> Row:
    """The event is on flash."""

    def here() -> float:
        took = seconds(lambda: client.raise_event(product.folders.socket, "303", "disk 3 is full"))
        end(product, hook)
        return took

    floor = lambda: seconds(lambda: run(sys.executable, "-c", "import sqlite3", env=environment(product)))  # noqa: E731
    what = "cold: a line on the socket, no process runs → `accepted`"
    return Row(what, "`python -c 'import sqlite3'`", "ms", *turns(15, here, floor), 3)


def taken(mails: Mails, product: Stand, hook: Activated) -> Row:
    """The mail server has the mail."""
    log = mails.server.home / "log" / "postfix.log"
    words = (sys.executable, "-c", ONE_MAIL, str(mails.authority), str(mails.server.submission_port), ACCOUNT)

    def here() -> float:
        took = until_taken(log, lambda: client.raise_event(product.folders.socket, "303", "disk 3 is full"))
        end(product, hook)
        return took

    def floor() -> float:
        with contextlib.ExitStack() as stack:  # its end is not measured, as that of the hook is not
            start = lambda: stack.enter_context(subprocess.Popen([*words, PASSWORD, TO], env=environment(product)))  # noqa: E731
            return until_taken(log, start)

    what = "cold: a line on the socket → the server's 250 (STARTTLS, login)"
    return Row(what, "`python -c` that sends a mail with smtplib", "ms", *turns(15, here, floor), 2)


def until_taken(log: Path, work: Callable[[], object]) -> float:
    """Seconds from the start of `work` until the server has one more mail."""
    before, begun = log.stat().st_size, time.perf_counter()
    work()
    with log.open("rb") as lines:
        lines.seek(before)
        written = b""
        while TAKEN not in written:
            assert time.perf_counter() - begun < 60, written
            written += lines.read()
            time.sleep(0.0005)
    return time.perf_counter() - begun


def end(product: Stand, hook: Activated) -> None:
    """End the process when its mail is out, so that the next line finds none."""
    wait_for(lambda: product.state()["waiting"] == 0, what="the delivery")
    assert hook.process
    hook.process.terminate()
    wait_for(lambda: hook.process is None, what="the end of the mail hook")
