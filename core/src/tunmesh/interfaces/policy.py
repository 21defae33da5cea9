"""The role ``policy``: contributes routes, and may claim control packets.

Policies never see ordinary packets: they contribute routes, which are compiled into the forwarding
table. What they claim (IGMP, say) is brought to them instead of being forwarded. They are told of
changes and of deadlines, and need neither tasks nor an event loop. Those that are a
`SupportsVerdict` too are asked about each new flow.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from types import TracebackType
from typing import Literal, Protocol, Self, TypeAlias

from tunmesh.interfaces.common import Context
from tunmesh.interfaces.tun import Buffer, Interface, Network

RouteKind: TypeAlias = Literal["address", "subnet", "broadcast", "multicast"]
#: Where packets come from: this host, by the device, or the mesh.
Direction: TypeAlias = Literal["inside", "outside"]


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


@dataclass(frozen=True, slots=True)
class Flow:
    """Packets that share addresses, protocol and ports: what a policy decides about.

    Its way is not part of it: the flow of the answers is `reversed`, whichever side they come from.

    Attributes:
        source: Who sent them.
        destination: Who is to get them.
        protocol: What they carry: the protocol of IPv4, or the next header behind all extension
            headers of IPv6.
        source_port: Of TCP, UDP, DCCP, SCTP and UDP-Lite; 0 for other protocols and for fragments.
        destination_port: Likewise.
        fragment: They are fragments. The ports stand in the first one only and are not looked at
            even there, so that all fragments of a packet have one fate. Who decides by ports has
            to decide for all ports at once.
        peer: Id of the node that sent them or is to get them, whom the session has authenticated;
            empty if several are to get them.
    """

    source: IPv4Address | IPv6Address
    destination: IPv4Address | IPv6Address
    protocol: int
    source_port: int = 0
    destination_port: int = 0
    fragment: bool = False
    peer: str = ""

    def reversed(self) -> Flow:
        """The flow of the answers."""
        return Flow(
            self.destination,
            self.source,
            self.protocol,
            self.destination_port,
            self.source_port,
            self.fragment,
            self.peer,
        )


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

    def node_names(self) -> Mapping[str, str]:
        """The names of the other live nodes, by node id.

        A node chooses its own name, and two may choose the same: a name says no more than that
        who has it knows the mesh secret.
        """

    def verdicts_changed(self) -> None:
        """What `SupportsVerdict.verdict` said is not what it would say now: it is asked again."""

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

    #: IP protocols whose packets to group addresses go to `claimed` instead of the mesh. From the
    #: mesh such packets are not taken at all.
    claims: frozenset[int] = frozenset()
    #: Likewise types of ICMPv6.
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


class SupportsVerdict(ABC):
    """A policy that decides about flows; a `RoutingPolicy` derives from it as well.

    As long as no policy of a node does, packets are not looked at beyond their addresses.
    """

    @abstractmethod
    def verdict(self, flow: Flow, direction: Direction) -> tuple[bool, float]:
        """Whether a flow may pass, and for how many seconds that is remembered.

        Called for the first packet of a flow, once it is known where it goes and that its source is
        in order; again when the seconds are over, after any change of routes, and after
        `PolicyContext.verdicts_changed`. The memory is bounded: it may be asked earlier, too. It
        stands between packets, so it must be quick: some microseconds. `math.inf` seconds are
        allowed, and 0, which asks for every packet.

        All policies that decide must agree. What one does not let pass is counted as `denied`; from
        inside, the sender gets an ICMP error. If this method raises, or returns anything else, the
        flow is dropped for a second, counted as `error`.

        Packets that policies claim are not asked about, nor what the node itself says to others.

        Args:
            flow: The flow.
            direction: ``inside`` if this host sends it, ``outside`` if it comes from the mesh.
        """
