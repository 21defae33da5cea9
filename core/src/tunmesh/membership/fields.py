"""What a node may say of itself: the limits and the canonical form of each field."""

from __future__ import annotations

import re
from ipaddress import (
    IPv4Address,
    IPv6Address,
    IPv6Interface,
    ip_address,
    ip_interface,
    ip_network,
)
from typing import TypeAlias

from tunmesh.errors import BadPacket

Address: TypeAlias = IPv4Address | IPv6Address

MAX_NAME = 63
MAX_ENDPOINT = 256

_NOT_IN_NAMES = re.compile(r"[^a-z0-9-]")
_ENDPOINT = re.compile(r"[a-z][a-z0-9+.-]*://[!-~]+")
_BOOT_ID = re.compile(r"[0-9a-f]{16}")


def clean_name(text: str) -> str:
    """The node name for a host name: lower case, to the first dot, nothing but ``[a-z0-9-]``."""
    return _NOT_IN_NAMES.sub("-", text.lower().partition(".")[0])[:MAX_NAME]


def address_untrusted(text: str) -> str:
    """The canonical form of an address with its local prefix, ``10.42.1.1/24``.

    Raises:
        BadPacket: It is none, or no address that one node can own.
    """
    try:
        interface = ip_interface(text)
    except ValueError as error:
        raise BadPacket("record with a malformed address") from error
    host = interface.ip
    # A prefix of length 0 would make everybody local; a mapped or a scoped address is a second
    # spelling of another one.
    if (
        interface.network.prefixlen == 0
        or host.is_unspecified
        or host.is_multicast
        or host.is_loopback
        or (isinstance(interface, IPv6Interface) and (interface.scope_id or _is_mapped(host)))
        or host == IPv4Address("255.255.255.255")
    ):
        raise BadPacket("record with an address that no node can own")
    return str(interface)


def subnet_untrusted(text: str) -> str:
    """The canonical form of a prefix behind a node.

    Raises:
        BadPacket: It is none, has bits behind its prefix, or is not unicast.
    """
    try:
        network = ip_network(text)
    except ValueError as error:
        raise BadPacket("record with a malformed subnet") from error
    first = network.network_address
    if first.is_multicast or first.is_loopback or _is_mapped(first) or "%" in text:
        raise BadPacket("record with a subnet that no node can have")
    return str(network)


def endpoint_untrusted(text: str) -> str:
    """An endpoint, unchanged: what it means is the transport's business.

    Raises:
        BadPacket: It is no URL of printable ASCII, or too long.
    """
    if len(text) > MAX_ENDPOINT or _ENDPOINT.fullmatch(text) is None:
        raise BadPacket("record with a malformed endpoint")
    return text


def boot_id_untrusted(text: str) -> str:
    """A boot id, unchanged.

    Raises:
        BadPacket: It is not 16 lower-case hexadecimal digits.
    """
    if _BOOT_ID.fullmatch(text) is None:
        raise BadPacket("record with a malformed boot id")
    return text


def unpack_address(packed: bytes) -> Address:
    """The address of 4 or 16 bytes."""
    return ip_address(packed)


def _is_mapped(host: Address) -> bool:
    return isinstance(host, IPv6Address) and host.ipv4_mapped is not None
