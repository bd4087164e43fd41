"""The files of `static/` on the wire: compressed once, kept for ever by a browser, and the whole tab in one window of TCP."""

from __future__ import annotations

import gzip
import re
import socket

import pytest

from device_ui.resources import find
from device_ui.web import static_files
from tests.helpers.product import SECONDS, Browser, Product, settings_form

# RFC 6928: what a server may send before the first acknowledgement, in segments of 1,460 bytes.
WINDOW = 14_600
STYLE = static_files.PLAIN.url("style.css")


@pytest.fixture(scope="module")
def product(tmp_path_factory):
    """Both processes, with settings as long as usual ones."""
    with Product(tmp_path_factory.mktemp("product")) as product:
        product.start()
        assert product.logged_in().update(**settings_form(587, host="smtp.mail-provider.example")).status == 303
        yield product


@pytest.fixture
def browser(product):
    """A client without a session."""
    return Browser(product.port)


def wire(product: Product, path: str, *lines: str) -> bytes:
    """Every byte that answers one GET of a browser."""
    head = (f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{product.port}", "Connection: close", *lines, "", "")
    with socket.create_connection(("127.0.0.1", product.port), SECONDS) as sock:
        sock.sendall("\r\n".join(head).encode())
        return b"".join(iter(lambda: sock.recv(65536), b""))


def first_visit(product: Product, language: str) -> int:
    """The bytes of the SMTP tab, its style, its script and its icon; a maker's logo, of 32 KiB at most, is the maker's."""
    lines = (f"Cookie: {product.logged_in().cookie}", f"Accept-Language: {language}", "Accept-Encoding: gzip, br")
    page = wire(product, "/smtp", *lines)
    assert f'lang="{language}"'.encode() in page
    files = re.findall(rb'<(?:link|script)[^>]* (?:href|src)="(/static/[^"]+)"', page)
    assert len(files) == 3
    answers = [page, *(wire(product, path.decode(), *lines) for path in files)]
    assert all(b"200 OK" in each[:20] for each in answers)
    return sum(map(len, answers))


@pytest.mark.parametrize("language", ["en", "ko"])
def test_whole_tab_fits_into_one_window_of_tcp(product, language):
    assert first_visit(product, language) <= WINDOW


def test_pages_are_not_compressed(product):
    assert b"Content-Encoding" not in wire(product, "/login", "Accept-Encoding: gzip")


@pytest.mark.parametrize("accepted", ["gzip", "br, gzip;q=0.1", "deflate , GZIP ; q=1.0", "x-gzip"])
@pytest.mark.parametrize("name", ["style.css", "app.js", "tables.css"])
def test_whoever_takes_gzip_gets_it(product, name, accepted):
    head, _, body = wire(product, static_files.PLAIN.url(name), f"Accept-Encoding: {accepted}").partition(b"\r\n\r\n")
    assert gzip.decompress(body) == static_files.ASSETS[name].plain
    assert b"Content-Encoding: gzip\r\n" in head and b"Vary: Accept-Encoding\r\n" in head


@pytest.mark.parametrize("accepted", ["", "identity", "br", "gzip;q=0", "gzip; q=0.000", "br;q=1, gzip;q=0.0, *"])
def test_whoever_does_not_gets_it_plain(product, accepted):
    head, _, body = wire(product, STYLE, f"Accept-Encoding: {accepted}").partition(b"\r\n\r\n")
    assert body == static_files.ASSETS["style.css"].plain
    assert b"Content-Encoding" not in head and b"Vary: Accept-Encoding\r\n" in head


def test_name_with_the_hash_is_kept_for_ever_and_the_plain_one_is_asked_again(browser):
    assert browser.get(STYLE).headers["cache-control"] == "public, max-age=31536000, immutable"
    assert browser.get("/static/style.css").headers["cache-control"] == "no-cache"


def test_name_with_another_hash_is_no_file(browser):
    assert browser.get("/static/style-0123456789.css").status == 404


def test_a_drawing_that_is_told_to_be_the_same_keeps_its_own_policy(browser):
    """A browser takes the headers of a 304 in the place of those that it kept (RFC 9111, 4.3.4)."""
    first = browser.get("/static/icon.svg").headers
    again = browser.get("/static/icon.svg", **{"If-None-Match": first["etag"]})
    assert (again.status, again.headers["content-security-policy"]) == (304, first["content-security-policy"])
    assert "sandbox" in first["content-security-policy"]


@pytest.mark.parametrize("accepted", ["", "gzip"])
@pytest.mark.parametrize("known", ["{}", "W/{}", '"x", {}', "*"])
def test_whoever_has_it_is_told_so(browser, known, accepted):
    first = browser.get(STYLE, **{"Accept-Encoding": accepted})
    again = browser.get(STYLE, **{"Accept-Encoding": accepted, "If-None-Match": known.format(first.headers["etag"])})
    assert (again.status, again.text) == (304, "")
    same = ("etag", "cache-control", "vary")
    assert [again.headers[name] for name in same] == [first.headers[name] for name in same]


def test_plain_and_compressed_never_pass_for_each_other(browser):
    tags = {accepted: browser.get(STYLE, **{"Accept-Encoding": accepted}).headers["etag"] for accepted in ("", "gzip")}
    assert tags[""] != tags["gzip"]
    assert browser.get(STYLE, **{"Accept-Encoding": "gzip", "If-None-Match": tags[""]}).status == 200


def test_the_name_changes_with_the_content(tmp_path):
    def named(text: str) -> str:
        (tmp_path / "style.css").write_text(text)
        return static_files.read(tmp_path / "style.css").unique

    assert named("a{}") == named("a{}") != named("b{}")


def test_script_keeps_every_line_that_does_something():
    source = b'// why\n"use strict";\n\n  // because\nlet a = 1;  // one\n    a += 2;\n'
    assert static_files.minify_js(source) == b'"use strict";\nlet a = 1;  // one\na += 2;\n'


@pytest.mark.parametrize(
    ("source", "small"),
    [
        ("/* why */\na,\nb {\n  color: red;\n  margin: 0 1px;\n}\n", "a,b{color:red;margin:0 1px}"),
        ('a > b :focus { content: " { ; } " }', 'a>b :focus{content:" { ; } "}'),
        (
            "a { color: red }\n\n/* two\nlines */\nb { margin: calc(1px + 2px) }",
            "a{color:red}b{margin:calc(1px + 2px)}",
        ),
        ("@media (max-width: 9rem) {\n  a { top: 0; }\n}\n", "@media (max-width:9rem){a{top:0}}"),
    ],
)
def test_style_loses_comments_and_blanks_alone(source, small):
    assert static_files.minify_css(source.encode()).decode() == small


@pytest.mark.parametrize("name", ["app.js", "tables.js", "test.js"])
def test_no_text_or_comment_of_the_script_spans_lines(name):
    script = (find("static") / name).read_text()
    assert [line for line in script.splitlines() if line.count("`") % 2 or line.endswith("\\") or "/*" in line] == []


def test_what_compressing_would_not_make_smaller_is_not_compressed(product):
    assert b"Vary" not in wire(product, static_files.PLAIN.url("icon.svg"), "Accept-Encoding: gzip")
