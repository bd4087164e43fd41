"""A posted form, read strictly: a size limit, one encoding, every field once."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qsl

from bottle import HTTPError, request

from device_ui.errors import Message

# Bytes; ten times the tab with every field full.
BODY_MAXIMUM = 64 * 1024
# A choice for every code that there can be, and some.
FIELDS_MAXIMUM = 1100
# In the environment of a request: its form, once it was read.
FORM = "device_ui.form"
CONTENT_TYPE = "application/x-www-form-urlencoded"
NOT_A_FORM = Message("A form is sent as {content_type}.", content_type=CONTENT_TYPE)


def posted() -> dict[str, str]:
    """Return the fields of this request's form. Raises HTTPError 400, 413 or 415, with a sentence."""
    if FORM not in request.environ:
        request.environ[FORM] = _posted()
    found: dict[str, str] = request.environ[FORM]
    return found


def _posted() -> dict[str, str]:
    # No form of ours is sent as text/plain or multipart, so no reader for these is needed.
    if request.content_type.partition(";")[0].strip().lower() != CONTENT_TYPE:
        raise HTTPError(415, NOT_A_FORM)
    if request.content_length > BODY_MAXIMUM:
        raise HTTPError(413, "The form is too large.")
    # A chunked body has no length before it is read.
    body = request.environ["wsgi.input"].read(BODY_MAXIMUM + 1)
    if len(body) > BODY_MAXIMUM:
        raise HTTPError(413, "The form is too large.")
    return read(body)


def read(body: bytes) -> dict[str, str]:
    """Return the fields of a form's bytes. Raises HTTPError 400 for bytes that no form of ours sends."""
    try:
        pairs = parse_qsl(
            body.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=bool(body),
            encoding="utf-8",
            errors="strict",
            max_num_fields=FIELDS_MAXIMUM,
        )
    # Not "replace": a password with a replaced character would be stored, and never work.
    except ValueError:
        raise HTTPError(400, "The form is not in UTF-8, or not a form.") from None
    fields = dict(pairs)
    # Two readers of a repeated field could take a different one each; no form of ours repeats one.
    if len(fields) != len(pairs):
        raise HTTPError(400, "The form holds a field twice.")
    return fields


def text(fields: Mapping[str, str], name: str) -> str:
    """Return a field, empty when it is missing."""
    return fields.get(name, "")
