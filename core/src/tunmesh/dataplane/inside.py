"""The way of a packet from this host: from the device to the peers.

A packet's fate is decided once for each flow (source and destination) and remembered in a dict;
the memory is dropped whenever routes change.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from tunmesh import offload
from tunmesh.dataplane.claims import Claims
from tunmesh.dataplane.groups import GroupHop, GroupTraffic
from tunmesh.dataplane.judging import Judging
from tunmesh.dataplane.superpacket import GSO, VNET, measure
from tunmesh.dataplane.unreachable import Unreachable
from tunmesh.dataplane.verdicts import JudgedHop, Verdicts
from tunmesh.errors import BadPacket
from tunmesh.icmp import ANSWERED
from tunmesh.packet import addresses_untrusted
from tunmesh.routing.prefixes import is_multicast
from tunmesh.session.units import FRAME, ITEM_PREFIX, LARGEST_FRAME, PREFIX, TAG_SIZE, Sealer

if TYPE_CHECKING:
    from tunmesh.counters import Drops
    from tunmesh.dataplane.port import Control, Port
    from tunmesh.dataplane.tap import Tap
    from tunmesh.interfaces.transport import PathHandle
    from tunmesh.interfaces.tun import Buffer, Tun
    from tunmesh.session.keypair import Keypair

#: Where a flow goes: to these peers, to a group, wherever policies say, or nowhere for a reason.
Hop: TypeAlias = "tuple[Port, ...] | GroupHop | JudgedHop | str"
#: A run of frames of one hop in the buffer: hop, begin, end, packets, bytes of IP.
Run: TypeAlias = "tuple[Hop, int, int, int, int]"

_FLOW4 = struct.Struct("!Q")
#: A unit is closed when this much was read: the other side's core can begin its work.
_FILL = 20_000
#: Larger units would need a second system call; only a single largest frame may.
_ONE_SEND = 63_000
#: Reads of the device for each time that it is readable; then it is the others' turn.
_BATCHES = 8
#: Flows remembered; beyond it the memory is dropped and learned again.
_MOST_FLOWS = 65_536
#: Groups of which traffic is counted; the one that was first sent to is forgotten first.
_MOST_GROUPS = 4096
#: Packets kept for a peer while its session is being made.
_MOST_STAGED = 64
#: A packet that waited longer is of no use to TCP, which has sent it again.
_STAGED_FOR = 2.0

#: The hop of claimed packets, which need no route.
_CLAIMED = GroupHop((), "no_group", 0, GroupTraffic())


class Inside:
    """Reads the device and sends what it finds.

    Args:
        tun: The device.
        control: Knows the routes and the peers.
        drops: Where dropped packets are counted.
        clock: The time in seconds, for what waits.

    Attributes:
        sealer: Seals and sends; shared with the control plane.
        claims: Who takes which packets to groups instead of the mesh.
        verdicts: The policies that decide about flows.
        groups: What was sent to each group.
        broadcasts: What was sent to broadcast addresses.
        packets: Packets read from the device.
        bytes: Their bytes.
    """

    def __init__(
        self, tun: Tun, control: Control, drops: Drops, clock: Callable[[], float]
    ) -> None:
        self.sealer = Sealer()
        self.claims = Claims()
        self.verdicts = Verdicts()
        self.groups: dict[bytes, GroupTraffic] = {}
        self.broadcasts = GroupTraffic()
        self.packets = self.bytes = 0
        self._tun = tun
        self._control = control
        self._drops = drops
        self._clock = clock
        self._unreachable = Unreachable(tun, control, drops, clock)
        self._judging = Judging(self.verdicts, self.claims, clock)
        self._flows: dict[int | bytes, Hop] = {}
        self._buffer = bytearray(_FILL + ITEM_PREFIX + LARGEST_FRAME)
        self._view = memoryview(self._buffer)
        self._dispatch: Callable[[Hop, Buffer, int, int], None] = self._forward
        self._drop: Callable[[str, Buffer, int], None] = self._count_drop

    def set_tap(self, tap: Tap | None) -> None:
        """Show packets to somebody from now on; to nobody again, at no cost, if it is None."""
        if tap is None:
            self._dispatch, self._drop = self._forward, self._count_drop
            return

        def dispatch(hop: Hop, items: Buffer, packets: int, size: int) -> None:
            if not isinstance(hop, JudgedHop):  # else it comes again, judged
                tap.inside(hop, items)
            self._forward(hop, items, packets, size)

        def drop(reason: str, items: Buffer, packets: int) -> None:
            tap.dropped_inside(reason, items)
            self._count_drop(reason, items, packets)

        self._dispatch, self._drop = dispatch, drop

    @property
    def flows(self) -> int:
        """How many flows are decided."""
        return len(self._flows)

    def forget_flows(self) -> None:
        """Routes changed, or what policies say: decide about every flow anew."""
        self._flows.clear()
        self._judging.forget()

    def read(self) -> None:
        """Forward what waits in the device, a bounded amount."""
        buffer, view, flows = self._buffer, self._view, self._flows
        read_batch, put, flow4 = self._tun.read_batch, PREFIX.pack_into, _FLOW4.unpack_from
        for _ in range(_BATCHES):
            lengths = read_batch(view, ITEM_PREFIX, _FILL)
            if not lengths:
                return
            runs: list[Run] = []
            hop: Hop | None = None
            begin = offset = packets = size = 0
            for length in lengths:
                packet = offset + ITEM_PREFIX + VNET
                put(buffer, offset, FRAME << 24 | length)
                key: int | bytes
                if buffer[packet] >> 4 == 4:
                    (key,) = flow4(buffer, packet + 12)
                else:
                    key = bytes(view[packet + 8 : packet + 40])
                found = flows.get(key)
                if found is None:
                    found = self._route(view[packet : packet - VNET + length], key)
                if found is not hop:
                    if hop is not None:
                        runs.append((hop, begin, offset, packets, size))
                    hop, begin, packets, size = found, offset, 0, 0
                if buffer[packet - VNET + 1]:
                    _, header, segment = GSO.unpack_from(buffer, packet - VNET)
                    segments = -(-(length - VNET - header) // (segment or 1)) or 1
                    packets += segments
                    size += length - VNET + (segments - 1) * header
                else:
                    packets += 1
                    size += length - VNET
                offset += ITEM_PREFIX + length
            assert hop is not None
            if not runs:  # the usual case: everything for one hop, sealed where it lies
                last = ITEM_PREFIX + lengths[-1]
                if offset > _ONE_SEND and last < offset:
                    self._dispatch(hop, view[: offset - last], 0, 0)
                    self._dispatch(hop, view[offset - last : offset], packets, size)
                else:
                    self._dispatch(hop, view[:offset], packets, size)
            else:
                runs.append((hop, begin, offset, packets, size))
                if self.verdicts:
                    runs = self._judging.judge(runs, view, _ONE_SEND)
                self._gather(runs, view)
            if offset < _FILL:
                return

    def _gather(self, runs: list[Run], view: memoryview) -> None:
        """Send runs of several hops: those of one hop together."""
        hops: dict[Hop, list[tuple[int, int, int, int]]] = {}
        for hop, begin, end, packets, size in runs:
            hops.setdefault(hop, []).append((begin, end, packets, size))
        for hop, parts in hops.items():
            if len(parts) > 1 and sum(end - begin for begin, end, _, _ in parts) <= _ONE_SEND:
                joined = b"".join([view[begin:end] for begin, end, _, _ in parts])
                self._dispatch(hop, joined, sum(p[2] for p in parts), sum(p[3] for p in parts))
            else:
                for begin, end, packets, size in parts:
                    self._dispatch(hop, view[begin:end], packets, size)

    def _forward(self, hop: Hop, items: Buffer, packets: int, size: int) -> None:
        if isinstance(hop, tuple):  # the usual one
            for port in hop:
                self.send(port, items, packets, size)
        elif isinstance(hop, GroupHop):
            self._replicate(hop, items)
        elif isinstance(hop, str):
            self._drop(hop, items, packets)
            if hop in ANSWERED:
                self._unreachable.tell(items, hop)
        else:
            view = memoryview(items)
            run = hop, 0, len(view), packets, size
            self._gather(self._judging.judge([run], view, _ONE_SEND), view)
            return  # counted by then
        self.packets += packets
        self.bytes += size

    def _replicate(self, hop: GroupHop, items: Buffer) -> None:
        """Send frames to each member of a group, but for what is claimed among them."""
        suspects = self.claims.suspects
        view = memoryview(items)
        traffic, now = hop.traffic, self._clock()
        kept: list[memoryview] = []
        packets = size = offset = 0
        while offset < len(view):
            (word,) = PREFIX.unpack_from(view, offset)
            packet = offset + ITEM_PREFIX + VNET
            end = packet - VNET + (word & 0xFFFFFF)
            if end - packet < 20:
                self._drop("unsupported", view[offset:end], 1)
                offset = end
                continue
            protocol = view[packet + (9 if view[packet] >> 4 == 4 else 6)]
            if protocol in suspects and self._claim(view[packet:end]):
                offset = end
                continue
            segments, length = 1, end - packet
            if view[packet - VNET + 1]:
                segments, length = measure(view, packet, end)
            if not hop.ports:
                self._drop(hop.reason, view[offset:end], segments)
            elif not traffic.admit(segments, hop.limit, now):
                self._drop("rate_limited", view[offset:end], segments)
            else:
                packets += segments
                size += length
                kept.append(view[offset:end])
            offset = end
        if kept:
            traffic.packets += packets
            traffic.bytes += size
            traffic.replicas += packets * len(hop.ports)
            whole = items if len(view) == sum(map(len, kept)) else b"".join(kept)
            for port in hop.ports:
                self.send(port, whole, packets, size)

    def _claim(self, packet: memoryview) -> bool:
        """Whether somebody took a packet."""
        take = self.claims.find(packet)
        if take is None:
            return False
        try:
            take(packet)
        except BadPacket:
            self._drops["bad_packet"] += 1
        return True

    def send(self, port: Port, items: Buffer, packets: int, size: int) -> None:
        """Seal frames for a peer and send them.

        Args:
            port: The peer.
            items: Frames with their prefixes.
            packets: How many packets they are, for the counters.
            size: How many bytes of IP they are, for the counters.
        """
        keypair, handle = port.tx_keypair, port.handle
        if not port.used:
            port.used = True
            self._control.woken(port)
        if keypair is None or handle is None:
            self._stage(port, bytes(items), packets, size)
            return
        if not port.bulk_limit:
            sent = self.sealer.send(keypair, items, handle, port.slice_size)
        else:
            sent = self._send_small(port, keypair, handle, items)
        if sent:
            port.tx_packets += packets
            port.tx_bytes += size
        else:
            self._drop("queue_full", items, packets)

    def _send_small(self, port: Port, keypair: Keypair, handle: PathHandle, items: Buffer) -> bool:
        """Send frames in units that suit a lossy path.

        Packets of their own travel in single datagrams: a lost one takes nothing else along.
        Superpackets are cut into pieces of a few segments: who sends those sends again what is
        lost, and pays for the turns of the interpreter more than for the loss.
        """
        limit = port.bulk_limit - TAG_SIZE
        fits = port.slice_size - TAG_SIZE
        plains: list[bytes] = []  # units of one datagram each, waiting to be sent together
        sent = True
        unit = b""
        view = memoryview(items)
        offset = 0
        while offset < len(view):
            (word,) = PREFIX.unpack_from(view, offset)
            begin = offset + ITEM_PREFIX
            offset = begin + (word & 0xFFFFFF)
            frame = view[begin:offset]
            pieces: list[Buffer] = [frame]
            if frame[1] and len(frame) + ITEM_PREFIX > limit:
                _, header, segment = GSO.unpack_from(frame)
                room = limit - ITEM_PREFIX - VNET - header
                pieces = list(offload.split(frame, max(1, room // (segment or 1))))
            for piece in pieces:
                item = PREFIX.pack(FRAME << 24 | len(piece)) + piece
                if unit and len(unit) + len(item) > fits:
                    plains.append(unit)
                    unit = b""
                if len(item) <= fits:
                    unit += item
                    continue
                if plains:  # in the order in which they came
                    sent &= self.sealer.send_each(keypair, plains, handle, port.slice_size)
                    plains = []
                sent &= self.sealer.send(keypair, item, handle, port.slice_size)
        if unit:
            plains.append(unit)
        if plains:
            sent &= self.sealer.send_each(keypair, plains, handle, port.slice_size)
        return sent

    def _stage(self, port: Port, items: bytes, packets: int, size: int) -> None:
        """Keep packets for a peer whose session is being made."""
        now = self._clock()
        self._control.wanted(port)
        staged = port.staged
        while staged and (len(staged) >= _MOST_STAGED or staged[0][0] < now - _STAGED_FOR):
            _, oldest, lost, _ = staged.pop(0)
            self._gone(oldest, lost)
        if len(items) > _FILL:  # bulk can wait for its sender
            self._gone(items, packets)
        else:
            staged.append((now, items, packets, size))

    def flush(self, port: Port) -> None:
        """Send what was kept for a peer that can be reached now."""
        staged, port.staged = port.staged, []
        oldest = self._clock() - _STAGED_FOR
        for since, items, packets, size in staged:
            if since < oldest:
                self._gone(items, packets)
            else:
                self.send(port, items, packets, size)

    def _gone(self, items: bytes, packets: int) -> None:
        """A peer could not be reached in time."""
        self._drop("peer_gone", items, packets)
        self._unreachable.tell(items, "peer_gone")

    def _count_drop(self, reason: str, _items: Buffer, packets: int) -> None:
        self._drops[reason] += packets

    def _route(self, packet: memoryview, key: int | bytes) -> Hop:
        """Decide about a flow that is not remembered; a string is the reason of a drop."""
        try:
            source, destination = addresses_untrusted(packet)
        except BadPacket:
            return "unsupported"
        if is_multicast(destination) and self.claims.find(packet) is not None:
            return _CLAIMED  # not remembered: the flow may have other packets too
        fib = self._control.fib()
        peers = fib.inside(source, destination)
        reason = peers if isinstance(peers, str) else "peer_gone"
        ports: tuple[Port, ...] = ()
        if not isinstance(peers, str):
            known = map(self._control.port, peers)
            ports = tuple(port for port in known if port is not None)
        found: Hop
        if fib.is_broadcast(destination):
            found = GroupHop(ports, reason, fib.limit(destination), self.broadcasts)
        elif is_multicast(destination):
            # Whatever becomes of the flow, what is claimed of it must be found.
            traffic = self._traffic(destination) if ports else GroupTraffic()
            found = GroupHop(ports, reason, fib.limit(destination), traffic)
        else:
            found = (ports[0].hop if len(ports) == 1 else ports) or reason
        if ports and self.verdicts and not isinstance(found, str):
            found = JudgedHop(key, source, destination, found)
        if len(self._flows) >= _MOST_FLOWS:
            self._flows.clear()
        self._flows[key] = found
        return found

    def _traffic(self, group: bytes) -> GroupTraffic:
        """What counts and limits a group: it outlives changes of routes."""
        traffic = self.groups.get(group)
        if traffic is None:
            if len(self.groups) >= _MOST_GROUPS:
                del self.groups[next(iter(self.groups))]
            traffic = self.groups[group] = GroupTraffic()
        return traffic
