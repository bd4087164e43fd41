"""Debian's Exim and OpenSMTPD, and nodemailer's smtp-server where Node is there, on loopback and with limits set low.

Exim and OpenSMTPD cannot be installed beside Postfix. ``.ci/needs`` unpacks them below `UNPACKED`, and each runs in a mount
namespace of its own, in which it finds its users and folders. So nothing of this machine is read or written.

Every server takes mail for all addresses into Maildirs but for `refused@`, which is refused for good.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.helpers.product import SECONDS, free_port, wait_for

UNPACKED = Path("/var/cache/device-ui-tests")
REFUSED = "refused@mail.example.test"


@dataclass(frozen=True)
class Limits:
    """What a server allows: mails in a session, recipients in a mail, bytes of a mail."""

    mails: int
    recipients: int
    size: int


class Mailer:
    """A server that runs: its `port`, and what it has `taken`, by recipient."""

    def __init__(self, folder: Path, limits: Limits) -> None:
        self.folder, self.limits, self.port = folder, limits, free_port()
        self.box = folder / "box"

    def taken(self) -> dict[str, list[bytes]]:
        """The mails in the mailbox of each recipient, one for each time that it was taken."""
        found: dict[str, list[bytes]] = {}
        for path in self.box.glob("*/new/*"):
            with contextlib.suppress(FileNotFoundError):
                found.setdefault(path.parts[-3], []).append(path.read_bytes())
        return found

    def copies(self) -> Counter[tuple[str, str]]:
        """How often each (recipient, Message-ID) was taken."""
        return Counter(
            (name, match[1].decode())
            for name, mails in self.taken().items()
            for mail in mails
            if (match := re.search(rb"(?mi)^Message-ID:\s*<([^>]*)>", mail))
        )

    def write(self, name: str, text: str) -> Path:
        """Write a file into the server's folder."""
        path = self.folder / name
        path.write_text(text)
        return path

    def command(self) -> list[str]:
        """Write the settings; return the command that runs the server in the foreground."""
        raise NotImplementedError

    def answers(self) -> bool:
        """Return whether the server greets."""
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 5) as sock:
            return sock.recv(3) == b"220"
        return False


def _namespace(mailer: Mailer, users: str, lines: str) -> list[str]:
    """Return a command that runs the shell's `lines` where the `users` (name:uid) exist; its end ends all it started."""
    for name in ("passwd", "group"):
        entries = Path("/etc", name).read_text()
        for user, number in (each.split(":") for each in users.split()):
            more = f":{number}::/:/usr/sbin/nologin" if name == "passwd" else ":"
            entries += f"{user}:x:{number}{more}\n"
        mailer.write(name, entries)
    # The libraries that were unpacked beside the programs.
    libraries = ":".join(str(each) for each in UNPACKED.glob("*/**/lib/*-linux-gnu"))
    script = f'set -e\nexport LD_LIBRARY_PATH={libraries}\ncd "{mailer.folder}"\nmount --bind passwd /etc/passwd\nmount --bind group /etc/group\n{lines}'
    return ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", script]


class Exim(Mailer):
    """Its answers: 452 without an enhanced code for a recipient too many, 421 at MAIL for a mail too many."""

    rate = ""

    def command(self) -> list[str]:
        program = UNPACKED / "exim4-daemon-light/usr/sbin/exim4"
        for name in ("spool", "box"):
            (self.folder / name).mkdir()
            shutil.chown(self.folder / name, "mail", "mail")
        self.write(
            "exim.conf",
            f"""exim_path = {program}
primary_hostname = exim.example.test
spool_directory = {self.folder}/spool
log_file_path = {self.folder}/spool/%slog
pid_file_path = {self.folder}/spool/pid
exim_user = mail
exim_group = mail
local_interfaces = 127.0.0.1
daemon_smtp_ports = {self.port}
host_lookup =
rfc1413_query_timeout = 0s
tls_advertise_hosts =
keep_environment =
smtp_accept_max_per_connection = {self.limits.mails}
recipients_max = {self.limits.recipients}
message_size_limit = {self.limits.size}
acl_smtp_mail = sender
acl_smtp_rcpt = recipient
acl_smtp_data = accept
begin acl
sender:
{self.rate}
  accept
recipient:
  deny local_parts = refused
  accept
begin routers
all:
  driver = accept
  transport = box
begin transports
box:
  driver = appendfile
  directory = {self.box}/all
  maildir_format
  envelope_to_add
  user = mail
  group = mail
begin retry
""",
        )
        # Mail is in its box before the 250 of the next command: what was taken is then a matter of this session alone.
        # Without exec: of a process that changes its user the kernel forgets that it ends with its parent (prctl(2)), of the shell not.
        return _namespace(self, "Debian-exim:8", f"{program} -C {self.folder}/exim.conf -bdf -odi\nexit")

    def taken(self) -> dict[str, list[bytes]]:
        """The mails by the line that Exim puts before each copy: a path must not hold the client's words (tainted data)."""
        found: dict[str, list[bytes]] = {}
        for raw in super().taken().get("all", []):
            name = re.match(rb"Envelope-to: ([^@\s]+)@", raw)
            assert name, raw
            found.setdefault(name[1].decode(), []).append(raw)
        return found


