"""The sendmail door: every caller's own invocation, any message, no relay and no secret."""

from __future__ import annotations

import email
import email.policy
import io
import os
import smtplib
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_ui.cli.demo_server import Mailbox, Server
from device_ui.mail import client, sendmail
from device_ui.mail.sendmail import Call, Usage
from tests.helpers.product import Product, free_port, settings_form, wait_for

HTML = b"Subject: x\nContent-Type: text/html\n\n"
MESSAGE = b"To: root\nSubject: SMART error\n\nDevice: /dev/sda\n"


@pytest.mark.parametrize(
    ("words", "call"),
    [
        ("-FCronDaemon -i -B8BITMIME -oem root", Call("CronDaemon", False, "m", ("root",))),
        ("-FAnacron -odi root", Call("Anacron", True, "m", ("root",))),
        ("-t", Call()),
        ("-oi -t", Call(dot_ends=False)),
        ("-f fail2ban@host root@localhost", Call(recipients=("root@localhost",))),
        ("-i -f root -- -odd-name", Call(dot_ends=False, recipients=("-odd-name",))),
        ("root -oi", Call(dot_ends=False, recipients=("root",))),
        ("-bm -v -n -N never -O Timeout=1 root", Call(recipients=("root",))),
        ("-bs", Call(mode="s")),
        ("-q", Call(mode="q")),
        ("-bd -q30m", Call(mode="q")),
    ],
)
def test_flags_are_understood_as_callers_mean_them(words, call):
    assert sendmail.understand(words.split()) == call


@pytest.mark.parametrize("words", [["-Z"], ["--nonsense"], ["-F"]])
def test_flags_that_nobody_knows_are_told(words):
    with pytest.raises(Usage):
        sendmail.understand(words)


@pytest.mark.parametrize(
    ("raw", "call", "kept"),
    [
        (b"a\n.\nb\n", Call(dot_ends=True), b"a\n"),
        (b"a\n.\nb\n", Call(dot_ends=False), b"a\n.\nb\n"),
        (b"a\r\n.\r\nb", Call(dot_ends=True), b"a\r\n"),
        (b"..\n", Call(dot_ends=True), b"..\n"),
        (b"", Call(), b""),
        (b"x" * 65536 + b".\ny\n", Call(), b"x" * 65536 + b"\ny\n"),  # the rest of a long line is no lone dot
    ],
)
def test_a_lone_dot_ends_a_message_unless_it_is_told_otherwise(raw, call, kept):
    assert sendmail.read(io.BytesIO(raw), call) == kept


@pytest.mark.parametrize(
    ("raw", "size"),
    [((b"x" * 999 + b"\n") * 20_000, 256 * 1024), (b"x" * 1_000_000, 65536), (b"x" * 999_999 + b"\n", 65537)],
)
def test_a_message_that_does_not_end_is_read_and_cut(raw, size):
    stream = io.BytesIO(raw)
    assert len(sendmail.read(stream, Call())) == size
    assert stream.read() == b""


