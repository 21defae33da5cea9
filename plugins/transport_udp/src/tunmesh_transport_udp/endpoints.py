"""Endpoints as URLs and as socket addresses. Contains no I/O but the look-up of a zone's index."""

from __future__ import annotations

import re
import socket
import struct
import sys
from functools import lru_cache
from typing import NamedTuple, TypeAlias

from tunmesh.plugin import EndpointError

SCHEME = "udp"

#: What the socket module calls an address: (host, port) or (host, port, flow label, zone).
SocketAddress: TypeAlias = tuple[str, int] | tuple[str, int, int, int]

_AUTHORITY = re.compile(r"(?:\[(?P<ipv6>[^\[\]/]+)\]|(?P<host>[^\[\]:/]+)):(?P<port>[0-9]{1,5})")
_MAX_PORT = 65535
_IPV6_PREFIX_BYTES = 8  # of a /64: what one customer or one host is given
_BROADCAST = b"\xff\xff\xff\xff"
_MAPPED = bytes(10) + b"\xff\xff"  # RFC 4291, 2.5.5.2


class Literal(NamedTuple):
    """An IP address and a port.

    Attributes:
        family: ``AF_INET`` or ``AF_INET6``.
        address: The form that the kernel takes, and gives with each datagram.
    """

    family: socket.AddressFamily
    address: SocketAddress


def split_authority(text: str) -> tuple[str, int]:
    """Split ``host:port`` or ``[ipv6]:port``.

    Raises:
        EndpointError: It is neither.
    """
    match = _AUTHORITY.fullmatch(text)
    if match is None or int(match["port"]) > _MAX_PORT:
        raise EndpointError(f"{text!r} is not of the form host:port or [ipv6]:port")
    return match["ipv6"] or match["host"], int(match["port"])


def split_url(url: str) -> tuple[str, int]:
    """Split ``udp://host:port`` into host and port.

    Raises:
        EndpointError: It is no such URL.
    """
    scheme, separator, authority = url.partition("://")
    if scheme != SCHEME or not separator:
        raise EndpointError(f"{url!r} is not an endpoint of the form udp://host:port")
    host, port = split_authority(authority.removesuffix("/"))
    if port == 0:
        raise EndpointError(f"{url!r} has port 0, which nobody can listen on")
    return host, port


def parse_literal(host: str, port: int) -> Literal:
    """The socket address of an IP address, which may have a zone (``fe80::1%eth0``).

    Raises:
        EndpointError: It is not an IP address, or its zone is no interface of this host.
    """
    address, _, zone = host.partition("%")
    try:
        if ":" not in address:
            packed = socket.inet_pton(socket.AF_INET, host)
            return Literal(socket.AF_INET, (socket.inet_ntop(socket.AF_INET, packed), port))
        packed = socket.inet_pton(socket.AF_INET6, address)
        index = _zone_index(zone) if zone else 0
    except (OSError, OverflowError, ValueError) as exc:
        raise EndpointError(f"{host!r} is not an IP address that this host can use") from exc
    return Literal(socket.AF_INET6, (socket.inet_ntop(socket.AF_INET6, packed), port, 0, index))


def _zone_index(zone: str) -> int:
    if not zone.isdecimal():
        return socket.if_nametoindex(zone)
    socket.if_indextoname(int(zone))
    return int(zone)


@lru_cache(maxsize=4096)
def parse_endpoint(endpoint: str) -> Literal:
    """The socket address of an endpoint that datagrams may be sent to.

    Raises:
        EndpointError: It has no literal address, or one that is no single host's.
    """
    literal = parse_literal(*split_url(endpoint))
    packed = socket.inet_pton(literal.family, literal.address[0])
    multicast = packed[0] >> 4 == 0xE if len(packed) == 4 else packed[0] == 0xFF
    if multicast or not any(packed) or packed == _BROADCAST or packed.startswith(_MAPPED):
        raise EndpointError(f"{endpoint!r} is not the address of one host")
    return literal


def format_endpoint(address: SocketAddress) -> str:
    """The URL of a socket address; `parse_endpoint` takes it back."""
    host, port = address[:2]
    if ":" not in host:
        return f"{SCHEME}://{host}:{port}"
    # Where a zone is given by its name, it is part of the host already.
    zone = f"%{address[3]}" if len(address) > 2 and address[3] else ""
    return f"{SCHEME}://[{host}{zone}]:{port}"


def rate_limit_key(address: SocketAddress) -> bytes:
    """What a stranger cannot vary at will: an IPv4 address, or the /64 of an IPv6 address."""
    if len(address) == 2:
        return socket.inet_pton(socket.AF_INET, address[0])
    return socket.inet_pton(socket.AF_INET6, address[0])[:_IPV6_PREFIX_BYTES]


_SOCKADDR_IN = struct.Struct("!2xH4s")
_SOCKADDR_IN6 = struct.Struct("!2xHI16s")


def socket_address(raw: bytes) -> SocketAddress:
    """The socket address that the kernel wrote as a ``struct sockaddr``, of either family."""
    if int.from_bytes(raw[:2], sys.byteorder) == socket.AF_INET:
        port, host = _SOCKADDR_IN.unpack_from(raw)
        return socket.inet_ntop(socket.AF_INET, host), port
    port, flow, host = _SOCKADDR_IN6.unpack_from(raw)
    zone = int.from_bytes(raw[24:28], sys.byteorder)
    text = socket.inet_ntop(socket.AF_INET6, host)
    if zone:  # as the socket module writes it
        text += f"%{socket.if_indextoname(zone)}"
    return text, port, flow, zone
