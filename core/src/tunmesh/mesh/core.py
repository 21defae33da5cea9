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
from tunmesh.dataplane import Inside, Outside
from tunmesh.errors import BadHandshake
from tunmesh.forwarding import Forwarding
from tunmesh.membership.directory import Directory
from tunmesh.membership.records import Profile
from tunmesh.mesh.carriers import Carriers
from tunmesh.mesh.control import Control
from tunmesh.mesh.explaining import MARK, Explaining
from tunmesh.mesh.joining import Joining
from tunmesh.mesh.members import Members
from tunmesh.mesh.policies import Policies
from tunmesh.mesh.reconfiguring import own_copy, reconfigure
from tunmesh.mesh.relaying import Relaying
from tunmesh.mesh.roster import Roster
from tunmesh.session.handshake import Handshakes
from tunmesh.timers import Timers

if TYPE_CHECKING:
    from tunmesh.dataplane import Port
    from tunmesh.dataplane.tap import Tap
    from tunmesh.identity.keys import NodeKey
    from tunmesh.identity.secrets import Keyring
    from tunmesh.interfaces.transport import PathHandle
    from tunmesh.interfaces.tun import Interface, Network, Tun
    from tunmesh.membership.records import RecordVerifier
    from tunmesh.mesh.settings import MeshSettings, Observer, Resolve
    from tunmesh.peering.path import Path
    from tunmesh.peering.peer import Peer
    from tunmesh.routing.fib import Fib
    from tunmesh.session.keypair import Keypair

