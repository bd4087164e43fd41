"""Debian's cron, anacron, mdadm, fail2ban and smartd call the product as their sendmail, and their mail arrives."""

from __future__ import annotations

import contextlib
import email
import email.charset
import email.message
import email.policy
import grp
import io
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from device_ui.mail import client, sendmail
from tests.helpers.product import PASSWORD, Product, settings_form, wait_for
from tests.servers.authority import Authority
from tests.servers.callers import AS_MEMBER, EVENT_GROUP, MEMBER, Appliance, install
from tests.servers.postfix import MailServer

ACCOUNT = "alarm@mail.example.com"
SENDMAIL = "/usr/sbin/sendmail"
Mail = email.message.EmailMessage
Event = tuple[str, str, str]


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority("Test authority")


@pytest.fixture(scope="module")
def server(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MailServer]:
    folder, certificate = (tmp_path_factory.mktemp("postfix"), authority.issue(["127.0.0.1"]))
    with MailServer(folder=folder, certificate=certificate, accounts={ACCOUNT: PASSWORD}) as running:
        yield running


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(tmp_path_factory.mktemp("installed"))


@dataclass
class Device:
    """A device whose hook runs for all tests, and what it had when a test began: its newest event, and its server's mails."""

    appliance: Appliance
    server: MailServer
    newest: int = 0
    mails: int = 0

    def begin(self) -> Device:
        """Note what it has."""
        self.newest = max((event["number"] for event in self._history()), default=0)
        self.mails = len(self.server.mails())
        return self

    def arrived(self) -> Mail:
        """Return the next mail, as the recipient gets it."""
        raw = self.server.wait_for(self.mails + 1)[self.mails]
        assert raw.count(b"\nDelivered-To: " + ACCOUNT.encode() + b"\n") == 1
        return email.message_from_bytes(raw, policy=email.policy.default)  # type: ignore[return-value]

    def events(self) -> list[Event]:
        """Return code, source and text of every event since; the first line of a message is the name of its event."""
        found = [event for event in self._history() if event["number"] > self.newest]
        return [(event["code"], event["source"], f"{event['name']}\n\n{event['text']}") for event in found]

    def wait_for_event(self) -> None:
        """Wait until a caller has raised one."""
        wait_for(self.events, what="the event")

    def _history(self) -> list[dict[str, Any]]:
        lines = client.history(self.appliance.product.folders.socket, {"limit": 0, "descending": False})
        return [line["event"] for line in lines if "event" in line]


@contextlib.contextmanager
def started(folder: Path, installed: Path, server: MailServer, *options: str) -> Iterator[Device]:
    """Start the hook of a device in this folder."""
    with Product(folder) as product:
        product.maker(f'[users]\nevent_group = "{EVENT_GROUP}"\n[mail]\ndigest_window = 0\nhourly_budget = 1000\n')
        product.start_hook(*options)
        yield Device(Appliance(product, installed, folder / "appliance"), server)


@pytest.fixture(scope="module")
def device_with_settings(
    authority: Authority, server: MailServer, installed: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Device]:
    folder = tmp_path_factory.mktemp("mailing")
    trusted = authority.write(folder / "authority.pem")
    with started(folder, installed, server, "--ca-file", str(trusted)) as device:
        device.appliance.product.save(**settings_form(server.submission_port, account=ACCOUNT))
        yield device


@pytest.fixture(scope="module")
def device_without(server: MailServer, installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Device]:
    with started(tmp_path_factory.mktemp("keeping"), installed, server) as device:
        yield device


@pytest.fixture
def mailing(device_with_settings: Device) -> Device:
    """A device that mails each event at once; a test raises one event, and waits for its mail."""
    return device_with_settings.begin()


@pytest.fixture
def keeping(device_without: Device) -> Device:
    """A device that has no settings yet, and keeps its events."""
    return device_without.begin()


def plain(mail: Mail) -> str:
    return mail.get_body(("plain",)).get_content()  # type: ignore[union-attr, no-any-return]


def crontab(appliance: Appliance, lines: str) -> dict[str, Path]:
    """What cron reads, and nothing of this machine: one crontab of a user who is in the event group."""
    spool = appliance.file(f"crontabs/{MEMBER}", lines, 0o600)
    shutil.chown(spool, MEMBER)
    member = f"{EVENT_GROUP}:x:{grp.getgrnam(EVENT_GROUP).gr_gid}:{MEMBER}"
    groups = re.sub(f"(?m)^{EVENT_GROUP}:.*", member, Path("/etc/group").read_text())
    return {
        "/etc/crontab": appliance.file("crontab"),
        "/etc/cron.d": appliance.file("cron.d/.placeholder").parent,
        "/var/spool/cron/crontabs": spool.parent,
        "/etc/group": appliance.file("group", groups),
    }


