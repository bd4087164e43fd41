"""One address is read of what a proxy, a socket or stunnel says, or none; and what counts as one visitor has one owner."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_ui.web import client_address

# What a proxy added last to X-Forwarded-For, and the address that it means.
ONE = {
    "192.0.2.7": "192.0.2.7",
    "192.0.2.7:51234": "192.0.2.7",
    "203.0.113.9, 192.0.2.7": "192.0.2.7",
    "garbage,\t192.0.2.7 ": "192.0.2.7",
    "2001:db8::7": "2001:db8::7",
    "2001:DB8:0::7": "2001:db8::7",
    "[2001:db8::7]": "2001:db8::7",
    "[2001:db8::7]:51234": "2001:db8::7",
    "::ffff:192.0.2.7": "192.0.2.7",
    "::ffff:c000:207": "192.0.2.7",
    "0:0:0:0:0:FFFF:192.0.2.7": "192.0.2.7",
    "[::ffff:192.0.2.7]:443": "192.0.2.7",
    "fe80::1%eth0": "fe80::1",
    "[fe80::1%eth0]:80": "fe80::1",
}
NONE = [
    "",
    " ",
    "192.0.2.7,",
    "192.0.2.7, ",
    "unknown",
    "_hidden",
    "192.0.2.7 203.0.113.9",
    "192.0.2.7;203.0.113.9",
    "192.0.2.7, 203.0.113.9 evil",
    "192.0.2.07",
    "192.0.2.256",
    "192.0.2",
    "3221225991",
    "0xc0000207",
    "192.0.2.7:",
    "192.0.2.7:https",
    "192.0.2.7:123456",
    "192.0.2.7/32",
    "192.0.2.7%eth0",
    "[192.0.2.7]",
    "[2001:db8::7",
    "2001:db8::7]",
    "[2001:db8::7]:x",
    "2001:db8::7%eth0",
    "::ffff:192.0.2.7%eth0",
    "fe80::1%",
    "fe80::1%eth0%eth1",
    "fe80::1%" + 16 * "e",
    '"192.0.2.7"',
    "for=192.0.2.7",
    "192.0.2.7\x00",
    "192.0.2.7\n",
    "١٩٢.0.2.7",
    "2001:db8::7" + 100 * "0",
]


@pytest.mark.parametrize(("value", "address"), ONE.items())
def test_the_last_address_of_a_proxy_is_read(value, address):
    assert client_address.forwarded(value) == address


@pytest.mark.parametrize("value", NONE)
def test_what_is_not_one_address_is_unknown(value):
    assert client_address.forwarded(value) == "unknown"


@given(st.one_of(st.text(), st.text("0123456789abcdefF.:[],%/ \t_x"), st.from_regex(client_address.HOP)))
def test_whatever_is_read_is_one_address_in_its_usual_spelling_or_unknown(value):
    found = client_address.forwarded(value)
    assert found in (client_address.UNKNOWN, client_address.plain(found))
    assert not found.startswith("::ffff:")


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_is_the_same_visitor_however_it_is_written(address):
    spellings = (f"{address}", f"::ffff:{address}", f"[::ffff:{address}]:80", f"{address}:80")
    assert {client_address.network(client_address.forwarded(each)) for each in spellings} == {str(address)}


# Addresses of one owner, and those of others.
GROUPS = {
    "an IPv4 address": (["192.0.2.7", "::ffff:192.0.2.7"], ["192.0.2.8", "::ffff:192.0.2.8"]),
    "a /64": (["2001:db8::1", "2001:db8::ffff:1"], ["2001:db8:0:1::1"]),
    "a /48 of 6to4": (["2002:c000:207::1", "2002:c000:207:ffff::1"], ["2002:c000:208::1"]),
    "a client of Teredo": (
        ["2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:0:4136:e378:0:1:3fff:fdd2", "2001:0:1:1:0:1:3fff:fdd2"],
        ["2001:0:4136:e378:8000:63bf:3fff:fdd3"],
    ),
    "an IPv4 address behind NAT64": (["64:ff9b::192.0.2.7"], ["64:ff9b::192.0.2.8", "64:ff9b::cb00:7109"]),
    "nobody": (["", "x", "unknown"], ["192.0.2.7"]),
}


@pytest.mark.parametrize("name", GROUPS)
def test_one_owner_is_one_visitor_and_others_are_not(name):
    own, others = GROUPS[name]
    [visitor] = {client_address.network(each) for each in own}
    assert visitor not in {client_address.network(each) for each in others}
    assert (client_address.networks(visitor) == ((0, 0), (0, 0))) is (visitor == "unknown")
