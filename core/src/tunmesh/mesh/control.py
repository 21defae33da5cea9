"""What the data plane tells: handshakes, control items, and packets that want a peer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from tunmesh.errors import BadPacket
from tunmesh.session import events
from tunmesh.session.units import RELAY, RELAYED

if TYPE_CHECKING:
    from tunmesh.counters import Drops
    from tunmesh.dataplane import Port
    from tunmesh.interfaces.transport import PathHandle
    from tunmesh.membership.records import NodeRecord
    from tunmesh.mesh.carriers import Carriers
    from tunmesh.mesh.joining import Joining
    from tunmesh.mesh.relaying import Relaying
    from tunmesh.mesh.roster import Roster
    from tunmesh.mesh.settings import Observer
    from tunmesh.routing.fib import Fib
    from tunmesh.session.handshake import Handshakes
    from tunmesh.session.keypair import Keypair

#: Handshakes begun because of data under a keypair that this process never had.
_REDIALS_PER_SECOND = 10


class Control:
    """Implements `tunmesh.dataplane.Control`.

    Args:
        fib: The forwarding table.
        handshakes: Takes what is no data.
        roster: The peers.
        records: What is known of other nodes.
        carriers: The transports.
        joining: The bootstrap groups.
        relaying: Takes what is relayed.
        endpoints_changed: Called when another node told where it sees this one.
        drops: Where malformed items are counted.
        clock: The time.
        observer: Who is told what goes wrong.

    Attributes:
        handshakes: What became of messages of handshakes, by transport and result.
        leaving: Whether this node has said goodbye: who answered now would be taken for alive.
    """

    def __init__(
        self,
        fib: Callable[[], Fib],
        handshakes: Handshakes,
        roster: Roster,
        records: Mapping[str, NodeRecord],
        carriers: Carriers,
        joining: Joining,
        relaying: Relaying,
        *,
        endpoints_changed: Callable[[], None],
        drops: Drops,
        clock: Callable[[], float],
        observer: Observer,
    ) -> None:
        self.fib = fib
        self._handshakes = handshakes
        self._roster = roster
        self._records = records
        self._carriers = carriers
        self._joining = joining
        self._relaying = relaying
        self._endpoints_changed = endpoints_changed
        self._drops = drops
        self._clock = clock
        self._observer = observer
        self._redials: list[float] = []
        self.handshakes: dict[str, Counter[str]] = {}
        self.leaving = False

    def handshake(self, handle: PathHandle, datagram: bytes) -> None:
        """A datagram that is no data."""
        if self.leaving:
            return
        now = self._clock()
        known = self._carriers.uses(handle)
        counters = self._handshakes.counters
        before = dict(counters)
        found = self._handshakes.receive(datagram, handle.source, handle.endpoint, now, known=known)
        if counters != before:
            results = self.handshakes.setdefault(handle.transport.name, Counter())
            results.update({name: n - before[name] for name, n in counters.items()})
        for event in found:
            if isinstance(event, events.Send):
                handle.transport.send(handle, (event.datagram,), len(event.datagram))
            elif isinstance(event, events.Established):
                remote = event.remote
                peer = self._roster.ensure(remote.node_id, remote.static, now)
                peer.established(event.keypair, remote, handle, now)
                if handle.transport.reveals_endpoint and self._carriers.saw(remote.observed):
                    self._endpoints_changed()
            elif isinstance(event, events.KeyLearned):
                self._key_learned(event, handle, now)
            elif isinstance(event, events.Retry):
                for peer in self._roster.peers.values():
                    if peer.static == event.static:
                        peer.retry(handle, now)
            else:
                self._observer.event("no common cipher", peer=event.node_id)

    def _key_learned(self, event: events.KeyLearned, handle: PathHandle, now: float) -> None:
        if self._joining.answered(event):
            peer = self._roster.ensure(event.node_id, event.static, now)
            peer.add_endpoint(handle.endpoint)
            if not peer.up:
                peer.hasten(now)

    def unknown_index(self, handle: PathHandle) -> None:
        """Data for a keypair that this process never had: a peer does not know of its restart."""
        now = self._clock()
        self._redials = [then for then in self._redials if then > now - 1.0]
        if len(self._redials) >= _REDIALS_PER_SECOND:
            return
        for peer in self._roster.peers.values():
            if not peer.up and peer.has_endpoint(handle.endpoint):
                self._redials.append(now)
                peer.hasten(now)
                return

    def heard(self, keypair: Keypair, handle: PathHandle) -> None:
        """An authentic unit came under a keypair or along a path that is not the expected one."""
        peer = self._roster.peers.get(keypair.peer.node_id)
        if peer is not None:
            peer.heard(keypair, handle, self._clock())

    def item(self, keypair: Keypair, handle: PathHandle, kind: int, body: bytes) -> None:
        """An item of an authentic unit that is no frame."""
        peer = self._roster.peers.get(keypair.peer.node_id)
        if peer is None:
            return
        try:
            if kind in (RELAY, RELAYED):
                self._relaying.take(peer.node_id, handle, kind, body)
            else:
                peer.item(keypair, handle, kind, body, self._clock())
        except BadPacket:
            self._drops["bad_packet"] += 1

    def port(self, node_id: str) -> Port | None:
        """The port of a node that a route leads to."""
        peer = self._roster.peers.get(node_id)
        if peer is None:
            record = self._records.get(node_id)
            if record is None:
                return None
            peer = self._roster.of(record, self._clock())
        return peer.port

    def woken(self, port: Port) -> None:
        """Packets for a peer, the first for a while."""
        peer = self._roster.peers.get(port.node_id)
        if peer is not None and peer.up:
            peer.woken(self._clock())

    def wanted(self, port: Port) -> None:
        """Packets wait for a peer that has no session."""
        peer = self._roster.peers.get(port.node_id)
        if peer is not None and not peer.up:
            peer.hasten(self._clock())
