"""The device itself and clouds' secrets are no mail server, however they are spelt, behind whatever name.

The system's own resolver reads the spellings; names that would need a name server get their addresses from the test.
"""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator

import pytest

from device_ui.mail.smtp.client import ClientOptions, SmtpClient
from device_ui.mail.smtp.connection import Timeouts
from device_ui.mail.smtp.outcome import SessionError
from device_ui.settings.fields import SmtpSettings
from tests.helpers.product import PASSWORD, ROOT, Product, free_port, settings_form, wait_for
from tests.servers.scripted import ScriptedServer, leading_to

NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
# Dotted, short, whole, octal, hexadecimal; with brackets; full width; every IPv6 spelling and what it may carry.
LOOPBACK = ["127.0.0.1", "127.1", "127.0.1", "2130706433", "0177.0.0.1", "0177.1", "017700000001", "0x7f.0.0.1"]
LOOPBACK += ["0x7f.1", "0x7f000001", "0X7F000001", "0x7f.0.1", "127.0.0.0x1", "127.0.0.01", "127.255.255.254"]
LOOPBACK += ["[127.0.0.1]", "\uff11\uff12\uff17.0.0.1", "\u2460\u2461\u2466.0.0.1", "127\u30020\u30020\u30021"]
LOOPBACK += ["localhost", "LocalHost", "[localhost]", "\uff4cocalhost", "\u24db\u24de\u24d2alhost"]
LOOPBACK += ["::1", "[::1]", "0:0:0:0:0:0:0:1", "0000::0001", "::0.0.0.1", "::0:1", "[::ffff:127.0.0.1]"]
LOOPBACK += ["::ffff:127.0.0.1", "::FFFF:7F00:1", "0:0:0:0:0:ffff:7f00:1", "::127.0.0.1", "::7f00:1"]
LOOPBACK += ["64:ff9b::127.0.0.1", "2002:7f00:1::", "2002:7f00:0001::1", "2001:0:7f00:1::", "::ffff:0:127.0.0.1"]
UNSPECIFIED = ["0.0.0.0", "0", "0x0", "00", "0.0", "0x0.0x0", "[0.0.0.0]", "::", "[::]", "0::0", "::0.0.0.0"]
UNSPECIFIED += ["::ffff:0.0.0.0", "::ffff:0:0", "0.0.0.1", "0.1"]
LINK_LOCAL = ["169.254.169.254", "169.254.43518", "169.16689662", "2852039166", "0xa9fea9fe", "0251.0376.0251.0376"]
LINK_LOCAL += ["0xa9.0xfe.0xa9.0xfe", "169.254.0xa9.0376", "[169.254.169.254]", "169.254.170.2", "169.254.0.1"]
LINK_LOCAL += ["::ffff:169.254.169.254", "::ffff:a9fe:a9fe", "::169.254.169.254", "64:ff9b::a9fe:a9fe"]
LINK_LOCAL += [
    "2002:a9fe:a9fe::",
    "fe80::1",
    "fe80::1%lo",
    "fe80::1%1",
    "[fe80::1%lo]",
    "FE80::A9FE:A9FE%lo",
    "febf::1",
]
METADATA = ["fd00:ec2::254", "FD00:0EC2::0254", "[fd00:ec2::254]", "fd00:0ec2:0:0:0:0:0:254", "fd00:ec2::0.0.2.84"]
METADATA += ["fd00:ec2::23", "fd20:ce::254", "fd00:42::42", "100.100.100.200", "1684301000", "0x646464c8"]
METADATA += [
    "0144.0144.0144.0310",
    "::ffff:100.100.100.200",
    "64:ff9b::100.100.100.200",
    "192.0.0.192",
    "168.63.129.16",
]
OTHERS = ["224.0.0.1", "239.255.255.250", "255.255.255.255", "4294967295", "0xffffffff", "ff02::1", "ff05::2"]
SPELLINGS = [*LOOPBACK, *UNSPECIFIED, *LINK_LOCAL, *METADATA, *OTHERS]
HERE = "the mail server's name leads to this device itself, or to an address that no mail server has"


def stopped_at(host, port, **options) -> SessionError:
    """How an attempt ends, as the maker's default has it."""
    settings = SmtpSettings(host, port, "Alarms", "alarm@mail.example.com", security="starttls", sealed="x")
    with pytest.raises(SessionError) as caught:
        SmtpClient(settings, PASSWORD, ClientOptions(NO_TLS, **options), Timeouts(attempt=8)).open()
    return caught.value


