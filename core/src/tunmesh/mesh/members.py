"""What is known of other nodes, and what follows from it: whom to talk to, who holds what."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from tunmesh.forwarding import Address, Holding
from tunmesh.membership.events import Added, Changed, Conflict, ProbeHolder, Removed, Stale
from tunmesh.topology import chosen_peers

if TYPE_CHECKING:
    from tunmesh.membership.directory import Directory
    from tunmesh.membership.events import Event
    from tunmesh.mesh.joining import Joining
    from tunmesh.mesh.roster import Roster
    from tunmesh.mesh.settings import Observer
    from tunmesh.peering.peer import Peer
    from tunmesh.timers import Timers

#: Of two nodes that learn of each other the one with the larger id waits this long before it
#: dials, so that usually one handshake is made and not two.
_POLITE = 0.5
#: So many nodes are dialed as soon as they are heard of. If there are more, their records come
#: many at a time, and peers are chosen when nobody came or went for `_QUIET`, or after `_PATIENCE`.
#: Where a few are chosen of many, a choice before most are known is a waste of sessions.
_FEW = 16
_QUIET = 0.25
_QUIET_OF_MANY = 1.0
_PATIENCE = 3.0


class Members:
    """The other nodes of the mesh, as the directory knows them.

    Args:
        own_id: This node's id.
        directory: Holds their records.
        roster: The peers.
        joining: The bootstrap groups.
        eager_peers: Up to this number of nodes a session is kept with each.
        invalidate: Called when what others hold has changed.
        timers: For deadlines.
        clock: The time.
        observer: Who is told of conflicts.
    """

    def __init__(
        self,
        own_id: str,
        directory: Directory,
        roster: Roster,
        joining: Joining,
        *,
        eager_peers: int,
        invalidate: Callable[[], None],
        timers: Timers,
        clock: Callable[[], float],
        observer: Observer,
    ) -> None:
        self._own_id = own_id
        self._directory = directory
        self._roster = roster
        self._joining = joining
        self._eager_peers = eager_peers
        self._invalidate = invalidate
        self._timers = timers
        self._clock = clock
        self._observer = observer
        self._lost: set[str] = set()  # peers that were reached, and do not answer now
        self._choose_by = float("inf")

    def set_eager_peers(self, number: int) -> None:
        """Keep a session with each of so many nodes."""
        self._eager_peers = number
        self._choose_soon(self._clock())

    # ------------------------------------------------------------ what they say

    def set_attribute(self, plugin: str, value: bytes) -> None:
        """Publish what a plugin wants its peers to know; empty removes it."""
        attributes = dict(self._directory.own.attributes)
        if value:
            attributes[plugin] = value
        else:
            attributes.pop(plugin, None)
        if attributes != self._directory.own.attributes:
            self._directory.update_own(self._clock(), attributes=attributes)
            self.pump()

    def attributes(self, plugin: str) -> dict[str, bytes]:
        """What live nodes publish for a plugin, by node id."""
        return {
            node_id: record.attributes[plugin]
            for node_id, record in self._directory.records.items()
            if plugin in record.attributes and self._directory.live(node_id)
        }

    def nodes(self) -> dict[str, tuple[Address, ...]]:
        """The addresses of the other live nodes, by id."""
        return {holding.node_id: holding.addresses for holding in self.holdings()}

    def names(self) -> dict[str, str]:
        """The names of the other live nodes, by id."""
        records = self._directory.records.items()
        return {node_id: r.name for node_id, r in records if self._directory.live(node_id)}

    def holdings(self) -> Iterable[Holding]:
        """What the other live nodes hold."""
        owned = self._directory.claims.owned
        for node_id, record in self._directory.records.items():
            if self._directory.live(node_id):
                reachable = node_id not in self._lost
                yield Holding(node_id, owned(node_id), record.subnets, reachable)

    # --------------------------------------------------------- what becomes of it

    def pump(self) -> None:
        """Carry out what the directory wants."""
        now = self._clock()
        directory = self._directory
        came_or_went = False
        while (event := directory.next_event()) is not None:
            self._follow(event, now)
            came_or_went |= isinstance(event, Added | Removed)
        if came_or_went:
            self._choose_soon(now)
        for node_id, message in directory.messages_to_send():
            peer = self._roster.peers.get(node_id)
            if peer is not None:
                peer.send(message, now)
        self._timers.schedule("directory", directory.next_deadline(), self._directory_due)

    def _directory_due(self, now: float) -> None:
        self._directory.handle_timer(now)
        self.pump()

    def _follow(self, event: Event, now: float) -> None:
        """Follow a change of what is known of other nodes."""
        self._invalidate()
        peers = self._roster.peers
        if isinstance(event, Added | Changed):
            record = event.record
            peer = peers.get(record.node_id)
            if peer is not None:
                peer.set_endpoints(record.endpoints, now)
        elif isinstance(event, Removed):
            peer = peers.get(event.node_id)
            if peer is not None:
                self._observer.peer_down(peer, event.reason)
                self._roster.remove(peer)
            self._joining.node_gone(event.node_id, now)
        elif isinstance(event, ProbeHolder):
            self._ask_holder(event.node_id, now)
        if isinstance(event, Removed | Stale | ProbeHolder | Conflict):
            self._timers.schedule("claims", now, self._tell_claims)
        if isinstance(event, Conflict):
            self._observer.event(
                "address conflict",
                address=str(event.address),
                holder=event.holder,
                claimant=event.claimant,
            )

    def _tell_claims(self, _now: float) -> None:
        self._observer.claims_changed()

    def _choose_soon(self, now: float) -> None:
        known = len(self._directory.records)
        if known <= _FEW:
            self._timers.schedule("choose", now, self._choose_peers)
            return
        self._choose_by = min(self._choose_by, now + _PATIENCE)
        self._timers.cancel("choose")
        quiet = _QUIET if known < self._eager_peers else _QUIET_OF_MANY
        self._timers.schedule("choose", min(now + quiet, self._choose_by), self._choose_peers)

    def _choose_peers(self, now: float) -> None:
        """Have a session with every node of a small mesh, with a few of a large one."""
        self._choose_by = float("inf")
        records = self._directory.records
        chosen = chosen_peers(self._own_id, records, self._eager_peers)
        for peer in self._roster.peers.values():
            peer.wanted = peer.node_id in chosen
        for node_id in chosen:
            chosen_peer = self._roster.of(records[node_id], now)
            if not chosen_peer.up:
                chosen_peer.dial(now, _POLITE if node_id < self._own_id else 0.0)

    def _ask_holder(self, node_id: str, now: float) -> None:
        """Make a node answer whose address another one claims."""
        record = self._directory.records.get(node_id)
        if record is not None:
            peer = self._roster.of(record, now)
            peer.ask(now)
            if not peer.up:
                peer.hasten(now)

    # ---------------------------------------------------------- who can be reached

    def up(self, peer: Peer, now: float) -> None:
        """A peer can be reached."""
        self.set_lost(peer, lost=False)
        self._directory.connected(peer.node_id, now)
        self.pump()

    def down(self, peer: Peer, now: float) -> None:
        """A peer can no longer be reached."""
        self.set_lost(peer, lost=peer.wanted or peer.port.used)  # else nobody needs it
        self._directory.disconnected(peer.node_id, now)
        self.suspect(peer, now)
        self.pump()

    def heard(self, peer: Peer) -> None:
        """A peer answered or asked."""
        active = peer.paths.active
        if peer.node_id in self._lost and peer.up and active is not None and not active.suspect:
            self.set_lost(peer, lost=False)

    def suspect(self, peer: Peer, now: float) -> None:
        """A peer does not answer: let others stand in for it, as far as they can.

        And look who answers at the URLs by which it was found: it may be somebody new.
        """
        if peer.up:
            self.set_lost(peer, lost=True)
        self._directory.doubted(peer.node_id)
        self._timers.schedule("directory", self._directory.next_deadline(), self._directory_due)
        self._joining.node_gone(peer.node_id, now)

    def set_lost(self, peer: Peer, *, lost: bool) -> None:
        """Whether a peer that was reached does not answer any longer: others may stand in."""
        if lost != (peer.node_id in self._lost):
            (self._lost.add if lost else self._lost.discard)(peer.node_id)
            record = self._directory.records.get(peer.node_id)
            if record is not None and record.subnets:
                self._invalidate()
