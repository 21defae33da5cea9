"""Prefix tables against a naive search."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunmesh.interfaces.tun import Network
from tunmesh.routing.prefixes import PrefixTable, inside, is_multicast


def ipv4(bits: int, length: int) -> Network:
    """A prefix of few different bits, so that prefixes nest."""
    return IPv4Network((bits << 24, length), strict=False)


def ipv6(bits: int, length: int) -> Network:
    """Likewise."""
    return IPv6Network((bits << 120, length), strict=False)


lengths = st.integers(min_value=0, max_value=8)
octets = st.integers(min_value=0, max_value=255)
prefixes = st.builds(ipv4, octets, lengths) | st.builds(ipv6, octets, lengths)
addresses = octets.map(lambda octet: bytes([octet, 0, 0, 1])) | octets.map(
    lambda octet: bytes([octet, *bytes(15)])
)


@given(st.dictionaries(prefixes, st.integers()), addresses)
def test_the_longest_prefix_is_found(entries: dict[Network, int], address: bytes) -> None:
    holding = [prefix for prefix in entries if ip_address(address) in prefix]
    longest = max(holding, key=lambda prefix: prefix.prefixlen, default=None)
    expected = -1 if longest is None else entries[longest]
    assert PrefixTable(entries.items()).find(address, -1) == expected


@given(prefixes, st.lists(prefixes))
def test_inside(prefix: Network, others: list[Network]) -> None:
    first, last = prefix[0], prefix[-1]
    assert inside(prefix, others) == any(first in other and last in other for other in others)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("223.255.255.255", False),
        ("224.0.0.0", True),
        ("239.255.255.255", True),
        ("240.0.0.0", False),
        ("255.255.255.255", False),
        ("ff02::1", True),
        ("fe80::1", False),
        ("e000::1", False),
    ],
)
def test_is_multicast(address: str, expected: bool) -> None:
    assert is_multicast(ip_address(address).packed) is expected


def test_of_equal_prefixes_the_last_counts() -> None:
    network = ip_network("10.0.0.0/8")
    assert PrefixTable([(network, 1), (network, 2)]).find(bytes([10, 1, 2, 3]), 0) == 2
