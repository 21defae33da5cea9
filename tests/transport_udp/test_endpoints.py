from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tunmesh.plugin import EndpointError
from tunmesh_transport_udp.endpoints import (
    SocketAddress,
    format_endpoint,
    parse_endpoint,
    parse_literal,
    rate_limit_key,
    split_authority,
    split_url,
)

PORTS = st.integers(1, 65535)


def usable(address: IPv4Address | IPv6Address) -> bool:
    mapped = isinstance(address, IPv6Address) and address.ipv4_mapped is not None
    broadcast = address == IPv4Address("255.255.255.255")
    return not (address.is_multicast or address.is_unspecified or mapped or broadcast)


@given(st.ip_addresses(v=4).filter(usable), PORTS)
def test_an_ipv4_endpoint_round_trips(address: IPv4Address, port: int) -> None:
    literal = parse_endpoint(f"udp://{address}:{port}")
    assert literal.family == socket.AF_INET
    assert literal.address == (str(address), port)
    assert format_endpoint(literal.address) == f"udp://{address}:{port}"


@given(st.ip_addresses(v=6).filter(usable), PORTS)
def test_an_ipv6_endpoint_has_one_form_however_it_is_written(
    address: IPv6Address, port: int
) -> None:
    literal = parse_endpoint(f"udp://[{address.exploded}]:{port}")
    assert literal.family == socket.AF_INET6
    assert parse_endpoint(format_endpoint(literal.address)) == literal
    assert IPv6Address(literal.address[0]) == address


@given(st.text(max_size=40) | st.text(max_size=30).map("udp://".__add__))
@example("udp://1.2.3.4:99999")
@example("udp://1.2.3.4:0")
@example("udp://1.2.3.4")
@example("udp://host:1")
@example("udp://1.2.3:1")
@example("udp://[1.2.3.4]:1x")
@example("udp://[::1%nonesuch0]:1")
@example("udp://[::1\0]:1")
@example("udp://[fe80::1%99999999999999999999]:1")
@example("udp://1.2.3.4%eth0:1")
@example("udp://0.0.0.0:1")
@example("udp://255.255.255.255:1")
@example("udp://239.1.2.3:1")
@example("udp://[::]:1")
@example("udp://[ff02::1]:1")
@example("udp://[::ffff:1.2.3.4]:1")
@example("https://1.2.3.4:1")
@example("1.2.3.4:1")
def test_anything_else_is_one_kind_of_error(text: str) -> None:
    with pytest.raises(EndpointError):
        parse_endpoint(text)


def test_a_zone_is_a_name_or_a_number() -> None:
    index = socket.if_nametoindex("lo")
    literal = parse_literal("fe80::1%lo", 1)
    assert literal.address == ("fe80::1", 1, 0, index)
    assert format_endpoint(literal.address) == f"udp://[fe80::1%{index}]:1"
    assert parse_endpoint(format_endpoint(literal.address)) == literal


def test_addresses_of_two_parts_as_anyio_resolves_them() -> None:
    assert format_endpoint(("fd99::1", 4567)) == "udp://[fd99::1]:4567"
    assert format_endpoint(("fe80::1%lo", 4567)) == "udp://[fe80::1%lo]:4567"


def test_parts_of_urls() -> None:
    assert split_url("udp://lb.example.com:443/") == ("lb.example.com", 443)
    assert split_authority("[::]:0") == ("::", 0)


@pytest.mark.parametrize(
    ("address", "key"),
    [
        (("10.1.2.3", 4), bytes([10, 1, 2, 3])),
        (("2001:db8:1:2:3:4:5:6", 4, 0, 0), bytes.fromhex("20010db800010002")),
    ],
)
def test_strangers_are_limited_by_what_they_cannot_vary(address: SocketAddress, key: bytes) -> None:
    assert rate_limit_key(address) == key
