"""What happens to a device, and its addresses, as the kernel tells on an rtnetlink socket.

Small and synchronous, for the event loop's thread; whatever changes something goes by pyroute2.
Only what is needed here of ``linux/netlink.h``, ``linux/rtnetlink.h``, ``linux/if_addr.h``::

    message    length u32 | type u16 | flags u16 | sequence u32 | port u32 | payload, padded to 4
    ifinfomsg  family u8 | - | type u16 | interface index i32 | flags u32 | change mask u32
    ifaddrmsg  family u8 | prefix length u8 | flags u8 | scope u8 | interface index u32
    rtmsg      family u8 | destination length u8 | … 12 bytes in all
    attribute  length u16 | type u16 | value, padded to 4
"""

from __future__ import annotations

import ipaddress
import os
import socket
import struct
from collections.abc import Iterator
from enum import Enum, auto

from tunmesh.interfaces.tun import Interface

_MESSAGE = struct.Struct("=IHHII")
_IFINFO = struct.Struct("=BxHiII")
_IFADDR = struct.Struct("=BBBBI")
_RTMSG_BYTES = 12
_ATTRIBUTE = struct.Struct("=HH")
_U32 = struct.Struct("=I")
_S32 = struct.Struct("=i")

_NLMSG_ERROR = 2
_NLMSG_DONE = 3
_RTM_NEWLINK = 16
_RTM_DELLINK = 17
_RTM_NEWADDR = 20
_RTM_DELADDR = 21
_RTM_GETADDR = 22
_RTM_DELROUTE = 25
_NLM_F_REQUEST = 0x001
_NLM_F_DUMP_INTR = 0x010
_NLM_F_DUMP = 0x300
_RTMGRP_LINK = 0x001
_RTMGRP_IPV4_IFADDR = 0x010
_RTMGRP_IPV4_ROUTE = 0x040
_RTMGRP_IPV6_IFADDR = 0x100
_RTMGRP_IPV6_ROUTE = 0x400
_IFA_ADDRESS = 1
_IFA_LOCAL = 2
_IFA_FLAGS = 8
_IFA_F_DADFAILED = 0x08
_IFA_F_TENTATIVE = 0x40
_RTA_OIF = 4
_IFF_UP = 0x1

#: Of the addresses of all devices.
ADDRESS_GROUPS = _RTMGRP_IPV4_IFADDR | _RTMGRP_IPV6_IFADDR
#: Of everything that `events` knows.
ALL_GROUPS = ADDRESS_GROUPS | _RTMGRP_LINK | _RTMGRP_IPV4_ROUTE | _RTMGRP_IPV6_ROUTE

_READ_BYTES = 1 << 16  # the kernel fills at most 32 KiB a message
_READS = 16
_DUMP_TRIES = 5
_TIMEOUT = 2.0  # the kernel answers at once; only so that a defect cannot hang the node


class Event(Enum):
    """What happened to the device."""

    GONE = auto()
    DOWN = auto()
    ADDRESSES_CHANGED = auto()
    #: An address or a route was removed.
    REMOVED = auto()


def open_watch(groups: int) -> socket.socket:
    """A non-blocking socket that turns readable when something of these groups changes.

    Raises:
        OSError: The kernel refuses.
    """
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    try:
        sock.setblocking(False)
        sock.bind((0, groups))
    except BaseException:
        sock.close()
        raise
    return sock


def read_events(sock: socket.socket, index: int) -> set[Event]:
    """What happened to a device, as far as a watch tells now; a bounded amount.

    Notifications that were lost count as if everything had changed that can be looked up again.
    """
    found: set[Event] = set()
    for _ in range(_READS):
        try:
            data = sock.recv(_READ_BYTES)
        except BlockingIOError:
            break
        except OSError:  # ENOBUFS
            found |= {Event.ADDRESSES_CHANGED, Event.REMOVED}
            continue
        found |= decode_events(data, index)
    return found


