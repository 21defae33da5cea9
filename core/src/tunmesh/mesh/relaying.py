"""Carrying datagrams through a third node that has sessions with both ends.

To the peers at the ends this is one more transport, the last that is used: handshakes and sealed
units pass it as they pass any other. Trains of datagrams travel as items of the units that are
exchanged with the relay::

    RELAY     target's id 16 | bytes of a datagram u16 | datagrams     end → relay
    RELAYED   source's id 16 | bytes of a datagram u16 | datagrams     relay → other end

The relay sees ciphertext and forwards it at once or not at all, to a node to which it has a direct
path. What was relayed is not relayed again.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

from tunmesh.errors import BadPacket, EndpointError
from tunmesh.interfaces.transport import PathHandle, Transport
from tunmesh.peering.relayed import SCHEME
from tunmesh.session.limits import TokenBucket
from tunmesh.session.units import HEADER_SIZE, ITEM_PREFIX, PREFIX, RELAY, RELAYED, TAG_SIZE, Sealer

if TYPE_CHECKING:
    from tunmesh.counters import Drops
    from tunmesh.dataplane import Port
    from tunmesh.interfaces.tun import Buffer
    from tunmesh.membership.records import NodeRecord
    from tunmesh.peering.peer import Peer

_HEAD = struct.Struct("!16sH")
_OVERHEAD = ITEM_PREFIX + _HEAD.size + TAG_SIZE
#: A datagram, and so a slice of the inner unit: with its wrapping one slice of the outer unit, on
#: every path that carries 1072 bytes. A multiple of 8, as the opener likes it.
MAX_DATAGRAM = 1016
_LEAST_DATAGRAM = HEADER_SIZE + TAG_SIZE
#: Datagrams in one item. A train of these fits one outer unit, which takes one system call.
_MAX_SEGMENTS = 60
#: Bytes a second that one node may have relayed, and at once: more than a core can carry.
_RATE = 250e6
_BURST = 16e6
#: Datagrams count as at least so many bytes.
_LEAST_COST = 256
#: Larger trains than this are traffic rather than probes: the paths they take are in use.
_TRAFFIC = 256


class RelayHandle(PathHandle):
    """The way to one node through another.

    Attributes:
        relay: Id of the node between.
        peer: Id of the node at the end.
    """

    __slots__ = ("peer", "relay")

    def __init__(self, transport: Transport, relay: str, peer: str) -> None:
        super().__init__(
            transport,
            f"{SCHEME}://{relay}/{peer}",
            source=bytes.fromhex(relay),
            max_datagram=MAX_DATAGRAM,
        )
        self.relay = relay
        self.peer = peer


class Relaying(Transport):
    """Sends through relays, takes what comes through them, and is one itself.

    Args:
        peers: This node's peers.
        records: What is known of other nodes.
        willing: Whether this node relays for others.
        drops: Where dropped datagrams are counted.
        clock: The time.
        receive: Takes datagrams that came through a relay.

    Attributes:
        willing: Whether this node relays for others.
        forwarded: Datagrams relayed for others.
        forwarded_bytes: Their bytes.
    """

    name = SCHEME
    priority = -1000
    max_segments = _MAX_SEGMENTS
    max_send = _MAX_SEGMENTS * MAX_DATAGRAM
    reveals_endpoint = False

    def __init__(
        self,
        peers: Mapping[str, Peer],
        records: Mapping[str, NodeRecord],
        *,
        willing: bool,
        drops: Drops,
        clock: Callable[[], float],
        receive: Callable[[PathHandle, memoryview, int], None],
    ) -> None:
        self.forwarded = self.forwarded_bytes = 0
        self._peers = peers
        self._records = records
        self.willing = willing
        self._drops = drops
        self._clock = clock
        self._receive = receive
        # Not the data plane's: what that has sealed is sealed here once more.
        self._sealer = Sealer()
        self._adopted: dict[tuple[str, str], RelayHandle] = {}
        self._budgets: dict[str, TokenBucket] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None

    # ------------------------------------------------------------- at the ends

    def local_endpoints(self) -> tuple[str, ...]:
        return ()

    def connect(self, endpoint: str) -> PathHandle:
        raise EndpointError(f"{endpoint} is no endpoint to connect to")  # see `ways`

    def ways(self, peer_id: str) -> list[PathHandle]:
        """Handles for reaching a node through each that is willing, the nearest first."""
        found: list[tuple[float, str]] = []
        for relay in self._peers.values():
            record = self._records.get(relay.node_id)
            active = relay.paths.active
            if (
                record is not None
                and record.relay
                and relay.node_id != peer_id
                and self._direct(relay.node_id) is not None
                and active is not None
                and not active.suspect
            ):
                rtt = float("inf") if active.rtt is None else active.rtt
                found.append((rtt, relay.node_id))
        return [self._handle(relay_id, peer_id) for _, relay_id in sorted(found)]

    def between(self, handle: PathHandle) -> str | None:
        """The id of the node that carries what goes along a path; None if it is direct."""
        return handle.relay if isinstance(handle, RelayHandle) else None

    def through(self, relay_id: str) -> list[PathHandle]:
        """The handles in use that lead through a node."""
        return [handle for handle in self._adopted.values() if handle.relay == relay_id]

    def adopt(self, handle: PathHandle) -> None:
        assert isinstance(handle, RelayHandle)
        self._adopted[handle.relay, handle.peer] = handle

    def release(self, handle: PathHandle) -> None:
        assert isinstance(handle, RelayHandle)
        self._adopted.pop((handle.relay, handle.peer), None)

    def send(self, handle: PathHandle, buffers: Sequence[Buffer], segment_size: int) -> bool:
        assert isinstance(handle, RelayHandle)
        port = self._direct(handle.relay)
        if port is None:
            self._drops["peer_gone"] += 1
            return True
        data = b"".join(buffers)
        return self._send(port, RELAY, handle.peer, memoryview(data), segment_size)

    def _handle(self, relay_id: str, peer_id: str) -> RelayHandle:
        handle = self._adopted.get((relay_id, peer_id))
        return handle if handle is not None else RelayHandle(self, relay_id, peer_id)

    # ---------------------------------------------------------------- receiving

    def take(self, sender: str, handle: PathHandle, kind: int, body: bytes) -> None:
        """Take an item: from a node that wants it relayed, or from a relay.

        Raises:
            BadPacket: It is malformed.
        """
        if len(body) <= _HEAD.size:
            raise BadPacket("relayed datagrams without any")
        node, size = _HEAD.unpack_from(body)
        if size < _LEAST_DATAGRAM:
            raise BadPacket("relayed datagrams too small")
        data = memoryview(body)[_HEAD.size :]
        other = node.hex()
        count = -(-len(data) // size)
        if handle.transport is self or other == sender:
            self._drops["misrouted"] += count
        elif kind == RELAYED:
            self._receive(self._handle(sender, other), data, min(size, len(data)))
        elif not self.willing:
            self._drops["misrouted"] += count
        else:
            self._forward(sender, other, data, size, count)

    def _forward(self, source: str, target: str, data: memoryview, size: int, count: int) -> None:
        port = self._direct(target)
        if port is None:
            self._drops["peer_gone"] += count
        elif not self._affords(source, max(len(data), count * _LEAST_COST)):
            self._drops["rate_limited"] += count
        elif not self._send(port, RELAYED, source, data, size):
            self._drops["queue_full"] += count
        else:
            self.forwarded += count
            self.forwarded_bytes += len(data)

    def _affords(self, source: str, cost: int) -> bool:
        now = self._clock()
        budget = self._budgets.get(source)
        if budget is None:
            for node_id in [node_id for node_id in self._budgets if node_id not in self._peers]:
                del self._budgets[node_id]
            budget = self._budgets[source] = TokenBucket(_RATE, _BURST, now)
        return budget.take(now, cost)

    # ------------------------------------------------------------------ sending

    def _direct(self, node_id: str) -> Port | None:
        """The port of a node with a direct path to it."""
        peer = self._peers.get(node_id)
        if peer is None or peer.port.tx_keypair is None or peer.port.handle is None:
            return None
        return None if peer.port.handle.transport is self else peer.port

    def _send(self, port: Port, kind: int, node_id: str, data: memoryview, size: int) -> bool:
        """Send datagrams in as few units as their path's loss allows."""
        keypair, handle = port.tx_keypair, port.handle
        assert keypair is not None
        assert handle is not None
        if len(data) > _TRAFFIC:
            port.used = True
        head = _HEAD.pack(bytes.fromhex(node_id), size)
        most = len(data)
        if port.bulk_limit:
            most = max(1, (port.bulk_limit - _OVERHEAD) // size) * size
        sent = True
        for begin in range(0, len(data), most):
            train = data[begin : begin + most]
            prefix = PREFIX.pack(kind << 24 | len(head) + len(train))
            unit = b"".join((prefix, head, train))
            sent &= self._sealer.send(keypair, unit, handle, port.slice_size)
        return sent

    def statistics(self) -> dict[str, int]:
        return {"forwarded": self.forwarded, "forwarded_bytes": self.forwarded_bytes}
