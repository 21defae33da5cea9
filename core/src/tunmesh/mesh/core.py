"""The mesh as one node sees it: its peers, what it knows of the others, and the routes to them.

Ties the sans-I/O parts together and is one itself: it acts when a datagram comes or a deadline
passes, and sends through the transports' synchronous methods. A node runs it on sockets and the
machine's clock, a test runs a thousand of them on a network in memory.

Knows nothing of plugins' discovery, configuration files, or the event loop.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from tunmesh.counters import Drops
from tunmesh.dataplane import Inside, Outside, Port
from tunmesh.errors import BadHandshake, BadPacket
from tunmesh.forwarding import Address, Forwarding, Holding
from tunmesh.membership.directory import Directory
from tunmesh.membership.events import Added, Changed, Conflict, ProbeHolder, Removed, Stale
from tunmesh.membership.records import Profile
from tunmesh.mesh.carriers import Carriers
from tunmesh.mesh.joining import Joining
from tunmesh.mesh.policies import Policies
from tunmesh.mesh.relaying import Relaying
from tunmesh.peering.peer import Peer
from tunmesh.session import events
from tunmesh.session.handshake import Handshakes
from tunmesh.session.units import RELAY, RELAYED
from tunmesh.timers import Timers
from tunmesh.topology import chosen_peers

if TYPE_CHECKING:
    from tunmesh.identity.keys import NodeKey
    from tunmesh.identity.secrets import Keyring
    from tunmesh.interfaces.transport import PathHandle
    from tunmesh.interfaces.tun import Interface, Network, Tun
    from tunmesh.membership.events import Event
    from tunmesh.membership.records import NodeRecord, RecordVerifier
    from tunmesh.mesh.settings import MeshSettings, Observer, Resolve
    from tunmesh.peering.path import Path
    from tunmesh.routing.fib import Fib
    from tunmesh.session.keypair import Keypair

#: Of two nodes that learn of each other the one with the larger id waits this long before it
#: dials, so that usually one handshake is made and not two.
_POLITE = 0.5
#: Peers without session, record or handshake are forgotten at this interval.
_SWEEP = 5.0
#: Handshakes begun because of data under a keypair that this process never had.
_REDIALS_PER_SECOND = 10
#: Changes of routes are told to the host together.
_SETTLE = 0.02
#: So many nodes are dialed as soon as they are heard of. If there are more, their records come
#: many at a time, and peers are chosen when nobody came or went for `_QUIET`, or after `_PATIENCE`.
#: Where a few are chosen of many, a choice before most are known is a waste of sessions.
_FEW = 16
_QUIET = 0.25
_QUIET_OF_MANY = 1.0
_PATIENCE = 3.0


class Mesh:
    """One node's part of the mesh.

    Args:
        settings: From the configuration.
        key: This node's key.
        keyring: The mesh secrets.
        tun: The device, open.
        name: This node's name.
        observer: Who is told what happens.
        clock: Seconds that never jump.
        wall_ns: Nanoseconds since 1970, for the handshakes' timestamps only.
        rng: For jitter and for ids that need no secrecy.
        boot_id: 8 random bytes of this process.
        resolve: Finds the endpoints of a URL.
        wake: Called when the next deadline has become earlier.
        verifier: Shared by the nodes of one process.
    """

    def __init__(
        self,
        settings: MeshSettings,
        key: NodeKey,
        keyring: Keyring,
        tun: Tun,
        *,
        name: str,
        observer: Observer,
        clock: Callable[[], float],
        wall_ns: Callable[[], int],
        rng: random.Random,
        boot_id: bytes,
        resolve: Resolve,
        wake: Callable[[float], None],
        verifier: RecordVerifier | None = None,
    ) -> None:
        self.settings = settings
        self.key = key
        self.drops = Drops()
        self.rng = rng
        self.timing = settings.paths
        self.session_timing = settings.session
        self.peers: dict[str, Peer] = {}
        self.handshakes = Handshakes(
            key,
            keyring,
            boot_id=boot_id,
            suites=settings.suites,
            hardware_aes=settings.hardware_aes,
            max_datagram=65_507,
            wall_ns=wall_ns,
            timing=settings.session,
            drops=self.drops,
            index_used=self._index_used,
        )
        self.directory = Directory(
            key,
            boot_id.hex(),
            rng,
            profile=Profile(name=name, relay=settings.relay),
            now=clock(),
            timing=settings.directory,
            verifier=verifier,
            initial_seq=wall_ns() // 1_000_000,
        )
        self.inside = Inside(tun, self, self.drops, clock)
        self.outside = Outside(tun, self, self.drops, clock, self.inside.claims)
        self.sealer = self.inside.sealer
        self._timers = Timers(wake)
        self.policies = Policies(self.inside.claims, self._timers, self.drops, observer)
        self.forwarding = Forwarding(
            networks=settings.networks,
            accept_subnets=settings.accept_subnets,
            broadcast=settings.broadcast,
            broadcast_rate=settings.broadcast_rate,
            holdings=self._holdings,
            policies=self.policies.routes,
            node_id=key.node_id,
            invalidated=self._routes_invalid,
        )
        self.receive = self.outside.receive
        self.relaying = Relaying(
            self.peers,
            self.directory.records,
            willing=settings.relay,
            drops=self.drops,
            clock=clock,
            receive=self.receive,
        )
        self._observer = observer
        self._clock = clock
        self.carriers = Carriers(settings.advertise)
        self.joining = Joining(
            key.node_id,
            self.carriers,
            self.handshakes.query,
            resolve=resolve,
            timers=self._timers,
            clock=clock,
            observer=observer,
            rng=rng,
        )
        self.connect = self.carriers.connect
        self.adopt = self.carriers.adopt
        self.release = self.carriers.release
        self._redials: list[float] = []
        self._lost: set[str] = set()  # peers that were reached, and do not answer now
        self._choose_by = float("inf")

    # -------------------------------------------------------------- life cycle

    def announce(
        self, *, addresses: tuple[Interface, ...], subnets: tuple[tuple[Network, int], ...],
        versions: dict[str, str],
    ) -> None:  # fmt: skip
        """What this node says of itself."""
        self.forwarding.set_own(addresses, [prefix for prefix, _ in subnets])
        self.directory.update_own(
            self._clock(),
            addresses=tuple(map(str, addresses)),
            subnets=tuple((str(prefix), metric) for prefix, metric in subnets),
            transports=tuple(transport.name for transport in self.carriers.transports),
            versions=versions,
            endpoints=self.carriers.endpoints(),
        )
        self._pump()

    def set_attribute(self, plugin: str, value: bytes) -> None:
        """Publish what a plugin wants its peers to know; empty removes it."""
        attributes = dict(self.directory.own.attributes)
        if value:
            attributes[plugin] = value
        else:
            attributes.pop(plugin, None)
        if attributes != self.directory.own.attributes:
            self.directory.update_own(self._clock(), attributes=attributes)
            self._pump()

    def attributes(self, plugin: str) -> dict[str, bytes]:
        """What live nodes publish for a plugin, by node id."""
        return {
            node_id: record.attributes[plugin]
            for node_id, record in self.directory.records.items()
            if plugin in record.attributes and self.directory.live(node_id)
        }

    def nodes(self) -> dict[str, tuple[Address, ...]]:
        """The addresses of the other live nodes, by id."""
        return {holding.node_id: holding.addresses for holding in self._holdings()}

    def start(self) -> None:
        """Begin to look for others."""
        now = self._clock()
        self._timers.schedule("sweep", now + _SWEEP, self._sweep)
        self._timers.schedule("bootstrap", now, self.joining.run)
        self._pump()

    def stop(self) -> None:
        """Say goodbye, once and without waiting for an answer."""
        now = self._clock()
        self.directory.leave(now)
        self._pump()
        for peer in self.peers.values():
            peer.handle_timer(now)

    def handle_timer(self) -> None:
        """Do what is due."""
        self._timers.run(self._clock())

    def next_deadline(self) -> float:
        """When `handle_timer` is to be called next."""
        return self._timers.next_deadline()

    # ------------------------------------------------ Inbound, for the transports

    def too_big(self, handle: PathHandle, size: int) -> None:
        """The underlay refused a datagram; its unit is lost. Probes find out what passes."""
        self.drops["too_big"] += 1
        for peer in self.peers.values():
            peer.path_doubted(handle, self._clock())

    def path_closed(self, handle: PathHandle, reason: str) -> None:
        """A transport lost a path."""
        self.carriers.closed(handle)
        for peer in list(self.peers.values()):
            peer.path_closed(handle, reason, self._clock())

    def _relay_gone(self, node_id: str) -> None:
        """What leads through a node does so no longer."""
        for handle in self.relaying.through(node_id):
            self.relaying.release(handle)
            self.path_closed(handle, "relay gone")

    def endpoints_changed(self) -> None:
        """A transport can be reached otherwise than before."""
        self._observer.underlay_changed()
        endpoints = self.carriers.endpoints()
        if endpoints != self.directory.own.endpoints:
            self.directory.update_own(self._clock(), endpoints=endpoints)
            self._pump()

    def _index_used(self, index: int) -> bool:
        return index in self.outside.keypairs

    # ------------------------------------------------ Control, for the data plane

    def fib(self) -> Fib:
        """The forwarding table."""
        return self.forwarding.fib()

    def handshake(self, handle: PathHandle, datagram: bytes) -> None:
        """A datagram that is no data."""
        now = self._clock()
        known = self.carriers.uses(handle)
        for event in self.handshakes.receive(
            datagram, handle.source, handle.endpoint, now, known=known
        ):
            if isinstance(event, events.Send):
                handle.transport.send(handle, (event.datagram,), len(event.datagram))
            elif isinstance(event, events.Established):
                remote = event.remote
                peer = self._peer(remote.node_id, remote.static, now)
                peer.established(event.keypair, remote, handle, now)
                if handle.transport.reveals_endpoint and self.carriers.saw(remote.observed):
                    self.endpoints_changed()
            elif isinstance(event, events.KeyLearned):
                self._key_learned(event, handle, now)
            elif isinstance(event, events.Retry):
                for peer in self.peers.values():
                    if peer.static == event.static:
                        peer.retry(handle, now)
            else:
                self._observer.event("no common cipher", peer=event.node_id)

    def unknown_index(self, handle: PathHandle) -> None:
        """Data for a keypair that this process never had: a peer does not know of its restart."""
        now = self._clock()
        self._redials = [then for then in self._redials if then > now - 1.0]
        if len(self._redials) >= _REDIALS_PER_SECOND:
            return
        for peer in self.peers.values():
            if not peer.up and peer.has_endpoint(handle.endpoint):
                self._redials.append(now)
                peer.hasten(now)
                return

    def heard(self, keypair: Keypair, handle: PathHandle) -> None:
        """An authentic unit came under a keypair or along a path that is not the expected one."""
        peer = self.peers.get(keypair.peer.node_id)
        if peer is not None:
            peer.heard(keypair, handle, self._clock())

    def item(self, keypair: Keypair, handle: PathHandle, kind: int, body: bytes) -> None:
        """An item of an authentic unit that is no frame."""
        peer = self.peers.get(keypair.peer.node_id)
        if peer is None:
            return
        try:
            if kind in (RELAY, RELAYED):
                self.relaying.take(peer.node_id, handle, kind, body)
            else:
                peer.item(keypair, handle, kind, body, self._clock())
        except BadPacket:
            self.drops["bad_packet"] += 1

    def port(self, node_id: str) -> Port | None:
        """The port of a node that a route leads to."""
        peer = self.peers.get(node_id)
        if peer is None:
            record = self.directory.records.get(node_id)
            if record is None:
                return None
            peer = self._peer_of(record, self._clock())
        return peer.port

    def wanted(self, port: Port) -> None:
        """Packets wait for a peer that has no session."""
        peer = self.peers.get(port.node_id)
        if peer is not None and not peer.up:
            peer.hasten(self._clock())

    # ------------------------------------------------------ Services, for peers

    def initiation(self, static: bytes, now: float) -> bytes | None:
        """A handshake initiation; None for a key that cannot be."""
        try:
            return self.handshakes.initiate(static, now).datagram
        except BadHandshake:
            return None  # a key of low order: nobody can have it

    def install(self, keypair: Keypair) -> None:
        """Let what arrives for a keypair be found."""
        self.outside.keypairs[keypair.local_index] = keypair

    def uninstall(self, keypairs: Iterable[Keypair]) -> None:
        """Forget keypairs."""
        for keypair in keypairs:
            self.outside.keypairs.pop(keypair.local_index, None)

    def peer_up(self, peer: Peer, now: float) -> None:
        """The session is confirmed and a path is alive."""
        self._observer.peer_up(peer)
        self._set_lost(peer, lost=False)
        self.directory.connected(peer.node_id, now)
        self._pump()

    def peer_down(self, peer: Peer, reason: str, now: float) -> None:
        """No path is alive any longer."""
        self._observer.peer_down(peer, reason)
        self._set_lost(peer, lost=peer.wanted or peer.port.used)  # else nobody needs it
        self.directory.disconnected(peer.node_id, now)
        self._relay_gone(peer.node_id)
        self.peer_suspect(peer, now)
        self._pump()

    def peer_suspect(self, peer: Peer, now: float) -> None:
        """Look who answers at the URLs by which the peer was found: it may be somebody new."""
        self.joining.node_gone(peer.node_id, now)

    def peer_heard(self, peer: Peer, now: float) -> None:
        """The peer answered or asked just now."""
        self.directory.heard(peer.node_id, now)

    def peer_message(self, peer: Peer, message: bytes, now: float) -> None:
        """A control message came."""
        self.directory.receive(peer.node_id, message, now)
        self._pump()

    def path_changed(self, peer: Peer, path: Path, reason: str) -> None:
        """Traffic takes another path."""
        self._observer.path_changed(peer, path, reason)

    def relays(self, peer: Peer) -> list[PathHandle]:
        """Ways to a peer through other nodes, best first."""
        return self.relaying.ways(peer.node_id)

    def flush(self, port: Port) -> None:
        """The port can send now."""
        self.inside.flush(port)

    def reschedule(self, peer: Peer) -> None:
        """A peer's next deadline may be nearer than it was."""
        self._timers.schedule(peer, peer.next_deadline(), lambda now: self._peer_due(peer, now))

    def _peer_due(self, peer: Peer, now: float) -> None:
        if self.peers.get(peer.node_id) is peer:
            peer.handle_timer(now)
            self.reschedule(peer)

    def _key_learned(self, event: events.KeyLearned, handle: PathHandle, now: float) -> None:
        if self.joining.answered(event):
            peer = self._peer(event.node_id, event.static, now)
            peer.add_endpoint(handle.endpoint)
            if not peer.up:
                peer.hasten(now)

    # --------------------------------------------------------------- membership

    def _pump(self) -> None:
        """Carry out what the directory wants."""
        now = self._clock()
        directory = self.directory
        came_or_went = False
        while (event := directory.next_event()) is not None:
            self._member(event, now)
            came_or_went |= isinstance(event, Added | Removed)
        if came_or_went:
            self._choose_soon(now)
        for node_id, message in directory.messages_to_send():
            peer = self.peers.get(node_id)
            if peer is not None:
                peer.send(message, now)
        self._timers.schedule("directory", directory.next_deadline(), self._directory_due)

    def _directory_due(self, now: float) -> None:
        self.directory.handle_timer(now)
        self._pump()

    def _member(self, event: Event, now: float) -> None:
        """Follow a change of what is known of other nodes."""
        self.forwarding.invalidate()
        if isinstance(event, Added | Changed):
            record = event.record
            peer = self.peers.get(record.node_id)
            if peer is not None:
                peer.set_endpoints(record.endpoints, now)
        elif isinstance(event, Removed):
            peer = self.peers.get(event.node_id)
            if peer is not None:
                self._observer.peer_down(peer, event.reason)
                self._remove(peer)
            self.joining.node_gone(event.node_id, now)
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

    def _choose_soon(self, now: float) -> None:
        known = len(self.directory.records)
        if known <= _FEW:
            self._timers.schedule("choose", now, self._choose_peers)
            return
        self._choose_by = min(self._choose_by, now + _PATIENCE)
        self._timers.cancel("choose")
        quiet = _QUIET if known < self.settings.eager_peers else _QUIET_OF_MANY
        self._timers.schedule("choose", min(now + quiet, self._choose_by), self._choose_peers)

    def _choose_peers(self, now: float) -> None:
        """Have a session with every node of a small mesh, with a few of a large one."""
        self._choose_by = float("inf")
        records = self.directory.records
        chosen = chosen_peers(self.key.node_id, records, self.settings.eager_peers)
        for peer in self.peers.values():
            peer.wanted = peer.node_id in chosen
        for node_id in chosen:
            chosen_peer = self._peer_of(records[node_id], now)
            if not chosen_peer.up:
                chosen_peer.dial(now, _POLITE if node_id < self.key.node_id else 0.0)

    def _ask_holder(self, node_id: str, now: float) -> None:
        """Make a node answer whose address another one claims."""
        record = self.directory.records.get(node_id)
        if record is not None:
            peer = self._peer_of(record, now)
            peer.ask(now)
            if not peer.up:
                peer.hasten(now)

    def _holdings(self) -> Iterable[Holding]:
        owned = self.directory.claims.owned
        for node_id, record in self.directory.records.items():
            if self.directory.live(node_id):
                reachable = node_id not in self._lost
                yield Holding(node_id, owned(node_id), record.subnets, reachable)

    def _set_lost(self, peer: Peer, *, lost: bool) -> None:
        """Whether a peer that was reached does not answer any longer: others may stand in."""
        if lost != (peer.node_id in self._lost):
            (self._lost.add if lost else self._lost.discard)(peer.node_id)
            record = self.directory.records.get(peer.node_id)
            if record is not None and record.subnets:
                self.forwarding.invalidate()

    def _peer(self, node_id: str, static: bytes, now: float) -> Peer:
        peer = self.peers.get(node_id)
        if peer is None:
            peer = Peer(node_id, static, self.key.x25519_public, self, now)
            self.peers[node_id] = peer
            record = self.directory.records.get(node_id)
            if record is not None:
                peer.set_endpoints(record.endpoints, now)
            self.reschedule(peer)
        return peer

    def _peer_of(self, record: NodeRecord, now: float) -> Peer:
        return self._peer(record.node_id, record.x25519, now)

    def _routes_invalid(self) -> None:
        self.inside.forget_flows()
        for peer in self.peers.values():
            peer.port.verified.clear()
        self._timers.schedule("routes", self._clock() + _SETTLE, self._tell_routes)

    def _tell_claims(self, _now: float) -> None:
        self._observer.claims_changed()

    def _tell_routes(self, _now: float) -> None:
        self.policies.changed()
        self._observer.routes_changed()

    def _sweep(self, now: float) -> None:
        """Forget peers that nothing is known of any more."""
        self._timers.schedule("sweep", now + _SWEEP, self._sweep)
        self.handshakes.expire(now)
        for peer in list(self.peers.values()):
            if not peer.up and peer.node_id not in self.directory.records and peer.idle(now):
                self._remove(peer)

    def _remove(self, peer: Peer) -> None:
        self.peers.pop(peer.node_id, None)
        self._set_lost(peer, lost=False)
        self._timers.cancel(peer)
        peer.close()
        self._relay_gone(peer.node_id)
        self.inside.forget_flows()
