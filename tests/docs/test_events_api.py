"""docs/events-api.md: its answers and its JSON line are those of the product."""

from __future__ import annotations

import json
import re
import socket

from device_ui.cli.launch import HOOK_EXITS
from tests.docs import tables
from tests.docs.documents import example
from tests.helpers.product import Product


def test_each_answer_has_the_exit_code_of_the_command():
    rows = re.findall(r"^\| `([a-z-]+)` \| .+ \| ([0-9]+) \|$", tables.between("docs/events-api.md", "answers"), re.M)
    assert len(rows) == 5
    assert [word for word, code in rows if HOOK_EXITS[word] != int(code)] == []


def test_the_json_example_raises_an_event(product: Product):
    product.start_hook()
    line = example("docs/events-api.md", "json")
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(30)
        connection.connect(str(product.folders.socket))
        connection.sendall(line.encode())
        assert json.loads(connection.makefile().readline()) == {"accepted": 1}
    newest = json.loads(product.command("history", "--json").stdout.splitlines()[0])
    sent = json.loads(line)
    assert [newest[name] for name in ("code", "text", "source")] == [sent[name] for name in ("code", "text", "source")]