@pytest.mark.parametrize(
    ("raw", "subject", "text"),
    [
        (MESSAGE, "SMART error", "Device: /dev/sda"),
        ("Subject: =?utf-8?b?6rmA?= x\n\n김\n".encode(), "김 x", "김"),
        ("Subject: 김\n\n김\n".encode(), "김", "김"),
        (b"Subject: a\n b\n\tc\n\nx", "a b c", "x"),
        (b"\nno header\n", "(no subject)", "no header"),
        (b"", "(no subject)", ""),
        (b"Subject: x\nContent-Type: text/plain; charset=nonsense\n\ny\xff", "x", "y\ufffd"),
        (b"Subject: x\nContent-Type: text/plain; charset=hex\n\ny", "x", "y"),
        (b"Subject: x\nContent-Type: text/html\n\n<p>one<b> two</b></p><p>three", "x", "one\ntwo\nthree"),
        (b"Subject: x\nContent-Transfer-Encoding: base64\n\nAAA", "x", None),
        (b"Subject: x\nContent-Type: multipart/mixed\n\nno boundary", "x", None),
        (b"Subject: x\nContent-Type: image/png\n\n\x89PNG", "x", "Subject: x\nContent-Type: image/png\n\n\ufffdPNG"),
        (b"ALERT: disk 3 failed, array degraded\n", "(no subject)", "ALERT: disk 3 failed, array degraded"),
        (b"RAID: degraded\nDisk: sdb\n\nrest\n", "(no subject)", "RAID: degraded\nDisk: sdb\n\nrest"),
        (b"Subject: " + b"a " * 32000 + b"\n\ny", "a " * 99 + "a", "y"),
        (b"Subject: x\nTo: " + b"(" * 64000 + b"\n\ny", "x", "y"),
        (HTML + b"<style>h1 {}</style><STYLE>h2 {}</STYLE><title>t</title>y", "x", "y"),
        (HTML + b"<script>if (1 < 2) {}</script>&lt;y&gt;&nbsp;<!-- z -->z", "x", "<y>\nz"),
        (HTML + b"<style>h1 {} y", "x", (HTML + b"<style>h1 {} y").decode()),
    ],
)
def test_what_can_be_read_of_a_message_is_kept(raw, subject, text):
    message = sendmail.parse(raw, Call())
    assert message.subject == subject
    assert text is None or message.text == text


def test_the_text_part_is_taken_before_the_html_part():
    raw = (
        b"Subject: x\nMIME-Version: 1.0\nContent-Type: multipart/alternative; boundary=b\n\n"
        b"--b\nContent-Type: text/html\n\n<p>html\n--b\nContent-Type: text/plain\n\nplain\n--b--\n"
    )
    assert sendmail.parse(raw, Call()).text == "plain"


@pytest.mark.parametrize("name", ["Subject", "To", "X-Spam"])
def test_an_endless_header_field_is_parsed_in_part(name):
    raw = f"{name}: a@b.c,".encode() + b"\n a@b.c," * 30_000 + b"\n\ny"  # folded, so that no line is long
    mail = email.message_from_bytes(raw, policy=sendmail.BOUNDED)
    assert 800 < len(mail[name]) <= 1000


@given(st.binary(max_size=400) | st.text(max_size=200).map(lambda text: b"Subject: " + text.encode("utf-8", "replace")))
@settings(max_examples=300, deadline=None)
def test_no_message_is_too_broken_to_be_kept(raw):
    message = sendmail.parse(raw, Call())
    assert message.subject and "\n" not in message.subject
    assert len(sendmail.as_text(message)) < 10_000


def test_subject_and_text_come_first_and_the_recipients_it_named_last():
    message = sendmail.parse(b"To: a@b.c, d@e.f\nSubject: x\n\ny", Call())
    assert sendmail.as_text(message) == "x\n\ny\n\n(for a@b.c, d@e.f)"
    assert sendmail.as_text(sendmail.parse(MESSAGE, Call(recipients=("root",)))).splitlines()[-1] == "(for root)"


def test_a_table_keeps_its_layout():
    """Its first line may begin with blanks, and its columns may be separated by tabs."""
    message = sendmail.parse(b"Subject: df\n\n \n     Size  Used\nsda\t10T\t9T\n\n", Call())
    assert message.text == "     Size  Used\nsda     10T     9T"


@pytest.mark.parametrize(
    ("name", "header", "told"),
    [
        ("CronDaemon", "From: root <a@b.c>", "CronDaemon (root)"),
        ("", "From: mdadm monitoring <root@nas>", "mdadm monitoring (root)"),
        ("", "From: =?utf-8?b?6rmA?= <a@b.c>", "김 (root)"),
        ("", "From: root@nas", "root"),
        ("", "From: <((", "root"),
        ("", "X: y", "root"),
        ("a\nb", "X: y", "a b (root)"),
        ("x" * 500, "X: y", "x" * 60 + " (root)"),
    ],
)
def test_the_source_is_the_name_that_the_caller_gave_with_its_user(name, header, told):
    call = Call(name)
    assert sendmail.source(call, sendmail.parse(f"{header}\n\ny".encode(), call)) == told


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """A device whose hook runs for all tests that only raise events."""
    with Product(tmp_path_factory.mktemp("sendmail")) as product:
        yield product.start_hook()


