"""Debian's Glewlwyd, a provider of OAuth 2.0 and OpenID Connect, on loopback under TLS.

It is unpacked by ``.ci/needs`` below `UNPACKED`, like the mail servers of `mailers`, and runs from there with a database of its
own. Clients and people are made by its API, as its administrator makes them. A refresh token is good for one use, and presenting
it twice ends the grant (RFC 9700, section 4.14.2).

Access tokens are JWTs of the type ``at+jwt`` (RFC 9068). Dovecot 2.3 verifies the type ``JWT`` alone, and Glewlwyd's introspection
names no client that signed in by a certificate. So Dovecot asks `Introspection` about each token, which verifies it by the
provider's published key and knows whose mailbox it is, as the directory of a mail provider does.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import os
import shutil
import sqlite3
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from tests.helpers.product import SECONDS, free_port, wait_for
from tests.servers.authority import Certificates
from tests.servers.mailers import UNPACKED, end
from tests.servers.provider import Answer, Provider, Request

ROOT = UNPACKED / "glewlwyd"
PAGES = Path("usr/share/glewlwyd/webapp")
# The scopes of the clients, of which openid is the provider's own.
SCOPES = ["openid", "mail"]
# The administrator that its database begins with.
ADMINISTRATOR = {"username": "admin", "password": "password"}
PERSON, PASSWORD = "alarm", "the-password-of-a-person"


class Glewlwyd:
    """A provider that runs, at `issuer`. `mailboxes` are those of its applications, by their client IDs."""

    def __init__(self, folder: Path, certificates: Certificates) -> None:
        self.folder, self.port = folder, free_port()
        self.mailboxes: dict[str, str] = {}
        self.base = f"https://localhost:{self.port}"
        self.issuer = f"{self.base}/api/oidc"
        self._chain, self._context = certificates.chain(), certificates.context
        self._cookie = ""

    def command(self) -> list[str]:
        """Write the database, the pages and the settings; return the command that runs the server in the foreground."""
        with contextlib.closing(sqlite3.connect(self.folder / "database")) as database:
            script = ROOT / "usr/share/doc/glewlwyd/database/init.sqlite3.sql.gz"
            database.executescript(gzip.decompress(script.read_bytes()).decode())
        self._write_pages()
        modules = ROOT / "usr/lib/glewlwyd"
        types = {"html": "text/html", "js": "application/javascript", "css": "text/css", "json": "application/json"}
        served = ", ".join(f'{{ extension = ".{each}"; mime_type = "{kind}" }}' for each, kind in types.items())
        (self.folder / "settings").write_text(
            f"""port = {self.port}
