"""The two spellings of the hook's lines: JSON objects, and words that a shell can write."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from device_ui.errors import RequestError, to_json


def from_json(line: bytes) -> Mapping[str, Any]:
    """Return a request that is a JSON object. Raises `RequestError`."""
    try:
        # A text that was cut within a character is still an event.
        request = json.loads(line.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        raise RequestError("bad-request", "this is no JSON") from None
    if not isinstance(request, dict):
        raise RequestError("bad-request", "a request is a JSON object")
    return request


def from_words(line: bytes) -> Mapping[str, Any]:
    """Return the request of ``event 303 text to the end``. Raises `RequestError`."""
    # Two splits only: the blanks within the text are part of it.
    words = line.decode("utf-8", "replace").strip().split(maxsplit=2)
    if words[:1] != ["event"]:  # perhaps []: Unicode has more blanks than bytes.strip knows
        raise RequestError("bad-request", "unknown word")
    code, text = (*words[1:], "", "")[:2]
    return {"do": "event", "code": code, "text": text}


def encode(answer: Mapping[str, Any], as_json: bool) -> bytes:
    """Return an answer as one line. Without `as_json` it must be an accepted event or an error: words can request no more."""
    if as_json:
        # ASCII, so that a client in any locale can read it, and a line end in a text is no line end here.
        return json.dumps(answer, default=to_json).encode() + b"\n"
    if "error" in answer:
        return f"error {answer['error']} {answer['reason']}\n".encode()
    return f"accepted {answer['accepted']}\n".encode()
