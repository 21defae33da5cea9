"""IGMP: RFC 1112 (version 1), RFC 2236 (version 2), RFC 3376 (version 3). Contains no I/O."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from ipaddress import IPv4Address

from tunmesh.errors import BadPacket
from tunmesh.packet import Buffer, checksum, transport_untrusted
from tunmesh_multicast_igmp.messages import (
    Message,
    Query,
    Record,
    RecordType,
    Report,
    eight_bit_code,
    group_untrusted,
    query_body,
    records_untrusted,
    sources_untrusted,
)

PROTOCOL = 2
#: Every system of the link; general queries go there.
ALL_SYSTEMS = IPv4Address("224.0.0.1")

_QUERY, _REPORT1, _REPORT2, _LEAVE, _REPORT3 = 0x11, 0x12, 0x16, 0x17, 0x22
#: An IPv4 header of 24 bytes, type of service 0xc0 and TTL 1 (RFC 3376, section 4).
_HEADER = struct.Struct("!BBHHHBBH4s4s4s")
_ROUTER_ALERT = b"\x94\x04\x00\x00"  # RFC 2113
_UNSPECIFIED = IPv4Address(0)


def decode_igmp_untrusted(packet: Buffer) -> Message:
    """Read an IGMP message with its IPv4 header.

    Returns:
        The message; None for one of a type that is unknown or of no concern.

    Raises:
        BadPacket: It is malformed.
    """
    packet = bytes(packet)
    protocol, offset, fragment = transport_untrusted(packet)
    end = int.from_bytes(packet[2:4], "big")
    if packet[0] >> 4 != 4 or protocol != PROTOCOL or fragment:
        raise BadPacket("no whole IGMP message")
    if not offset + 8 <= end <= len(packet):
        raise BadPacket("IGMP message of less than eight bytes, or cut off")
    if checksum(packet[:offset]) or checksum(packet[offset:end]):
        raise BadPacket("IGMP message with a wrong checksum")
    source = IPv4Address(packet[12:16])
    return _decode(source, packet[offset:end])


def _decode(source: IPv4Address, message: bytes) -> Message:
    kind = message[0]
    if kind == _QUERY:
        return _decode_query(source, message)
    if kind == _REPORT3:
        count = int.from_bytes(message[6:8], "big")
        return Report(source, 3, records_untrusted(message[8:], count, 4))
    if kind in {_REPORT1, _REPORT2}:
        group = group_untrusted(message[4:8])
        version = 1 if kind == _REPORT1 else 2
        return Report(source, version, (Record(RecordType.IS_EX, group),))
    if kind == _LEAVE:
        group = group_untrusted(message[4:8])
        return Report(source, 2, (Record(RecordType.TO_IN, group),))
    return None  # RFC 3376, section 4: silently ignored


def _decode_query(source: IPv4Address, message: bytes) -> Query:
    """Queries are told apart by their length (RFC 3376, section 7.1)."""
    group = None if message[4:8] == bytes(4) else group_untrusted(message[4:8])
    if len(message) == 8:
        return Query(source, 2 if message[1] else 1, group)
    if len(message) < 12:
        raise BadPacket("IGMP query of nine to eleven bytes")
    end = 12 + int.from_bytes(message[10:12], "big") * 4
    if end > len(message):
        raise BadPacket("sources reach beyond the IGMP query")
    return Query(source, 3, group, sources_untrusted(message[12:end], 4))


def encode_igmp_query(
    *,
    response: float,
    interval: float,
    robustness: int,
    group: IPv4Address | None = None,
    sources: Iterable[IPv4Address] = (),
) -> bytes:
    """An IGMPv3 query with its IPv4 header, from 0.0.0.0 as of a proxy (RFC 4541, 2.1.1).

    Args:
        response: Within how many seconds the host shall answer.
        interval: Seconds between general queries.
        robustness: The robustness variable.
        group: The group asked for, None for all.
        sources: The sources asked for, none for all.
    """
    head = bytes((_QUERY, eight_bit_code(round(response * 10)), 0, 0))
    flags = robustness if robustness < 8 else 0  # RFC 3376, section 4.1.6
    message = head + query_body(group or _UNSPECIFIED, sources, flags, interval)
    message = message[:2] + checksum(message).to_bytes(2, "big") + message[4:]
    return encode_ipv4(_UNSPECIFIED, group or ALL_SYSTEMS, message)


def encode_ipv4(source: IPv4Address, destination: IPv4Address, message: bytes) -> bytes:
    """An IGMP message behind its IPv4 header with the router alert option."""
    length = _HEADER.size + len(message)
    fixed = 0x46, 0xC0, length, 0, 0, 1, PROTOCOL
    addressed = source.packed, destination.packed, _ROUTER_ALERT
    proof = checksum(_HEADER.pack(*fixed, 0, *addressed))
    return _HEADER.pack(*fixed, proof, *addressed) + message
