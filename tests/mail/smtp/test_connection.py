"""The connection: one deadline for everything, and a limit for a server's replies."""

from __future__ import annotations

import errno
import select
import smtplib
import socket
import ssl
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_ui.mail.smtp.connection import LOOK_SECONDS, REPLIES_MAXIMUM, Connection, Deadline, Replies, ReplyTooLong


class Clock:
    """A monotonic clock that a test turns by hand."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


class Wire:
    """A socket whose peer sends these pieces and then closes; it records time-outs, options and what is sent."""

    def __init__(self, *pieces, clock=None, seconds=0.0):
        self.pieces, self.timeouts, self.sent, self.asked = list(pieces), [], b"", []
        self._clock, self._seconds = clock, seconds

    def settimeout(self, seconds):
        self.timeouts.append(seconds)

    def setsockopt(self, *option):
        self.asked.append(option)

    def recv(self, most):
        self._pass()
        piece = self.pieces.pop(0) if self.pieces else b""
        assert len(piece) <= most
        return piece

    def sendall(self, raw):
        self._pass()
        self.sent += raw

    def close(self):
        self.pieces = []

    def _pass(self):
        if self._clock:
            self._clock.now += self._seconds


def replies(*pieces):
    return Replies(Wire(*pieces), Deadline(10))


def attached(sock, deadline):
    """A connection that is open on `sock`."""
    connection = Connection(deadline)
    connection.attach(sock)
    return connection


# The deadline.


def test_a_deadline_counts_down():
    clock = Clock()
    deadline = Deadline(10, clock)
    clock.now += 4
    assert deadline.left() == 6


def test_a_deadline_gives_no_more_than_was_asked_for():
    assert Deadline(10, Clock()).left(2) == 2


@pytest.mark.parametrize("late", [10, 10.001, 99999])
def test_a_deadline_that_has_passed_leaves_nothing(late):
    clock = Clock()
    deadline = Deadline(10, clock)
    clock.now += late
    with pytest.raises(TimeoutError) as caught:
        deadline.left()
    assert str(caught.value) == "the attempt took too long"


def test_a_deadline_can_be_restarted():
    clock = Clock()
    deadline = Deadline(10, clock)
    clock.now += 20
    deadline.restart(3)
    assert deadline.left() == 3


def test_shortening_never_moves_a_deadline_later():
    deadline = Deadline(10, Clock())
    deadline.shorten(3)
    deadline.shorten(5)
    assert deadline.left() == 3


def test_a_shorter_deadline_holds_only_for_what_is_done_within_it():
    clock = Clock()
    deadline = Deadline(10, clock)
    with deadline.within(2):
        clock.now += 1
        assert deadline.left() == 1
    assert deadline.left() == 9


def test_a_shorter_deadline_never_lasts_longer_than_the_one_around_it():
    deadline = Deadline(2, Clock())
    with deadline.within(5):
        assert deadline.left() == 2


def test_a_deadline_is_restored_after_an_error():
    deadline = Deadline(10, Clock())
    with pytest.raises(ValueError), deadline.within(2):
        raise ValueError
    assert deadline.left() == 10


# Reading.


@settings(deadline=None)
@given(
    lines=st.lists(st.binary(max_size=30).map(lambda raw: raw.replace(b"\n", b"") + b"\r\n"), max_size=6),
    cuts=st.lists(st.integers(1, 9), max_size=60),
)
def test_lines_come_out_whole_however_they_arrive(lines, cuts):
    raw, pieces = b"".join(lines), []
    for cut in cuts:
        pieces, raw = [*pieces, raw[:cut]], raw[cut:]
    wire = replies(*filter(None, [*pieces, raw]))
    assert [wire.readline(100) for _ in lines] == lines
    assert wire.readline(100) == b""


def test_a_line_is_cut_at_the_limit_and_its_rest_comes_next():
    wire = replies(b"abcdef\r\n")
    assert [wire.readline(5), wire.readline(5)] == [b"abcde", b"f\r\n"]


def test_a_line_without_an_end_is_never_held_whole():
    wire = Wire(*[b"x" * 4096] * 10)
    assert Replies(wire, Deadline(10)).readline(8193) == b"x" * 8193
    assert len(wire.pieces) == 7


@pytest.mark.parametrize("half", [b"2", b"25", b"250", b"250 ok", b"250 ok\r"])
def test_half_a_line_is_no_reply(half):
    assert replies(half).readline(100) == b""


def test_half_a_line_after_a_whole_one_is_no_reply():
    wire = replies(b"250-a\r\n250 b")
    assert [wire.readline(100), wire.readline(100)] == [b"250-a\r\n", b""]


def test_unread_bytes_are_pending():
    wire = replies(b"220 go\r\n250 injected\r\n")
    wire.readline(100)
    assert wire.pending
    wire.readline(100)
    assert not wire.pending


def test_endless_replies_are_cut_off():
    wire = replies(*[b"250-more\r\n" * 400] * (REPLIES_MAXIMUM // 4000 + 1))
    with pytest.raises(ReplyTooLong) as caught:
        while True:
            wire.readline(100)
    assert str(caught.value) == "the server's answers do not end"


def test_the_limit_counts_one_attempt():
    wire = replies(*[b"x" * 4095 + b"\n"] * (2 * REPLIES_MAXIMUM // 4096))
    for _ in range(2):
        wire.reset_limit()
        for _ in range(REPLIES_MAXIMUM // 4096):
            assert len(wire.readline(4096)) == 4096


def test_dripping_bytes_end_at_the_deadline():
    clock = Clock()
    wire = Wire(*[b"2"] * 100, clock=clock, seconds=1)
    with pytest.raises(TimeoutError):
        Replies(wire, Deadline(10, clock)).readline(100)
    assert clock.now == 1010
    assert wire.timeouts == [*[LOOK_SECONDS] * 6, 4, 3, 2, 1]


def test_a_connection_that_the_kernel_gave_up_ends_the_wait():
    class Dead(Wire):
        """TCP gave up; the kernel says so once."""

        def recv(self, _most):
            raise OSError(errno.ETIMEDOUT, "Connection timed out")

    wire = Replies(Dead(), Deadline(12))
    with pytest.raises(TimeoutError, match="Connection timed out"):
        wire.readline(100)


def test_a_silent_wait_is_reported_in_seconds():
    clock, waits = Clock(), []

    class Silent(Wire):
        """Nothing comes within the time that a read has."""

        def recv(self, _most):
            clock.now += self.timeouts[-1]
            raise TimeoutError

    wire = Silent()
    with pytest.raises(smtplib.SMTPServerDisconnected, match="the attempt took too long"):
        connection = attached(wire, Deadline(12, clock))
        connection.on_wait = waits.append
        connection.getreply()
    assert (wire.timeouts, waits) == ([5, 5, 2], [5, 10, 12])


# Sending.


def test_a_mail_is_sent_whole_and_in_order():
    raw, wire = bytes(range(256)) * 300, Wire()
    attached(wire, Deadline(10)).send(raw)
    assert wire.sent == raw


def test_a_command_is_sent_as_it_is():
    wire = Wire()
    attached(wire, Deadline(10)).send("noop\r\n")
    assert wire.sent == b"noop\r\n"


def test_slow_sending_ends_at_the_deadline():
    clock = Clock()
    wire = Wire(clock=clock, seconds=4)
    with pytest.raises(TimeoutError):
        attached(wire, Deadline(10, clock)).send(b"x" * 1_000_000)
    assert wire.timeouts == [10, 6, 2]


# The session.


def test_a_new_socket_forgets_the_extensions_of_the_old_one():
    old, new = Wire(b"250-a\r\n250-AUTH PLAIN\r\n250 STARTTLS\r\nmore"), Wire()
    connection = attached(old, Deadline(10))
    connection.ehlo("me")
    assert (connection.has_extn("auth"), connection.does_esmtp, connection.pending) == (True, True, True)
    connection.attach(new)
    assert (connection.esmtp_features, connection.does_esmtp, connection.pending) == ({}, False, False)
    assert (connection.ehlo_resp, connection.helo_resp) == (None, None)


def test_a_connection_that_is_reset_before_tls_can_be_closed():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        here = socket.create_connection(listener.getsockname())
        there, _ = listener.accept()
        there.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        there.close()
        assert select.select([here], [], [], 5)[0]
        connection = attached(here, Deadline(10))
        with pytest.raises(OSError):
            connection.wrap(ssl.create_default_context(), "mail.example.test").do_handshake()
        connection.close()
    assert here.fileno() == -1


@pytest.mark.parametrize("host", ["a" * 64 + ".test", "a..b"])
def test_an_impossible_name_loses_no_socket(host):
    here, there = socket.socketpair()
    with here, there:
        with pytest.raises(ValueError):
            attached(here, Deadline(10)).wrap(ssl.create_default_context(), host)
        assert here.fileno() != -1


def test_a_closed_connection_has_nothing_pending():
    connection = attached(Wire(b"250 ok\r\nmore"), Deadline(10))
    connection.getreply()
    connection.close()
    connection.reset_limit()
    assert not connection.pending


def test_a_connection_looks_up_no_name_for_itself():
    here, there = socket.socketpair()
    with here, there:
        assert attached(here, Deadline(10)).local_hostname == "localhost"


# Round trips.


def test_no_acknowledgement_is_held_back_while_an_answer_is_awaited():
    wire = Wire(b"250 ", b"ok\r\n")
    Replies(wire, Deadline(10)).readline(100)
    assert wire.asked == [(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)] * 2
