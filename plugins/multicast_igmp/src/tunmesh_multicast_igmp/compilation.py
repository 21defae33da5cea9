"""From everybody's memberships to routes. Contains no I/O; what it returns depends on nothing else.

A route's peers are all nodes that take a packet, this one too. Of a group there is one route for
packets of any source and one for each source that somebody's filter names; the latter decides for
its source alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import TYPE_CHECKING

from tunmesh.interfaces import Route
from tunmesh_multicast_igmp.attribute import Membership
from tunmesh_multicast_igmp.rules import Rules, is_source_specific

if TYPE_CHECKING:
    from tunmesh.interfaces.tun import Interface, Network
    from tunmesh_multicast_igmp.messages import Address
    from tunmesh_multicast_igmp.state import Filter


@dataclass(frozen=True)
class Surroundings:
    """What a node knows of the mesh.

    Attributes:
        node_id: Its own id.
        addresses: Its own addresses.
        nodes: The addresses of the other live nodes, by id.
        memberships: What nodes take, this one too, by id.
    """

    node_id: str
    addresses: tuple[Interface, ...]
    nodes: Mapping[str, tuple[IPv4Address | IPv6Address, ...]]
    memberships: Mapping[str, Membership]

    def in_scope(self) -> dict[str, frozenset[str]]:
        """The nodes of each scope, this one in both."""
        # Link-local prefixes are the same everywhere: they do not tell who is near.
        local = {item.network for item in self.addresses if not item.is_link_local}
        near = {
            node
            for node, addresses in self.nodes.items()
            if any(address in network for address in addresses for network in local)
        }
        own = self.node_id
        return {"local": frozenset({*near, own}), "mesh": frozenset({*self.nodes, own})}


def compile_routes(
    surroundings: Surroundings, rules: Rules, *, limit: int, name: str
) -> list[Route]:
    """The routes of all groups.

    Args:
        surroundings: What is known of the mesh.
        rules: How groups are treated.
        limit: Packets of a group that this node may send in a second, 0 for any number.
        name: Who contributes the routes.
    """
    in_scope = surroundings.in_scope()
    members = surroundings.memberships
    routers = frozenset(node for node, item in members.items() if item.router_port)
    routes = list(_of_prefixes(rules, in_scope, routers, limit=limit, name=name))
    for group, wanted in _by_group(members).items():
        if rules.mode(group) != "members":
            continue
        scope = in_scope[rules.scope(group)]
        always = routers & scope
        prefix = ip_network(group)
        for source, takers in _takers(group, wanted, scope):
            peers = tuple(sorted(takers | always))
            routes.append(Route(prefix, "multicast", peers, 0, name, origin=source, limit=limit))
    return routes


def _of_prefixes(
    rules: Rules,
    in_scope: Mapping[str, frozenset[str]],
    routers: frozenset[str],
    *,
    limit: int,
    name: str,
) -> Iterator[Route]:
    """What holds for groups without members: flooding, and routers that take everything."""
    busy: list[Network] = []
    for prefix in rules.prefixes:
        first, length = prefix.network_address, prefix.prefixlen
        mode = rules.mode(first, length)
        scope = in_scope[rules.scope(first, length)]
        peers = scope if mode == "flood" else routers & scope if mode == "members" else frozenset()
        # A prefix that nobody takes matters only inside one that somebody takes.
        if peers:
            busy.append(prefix)
        elif not any(other.version == prefix.version and first in other for other in busy):
            continue
        yield Route(prefix, "multicast", tuple(sorted(peers)), 0, name, limit=limit)


def _by_group(members: Mapping[str, Membership]) -> dict[Address, dict[str, Filter]]:
    found: dict[Address, dict[str, Filter]] = {}
    for node, membership in members.items():
        for group, wanted in membership.groups.items():
            found.setdefault(group, {})[node] = wanted
    return found


def _takers(
    group: Address, wanted: Mapping[str, Filter], scope: frozenset[str]
) -> Iterator[tuple[Address | None, set[str]]]:
    """Who takes packets of any source (None), and who those of each source that is named."""
    specific = is_source_specific(group)
    filters = {
        node: item
        for node, item in wanted.items()
        # RFC 4604, section 2.2.1: a membership without sources means nothing in these ranges.
        if node in scope and not (specific and item.exclude)
    }
    if filters and not specific:
        yield None, {node for node, item in filters.items() if item.exclude}
    for source in sorted({source for item in filters.values() for source in item.sources}):
        if source.version == group.version:
            yield source, {node for node, item in filters.items() if item.accepts(source)}