def test_cron_mails_what_a_job_of_an_unprivileged_user_prints(mailing):
    # At its start cron runs these and mails for them as for any other: nobody waits for the minute to end.
    lines = "MAILTO=root\n@reboot echo 'volume 1 is at 97 percent'; id -un\n"
    with mailing.appliance.running("cron", "-f", covers=crontab(mailing.appliance, lines)):
        mailing.wait_for_event()
    mail = mailing.arrived()
    assert mail["Subject"].startswith(f"[fault 901] Storage appliance: Cron <{MEMBER}@")
    assert "echo 'volume 1 is at 97 percent'; id -un" in mail["Subject"]
    assert "volume 1 is at 97 percent" in plain(mail)
    [(code, source, text)] = mailing.events()
    assert (code, source) == ("901", f"CronDaemon ({MEMBER})")
    assert text.splitlines()[1:] == ["", "volume 1 is at 97 percent", MEMBER, "", "(for root)"]


def test_cron_keeps_a_job_that_says_nothing_quiet(keeping):
    lines = "@reboot true\n@reboot echo loud; echo again >&2\n"
    with keeping.appliance.running("cron", "-f", covers=crontab(keeping.appliance, lines)):
        keeping.wait_for_event()
    [(_, _, text)] = keeping.events()
    assert text.splitlines()[1:] == ["", "loud", "again", "", f"(for {MEMBER})"]


def test_anacron_mails_what_a_job_prints(mailing):
    table = mailing.appliance.file("anacrontab", "SHELL=/bin/sh\n1 0 backup echo 'the backup disk is full'\n")
    spool = mailing.appliance.file("spool/.keep").parent
    shutil.chown(spool, MEMBER)
    covers = {"/run/anacrontab": table.parent, "/run/spool": spool}
    words = ("anacron", "-d", "-f", "-n", "-t", "/run/anacrontab/anacrontab", "-S", "/run/spool")
    assert mailing.appliance.run(*AS_MEMBER, *words, covers=covers).returncode == 0
    mail = mailing.arrived()
    assert mail["Subject"].startswith("[fault 901] Storage appliance: Anacron job 'backup' on ")
    assert "the backup disk is full" in plain(mail)
    assert [event[:2] for event in mailing.events()] == [("901", f"Anacron ({MEMBER})")]


# Since 4.3 mdadm wants an array that is there. Some block device gets the name of one, and strace(1) has the kernel answer the
# first ioctl(2), which is RAID_VERSION, as for an array.
ARRAY = """
set -e
device=$(ls /sys/dev/block | head -n 1)
mount -t tmpfs tmpfs /sys/dev/block
ln -s ../../devices/virtual/block/md0 "/sys/dev/block/$device"
mknod -m 644 /run/md0 b "${device%:*}" "${device#*:}"
exec "$@"
"""
IS_AN_ARRAY = (
    "strace",
    "-o",
    "/dev/null",
    "-e",
    "inject=ioctl:retval=0:poke_exit=@arg3=000000005a00000003000000:when=1",
)


@pytest.mark.parametrize(("prefix", "user"), [((), "root"), (AS_MEMBER, MEMBER)])
def test_mdadm_mails_its_test_message(mailing, prefix, user):
    words = ("mdadm", "--monitor", "--test", "--oneshot", "--mail", "root", "/run/md0")
    assert mailing.appliance.run("sh", "-c", ARRAY, "sh", *prefix, *IS_AN_ARRAY, *words).returncode == 0
    mail = mailing.arrived()
    assert mail["Subject"].startswith("[fault 901] Storage appliance: TestMessage event on /run/md0:")
    assert re.search("TestMessage event (had been )?detected on md device /run/md0", plain(mail))
    assert [event[:2] for event in mailing.events()] == [("901", f"mdadm monitoring ({user})")]


FAIL2BAN = """\
[Definition]
loglevel = INFO
logtarget = STDOUT
syslogsocket = auto
allowipv6 = auto
socket = /run/fail2ban/socket
pidfile = /run/fail2ban/pid
dbfile = None
dbpurgeage = 1d
"""
# Debian's own action; only what it says at start and end is silenced, so that the ban is the first mail.
JAIL = """\
[sshd]
enabled = true
filter = quiet
backend = polling
logpath = /run/fail2ban/log
action = sendmail[name=%(__name__)s, dest=root, actionstart="", actionstop=""]
"""