@dataclass
class Events:
    """The events of a device, and the number of the `newest` when a test began."""

    product: Product
    newest: int = 0

    def since(self) -> list[tuple[int, str, str, str]]:
        """Return number, code, source and text of each, oldest first; the first line of a message is its name."""
        found = client.history(self.product.folders.socket, {"limit": 0, "descending": False})
        events = [line["event"] for line in found if "event" in line]
        return [
            (event["number"], event["code"], event["source"], f"{event['name']}\n{event['text']}")
            for event in events
            if event["number"] > self.newest
        ]

    def texts(self) -> list[str]:
        """Return the text of each."""
        return [text for *_, text in self.since()]


@pytest.fixture
def events(running: Product) -> Events:
    """What comes to the device that runs for all."""
    found = Events(running)
    found.newest = max((number for number, *_ in found.since()), default=0)
    return found


def deliver(product: Product, message: bytes, *words: str) -> int:
    """The command without the start of a program: how it exits."""
    return sendmail.deliver(product.folders.socket, words, io.BytesIO(message))


def link(product: Product) -> Path:
    """``/usr/sbin/sendmail`` as an installation has it: a program of that name that is this product."""
    program = product.folder / "sendmail"
    program.write_text(f"#!{sys.executable}\nimport sys\nfrom device_ui.cli.parser import main\nsys.exit(main())\n")
    program.chmod(0o755)
    return program


def test_the_command_makes_an_event_of_it(events):
    done = events.product.command("sendmail", "-i", "-FCronDaemon", "root", input=MESSAGE.decode())
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    expected = ("901", "CronDaemon (root)", "SMART error\nDevice: /dev/sda\n\n(for root)")
    assert events.since() == [(events.newest + 1, *expected)]


def test_a_program_of_that_name_is_the_same_command(events):
    done = subprocess.run([link(events.product), "-t"], input=MESSAGE, env=events.product.environment, timeout=60)
    assert done.returncode == 0
    assert [text.partition("\n")[0] for text in events.texts()] == ["SMART error"]


@pytest.mark.parametrize(("words", "code"), [(["-bt"], 64), (["-bp"], 64), (["root"], 75)])
def test_what_it_cannot_do_it_says(product, words, code):
    done = product.call("sendmail", *words)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (code, "", 1)


def test_the_longest_message_is_cut_and_accepted(events):
    for text in ("x" * 100_000, "김" * 100_000, "😀" * 50_000, "\x01" * 50_000, '"\\' * 50_000):
        assert deliver(events.product, f"Subject: {text}\n\n{text}\n".encode(), "root") == 0
    kept = events.texts()
    assert len(kept) == 5
    assert all(len(text) <= 10_000 and text.endswith("[… cut]\n\n(for root)") for text in kept)


def test_it_is_delivered_with_its_own_subject_and_body(product, tmp_path):
    mailbox = Mailbox(tmp_path / "demo", out=io.StringIO())
    server = Server(mailbox, free_port())
    server.start()
    try:
        product.start_hook("--ca-file", str(mailbox.ca_file))
        product.save(**settings_form(server.port, account=mailbox.account, password=mailbox.password))
        assert deliver(product, MESSAGE, "someone@elsewhere.example") == 0
        wait_for(lambda: [each for each in mailbox.folder.glob("*.eml") if each.stat().st_size], what="the mail")
        wait_for(lambda: product.state()["waiting"] == 0, what="the record")
    finally:
        server.shutdown()
        server.server_close()
    raw = next(iter(mailbox.folder.glob("*.eml"))).read_bytes()
    mail = email.message_from_bytes(raw, policy=email.policy.default)
    assert mail["Subject"] == "[fault 901] Storage appliance: SMART error"
    assert mail["To"] == mailbox.account  # the device's own list, whoever was named: this door is no relay
    assert "Device: /dev/sda" in mail.get_body(("plain",)).get_content()  # type: ignore[union-attr]


