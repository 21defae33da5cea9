"""From what nodes announce to the forwarding table, compiled when it is first needed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import TypeAlias

from tunmesh.interfaces.policy import Route
from tunmesh.interfaces.tun import Interface, Network
from tunmesh.routing.broadcast import broadcast_routes
from tunmesh.routing.fib import Fib
from tunmesh.routing.rib import Rib
from tunmesh.routing.unicast import Acceptance, routes_of_record

Address: TypeAlias = IPv4Address | IPv6Address

_BROADCAST = "broadcast"
#: Added to the metric of routes by a node that cannot be reached: larger than any metric.
_UNREACHABLE = 2**32


@dataclass(frozen=True)
class Holding:
    """What another node holds.

    Attributes:
        node_id: The node.
        addresses: Those of its addresses whose claims are accepted.
        subnets: Prefixes behind it, each with its metric.
        reachable: False if it was reached and does not answer now. Whether it is gone will turn
            out; meanwhile others that announce its subnets are used.
    """

    node_id: str
    addresses: tuple[Address, ...]
    subnets: tuple[tuple[str, int], ...]
    reachable: bool = True


class Forwarding:
    """The routes of this node.

    Changes only mark the table as void: a mesh that forms changes a thousand times before a
    packet wants to know.

    Args:
        networks: The mesh networks.
        accept_subnets: What other nodes may announce.
        broadcast: Whether broadcasts are carried.
        broadcast_rate: How many this node may send in a second, 0 for any number.
        holdings: What the other live nodes hold now.
        policies: What routing policies contribute now, by their names.
        node_id: This node.
        invalidated: Called when the table becomes void.
    """

    def __init__(
        self,
        *,
        networks: tuple[Network, ...],
        accept_subnets: tuple[Network, ...],
        broadcast: bool,
        broadcast_rate: int = 0,
        holdings: Callable[[], Iterable[Holding]],
        policies: Callable[[], Mapping[str, Iterable[Route]]] = dict,
        node_id: str = "",
        invalidated: Callable[[], None],
    ) -> None:
        self.addresses: tuple[Interface, ...] = ()
        self.subnets: tuple[Network, ...] = ()
        #: What was announced and not accepted: by node, the prefixes with the reasons. As of the
        #: last time that `routes` was asked for.
        self.refused: dict[str, list[tuple[Network, str]]] = {}
        self._networks = networks
        self._acceptance = Acceptance(networks=networks, subnets=accept_subnets)
        self._broadcast = broadcast
        self._broadcast_rate = broadcast_rate
        self._holdings = holdings
        self._invalidated = invalidated
        self._policies = policies
        self._node_id = node_id
        self._best: tuple[Route, ...] | None = ()
        self._backups: tuple[Route, ...] = ()
        self._fib: Fib | None = None

    def set_own(self, addresses: Iterable[Interface], subnets: Iterable[Network]) -> None:
        """This node's own addresses and subnets."""
        self.addresses = tuple(addresses)
        self.subnets = tuple(subnets)
        self.invalidate()

    def set_rules(
        self, accept_subnets: tuple[Network, ...], broadcast: bool, broadcast_rate: int
    ) -> None:
        """What others may announce, and whether and how often broadcasts are carried."""
        rules = (accept_subnets, broadcast, broadcast_rate)
        if rules != (self._acceptance.subnets, self._broadcast, self._broadcast_rate):
            self._acceptance = replace(self._acceptance, subnets=accept_subnets)
            self._broadcast, self._broadcast_rate = broadcast, broadcast_rate
            self.invalidate()

    def set_underlay(self, networks: tuple[Network, ...]) -> None:
        """Networks that this host is connected to outside the mesh."""
        if networks != self._acceptance.underlay:
            self._acceptance = replace(self._acceptance, underlay=networks)
            self.invalidate()

    def invalidate(self) -> None:
        """Other nodes, or what they hold, changed."""
        if self._best is not None:  # else nobody has looked since the last change
            self._best = self._fib = None
            self._invalidated()

    def fib(self) -> Fib:
        """The forwarding table."""
        if self._fib is None:
            self._fib = Fib(
                self.routes(),
                addresses=self.addresses,
                subnets=self.subnets,
                networks=self._networks,
                node_id=self._node_id,
                backups=self._backups,
            )
        return self._fib

    def routes(self) -> tuple[Route, ...]:
        """The routes in force."""
        if self._best is None:
            self._best = self._collect()
        return self._best

    def backups(self) -> tuple[Route, ...]:
        """Unicast routes that are not in force, since there are better ones."""
        self.routes()
        return self._backups

    def kernel_routes(self) -> tuple[Network, ...]:
        """Subnets behind other nodes, which the host must route into the device.

        Not those that are behind this node too: the host has a better way there.
        """
        routes = (route for route in self.routes() if route.kind == "subnet")
        return tuple(route.prefix for route in routes if route.prefix not in self.subnets)

    def broadcasts(self) -> tuple[IPv4Address, ...]:
        """Broadcast addresses that this host takes part in."""
        found = (r.prefix.network_address for r in self.routes() if r.kind == "broadcast")
        return tuple(address for address in found if isinstance(address, IPv4Address))

    def _collect(self) -> tuple[Route, ...]:
        rib = Rib()
        self.refused = {}
        nodes: dict[str, tuple[Address, ...]] = {}
        for holding in self._holdings():
            penalty = 0 if holding.reachable else _UNREACHABLE
            subnets = [(ip_network(prefix), metric + penalty) for prefix, metric in holding.subnets]
            result = routes_of_record(holding.node_id, holding.addresses, subnets, self._acceptance)
            rib.set_routes(holding.node_id, result.routes)
            nodes[holding.node_id] = holding.addresses
            if result.refused:
                self.refused[holding.node_id] = result.refused
        if self._broadcast:
            broadcasts = broadcast_routes(
                self.addresses, self._networks, nodes, self._broadcast_rate
            )
            rib.set_routes(_BROADCAST, broadcasts)
        for policy, routes in self._policies().items():
            rib.set_routes(policy, routes)
        self._backups = rib.backups()
        return rib.best()
