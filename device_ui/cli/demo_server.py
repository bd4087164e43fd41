"""A mail server on loopback for the demo: it keeps and prints each mail, and sends nothing.

It requires what a provider requires: STARTTLS first, with a certificate of an authority that was made for this folder, then a
login, then mail. So the demo shows the product as it is, with no exception for it. Not for an appliance.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import datetime
import email
import email.errors
import email.header
import ipaddress
import json
import os
import secrets
import socketserver
import ssl
import string
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from device_ui.logging_setup import escaped
from device_ui.mail.smtp import tls
from device_ui.settings import rules
from device_ui.storage import files

# Above 1024, so that it needs no root; like 587, the port of submission (RFC 6409).
PORT, PORTS_TRIED = 2587, 100
ACCOUNT = "operator@mail.demo.example"
# Bytes and seconds. RFC 5321, 4.5.3.1 and 4.5.3.2.7: a command line has 512 bytes, AUTH more; a client may be silent for 5 min.
LINE_MAXIMUM, MAIL_MAXIMUM, IDLE_SECONDS = 4096, 10 * 1024 * 1024, 300
# Ten years: the folder of a demo is used again, and nothing but its own hook trusts the authority.
CERTIFICATE_DAYS = 3650
# RFC 5280, 4.2.1.3: an authority signs certificates, a server signs handshakes.
USAGE = dict.fromkeys(
    (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    ),
    False,
)
_SIGNING = ({"key_cert_sign": True, "crl_sign": True}, {"digital_signature": True})


class Mailbox:
    """The folder of a demo: the authority, the password of the account, and each mail as an ``.eml`` file."""

    def __init__(self, folder: Path, out: TextIO = sys.stdout) -> None:
        self.folder, self._out = folder, out
        self._lock = threading.Lock()
        self.ca_file = folder / "authority.pem"
        self._chain = folder / "server.pem"
        files.make_folder(folder, 0o700)
        # Made once: a new authority with each start would not be the one that a running hook trusts.
        if not self._chain.exists():
            _make_certificates(self.ca_file, self._chain)
        self.account, self.password = ACCOUNT, self._password()

    def context(self) -> ssl.SSLContext:
        """Return the TLS context of the server."""
        return tls.server(self._chain)

    def keep(self, raw: bytes) -> Path:
        """Keep a mail under the next free number and print it."""
        with self._lock:
            # Counted from the folder: a later run of the demo continues the numbers.
            number = 1 + max((int(each.stem) for each in self.folder.glob("[0-9]*.eml")), default=0)
            path = self.folder / f"{number:04}.eml"
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(raw)
            self._print(raw, path)
            return path

    def _print(self, raw: bytes, path: Path) -> None:
        mail = email.message_from_bytes(raw)
        part = next((each for each in mail.walk() if each.get_content_type() == "text/plain"), None)
        content = part.get_payload(decode=True) if part else b"(no text)"
        lines = [
            f"── mail arrived · {path}",
            *(f"{name}: {_shown(mail.get(name, ''))}" for name in ("From", "To", "Subject")),
            "",
            content.decode("utf-8", "replace") if isinstance(content, bytes) else "",
        ]
        # A terminal that has no Korean characters must not make the server refuse the mail.
        encoding = getattr(self._out, "encoding", None) or "utf-8"
        shown = "\n".join(escaped(each) for text in lines for each in text.splitlines() or [""])
        print(shown.encode(encoding, "replace").decode(encoding), file=self._out, flush=True)

    def _password(self) -> str:
        # Kept in the folder, so that the settings that were saved in a former run still work.
        path = self.folder / "password.json"
        if not path.exists():
            files.replace(path, json.dumps(new_password()).encode(), 0o600)
        return str(json.loads(path.read_bytes()))


class Server(socketserver.ThreadingTCPServer):
    """The server; `port` is the given one, or the next free one."""

    # Ctrl-C does not wait for the sessions that are open.
    daemon_threads = True
    # Ctrl-C and a new start within a minute: the port would still be in TIME_WAIT.
    allow_reuse_address = True

    def __init__(self, mailbox: Mailbox, port: int = PORT) -> None:
        self.mailbox, self.context = mailbox, mailbox.context()
        super().__init__(("127.0.0.1", port), Session, bind_and_activate=False)
        # The next free port by counting: a port that the system chooses may be higher than the tab accepts.
        for self.port in range(port, port + PORTS_TRIED):
            self.server_address = ("127.0.0.1", self.port)
            with contextlib.suppress(OSError):
                self.server_bind()
                self.server_activate()
                return
        self.server_close()
        raise OSError(f"no port is free from {port} on")

    def start(self) -> None:
        """Serve in a thread of its own."""
        threading.Thread(target=self.serve_forever, name="demo mail server", daemon=True).start()


class Session(socketserver.StreamRequestHandler):
    """One session of RFC 5321 with RFC 3207 (STARTTLS) and RFC 4954 (AUTH)."""

    server: Server
    timeout = IDLE_SECONDS

    def handle(self) -> None:
        """Serve until QUIT, a time-out, or the end of the connection."""
        # Here and not in a constructor: socketserver handles the session within it.
        self._secure = self._signed_in = False
        self._reset()
        self._say("220 mail.demo.example ESMTP device-ui demo")
        with contextlib.suppress(OSError):
            while (line := self.rfile.readline(LINE_MAXIMUM)) and self._execute(line):
                pass

    def _execute(self, raw: bytes) -> bool:
        # "replace": a byte that is not UTF-8 makes an unknown command, and no end of the session.
        line = raw.decode("utf-8", "replace").strip()
        verb, _, rest = line.partition(" ")
        commands: dict[str, Callable[[str], str | None]] = {
            "EHLO": self._ehlo,
            "STARTTLS": self._starttls,
            "AUTH": self._auth,
            "MAIL": self._mail,
            "RCPT": self._rcpt,
            "DATA": self._data,
            "RSET": self._reset,
            "NOOP": self._ok,
        }
        if verb.upper() == "QUIT":
            self._say("221 Bye")
            return False
        # Verbs are not case-sensitive (RFC 5321, 2.4).
        answer = commands.get(verb.upper(), self._unknown)(rest)
        if answer:
            self._say(answer)
        return True

    def _say(self, answer: str) -> None:
        self.wfile.write(answer.encode() + b"\r\n")

    def _ehlo(self, _: str) -> str:
        # RFC 3207, 4.2: STARTTLS is not offered within TLS.
        return "250-mail.demo.example\r\n250 " + ("AUTH PLAIN LOGIN" if self._secure else "STARTTLS")

    def _starttls(self, _: str) -> None:
        self._say("220 go ahead")
        self.request = self.server.context.wrap_socket(self.request, server_side=True)
        self.setup()  # new files on the encrypted socket; the old ones, with data read ahead in the clear, are dropped
        self._secure = True

    def finish(self) -> None:
        """Close the files and the TLS socket."""
        with contextlib.suppress(OSError):
            super().finish()
            self.request.close()

    def _auth(self, rest: str) -> str:
        # RFC 4954, 4: no PLAIN or LOGIN without TLS, so a hook that sent a password in the clear would be noticed here.
        if not self._secure:
            return "530 5.7.0 Must issue a STARTTLS command first"
        mechanism, _, initial = rest.partition(" ")
        try:
            if mechanism.upper() == "PLAIN":
                _, account, password = _decoded(initial or self._challenge("")).split("\0")
            elif mechanism.upper() == "LOGIN":
                account = _decoded(initial or self._challenge("VXNlcm5hbWU6"))
                password = _decoded(self._challenge("UGFzc3dvcmQ6"))
            else:
                return "504 5.5.4 Unrecognized authentication type"
        except ValueError:
            return "501 5.5.2 Cannot decode"
        mailbox = self.server.mailbox
        # Not in constant time: a demo on loopback, with a password that it prints.
        self._signed_in = (account, password) == (mailbox.account, mailbox.password)
        return "235 2.7.0 Authentication successful" if self._signed_in else "535 5.7.8 Authentication failed"

    def _challenge(self, text: str) -> str:
        # RFC 4954, 4: the challenge and the answer are base64.
        self._say(f"334 {text}")
        return self.rfile.readline(LINE_MAXIMUM).decode("ascii", "replace").strip()

    def _mail(self, _: str) -> str:
        # The address is not read: this server delivers to one folder.
        self._from = self._signed_in
        return "250 OK" if self._signed_in else "530 5.7.0 Authentication required"

    def _rcpt(self, _: str) -> str:
        self._to = self._from
        return "250 OK" if self._from else "503 need MAIL first"

    def _data(self, _: str) -> str:
        if not self._to:
            return "503 need RCPT first"
        self._say("354 end with a dot on a line by itself")
        lines: list[bytes] = []
        while (line := self.rfile.readline(MAIL_MAXIMUM)) != b".\r\n":
            # The end of the connection before the dot: the client did not finish the mail (RFC 5321, 4.1.1.4).
            if not line or sum(map(len, lines)) > MAIL_MAXIMUM:
                return "552 5.3.4 too large"
            # RFC 5321, 4.5.2: the client doubles a dot at the start of a line.
            lines.append(line.removeprefix(b"."))
        path = self.server.mailbox.keep(b"".join(lines))
        # A mail ends its transaction; the session may send the next one (RFC 5321, 4.1.1.4).
        self._reset()
        return f"250 2.0.0 kept as {path.name}"

    def _ok(self, _: str) -> str:
        return "250 OK"

    def _unknown(self, _: str) -> str:
        return "500 unknown command"

    def _reset(self, _: str = "") -> str:
        self._from = self._to = False
        return "250 OK"


def new_password() -> str:
    """Return a random password that the manual's rules accept."""
    # Drawn again until one fits: neighbours and repetitions are rare, and no rule is written down twice.
    while True:
        found = "".join(secrets.choice(string.ascii_letters + string.digits + "$!@%*#?&") for _ in range(16))
        if isinstance(rules.password(found), str):
            return found


