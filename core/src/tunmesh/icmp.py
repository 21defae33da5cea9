"""ICMP errors (RFC 792, RFC 4443) about packets that cannot be delivered. Contains no I/O.

::

    type u8 | code u8 | checksum u16 | unused u32, or 16 bits of it the MTU | start of the packet
"""

from __future__ import annotations

import struct

from tunmesh.errors import BadPacket
from tunmesh.packet import (
    IPV4_HEADER,
    IPV6_HEADER,
    Buffer,
    addresses_untrusted,
    checksum,
    pseudo_header_sum,
    transport_untrusted,
)
from tunmesh.routing.prefixes import is_multicast

_ICMP = 1
_ICMPV6 = 58
_HEADER = struct.Struct("!BBHI")
_IPV4 = struct.Struct("!BBHHHBBH4s4s")
_IPV6 = struct.Struct("!IHBB16s16s")
_TTL = 64
#: TOS of internetwork control (RFC 1812, section 4.3.2.5).
_CONTROL = 0xC0

#: How long an error with all its headers may be: RFC 1812, section 4.3.2.3; RFC 4443, 2.4 (c).
_LONGEST4 = 576
_LONGEST6 = 1280

#: Type and code for each reason, IPv4 (RFC 792, RFC 1812) and IPv6 (RFC 4443, section 3.1).
_UNREACHABLE = {
    "outside_network": ((3, 0), (1, 0)),  # network unreachable; no route to destination
    "no_route": ((3, 1), (1, 3)),  # host unreachable; address unreachable
    "peer_gone": ((3, 1), (1, 3)),
    "denied": ((3, 13), (1, 1)),  # communication administratively prohibited
}
#: The reasons for a drop that the sender is told.
ANSWERED = frozenset(_UNREACHABLE)

#: Types of ICMP that are errors; of ICMPv6 all below 128 are.
_ERRORS4 = frozenset({3, 4, 5, 11, 12})
_FIRST_QUERY6 = 128


def unreachable(packet: Buffer, reason: str) -> bytes | None:
    """The error that tells the sender of a packet why it was dropped.

    It seems to come from the packet's own destination: an address that this host does not have,
    since it would not believe itself, and one that it routes this way, whatever its rp_filter.

    Args:
        packet: An IP packet of this host.
        reason: One of `ANSWERED`.

    Returns:
        An IP packet; None where there must be no error (RFC 1122, section 3.2.2; RFC 4443,
        section 2.4 (e)): about an error, a later fragment, a group, a broadcast address, or a
        sender that is not one host.
    """
    try:
        source, destination = addresses_untrusted(packet)
        protocol, offset, fragment = transport_untrusted(packet)
    except BadPacket:
        return None
    if not any(source) or is_multicast(source) or is_multicast(destination):
        return None
    four = len(source) == 4
    if fragment and _is_later_fragment(packet, offset, four=four):
        return None
    if protocol == (_ICMP if four else _ICMPV6):
        if offset >= len(packet):
            return None
        kind = packet[offset]
        if kind in _ERRORS4 if four else kind < _FIRST_QUERY6:
            return None
    of_ipv4, of_ipv6 = _UNREACHABLE[reason]
    if four:
        return _error4(packet, source, destination, of_ipv4)
    return _error6(packet, source, destination, of_ipv6)


def _is_later_fragment(packet: Buffer, offset: int, *, four: bool) -> bool:
    if four:
        return bool((packet[6] << 8 | packet[7]) & 0x1FFF)
    # What precedes is the fragment header of a later fragment. Of a first one it may be another
    # header, which can seem to hold an offset: then there is no error, as there need not be.
    return bool((packet[offset - 6] << 8 | packet[offset - 5]) & 0xFFF8)


def _error4(packet: Buffer, source: bytes, destination: bytes, kind: tuple[int, int]) -> bytes:
    quoted = bytes(packet[: _LONGEST4 - IPV4_HEADER - _HEADER.size])
    body = _HEADER.pack(*kind, 0, 0) + quoted
    body = _HEADER.pack(*kind, checksum(body), 0) + quoted
    length = IPV4_HEADER + len(body)
    header = _IPV4.pack(0x45, _CONTROL, length, 0, 0, _TTL, _ICMP, 0, destination, source)
    return header[:10] + checksum(header).to_bytes(2, "big") + header[12:] + body


def _error6(packet: Buffer, source: bytes, destination: bytes, kind: tuple[int, int]) -> bytes:
    quoted = bytes(packet[: _LONGEST6 - IPV6_HEADER - _HEADER.size])
    body = _HEADER.pack(*kind, 0, 0) + quoted
    header = _IPV6.pack(6 << 28, len(body), _ICMPV6, _TTL, destination, source)
    proof = checksum(body, pseudo_header_sum(header, _ICMPV6, len(body)))
    return header + _HEADER.pack(*kind, proof, 0) + quoted
