"""What must hold before a peer's frame may reach the TUN.

The kernel believes a `virtio_net_hdr` further than a stranger deserves: it reserves memory, writes
checksums and cuts packets as the header says.
"""

from __future__ import annotations

from struct import Struct

from tunmesh.errors import BadPacket
from tunmesh.offload.header import (
    DATA_VALID,
    GSO_ECN,
    GSO_NONE,
    GSO_TCPV4,
    GSO_TCPV6,
    GSO_UDP_L4,
    HEADER,
    HEADER_SIZE,
    NEEDS_CSUM,
    NO_OFFLOAD,
    TCP_CHECKSUM,
    UDP_CHECKSUM,
    UDP_HEADER,
)
from tunmesh.packet import (
    FRAGMENTED,
    IPV4_HEADER,
    IPV6_HEADER,
    TCP,
    UDP,
    Buffer,
    transport_untrusted,
)

#: Bytes of the smallest TCP header.
_TCP_HEADER = 20

#: UDP_MAX_SEGMENTS of current kernels (64 in older ones): they take no more from a socket or a TUN,
#: since a receiving socket may make a buffer of its own for each segment.
_MAX_UDP_SEGMENTS = 128

# Bytes 0 and 2 to 5 of the packet, behind the virtio_net_hdr: the lengths in both IP headers.
_LENGTHS = Struct("<10xBxBBBB")


def check_frame_untrusted(frame: Buffer) -> None:
    """Check that a frame's header fits its packet, so that the TUN may have it.

    Neither the IP header checksum nor the addresses are looked at.

    Raises:
        BadPacket: The frame is malformed.
    """
    size = len(frame) - HEADER_SIZE
    if size < IPV4_HEADER:
        raise BadPacket(f"frame of {len(frame)} bytes")
    first, b2, b3, b4, b5 = _LENGTHS.unpack_from(frame)
    version = first >> 4
    if version == 4:
        header = (first & 15) * 4
        length = b2 << 8 | b3
    elif version == 6:
        header = IPV6_HEADER
        length = header + (b4 << 8 | b5)
    else:
        raise BadPacket(f"IP version {version}")
    if length != size or not IPV4_HEADER <= header <= size:
        raise BadPacket(f"IP header of {header} bytes and length {length} in {size} bytes")
    if frame[:HEADER_SIZE] != NO_OFFLOAD:
        _check_offloads(frame, size, version, header)


def _check_offloads(frame: Buffer, size: int, version: int, header: int) -> None:
    flags, gso, hint, gso_size, start, offset = HEADER.unpack_from(frame)
    if flags & ~(NEEDS_CSUM | DATA_VALID) or hint > size:
        raise BadPacket(f"flags {flags:#x}, headers of {hint} bytes in {size}")
    if flags & NEEDS_CSUM and (start < header or start + offset + 2 > size):
        raise BadPacket(f"checksum from {start} at {offset} in a packet of {size} bytes")
    if gso == GSO_NONE:
        return
    protocol, transport, fragment = _transport(frame, version, header)
    if fragment or not flags & NEEDS_CSUM or transport != start or not gso_size:
        raise BadPacket(f"superpacket of kind {gso:#x}: a fragment, or an inconsistent header")
    if protocol == TCP and gso & ~GSO_ECN == (GSO_TCPV4 if version == 4 else GSO_TCPV6):
        _check_tcp(frame, size, start, offset, hint)
    elif protocol == UDP and gso == GSO_UDP_L4:
        _check_udp(frame, size, start, offset, hint, gso_size)
    else:
        raise BadPacket(f"superpacket of kind {gso:#x} with protocol {protocol}, IPv{version}")


def _transport(frame: Buffer, version: int, header: int) -> tuple[int, int, bool]:
    """As `transport_untrusted`, but faster where no extension header has to be walked."""
    if version == 4:
        return frame[19], header, bool((frame[16] << 8 | frame[17]) & FRAGMENTED)
    if frame[16] in {TCP, UDP}:
        return frame[16], header, False
    return transport_untrusted(frame[HEADER_SIZE:])


def _check_tcp(frame: Buffer, size: int, start: int, offset: int, hint: int) -> None:
    # The checksum field lies inside the packet, and with it byte 12, which holds the data offset.
    header = (frame[HEADER_SIZE + start + 12] >> 4) * 4 if offset == TCP_CHECKSUM else 0
    if header < _TCP_HEADER or not start + header <= hint or start + header >= size:
        raise BadPacket(f"TCP superpacket: header of {header} bytes at {start}, hint {hint}")


def _check_udp(frame: Buffer, size: int, start: int, offset: int, hint: int, gso_size: int) -> None:
    payload = size - start - UDP_HEADER
    if offset != UDP_CHECKSUM or payload <= 0 or hint < start + UDP_HEADER:
        raise BadPacket(f"UDP superpacket: header at {start}, checksum at {offset}, hint {hint}")
    at = HEADER_SIZE + start + 4
    if (frame[at] << 8 | frame[at + 1]) != payload + UDP_HEADER:
        raise BadPacket("UDP superpacket whose length is not the packet's")
    if payload > gso_size * _MAX_UDP_SEGMENTS:
        raise BadPacket(f"UDP superpacket: {payload} bytes in segments of {gso_size}")
