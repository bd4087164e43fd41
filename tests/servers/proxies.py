"""An operator's own TLS proxy on loopback, by the real nginx, HAProxy, Caddy and Apache of Debian with their defaults.

Each knows three things and nothing else of the pages: a certificate, its own port, and the address to pass requests to.
nginx and Apache replace Host with that address, Caddy and HAProxy keep the browser's.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.helpers.product import Product, free_port, wait_for

Start = Callable[["Proxy"], list[str]]


class Proxy:
    """One of `PROXIES` in front of a device; `https` is the address that a browser opens."""

    process: subprocess.Popen[bytes]

    def __init__(self, product: Product, folder: Path, name: str = "127.0.0.1") -> None:
        self.folder, self.port, self.name = folder, free_port(), name
        self.to = f"127.0.0.1:{product.port}"
        made = product.command("certificate", "--folder", str(folder / "tls"), "--name", "nas.lan")
        assert made.returncode == 0, made.stderr
        self.certificate, self.key = folder / "tls" / "certificate.pem", folder / "tls" / "key.pem"

    @property
    def https(self) -> str:
        return f"https://{self.name}:{self.port}"

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text)
        return path

    def answers(self) -> bool:
        """Whether it ends TLS."""
        assert self.process.poll() is None, (self.folder / "log").read_text()
        context = ssl.create_default_context(cafile=str(self.certificate))
        context.check_hostname = False
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 5) as sock:
            with context.wrap_socket(sock):
                return True
        return False


def nginx(proxy: Proxy) -> list[str]:
    temporary = "".join(
        f"{each}_temp_path {proxy.folder}/{each};\n" for each in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    server = f"""listen 127.0.0.1:{proxy.port} ssl;
        ssl_certificate {proxy.certificate};
        ssl_certificate_key {proxy.key};
        location / {{ proxy_pass http://{proxy.to}; }}"""
    whole = f"daemon off; pid {proxy.folder}/pid; error_log stderr; events {{}}\n"
    path = proxy.write("nginx.conf", f"{whole}http {{ access_log off; {temporary} server {{ {server} }} }}\n")
    return ["nginx", "-c", str(path), "-p", str(proxy.folder)]


def haproxy(proxy: Proxy) -> list[str]:
    both = proxy.write("both.pem", proxy.certificate.read_text() + proxy.key.read_text())
    # The defaults of Debian's haproxy.cfg, and a check of the pages.
    path = proxy.write(
        "haproxy.cfg",
        f"""defaults
    mode http
    option httplog
    option dontlognull
    timeout connect 5000
    timeout client 50000
    timeout server 50000
frontend tls
    bind 127.0.0.1:{proxy.port} ssl crt {both}
    default_backend device
backend device
    option httpchk GET /health
    http-check expect rstatus (200|503)
    server device {proxy.to} check
""",
    )
    return ["haproxy", "-db", "-f", str(path)]


def caddy(proxy: Proxy) -> list[str]:
    path = proxy.write(
        "Caddyfile",
        f"""{{
    admin off
    auto_https off
}}
https://127.0.0.1:{proxy.port}, https://nas.lan:{proxy.port} {{
    bind 127.0.0.1
    tls {proxy.certificate} {proxy.key}
    reverse_proxy {proxy.to}
}}
""",
    )
    return ["caddy", "run", "--config", str(path), "--adapter", "caddyfile"]


def apache(proxy: Proxy) -> list[str]:
    modules = ("mpm_event", "authz_core", "proxy", "proxy_http", "ssl", "socache_shmcb")
    loaded = "\n".join(f"LoadModule {each}_module /usr/lib/apache2/modules/mod_{each}.so" for each in modules)
    path = proxy.write(
        "apache.conf",
        f"""ServerRoot {proxy.folder}
ServerName nas.lan
PidFile {proxy.folder}/pid
DefaultRuntimeDir {proxy.folder}
ErrorLog {proxy.folder}/error.log
{loaded}
Listen 127.0.0.1:{proxy.port}
<VirtualHost *:{proxy.port}>
    SSLEngine on
    SSLCertificateFile {proxy.certificate}
    SSLCertificateKeyFile {proxy.key}
    ProxyPass / http://{proxy.to}/
    ProxyPassReverse / http://{proxy.to}/
</VirtualHost>
""",
    )
    return ["apache2", "-D", "FOREGROUND", "-f", str(path)]


PROXIES = (nginx, haproxy, caddy, apache)


@contextlib.contextmanager
def proxied(start: Start, product: Product, folder: Path, name: str = "127.0.0.1") -> Iterator[Proxy]:
    """A device's pages behind one of `PROXIES`."""
    folder.mkdir()
    proxy = Proxy(product, folder, name)
    for each in (folder, *folder.parents):
        if os.stat(each).st_uid == os.getuid() and each.is_relative_to("/tmp"):
            with contextlib.suppress(PermissionError):
                each.chmod(each.stat().st_mode | 0o055 if each == folder else each.stat().st_mode | 0o011)
    words = start(proxy)
    assert shutil.which(words[0]), f"{words[0]} is missing"
    environment = {**os.environ, "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder), "HOME": str(folder)}
    with (folder / "log").open("wb") as log:
        proxy.process = subprocess.Popen(words, stdout=log, stderr=log, env=environment)
    try:
        wait_for(proxy.answers, what="the proxy")
        yield proxy
    finally:
        proxy.process.terminate()
        proxy.process.wait(20)
