"""TLS in front of the pages, by the real nginx and stunnel of Debian with the configurations that ship."""

from __future__ import annotations

import contextlib
import http.client
import ssl
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.helpers.product import ROOT, Product, choose_password, free_port, wait_for

APPLIANCE = ROOT / "device_ui" / "appliance"


class Front:
    """A TLS proxy on loopback ports of its own; `plain` is the port without TLS, 0 when there is none."""

    process: subprocess.Popen[bytes]

    def __init__(self, product: Product, folder: Path) -> None:
        self.product, self.folder = product, folder
        self.port, self.plain = free_port(), 0
        self.socket = folder / "web.sock"
        made = product.call("certificate", "--folder", str(folder / "tls"))
        assert made.returncode == 0, made.stderr
        product.spawn("web", "--listen", f"unix:{self.socket}")
        wait_for(self.socket.exists, what="the pages' socket")
        self.socket.chmod(0o666)
        folder.chmod(0o755)

    def wait(self) -> None:
        """Until it answers."""
        wait_for(lambda: self.process.poll() is None and self.answers(), what="the proxy")

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait(60)

    def configured(self, name: str, *changes: tuple[str, str]) -> str:
        """The shipped configuration for this folder and these ports."""
        text = (APPLIANCE / name).read_text()
        for old, new in (
            ("/run/device-ui-web/web.sock", str(self.socket)),
            ("/var/lib/device-ui/tls", str(self.folder / "tls")),
            *changes,
        ):
            assert old in text, old
            text = text.replace(old, new)
        return text

    def context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.folder / "tls" / "certificate.pem"))

    def ask(self, method: str, path: str, body: str = "", **headers: str) -> http.client.HTTPResponse:
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=60, context=self.context())
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


PROXIES = (nginx, stunnel)


@contextlib.contextmanager
def standing(start: Callable[[Front], subprocess.Popen[bytes]], folder: Path) -> Iterator[Front]:
    """A device that is set up, in `folder`, with one of `PROXIES` in front."""
    # A short path: a Unix socket's has 107 bytes at most.
    with tempfile.TemporaryDirectory(prefix="tls") as name, Product(folder) as product:
        product.call("setup-code")
        choose_password(product.folders.administrator)
        front = Front(product, Path(name))
        front.process = start(front)
        try:
            front.wait()
            yield front
        finally:
            front.stop()