def fail2ban(appliance: Appliance) -> dict[str, Path]:
    files = {
        "fail2ban.conf": FAIL2BAN,
        "jail.conf": JAIL,
        "filter.d/quiet.conf": "[Definition]\nfailregex = ^<HOST> failed$\n",
        "log": "",
    }
    for name, text in files.items():
        appliance.file(f"fail2ban/{name}", text)
    (appliance.folder / "fail2ban" / "action.d").symlink_to("/etc/fail2ban/action.d")
    return {"/run/fail2ban": appliance.folder / "fail2ban"}


def test_fail2ban_mails_a_ban(mailing):
    client = "fail2ban-client -c /run/fail2ban -s /run/fail2ban/socket"
    script = f"for i in $(seq 100); do {client} ping && break; sleep 0.1; done; {client} set sshd banip 192.0.2.1; wait"
    words = f"fail2ban-server -f -c /run/fail2ban -s /run/fail2ban/socket start & {script}"
    with mailing.appliance.running("sh", "-c", words, covers=fail2ban(mailing.appliance)):
        mailing.wait_for_event()
    mail = mailing.arrived()
    assert mail["Subject"].startswith("[fault 901] Storage appliance: [Fail2Ban] sshd: banned 192.0.2.1 from ")
    assert "The IP 192.0.2.1 has just been banned by Fail2Ban after" in plain(mail)
    assert [event[:2] for event in mailing.events()] == [("901", "Fail2Ban (root)")]


# What smartd 7.3 hands to its script (smartd.conf(5), -M exec).
SMARTD = {
    "SMARTD_MAILER": "/usr/share/smartmontools/smartd-runner",
    "SMARTD_ADDRESS": "root",
    "SMARTD_MESSAGE": "Device: /dev/sda [SAT], FAILED SMART self-check. BACK UP DATA NOW!",
    "SMARTD_FAILTYPE": "Health",
    "SMARTD_DEVICE": "/dev/sda",
    "SMARTD_DEVICETYPE": "sat",
    "SMARTD_DEVICESTRING": "/dev/sda [SAT]",
    "SMARTD_DEVICEINFO": "a disk, S/N:1",
    "SMARTD_TFIRST": "Mon Nov 23 14:03:22 2026 UTC",
    "SMARTD_TFIRSTEPOCH": "1795442602",
    "SMARTD_PREVCNT": "0",
    "SMARTD_NEXTDAYS": "",
}