def decode_events(data: bytes, index: int) -> set[Event]:
    """What messages of the kernel say about a device."""
    found: set[Event] = set()
    for kind, _, body in _messages(data):
        if kind in {_RTM_NEWLINK, _RTM_DELLINK}:
            family, _, of, flags, _ = _IFINFO.unpack_from(body)
            if of != index or family != socket.AF_UNSPEC:  # a bridge tells of its ports, too
                continue
            if kind == _RTM_DELLINK:
                found.add(Event.GONE)
            elif not flags & _IFF_UP:
                found.add(Event.DOWN)
        elif kind in {_RTM_NEWADDR, _RTM_DELADDR}:
            if _IFADDR.unpack_from(body)[4] == index:
                found.add(Event.ADDRESSES_CHANGED)
                if kind == _RTM_DELADDR:
                    found.add(Event.REMOVED)
        elif kind == _RTM_DELROUTE:
            device = _attributes(body[_RTMSG_BYTES:]).get(_RTA_OIF)
            if device is not None and _U32.unpack(device)[0] == index:
                found.add(Event.REMOVED)
    return found


def addresses(index: int) -> tuple[Interface, ...]:
    """The usable addresses of a device, in the kernel's order.

    Raises:
        OSError: The kernel refuses to tell.
    """
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as sock:
        sock.settimeout(_TIMEOUT)
        for _ in range(_DUMP_TRIES):
            found, consistent = _dump(sock, index)
            if consistent:
                return tuple(found)
    raise TimeoutError("the addresses change all the time")


def _dump(sock: socket.socket, index: int) -> tuple[list[Interface], bool]:
    """Ask for all addresses; also tells whether they stayed the same meanwhile."""
    payload = _IFADDR.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
    flags = _NLM_F_REQUEST | _NLM_F_DUMP
    sock.send(_MESSAGE.pack(_MESSAGE.size + len(payload), _RTM_GETADDR, flags, 1, 0) + payload)
    found: list[Interface] = []
    consistent = True
    while True:
        for kind, flags, body in _messages(sock.recv(_READ_BYTES)):
            if flags & _NLM_F_DUMP_INTR:
                consistent = False
            if kind == _NLMSG_DONE:
                return found, consistent
            if kind == _NLMSG_ERROR:
                code = -_S32.unpack_from(body)[0]
                raise OSError(code, os.strerror(code))
            if kind == _RTM_NEWADDR and _IFADDR.unpack_from(body)[4] == index:
                address = decode_address(body)
                if address is not None:
                    found.append(address)


def decode_address(body: memoryview) -> Interface | None:
    """The address that an ``RTM_NEWADDR`` tells of; None if it is not usable."""
    _, length, flags, _, _ = _IFADDR.unpack_from(body)
    values = _attributes(body[_IFADDR.size :])
    if _IFA_FLAGS in values:  # the header has room for the lowest eight only
        (flags,) = _U32.unpack(values[_IFA_FLAGS])
    # On a point-to-point interface IFA_ADDRESS is the other end's.
    packed = values.get(_IFA_LOCAL, values.get(_IFA_ADDRESS))
    if packed is None or flags & (_IFA_F_TENTATIVE | _IFA_F_DADFAILED):
        return None
    return ipaddress.ip_interface((packed, length))


def _messages(data: bytes) -> Iterator[tuple[int, int, memoryview]]:
    view = memoryview(data)
    while view:
        length, kind, flags, _, _ = _MESSAGE.unpack_from(view)
        yield kind, flags, view[_MESSAGE.size : length]
        view = view[_padded(length) :]


def _attributes(rest: memoryview) -> dict[int, bytes]:
    values = {}
    while rest:
        length, kind = _ATTRIBUTE.unpack_from(rest)
        values[kind] = bytes(rest[_ATTRIBUTE.size : length])
        rest = rest[_padded(length) :]
    return values


def _padded(length: int) -> int:
    return max(length + 3 & ~3, 4)  # never 0: a wrong length must not make an endless loop
