"""The role ``policy``: contributes routes, and may claim control packets.

Policies never see ordinary packets: they publish routes, which are compiled into the forwarding
table. What they claim (IGMP, say) is brought to them instead of being forwarded.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Protocol, Self, TypeAlias

from tunmesh.interfaces.common import Context
from tunmesh.interfaces.tun import Buffer, Network

RouteKind: TypeAlias = Literal["address", "subnet", "broadcast", "multicast"]


@dataclass(frozen=True)
class Route:
    """One way to a prefix.

    Attributes:
        prefix: Destination.
        kind: What kind of destination that is.
        peers: Ids of the nodes that take it: one for unicast, any number for the others.
        metric: Of several unicast routes to one prefix the one with the smallest metric is used.
        source: Who contributed it: ``core``, or the plugin's name.
    """

    prefix: Network
    kind: RouteKind
    peers: tuple[str, ...]
    metric: int = 0
    source: str = "core"


class PolicyContext(Context, Protocol):
    """What the factory of a routing policy is given."""

    def set_routes(self, routes: Iterable[Route]) -> None:
        """Replace all routes that this policy contributes."""

    def set_attribute(self, value: bytes) -> None:
        """Publish an attribute in this node's record, under the plugin's name; empty removes it."""

    def attributes(self) -> dict[str, bytes]:
        """The attributes that other nodes publish under this plugin's name, by node id."""

    def write_packet(self, packet: Buffer) -> None:
        """Give an IP packet to this host, as if it had come from the mesh."""


class RoutingPolicy(ABC):
    """Contributes routes. Entering the context starts it, leaving it stops it."""

    #: IP protocol numbers whose packets from inside go to `claimed` instead of the mesh.
    claims: frozenset[int] = frozenset()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None

    def claimed(self, packet: memoryview) -> None:
        """Take a packet from inside that was claimed; valid only until the call returns.

        Raises:
            BadPacket: It is malformed; it is counted.
        """

    def attributes_changed(self) -> None:
        """The attributes of other nodes, or the set of nodes, are not what they were."""