def test_smartd_mails_its_warning_through_its_runner_and_mail(mailing):
    done = mailing.appliance.run(
        "/usr/share/smartmontools/smartd_warning.sh", env={**mailing.appliance.environment, **SMARTD}
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    mail = mailing.arrived()
    assert mail["Subject"].startswith("[fault 901] Storage appliance: SMART error (Health) detected on host: ")
    assert "Device: /dev/sda [SAT], FAILED SMART self-check. BACK UP DATA NOW!" in plain(mail)
    assert [event[:2] for event in mailing.events()] == [("901", "root")]


def unattended_upgrades() -> bytes:
    """As its _send_mail_using_sendmail makes it (2.9.1)."""
    message = email.message.Message()
    message["Subject"] = "[reboot required] unattended-upgrades result for nas: FAILURE"
    message["From"], message["To"], message["Auto-Submitted"] = ("root", "root", "auto-generated")
    charset = email.charset.Charset("utf-8")
    charset.body_encoding = email.charset.QP
    message.set_payload("Unattended upgrade result: a \u2018held\u2019 package = not upgraded\n", charset)
    return message.as_string().encode()


# As it prints them (7.7); the HTML one as --format html makes it.
LOGWATCH = """\
To: root
From: Logwatch
Subject: Logwatch for nas (Linux)
Auto-Submitted: auto-generated
Precedence: bulk
MIME-Version: 1.0
Content-Transfer-Encoding: 8bit
Content-Type: text/{}; charset="UTF-8"

"""
LOGWATCH_TEXT = LOGWATCH.format("plain") + " --- Disk Space Begin ---\n\n /dev/sda1  97% /\u2026\n"
LOGWATCH_HTML = LOGWATCH.format("html") + (
    "<html><head><style type='text/css'><!--\nh1 {color: gray}\n--></style><title>Logwatch</title></head>\n"
    "<body><h2>Disk Space</h2><p>/dev/sda1 &nbsp;97% &lt;/&gt;</body></html>\n"
)


@pytest.mark.parametrize(
    ("flags", "raw", "subject", "body", "source"),
    [
        ("-oi -t", unattended_upgrades(), "[reboot required] unattended-upgrades result for nas: FAILURE",
         "Unattended upgrade result: a \u2018held\u2019 package = not upgraded", MEMBER),
        ("-t", LOGWATCH_TEXT.encode(), "Logwatch for nas (Linux)", "/dev/sda1  97% /\u2026", MEMBER),
        ("-t", LOGWATCH_HTML.encode(), "Logwatch for nas (Linux)", "/dev/sda1 97% </>", MEMBER),
    ],
    ids=["unattended-upgrades", "logwatch", "logwatch in HTML"],
)  # fmt: skip
def test_a_report_arrives_as_its_program_wrote_it(mailing, flags, raw, subject, body, source):
    done = mailing.appliance.run(*AS_MEMBER, SENDMAIL, *flags.split(), input=raw)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    mail = mailing.arrived()
    assert mail["Subject"].startswith(f"[fault 901] Storage appliance: {subject}")
    assert body in plain(mail)
    [(_, caller, text)] = mailing.events()
    assert (caller, text.splitlines()[:2]) == (source, [subject, ""])
    assert "color" not in text


SUBJECT = b"Subject: x\n"
TYPE = SUBJECT + b"MIME-Version: 1.0\nContent-Type: "
BROKEN = {
    "no newline": (b"x" * 300_000, "(no subject)", "x" * 9000),
    "endless lines": (SUBJECT + b"\n" + (b"y" * 100_000 + b"\n") * 10, "x", "y" * 9000),
    "NUL bytes": (SUBJECT + b"\na\0b\0", "x", "a\ufffdb"),
    "only headers": (SUBJECT + b"X-Disk: sda\n", "x", "X-Disk: sda"),
    "only a body": (b"disk 3 failed\n", "(no subject)", "disk 3 failed"),
    "nothing": (b"", "(no subject)", ""),
    "bad boundary": (TYPE + b"multipart/mixed; boundary=b\n\n--other\n\nlost?\n--other--\n", "x", "lost?"),
    "no boundary": (TYPE + b"multipart/mixed\n\nlost?\n", "x", "lost?"),
    "10,000 headers": (b"X-A: y\n" * 10_000 + SUBJECT + b"\nbody\n", "x", "body"),
    "endless subject": (b"Subject: " + b"a b " * 100_000 + b"\n\nbody\n", "a b a b a b", "body"),
    "endless folds": (b"To: a@b.c" + b",\n a@b.c" * 20_000 + b"\n" + SUBJECT + b"\nbody\n", "x", "body"),
    "endless recipients": (b"To: " + b"a@b.c, " * 100_000 + b"\n" + SUBJECT + b"\nbody\n", "x", "body"),
    "endless brackets": (b"To: " + b"(<" * 100_000 + b"\n" + SUBJECT + b"\nbody\n", "x", "body"),
    "endless parameters": (TYPE + b"text/plain; " + b"a=b; " * 100_000 + b"\n\nbody\n", "x", "body"),
    "endless tags": (TYPE + b"text/html\n\nbody" + b"<a " * 60_000, "x", "body"),
    "latin-1": (TYPE + b"text/plain; charset=iso-8859-1\n\nD\xe9faut\n", "x", "D\u00e9faut"),
    "EUC-KR": (TYPE + b"text/plain; charset=euc-kr\n\n" + "디스크".encode("euc-kr") + b"\n", "x", "디스크"),
    "EUC-KR, as Outlook says": (TYPE + b"text/plain; charset=ks_c_5601-1987\n\n" + "디스크".encode("euc-kr"), "x", "디스크"),
    "EUC-KR subject": (b"Subject: =?euc-kr?B?tfC9usWp?=\n\nbody\n", "디스크", "body"),
    "undeclared latin-1": (SUBJECT + b"\nD\xe9faut 3\n", "x", "D\ufffdfaut 3"),
    "CR LF": (b"Subject: x\r\nX-A: b\r\n\r\none\r\ntwo\r\n", "x", "one\ntwo"),
}  # fmt: skip


# What the program itself must do with them: take all of a long standard input, write nothing, and know Outlook's charset.
AT_THE_DOOR = ("no newline", "endless brackets", "EUC-KR, as Outlook says")


def assert_kept(device: Device, name: str, caller: str) -> None:
    """Assert that the one event since is the broken message of this name."""
    _, subject, text = BROKEN[name]
    [(code, source, kept)] = device.events()
    assert (code, source) == ("901", caller)
    assert kept.partition("\n")[0].startswith(subject)
    assert text in kept and len(kept) <= 10_000


@pytest.mark.parametrize("name", AT_THE_DOOR)
def test_a_broken_message_is_kept_quietly(keeping, name):
    done = keeping.appliance.run(*AS_MEMBER, SENDMAIL, "-i", "-t", input=BROKEN[name][0])
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert_kept(keeping, name, MEMBER)


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_message_is_kept_quickly(keeping, capfd, name):
    """The same door without the start of a program."""
    begun = time.process_time()
    assert sendmail.deliver(keeping.appliance.product.folders.socket, ["-i", "-t"], io.BytesIO(BROKEN[name][0])) == 0
    assert time.process_time() - begun < 10
    assert capfd.readouterr() == ("", "")
    assert_kept(keeping, name, "root")


def test_a_lone_dot_ends_a_message_of_a_caller_without_the_flag(keeping):
    assert keeping.appliance.run(*AS_MEMBER, SENDMAIL, "root", input=b"Subject: x\n\none\n.\ntwo\n").returncode == 0
    assert (
        keeping.appliance.run(*AS_MEMBER, SENDMAIL, "-i", "root", input=b"Subject: x\n\none\n.\ntwo\n").returncode == 0
    )
    assert [text.partition("\n\n")[2].removesuffix("\n\n(for root)") for _, _, text in keeping.events()] == [
        "one",
        "one\n.\ntwo",
    ]


@pytest.mark.parametrize("end", [b"\n", b""], ids=["lines", "one line"])
def test_fifty_megabytes_are_taken_in_little_memory(keeping, end):
    big = keeping.appliance.folder / "big"
    with big.open("wb") as stream:
        stream.write(b"Subject: x\n\n")
        stream.writelines([(b"0123456789" * 100 + end) * 1000] * 50)
    script = (
        "import resource, subprocess\n"
        f"code = subprocess.run(['{SENDMAIL}', '-t']).returncode\n"
        "print(code, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)"
    )
    with big.open("rb") as stream:
        done = keeping.appliance.run("/usr/bin/python3", "-c", script, stdin=stream)
    code, mebibytes = map(int, done.stdout.split())
    assert (code, done.stderr) == (0, b"")
    assert mebibytes < 60
    [(_, _, text)] = keeping.events()
    assert text.startswith("x\n\n0123456789") and text.endswith("[\u2026 cut]")


@pytest.mark.parametrize("flags", [["-Z"], ["-t", "--host=mail.example.com"], ["-F"]])
def test_a_flag_that_nobody_knows_is_told_and_the_message_is_kept(keeping, flags):
    done = keeping.appliance.run(*AS_MEMBER, SENDMAIL, *flags, input=b"Subject: x\n\none\n.\ntwo\n")
    assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (64, b"", 1)
    assert done.stderr.startswith(b"sendmail: option -")
    assert done.stderr.endswith(b"; the message is kept\n")
    assert [text for _, _, text in keeping.events()] == ["x\n\none\n.\ntwo"]


@pytest.mark.parametrize(("flags", "code"), [(["-q"], 0), (["-q30m"], 0), (["-bd", "-q1h"], 0), (["-bs"], 0)])
def test_what_is_no_message_makes_no_event(keeping, flags, code):
    assert keeping.appliance.run(*AS_MEMBER, SENDMAIL, *flags, input=b"x\n").returncode == code
    assert keeping.events() == []


def test_a_caller_outside_the_group_is_told_so(keeping):
    stranger = ("setpriv", f"--reuid={MEMBER}", "--regid=nogroup", "--clear-groups")
    done = keeping.appliance.run(*stranger, SENDMAIL, "root", input=b"Subject: x\n\ny\n")
    assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (77, b"", 1)
    assert keeping.events() == []


def test_a_closed_standard_input_is_told_in_one_line(keeping):
    done = keeping.appliance.run(*AS_MEMBER, "sh", "-c", f"exec {SENDMAIL} root <&-")
    assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (71, b"", 1), done.stderr
