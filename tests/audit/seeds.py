"""What fuzzing begins with: for each target sound inputs, and the words that its inputs are put together of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import urlencode

from device_ui.settings import store
from device_ui.settings.fields import FIELDS
from device_ui.settings.recipients import Recipient, to_values
from device_ui.storage import toml_file
from tests.audit.targets import PASSWORD, SEALED, STORED
from tests.helpers.product import settings_form

FORM = urlencode(settings_form(587)).encode()
PROVIDER = urlencode(settings_form(465, sign_in="provider", account="key", from_address="a.b-c@d.e", password="x"))
RELAY = urlencode(settings_form(25, sign_in="none", security="none", password=""))
BLANK = urlencode({**settings_form(587, password="", host=STORED.host), "account": STORED.account})
HEAD = b"POST /login HTTP/1.1\r\nHost: 127.0.0.1\r\n"
DEVICE = b"""[device]
name = "Lamp"
[locks]
security = true
[web]
names = ["lamp.local"]
[mail]
digest_window = 0
hourly_budget = 60
[ledger]
rows = 0x64
"""
MAIL = b"""From: Cron <root@lamp>
To: root, other@example.com
Subject: =?utf-8?q?disk?= full
Content-Type: text/plain; charset=utf-8

disk 2 is full
"""
MULTIPART = b"""Subject: page
MIME-Version: 1.0
Content-Type: multipart/alternative; boundary="b"

--b
Content-Type: text/html; charset=latin-1
Content-Transfer-Encoding: quoted-printable

<p>disk<style>x</style> &amp;=E9</p>
--b--
"""
SESSION = (
    b"220 lamp ESMTP\r\n250-lamp\r\n250-SIZE 1000\r\n250 AUTH PLAIN LOGIN\r\n235 in\r\n250 sender\r\n"
    b"250 one\r\n550 two\r\n354 go\r\n250 queued\r\n221 bye\r\n"
)

SEEDS: Mapping[str, Sequence[bytes]] = {
    "form": (FORM, PROVIDER.encode(), RELAY.encode(), BLANK.encode()),
    "record": (
        store.encode(STORED).rpartition(b"\nsha256")[0],
        toml_file.encode("x", to_values((Recipient("a@b.c"), Recipient("d@e.f", "fault")))).rpartition(b"\nsha256")[0],
        store.encode(STORED),
    ),
    "device": (DEVICE, b'[mail]\nstate_command = "/bin/led"\nallow_loopback = false\n'),
    "catalog": (b'[101]\ntype = "info"\nname = "a"\ndescription = "b"\nmail = false\n',),
    "message": (MAIL, MULTIPART, b"plain words\n.\nmore\n"),
    "request": (
        HEAD + b"Content-Length: 3\r\n\r\na=bGET",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n3;x=y\r\na=b\r\n0\r\nX: y\r\n\r\nGET",
        b"GET /smtp?x=%00 HTTP/1.0\r\nHost: lamp.local:8080\r\nCookie: session=x\r\n\r\n",
    ),
    "replies": (
        SESSION,
        SESSION.replace(b"PLAIN ", b"").replace(b"235", b"334 x\r\n334 y\r\n235"),
        b"220 x\r\n250 x\r\n",
    ),
    "line": (
        b"event 303 disk 2 is full\n",
        b'{"do": "event", "code": "303", "text": "x", "source": "y", "time": "2026-11-23T14:03:22Z"}\n',
        b'{"do": "state"}\n{"do": "settings-changed"}\nevent 101',
        b'{"do": "history", "from": "2026-01-01", "to": "2026-12-31", "type": "info", "code": "101", "sort": "time", '
        b'"descending": false, "offset": 0, "limit": 5}\n',
        b'{"do": "catalog"}\n{"do": "content", "code": "303"}\n',
        b'{"do": "test", "to": ["a@b.c"]}\n{"do": "test", "settings": {"host": "127.0.0.1", "port": 25, '
        b'"sender_name": "x", "account": "a@b.c", "security": "auto", "sign_in": "none", "from_address": "", '
        b'"sealed": null}}\n',
    ),
}

NAMES = tuple(each.name.encode() for each in FIELDS)
TOML = (
    b"=",
    b"\n",
    b'"',
    b"'",
    b"[",
    b"]",
    b"{",
    b"}",
    b".",
    b",",
    b"true",
    b"0x",
    b"_",
    b"\\u007f",
    b"#",
    b'"""',
    b"inf",
)
JSON = (b"{", b"}", b"[", b"]", b":", b",", b'"', b"null", b"true", b"1e999", b"\\ud800", b"\n", b"-0", b"9" * 30)
WORDS: Mapping[str, Sequence[bytes]] = {
    "form": (
        b"&",
        b"=",
        b"%0D%0A",
        b"%00",
        b"%ED%95%9C",
        b"+",
        b"provider",
        b"none",
        b"tls",
        b"%2e",
        b"@a.b",
        b"localhost",
        b"%5B%3A%3A1%5D",
        PASSWORD.encode(),
        *NAMES,
    ),
    "record": (*TOML, b"sha256", b"sealed", SEALED.encode(), b"recipient_01", b"info ", b"fault ", *NAMES),
    "device": (*TOML, b"device", b"locks", b"web", b"mail", b"ledger", b"users", b"digest_window", b"names", b"rows"),
    "catalog": (*TOML, b"type", b"name", b"description", b"mail", b"fault", b"info", b"901"),
    "message": (
        b"\n",
        b"\r\n",
        b".",
        b"Subject:",
        b"Content-Type:",
        b"multipart/mixed",
        b"; boundary=",
        b"--b",
        b"charset=",
        b"base64",
        b"=?utf-8?b?",
        b"?=",
        b"<",
        b">",
        b"&#",
        b"message/rfc822",
        b"rot13",
        b"idna",
    ),
    "request": (
        b"\r\n",
        b"\r\n\r\n",
        b"Host: ",
        b"Content-Length: ",
        b"Transfer-Encoding: ",
        b"chunked",
        b"close",
        b"Connection: ",
        b"Expect: 100-continue",
        b"HTTP/1.1",
        b"HTTP/1.0",
        b"OPTIONS",
        b"*",
        b"http://",
        b"[::1]",
        b"Upgrade: ",
        b"0\r\n\r\n",
        b";",
        b"\t",
        b"\x0b",
        b"CONNECT",
    ),
    "replies": (
        b"\r\n",
        b"\n",
        b"\r",
        b"220 ",
        b"250-",
        b"250 ",
        b"235 ",
        b"334 ",
        b"354 ",
        b"421 ",
        b"550 ",
        b"AUTH",
        b"PLAIN",
        b"LOGIN",
        b"SIZE",
        b"STARTTLS",
        b"=",
        b"\xff",
        b"AUTH=",
        PASSWORD.encode(),
    ),
    "line": (
        *JSON,
        b"event ",
        b'"do"',
        b'"event"',
        b'"code"',
        b'"303"',
        b'"text"',
        b'"source"',
        b'"time"',
        b'"state"',
        b'"history"',
        b'"content"',
        b'"catalog"',
        b'"test"',
        b'"to"',
        b'"settings"',
        b'"offset"',
        b'"limit"',
        b'"from"',
        b'"sort"',
        b"2026-11-23",
        b"9999-12-31",
        b"\xff",
        b"\0",
    ),
}
