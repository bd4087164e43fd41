"""The internals of waitress that `web.http` relies on: a release without one of them must not be installed."""

from __future__ import annotations

import configparser
import inspect
from importlib.metadata import version

import pytest
from waitress import adjustments, channel, parser, receiver, server, task

from tests.helpers.product import ROOT

# Methods that `web.http` overrides or calls, with the parameters that it passes or receives.
METHODS = {
    (channel.HTTPChannel, "__init__"): "self server sock addr adj map",
    (channel.HTTPChannel, "received"): "self data",
    (channel.HTTPChannel, "service"): "self",
    (channel.HTTPChannel, "send"): "self data do_close",
    (channel.HTTPChannel, "readable"): "self",
    (channel.HTTPChannel, "writable"): "self",
    (channel.HTTPChannel, "handle_read"): "self",
    (channel.HTTPChannel, "handle_write"): "self",
    (channel.HTTPChannel, "handle_close"): "self",
    (channel.HTTPChannel, "write_soon"): "self data",
    (channel.HTTPChannel, "_flush_exception"): "self flush do_close",
    (channel.HTTPChannel, "_flush_some"): "self do_close",
    (parser.HTTPRequestParser, "__init__"): "self adj",
    (parser.HTTPRequestParser, "received"): "self data",
    (parser.HTTPRequestParser, "parse_header"): "self header_plus",
    (receiver.ChunkedReceiver, "received"): "self s",
    (receiver.ChunkedReceiver, "getbuf"): "self",
    (server.BaseWSGIServer, "readable"): "self",
    (server.BaseWSGIServer, "handle_accept"): "self",
    (server.BaseWSGIServer, "set_socket_options"): "self conn",
    (server.BaseWSGIServer, "fix_addr"): "self addr",
    (server.BaseWSGIServer, "accept"): "self",
    (server.MultiSocketServer, "__init__"): "self map adj effective_listen dispatcher log_info",
    (server.MultiSocketServer, "run"): "self",
    (server.MultiSocketServer, "close"): "self",
    (task.Task, "build_response_header"): "self",
    (task.Task, "write"): "self data",
    (task.WSGITask, "get_environment"): "self",
    (task.ErrorTask, "execute"): "self",
}
# Attributes that it reads or sets, by a word of the code that uses them.
ATTRIBUTES = {
    channel.HTTPChannel: "will_close close_when_flushed requests_lock total_outbufs_len request task_class error_task_class parser_class",
    parser.HTTPRequestParser: "completed error body_rcv header_plus header_bytes_received expect_continue chunked empty headers",
    receiver.ChunkedReceiver: "completed error buf",
    server.BaseWSGIServer: "accepting _map channel_class adj",
    server.MultiSocketServer: "asyncore map adj task_dispatcher",
    task.Task: "response_headers content_length content_bytes_written complete wrote_header close_on_finish has_body status version start_time",
    task.ThreadedTaskDispatcher: "lock queue active_count",
    adjustments.Adjustments: "socket_options unix_socket listen asyncore_loop_timeout asyncore_use_poll recv_bytes",
}


@pytest.mark.parametrize(("owner", "name"), METHODS, ids=[f"{owner.__name__}.{name}" for owner, name in METHODS])
def test_method_has_the_parameters_that_are_used(owner, name):
    assert " ".join(inspect.signature(getattr(owner, name)).parameters) == METHODS[owner, name]


@pytest.mark.parametrize("owner", ATTRIBUTES, ids=lambda owner: owner.__name__)
def test_class_has_the_attributes_that_are_used(owner):
    source = "\n".join(inspect.getsource(each) for each in owner.__mro__[:-1])
    missing = [name for name in ATTRIBUTES[owner].split() if f"self.{name}" not in source and not hasattr(owner, name)]
    assert missing == []


def test_waitress_is_pinned_to_patches_of_3_0():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    assert "waitress >= 3.0.2, < 3.1" in setup["options"]["install_requires"].splitlines()
    assert version("waitress").startswith("3.0.")
