"""IPv4 and IPv6 packets as they lie in a buffer: addresses, transport header, checksums.

Plain functions over bytes: an object for each packet would cost more than the work done on it.
Contains no I/O; knows nothing of frames, peers or routes.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import TypeAlias

from tunmesh.errors import BadPacket

Buffer: TypeAlias = bytes | bytearray | memoryview

IPV4_HEADER = 20
IPV6_HEADER = 40

# Protocol numbers and IPv6 next headers: IANA "Assigned Internet Protocol Numbers".
HOP_BY_HOP = 0
TCP = 6
UDP = 17
FRAGMENT = 44
AUTHENTICATION = 51

#: IPv6 extension headers whose length is counted in units of 8 bytes beyond the first (RFC 6564):
#: hop-by-hop, routing, destination options, mobility, host identity, shim6.
_EXTENSIONS = frozenset({HOP_BY_HOP, 43, 60, 135, 139, 140})

#: IPv4: "more fragments" and the offset, without "don't fragment" (RFC 791, section 3.1).
FRAGMENTED = 0x3FFF

_PROTOCOL_NAMES = {1: "ICMP", 2: "IGMP", TCP: "TCP", UDP: "UDP", 47: "GRE", 50: "ESP", 58: "ICMPv6"}


def checksum(data: Buffer, initial: int = 0) -> int:
    """The internet checksum (RFC 1071) of `data`, whose sum is continued from `initial`."""
    total = int.from_bytes(data, "big")
    if len(data) & 1:
        total <<= 8
    return 0xFFFF - fold(total + initial)


def fold(total: int) -> int:
    """The one's complement sum of the 16-bit words of a number."""
    # 2**16 is 1 modulo 0xffff, so the remainder is the sum of the words with their carries. Only
    # zero itself has the sum 0: of the two zeros of one's complement, all others give 0xffff.
    return total % 0xFFFF or (0xFFFF if total else 0)


def pseudo_header_sum(packet: Buffer, protocol: int, length: int) -> int:
    """The sum of the pseudo-header (RFC 9293, section 3.1; RFC 8200, section 8.1), not folded.

    Args:
        packet: A packet whose header is whole.
        protocol: That of the transport header.
        length: Bytes of transport header and payload.
    """
    addresses = packet[12:20] if packet[0] >> 4 == 4 else packet[8:40]
    return int.from_bytes(addresses, "big") + protocol + length


def addresses_untrusted(packet: Buffer) -> tuple[bytes, bytes]:
    """Source and destination of a packet, 4 or 16 bytes each.

    Raises:
        BadPacket: It is neither IPv4 nor IPv6, or shorter than its header.
    """
    size = len(packet)
    if size >= IPV4_HEADER:
        version = packet[0] >> 4
        if version == 4:
            addresses = bytes(packet[12:20])
            return addresses[:4], addresses[4:]
        if version == 6 and size >= IPV6_HEADER:
            addresses = bytes(packet[8:40])
            return addresses[:16], addresses[16:]
    raise BadPacket("neither IPv4 nor IPv6, or shorter than its header")


def protocol_untrusted(packet: Buffer) -> int:
    """The protocol behind the IP header and all IPv6 extension headers.

    Of a later fragment it is what the fragment header names, since the rest is not in the packet.

    Raises:
        BadPacket: As `transport_untrusted`.
    """
    return transport_untrusted(packet)[0]


def transport_untrusted(packet: Buffer) -> tuple[int, int, bool]:
    """Find what a packet carries.

    Returns:
        The protocol, the offset of its header, and whether the packet is a fragment.

    Raises:
        BadPacket: It is neither IPv4 nor IPv6, or its headers do not fit in it.
    """
    size = len(packet)
    if size >= IPV4_HEADER and packet[0] >> 4 == 4:
        header = (packet[0] & 15) * 4
        if not IPV4_HEADER <= header <= size:
            raise BadPacket(f"IPv4 header of {header} bytes in a packet of {size}")
        return packet[9], header, bool((packet[6] << 8 | packet[7]) & FRAGMENTED)
    if size >= IPV6_HEADER and packet[0] >> 4 == 6:
        return _walk_extensions(packet)
    raise BadPacket("neither IPv4 nor IPv6, or shorter than its header")


def _walk_extensions(packet: Buffer) -> tuple[int, int, bool]:
    """Walk the chain of IPv6 extension headers (RFC 8200, section 4)."""
    size = len(packet)
    protocol, offset, fragment = packet[6], IPV6_HEADER, False
    while protocol in _EXTENSIONS or protocol in {FRAGMENT, AUTHENTICATION}:
        if offset + 8 > size:
            raise BadPacket(f"extension header {protocol} reaches beyond the packet")
        if protocol == HOP_BY_HOP and offset != IPV6_HEADER:
            raise BadPacket("hop-by-hop options that do not follow the IPv6 header")
        if protocol == FRAGMENT:
            length, fragment = 8, True
            if (packet[offset + 2] << 8 | packet[offset + 3]) & 0xFFF8:
                return packet[offset], offset + 8, True
        elif protocol == AUTHENTICATION:
            length = (packet[offset + 1] + 2) * 4  # RFC 4302, section 2.2
        else:
            length = (packet[offset + 1] + 1) * 8
        protocol, offset = packet[offset], offset + length
        if offset > size:
            raise BadPacket("extension headers reach beyond the packet")
    return protocol, offset, fragment


def describe(packet: Buffer) -> str:
    """Tell in one line what a packet is; malformed ones too."""
    try:
        source, destination = addresses_untrusted(packet)
        protocol, offset, fragment = transport_untrusted(packet)
    except BadPacket as error:
        return f"malformed packet of {len(packet)} bytes: {error}"
    name = _PROTOCOL_NAMES.get(protocol, f"protocol {protocol}")
    ports = ""
    if protocol in {TCP, UDP} and not fragment and len(packet) >= offset + 4:
        first, second = (int.from_bytes(packet[at : at + 2], "big") for at in (offset, offset + 2))
        ports = f" {first} > {second}"
    return (
        f"IPv{packet[0] >> 4} {ip_address(source)} > {ip_address(destination)}"
        f" {name}{ports}{' fragment' if fragment else ''}, {len(packet)} bytes"
    )
