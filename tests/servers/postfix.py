"""A real mail server for tests: Debian's Postfix, with Debian's Dovecot (2.3 or 2.4) checking the passwords.

Everything lives in a folder of its own: nothing below /etc/postfix, /etc/dovecot, /run/dovecot or
/var/spool/postfix is read for its settings or written. While it runs that folder is a fresh one directly
below /tmp, mode 0755, for two reasons: the users postfix and dovecot must be able to reach it, which
pytest's own folders (mode 0700) do not allow, and a Unix socket's path may have 107 bytes at most. On exit
settings, logs and mails are copied into the folder which the test gave, and the one below /tmp goes away.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import itertools
import os
import pwd
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType

from .authority import Certificate

_MASTER = Path("/usr/lib/postfix/sbin/master")
_DOVECOT = Path("/usr/sbin/dovecot")
_START_SECONDS = 15.0  # takes 0.1 s; the rest is patience with a busy machine
_STOP_SECONDS = 3.0  # takes 0.1 s; after that the processes are killed
_POLL_SECONDS = 0.01
_KEPT = ("etc", "log", "mail")  # what is copied into the test's folder on exit

# Only what a clean start needs: a developer's own variables must not change how the server behaves.
_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}

# There is no smtp(8) client among the services, so no mail can leave the machine whatever its address.
_MASTER_CF = """\
cleanup   unix       n - n -     0 cleanup
qmgr      unix       n - n 300   1 qmgr
tlsmgr    unix       - - n 1000? 1 tlsmgr
rewrite   unix       - - n -     - trivial-rewrite
bounce    unix       - - n -     0 bounce
defer     unix       - - n -     0 bounce
trace     unix       - - n -     0 bounce
error     unix       - - n -     - error
retry     unix       - - n -     - error
proxymap  unix       - - n -     - proxymap
anvil     unix       - - n -     1 anvil
virtual   unix       - n n -     - virtual
postlog   unix-dgram n - n -     1 postlogd
"""

_MAIN_CF = """\
compatibility_level = 3.6
queue_directory = {home}/queue
data_directory = {home}/data
meta_directory = {home}/etc
maillog_file = {home}/log/postfix.log
maillog_file_prefixes = {home}/log
myhostname = mail.example.test
mydestination =
mynetworks = 127.0.0.0/8 [::1]/128
inet_interfaces = loopback-only
inet_protocols = {protocols}
# Loopback only: no question to a name server either.
smtpd_peername_lookup = no
disable_dns_lookups = yes

# One mailbox takes the mail for every address there is.
virtual_transport = virtual
local_transport = virtual
relay_transport = virtual
default_transport = virtual
virtual_mailbox_domains = static:all
virtual_mailbox_base = {home}
virtual_mailbox_maps = static:mail/
virtual_minimum_uid = 1
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
virtual_mailbox_limit = 0
notify_classes =
# Long names carry the time of arrival, which puts the mails in order.
enable_long_queue_ids = yes
# A client on this machine counts as local, and then Postfix would add the Date and Message-ID which the
# client forgot. Tests want to see what was sent.
local_header_rewrite_clients =
alias_maps =
local_recipient_maps =

smtpd_tls_chain_files = {home}/etc/server.pem
smtpd_tls_loglevel = 1
smtpd_tls_received_header = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = {home}/auth
smtpd_sasl_authenticated_header = yes
smtpd_recipient_restrictions = check_recipient_access inline:{{
  {{ refused@ = 550 5.1.1 No such mailbox here }},
  {{ later@ = 450 4.2.1 Mailbox busy, try again later }} }}

