"""UDP sockets with the options that the transport wants.

Constants that the socket module lacks are from ``linux/udp.h``, ``linux/in.h``, ``linux/in6.h``
and ``asm-generic/socket.h``.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct

from tunmesh_transport_udp.endpoints import Literal

SO_SNDBUFFORCE = 32
SO_RCVBUFFORCE = 33
IP_MTU_DISCOVER = 10
IPV6_MTU_DISCOVER = 23
PMTUDISC_PROBE = 3  # set "don't fragment", but believe no path MTU that routers tell
SO_MEMINFO = 55
UDP_SEGMENT = 103
UDP_GRO = 104

#: Room for one control message that holds an int: the segment size of coalesced datagrams.
CONTROL_SPACE = socket.CMSG_SPACE(struct.calcsize("i"))
#: A wake-up may find what came in some milliseconds at several Gbit/s.
BUFFER_BYTES = 8 << 20


def segment_control(segment_size: int) -> list[tuple[int, int, bytes]]:
    """The control messages that make one `sendmsg` a run of datagrams."""
    return [(socket.SOL_UDP, UDP_SEGMENT, struct.pack("=H", segment_size))]


def open_socket(local: Literal, mark: int = 0) -> socket.socket:
    """A non-blocking socket bound to `local`.

    Args:
        local: Its address.
        mark: Of what it sends (`SO_MARK`); 0 for none.

    Raises:
        OSError: The family is missing, or the address cannot be bound.
    """
    sock = socket.socket(local.family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    try:
        sock.setblocking(False)
        if mark:
            # Without CAP_NET_ADMIN there is no mark, but no default route into the tunnel either.
            with contextlib.suppress(PermissionError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
        if local.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, PMTUDISC_PROBE)
        else:
            sock.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_PROBE)
        _set_buffer(sock, SO_RCVBUFFORCE, socket.SO_RCVBUF)
        _set_buffer(sock, SO_SNDBUFFORCE, socket.SO_SNDBUF)
        set_coalescing(sock, on=True)
        sock.bind(local.address)
    except BaseException:
        sock.close()
        raise
    return sock


def _set_buffer(sock: socket.socket, forced: int, ordinary: int) -> None:
    try:
        sock.setsockopt(socket.SOL_SOCKET, forced, BUFFER_BYTES)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, ordinary, BUFFER_BYTES)  # cut to net.core.*mem_max


def can_segment(sock: socket.socket) -> bool:
    """Whether the kernel knows `UDP_SEGMENT` (Linux 4.18)."""
    try:
        sock.getsockopt(socket.SOL_UDP, UDP_SEGMENT)
    except OSError:
        return False
    return True


#: What SO_MEMINFO gives: nine 32-bit counters, of which the last is the drops.
_MEMINFO = struct.Struct("=32xI")


def drops(sock: socket.socket) -> int:
    """Datagrams, or runs of them, that found the receive buffer full so far; wraps at 2^32."""
    found: int = _MEMINFO.unpack(sock.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, _MEMINFO.size))[0]
    return found


def set_coalescing(sock: socket.socket, *, on: bool) -> bool:
    """Let the kernel join datagrams, or not; whether it knows how to (Linux 5.0)."""
    try:
        sock.setsockopt(socket.SOL_UDP, UDP_GRO, int(on))
    except OSError:
        return False
    return True


def error_name(error: OSError) -> str:
    """The symbol of an error, ``econnrefused``."""
    return errno.errorcode.get(error.errno or 0, "unknown").lower()