def _shown(value: str) -> str:
    # Not email.policy.default: in Python 3.11 it puts blanks between neighbouring encoded words.
    try:
        return str(email.header.make_header(email.header.decode_header(value)))
    except (email.errors.HeaderParseError, LookupError, ValueError):
        return value


def _decoded(text: str) -> str:
    try:
        return base64.b64decode(text, validate=True).decode()
    except binascii.Error as error:
        raise ValueError from error


def _make_certificates(ca_file: Path, chain: Path) -> None:
    """Make an authority and a certificate for localhost, both ECDSA P-256."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    now = datetime.datetime.now(datetime.UTC)
    # Two keys, since the authority's is thrown away: `ca_file` alone is trusted, by this one hook.
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    names = [
        x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]) for name in ("demo authority", "localhost")
    ]

    def builder(subject: int) -> x509.CertificateBuilder:
        public, issuer = keys[subject].public_key(), keys[0].public_key()
        return (
            x509.CertificateBuilder(names[0], names[subject], public, x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=CERTIFICATE_DAYS))
            .add_extension(x509.BasicConstraints(subject == 0, 0 if subject == 0 else None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer), critical=False)
            .add_extension(x509.KeyUsage(**USAGE | _SIGNING[subject]), critical=True)
        )

    local = [x509.DNSName("localhost"), *(x509.IPAddress(ipaddress.ip_address(each)) for each in ("127.0.0.1", "::1"))]
    server = builder(1).add_extension(x509.SubjectAlternativeName(local), critical=False)
    pem = serialization.Encoding.PEM
    private = keys[1].private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    # The authority's key is not stored: nothing else can ever be issued by it.
    files.replace(ca_file, builder(0).sign(keys[0], hashes.SHA256()).public_bytes(pem), 0o644)
    files.replace(chain, private + server.sign(keys[0], hashes.SHA256()).public_bytes(pem), 0o600)
