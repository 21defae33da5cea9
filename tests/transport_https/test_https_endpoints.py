from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tunmesh.plugin import EndpointError
from tunmesh_transport_https.endpoints import (
    Endpoint,
    parse_endpoint,
    rate_limit_key,
    split_authority,
)

PIN = "AZaz09_-AZaz09_-AZaz09"


def usable(address: IPv4Address | IPv6Address) -> bool:
    last = address == IPv4Address("255.255.255.255")
    return not (address.is_multicast or address.is_unspecified or last)


@given(st.ip_addresses().filter(usable), st.integers(1, 65535), st.sampled_from(["", PIN]))
def test_endpoints_round_trip(address: IPv4Address, port: int, pin: str) -> None:
    endpoint = Endpoint(str(address), port, pin)
    assert endpoint.literal
    assert parse_endpoint(endpoint.url) == endpoint


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("https://lb.example.com", Endpoint("lb.example.com", 443)),
        ("https://lb.example.com/", Endpoint("lb.example.com", 443)),
        ("https://lb.example.com:8443/", Endpoint("lb.example.com", 8443)),
        ("https://[2001:DB8:0::1]:1", Endpoint("2001:db8::1", 1)),
        (f"https://192.0.2.1:4443#{PIN}", Endpoint("192.0.2.1", 4443, PIN)),
    ],
)
def test_what_operators_and_nodes_write(url: str, endpoint: Endpoint) -> None:
    assert parse_endpoint(url) == endpoint
    assert endpoint.literal is (endpoint.host[0] != "l")


@given(st.text(max_size=40) | st.text(max_size=30).map("https://".__add__))
@example("https://")
@example("https://user@host")
@example("https://host/path")
@example("https://host?query")
@example("https://host:0")
@example("https://host:65536")
@example("https://[::g]:1")
@example("https://[::]:1")
@example("https://[ff02::1]:1")
@example("https://0.0.0.0:1")
@example("https://255.255.255.255")
@example("https://host#shortpin")
@example("https://ho st")
@example("http://host")
@example("udp://192.0.2.1:1")
def test_anything_else_is_one_kind_of_error(text: str) -> None:
    try:
        endpoint = parse_endpoint(text)
    except EndpointError:
        return
    assert parse_endpoint(endpoint.url) == endpoint  # a text that happens to be one


def test_where_to_listen() -> None:
    assert split_authority("0.0.0.0:4443") == ("0.0.0.0", 4443)
    assert split_authority("[::]:0") == ("::", 0)
    for text in ("0.0.0.0", "[::]", "::1:1", "0.0.0.0:65536", ""):
        with pytest.raises(EndpointError, match="form"):
            split_authority(text)


def test_strangers_are_limited_by_what_they_cannot_vary() -> None:
    assert rate_limit_key("10.1.2.3") == bytes([10, 1, 2, 3])
    assert rate_limit_key("2001:db8:1:2:3::4") == bytes.fromhex("20010db800010002")
    assert rate_limit_key("fe80::1%eth0") == bytes.fromhex("fe80000000000000")