bind_address = "127.0.0.1"
external_url = "{self.base}"
api_prefix = "api"
login_url = "login.html"
static_files_path = "{self.folder}/pages/"
static_files_mime_types = ( {served} )
log_mode = "console"
log_level = "WARNING"
cookie_domain = "localhost"
cookie_secure = 1
session_key = "session"
admin_scope = "g_admin"
profile_scope = "g_profile"
user_module_path = "{modules}/user"
user_middleware_module_path = "{self.folder}/none"
client_module_path = "{modules}/client"
user_auth_scheme_module_path = "{modules}/scheme"
plugin_module_path = "{modules}/plugin"
use_secure_connection = true
secure_connection_key_file = "{self._chain}"
secure_connection_pem_file = "{self._chain}"
hash_algorithm = "SHA512"
database = {{ type = "sqlite3"; path = "{self.folder}/database"; }};
"""
        )
        (self.folder / "none").mkdir()
        return [str(ROOT / "usr/bin/glewlwyd"), f"--config-file={self.folder}/settings"]

    def answers(self) -> bool:
        """Return whether the server answers."""
        with contextlib.suppress(OSError):
            return self._call("GET", "/login.html")[0] == 200
        return False

    def set_up(self) -> None:
        """Make what a provider of a mail server has: a key, a scope, and a person with a mailbox."""
        self._make("/api/auth/", ADMINISTRATOR)
        self._make("/api/scope/", {"name": "mail", "password_required": True, "password_max_age": 0})
        person = {"username": PERSON, "password": PASSWORD, "enabled": True, "scope": SCOPES}
        self._make("/api/user/", {**person, "email": f"{PERSON}@example.test"})
        self._make("/api/mod/plugin/", self._openid_connect())

    def add_client(self, name: str, grants: list[str], **more: Any) -> None:
        """Register a client that may use these grants."""
        client = {"client_id": name, "enabled": True, "scope": SCOPES, "authorization_type": grants}
        self._make("/api/client/", {**client, **more})

    def add_app(self, name: str, mailbox: str, method: str, **more: Any) -> None:
        """Register a client that signs in by itself, for this mailbox."""
        self.mailboxes[name] = mailbox
        proof = {"confidential": True, "token_endpoint_auth_method": [method]}
        self.add_client(name, ["client_credentials"], **proof, **more)

    def upload(self, name: str, certificate: bytes) -> None:
        """Take a client's certificate (DER), in the form that this provider has it: its public key."""
        client = json.loads(self._call("GET", f"/api/client/{name}")[1])
        public = x509.load_der_x509_certificate(certificate).public_key()
        self._make(f"/api/client/{name}", {**client, "pubkey": _public(public)}, "PUT")

    def claims(self, token: str) -> dict[str, Any]:
        """Return the claims of an access token that this provider signed and that is valid now, else none."""
        signed, _, signature = token.rpartition(".")
        header, _, body = signed.partition(".")
        try:
            if json.loads(_decoded(header)).get("alg") == "RS256":
                key = self._signing.public_key()
                key.verify(_decoded(signature), signed.encode(), padding.PKCS1v15(), hashes.SHA256())
                claims = dict(json.loads(_decoded(body)))
                return claims if claims["iss"] == self.issuer and time.time() < claims["exp"] else {}
        except (ValueError, InvalidSignature):
            pass
        return {}

    def _openid_connect(self) -> dict[str, Any]:
        self._signing = rsa.generate_private_key(65537, 2048)
        private = self._signing.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        key = {"jwt-type": "rsa", "jwt-key-size": "256", "key": private.decode()}
        seconds = {"code-duration": 600, "refresh-token-duration": 1209600, "access-token-duration": 3600}
        granted = {f"auth-type-{each}-enabled": each in ("client", "refresh", "device") for each in FLOWS}
        claims = [{"user-parameter": "email", "token-parameter": "email"}]
        parameters = {
            **{"iss": self.issuer, "subject-type": "public", "email-claim": "mandatory", "allow-non-oidc": True},
            **{**key, "cert": _public(self._signing.public_key()), **seconds, **granted},
            **{"device-authorization-interval": 1, "refresh-token-one-use": "always"},
            **{"request-parameter-allow": True, "client-pubkey-parameter": "pubkey", "additional-parameters": claims},
        }
        return {"module": "oidc", "name": "oidc", "display_name": "", "enabled": True, "parameters": parameters}

    def _write_pages(self) -> None:
        """Copy the pages, with what their links lead to: in the packages that were unpacked, or on this machine already."""
        pages = self.folder / "pages"
        for each in (ROOT / PAGES).rglob("*"):
            installed = Path("/", each.relative_to(ROOT))
            if each.is_symlink():
                installed = Path(os.path.normpath(installed.parent / os.readlink(each)))
            found = (Path(f"{root}{installed}") for root in (ROOT, ""))
            for file in [place for place in found if place.is_file()][:1]:
                target = pages / each.relative_to(ROOT / PAGES)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, target)
        shutil.copy(ROOT / "etc/glewlwyd/config-2.7.json/config.json", pages)

    def _make(self, path: str, values: Any, method: str = "POST") -> None:
        status, text = self._call(method, path, values)
        assert status == 200, (method, path, status, text)

    def _call(self, method: str, path: str, values: Any = None) -> tuple[int, str]:
        body = None if values is None else json.dumps(values).encode()
        head = {"Content-Type": "application/json", **({"Cookie": self._cookie} if self._cookie else {})}
        request = urllib.request.Request(f"{self.base}{path}", body, head, method=method)
        opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=self._context))
        try:
            answer = opener.open(request, timeout=SECONDS)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            self._cookie = answer.headers.get("Set-Cookie", self._cookie).partition(";")[0]
            return answer.status, answer.read().decode()


# The response types and grants of its module for OpenID Connect.
FLOWS = ("client", "code", "token", "implicit", "password", "refresh", "device")


class Introspection(Provider):
    """Answers about Glewlwyd's access tokens (RFC 7662), at ``/introspect`` of `issuer`."""

    def __init__(self, glewlwyd: Glewlwyd, certificates: Certificates) -> None:
        super().__init__(certificates.chain(), host="localhost")
        self._glewlwyd = glewlwyd

    def respond(self, request: Request) -> Answer:
        claims = self._glewlwyd.claims(request.form.get("token", ""))
        mailbox = claims.get("email", self._glewlwyd.mailboxes.get(claims.get("client_id", "")))
        is_active = bool(mailbox) and "mail" in claims["scope"].split()
        return 200, {"active": True, "email": mailbox} if is_active else {"active": False}


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _public(key: Any) -> str:
    encoding, kind = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return str(key.public_bytes(encoding, kind).decode())


@contextlib.contextmanager
def running(certificates: Certificates) -> Iterator[Glewlwyd]:
    """Run the provider, set up; its folder is one directly below /tmp, whose keys Dovecot can read."""
    with tempfile.TemporaryDirectory(prefix="provider-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        os.chmod(folder, 0o755)
        provider = Glewlwyd(Path(folder), certificates)
        command = provider.command()
        libraries = ":".join(str(each) for each in ROOT.glob("usr/lib/*-linux-gnu"))
        with (provider.folder / "log").open("wb") as log:
            process = subprocess.Popen(
                command, env={"LD_LIBRARY_PATH": libraries}, stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        try:
            wait_for(lambda: process.poll() is not None or provider.answers(), what="the start of Glewlwyd")
            assert process.poll() is None, (provider.folder / "log").read_text()
            provider.set_up()
            yield provider
        finally:
            end(process)
