"""What a node publishes in its record: its groups, each with mode and sources.

::

    version u8 (1) | flags u8 (1: router port) | zlib of the groups, one after another:
    head u8 | group | sources …           head: 0x80 IPv6, 0x40 EXCLUDE, 0x3f number of sources

Addresses have 4 or 16 bytes. The whole has at most `MOST_BYTES`, so that a record has room for
it. Contains no I/O.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address

from tunmesh.errors import BadPacket
from tunmesh_multicast_igmp.messages import Address, group_untrusted, sources_untrusted
from tunmesh_multicast_igmp.state import Filter

VERSION = 1
MOST_BYTES = 12 * 1024
MOST_GROUPS = 1024
MOST_SOURCES = 0x3F
_MOST_UNPACKED = 128 * 1024
_ROUTER_PORT = 1
_IPV6, _EXCLUDE = 0x80, 0x40


@dataclass(frozen=True)
class Membership:
    """What a node takes.

    Attributes:
        groups: Its groups.
        router_port: Whether it takes every group besides, having a multicast router behind it.
    """

    groups: Mapping[Address, Filter] = field(default_factory=dict)
    router_port: bool = False


NOTHING = Membership()


def encode_membership(membership: Membership) -> tuple[bytes, int]:
    """The attribute, empty for a node that takes nothing.

    Returns:
        The attribute, and how many groups did not fit: the last ones.
    """
    items = [_encode_group(group, wanted) for group, wanted in membership.groups.items()]
    if not items and not membership.router_port:
        return b"", 0
    head = bytes((VERSION, _ROUTER_PORT if membership.router_port else 0))
    encoded = _pack(head, items)
    low, high = 0, len(items)
    if encoded is None:  # find the most that fit
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (low, middle - 1) if _pack(head, items[:middle]) is None else (middle, high)
        encoded = _pack(head, items[:low])
    assert encoded is not None
    return encoded, len(items) - high


def _pack(head: bytes, items: Sequence[bytes]) -> bytes | None:
    body = b"".join(items)
    encoded = head + zlib.compress(body, 9)
    fits = len(encoded) <= MOST_BYTES and len(body) <= _MOST_UNPACKED
    return encoded if fits and len(items) <= MOST_GROUPS else None


def _encode_group(group: Address, wanted: Filter) -> bytes:
    sources = sorted(source.packed for source in wanted.sources)
    head = (_IPV6 if group.version == 6 else 0) | (_EXCLUDE if wanted.exclude else 0) | len(sources)
    return bytes((head,)) + group.packed + b"".join(sources)


def decode_membership_untrusted(attribute: bytes) -> Membership:
    """Read a node's attribute.

    Raises:
        BadPacket: It is malformed, of another version, or beyond the limits.
    """
    if not 2 <= len(attribute) <= MOST_BYTES or attribute[0] != VERSION:
        raise BadPacket("membership of another version, or too large")
    body = _unpack(attribute[2:])
    groups: dict[Address, Filter] = {}
    at = 0
    while at < len(body):
        head = body[at]
        size = 16 if head & _IPV6 else 4
        first = at + 1 + size
        end = first + (head & MOST_SOURCES) * size
        if end > len(body):
            raise BadPacket("membership that is cut off")
        group = group_untrusted(body[at + 1 : first])
        sources = frozenset(sources_untrusted(body[first:end], size))
        if group in groups or not (sources or head & _EXCLUDE):
            raise BadPacket("membership with a repeated or an unwanted group")
        groups[group] = Filter(bool(head & _EXCLUDE), sources)
        at = end
    if len(groups) > MOST_GROUPS:
        raise BadPacket(f"membership of more than {MOST_GROUPS} groups")
    return Membership(groups, bool(attribute[1] & _ROUTER_PORT))


def _unpack(data: bytes) -> bytes:
    unpacker = zlib.decompressobj()
    try:
        body = unpacker.decompress(data, _MOST_UNPACKED)
    except zlib.error as error:
        raise BadPacket("membership that cannot be unpacked") from error
    if not unpacker.eof or unpacker.unused_data:
        raise BadPacket("membership that is cut off, too large, or followed by something")
    return body


def parse_group(text: str) -> Address:
    """The group that a text names.

    Raises:
        ValueError: It names none.
    """
    group = ip_address(text)
    if not group.is_multicast:
        raise ValueError(f"{text} is no multicast address")
    return group