class ThrottledExim(Exim):
    """Its further answer: 451 without an enhanced code at MAIL, for more than 15 mails in 40 seconds.

    The events of a test are some twenty-five mails: the limit holds up the last of them, for one wait before the next try.
    """

    rate = "  defer message = too many messages, try again later\n    ratelimit = 15 / 40s / per_cmd / leaky / mails"


class OpenSmtpd(Mailer):
    """Its answers: 451 4.5.3 for a recipient too many, 452 4.5.3 at MAIL for a mail too many."""

    def command(self) -> list[str]:
        root = UNPACKED / "opensmtpd"
        self.box.mkdir()
        shutil.chown(self.box, "mail", "mail")
        self.write(
            "smtpd.conf",
            f"""listen on 127.0.0.1 port {self.port} hostname open.example.test
smtp max-message-size "{self.limits.size}"
smtp limit max-mails {self.limits.mails}
smtp limit max-rcpt {self.limits.recipients}
table users {{ "@" = "mail" }}
action "box" maildir "{self.box}/%{{rcpt.user}}" virtual <users>
match from any for any rcpt-to "{REFUSED}" reject
match from any for any action "box"
""",
        )
        lines = f"""for each in /usr/libexec /var/spool /var/lib /run; do mount -t tmpfs none $each; done
mkdir -p /usr/libexec/opensmtpd /var/lib/opensmtpd/empty
mkdir -m 711 /var/spool/smtpd
mount --bind {root}/usr/libexec/opensmtpd /usr/libexec/opensmtpd
exec {root}/usr/sbin/smtpd -d -f {self.folder}/smtpd.conf
"""
        return _namespace(self, "opensmtpd:990 opensmtpq:991", lines)


class Nodemailer(Mailer):
    """Its answers: 452 for a recipient or a mail too many, and 552 for a mail too large."""

    def command(self) -> list[str]:
        self.box.mkdir()
        script = Path(__file__).with_name("nodemailer.js")
        limits = map(str, (self.limits.mails, self.limits.recipients, self.limits.size))
        return ["node", str(script), str(UNPACKED / "node"), str(self.box), str(self.port), *limits]


MAILERS = {"Exim": Exim, "throttled Exim": ThrottledExim, "OpenSMTPD": OpenSmtpd}
if (UNPACKED / "node/node_modules/smtp-server").exists():
    MAILERS["nodemailer"] = Nodemailer


@contextlib.contextmanager
def running(name: str, limits: Limits) -> Iterator[Mailer]:
    """Run the server of this name; its folder is one directly below /tmp, which its own users can reach."""
    with tempfile.TemporaryDirectory(prefix="mailer-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        os.chmod(folder, 0o755)
        mailer = MAILERS[name](Path(folder), limits)
        command = mailer.command()
        with (mailer.folder / "log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        try:
            wait_for(lambda: process.poll() is not None or mailer.answers(), what=f"the start of {name}")
            assert process.poll() is None, (mailer.folder / "log").read_text()
            yield mailer
        finally:
            end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a server; one that does not end when it is asked is killed."""
    process.terminate()
    try:
        process.wait(SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
