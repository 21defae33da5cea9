"""What ``tunmesh explain --json`` prints: what would become of one packet. Only data here.

Fields may be added; none is renamed or removed while `SCHEMA` stays. Nodes are named as in the
status document.
"""

from __future__ import annotations

import msgspec

from tunmesh.admin.status import PeerStatus, RefusedStatus

SCHEMA = 1


class PlaceFound(msgspec.Struct, frozen=True):
    """What an address is to a node.

    Attributes:
        kind: ``own_address``, ``own_subnet``, ``address``, ``subnet``, ``unclaimed``, ``group``,
            ``broadcast`` or ``outside``.
        prefix: That decides; None if there is none.
        peers: The nodes that it belongs to, or that take part in the group.
    """

    kind: str
    prefix: str | None
    peers: tuple[str, ...]


class Verdict(msgspec.Struct, frozen=True):
    """What one node does with the packet.

    Attributes:
        node: Which.
        side: ``inside`` if its own host sends the packet, ``outside`` if it comes from the mesh.
        verdict: ``sent``, ``delivered`` to its host, or ``dropped``.
        reason: Of the drop.
        source: What the source is there.
        destination: What the destination is there.
        peers: The nodes that it sends the packet to.
        forwarding: Whether its host forwards to the subnet; None if it need not.
        judged: Whether policies decide about it too, by protocol and ports.
    """

    node: str
    side: str
    verdict: str
    reason: str | None
    source: PlaceFound
    destination: PlaceFound
    peers: tuple[str, ...]
    forwarding: bool | None
    judged: bool = False


class RouteFound(msgspec.Struct, frozen=True):
    """A route to the destination; backups are those that are not in force."""

    prefix: str
    kind: str
    peers: tuple[str, ...]
    metric: int
    source: str
    backup: bool


class HopFound(msgspec.Struct, frozen=True):
    """A node that the packet goes to, or comes from.

    Attributes:
        peer: As in the status document.
        ready: Whether packets leave at once; else they wait for a session.
        slices: Datagrams that a packet of the device's full size takes; None without a path.
        answer: What the node says of the packet; None if it did not answer.
        reply: What it does with a packet back; None if there can be none.
        reply_refused: Why this node would drop that packet; None if it would not.
    """

    peer: PeerStatus
    ready: bool
    slices: int | None
    answer: Verdict | None = None
    reply: Verdict | None = None
    reply_refused: str | None = None


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """The whole document.

    Attributes:
        here: What this node does.
        counter: What the packet is counted by on this node, as a path in the status document.
        count: What that counter has now.
        routes: That lead to the destination, the best first.
        refused: Announcements of the destination, or of the source, that this node refused.
        hops: Where the packet goes from here, or would go but for the verdict.
    """

    schema: int = SCHEMA
    source: str
    destination: str
    mtu: int
    here: Verdict
    counter: str
    count: int
    routes: tuple[RouteFound, ...]
    refused: tuple[RefusedStatus, ...]
    hops: tuple[HopFound, ...]
