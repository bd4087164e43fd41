"""The first minutes of a device: its sockets are there, and no process has started yet."""

from __future__ import annotations

import socket

from tests.helpers.product import Product
from tests.servers.activation import Activated

HOOK = "from device_ui.cli.entry import main; sys.argv[:] = ['device-ui', 'mailhook']; sys.exit(main())"


def test_check_starts_the_hook_by_its_socket_and_waits_for_the_keys_that_it_makes(product: Product):
    product.folders.run.mkdir()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(product.folders.socket))
    listener.listen(8)
    with Activated(listener, HOOK, product.environment, product.folder / "hook.log"):
        done = product.command("check")
    assert "FAIL" not in done.stdout
    assert "OK    public key: 256 bits\n" in done.stdout
    assert "OK    mail hook: " in done.stdout
    assert done.returncode == 0
