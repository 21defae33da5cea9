"""A peer: one session, many paths, and the reliable channel inside.

Sans-I/O: datagrams leave through the transports' synchronous `send`, the time is an argument.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from tunmesh.dataplane import Port
from tunmesh.errors import BadPacket
from tunmesh.peering.carried import Carried
from tunmesh.peering.channel import Channel
from tunmesh.peering.dialer import Dialer
from tunmesh.peering.endpoints import Endpoints
from tunmesh.peering.paths import Paths
from tunmesh.peering.relayed import Relayed, is_relayed
from tunmesh.peering.voice import Voice
from tunmesh.session.session import Session
from tunmesh.session.units import CONFIRM, CONTROL, PAD, PROBE, PROBE_REPLY

if TYPE_CHECKING:
    from tunmesh.interfaces.transport import PathHandle
    from tunmesh.peering.services import Services
    from tunmesh.session.events import Remote
    from tunmesh.session.keypair import Keypair

#: A peer without session that nothing was heard of for so long may be forgotten.
_IDLE = 30.0
#: Handshakes of one peer that wait for their first unit.
_MOST_CONFIRMING = 8
#: The session's age is looked at this often.
_HOUSEKEEPING = 1.0
#: Endpoints to which there is no path, as that of a stream that broke, are tried this often.
_TRY_AGAIN = 10.0


class Peer:
    """Another node, as this one sees it.

    Args:
        node_id: Its id.
        static: Its X25519 public key.
        own_static: This node's X25519 public key.
        services: The mesh.
        now: The time.

    Attributes:
        port: What the data plane sees of it.
        carried: Its traffic by transport.
        up: Whether the session is confirmed and a path is alive.
        wanted: Whether a session is to be kept; else it is made when packets want it, and ages out.
        last_heard: When something authentic came last, beyond packets.
        observed: This node's endpoint as the peer sees it.
    """

    def __init__(
        self, node_id: str, static: bytes, own_static: bytes, services: Services, now: float
    ) -> None:
        self.node_id = node_id
        self.static = static
        self.port = Port(node_id)
        self.carried = Carried(self.port)
        self.session = Session(own_static, static, services.session_timing)
        self.channel = Channel(services.rng)
        self._voice = Voice(self.port, services.sealer)
        self.paths = Paths(services, self._voice.probe, self._says)
        self.up = False
        self.wanted = True
        self.last_heard = now
        self.observed: str | None = None
        self._services = services
        self._boot_id = b""
        self._endpoints = Endpoints(services.connect)
        self._dialer = Dialer(static, self._endpoints, self.paths, services)
        self._relayed = Relayed(self.paths, lambda: services.relays(self))
        self._housekeeping = now + _HOUSEKEEPING
        self._try_again = float("inf")
        self._confirming: dict[Keypair, PathHandle] = {}
        self._received = 0  # packets, when the active path was probed last

    def __repr__(self) -> str:
        return f"<Peer {self.node_id[:8]} {'up' if self.up else 'connecting'}>"

    # --------------------------------------------------------------- endpoints

    def set_endpoints(self, endpoints: Iterable[str], now: float) -> None:
        """The endpoints that the peer announces, best first."""
        if self._endpoints.replace(endpoints) and self.up:
            self._try_endpoints(now)

    def add_endpoint(self, endpoint: str) -> None:
        """An endpoint that was heard of elsewhere, as from the configuration."""
        self._endpoints.add(endpoint)

    def has_endpoint(self, endpoint: str) -> bool:
        """Whether the peer may be there."""
        return endpoint in self._endpoints or any(
            path.handle.endpoint == endpoint for path in self.paths
        )

    def _says(self, endpoint: str) -> bool:
        """Whether an endpoint is the peer's by its own word, or a way through another node."""
        return endpoint in self._endpoints or is_relayed(endpoint)

    def _try_endpoints(self, now: float) -> None:
        """Have a path for every endpoint: one of them may be better, or needed soon."""
        self._try_again = now + _TRY_AGAIN
        for handle in self._endpoints.handles():
            self.paths.ensure(handle, now)
        self._services.reschedule(self)

    def path_doubted(self, handle: PathHandle, now: float) -> None:
        """Something says that a path carries smaller datagrams than was thought."""
        path = self.paths.get(handle)
        if path is not None:
            self.paths.doubt(path, now)
            self._services.reschedule(self)

    def path_closed(self, handle: PathHandle, reason: str, now: float) -> None:
        """The transport lost a path."""
        path = self.paths.get(handle)
        if path is not None:
            self.paths.dead(path, now, reason)
            self._follow(now)
            if path is not self.paths.active:
                self.paths.forget(path)

    # --------------------------------------------------------------- handshakes

    @property
    def dialing(self) -> bool:
        """Whether a session is being made."""
        return self._dialer.running

    def dial(self, now: float, delay: float = 0.0) -> None:
        """Begin to make a session, unless that is under way already."""
        if self._dialer.begin(now + delay):
            self._services.reschedule(self)

    def renew(self, now: float) -> None:
        """Make another session in place of the one there is, which is used until then.

        Not so soon after that one that both might be taken for opened at once.
        """
        current = self.session.current
        if current is not None:
            age = now - current.created
            self.dial(now, max(0.0, self._services.session_timing.simultaneous - age))

    def hasten(self, now: float) -> None:
        """Make a session soon: packets wait for it, or the peer has just been seen."""
        self.dial(now)
        if self._dialer.hasten(now):
            self._services.reschedule(self)

    def retry(self, handle: PathHandle, now: float) -> None:
        """Send an initiation at once to where a cookie or a challenge came from."""
        self._dialer.retry(handle, now)

    def established(self, keypair: Keypair, remote: Remote, handle: PathHandle, now: float) -> None:
        """A handshake succeeded; `handle` is where its last message came from."""
        keypair.peer = self.port
        self._services.install(keypair)
        self._services.uninstall(self.session.install(keypair, now))
        if keypair.initiator:
            self.observed = remote.observed
            self._confirmed(keypair, handle, now)
            self._voice.item(handle, CONFIRM, b"")
        else:  # nothing is committed before the peer has shown that it holds the keys
            self._confirming[keypair] = handle
            while len(self._confirming) > _MOST_CONFIRMING:
                del self._confirming[next(iter(self._confirming))]
        self._services.reschedule(self)

    def _confirmed(self, keypair: Keypair, handle: PathHandle | None, now: float) -> None:
        """Both sides have a keypair; `handle` was proven on the way, if it is given."""
        self._dialer.done()
        self.last_heard = now
        if keypair.boot_id != self._boot_id:  # another process: what was said before is lost
            self._boot_id = keypair.boot_id
            self.channel.restart()
            if self.up:
                self._down("restarted", now)
                self._dialer.done()
        if handle is not None:
            self.paths.proven(self.paths.ensure(handle, now), now, "handshake")
        self._follow(now)
        self._services.peer_heard(self, now)

    # ---------------------------------------------------------------- receiving

    def heard(self, keypair: Keypair, handle: PathHandle, now: float) -> None:
        """An authentic unit came under an unexpected keypair or along an unexpected path."""
        self.last_heard = now
        if not keypair.confirmed:
            self._services.uninstall(self.session.authenticated(keypair, now))
            came_from = self._confirming.pop(keypair, None)
            self._confirmed(keypair, handle if handle is came_from else None, now)
        self.port.rx_keypair = keypair
        path = self.paths.get(handle)
        if path is not None and path.state == "up":
            self.port.rx_handle = handle
        elif is_relayed(handle.endpoint) and not self._relayed.needed:
            self.paths.hasten(now)  # the peer cannot reach this node directly: see whether so
        else:
            self.paths.challenge(handle, now)
            self._services.reschedule(self)

    def item(
        self, keypair: Keypair, handle: PathHandle, kind: int, body: bytes, now: float
    ) -> None:
        """An item of an authentic unit that is no frame.

        Raises:
            BadPacket: It is malformed.
        """
        self.last_heard = now
        if kind == PROBE:
            self._voice.answer(keypair, handle, body)
            self._services.peer_heard(self, now)
            if self.paths.active is None:
                self.paths.challenge(handle, now)
        elif kind == PROBE_REPLY:
            if self.paths.reply(body, now):
                self._follow(now)
                self._services.peer_heard(self, now)
                self._services.reschedule(self)
        elif kind == CONTROL:
            message = self.channel.receive(body, now)
            try:
                if message is not None:
                    self._services.peer_message(self, message, now)
            finally:
                self._send_control(now)  # the acknowledgement, and what was said in answer
        elif kind not in (CONFIRM, PAD):
            raise BadPacket(f"item of unknown kind {kind}")

    # ------------------------------------------------------------------ sending

    def send(self, message: bytes, now: float) -> None:
        """Send a control message reliably."""
        self.channel.send(message, now)
        self._services.reschedule(self)

    def ask(self, now: float) -> None:
        """Probe the peer now, wherever it may be."""
        for path in self.paths:
            self.paths.ask(path, now)

    def _send_control(self, now: float) -> None:
        if self.paths.active is not None:
            self._voice.control(self.channel, self.paths.active, now)

    # -------------------------------------------------------------------- timer

    def next_deadline(self) -> float:
        """When `handle_timer` is to be called next."""
        deadline = min(self._dialer.deadline, self._housekeeping)
        if self.up:
            deadline = min(deadline, self.channel.next_deadline())
        if self.port.tx_keypair is not None:
            deadline = min(deadline, self.paths.next_deadline())
        return deadline

    def handle_timer(self, now: float) -> None:
        """Do what is due."""
        if now >= self._housekeeping:
            self._housekeeping = now + _HOUSEKEEPING
            self._keep_house(now)
        if now >= self._dialer.deadline:
            self._dial(now)
        if self.port.tx_keypair is not None:
            self.paths.settle(now)
            active = self.paths.active
            probed = active is not None and now >= active.next_probe
            self.paths.probe_due(now, busy=self._busy)
            if probed:
                self.port.used = False
                self._received = self.port.rx_packets
            if self.paths.active is not None and self.paths.active.suspect:
                self._relayed.seek(now)
                self._services.peer_suspect(self, now)
            self._follow(now)
        if self.up:
            self._send_control(now)

    @property
    def _busy(self) -> bool:
        """Whether packets were sent or received since the active path was probed last."""
        return self.port.used or self.port.rx_packets != self._received

    def _dial(self, now: float) -> None:
        if self._dialer.fails_directly and self.paths.active is None:
            self._relayed.seek(now)
        if self._dialer.fails:
            self._services.peer_suspect(self, now)
        self._dialer.run(now)

    def woken(self, now: float) -> None:
        """Packets are sent, the first for a while."""
        self.paths.hasten(now)
        self._services.reschedule(self)

    def _keep_house(self, now: float) -> None:
        expired = self.session.expire(now)
        self._services.uninstall(expired)
        for keypair in expired:
            self.port.reassembler.forget(keypair)
            self._confirming.pop(keypair, None)
        self._services.drops["incomplete"] += self.port.reassembler.expire(now)
        self.paths.forget_dead(now)
        self._relayed.tidy(now)
        if self.up and now >= self._try_again:
            self._try_endpoints(now)
        if (self.wanted or self.port.used) and self.session.needs_handshake(now):
            self.dial(now)
        self._follow(now)

    def idle(self, now: float) -> bool:
        """Whether nothing has come of it for long: no session, no answer."""
        return not self.up and now - self.last_heard > _IDLE

    # -------------------------------------------------------------------- state

    def _follow(self, now: float) -> None:
        """Bring the data plane and the state in line with the session and the paths."""
        port = self.port
        port.tx_keypair = self.session.sending(now)
        port.rx_keypair = self.session.current
        active = self.paths.active
        if active is None or port.tx_keypair is None:
            port.handle = port.rx_handle = None
            if self.up:
                self._down(self.paths.reason if active is None else "session expired", now)
            return
        if port.handle is not active.handle:
            port.rx_handle = active.handle
            self.carried.switch(active.handle.transport.name)
            self._services.path_changed(self, active, self.paths.reason)
        port.slice_size = active.slice_size
        port.bulk_limit = active.loss.bulk_limit(active.slice_size)
        port.handle = active.handle
        if not self.up:
            self.up = True
            self._dialer.done()
            self._services.peer_up(self, now)
            self._try_endpoints(now)
            self._services.flush(port)

    def _down(self, reason: str, now: float) -> None:
        self.up = False
        self._services.peer_down(self, reason, now)
        if self.wanted or self.port.used:
            self.dial(now)

    def close(self) -> None:
        """Forget session and paths."""
        self._services.uninstall(self.session.close())
        self.paths.clear()
        self.port.tx_keypair = self.port.handle = None
        self.up = self.wanted = False
