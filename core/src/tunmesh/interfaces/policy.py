"""The role ``policy``: contributes routes, and may claim control packets.

Policies never see ordinary packets: they contribute routes, which are compiled into the forwarding
table. What they claim (IGMP, say) is brought to them instead of being forwarded. They are told of
changes and of deadlines, and need neither tasks nor an event loop.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from types import TracebackType
from typing import Literal, Protocol, Self, TypeAlias

from tunmesh.interfaces.common import Context
from tunmesh.interfaces.tun import Buffer, Interface, Network

RouteKind: TypeAlias = Literal["address", "subnet", "broadcast", "multicast"]


@dataclass(frozen=True)
class Route:
    """One way to a prefix.

    A packet to a group follows the longest multicast prefix that holds the group; of the routes to
    it the one of the packet's source, if there is one, else the one without `origin`.

    Attributes:
        prefix: Destination.
        kind: What kind of destination that is.
        peers: Ids of the nodes that take it: one for unicast, any number for the others. The own
            id in a multicast route says that this host takes such packets from others.
        metric: Of several unicast routes to one prefix the one with the smallest metric is used.
        source: Who contributed it: ``core``, or the plugin's name.
        origin: Multicast: the only source of packets that it concerns, None for all.
        limit: Packets a second that this node sends to one group, or as broadcasts to all broadcast
            addresses together; 0 for any number.
    """

    prefix: Network
    kind: RouteKind
    peers: tuple[str, ...]
    metric: int = 0
    source: str = "core"
    origin: IPv4Address | IPv6Address | None = None
    limit: int = 0


@dataclass(frozen=True)
class GroupMember:
    """A node's membership in a multicast group, for the status document.

    Attributes:
        group: The group.
        node_id: The node.
        exclude: Whether `sources` are those not wanted; else they are those wanted.
        sources: Source addresses.
    """

    group: IPv4Address | IPv6Address
    node_id: str
    exclude: bool
    sources: tuple[IPv4Address | IPv6Address, ...]


class PolicyContext(Context, Protocol):
    """What the factory of a routing policy is given."""

    def routes_changed(self) -> None:
        """`RoutingPolicy.routes` are not what they were; they are asked for when needed."""

    def set_attribute(self, value: bytes) -> None:
        """Publish an attribute in this node's record, under the plugin's name; empty removes it."""

    def attributes(self) -> Mapping[str, bytes]:
        """The attributes that other live nodes publish under this plugin's name, by node id."""

    def nodes(self) -> Mapping[str, tuple[IPv4Address | IPv6Address, ...]]:
        """The addresses of the other live nodes, by node id."""

    def addresses(self) -> tuple[Interface, ...]:
        """This node's own addresses, each with the prefix of its local subnet."""

    def set_device_routes(self, prefixes: Iterable[Network]) -> None:
        """Replace the prefixes that the host routes into the device for this policy."""

    def write_packet(self, packet: Buffer) -> None:
        """Give an IP packet to this host, as if it had come from the mesh."""

    def wake_at(self, deadline: float) -> None:
        """Have `RoutingPolicy.handle_timer` called then, unless it is due earlier anyway."""


class RoutingPolicy(ABC):
    """Contributes routes. Entering the context starts it, leaving it stops it.

    What a method raises is reported and does not hurt the node.
    """

    #: IP protocols, and types of ICMPv6, whose packets to group addresses go to `claimed` instead
    #: of the mesh. From the mesh such packets are not taken at all.
    claims: frozenset[int] = frozenset()
    claims_icmpv6: frozenset[int] = frozenset()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None

    def routes(self) -> Iterable[Route]:
        """The routes that this policy contributes now.

        Asked for whenever the forwarding table is compiled: after every change of nodes, of their
        attributes and of own addresses, and after `PolicyContext.routes_changed`.
        """
        return ()

    def claimed(self, packet: memoryview) -> None:
        """Take a packet from inside that was claimed; valid only until the call returns.

        Raises:
            BadPacket: It is malformed; it is counted.
        """

    def attributes_changed(self) -> None:
        """The attributes of other nodes, or the set of nodes, are not what they were."""

    def handle_timer(self, now: float) -> None:
        """A deadline of `PolicyContext.wake_at` has passed."""

    def group_members(self) -> Iterable[GroupMember]:
        """What is known of multicast groups, for the status document."""
        return ()

    def statistics(self) -> dict[str, int]:
        """Counters by name, for the status document."""
        return {}
