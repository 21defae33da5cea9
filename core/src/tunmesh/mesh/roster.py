"""The peers of a node: made when they are first needed, forgotten when nothing is known of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from tunmesh.peering.peer import Peer

if TYPE_CHECKING:
    from tunmesh.membership.records import NodeRecord
    from tunmesh.peering.services import Services
    from tunmesh.timers import Timers

#: Peers without session, record or handshake are forgotten at this interval.
_SWEEP = 5.0


class Roster:
    """The peers of a node.

    Args:
        own_static: This node's X25519 public key.
        records: What is known of other nodes.
        services: What peers need.
        timers: For their deadlines.
        removed: Called when a peer is forgotten.

    Attributes:
        peers: By node id.
    """

    def __init__(
        self,
        own_static: bytes,
        records: Mapping[str, NodeRecord],
        services: Services,
        timers: Timers,
        removed: Callable[[Peer], None],
    ) -> None:
        self.peers: dict[str, Peer] = {}
        self._own_static = own_static
        self._records = records
        self._services = services
        self._timers = timers
        self._removed = removed

    def ensure(self, node_id: str, static: bytes, now: float) -> Peer:
        """The peer of an id, new if need be."""
        peer = self.peers.get(node_id)
        if peer is None:
            peer = Peer(node_id, static, self._own_static, self._services, now)
            self.peers[node_id] = peer
            record = self._records.get(node_id)
            if record is not None:
                peer.set_endpoints(record.endpoints, now)
            self.reschedule(peer)
        return peer

    def of(self, record: NodeRecord, now: float) -> Peer:
        """The peer that a record is of, new if need be."""
        return self.ensure(record.node_id, record.x25519, now)

    def remove(self, peer: Peer) -> None:
        """Do without a peer."""
        self.peers.pop(peer.node_id, None)
        self._timers.cancel(peer)
        peer.close()
        self._removed(peer)

    def reschedule(self, peer: Peer) -> None:
        """A peer's next deadline may be nearer than it was."""
        self._timers.schedule(peer, peer.next_deadline(), lambda now: self._due(peer, now))

    def _due(self, peer: Peer, now: float) -> None:
        if self.peers.get(peer.node_id) is peer:
            peer.handle_timer(now)
            self.reschedule(peer)

    def sweep(self, now: float) -> None:
        """Forget peers that nothing is known of any more, now and at intervals."""
        self._timers.schedule("sweep", now + _SWEEP, self.sweep)
        for peer in list(self.peers.values()):
            if not peer.up and peer.node_id not in self._records and peer.idle(now):
                self.remove(peer)
