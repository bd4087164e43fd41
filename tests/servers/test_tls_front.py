"""TLS in front of the pages by the real nginx and stunnel of Debian, with the configurations that ship."""

from __future__ import annotations

import contextlib
import http.client
import re
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator

import pytest

from tests.helpers.product import ADMIN_PASSWORD, wait_for
from tests.servers.front import APPLIANCE, PROXIES, Front, standing, stunnel

DRIPPING = 1000


@pytest.fixture(scope="module", params=PROXIES, ids=lambda start: start.__name__)
def front(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    with standing(request.param, tmp_path_factory.mktemp("device")) as found:
        yield found


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
    done = subprocess.run(words, input="", capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert "Cipher is (NONE)" in done.stdout or "Cipher    : 0000" in done.stdout


def s_client(front, *options: str, told: str = "") -> str:
    """What OpenSSL's own client says of a connection."""
    words = ["openssl", "s_client", "-connect", f"127.0.0.1:{front.port}", *options]
    done = subprocess.run(words, input=told, capture_output=True, text=True, timeout=60)
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    "cipher",
    ["ECDHE-ECDSA-AES128-SHA256", "ECDHE-ECDSA-AES256-SHA384", "ECDHE-ECDSA-AES128-SHA", "ECDHE-ECDSA-AES256-CCM8"],
)
def test_a_cipher_without_an_aead_of_full_length_is_refused(front, cipher):
    assert "Cipher is (NONE)" in s_client(front, "-tls1_2", "-cipher", f"{cipher}:@SECLEVEL=0")


def test_the_devices_order_of_ciphers_holds(front):
    weakest_first = ("-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384")
    assert "Cipher is ECDHE-ECDSA-AES256-GCM-SHA384" in s_client(front, "-tls1_2", *weakest_first)


def test_what_a_newer_openssl_refuses_by_itself_an_older_one_is_told():
    """Elsewhere than on Debian its defaults may be others."""
    nginx, stunnel = ((APPLIANCE / name).read_text() for name in ("nginx.conf", "stunnel.conf"))
    assert re.search(r"ssl_protocols +TLSv1\.2 TLSv1\.3;", nginx)
    assert {"sslVersionMin = TLSv1.2", "options = NO_RENEGOTIATION", "options = NO_TICKET"} <= set(stunnel.splitlines())


def test_nothing_is_compressed_and_no_ticket_is_given(front):
    told = s_client(front, "-tls1_2", "-comp")
    assert "Compression: NONE" in told
    assert "session ticket" not in told


def test_a_client_cannot_renegotiate(front):
    told = s_client(front, "-tls1_2", told="R\n")
    assert "RENEGOTIATING" in told
    assert "no renegotiation" in told


def test_headers_that_only_a_proxy_may_set_are_overwritten(front):
    """Among them one that would make the form's origin right without TLS, and one that would name another host."""
    spoofed = {"X-Forwarded-Proto": "http", "Forwarded": "for=203.0.113.9;proto=http;host=evil.example"}
    spoofed |= {"X-Forwarded-Host": "evil.example", "X-Forwarded-Port": "1", "X-Real-IP": "203.0.113.9"}
    answer = front.ask("POST", "/login", f"password={ADMIN_PASSWORD.replace(' ', '+')}", **spoofed)
    assert (answer.status, answer.headers["Location"]) == (303, "/smtp")
    assert answer.headers["Set-Cookie"].startswith("__Host-")
    http = front.ask("POST", "/login", "password=x", Origin=f"http://127.0.0.1:{front.port}", **spoofed)
    assert http.status == 403
    assert "203.0.113.9" not in front.product.log("web")


def head_of(front, request: bytes) -> str:
    """The header of the answer to these bytes."""
    with front.context().wrap_socket(
        socket.create_connection(("127.0.0.1", front.port), 20), server_hostname="127.0.0.1"
    ) as tls:
        tls.sendall(request)
        answer = b""
        while b"\r\n\r\n" not in answer and (chunk := tls.recv(65536)):
            answer += chunk
    return answer.partition(b"\r\n\r\n")[0].decode()


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /login HTTP/1.1\r\nConnection: close\r\n\r\n",
        b"GET /login HTTP/9.9\r\nHost: 127.0.0.1\r\n\r\n",
        b"GET /" + b"a" * 20000 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
        b"POST /login HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99999999\r\nConnection: close\r\n\r\n",
        b"GET /login HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
    ],
    ids=["no host", "version", "long", "large", "well"],
)
def test_the_proxys_own_answers_have_the_headers_of_the_pages(front, request_):
    head = head_of(front, request_)
    assert re.match("HTTP/1.[01] (200|4..|505) ", head), head
    for name in ("Content-Security-Policy", "X-Content-Type-Options", "Referrer-Policy", "Cache-Control"):
        assert len(re.findall(f"(?im)^{name}: ", head)) == 1, head


def test_other_sites_of_the_same_nginx_get_no_header_of_ours():
    """What stands outside a server is for all of them: names of our own, and nothing else."""
    outside = re.sub(r"(?ms)^server \{.*?^\}", "", (APPLIANCE / "nginx.conf").read_text())
    lines = [line for line in outside.splitlines() if line and not line.startswith("#")]
    assert [line for line in lines if not re.match(r"map \$\w+ +\$device_ui_\w+ ", line)] == []


def test_the_owner_gets_in_while_a_thousand_connections_drip(front):
    """From one address, without an end: half of them stop inside the handshake, half inside a header."""
    context = front.context()
    with contextlib.ExitStack() as stack:
        for number in range(DRIPPING):
            with contextlib.suppress(OSError):
                sock = stack.enter_context(socket.create_connection(("127.0.0.1", front.port), 5))
                if number % 2:
                    sock = stack.enter_context(context.wrap_socket(sock, server_hostname="127.0.0.1"))
                    sock.sendall(b"GET / HTTP/1.1\r\nHost: 127.")
                else:
                    sock.sendall(b"\x16\x03")
        wait_for(front.answers, 30, "the owner's page")


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
    connection = http.client.HTTPConnection("127.0.0.1", front.plain, timeout=60)
    connection.request("GET", "/smtp?x=1", headers={"Host": "nas.example.com"})
    answer = connection.getresponse()
    assert (answer.status, answer.headers["Location"]) == (301, "https://nas.example.com/smtp?x=1")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    connection.close()


def test_a_new_certificate_is_served_as_the_service_has_it_taken(front):
    """nginx is told to reload; stunnel, which is no root any more by then, starts again."""
    made = front.product.call("certificate", "--folder", str(front.folder / "tls"), "--address", "192.0.2.99")
    assert made.returncode == 0, made.stderr
    if front.plain:
        front.process.send_signal(signal.SIGHUP)
    else:
        front.stop()
        front.process = stunnel(front)
        front.wait()

    def served() -> bool:
        pem = ssl.get_server_certificate(("127.0.0.1", front.port))
        return pem.strip() == (front.folder / "tls" / "certificate.pem").read_text().strip()

    wait_for(served, what="the new certificate")
    wait_for(front.answers, what="the pages")  # nginx's last processes with the old one may still take a connection