def test_a_caller_outside_the_group_is_denied_and_never_meets_a_secret(running):
    assert deliver(running, b"x\n", "root") == 0
    child = (
        "import os, sys\nsys.path[:0] = sys.argv[1].split(os.pathsep)\nfrom device_ui.cli.parser import main\n"
        "sys.argv = ['sendmail', 'root']\nimport argparse, email.policy, html.parser, getopt, locale, pwd, shutil\n"
        "import device_ui.mail.sendmail, device_ui.config, json, socket\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\nsys.exit(main())"
    )
    for folder in (running.folder, *running.folder.parents[:-2]):
        folder.chmod(folder.stat().st_mode | 0o011)
    done = subprocess.run(
        [sys.executable, "-c", child, os.pathsep.join(sys.path)],
        env=running.environment,
        input="x\n",
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (77, ""), done.stderr
    assert "may not ask" in done.stderr


def test_a_closed_standard_input_is_told_in_one_line(running):
    words = ["sh", "-c", f"exec {sys.executable} -m device_ui sendmail root <&-"]
    done = subprocess.run(words, env=running.environment, cwd="/", capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (71, "", 1), done.stderr


# sendmail -bs

BODY = "Subject: backup failed\n\ntwo files\n"
MAILED = "MAIL FROM:<nas@example.com>\nRCPT TO:<ops@example.com>\nDATA\n"


def session(product: Product, said: str | bytes, captured: pytest.CaptureFixture[bytes]) -> tuple[list[str], int]:
    """Return the reply codes of an SMTP session, the greeting first, and the exit code."""
    said = said if isinstance(said, bytes) else said.replace("\n", "\r\n").encode()
    captured.readouterr()
    code = deliver(product, said, "-bs")
    replies, wrong = captured.readouterr()
    lines = replies.decode().split("\r\n")
    assert lines.pop() == "" and wrong == b""
    return [line[:3] for line in lines if line[3:4] != "-"], code


@pytest.mark.parametrize(
    ("said", "codes", "texts_kept"),
    [
        pytest.param(
            f"EHLO nas\n{MAILED}{BODY}.\nQUIT\n",
            "220 250 250 250 354 250 221",
            ["backup failed\ntwo files\n\n(for ops@example.com)"],
            id="msmtp#193-symfony",
        ),
        pytest.param(
            f"HELO nas\n{MAILED}{BODY}.\nQUIT\n",
            "220 250 250 250 354 250 221",
            ["backup failed\ntwo files\n\n(for ops@example.com)"],
            id="cachet-docker#357-swiftmailer",
        ),
        pytest.param(
            f"EHLO [127.0.0.1]\n{MAILED}{BODY}.\n{MAILED}Subject: next\n\nx\n.\nQUIT\n",
            "220 250 250 250 354 250 250 250 354 250 221",
            ["backup failed\ntwo files\n\n(for ops@example.com)", "next\nx\n\n(for ops@example.com)"],
            id="two-mails",
        ),
        pytest.param(
            f"{MAILED}Subject: x\n\n..\n..b\n.\nQUIT\n",
            "220 250 250 354 250 221",
            ["x\n.\n.b\n\n(for ops@example.com)"],
            id="rfc5321-4.5.2-dots",
        ),
        pytest.param(
            f"{MAILED.lower()}{BODY}.\nquit\n",
            "220 250 250 354 250 221",
            ["backup failed\ntwo files\n\n(for ops@example.com)"],
            id="lower-case",
        ),
        pytest.param(
            f"MAIL FROM:<> BODY=8BITMIME SIZE=100\nRCPT TO: <@relay.example:a@b.c> NOTIFY=NEVER\nDATA\n{BODY}.\nQUIT\n",
            "220 250 250 354 250 221",
            ["backup failed\ntwo files\n\n(for a@b.c)"],
            id="parameters-and-a-source-route",
        ),
        pytest.param(
            f"MAIL FROM:<a@b.c>\nRCPT TO:<d@e.f>\nRSET\nDATA\n{MAILED}{BODY}.\nQUIT\n",
            "220 250 250 250 503 250 250 354 250 221",
            ["backup failed\ntwo files\n\n(for ops@example.com)"],
            id="rset",
        ),
        pytest.param("RCPT TO:<a@b.c>\nDATA\nMAIL\nMAIL FROM:a@b.c\nQUIT\n", "220 503 503 501 501 221", [], id="order"),
        pytest.param(
            "MAIL FROM:<a@b.c>\nMAIL FROM:<a@b.c>\nRCPT TO:<>\nDATA\n", "220 250 503 501 503", [], id="no-quit"
        ),
        pytest.param(
            "STARTTLS\nAUTH PLAIN x\nEXPN a\n\nNOOP\nVRFY a\nQUIT\n", "220 500 500 500 500 250 252 221", [], id="others"
        ),
        pytest.param("NOOP " + "x" * 2000 + "\nNOOP\nQUIT\n", "220 500 250 221", [], id="long-line"),
        pytest.param("x\n" * 50, "220 " + "500 " * 20 + "421", [], id="http-or-worse"),
        pytest.param(
            f"{MAILED}Subject: half\n\nthe caller di",
            "220 250 250 354 250",
            ["half\nthe caller di\n\n(for ops@example.com)"],
            id="cut",
        ),
        pytest.param(
            f"{MAILED}{BODY}.\nQUIT\n".encode(),
            "220 250 250 354 250 221",
            ["backup failed\ntwo files\n\n(for ops@example.com)"],
            id="lf-alone",
        ),
        pytest.param(
            MAILED.replace("ops@", "운영@") + "Subject: 백업\n\n실패\n.\nQUIT\n",
            "220 250 250 354 250 221",
            ["백업\n실패\n\n(for 운영@example.com)"],
            id="rfc6531-utf8",
        ),
        pytest.param(
            "MAIL FROM:<a@b.c>\n" + "RCPT TO:<a@b.c>\n" * 101, "220 250 " + "250 " * 100 + "452", [], id="recipients"
        ),
    ],
)
def test_each_mail_of_a_session_is_an_event(events, capfdbinary, said, codes, texts_kept):
    assert session(events.product, said, capfdbinary) == (codes.split(), 0)
    assert events.texts() == texts_kept


def test_a_mail_that_is_not_stored_is_answered_for_another_try(product, capfdbinary):
    assert session(product, f"{MAILED}{BODY}.\nNOOP\nQUIT\n", capfdbinary) == (
        "220 250 250 354 451 250 221".split(),
        0,
    )


def test_smtplib_mails_through_it(events):
    """A real client, with its own EHLO, pipeline of commands and dots, and the program."""
    ours, theirs = socket.socketpair()
    words = [events.product.python, "-m", "device_ui", "sendmail", "-bs", "-i"]
    process = subprocess.Popen(words, env=events.product.environment, cwd="/", stdin=theirs, stdout=theirs)
    theirs.close()
    smtp = smtplib.SMTP(local_hostname="nas")
    smtp.sock, smtp.file = ours, ours.makefile("rb")
    assert smtp.getreply()[0] == 220
    assert smtp.sendmail("a@b.c", ["d@e.f", "g@h.i"], "Subject: x\n\n.\n.y\nz") == {}
    smtp.quit()
    assert process.wait(60) == 0
    [(number, *_, text)] = events.since()
    assert (number, text) == (events.newest + 1, "x\n.\n.y\nz\n\n(for d@e.f, g@h.i)")
