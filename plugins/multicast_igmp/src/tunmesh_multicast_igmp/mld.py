"""MLD: RFC 2710 (version 1) and RFC 3810 (version 2). Contains no I/O."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from ipaddress import IPv6Address

from tunmesh.errors import BadPacket
from tunmesh.packet import Buffer, checksum, pseudo_header_sum, transport_untrusted
from tunmesh_multicast_igmp.messages import (
    Message,
    Query,
    Record,
    RecordType,
    Report,
    group_untrusted,
    query_body,
    records_untrusted,
    sixteen_bit_code,
    sources_untrusted,
)

PROTOCOL = 58  # ICMPv6
QUERY, REPORT1, DONE, REPORT2 = 130, 131, 132, 143
#: Every node of the link; general queries go there.
ALL_NODES = IPv6Address("ff02::1")

_HEADER = struct.Struct("!IHBB16s16s")
#: A hop-by-hop header of which the router alert (RFC 2711) has the value of MLD.
_ROUTER_ALERT = b"\x05\x02\x00\x00"
_HOP_BY_HOP = bytes((PROTOCOL, 0)) + _ROUTER_ALERT + b"\x01\x00"
_UNSPECIFIED = IPv6Address(0)


def decode_mld_untrusted(packet: Buffer) -> Message:
    """Read an MLD message with its IPv6 header.

    Returns:
        The message; None for another one of ICMPv6.

    Raises:
        BadPacket: It is malformed, or is not of this link.
    """
    packet = bytes(packet)
    protocol, offset, fragment = transport_untrusted(packet)
    if packet[0] >> 4 != 6 or protocol != PROTOCOL or fragment:
        raise BadPacket("no whole ICMPv6 message")
    end = 40 + int.from_bytes(packet[4:6], "big")
    if not offset + 8 <= end <= len(packet):
        raise BadPacket("ICMPv6 message of less than eight bytes, or cut off")
    message = packet[offset:end]
    if checksum(message, pseudo_header_sum(packet, PROTOCOL, len(message))):
        raise BadPacket("ICMPv6 message with a wrong checksum")
    if message[0] not in {QUERY, REPORT1, DONE, REPORT2}:
        return None
    # RFC 2710, section 3; RFC 3810, section 5.
    source = IPv6Address(packet[8:24])
    if packet[7] != 1 or not (source.is_link_local or source.is_unspecified):
        raise BadPacket("MLD message that is not of this link")
    if packet[6] != 0 or not _has_router_alert(packet):
        raise BadPacket("MLD message without router alert")
    return _decode(source, message)


def _has_router_alert(packet: bytes) -> bool:
    """Whether the hop-by-hop header, which is known to be whole, has the option (RFC 8200, 4.2)."""
    at, end = 42, 48 + packet[41] * 8
    while at < end:
        if packet[at] == 0:  # Pad1 has no length
            at += 1
            continue
        if at + 1 >= end:
            raise BadPacket("option without length")
        if packet[at : at + 4] == _ROUTER_ALERT:
            return True
        at += 2 + packet[at + 1]
    return False


def _decode(source: IPv6Address, message: bytes) -> Message:
    kind = message[0]
    if kind == REPORT2:
        count = int.from_bytes(message[6:8], "big")
        return Report(source, 2, records_untrusted(message[8:], count, 16))
    if len(message) < 24:
        raise BadPacket("MLD message of less than 24 bytes")
    if kind == QUERY:
        return _decode_query(source, message)
    group = group_untrusted(message[8:24])
    record = Record(RecordType.IS_EX if kind == REPORT1 else RecordType.TO_IN, group)
    return Report(source, 1, (record,))


def _decode_query(source: IPv6Address, message: bytes) -> Query:
    """Queries are told apart by their length (RFC 3810, section 8.1)."""
    group = None if message[8:24] == bytes(16) else group_untrusted(message[8:24])
    if len(message) == 24:
        return Query(source, 1, group)
    if len(message) < 28:
        raise BadPacket("MLD query of 25 to 27 bytes")
    end = 28 + int.from_bytes(message[26:28], "big") * 16
    if end > len(message):
        raise BadPacket("sources reach beyond the MLD query")
    return Query(source, 2, group, sources_untrusted(message[28:end], 16))


def encode_mld_query(
    source: IPv6Address,
    *,
    response: float,
    interval: float,
    robustness: int,
    group: IPv6Address | None = None,
    sources: Iterable[IPv6Address] = (),
) -> bytes:
    """An MLDv2 query with its IPv6 header.

    Args:
        source: A link-local address that is not the host's own: hosts ignore any other.
        response: Within how many seconds the host shall answer.
        interval: Seconds between general queries.
        robustness: The robustness variable.
        group: The group asked for, None for all.
        sources: The sources asked for, none for all.
    """
    code = sixteen_bit_code(round(response * 1000))
    flags = robustness if robustness < 8 else 0  # RFC 3810, section 5.1.8
    message = struct.pack("!BBHHH", QUERY, 0, 0, code, 0)
    message += query_body(group or _UNSPECIFIED, sources, flags, interval)
    return encode_ipv6(source, group or ALL_NODES, message)


def encode_ipv6(source: IPv6Address, destination: IPv6Address, message: bytes) -> bytes:
    """An MLD message behind its IPv6 and hop-by-hop headers, with its checksum."""
    length = len(_HOP_BY_HOP) + len(message)
    header = _HEADER.pack(6 << 28, length, 0, 1, source.packed, destination.packed)
    proof = checksum(message, pseudo_header_sum(header, PROTOCOL, len(message)))
    return header + _HOP_BY_HOP + message[:2] + proof.to_bytes(2, "big") + message[4:]
