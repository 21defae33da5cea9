"""Packets as hosts and routers send them, built without the code that is tested."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

from tunmesh.packet import checksum, pseudo_header_sum
from tunmesh_multicast_igmp.igmp import encode_ipv4
from tunmesh_multicast_igmp.messages import Address, Record, RecordType
from tunmesh_multicast_igmp.mld import encode_ipv6

HOST4 = "10.42.1.1"
HOST6 = "fe80::1"


def address(text: str) -> Address:
    return ip_address(text)


def record(kind: RecordType, group: str, *sources: str) -> Record:
    return Record(kind, ip_address(group), tuple(map(ip_address, sources)))


def _summed(message: bytes) -> bytes:
    return message[:2] + checksum(message).to_bytes(2, "big") + message[4:]


def _records(records: Iterable[Record], auxiliary: bytes = b"") -> bytes:
    return b"".join(
        bytes((kind, len(auxiliary) // 4))
        + len(sources).to_bytes(2, "big")
        + group.packed
        + b"".join(source.packed for source in sources)
        + auxiliary
        for kind, group, sources in records
    )


def igmp(kind: int, code: int = 0, body: bytes = bytes(4), *, source: str = HOST4,
         to: str = "224.0.0.22") -> bytes:  # fmt: skip
    message = _summed(bytes((kind, code, 0, 0)) + body)
    return encode_ipv4(IPv4Address(source), IPv4Address(to), message)


def igmp3(*records: Record, source: str = HOST4, auxiliary: bytes = b"") -> bytes:
    body = bytes(2) + len(records).to_bytes(2, "big") + _records(records, auxiliary)
    return igmp(0x22, 0, body, source=source)


def igmp2(group: str, *, leave: bool = False, source: str = HOST4) -> bytes:
    to = "224.0.0.2" if leave else group
    return igmp(0x17 if leave else 0x16, 0, IPv4Address(group).packed, source=source, to=to)


def mld(kind: int, body: bytes, *, source: str = HOST6, to: str = "ff02::16") -> bytes:
    return encode_ipv6(IPv6Address(source), IPv6Address(to), bytes((kind, 0, 0, 0)) + body)


def mld2(*records: Record, source: str = HOST6, auxiliary: bytes = b"") -> bytes:
    body = bytes(2) + len(records).to_bytes(2, "big") + _records(records, auxiliary)
    return mld(143, body, source=source)


def mld1(group: str, *, done: bool = False) -> bytes:
    to = "ff02::2" if done else group
    return mld(132 if done else 131, bytes(4) + IPv6Address(group).packed, to=to)


def report(*records: Record, source: str = "") -> bytes:
    """A report of the newest version: IGMP or MLD, as the groups are."""
    if records[0].group.version == 4:
        return igmp3(*records, source=source or HOST4)
    return mld2(*records, source=source or HOST6)


def resummed(packet: bytes) -> bytes:
    """An IGMP or ICMPv6 packet with right checksums, whatever else is wrong with it."""
    if packet[0] >> 4 == 4:
        size = (packet[0] & 15) * 4
        head = packet[:10] + bytes(2) + packet[12:size]
        head = head[:10] + checksum(head).to_bytes(2, "big") + head[12:]
        rest = packet[size:]
        return head + (_summed(rest[:2] + bytes(2) + rest[4:]) if len(rest) >= 4 else rest)
    rest = packet[48:]
    if len(rest) < 4:
        return packet
    rest = rest[:2] + bytes(2) + rest[4:]
    proof = checksum(rest, pseudo_header_sum(packet, 58, len(rest)))
    return packet[:48] + rest[:2] + proof.to_bytes(2, "big") + rest[4:]


def fields(message: Any) -> dict[str, Any]:
    """The fields of a scapy layer."""
    found: dict[str, Any] = message.fields
    return found
