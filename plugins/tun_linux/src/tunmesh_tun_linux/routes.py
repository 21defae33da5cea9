"""Which routes a configuration needs. Contains no I/O."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from tunmesh.interfaces.tun import Interface, Network

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tunmesh.interfaces import DeviceConfig

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

#: The longest IPv4 prefix that has a broadcast address (RFC 3021).
_LONGEST_WITH_BROADCAST = 30


@dataclass(frozen=True)
class KernelRoute:
    """A route into the device.

    Attributes:
        prefix: Destination.
        source: Source address that the host should prefer for it, if there is one.
        broadcast: Whether the destination is a broadcast address, to be received as well.
    """

    prefix: Network
    source: Address | None
    broadcast: bool = False


def wanted_routes(config: DeviceConfig, extra: Iterable[Network] = ()) -> set[KernelRoute]:
    """The routes that a configuration needs besides those that the kernel adds by itself.

    Args:
        config: The configuration.
        extra: Further prefixes to route into the device.
    """
    connected = {address.network for address in config.addresses}
    prefixes = {*config.networks, *config.routes, *extra} - connected
    routes = {KernelRoute(prefix, source_for(prefix, config.addresses)) for prefix in prefixes}
    for network in set(config.networks) - connected:
        source = source_for(network, config.addresses)
        if (
            isinstance(network, ipaddress.IPv4Network)
            and network.prefixlen <= _LONGEST_WITH_BROADCAST
            and source is not None
        ):
            # The kernel takes part in the broadcast of the local subnet by itself, but not in
            # that of the whole mesh.
            broadcast = ipaddress.IPv4Network(network.broadcast_address)
            routes.add(KernelRoute(broadcast, source, broadcast=True))
    return routes


def source_for(prefix: Network, addresses: Iterable[Interface]) -> Address | None:
    """The own address to talk from: one inside the prefix, else any that is not link-local."""
    own: list[Address] = [item.ip for item in addresses if item.version == prefix.version]
    inside = [address for address in own if address in prefix]
    routable = [address for address in own if not address.is_link_local]
    return next(iter(inside + routable), None)
