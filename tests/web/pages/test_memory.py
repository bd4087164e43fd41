"""What a page leaves in memory when it was sent."""

from __future__ import annotations

import gc

import pytest

from tests.helpers.fake_hook import FakeHook, Pages


@pytest.mark.parametrize("path", ["/smtp", "/recipients", "/history", "/others/access", "/others/event-codes"])
def test_a_page_that_was_sent_is_in_memory_no_more(device: Pages, hook: FakeHook, path: str) -> None:
    """Python's garbage collector would find a page with what its form held much later."""
    hook.answers |= {
        "catalog": [{"end": {"problem": ""}}],
        "history": [{"end": {"matched": 0, "kept": 0, "removed": {}}}],
    }
    device.get(path)  # compiles what the page includes
    gc.collect()
    gc.disable()
    try:
        page = device.get(path)
        left = gc.collect()
    finally:
        gc.enable()
    assert (page.status, left) == (200, 0)
