"""TLS in front of the pages by the real nginx and stunnel of Debian, with the configurations that ship."""

from __future__ import annotations

import http.client
import re
import socket
import ssl
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.product import ADMIN_PASSWORD, ROOT, Product, free_port, wait_for

APPLIANCE = ROOT / "device_ui" / "appliance"


class Front:
    """A TLS proxy on loopback ports of its own; `plain` is the port without TLS, 0 when there is none."""

    def __init__(self, product: Product, folder: Path) -> None:
        self.product, self.folder = product, folder
        self.port, self.plain = free_port(), 0
        self.socket = folder / "web.sock"
        made = product.command("certificate", "--folder", str(folder / "tls"))
        assert made.returncode == 0, made.stderr
        product.spawn("web", "--listen", f"unix:{self.socket}")
        wait_for(self.socket.exists, what="the pages' socket")
        self.socket.chmod(0o666)
        folder.chmod(0o755)

    def configured(self, name: str, *changes: tuple[str, str]) -> str:
        """The shipped configuration for this folder and these ports."""
        text = (APPLIANCE / name).read_text()
        for old, new in (
            ("/run/device-ui-web/web.sock", str(self.socket)),
            ("/etc/device-ui/tls", str(self.folder / "tls")),
            *changes,
        ):
            assert old in text, old
            text = text.replace(old, new)
        return text

    def context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.folder / "tls" / "certificate.pem"))

    def ask(self, method: str, path: str, body: str = "", **headers: str) -> http.client.HTTPResponse:
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=20, context=self.context())
        given = {"Origin": f"https://127.0.0.1:{self.port}", "Content-Type": "application/x-www-form-urlencoded"}
        connection.request(method, path, body or None, {**(given if body else {}), **headers})
        answer = connection.getresponse()
        answer.read()
        connection.close()
        return answer

    def answers(self) -> bool:
        try:
            return self.ask("GET", "/health").status in (200, 503)
        except OSError:
            return False


def nginx(front: Front) -> subprocess.Popen[bytes]:
    front.plain = free_port()
    servers = front.configured(
        "nginx.conf",
        ("listen 80;", f"listen 127.0.0.1:{front.plain};"),
        ("listen [::]:80;", ""),
        ("listen 443 ssl;", f"listen 127.0.0.1:{front.port} ssl;"),
        ("listen [::]:443 ssl;", ""),
    )
    temporary = "".join(
        f"{each}_temp_path {front.folder}/{each};\n" for each in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    whole = f"daemon off;\npid {front.folder}/pid;\nerror_log {front.folder}/error.log;\nevents {{}}\nhttp {{\n"
    (front.folder / "nginx.conf").write_text(f"{whole}access_log off;\n{temporary}{servers}}}\n")
    return subprocess.Popen(["nginx", "-c", str(front.folder / "nginx.conf"), "-p", str(front.folder)])


def stunnel(front: Front) -> subprocess.Popen[bytes]:
    text = front.configured("stunnel.conf", (":::443", f"127.0.0.1:{front.port}"), ("setuid = www-data\n", ""))
    (front.folder / "stunnel.conf").write_text(text.replace("setgid = www-data\n", ""))
    with (front.folder / "stunnel.log").open("wb") as log:
        return subprocess.Popen(["stunnel", str(front.folder / "stunnel.conf")], stdout=log, stderr=log)


@pytest.fixture(scope="module", params=[nginx, stunnel], ids=lambda start: start.__name__)
def front(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    # A short path: a Unix socket's has 107 bytes at most.
    with tempfile.TemporaryDirectory(prefix="tls") as name, Product(tmp_path_factory.mktemp("device")) as product:
        product.command("setup-code")
        product.command("admin", "set-password", input=ADMIN_PASSWORD + "\n")
        found = Front(product, Path(name))
        process = request.param(found)
        try:
            wait_for(lambda: process.poll() is None and found.answers(), what="the proxy")
            yield found
        finally:
            process.terminate()
            process.wait(20)


def test_the_owner_gets_in_and_the_cookie_is_for_tls_alone(front):
    answer = front.ask("POST", "/login", f"password={ADMIN_PASSWORD.replace(' ', '+')}")
    assert (answer.status, answer.headers["Location"]) == (303, "/smtp")
    cookie = answer.headers["Set-Cookie"]
    assert cookie.startswith("__Host-")
    assert "Secure" in cookie and "HttpOnly" in cookie
    page = front.ask("GET", "/smtp", Cookie=cookie.partition(";")[0])
    assert page.status == 200


def test_a_form_of_another_origin_is_refused(front):
    assert front.ask("POST", "/login", "password=x", Origin="https://evil.example").status == 403
    assert front.ask("POST", "/login", "password=x", Origin=f"http://127.0.0.1:{front.port}").status == 403


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_1_2_and_1_3_are_spoken(front, version):
    context = front.context()
    context.minimum_version = context.maximum_version = version
    with socket.create_connection(("127.0.0.1", front.port), 20) as sock:
        with context.wrap_socket(sock, server_hostname="127.0.0.1") as tls:
            assert tls.version() == version.name.replace("_", ".")
            assert re.search("GCM|CHACHA20|POLY1305", tls.cipher()[0])


@pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
def test_what_is_older_is_not(front, version):
    words = ["openssl", "s_client", "-connect", f"127.0.0.1:{front.port}", version, "-cipher", "ALL:@SECLEVEL=0"]
    done = subprocess.run(words, input="", capture_output=True, text=True, timeout=20)
    assert done.returncode != 0
    assert "Cipher is (NONE)" in done.stdout or "Cipher    : 0000" in done.stdout


def test_a_page_that_needs_the_hook_is_told_and_not_hung(front):
    cookie = front.ask("POST", "/login", f"password={ADMIN_PASSWORD.replace(' ', '+')}").headers["Set-Cookie"]
    assert front.ask("GET", "/history.csv", Cookie=cookie.partition(";")[0]).status == 503


def test_a_client_cannot_choose_the_address_that_is_counted(front):
    for number in range(1, 7):
        front.ask("POST", "/login", "password=wrong", **{"X-Forwarded-For": f"203.0.113.{number}"})
    log = front.product.log("web")
    assert "203.0.113." not in log
    assert "127.0.0.1" in log


def test_without_tls_one_is_sent_to_it(front):
    if not front.plain:
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", front.plain or 1), 1)
        return
    connection = http.client.HTTPConnection("127.0.0.1", front.plain, timeout=20)
    connection.request("GET", "/smtp?x=1", headers={"Host": "nas.example.com"})
    answer = connection.getresponse()
    assert (answer.status, answer.headers["Location"]) == (301, "https://nas.example.com/smtp?x=1")
    connection.close()
