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

#: The broadcast address of whatever link it is sent to (RFC 919).
LIMITED_BROADCAST = ipaddress.IPv4Address("255.255.255.255")


@dataclass(frozen=True)
class KernelRoute:
    """A route into the device.

    Attributes:
        prefix: Destination.
        source: Source address that the host should prefer for it, if there is one.
        broadcast: Whether the destination is a broadcast address, to be received as well.
        apart: Whether it has a table of its own, which the mesh's own sockets do not use.
    """

    prefix: Network
    source: Address | None
    broadcast: bool = False
    apart: bool = False

    @property
    def essential(self) -> bool:
        """Whether the mesh is of little use without it: not so with broadcasts."""
        return not self.broadcast and self.prefix.network_address != LIMITED_BROADCAST


def wanted_routes(config: DeviceConfig, extra: Iterable[Network] = ()) -> set[KernelRoute]:
    """The routes that a configuration needs besides those that the kernel adds by itself.

    Args:
        config: The configuration.
        extra: Further prefixes to route into the device.
    """
    connected = {address.network for address in config.addresses}
    prefixes = {*config.networks, *config.routes, *extra} - connected
    routes = {
        KernelRoute(
            prefix,
            source_for(prefix, config.addresses),
            apart=bool(config.mark) and prefix.prefixlen == 0,
        )
        for prefix in prefixes
    }
    # The kernel takes part in the broadcast of the local subnet by itself, but not in that of the
    # whole mesh; and 255.255.255.255 it receives anyway, but does not know where to send.
    known = {network.broadcast_address for network in connected}
    for address in set(config.broadcasts) - known:
        around = next((network for network in config.networks if address in network), None)
        host = ipaddress.IPv4Network(address)
        source = source_for(around or host, config.addresses)
        if source is not None:
            routes.add(KernelRoute(host, source, broadcast=address != LIMITED_BROADCAST))
    return routes


def source_for(prefix: Network, addresses: Iterable[Interface]) -> Address | None:
    """The own address to talk from: one inside the prefix, else any that is not link-local."""
    own: list[Address] = [item.ip for item in addresses if item.version == prefix.version]
    inside = [address for address in own if address in prefix]
    routable = [address for address in own if not address.is_link_local]
    return next(iter(inside + routable), None)
