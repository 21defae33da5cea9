"""Broadcast of IPv4: routes for the local subnet, for the mesh, and for 255.255.255.255."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_network

from tunmesh.interfaces.policy import Route
from tunmesh.interfaces.tun import Interface, Network

LIMITED_BROADCAST = IPv4Address("255.255.255.255")


def broadcast_address(network: Network) -> IPv4Address | None:
    """The broadcast address of a network; those of two addresses and fewer have none (RFC 3021)."""
    last = network.broadcast_address
    return last if isinstance(last, IPv4Address) and network.prefixlen < 31 else None


def broadcast_routes(
    addresses: Iterable[Interface],
    networks: Iterable[Network],
    nodes: Mapping[str, Iterable[IPv4Address | IPv6Address]],
    limit: int = 0,
) -> list[Route]:
    """Routes for every broadcast address that this node may use, also where nobody listens.

    Args:
        addresses: This node's own addresses, each with the prefix of its local subnet.
        networks: The mesh networks.
        nodes: The other nodes' addresses by node id.
        limit: Broadcasts that this node may send in a second, 0 for any number.
    """
    own = [interface for interface in addresses if interface.version == 4]
    if not own:
        return []
    members: dict[IPv4Address, set[str]] = {LIMITED_BROADCAST: set()}
    local = {interface.network for interface in own}
    for domain in (*local, *networks):
        if (last := broadcast_address(domain)) is None:
            continue
        inside = {
            node for node, known in nodes.items() if any(address in domain for address in known)
        }
        members.setdefault(last, set()).update(inside)
        if domain in local:
            members[LIMITED_BROADCAST] |= inside
    return [
        Route(ip_network(address), "broadcast", tuple(sorted(peers)), limit=limit)
        for address, peers in members.items()
    ]
