"""Addresses: which are no place for a mail server, how they are said, and a name server that hangs."""

from __future__ import annotations

import socket
import threading

import pytest

from device_ui.mail.smtp.address_policy import address_literal, is_bound_here, is_loopback, is_own, look_up_within

OWN = ["127.0.0.1", "127.0.0.53", "127.255.255.254", "::1", "::ffff:127.0.0.1", "::ffff:7f00:1", "169.254.169.254"]
OWN += ["169.254.0.1", "::ffff:169.254.169.254", "fe80::1", "fe80::1%lo", "fe80::1%2", "0.0.0.0", "::"]
OWN += ["::ffff:0.0.0.0", "224.0.0.1", "ff02::1", "ff02::1%eth0", "fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254"]
OWN += ["fd00:42::42", "100.100.100.200", "192.0.0.192", "168.63.129.16", "0.1.2.3", "255.255.255.255"]
# The same behind an address that carries it: compatible, translated, NAT64, 6to4, Teredo's server and client, ISATAP.
OWN += ["::127.0.0.1", "::169.254.169.254", "::ffff:0:127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe"]
OWN += ["64:ff9b:1::7f00:1", "64:ff9b:1:ffff::6464:64c8", "2002:7f00:1::", "2002:a9fe:a9fe::1", "2002:0:0::1"]
OWN += ["2001:0:7f00:1::3fff:fdfe", "2001:0:c000:201::80ff:fffe", "2001:0:c000:201::5601:5601"]
OWN += ["2001:db8::5efe:127.0.0.1", "fd00::200:5efe:169.254.169.254", "::ffff:100.100.100.200", "::100.100.100.200"]
ELSEWHERE = ["192.0.2.1", "10.0.0.1", "192.168.1.1", "172.16.0.1", "8.8.8.8", "128.0.0.1", "126.255.255.255"]
ELSEWHERE += ["2001:db8::1", "fd00::1", "fd00:ec2::253", "::ffff:192.0.2.1", "169.253.1.1", "fec0::1"]
ELSEWHERE += ["1.0.0.0", "100.100.100.199", "168.63.129.17", "255.255.255.254", "::2.0.0.1", "64:ff9b::c000:201"]
ELSEWHERE += ["64:ff9b:2::7f00:1", "2002:c000:201::1", "2001:0:c000:201::3fff:fdfe", "2001:db8::5eff:127.0.0.1"]
ELSEWHERE += ["2003:7f00:1::", "2001:1:7f00:1::"]


@pytest.mark.parametrize("address", OWN)
def test_no_place_for_a_mail_server(address):
    assert is_own(address)


@pytest.mark.parametrize("address", ELSEWHERE)
def test_a_place_for_a_mail_server(address):
    assert not is_own(address)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1"])
def test_loopback(address):
    assert is_loopback(address)


@pytest.mark.parametrize("address", ["169.254.169.254", "fe80::1%lo", "0.0.0.0", "::", "192.0.2.1", "::ffff:192.0.2.1"])
def test_not_loopback(address):
    assert not is_loopback(address)


@pytest.mark.parametrize(
    ("address", "literal"),
    [("192.0.2.1", "[192.0.2.1]"), ("2001:db8::1", "[IPv6:2001:db8::1]"), ("fe80::1%eth0", "[IPv6:fe80::1]")],
)
def test_address_literal(address, literal):
    assert address_literal(address) == literal


def test_an_address_of_a_family_without_addresses_of_ours_is_not_here():
    assert not is_bound_here(socket.AF_X25, ("127.0.0.1", 25))


@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_an_address_that_a_socket_can_have_is_here(family, address):
    assert is_bound_here(family, (address, 25, 0, 0) if ":" in address else (address, 25))


@pytest.mark.parametrize(
    "address", ["::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::9", "2001:db8::5efe:127.0.0.1"]
)
def test_an_address_that_carries_one_of_ours_is_here(address):
    assert is_bound_here(socket.AF_INET6, (address, 25, 0, 0))


@pytest.mark.parametrize("address", ["192.0.2.1", "240.0.0.1"])
def test_an_address_that_no_socket_can_have_is_elsewhere(address):
    assert not is_bound_here(socket.AF_INET, (address, 25))


# Looking up.


def test_the_resolvers_result_is_returned():
    assert look_up_within(lambda host, port: [(host, port)], "a", 25, 5.0) == [("a", 25)]


@pytest.mark.parametrize("error", [socket.gaierror(-2, "unknown"), UnicodeError("label too long"), ValueError("no")])
def test_what_the_resolver_raises_comes_through(error):
    def resolver(_host, _port):
        raise error

    with pytest.raises(type(error)) as caught:
        look_up_within(resolver, "a", 25, 5.0)
    assert caught.value is error


def test_a_resolver_that_hangs_is_left_behind():
    hang = threading.Event()
    try:
        with pytest.raises(TimeoutError) as caught:
            look_up_within(lambda _host, _port: [(hang.wait(10),)], "a", 25, 0.05)
    finally:
        hang.set()
    assert str(caught.value) == "the name server does not answer"
