"""The way of a packet from the mesh: from a path to this host.

Every source is checked: a packet reaches the host only if its sender, whom the session has
authenticated, owns the source and this node the destination. Once a flow was found to be
allowed it is remembered in the sender's `Port`.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from tunmesh import offload
from tunmesh.dataplane.claims import Claims
from tunmesh.dataplane.opener import Opener
from tunmesh.dataplane.verdicts import Verdicts, flow_number
from tunmesh.errors import BadPacket
from tunmesh.packet import addresses_untrusted
from tunmesh.session.units import (
    FRAME,
    HEADER_SIZE,
    ITEM_PREFIX,
    PREFIX,
    TAG_SIZE,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tunmesh.counters import Drops
    from tunmesh.dataplane.port import Control, Port
    from tunmesh.dataplane.tap import Tap
    from tunmesh.interfaces.transport import PathHandle
    from tunmesh.interfaces.tun import Buffer, Tun
    from tunmesh.session.keypair import Keypair

_VNET = 10
_GSO = struct.Struct("<xBHH")  # of a virtio_net_hdr: gso_type, hdr_len, gso_size
_FLOW4 = struct.Struct("!Q")
_PROTOCOL_AND_FLOW4 = struct.Struct("!BxxQ")
_SMALLEST_FRAME = _VNET + 20
_SMALLEST_DATAGRAM = HEADER_SIZE + TAG_SIZE
#: Packets that a kernel takes as one UDP superpacket (UDP_MAX_SEGMENTS of older kernels).
_MOST_COALESCED = 64
#: Flows of one peer that are remembered; beyond it the memory is dropped and learned again.
_MOST_VERIFIED = 4096
_UDP = 17
_ALL_OFFLOADS = frozenset({"csum", "tso4", "tso6", "uso4", "uso6"})


class Outside(Opener):
    """Opens what transports deliver and writes it to the device.

    Args:
        tun: The device.
        control: Knows the routes, and takes everything that is no packet.
        drops: Where dropped packets are counted.
        clock: The time in seconds, for what waits.
        claims: What policies take; of that, nothing is taken from the mesh.
        verdicts: The policies that decide about flows.

    Attributes:
        packets: Packets written to the device.
        bytes: Their bytes.
    """

    def __init__(
        self,
        tun: Tun,
        control: Control,
        drops: Drops,
        clock: Callable[[], float],
        claims: Claims | None = None,
        verdicts: Verdicts | None = None,
    ) -> None:
        super().__init__(control, drops, clock)
        self._claims = Claims() if claims is None else claims
        self._verdicts = Verdicts() if verdicts is None else verdicts
        self.packets = self.bytes = 0
        self._tun = tun
        self._adapts = not tun.offloads >= _ALL_OFFLOADS
        self._coalesces = tun.offloads >= {"csum", "uso4", "uso6"}
        self._write: Callable[[Port, list[Buffer]], None] = self._write_frames
        self._drop: Callable[[str, Port, Sequence[Buffer], int], None] = self._count_drop

    def set_tap(self, tap: Tap | None) -> None:
        """Show packets to somebody from now on; to nobody again, at no cost, if it is None."""
        if tap is None:
            self._write, self._drop = self._write_frames, self._count_drop
            return

        def write(port: Port, frames: list[Buffer]) -> None:
            tap.outside(port, frames)
            self._write_frames(port, frames)

        def drop(reason: str, port: Port, frames: Sequence[Buffer], packets: int) -> None:
            tap.dropped_outside(reason, port, frames)
            self._count_drop(reason, port, frames, packets)

        self._write, self._drop = write, drop

    def _deliver(self, keypair: Keypair, handle: PathHandle, plain: bytes) -> None:
        """Deliver the items of an authentic unit."""
        port: Port = keypair.peer
        end = len(plain)
        if (
            end > 3 * _SMALLEST_FRAME
            and self._coalesces
            and plain[0] == FRAME
            and self._deliver_coalesced(port, plain)
        ):
            return
        view = memoryview(plain)
        verified, drops, suspects = port.verified, self._drops, self._claims.suspects
        frames: list[Buffer] = []
        offset = 0
        while offset + ITEM_PREFIX <= end:
            (word,) = PREFIX.unpack_from(plain, offset)
            begin = offset + ITEM_PREFIX
            offset = begin + (word & 0xFFFFFF)
            if offset > end:
                drops["bad_packet"] += 1
                break
            if word >> 24 != FRAME:
                self._control.item(keypair, handle, word >> 24, plain[begin:offset])
                continue
            frame = view[begin:offset]
            try:
                offload.check_frame_untrusted(frame)
            except BadPacket:
                self._drop("bad_packet", port, (frame,), 1)
                continue
            packet = begin + _VNET
            key: int | bytes
            if plain[packet] >> 4 == 4:
                protocol, key = _PROTOCOL_AND_FLOW4.unpack_from(plain, packet + 9)
            else:
                protocol = plain[packet + 6]
                key = plain[packet + 8 : packet + 40]
            if protocol in suspects and self._claims.find(view[packet:offset]) is not None:
                self._drop("misrouted", port, (frame,), 1)
                continue
            if key in verified or self._verify(port, (frame,), key, 1):
                frames.append(frame)
                self._count_in(port, frame)
        if frames:
            self._write(port, frames)

    def _deliver_coalesced(self, port: Port, plain: bytes) -> bool:
        """Deliver a unit of equal UDP packets of one flow as few superpackets.

        What a kernel's receive offload would do: one write instead of dozens.
        """
        (word,) = PREFIX.unpack_from(plain)
        stride = ITEM_PREFIX + (word & 0xFFFFFF)
        count, rest = divmod(len(plain), stride)
        packet = ITEM_PREFIX + _VNET
        four = plain[packet] >> 4 == 4
        if count < 3 or rest or plain[packet + (9 if four else 6)] != _UDP:
            return False
        view = memoryview(plain)
        try:
            offload.check_frame_untrusted(view[ITEM_PREFIX:stride])
        except BadPacket:
            return False
        key: int | bytes
        if four:
            (key,) = _FLOW4.unpack_from(plain, packet + 12)
        else:
            key = plain[packet + 8 : packet + 40]
        most = min(_MOST_COALESCED, 65_000 // (stride - packet))
        frames: list[Buffer] = []
        for first in range(0, count, most):
            frame = offload.coalesce_udp(plain, first * stride, stride, min(most, count - first))
            if frame is None:
                return False
            frames.append(frame)
        if key not in port.verified and not self._verify(port, frames, key, count):
            return True
        port.rx_packets += count
        port.rx_bytes += count * (stride - packet)
        self.packets += count
        self.bytes += count * (stride - packet)
        self._write(port, frames)
        return True

    def _verify(self, port: Port, frames: Sequence[Buffer], key: int | bytes, packets: int) -> bool:
        """Whether a peer may send this flow here; remembered if so, counted if not."""
        packet = memoryview(frames[0])[_VNET:]
        judged = bool(self._verdicts)
        try:
            reason = self._judge(port, packet, key) if judged else self._refused(port, packet)
        except BadPacket:
            reason = "bad_packet"
        if reason is not None:
            self._drop(reason, port, frames, packets)
            return False
        if not judged:
            if len(port.verified) >= _MOST_VERIFIED:
                port.verified.clear()
            port.verified.add(key)
        return True

    def _refused(self, port: Port, packet: memoryview) -> str | None:
        """Why a packet may not come from this peer, or not to this host; None if it may."""
        return self._control.fib().outside(port.node_id, *addresses_untrusted(packet))

    def _judge(self, port: Port, packet: memoryview, pair: int | bytes) -> str | None:
        """As `_refused`, where policies decide too; then that is what is remembered."""
        now, key = self._clock(), (pair, flow_number(packet))
        known = port.judged.get(key)
        if known is not None and known[0] > now:
            return known[1]
        return self._refused(port, packet) or self._verdicts.decide(
            port.judged,
            _MOST_VERIFIED,
            key,
            *addresses_untrusted(packet),
            port.node_id,
            "outside",
            now,
        )

    def _count_in(self, port: Port, frame: memoryview) -> None:
        packets, size = 1, len(frame) - _VNET
        if frame[1]:
            _, header, segment = _GSO.unpack_from(frame)
            packets = -(-(size - header) // (segment or 1)) or 1
            size += (packets - 1) * header
        port.rx_packets += packets
        port.rx_bytes += size
        self.packets += packets
        self.bytes += size

    def _count_drop(
        self, reason: str, _port: Port, _frames: Sequence[Buffer], packets: int
    ) -> None:
        self._drops[reason] += packets

    def _write_frames(self, _port: Port, frames: list[Buffer]) -> None:
        if self._adapts:
            offloads = self._tun.offloads
            frames = [piece for frame in frames for piece in offload.adapt(frame, offloads)]
        self._drops["tun_error"] += self._tun.write_batch(frames)

    def write_packet(self, packet: Buffer) -> None:
        """Give this host an IP packet, as if it had come from the mesh."""
        self._drops["tun_error"] += self._tun.write_batch([bytes(_VNET) + packet])
