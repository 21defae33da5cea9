"""One bound socket, and the paths that lead through it."""

from __future__ import annotations

import socket

from tunmesh.plugin import PathHandle, Transport, Watch
from tunmesh_transport_udp import sockets
from tunmesh_transport_udp.endpoints import (
    Literal,
    SocketAddress,
    format_endpoint,
    rate_limit_key,
)

#: What is left of an Ethernet frame's 1500 bytes. The path's real MTU is the core's to find.
_MAX_DATAGRAM = {socket.AF_INET: 1500 - 20 - 8, socket.AF_INET6: 1500 - 40 - 8}


class Listener:
    """A bound socket.

    Attributes:
        family: ``AF_INET`` or ``AF_INET6``.
        address: Where it is bound, with the port that the kernel chose if none was asked for.
        segmentation: Whether one send may carry several datagrams.
        watch: Of the socket; the owner's to set and close.
    """

    __slots__ = ("address", "family", "segmentation", "socket", "watch")

    def __init__(self, local: Literal, mark: int = 0) -> None:
        self.socket = sockets.open_socket(local, mark)
        self.family = local.family
        self.address: SocketAddress = self.socket.getsockname()
        self.segmentation = sockets.can_segment(self.socket)
        self.watch: Watch | None = None

    def close(self) -> None:
        """Stop watching, and close the socket."""
        if self.watch is not None:
            self.watch.close()
        self.socket.close()


class UdpPath(PathHandle):
    """A remote socket address, and the socket to reach it through.

    Attributes:
        address: The remote socket address.
        sendmsg: Of the socket.
        sendto: Of the socket.
        segmentation: Whether several datagrams may be sent at once, which not every route can.
    """

    __slots__ = ("address", "segmentation", "sendmsg", "sendto")

    def __init__(self, transport: Transport, listener: Listener, address: SocketAddress) -> None:
        super().__init__(
            transport,
            format_endpoint(address),
            source=rate_limit_key(address),
            max_datagram=_MAX_DATAGRAM[listener.family],
        )
        self.address = address
        self.sendmsg = listener.socket.sendmsg
        self.sendto = listener.socket.sendto
        self.segmentation = listener.segmentation
