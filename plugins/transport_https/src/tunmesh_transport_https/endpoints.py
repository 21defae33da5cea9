"""Endpoints as URLs. Contains no I/O.

::

    https://198.51.100.7:4443#pin      what a node announces: with the pin of its certificate
    https://lb.example.com             what an operator writes; the port is 443 unless told

The *pin* is the SHA-256 of the certificate's public key, its first 16 bytes in base64url: announced
in a record that the node has signed, it tells those who dial that they reached the right one.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from functools import lru_cache
from typing import NamedTuple

from tunmesh.plugin import EndpointError

SCHEME = "https"
DEFAULT_PORT = 443

_URL = re.compile(
    r"https://(?:\[(?P<ipv6>[0-9A-Fa-f:.]+(?:%[^\[\]/#]+)?)\]|(?P<host>[A-Za-z0-9._-]+))"
    r"(?::(?P<port>[0-9]{1,5}))?/?(?:#(?P<pin>[A-Za-z0-9_-]{22}))?"
)
_AUTHORITY = re.compile(r"(?:\[(?P<ipv6>[^\[\]/]+)\]|(?P<host>[^\[\]:/]+)):(?P<port>[0-9]{1,5})")
_MAX_PORT = 65535
_IPV6_PREFIX_BYTES = 8  # of a /64: what one customer or one host is given


class Endpoint(NamedTuple):
    """An endpoint in its parts.

    Attributes:
        host: Name or IP address, without brackets.
        port: The port.
        pin: Of the certificate, empty if it is not known.
    """

    host: str
    port: int
    pin: str = ""

    @property
    def literal(self) -> bool:
        """Whether the host is an IP address."""
        try:
            ipaddress.ip_address(self.host)
        except ValueError:
            return False
        return True

    @property
    def authority(self) -> str:
        """``host:port``, as in a URL."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """In the one form that `parse_endpoint` takes back."""
        return f"{SCHEME}://{self.authority}" + (f"#{self.pin}" if self.pin else "")


@lru_cache(maxsize=4096)
def parse_endpoint(url: str) -> Endpoint:
    """The parts of an endpoint.

    Raises:
        EndpointError: It is none.
    """
    match = _URL.fullmatch(url)
    if match is None:
        raise EndpointError(f"{url!r} is not an endpoint of the form https://host[:port]")
    port = int(match["port"] or DEFAULT_PORT)
    if not 0 < port <= _MAX_PORT:
        raise EndpointError(f"{url!r} has a port that nobody can listen on")
    host = match["ipv6"] or match["host"]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        if match["ipv6"]:
            raise EndpointError(f"{url!r} has no valid IPv6 address") from None
    else:
        if address.is_multicast or address.is_unspecified or int(address) == 0xFFFFFFFF:
            raise EndpointError(f"{url!r} is not the address of one host")
        host = str(address)
    return Endpoint(host, port, match["pin"] or "")


def split_authority(text: str) -> tuple[str, int]:
    """Split ``address:port`` or ``[ipv6]:port``.

    Raises:
        EndpointError: It is neither.
    """
    match = _AUTHORITY.fullmatch(text)
    if match is None or int(match["port"]) > _MAX_PORT:
        raise EndpointError(f"{text!r} is not of the form address:port or [ipv6]:port")
    return match["ipv6"] or match["host"], int(match["port"])


def rate_limit_key(address: str) -> bytes:
    """What a stranger cannot vary at will: an IPv4 address, or the /64 of an IPv6 address."""
    address = address.partition("%")[0]
    if ":" not in address:
        return socket.inet_pton(socket.AF_INET, address)
    return socket.inet_pton(socket.AF_INET6, address)[:_IPV6_PREFIX_BYTES]