#: Changes of routes are told to the host together.
_SETTLE = 0.02
#: Of so many peers each may be probed often while its path is new.
_FEW_PEERS = 8
#: Handshakes that were not answered are forgotten at this interval.
_EXPIRE = 5.0


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
        settings = own_copy(settings)
        self.settings = settings
        self.key = key
        self.keyring = keyring
        self.drops = Drops()
        self.rng = rng
        self.timing = settings.paths
        self.session_timing = settings.session
        self._observer = observer
        self._clock = clock
        self._timers = Timers(wake)
        self._tap: Tap | None = None
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
        records = self.directory.records
        self.roster = Roster(key.x25519_public, records, self, self._timers, self._removed)
        self.peers = self.roster.peers
        self.carriers = Carriers(settings.advertise, self._plugin_failed)
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
        self.members = Members(
            key.node_id,
            self.directory,
            self.roster,
            self.joining,
            eager_peers=settings.eager_peers,
            invalidate=self._invalidate,
            timers=self._timers,
            clock=clock,
            observer=observer,
        )
        self.relaying = Relaying(
            self.peers,
            records,
            willing=settings.relay,
            drops=self.drops,
            clock=clock,
            receive=self._receive_relayed,
        )
        self.control = control = Control(
            self.fib,
            self.handshakes,
            self.roster,
            records,
            self.carriers,
            self.joining,
            self.relaying,
            endpoints_changed=self.endpoints_changed,
            drops=self.drops,
            clock=clock,
            observer=observer,
        )
        self.inside = Inside(tun, control, self.drops, clock)
        self.outside = Outside(
            tun, control, self.drops, clock, self.inside.claims, self.inside.verdicts
        )
        self.sealer = self.inside.sealer
        self.policies = Policies(
            self.inside.claims,
            self.inside.verdicts,
            self._timers,
            self.drops,
            observer,
            clock=clock,
            forget_flows=self.forget_flows,
        )
        self.forwarding = Forwarding(
            networks=settings.networks,
            accept_subnets=settings.accept_subnets,
            broadcast=settings.broadcast,
            broadcast_rate=settings.broadcast_rate,
            holdings=self.members.holdings,
            policies=self.policies.routes,
            node_id=key.node_id,
            invalidated=self._routes_invalid,
        )
        self.explaining = Explaining(
            self.forwarding, tun.forwards, self._say, self.inside.verdicts, clock()
        )
        # What others need of the parts, under the names that they know.
        self.receive = self.outside.receive
        self.connect = self.carriers.connect
        self.adopt = self.carriers.adopt
        self.release = self.carriers.release
        self.reschedule = self.roster.reschedule
        self.peer_suspect = self.members.suspect
        self.set_attribute = self.members.set_attribute
        self.attributes = self.members.attributes
        self.nodes = self.members.nodes
        self.node_names = self.members.names

    # What the parts need of those that are made after them.

    def _index_used(self, index: int) -> bool:
        return index in self.outside.keypairs

    def _invalidate(self) -> None:
        self.forwarding.invalidate()

    def fib(self) -> Fib:
        """The forwarding table."""
        return self.forwarding.fib()

    def _receive_relayed(self, handle: PathHandle, data: memoryview, segment_size: int) -> None:
        self.outside.receive(handle, data, segment_size)

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
        self.members.pump()

    def reconfigure(self, settings: MeshSettings) -> None:
        """Follow other settings: see `tunmesh.mesh.reconfiguring`.

        Raises:
            BadPacket: Others would not accept the record that follows from them.
        """
        reconfigure(self, settings, self._clock())

    def set_keyring(self, keyring: Keyring) -> None:
        """Use and accept other secrets from now on; sessions go on until they are renewed."""
        self.keyring = keyring
        self.handshakes.set_keyring(keyring)

    def start(self) -> None:
        """Begin to look for others."""
        now = self._clock()
        self.roster.sweep(now)
        self._timers.schedule("expire", now, self._expire)
        self._timers.schedule("bootstrap", now, self.joining.run)
        self.members.pump()

    def stop(self) -> None:
        """Say goodbye, once and without waiting for an answer."""
        now = self._clock()
        self.control.leaving = True
        self.directory.leave(now)
        self.members.pump()
        for peer in self.peers.values():
            peer.handle_timer(now)

    def _plugin_failed(self, name: str, error: Exception) -> None:
        failure = f"{type(error).__name__}: {error}"
        self._observer.event("plugin failed", plugin=name, error=failure)

    def handle_timer(self) -> None:
        """Do what is due."""
        self._timers.run(self._clock())

    def next_deadline(self) -> float:
        """When `handle_timer` is to be called next."""
        return self._timers.next_deadline()

    # ------------------------------------------------ Inbound, for the transports

    def too_big(self, handle: PathHandle, size: int) -> None:  # noqa: ARG002  # it may be a lie
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
            self.members.pump()

    # ------------------------------------------------------- for who looks at it

    def open_tap(self, tap: Tap) -> bool:
        """Show every packet to somebody; False if somebody else looks already."""
        if self._tap is not None:
            return False
        self._set_tap(tap)
        return True

    def close_tap(self, tap: Tap) -> None:
        """Show packets to somebody no longer, if they are."""
        if self._tap is tap:
            self._set_tap(None)

    def _set_tap(self, tap: Tap | None) -> None:
        self._tap = tap
        self.inside.set_tap(tap)
        self.outside.set_tap(tap)

    def name_of(self, node_id: str) -> str:
        """The name of a node, or the beginning of its id while that is unknown."""
        record = self.directory.records.get(node_id)
        return record.name if record is not None else node_id[:8]

    # ------------------------------------------------------ Services, for peers

    @property
    def few_peers(self) -> bool:
        """Whether there are so few peers that probes of all of them cost next to nothing."""
        return len(self.peers) <= _FEW_PEERS

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
        self.members.up(peer, now)

    def peer_down(self, peer: Peer, reason: str, now: float) -> None:
        """No path is alive any longer."""
        self._observer.peer_down(peer, reason)
        self._relay_gone(peer.node_id)
        self.members.down(peer, now)

    def peer_heard(self, peer: Peer, now: float) -> None:
        """The peer answered or asked just now."""
        self.directory.heard(peer.node_id, now)
        self.members.heard(peer)

    def peer_message(self, peer: Peer, message: bytes, now: float) -> None:
        """A control message came."""
        if message[:1] == bytes((MARK,)):
            self.explaining.receive(peer.node_id, message, now)
            return
        self.directory.receive(peer.node_id, message, now)
        self.members.pump()

    def _say(self, node_id: str, message: bytes, now: float) -> None:
        """Send a control message to a peer, if it is one."""
        peer = self.peers.get(node_id)
        if peer is not None:
            peer.send(message, now)

    def path_changed(self, peer: Peer, path: Path, reason: str) -> None:
        """Traffic takes another path."""
        self._observer.path_changed(peer, path, reason)

    def relays(self, peer: Peer) -> list[PathHandle]:
        """Ways to a peer through other nodes, best first."""
        return self.relaying.ways(peer.node_id)

    def flush(self, port: Port) -> None:
        """The port can send now."""
        self.inside.flush(port)

    def forget_flows(self) -> None:
        """Decide about every flow anew."""
        self.inside.forget_flows()
        for peer in self.peers.values():
            peer.port.forget_flows()

    def _routes_invalid(self) -> None:
        self.forget_flows()
        self._timers.schedule("routes", self._clock() + _SETTLE, self._tell_routes)

    def _tell_routes(self, _now: float) -> None:
        self.policies.changed()
        self._observer.routes_changed()

    def _expire(self, now: float) -> None:
        self._timers.schedule("expire", now + _EXPIRE, self._expire)
        self.handshakes.expire(now)

    def _removed(self, peer: Peer) -> None:
        self.members.set_lost(peer, lost=False)
        self._relay_gone(peer.node_id)
        self.inside.forget_flows()
