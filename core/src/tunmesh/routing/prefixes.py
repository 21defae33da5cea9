"""Prefixes: special-purpose ones, and tables that find the longest one that holds an address."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_network
from typing import Generic, TypeVar

from tunmesh.interfaces.tun import Network

T = TypeVar("T")

#: Link-local addresses of IPv6: always part of the overlay, and only ever of one link.
LINK_LOCAL = ip_network("fe80::/10")

#: Prefixes that no node can own, so that nothing from there is believed and nothing is sent there
#: by a shorter prefix (a default route, say): "this network", loopback, multicast, reserved and
#: broadcast (RFC 6890); unspecified, loopback, IPv4-mapped, multicast (RFC 4291).
UNOWNED = tuple(
    ip_network(prefix)
    for prefix in (
        "0.0.0.0/8",
        "127.0.0.0/8",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "::/128",
        "::1/128",
        "::ffff:0:0/96",
        "ff00::/8",
    )
)


def is_multicast(address: bytes) -> bool:
    """Whether an address of 4 or 16 bytes is that of a group."""
    return address[0] == 0xFF if len(address) == 16 else address[0] >> 4 == 14


def inside(prefix: Network, others: Iterable[Network]) -> bool:
    """Whether a prefix lies inside one of others."""
    return any(
        prefix.version == other.version
        and prefix.prefixlen >= other.prefixlen
        and prefix.network_address in other
        for other in others
    )


def any_default(prefixes: Iterable[Network]) -> bool:
    """Whether one of some prefixes is a default route."""
    return any(prefix.prefixlen == 0 for prefix in prefixes)


class PrefixTable(Generic[T]):
    """Finds the value of the longest prefix that holds an address.

    One dictionary for each length that occurs, tried from the longest: real tables have few.

    Args:
        entries: Prefixes of both families with their values; of equal ones the last counts.
    """

    __slots__ = ("_ipv4", "_ipv6")

    def __init__(self, entries: Iterable[tuple[Network, T]]) -> None:
        lengths: dict[tuple[int, int], dict[int, T]] = {}
        for prefix, value in entries:
            shift = prefix.max_prefixlen - prefix.prefixlen
            by_bits = lengths.setdefault((prefix.version, shift), {})
            by_bits[int(prefix.network_address) >> shift] = value
        tables = sorted(lengths.items())
        self._ipv4 = tuple((shift, found) for (version, shift), found in tables if version == 4)
        self._ipv6 = tuple((shift, found) for (version, shift), found in tables if version == 6)

    def find(self, address: bytes, default: T) -> T:
        """The value for an address of 4 or 16 bytes."""
        number = int.from_bytes(address, "big")
        for shift, by_bits in self._ipv4 if len(address) == 4 else self._ipv6:
            bits = number >> shift
            if bits in by_bits:
                return by_bits[bits]
        return default

    def match(self, address: bytes) -> Network | None:
        """The longest prefix that holds an address, whose value `find` returns."""
        number = int.from_bytes(address, "big")
        for shift, by_bits in self._ipv4 if len(address) == 4 else self._ipv6:
            if number >> shift in by_bits:
                first = (number >> shift << shift).to_bytes(len(address), "big")
                return ip_network((first, len(address) * 8 - shift))
        return None
