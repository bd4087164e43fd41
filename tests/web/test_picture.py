"""What a logo is, by its first bytes: three kinds with their sizes, and everything else refused."""

from __future__ import annotations

import base64
import time

import pytest
from hypothesis import given
from hypothesis import strategies as some

from device_ui.web.picture import SIDE_MAXIMUM, Picture, look

SVG = b'<svg xmlns="http://www.w3.org/2000/svg" '
# One pixel each, as Chromium writes them from a canvas: lossy, and without loss.
LOSSY = base64.b64decode("UklGRiIAAABXRUJQVlA4IBYAAAAwAQCdASoBAAEADsD+JaQAA3AAAAAA")
LOSSLESS = base64.b64decode("UklGRhoAAABXRUJQVlA4TA0AAAAvAAAAEAcQERGIiP4HAA==")


def png(width: int, height: int) -> bytes:
    """The begin of a PNG."""
    return b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\6\0\0\0"


def extended(width: int, height: int) -> bytes:
    """The begin of a WebP with a VP8X chunk."""
    sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"RIFF\x80\0\0\0WEBPVP8X\x0a\0\0\0\x10\0\0\0" + sides + b"ALPH"


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (png(120, 32), (".png", 120, 32)),
        (png(SIDE_MAXIMUM, 1), (".png", SIDE_MAXIMUM, 1)),
        (LOSSY, (".webp", 1, 1)),
        (LOSSLESS, (".webp", 1, 1)),
        (extended(300, 70), (".webp", 300, 70)),
        (SVG + b'viewBox="0 0 96 32"/>', (".svg", 96, 32)),
        (SVG + b"viewBox='-8,-8, 48.5 16'>", (".svg", 97, 32)),
        (SVG + b'width="64" height="64"/>', (".svg", 32, 32)),
        (SVG + b'width="64px" height="16px" viewBox="0 0 1 1"/>', (".svg", 128, 32)),
        (SVG + b'width="100%" height="100%" viewBox="0 0 20 10"/>', (".svg", 64, 32)),
        (SVG + b'stroke-width="9" width="5" viewBox="0 0 20 10"/>', (".svg", 64, 32)),
        (b"\xef\xbb\xbf\n" + SVG + b'viewBox="0 0 2 1">', (".svg", 64, 32)),
        (
            b'<?xml version="1.0"?>\n<!-- <svg> -->\n<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "x">\n'
            + SVG
            + b'\nviewBox="0 0 2 1">',
            (".svg", 64, 32),
        ),
    ],
)
def test_kind_and_size_are_known_by_the_first_bytes(raw, expected):
    assert look(raw) == Picture(*expected)


NO_PICTURE = "it is no SVG, PNG or WebP"
NO_SIZE = "it tells no size from 1 to 4096 pixels"
NO_NAMESPACE = 'its first tag has no xmlns="http://www.w3.org/2000/svg", so that browsers do not draw it'


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", NO_PICTURE),
        (b"GIF89a\x10\0\x10\0", NO_PICTURE),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", NO_PICTURE),
        (b"<html><svg xmlns=", NO_PICTURE),
        (b"<script>x</script>" + SVG + b'viewBox="0 0 1 1">', NO_PICTURE),
        (b"x" + SVG + b'viewBox="0 0 1 1">', NO_PICTURE),
        (b"<svgx>", NO_PICTURE),
        (b'<!DOCTYPE svg [<!ENTITY a "x">]>' + SVG + b'viewBox="0 0 1 1">', NO_PICTURE),
        (b" " * 4096 + SVG + b'viewBox="0 0 1 1">', NO_PICTURE),
        (b"RIFF\0\0\0\0WAVE", NO_PICTURE),
        (b"\x89PNG\r\n\x1a\n", NO_SIZE),
        (png(0, 32), NO_SIZE),
        (png(SIDE_MAXIMUM + 1, 1), NO_SIZE),
        (png(1, 2**32 - 1), NO_SIZE),
        (extended(2**24, 1), NO_SIZE),
        (LOSSY[:23], NO_SIZE),
        (LOSSLESS[:22], NO_SIZE),
        (b"RIFF\0\0\0\0WEBPVP9 ", NO_SIZE),
        (SVG + b">", NO_SIZE),
        (SVG + b'viewBox="0 0 0 32">', NO_SIZE),
        (SVG + b'viewBox="0 0 32 0">', NO_SIZE),
        (SVG + b'viewBox="0 0 999999 1">', NO_SIZE),
        (b'<svg viewBox="0 0 1 1">', NO_NAMESPACE),
    ],
)
def test_anything_else_is_refused_with_its_reason(raw, reason):
    with pytest.raises(ValueError) as caught:
        look(raw)
    assert str(caught.value) == reason


@given(
    some.sampled_from([b"", SVG, png(1, 1), LOSSY[:26], LOSSLESS[:21], extended(1, 1)[:24]]), some.binary(max_size=80)
)
def test_whatever_follows_it_is_a_picture_or_a_reason(begin, rest):
    try:
        found = look(begin + rest)
    except ValueError as error:
        assert "\n" not in str(error)
    else:
        assert found.width in range(1, SIDE_MAXIMUM + 1) and found.height in range(1, SIDE_MAXIMUM + 1)


@pytest.mark.parametrize("piece", [b"<!---->", b" ", b"<?xml?>", b"<!-- ", b"<!--><!--"])
def test_no_file_takes_longer_than_its_length(piece):
    begun = time.process_time()
    with pytest.raises(ValueError):
        look((b"<!--" + piece * 32768)[:32768])
    assert time.process_time() - begun < 1
