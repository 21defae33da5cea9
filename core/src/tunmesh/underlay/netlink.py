"""The IP addresses of this host's interfaces, and when they change, by rtnetlink (RFC 3549).

Only what is needed here of ``linux/netlink.h``, ``linux/rtnetlink.h``, ``linux/if_addr.h``::

    message    length u32 | type u16 | flags u16 | sequence u32 | port u32 | payload, padded to 4
    ifaddrmsg  family u8 | prefix length u8 | flags u8 | scope u8 | interface index u32
    attribute  length u16 | type u16 | value, padded to 4
"""

from __future__ import annotations

import ipaddress
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from tunmesh.errors import TransportError

IPAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

_MESSAGE = struct.Struct("=IHHII")
_IFADDR = struct.Struct("=BBBBI")
_ATTRIBUTE = struct.Struct("=HH")
_ERROR = struct.Struct("=i")

_NLMSG_ERROR = 2
_NLMSG_DONE = 3
_RTM_NEWADDR = 20
_RTM_GETADDR = 22
_NLM_F_REQUEST = 0x001
_NLM_F_DUMP_INTR = 0x010
_NLM_F_DUMP = 0x300
_RTMGRP_IPV4_IFADDR = 0x010
_RTMGRP_IPV6_IFADDR = 0x100
_IFA_ADDRESS = 1
_IFA_LOCAL = 2
_IFA_FLAGS = 8
_IFA_F_TEMPORARY = 0x01
_IFA_F_UNUSABLE = 0x08 | 0x20 | 0x40  # duplicate found, deprecated, tentative

_DUMP_BYTES = 1 << 16  # the kernel fills at most 32 KiB a message
_DUMP_TRIES = 5
_TIMEOUT = 2.0  # the kernel answers at once; only so that a defect cannot hang the node


@dataclass(frozen=True)
class InterfaceAddress:
    """An address that is ready for use.

    Attributes:
        address: The address itself.
        temporary: Made up for privacy (RFC 8981), and soon replaced.
    """

    address: IPAddress
    temporary: bool


def interface_addresses() -> list[InterfaceAddress]:
    """The usable addresses of all interfaces, in the kernel's order.

    Raises:
        TransportError: The kernel refuses to tell.
    """
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as sock:
            sock.settimeout(_TIMEOUT)
            for _ in range(_DUMP_TRIES):
                found, consistent = _dump(sock)
                if consistent:
                    return found
    except OSError as exc:
        raise TransportError(
            f"cannot read the addresses of the interfaces: {exc.strerror or exc}"
        ) from exc
    raise TransportError("cannot read the addresses of the interfaces: they change all the time")


def open_watch() -> socket.socket:
    """A non-blocking socket that turns readable when an address comes, goes, or becomes usable.

    Raises:
        TransportError: The kernel refuses.
    """
    try:
        sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        try:
            sock.setblocking(False)
            sock.bind((0, _RTMGRP_IPV4_IFADDR | _RTMGRP_IPV6_IFADDR))
        except BaseException:
            sock.close()
            raise
    except OSError as exc:
        raise TransportError(
            f"cannot watch the addresses of the interfaces: {exc.strerror or exc}"
        ) from exc
    return sock


def _dump(sock: socket.socket) -> tuple[list[InterfaceAddress], bool]:
    """Ask for all addresses; also tells whether they stayed the same meanwhile."""
    payload = _IFADDR.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
    flags = _NLM_F_REQUEST | _NLM_F_DUMP
    sock.send(_MESSAGE.pack(_MESSAGE.size + len(payload), _RTM_GETADDR, flags, 1, 0) + payload)
    found: list[InterfaceAddress] = []
    consistent = True
    while True:
        for kind, flags, body in _messages(sock.recv(_DUMP_BYTES)):
            if flags & _NLM_F_DUMP_INTR:
                consistent = False
            if kind == _NLMSG_DONE:
                return found, consistent
            if kind == _NLMSG_ERROR:
                code = -_ERROR.unpack_from(body)[0]
                raise OSError(code, os.strerror(code))
            if kind == _RTM_NEWADDR:
                address = decode_address(body)
                if address is not None:
                    found.append(address)


def _messages(data: bytes) -> Iterator[tuple[int, int, memoryview]]:
    view = memoryview(data)
    while view:
        length, kind, flags, _, _ = _MESSAGE.unpack_from(view)
        yield kind, flags, view[_MESSAGE.size : length]
        view = view[_padded(length) :]


def decode_address(body: memoryview) -> InterfaceAddress | None:
    """What an ``RTM_NEWADDR`` of the kernel says; None if the address is not usable."""
    family, _, flags, _, _ = _IFADDR.unpack_from(body)
    values: dict[int, bytes] = {}
    rest = body[_IFADDR.size :]
    while rest:
        length, kind = _ATTRIBUTE.unpack_from(rest)
        values[kind] = bytes(rest[_ATTRIBUTE.size : length])
        rest = rest[_padded(length) :]
    if _IFA_FLAGS in values:  # the header has room for the lowest eight only
        (flags,) = struct.unpack("=I", values[_IFA_FLAGS])
    # On a point-to-point interface IFA_ADDRESS is the other end's.
    packed = values.get(_IFA_LOCAL, values.get(_IFA_ADDRESS))
    if packed is None or flags & _IFA_F_UNUSABLE:
        return None
    # The bit of "temporary" means "not the first of its prefix" for IPv4.
    temporary = family == socket.AF_INET6 and bool(flags & _IFA_F_TEMPORARY)
    return InterfaceAddress(ipaddress.ip_address(packed), temporary=temporary)


def _padded(length: int) -> int:
    return max(length + 3 & ~3, 4)  # never 0: a wrong length must not make an endless loop
