"""A form is read strictly: whatever no form of ours can send is refused, in words, and never half understood."""

from __future__ import annotations

import io
from urllib.parse import urlencode

import pytest
from bottle import HTTPError, request
from hypothesis import given
from hypothesis import strategies as st

from device_ui.web import forms

NO_FORM = "The form is not in UTF-8, or not a form."
TWICE = "The form holds a field twice."
LARGE = "The form is too large."
TYPE = "A form is sent as application/x-www-form-urlencoded."


def posted(body: bytes, content_type: str = "application/x-www-form-urlencoded", length: str | None = None):
    """The fields of a request with this body."""
    told = str(len(body)) if length is None else length
    environ = {"CONTENT_TYPE": content_type, "CONTENT_LENGTH": told, "wsgi.input": io.BytesIO(body)}
    request.bind(environ)
    return forms.posted()


def refusal(*arguments: object) -> tuple[int, str]:
    """The status and the sentence that a request is refused with."""
    with pytest.raises(HTTPError) as raised:
        posted(*arguments)
    return raised.value.status_code, str(raised.value.body)


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (b"", {}),
        (b"a=", {"a": ""}),
        (b"=a", {"": "a"}),
        (b"a=1&b=2", {"a": "1", "b": "2"}),
        (b"a=b=c", {"a": "b=c"}),
        (b"a=1+2%2B3", {"a": "1 2+3"}),
        (b"a=%EC%95%8C%EB%A6%BC", {"a": "알림"}),
        (b"a=%00%0D%0A", {"a": "\0\r\n"}),
        (b"a=1;b=2", {"a": "1;b=2"}),
        (b"a=%zz%4", {"a": "%zz%4"}),
        (b"%61=1", {"a": "1"}),
    ],
)
def test_a_form_is_read(body, fields):
    assert posted(body) == fields


@pytest.mark.parametrize(
    "body",
    [
        b"a",
        b"&",
        b"a=1&",
        b"a=1&&b=2",
        b"a=%FF",
        b"a=%C3",
        b"a=%ED%A0%80",
        b"%FF=a",
        "a=é".encode(),
        b"\xff=1",
        b"&".join(b"f%d=1" % number for number in range(1101)),
    ],
)
def test_what_is_no_form_is_refused(body):
    assert refusal(body) == (400, NO_FORM)


@pytest.mark.parametrize("body", [b"a=1&a=2", b"a=1&a=1", b"a=1&b=2&a=", b"a=1&%61=2"])
def test_a_field_that_comes_twice_is_refused(body):
    assert refusal(body) == (400, TWICE)


def test_a_field_for_every_code_and_some_are_read():
    assert len(posted(b"&".join(b"f%d=1" % number for number in range(1100)))) == 1100


@pytest.mark.parametrize("kind", ["", "text/plain", "multipart/form-data; boundary=x", "application/json", "a; b=c"])
def test_another_content_type_is_refused(kind):
    assert refusal(b"a=1", kind) == (415, TYPE)


@pytest.mark.parametrize(
    "kind", ["application/x-www-form-urlencoded; charset=UTF-8", "Application/X-WWW-Form-Urlencoded ;x=y"]
)
def test_the_content_type_is_read_without_case_and_parameters(kind):
    assert posted(b"a=1", kind) == {"a": "1"}


def test_a_form_of_64_kib_is_read():
    assert len(posted(b"a=" + b"x" * (64 * 1024 - 2))["a"]) == 64 * 1024 - 2


@pytest.mark.parametrize("length", [None, "", "-5"])
def test_a_larger_form_is_refused_whatever_length_it_tells(length):
    assert refusal(b"a=" + b"x" * (64 * 1024 - 1), "application/x-www-form-urlencoded", length) == (413, LARGE)


def test_a_large_form_is_refused_before_it_is_read():
    assert refusal(b"", "application/x-www-form-urlencoded", str(64 * 1024 + 1)) == (413, LARGE)


@given(st.dictionaries(st.text(), st.text(), max_size=50))
def test_every_text_arrives_as_it_was_typed(fields):
    assert forms.read(urlencode(fields).encode()) == fields


@given(st.binary(max_size=300))
def test_no_bytes_are_a_fault(body):
    try:
        fields = forms.read(body)
    except HTTPError as error:
        assert error.status_code == 400
    else:
        assert all(isinstance(each, str) for pair in fields.items() for each in pair)


def test_a_field_that_is_missing_is_empty():
    assert [forms.text({"a": "1"}, name) for name in ("a", "b")] == ["1", ""]
