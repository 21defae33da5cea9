"""The forwarding table: where a packet from inside goes, and whether one from outside may enter.

A snapshot: built from the routes in force, never changed, replaced as a whole. The usual packet
costs two dictionary look-ups, however many routes there are.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_network
from typing import Literal, NamedTuple, TypeAlias

from tunmesh.interfaces.policy import Route
from tunmesh.interfaces.tun import Interface, Network
from tunmesh.routing.broadcast import LIMITED_BROADCAST, broadcast_address
from tunmesh.routing.prefixes import LINK_LOCAL, UNOWNED, PrefixTable, inside, is_multicast

# Owners of a prefix that are no peers; node ids are 32 hexadecimal digits.
_THIS_NODE = "this node"
_NOBODY = "nobody"  # inside the mesh, but unclaimed
_OUTSIDE = "outside"


#: What an address is: this node's own, or in a prefix behind it; another node's, or behind one;
#: inside the mesh but nobody's; a group; a broadcast address; none of these.
PlaceKind: TypeAlias = Literal[
    "own_address", "own_subnet", "address", "subnet", "unclaimed", "group", "broadcast", "outside"
]


class Place(NamedTuple):
    """The entry of the table that decides about an address.

    Attributes:
        kind: What the address is.
        prefix: Of the entry; None if there is none.
        peers: To whom it belongs; for a group, the other nodes that take part in it.
    """

    kind: PlaceKind
    prefix: Network | None
    peers: tuple[str, ...] = ()


class _Takers(NamedTuple):
    """Who takes packets to a group: other nodes, and whether this one does."""

    peers: tuple[str, ...] = ()
    local: bool = False


class _Groups:
    """The groups of one prefix: who takes packets of any source, and of some sources."""

    __slots__ = ("any_source", "limit", "sources")

    def __init__(self) -> None:
        self.any_source = _Takers()
        self.sources: dict[bytes, _Takers] = {}
        self.limit = 0

    def takers(self, source: bytes) -> _Takers:
        return self.sources.get(source, self.any_source)


_NO_GROUPS = _Groups()


class Fib:
    """The forwarding table of one node.

    Args:
        routes: The routes in force: one for each prefix, kind and origin, none of unicast through
            this node itself.
        addresses: This node's own addresses, each with the prefix of its local subnet.
        subnets: Prefixes behind this node.
        networks: The mesh networks.
        node_id: This node, as a peer of multicast routes that lead to this host.
        backups: Unicast routes that are not in force because others to their prefixes are. What
            comes from there is believed all the same: hosts behind two nodes may answer by either.
    """

    __slots__ = (
        "_addresses",
        "_broadcast_limit",
        "_broadcasts",
        "_groups",
        "_local",
        "_own",
        "_owners",
        "_sharers",
    )

    def __init__(
        self,
        routes: Iterable[Route],
        *,
        addresses: Iterable[Interface],
        subnets: Iterable[Network] = (),
        networks: Iterable[Network],
        node_id: str = "",
        backups: Iterable[Route] = (),
    ) -> None:
        interfaces, networks = tuple(addresses), tuple(networks)
        self._own = frozenset(interface.ip.packed for interface in interfaces)
        domains = (*networks, *(interface.network for interface in interfaces))
        # The peers of each broadcast address; None as long as no route switches it on.
        self._broadcasts: dict[bytes, tuple[str, ...] | None] = {
            address.packed: None
            for address in (LIMITED_BROADCAST, *map(broadcast_address, domains))
            if address is not None
        }
        self._broadcast_limit = 0
        self._addresses: dict[bytes, tuple[str, ...]] = {}
        groups: dict[Network, _Groups] = {}
        # Who owns a prefix, so that the longest one decides: a mesh network keeps a shorter
        # prefix, a default route say, from owning the addresses in it that nobody claims.
        owners: dict[Network, str] = dict.fromkeys((*networks, LINK_LOCAL), _NOBODY)
        for route in routes:
            packed = route.prefix.network_address.packed
            if route.kind == "address":
                if packed not in self._own:
                    self._addresses[packed] = route.peers
            elif route.kind == "broadcast":
                self._broadcasts[packed] = route.peers
                self._broadcast_limit = max(self._broadcast_limit, route.limit)
            elif route.kind == "multicast":
                found = groups.setdefault(route.prefix, _Groups())
                others = tuple(peer for peer in route.peers if peer != node_id)
                takers = _Takers(others, local=len(others) < len(route.peers))
                found.limit = max(found.limit, route.limit)
                if route.origin is None:
                    found.any_source = takers
                else:
                    found.sources[route.origin.packed] = takers
            elif not inside(route.prefix, (LINK_LOCAL, *UNOWNED)):
                owners[route.prefix] = route.peers[0]
        owners.update(dict.fromkeys(subnets, _THIS_NODE))
        owners.update(dict.fromkeys(UNOWNED, _OUTSIDE))
        owners.update((ip_network(address), _NOBODY) for address in self._broadcasts)
        owners.update((ip_network(address), _THIS_NODE) for address in self._own)
        sharers: dict[Network, set[str]] = {}
        for route in backups:
            if route.kind == "subnet" and owners.get(route.prefix) not in (None, _THIS_NODE):
                sharers.setdefault(route.prefix, set()).add(route.peers[0])
        self._sharers: PrefixTable[frozenset[str]] | None = None
        if sharers:  # every prefix is in it, so that the longest one decides here too
            nobody: frozenset[str] = frozenset()
            shared = {prefix: frozenset(sharers.get(prefix, nobody)) for prefix in owners}
            self._sharers = PrefixTable(shared.items())
        self._owners = PrefixTable(owners.items())
        self._groups = PrefixTable(groups.items())
        enabled = {address for address, peers in self._broadcasts.items() if peers is not None}
        self._local = self._own.union(enabled)

    def inside(self, source: bytes, destination: bytes) -> tuple[str, ...] | str:
        """Where a packet of this host goes; addresses have 4 or 16 bytes.

        Returns:
            The peers to send it to, or the reason for which it is dropped.
        """
        if source not in self._own and not self._may_originate(source):
            return "unknown_source"
        peers = self._addresses.get(destination)
        if peers is not None:
            return peers
        if is_multicast(destination):
            return self._groups.find(destination, _NO_GROUPS).takers(source).peers or "no_group"
        return self._elsewhere(destination)

    def is_broadcast(self, destination: bytes) -> bool:
        """Whether an address is a broadcast address, carried or not."""
        return destination in self._broadcasts

    def limit(self, group: bytes) -> int:
        """How many packets a second may be sent to a group or as broadcasts, 0 for any number."""
        if group in self._broadcasts:
            return self._broadcast_limit
        return self._groups.find(group, _NO_GROUPS).limit

    def outside(self, peer: str, source: bytes, destination: bytes) -> str | None:
        """Whether a packet that a peer sent may reach this host.

        Returns:
            None, or the reason for which it is dropped.
        """
        if self._owner(source) != peer and not self._shares(peer, source):
            return "spoofed_source"
        if is_multicast(destination):
            takers = self._groups.find(destination, _NO_GROUPS).takers(source)
            return None if takers.local else "misrouted"
        if destination in self._local or self._owner(destination) == _THIS_NODE:
            return None
        return "broadcast_disabled" if destination in self._broadcasts else "misrouted"

    def place(self, address: bytes, source: bytes = b"") -> Place:
        """What an address is, for explanations; `source` matters if it is that of a group."""
        single = ip_network(address)
        if address in self._own:
            return Place("own_address", single)
        if (peers := self._addresses.get(address)) is not None:
            return Place("address", single, peers)
        if is_multicast(address):
            takers = self._groups.find(address, _NO_GROUPS).takers(source)
            return Place("group", self._groups.match(address), takers.peers)
        if address in self._broadcasts:
            return Place("broadcast", single, self._broadcasts[address] or ())
        prefix, owner = self._owners.match(address), self._owners.find(address, _OUTSIDE)
        if owner == _OUTSIDE:
            return Place("outside", prefix)
        if owner == _NOBODY:
            return Place("unclaimed", prefix)
        if owner == _THIS_NODE:
            return Place("own_subnet", prefix)
        return Place("subnet", prefix, (owner,))

    def _shares(self, peer: str, source: bytes) -> bool:
        """Whether a source lies in a subnet that a peer announces too, though others are used."""
        if self._sharers is None or source in self._addresses:
            return False
        return peer in self._sharers.find(source, frozenset())

    def _owner(self, address: bytes) -> str:
        peers = self._addresses.get(address)
        return self._owners.find(address, _OUTSIDE) if peers is None else peers[0]

    def _may_originate(self, source: bytes) -> bool:
        # Link-local packets are never forwarded (RFC 4291, section 2.5.6): what has such a source
        # and comes out of our device has the device's own address, whether it is known or not.
        if len(source) == 16 and source[0] == 0xFE and source[1] & 0xC0 == 0x80:
            return True
        return self._owner(source) == _THIS_NODE

    def _elsewhere(self, destination: bytes) -> tuple[str, ...] | str:
        """Where a packet goes whose destination is not the address of another node."""
        if destination in self._broadcasts:
            peers = self._broadcasts[destination]
            return "broadcast_disabled" if peers is None else peers or "no_route"
        owner = self._owners.find(destination, _OUTSIDE)
        if owner == _OUTSIDE:
            return "outside_network"
        if owner == _NOBODY:
            return "no_route"
        return "loopback" if owner == _THIS_NODE else (owner,)
