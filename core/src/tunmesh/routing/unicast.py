"""Which of the addresses and subnets that a node announces become routes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_network

from tunmesh.interfaces.policy import Route
from tunmesh.interfaces.tun import Network
from tunmesh.routing.prefixes import LINK_LOCAL, UNOWNED, inside


@dataclass(frozen=True)
class Acceptance:
    """What this node believes others when they announce it.

    Attributes:
        networks: The mesh networks: addresses must lie in one of them, or be link-local (IPv6).
        subnets: Subnets must lie in one of these; a default route only lies in ``0.0.0.0/0`` or
            ``::/0``.
        underlay: Networks that this host is connected to outside the mesh: a subnet that overlaps
            one would cut the host off from its own neighbours.
    """

    networks: tuple[Network, ...]
    subnets: tuple[Network, ...]
    underlay: tuple[Network, ...] = ()

    def refuse_address(self, address: IPv4Address | IPv6Address) -> str | None:
        """The reason for refusing an address, None if it is accepted."""
        if inside(ip_network(address), (*self.networks, LINK_LOCAL)):
            return None
        return "outside mesh.networks"

    def refuse_subnet(self, prefix: Network) -> str | None:
        """The reason for refusing a subnet, None if it is accepted."""
        if not inside(prefix, self.subnets):
            return "outside routing.accept_subnets"
        if inside(prefix, (LINK_LOCAL, *UNOWNED)):
            return "of a special-purpose range"
        if prefix.prefixlen == 0:  # it overlaps everything, and was asked for
            return None
        for network in self.underlay:
            if inside(prefix, (network,)) or inside(network, (prefix,)):
                return f"overlaps the connected network {network}"
        return None


@dataclass(frozen=True)
class RecordRoutes:
    """What became of a node's announcements.

    Attributes:
        routes: What was accepted.
        refused: What was not, each with its reason.
    """

    routes: list[Route] = field(default_factory=list)
    refused: list[tuple[Network, str]] = field(default_factory=list)


def routes_of_record(
    node_id: str,
    addresses: Iterable[IPv4Address | IPv6Address],
    subnets: Iterable[tuple[Network, int]],
    acceptance: Acceptance,
) -> RecordRoutes:
    """Turn what a node announces into routes.

    Args:
        node_id: The node.
        addresses: Those of its addresses whose claims hold.
        subnets: Prefixes behind it, each with its metric.
        acceptance: What this node believes.
    """
    result = RecordRoutes()
    for address in addresses:
        host = ip_network(address)
        if reason := acceptance.refuse_address(address):
            result.refused.append((host, reason))
        else:
            result.routes.append(Route(host, "address", (node_id,)))
    for prefix, metric in subnets:
        if reason := acceptance.refuse_subnet(prefix):
            result.refused.append((prefix, reason))
        else:
            result.routes.append(Route(prefix, "subnet", (node_id,), metric))
    return result
