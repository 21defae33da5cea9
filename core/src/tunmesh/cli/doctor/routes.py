"""The routes of this host, from ``/proc/net``. Of the main table only; contains no I/O."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from tunmesh.interfaces.tun import Network

#: RTF_UP; what else there is, is a route that the kernel does not use.
_UP = 0x1
_LOOPBACK = "lo"
#: Prefixes that every interface has.
_COMMON = tuple(map(ipaddress.ip_network, ("fe80::/10", "ff00::/8", "224.0.0.0/4")))


class HostRoute(NamedTuple):
    """One route: where to, by which device, and whether by another router."""

    prefix: Network
    device: str
    gateway: bool


def parse_routes4(text: str) -> Iterator[HostRoute]:
    """The lines of ``/proc/net/route``: numbers in hexadecimal, in the machine's byte order."""
    for line in text.splitlines()[1:]:
        device, target, gateway, flags, _, _, _, mask, *_ = line.split()
        if int(flags, 16) & _UP:
            address, length = (struct.pack("=I", int(part, 16)) for part in (target, mask))
            prefix = ipaddress.IPv4Network((address, int.from_bytes(length, "big").bit_count()))
            yield HostRoute(prefix, device, int(gateway, 16) != 0)


def parse_routes6(text: str) -> Iterator[HostRoute]:
    """The lines of ``/proc/net/ipv6_route``."""
    for line in text.splitlines():
        target, length, _, _, gateway, _, _, _, flags, device = line.split()
        if int(flags, 16) & _UP:
            prefix = ipaddress.IPv6Network((bytes.fromhex(target), int(length, 16)))
            yield HostRoute(prefix, device, int(gateway, 16) != 0)


def of_underlay(routes: Iterable[HostRoute], devices: Iterable[str]) -> list[HostRoute]:
    """The routes that are neither by the tunnel's devices nor on every host."""
    ours = {*devices, _LOOPBACK}
    return [
        route
        for route in routes
        if route.device not in ours
        and route.prefix.prefixlen > 0
        and not any(_within(route.prefix, common) for common in _COMMON)
    ]


def overlaps(routes: Iterable[HostRoute], network: Network) -> list[tuple[HostRoute, bool]]:
    """The routes that overlap a mesh network, each with whether it takes packets from the mesh.

    It does if it is at least as specific; otherwise the mesh takes packets from it.
    """
    return [
        (route, _within(route.prefix, network))
        for route in routes
        if _within(route.prefix, network) or _within(network, route.prefix)
    ]


def covers(route: HostRoute, prefix: Network) -> bool:
    """Whether a whole prefix goes by a route."""
    return _within(prefix, route.prefix)


def _within(prefix: Network, other: Network) -> bool:
    return (
        prefix.version == other.version
        and prefix.prefixlen >= other.prefixlen
        and prefix.network_address in other
    )
