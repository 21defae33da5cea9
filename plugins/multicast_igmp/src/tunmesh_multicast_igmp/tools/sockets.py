"""Sockets of multicast: sending to a group, and joining it with or without sources."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TypeAlias

from tunmesh.errors import TunmeshError

Address: TypeAlias = IPv4Address | IPv6Address

# <linux/in.h>: the calls of RFC 3678, which name the interface and work for both families.
_MCAST_JOIN_GROUP, _MCAST_BLOCK_SOURCE, _MCAST_JOIN_SOURCE_GROUP = 42, 43, 46
#: A `struct sockaddr_storage` in a `struct group_req`: 128 bytes, aligned to 8.
_STORAGE = 128
_INDEX = struct.Struct("I4x")
_SOCKADDR_IN = struct.Struct("=HH4s")
_SOCKADDR_IN6 = struct.Struct("=HHI16sI")


class MulticastError(TunmeshError):
    """A group that cannot be joined or sent to."""


def parse_group(text: str) -> Address:
    """The group that a text names.

    Raises:
        MulticastError: It names none.
    """
    try:
        group = ip_address(text)
    except ValueError as error:
        raise MulticastError(f"{text} is no address") from error
    if not group.is_multicast:
        raise MulticastError(f"{text} is no address of a group: those are 224.0.0.0/4 and ff00::/8")
    return group


def parse_sources(group: Address, texts: Sequence[str]) -> list[Address]:
    """The sources that texts name.

    Raises:
        MulticastError: One of them names none, or is of the other version of IP.
    """
    try:
        sources = [ip_address(text) for text in texts]
    except ValueError as error:
        raise MulticastError(f"--source: {error}") from error
    for source in sources:
        if source.version != group.version:
            raise MulticastError(f"--source {source}: the group is of IPv{group.version}")
    return sources


def index_of(device: str) -> int:
    """The index of an interface; 0, the host's choice, for no name.

    Raises:
        MulticastError: There is none of that name.
    """
    try:
        return socket.if_nametoindex(device) if device else 0
    except OSError as error:
        raise MulticastError(f"there is no interface {device}") from error


def sender(group: Address, device: str, ttl: int) -> socket.socket:
    """A socket that sends to a group.

    Raises:
        MulticastError: There is no such interface.
    """
    index = index_of(device)
    if group.version == 4:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, ttl)
        if index:
            # A `struct ip_mreqn`.
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, struct.pack("@8xi", index))
    else:
        sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, ttl)
        if index:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
    return sock


class Membership:
    """A socket that has joined a group, and does so again when the interface is another one.

    A kernel forgets memberships with the interface: a program that should outlive it has to look.

    Args:
        group: The group.
        port: UDP port.
        device: Name of the interface; empty for the host's choice.
        sources: The only sources wanted; none for any.

    Raises:
        MulticastError: It cannot be joined.
    """

    def __init__(self, group: Address, port: int, device: str, sources: Sequence[Address]) -> None:
        self._group = group
        self._device = device
        self._sources = sources
        self._index = index_of(device)
        four = group.version == 4
        self._level = socket.IPPROTO_IP if four else socket.IPPROTO_IPV6
        self.socket = socket.socket(socket.AF_INET if four else socket.AF_INET6, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            # Bound to the group, it gets nothing of other groups that the host has joined.
            self.socket.bind((str(group), port) if four else (str(group), port, 0, self._index))
            self._join()
        except OSError as error:
            self.socket.close()
            raise MulticastError(_reason(group, device, error)) from error

    def renew(self) -> bool:
        """Join again if the interface has become another one; whether it has."""
        try:
            index = socket.if_nametoindex(self._device) if self._device else 0
            if index == self._index:
                return False
            self._index = index
            self._join()
        except OSError:  # it is gone, or not ready yet: the next call may find it
            self._index = -1
            return False
        return True

    def block(self, source: Address) -> None:
        """Want no more of a source of a group that was joined for any."""
        request = _INDEX.pack(self._index) + _storage(self._group) + _storage(source)
        self.socket.setsockopt(self._level, _MCAST_BLOCK_SOURCE, request)

    def _join(self) -> None:
        group = _INDEX.pack(self._index) + _storage(self._group)
        if not self._sources:
            self.socket.setsockopt(self._level, _MCAST_JOIN_GROUP, group)
        for source in self._sources:
            request = group + _storage(source)
            self.socket.setsockopt(self._level, _MCAST_JOIN_SOURCE_GROUP, request)


def _storage(address: Address) -> bytes:
    if address.version == 4:
        packed = _SOCKADDR_IN.pack(socket.AF_INET, 0, address.packed)
    else:
        packed = _SOCKADDR_IN6.pack(socket.AF_INET6, 0, 0, address.packed, 0)
    return packed.ljust(_STORAGE, b"\0")


def _reason(group: Address, device: str, error: OSError) -> str:
    if error.errno == errno.ENODEV:
        where = device or "any interface"
        return f"cannot join {group}: no route leads there, name an interface (now: {where})"
    return f"cannot join {group}: {os.strerror(error.errno or 0)}"