# No tarpits.
smtpd_error_sleep_time = 0
in_flow_delay = 0
"""
_NO_LIMITS = {"smtpd_client_event_limit_exceptions": "static:all"}

_LOGIN = "smtpd_sasl_auth_enable=yes smtpd_relay_restrictions=permit_sasl_authenticated,reject"
_SUBMISSION = f"{_LOGIN} smtpd_tls_security_level=encrypt smtpd_tls_auth_only=yes"
_SUBMISSION_PLAIN = f"{_LOGIN} smtpd_tls_security_level=none smtpd_tls_auth_only=no"
_SUBMISSIONS = f"{_LOGIN} smtpd_tls_wrappermode=yes smtpd_tls_auth_only=yes"
_RELAY = "smtpd_tls_security_level=none smtpd_relay_restrictions=permit_mynetworks,reject"

# The first passdb answers nobody. It sets "nodelay", which is what makes a refusal immediate: with
# auth_failure_delay = 0 alone Dovecot still holds each one back until its next half-second tick.
_DOVECOT_COMMON = """\
protocols =
base_dir = {home}/run
state_dir = {home}/state
log_path = {home}/log/dovecot.log
ssl = no
auth_mechanisms = {mechanisms}
auth_username_chars =
auth_failure_delay = 0 secs
service auth {{
  unix_listener {home}/auth {{
    mode = 0600
    user = postfix
  }}
}}
service anvil {{
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
"""
# Version 2.4 has another language, and insists on its version in the first line.
_DOVECOT_CONF = {
    "2.3": _DOVECOT_COMMON
    + """\
disable_plaintext_auth = no
auth_username_format = %u
auth_debug = yes
passdb {{
  driver = static
  args = noauthenticate nodelay=yes
}}
{tokens}passdb {{
  driver = passwd-file
  args = username_format=%u {home}/etc/users
}}
""",
    "2.4": "dovecot_config_version = 2.4.0\ndovecot_storage_version = 2.4.0\n"
    + _DOVECOT_COMMON
    + """\
auth_allow_cleartext = yes
auth_username_format = %{{user}}
log_debug = category=auth
passdb static {{
  fields {{
    noauthenticate = yes
    nodelay = yes
  }}
}}
passdb passwd-file {{
  auth_username_format = %{{user}}
  passwd_file_path = {home}/etc/users
}}
""",
}

# Tokens of OAuth 2.0, in the language of 2.3.
_TOKENS = """\
passdb {{
  driver = oauth2
  mechanisms = xoauth2 oauthbearer
  args = {home}/etc/oauth2
}}
"""

_RESULT = re.compile(r"client passdb out: (OK|FAIL)\t\d+\t(?:[^\t\n]*\t)*?user=([^\t\n]*)")
_QUEUE_ID = re.compile(rb"^Received: .*?\(Postfix\)\s+(?:with \S+ )?id (\w+)", re.MULTILINE | re.DOTALL)
# Dovecot wants a process id from each of its clients; these are larger than any which Linux gives.
_FAKE_PIDS = itertools.count(5_000_000)


class MailServer:
    """A mail server on loopback, running between `with` and the end of its block.

    `folder` receives the record of the run on exit, in a subfolder of its own (see this module's docstring).
    `certificate` is what the server shows for TLS; it is not judged here, an expired one is shown as well.
    `accounts` maps login to password, both any Unicode text (a login has no colon, tab or line break and no
    "#" in front); logins are case-sensitive. `mechanisms` are Dovecot's names, separated by spaces.

    After the start `submission_port`, `tls_port` and `relay_port` are TCP ports on 127.0.0.1, and on ::1
    where the machine has it, so `localhost` works too:

    - `submission_port`: STARTTLS, which has to come first; then AUTH, without which RCPT gets a 554. With
      `starttls=False` there is no STARTTLS and AUTH is offered in the clear: a trap for careless clients.
    - `tls_port`: TLS from the first byte, then AUTH as above.
    - `relay_port`: neither TLS nor AUTH, takes everything.

    With `tokens`, the settings of Dovecot's passdb oauth2 (such as `introspection`), logins by XOAUTH2 and OAUTHBEARER are those of
    the address in the token; needs Dovecot 2.3.

    On all three, a recipient `refused@` any domain gets a 550 and `later@` any domain a 450. Entering raises
    RuntimeError when not root, when a Debian package is missing, or, with the logs, when a server gave up;
    TimeoutError, with the logs, when one did not become ready; ValueError for a login which cannot be stored.
    """

    submission_port: int
    tls_port: int
    relay_port: int

    def __init__(
        self,
        *,
        folder: Path,
        certificate: Certificate,
        accounts: dict[str, str],
        mechanisms: str = "plain login",
        starttls: bool = True,
        tokens: Mapping[str, str] | None = None,
        limits: Mapping[str, str] = _NO_LIMITS,
    ) -> None:
        self._tokens = tokens
        self._folder = folder
        self._limits = limits
        self._certificate = certificate
        self._accounts = accounts
        self._mechanisms = mechanisms
        self._starttls = starttls
        self._home = folder
        self._daemons: list[_Daemon] = []

    def __enter__(self) -> MailServer:
        """Start, and return once all ports answer; about 0.1 s."""
        _require_root_and_packages()
        users = _users_file(self._accounts)
        self._home = _make_home()
        try:
            self._write_settings(users)
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop all processes and keep the record; about 0.1 s. `mails`, `logins` and `log` still answer."""
        try:
            if kind is None:  # else the server itself may be what failed
                self._flush_logins()
        finally:
            self._stop()

    @property
    def home(self) -> Path:
        """The folder with the subfolders etc, log and mail: below /tmp while running, then the record."""
        return self._home

    def mails(self) -> list[bytes]:
        """Return the mails delivered so far, in the order in which they arrived.

        Each is the raw message with LF line ends, once per recipient. Postfix put four header fields in
        front: Return-Path (the envelope's sender), X-Original-To and Delivered-To (the envelope's recipient)
        and Received. It adds nothing else, not even a missing Date.
        """
        found = [(path.read_bytes(), path.stat().st_mtime_ns) for path in self._mail_files()]
        return [mail for mail, _ in sorted(found, key=lambda entry: (_queue_id(entry[0]), entry[1]))]

    def wait_for(self, count: int, seconds: float = 20) -> list[bytes]:
        """Wait until at least `count` mails were delivered, and return `mails()`; else TimeoutError, with log."""
        _wait_until(lambda: len(self._mail_files()) >= count, seconds, lambda: self._too_few(count))
        return self.mails()

    def show(self, certificate: Certificate) -> None:
        """Show this certificate from the next connection on; only with the limit ``max_use`` at 1."""
        # Each smtpd(8) reads the file at its start, and with that limit serves one connection.
        _write_secret(self._home / "etc" / "server.pem", certificate.key_pem + certificate.cert_pem)

    def logins(self) -> list[tuple[str, bool]]:
        """Return each login attempt which was answered, in order, as (login, succeeded).

        It is complete: every answer which a client has seen is in it. The login is "" where the client sent
        an empty one. An exchange which was broken off, or was no valid base64, does not count.
        """
        if self._daemons:
            self._flush_logins()
        text = self._read_log("dovecot.log")
        return [(login, verdict == "OK") for verdict, login in _RESULT.findall(text)]

    def log(self) -> str:
        """Return the logs of Postfix and Dovecot as text, without passwords; they may lag some milliseconds."""
        names = ("postfix.out", "postfix.log", "dovecot.out", "dovecot.log")
        return "".join(f"--- {name}\n{self._read_log(name)}" for name in names)

    def processes(self) -> list[int]:
        """Return the ids of all living processes of this server: none after the exit."""
        return [pid for daemon in self._daemons for pid in daemon.family()]

    def _write_settings(self, users: str) -> None:
        _make_folders(self._home)
        postfix = pwd.getpwnam("postfix")
        hosts = _loopback_hosts()
        protocols = "all" if len(hosts) > 1 else "ipv4"
        values = {"home": self._home, "protocols": protocols, "uid": postfix.pw_uid, "gid": postfix.pw_gid}
        etc = self._home / "etc"
        limits = "".join(f"{name} = {value}\n" for name, value in self._limits.items())
        (etc / "main.cf").write_text(_MAIN_CF.format(**values) + limits)
        # Postfix reads a settings file which changed just now again and again until it is two seconds old.
        os.utime(etc / "main.cf", (0, 0))
        tokens = _TOKENS.format(home=self._home) if self._tokens else ""
        conf = _dovecot_conf().format(home=self._home, mechanisms=self._mechanisms, tokens=tokens)
        (etc / "dovecot.conf").write_text(conf)
        if self._tokens:
            values = dict(self._tokens)
            if "tls_ca_cert_file" in values:  # a copy that the user dovecot can read
                values["tls_ca_cert_file"] = str(shutil.copy(values["tls_ca_cert_file"], etc / "authority.pem"))
            (etc / "oauth2").write_text("".join(f"{name} = {value}\n" for name, value in values.items()))
        _write_secret(etc / "server.pem", self._certificate.key_pem + self._certificate.cert_pem)
        _write_secret(etc / "users", users.encode())
        shutil.chown(etc / "users", user="dovecot")  # whose auth process reads it

    def _start(self) -> None:
        ports = [_Port(_loopback_hosts()) for _ in range(3)]
        try:
            self.submission_port, self.tls_port, self.relay_port = (port.number for port in ports)
            (self._home / "etc" / "master.cf").write_text(_MASTER_CF + self._listeners())
            self._launch()
            _wait_until(self._ready, _START_SECONDS, lambda: f"the mail server did not start\n{self.log()}")
            _settle_log_process(self._home / "run" / "log-errors")
            self._flush_logins()
        finally:
            for port in ports:
                port.release()

    def _listeners(self) -> str:
        submission = _SUBMISSION if self._starttls else _SUBMISSION_PLAIN
        return (
            _listener(self.submission_port, "submission", submission)
            + _listener(self.tls_port, "submissions", _SUBMISSIONS)
            + _listener(self.relay_port, "relay", _RELAY)
        )

    def _launch(self) -> None:
        etc, log = self._home / "etc", self._home / "log"
        # One by one, so that a failure of the second does not lose the first.
        self._daemons.append(_Daemon([_DOVECOT, "-F", "-c", etc / "dovecot.conf"], log / "dovecot.out"))
        self._daemons.append(_Daemon([_MASTER, "-d", "-c", etc], log / "postfix.out"))

    def _ready(self) -> bool:
        if not all(daemon.alive() for daemon in self._daemons):
            raise RuntimeError(f"the mail server did not start\n{self.log()}")
        # Each writes its line once all its sockets listen; that a socket's file exists says less.
        return "daemon started" in self._read_log("postfix.log") and "starting up" in self._read_log("dovecot.log")

    def _stop(self) -> None:
        for daemon in self._daemons:
            daemon.terminate()
        for daemon in self._daemons:
            daemon.wait()
        self._daemons = []
        self._home = _keep_record(self._home, self._folder)

    def _flush_logins(self) -> None:
        """Wait until Dovecot's log has all its verdicts so far.

        Dovecot writes through a log process, so a client may see the verdict first. But there is one auth
        process with one pipe: when a mark sent to it now is in the log, all before it is, too.
        """
        mark = f"flush-{next(_FAKE_PIDS)}"
        try:
            _mark_login_log(self._home / "auth", self._mechanisms.split()[0], mark)
        except OSError as error:
            with contextlib.suppress(TimeoutError):  # its reason comes through the same slow pipe
                _wait_until(lambda: "Fatal: " in self._read_log("dovecot.log"), _STOP_SECONDS, str)
            raise RuntimeError(f"Dovecot does not answer: {error}\n{self.log()}") from error
        _wait_until(
            lambda: f"service={mark}" in self._read_log("dovecot.log"),
            _START_SECONDS,
            lambda: f"Dovecot does not log\n{self.log()}",
        )

    def _mail_files(self) -> list[Path]:
        return list((self._home / "mail").glob("new/*"))

    def _too_few(self, count: int) -> str:
        return f"{len(self._mail_files())} of {count} mails arrived\n{self.log()}"

    def _read_log(self, name: str) -> str:
        path = self._home / "log" / name
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


def introspection(url: str, authority: Path) -> dict[str, str]:
    """Return the settings of a passdb oauth2 that asks a provider at `url` about each token (RFC 7662)."""
    asked = {"introspection_url": url, "introspection_mode": "post", "force_introspection": "yes"}
    active = {"active_attribute": "active", "active_value": "true", "username_attribute": "email"}
    return {**asked, **active, "tls_ca_cert_file": str(authority)}


class _Daemon:
    """A daemon in the foreground, in a session of its own by which its whole family can be found."""

    def __init__(self, command: list[str | Path], output: Path) -> None:
        with output.open("wb") as stream:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                cwd="/",
                env=_ENVIRONMENT,
                umask=0o022,
                start_new_session=True,
            )

    def alive(self) -> bool:
        return self._process.poll() is None

    def family(self) -> list[int]:
        return [pid for pid in _all_processes() if _session_of(pid) == self._process.pid]

    def terminate(self) -> None:
        # To all at once: that is what Postfix's master does itself, and Dovecot's would take a second for it.
        self._signal(signal.SIGTERM)

    def wait(self) -> None:
        """Wait until the family is gone, killing it when it takes too long."""
        try:
            _wait_until(self._gone, _STOP_SECONDS, lambda: "still running")
        except TimeoutError:
            self._signal(signal.SIGKILL)
            _wait_until(self._gone, _STOP_SECONDS, lambda: f"cannot be killed: {self.family()}")

    def _gone(self) -> bool:
        return not self.alive() and not self.family()

    def _signal(self, number: signal.Signals) -> None:
        for pid in self.family():
            with contextlib.suppress(ProcessLookupError):  # it may go by itself in the meantime
                os.kill(pid, number)


class _Port:
    """A TCP port which is free on all `hosts`, held until `release` so that nobody else gets it.

    The sockets are bound but do not listen. They get SO_REUSEADDR only afterwards: so binding fails when
    anybody has the port, another harness which holds it as well, and yet Postfix, which sets SO_REUSEADDR
    too, may listen on it.
    """

    def __init__(self, hosts: list[str]) -> None:
        for _ in range(100):
            self._sockets: list[socket.socket] = []
            try:
                self.number = self._bind_all(hosts)
                return
            except OSError:
                self.release()
        raise RuntimeError(f"found no port which is free on all of {hosts}")

    def release(self) -> None:
        for held in self._sockets:
            held.close()

    def _bind_all(self, hosts: list[str]) -> int:
        number = random.randrange(10000, 32000)  # one that the SMTP tab accepts; the system's own may be too high
        for host in hosts:
            held = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
            self._sockets.append(held)
            held.bind((host, number))
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return number


def _require_root_and_packages() -> None:
    if os.geteuid() != 0:
        raise RuntimeError("MailServer must run as root: Postfix and Dovecot switch between several users")
    missing = [str(program) for program in (_MASTER, _DOVECOT) if not program.exists()]
    if missing:
        raise RuntimeError(f"missing {', '.join(missing)}: apt-get install postfix dovecot-core")


@functools.cache
def _dovecot_conf() -> str:
    """Return the template in the language of the Dovecot that is installed."""
    version = subprocess.run(
        [_DOVECOT, "--version"], env=_ENVIRONMENT, capture_output=True, text=True, check=True
    ).stdout
    return _DOVECOT_CONF[".".join(version.split(".")[:2])]


def _wait_until(condition: Callable[[], bool], seconds: float, why: Callable[[], str]) -> None:
    """Poll `condition`; raise TimeoutError, explained by `why`, when it stays false for `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(why())
        threading.Event().wait(_POLL_SECONDS)


def _loopback_hosts() -> list[str]:
    """Return 127.0.0.1, and ::1 where there is one: `localhost` may mean either."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return ["127.0.0.1"]
    return ["127.0.0.1", "::1"]


def _listener(port: int, name: str, settings: str) -> str:
    """Return the lines of master.cf for the service `name` on all loopback addresses."""
    options = " ".join(f"-o {setting}" for setting in [f"syslog_name=postfix/{name}", *settings.split()])
    addresses = (f"[{host}]:{port}" for host in _loopback_hosts())
    return "".join(f"{address} inet n - n - - smtpd {options}\n" for address in addresses)


def _make_home() -> Path:
    home = Path(tempfile.mkdtemp(prefix="mail-", dir="/tmp"))
    home.chmod(0o755)
    return home


def _make_folders(home: Path) -> None:
    _make_folder(home, ["etc", "log", "run", "state", "queue", "queue/pid"], "root", 0o755)
    _make_folder(home, ["data", "mail"], "postfix", 0o700)
    queues = ("active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "saved", "trace")
    _make_folder(home, [f"queue/{name}" for name in (*queues, "private", "public", "maildrop")], "postfix", 0o700)


def _make_folder(home: Path, names: Iterable[str], owner: str, mode: int) -> None:
    for name in names:
        (home / name).mkdir()
        (home / name).chmod(mode)  # mkdir's own argument is subject to the umask
        shutil.chown(home / name, user=owner)


def _write_secret(path: Path, content: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(content)


def _users_file(accounts: dict[str, str]) -> str:
    """Return Dovecot's passwd-file. Base64 keeps colons, braces and spaces of a password out of its syntax."""
    for login in accounts:
        if not login or login.startswith("#") or re.search(r"[:\t\r\n]", login):
            raise ValueError(f"a passwd-file cannot hold the login {login!r}")
    encoded = {login: base64.b64encode(password.encode()).decode() for login, password in accounts.items()}
    return "".join(f"{login}:{{PLAIN.B64}}{password}\n" for login, password in encoded.items())


def _settle_log_process(path: Path) -> None:
    """Wait until Dovecot's log process has been through its main loop, before anybody logs anything.

    It keeps to itself, until more comes, what it reads together with the handshake which the master left for
    it. An answer at `path`, where it tells of recent errors, takes one turn of its loop: the first takes up
    the pipes, the next reads their handshakes, and when there is an answer to the third both are over.
    """
    for _ in range(3):
        with socket.socket(socket.AF_UNIX) as errors:
            errors.settimeout(_START_SECONDS)
            errors.connect(str(path))
            while errors.recv(4096):
                pass


def _mark_login_log(path: Path, mechanism: str, mark: str) -> None:
    """Begin a login for the service `mark` in Dovecot's auth protocol and take it back: that is logged."""
    hello = f"VERSION\t1\t2\nCPID\t{next(_FAKE_PIDS)}\n"
    with socket.socket(socket.AF_UNIX) as auth:
        auth.settimeout(_START_SECONDS)
        auth.connect(str(path))
        auth.sendall(f"{hello}AUTH\t1\t{mechanism.upper()}\tservice={mark}\n".encode())
        with auth.makefile("rb") as answers:
            for line in answers:
                if line.startswith((b"CONT\t", b"FAIL\t")):
                    break
        auth.sendall(b"CANCEL\t1\n")


def _queue_id(mail: bytes) -> bytes:
    """Return the id in the topmost Received field; ids sort by the time at which the mail came in."""
    found = _QUEUE_ID.search(mail)
    return found.group(1) if found else b""


def _all_processes() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _session_of(pid: int) -> int:
    """Return the session of a living process; 0 when it is gone or a zombie, which nobody but init can reap."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    state, session = fields[0], int(fields[3])
    return 0 if state in "ZX" else session


def _keep_record(home: Path, folder: Path) -> Path:
    """Copy settings, logs and mails below `folder`, remove `home`, and return where the copy is."""
    record = folder / home.name
    for name in _KEPT:
        if (home / name).exists():
            shutil.copytree(home / name, record / name)
    shutil.rmtree(home)
    return record