@pytest.fixture(scope="module")
def listening() -> Iterator[list[ScriptedServer]]:
    """Servers of the device itself that must never hear of anybody."""
    with ScriptedServer() as four, ScriptedServer(address="::1") as six:
        yield [four, six]
        assert [*four.sessions, *six.sessions] == []


@pytest.mark.parametrize("host", SPELLINGS)
def test_no_spelling_leads_to_the_device_or_to_secrets(listening, host):
    for server in listening:
        stopped = stopped_at(host, server.port)
        assert (stopped.step, stopped.problem, stopped.reply) == ("address", "not allowed", HERE)


@pytest.mark.parametrize("host", ["127.0.0.1", "0", "::1", "localhost", "0x7f.1", "::ffff:127.0.0.1"])
def test_an_open_port_of_the_device_answers_as_a_closed_one(listening, host):
    opened, closed = stopped_at(host, listening[0].port), stopped_at(host, free_port())
    assert (opened.step, opened.problem, opened.reply) == (closed.step, closed.problem, closed.reply)


@pytest.mark.parametrize(
    "host", ["mail.example.com", "localhost.", "127.0.0.1.nip.example", "metadata.google.internal"]
)
@pytest.mark.parametrize(
    "addresses",
    [("127.0.0.1",), ("::1", "127.0.0.1"), ("169.254.169.254",), ("fd00:ec2::254", "0.0.0.0"), ("64:ff9b::7f00:1",)],
)
def test_a_name_that_leads_there_is_no_way_there(listening, host, addresses):
    stopped = stopped_at(host, listening[0].port, resolver=leading_to(*addresses))
    assert (stopped.step, stopped.reply) == ("address", HERE)


def test_a_name_that_changes_between_two_attempts_is_judged_anew(listening):
    answers = iter([leading_to("169.254.169.254"), leading_to("127.0.0.1")])
    told = {stopped_at("mail.example.com", 25, resolver=next(answers)).reply for _ in range(2)}
    assert told == {HERE}


# A name with one good address and bad ones, in a network of its own that leads nowhere.

SCRIPT = """
import ssl, sys
sys.path.insert(0, sys.argv[1])
from device_ui.mail.smtp.client import ClientOptions, SmtpClient
from device_ui.mail.smtp.outcome import SessionError
from device_ui.settings.fields import SmtpSettings
from tests.servers.scripted import leading_to
settings = SmtpSettings("mail.example.com", 25, "Alarms", "alarm@mail.example.com", sealed="x")
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
options = ClientOptions(context, resolver=leading_to("127.0.0.1", "203.0.113.9", "fe80::1"))
courier = SmtpClient(settings, "x", options, on_step=lambda *step: print(*step))
try:
    courier.open()
except SessionError as stopped:
    print(stopped.step, stopped.reply)
"""


def test_of_a_good_and_a_bad_address_only_the_good_one_is_dialled():
    words = ["unshare", "--net", sys.executable, "-c", SCRIPT, str(ROOT)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True, env={**os.environ})
    assert done.stdout.splitlines() == [
        "name 127.0.0.1, 203.0.113.9, fe80::1",
        "address 203.0.113.9; not used, since it is this device itself, or an address that no mail server has: 127.0.0.1, fe80::1",
        "connect Network is unreachable",
    ]


# The whole product, as a maker ships it: who is logged in learns nothing of the device's own services.


def test_the_test_of_the_page_tells_no_open_port_of_the_device_from_a_closed_one(tmp_path):
    with Product(tmp_path) as product, ScriptedServer() as service:
        product.spawn("mailhook")
        wait_for(product.folders.socket.exists, what="the hook's start")
        browser = product.start_web().logged_in()
        browser.headers["Accept"] = "application/x-ndjson"
        answers = set()
        for host in ("127.0.0.1", "0.0.0.0", "::1"):
            for port in (service.port, product.port, free_port()):
                answer = browser.post("/smtp/test", **settings_form(port, host=host, revision=""))
                lines = [json.loads(line) for line in answer.text.splitlines()]
                assert lines[-1]["result"]["failed"] == f"Address: not allowed ({HERE})"
                answers |= {len(lines)}
        assert (answers, service.sessions) == ({2}, [])
