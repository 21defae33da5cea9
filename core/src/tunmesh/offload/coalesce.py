"""Joining the datagrams of one UDP flow into one superpacket, as the kernel's GRO would."""

from __future__ import annotations

from functools import lru_cache
from struct import Struct

from tunmesh.offload.header import (
    GSO_NONE,
    GSO_UDP_L4,
    HEADER,
    HEADER_SIZE,
    NEEDS_CSUM,
    UDP_CHECKSUM,
    UDP_HEADER,
)
from tunmesh.packet import (
    FRAGMENTED,
    IPV4_HEADER,
    IPV6_HEADER,
    UDP,
    checksum,
    fold,
    pseudo_header_sum,
)

#: Kind and length of the item that holds a frame.
ITEM_PREFIX = 4

_PACKET = ITEM_PREFIX + HEADER_SIZE

#: Most datagrams in one superpacket: UDP_MAX_SEGMENTS of older kernels, which refuse more.
MAX_COALESCED = 64

#: Largest total length of an IPv4 packet, and largest payload length of an IPv6 packet.
_MAX_LENGTH = 0xFFFF

# One item: prefix, flags and kind of the virtio_net_hdr; the rest of it; the IP header from version
# to length, and so on to the UDP length; then the UDP checksum, and the payload comes. Fields are
# what all datagrams of one flow have in common. Left out are IPv4's id and header checksum.
_ITEM = {4: "6s8x4s2x4s2x14s2x", 6: "6s8x46s2x"}


@lru_cache(maxsize=64)
def _layout(version: int, payload: int, count: int) -> Struct:
    """The fields of all items, so that one call takes a run of them apart."""
    return Struct("<" + f"{_ITEM[version]}{payload}s" * count)


def coalesce_udp(unit: bytes, start: int, stride: int, count: int) -> bytes | None:
    """Join frames of one UDP flow that lie in a row in a unit's plaintext.

    Args:
        unit: The plaintext.
        start: Where the first item begins; each is a prefix of 4 bytes and a frame.
        stride: Bytes of each item.
        count: How many items, the first of kind FRAME; `MAX_COALESCED` at most.

    Returns:
        A superpacket that holds all their payloads, a valid frame; None if not all of them are
        datagrams of one flow with partial checksums, or they would not fit into one packet.
    """
    version = unit[start + _PACKET] >> 4
    ip_header = IPV4_HEADER if version == 4 else IPV6_HEADER
    headers = ip_header + UDP_HEADER
    payload = stride - _PACKET - headers
    if (
        payload <= 0
        or count > MAX_COALESCED
        or not _is_datagram(unit[start + ITEM_PREFIX : start + stride])
    ):
        return None
    length = UDP_HEADER + payload * count
    if length + (ip_header if version == 4 else 0) > _MAX_LENGTH:
        return None
    fields = _layout(version, payload, count).unpack_from(unit, start)
    each = len(fields) // count
    for common in reversed(range(each - 1)):  # addresses and ports differ most
        column = fields[common::each]
        if column.count(column[0]) != count:
            return None

    packet = bytearray(unit[start + _PACKET : start + _PACKET + headers])
    if version == 4:
        packet[2:4] = (IPV4_HEADER + length).to_bytes(2, "big")
        packet[10:12] = bytes(2)
        packet[10:12] = checksum(packet[:IPV4_HEADER]).to_bytes(2, "big")
    else:
        packet[4:6] = length.to_bytes(2, "big")
    packet[ip_header + 4 : ip_header + 6] = length.to_bytes(2, "big")
    partial = fold(pseudo_header_sum(packet, UDP, length))
    packet[ip_header + 6 : ip_header + 8] = partial.to_bytes(2, "big")
    virtio = HEADER.pack(NEEDS_CSUM, GSO_UDP_L4, headers, payload, ip_header, UDP_CHECKSUM)
    return b"".join((virtio, packet, *fields[each - 1 :: each]))


def _is_datagram(frame: bytes) -> bool:
    """Whether a frame is a whole UDP datagram without IP options, its checksum partial."""
    flags, gso, _, _, start, offset = HEADER.unpack_from(frame)
    if flags != NEEDS_CSUM or gso != GSO_NONE or offset != UDP_CHECKSUM:
        return False
    size = len(frame) - HEADER_SIZE
    first = frame[HEADER_SIZE]
    if first == 0x45:  # IPv4 without options
        header = IPV4_HEADER
        length, protocol = frame[12] << 8 | frame[13], frame[19]
        if (frame[16] << 8 | frame[17]) & FRAGMENTED:
            return False
    elif first >> 4 == 6:
        header = IPV6_HEADER
        length, protocol = header + (frame[14] << 8 | frame[15]), frame[16]
    else:
        return False
    at = HEADER_SIZE + header + 4
    return (
        protocol == UDP
        and start == header
        and length == size
        and (frame[at] << 8 | frame[at + 1]) == size - header
    )
