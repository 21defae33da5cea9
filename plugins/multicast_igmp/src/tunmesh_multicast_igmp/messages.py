"""What IGMP and MLD say, in one form for both: queries, and records of group membership.

Knows nothing of bytes: `tunmesh_multicast_igmp.igmp` and `tunmesh_multicast_igmp.mld` read them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple, TypeAlias

from tunmesh.errors import BadPacket

Address: TypeAlias = IPv4Address | IPv6Address


class RecordType(IntEnum):
    """What a record says: RFC 3376, section 4.2.12; RFC 3810, section 5.2.12."""

    IS_IN = 1  # MODE_IS_INCLUDE
    IS_EX = 2  # MODE_IS_EXCLUDE
    TO_IN = 3  # CHANGE_TO_INCLUDE_MODE
    TO_EX = 4  # CHANGE_TO_EXCLUDE_MODE
    ALLOW = 5  # ALLOW_NEW_SOURCES
    BLOCK = 6  # BLOCK_OLD_SOURCES


class Record(NamedTuple):
    """One record of a report.

    Older reports and leaves are records as well (RFC 3376, section 7.3.2): a join is ``IS_EX {}``,
    a leave is ``TO_IN {}``.
    """

    kind: RecordType
    group: Address
    sources: tuple[Address, ...] = ()


@dataclass(frozen=True)
class Report:
    """What a host says of its groups.

    Attributes:
        source: Address it came from.
        version: 1 to 3 for IGMP, 1 or 2 for MLD.
        records: What it says.
    """

    source: Address
    version: int
    records: tuple[Record, ...]


@dataclass(frozen=True)
class Query:
    """What a multicast router asks.

    Attributes:
        source: Address it came from.
        version: 1 to 3 for IGMP, 1 or 2 for MLD.
        group: The group asked for, None for all.
        sources: The sources asked for, none for all.
    """

    source: Address
    version: int
    group: Address | None = None
    sources: tuple[Address, ...] = ()


#: None: a message that is well-formed and of no concern.
Message: TypeAlias = Report | Query | None


def group_untrusted(packed: bytes) -> Address:
    """The group of 4 or 16 bytes.

    Raises:
        BadPacket: It is no multicast address.
    """
    group = ip_address(packed)
    if not group.is_multicast:
        raise BadPacket("membership of what is no group")
    return group


def sources_untrusted(body: bytes, size: int) -> tuple[Address, ...]:
    """The addresses of `size` bytes each that fill `body`.

    Raises:
        BadPacket: One of them is nobody's address.
    """
    sources = tuple(ip_address(body[at : at + size]) for at in range(0, len(body), size))
    if any(source.is_multicast or source.is_unspecified for source in sources):
        raise BadPacket("a source that is nobody's address")
    return sources


def records_untrusted(body: bytes, count: int, size: int) -> tuple[Record, ...]:
    """The records of an IGMPv3 or MLDv2 report, whose layouts differ in the addresses only.

    ::

        type u8 | words of auxiliary data u8 | sources u16 | group | sources … | auxiliary data

    Records of unknown type are left out (RFC 3376, section 4.2.12), auxiliary data and what
    follows the last record are ignored (sections 4.2.10 and 4.2.11).

    Args:
        body: What follows the header of the report.
        count: Number of records.
        size: Bytes of an address.

    Raises:
        BadPacket: They do not fit, or an address cannot be.
    """
    records = []
    at = 0
    for _ in range(count):
        fixed = at + 4 + size
        if fixed > len(body):
            raise BadPacket("group records reach beyond the report")
        end = fixed + (body[at + 2] << 8 | body[at + 3]) * size
        following = end + body[at + 1] * 4
        if following > len(body):
            raise BadPacket("a group record reaches beyond the report")
        if RecordType.IS_IN <= body[at] <= RecordType.BLOCK:
            records.append(
                Record(
                    RecordType(body[at]),
                    group_untrusted(body[at + 4 : fixed]),
                    sources_untrusted(body[fixed:end], size),
                )
            )
        at = following
    return tuple(records)


def query_body(group: Address, sources: Iterable[Address], flags: int, interval: float) -> bytes:
    """The end of an IGMPv3 or MLDv2 query: group, S flag and robustness, QQIC, sources."""
    packed = [source.packed for source in sources]
    return (
        group.packed
        + bytes((flags, eight_bit_code(round(interval))))
        + len(packed).to_bytes(2, "big")
        + b"".join(packed)
    )


def eight_bit_code(value: int) -> int:
    """A number from 0 to 31,744 as RFC 3376, section 4.1.1, codes it; rounded down above 127."""
    if value < 128:
        return value
    value = min(value, 31_744)
    exponent = value.bit_length() - 8
    return 0x80 | exponent << 4 | (value >> exponent + 3) & 0x0F


def sixteen_bit_code(value: int) -> int:
    """A number from 0 to 8,387,584 as RFC 3810, section 5.1.3, codes it; rounded down if large."""
    if value < 32_768:
        return value
    value = min(value, 8_387_584)
    exponent = value.bit_length() - 16
    return 0x8000 | exponent << 12 | (value >> exponent + 3) & 0x0FFF
