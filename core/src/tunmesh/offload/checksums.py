"""Finishing partial checksums, and making frames fit what a device can do."""

from __future__ import annotations

from tunmesh.errors import LocalProtocolError
from tunmesh.offload.header import (
    GSO_ECN,
    GSO_TCPV4,
    GSO_TCPV6,
    HEADER,
    HEADER_SIZE,
    NEEDS_CSUM,
    NO_OFFLOAD,
)
from tunmesh.offload.segment import split
from tunmesh.packet import Buffer, checksum


def complete_checksum(frame: Buffer) -> bytes:
    """Finish the checksum of a frame that is not a superpacket, and clear its header.

    Raises:
        LocalProtocolError: It is a superpacket.
    """
    flags, gso, _, _, start, offset = HEADER.unpack_from(frame)
    if gso:
        raise LocalProtocolError("a superpacket has no checksum to finish: split it first")
    if not flags & NEEDS_CSUM:
        return NO_OFFLOAD + frame[HEADER_SIZE:]
    # The field holds the sum of the pseudo-header, so it is summed like the rest. A checksum of
    # zero would mean "none" in UDP; 0xffff is the same number to whoever verifies it (RFC 768).
    begin = HEADER_SIZE + start
    value = checksum(frame[begin:]) or 0xFFFF
    at = begin + offset
    return b"".join((NO_OFFLOAD, frame[HEADER_SIZE:at], value.to_bytes(2, "big"), frame[at + 2 :]))


def adapt(frame: Buffer, offloads: frozenset[str]) -> list[bytes]:
    """Turn a frame into those that a device with these offloads can take.

    Args:
        frame: A frame.
        offloads: As `tunmesh.interfaces.Tun.offloads`: of ``csum``, ``tso4``, ``tso6``, ``uso4``,
            ``uso6``; the others only count together with ``csum``.
    """
    if "csum" not in offloads:
        return [complete_checksum(piece) for piece in split(frame, 1)]
    if frame[1] and _offload_of(frame) not in offloads:
        return split(frame, 1)
    return [bytes(frame)]


def _offload_of(frame: Buffer) -> str:
    """Name the offload that a superpacket needs."""
    kind = frame[1] & ~GSO_ECN
    if kind == GSO_TCPV4:
        return "tso4"
    if kind == GSO_TCPV6:
        return "tso6"
    return "uso4" if frame[HEADER_SIZE] >> 4 == 4 else "uso6"
