"""Datagrams over UDP.

`UdpTransport.send` and `Receiver.readable` run for every unit: no allocation that can be spared,
no call that can be. Everything else is kept out of them.
"""

from __future__ import annotations

import errno
import socket
from collections import Counter
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

import anyio

from tunmesh.plugin import EndpointError, PathHandle, Transport, TransportContext, TransportError
from tunmesh.underlay import Discovery
from tunmesh_transport_udp.endpoints import (
    SCHEME,
    Literal,
    SocketAddress,
    format_endpoint,
    parse_endpoint,
    parse_literal,
    split_authority,
    split_url,
)
from tunmesh_transport_udp.listener import Listener, UdpPath
from tunmesh_transport_udp.options import DEFAULT_LISTEN, Options
from tunmesh_transport_udp.receiver import Receiver
from tunmesh_transport_udp.sockets import drops, error_name, segment_control

if TYPE_CHECKING:
    from tunmesh.interfaces.tun import Buffer

_MAX_SEGMENTS = 64  # UDP_MAX_SEGMENTS of linux/udp.h; more since 6.9
# A run whose buffer would be longer than 64 KiB with the headers of Ethernet with a VLAN, IPv6 and
# UDP is cut up by the kernel before it reaches the device.
_MAX_SEND = (1 << 16) - 18 - 40 - 8
_MAX_CONTROLS = 64  # segment sizes in use at a time are few: one a path MTU
_FEW = 2  # buffers, a header and a body, of which it pays to ask whether they are one datagram
_FAMILY_MISSING = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
_NO_SEGMENTS = (errno.EINVAL, errno.EIO)  # what `UDP_SEGMENT` gives on routes that cannot
_FULL = (errno.EAGAIN, errno.ENOBUFS)


class UdpTransport(Transport):
    """Datagrams over UDP."""

    schemes = frozenset({SCHEME})
    priority = 100
    max_send = _MAX_SEND
    probes_mtu = True

    def __init__(self, context: TransportContext) -> None:
        self.name = context.name
        self._context = context
        self._inbound = context.inbound
        self._listeners: list[Listener] = []
        self._first: dict[socket.AddressFamily, Listener] = {}
        self._adopted: dict[SocketAddress, PathHandle] = {}
        self._controls: dict[int, list[tuple[int, int, bytes]]] = {}
        self._counts: Counter[str] = Counter()
        self._discovery: Discovery | None = None

    # Life

    async def __aenter__(self) -> Self:
        try:
            self._open()
        except BaseException:
            self._close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()

    def _open(self) -> None:
        options: Options = self._context.options
        missing = ""
        for text in options.listen:
            try:
                self._listen(parse_literal(*split_authority(text)))
            except OSError as exc:
                reason = f"{text}: {(exc.strerror or str(exc)).lower()}"
                if options.listen != DEFAULT_LISTEN or exc.errno not in _FAMILY_MISSING:
                    raise TransportError(
                        f"cannot listen on udp {reason} (plugins.udp.listen)"
                    ) from exc
                missing = reason  # a host without IPv6, or without IPv4
        if not self._listeners:
            raise TransportError(f"cannot listen on udp {missing} (plugins.udp.listen)")
        if all(listener.segmentation for listener in self._listeners):
            self.max_segments = _MAX_SEGMENTS
        bound = (listener.address for listener in self._listeners)
        self._discovery = Discovery(self._context, SCHEME, bound, self._addresses_changed)
        self._discovery.open()

    def _listen(self, local: Literal) -> None:
        listener = Listener(local, self._context.mark)
        self._listeners.append(listener)
        self._first.setdefault(listener.family, listener)
        receiver = Receiver(
            listener,
            self._adopted,
            self._stranger,
            self._inbound.receive,
            self._counts,
            self._context.now,
        )
        listener.watch = self._context.reactor.watch(listener.socket.fileno(), receiver.readable)

    def _close(self) -> None:
        if self._discovery is not None:
            self._discovery.close()
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()
        self._first.clear()
        self._adopted.clear()

    def _addresses_changed(self) -> None:
        for path in self._adopted.values():  # routes may lead through other interfaces now
            assert isinstance(path, UdpPath)  # `adopt` takes no others
            path.segmentation = self.max_segments > 1
        self._inbound.endpoints_changed()

    # Endpoints

    def local_endpoints(self) -> tuple[str, ...]:
        return self._discovery.endpoints if self._discovery is not None else ()

    async def resolve(self, url: str) -> tuple[str, ...]:
        host, port = split_url(url)
        try:
            found = await anyio.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
        except OSError as exc:
            raise EndpointError(f"cannot resolve {url!r}: {exc.strerror or exc}") from exc
        endpoints = [format_endpoint(info[4]) for info in found if info[0] in self._first]
        if not endpoints:
            raise EndpointError(
                f"{url!r} has no address of an IP version that this node listens on"
            )
        return tuple(dict.fromkeys(endpoints))

    def connect(self, endpoint: str) -> PathHandle:
        family, address = parse_endpoint(endpoint)
        path = self._adopted.get(address)
        if path is not None:
            return path
        listener = self._first.get(family)
        if listener is None:
            raise EndpointError(
                f"{endpoint!r} is of an IP version that this node does not listen on"
            )
        if self._context.is_overlay(address[0]):
            raise EndpointError(f"{endpoint!r} lies inside the mesh")
        return UdpPath(self, listener, address)

    def adopt(self, handle: PathHandle) -> None:
        path: UdpPath = handle  # type: ignore[assignment]  # made here
        self._adopted[path.address] = path

    def release(self, handle: PathHandle) -> None:
        path: UdpPath = handle  # type: ignore[assignment]  # made here
        if self._adopted.get(path.address) is path:
            del self._adopted[path.address]

    # Sending

    def send(self, handle: PathHandle, buffers: Sequence[Buffer], segment_size: int) -> bool:
        path: UdpPath = handle  # type: ignore[assignment]  # made here
        # A single datagram that comes in many pieces may well pass as a run of one.
        if len(buffers) > _FEW or sum(map(len, buffers)) > segment_size:
            if not path.segmentation:
                return self._send_each(path, buffers, segment_size)
            control = self._controls.get(segment_size) or self._new_control(segment_size)
            try:
                path.sendmsg(buffers, control, 0, path.address)
            except OSError as error:
                if error.errno in _NO_SEGMENTS:
                    return self._send_each(path, buffers, segment_size)
                return self._failed(path, error, min(segment_size, sum(map(len, buffers))))
            return True
        try:
            path.sendmsg(buffers, (), 0, path.address)
        except OSError as error:
            return self._failed(path, error, sum(map(len, buffers)))
        return True

    def _new_control(self, segment_size: int) -> list[tuple[int, int, bytes]]:
        if len(self._controls) >= _MAX_CONTROLS:
            self._controls.clear()
        control = self._controls[segment_size] = segment_control(segment_size)
        return control

    def _send_each(self, path: UdpPath, buffers: Sequence[Buffer], segment_size: int) -> bool:
        """Send datagram by datagram, as where the route does not take a run of them at once."""
        data = memoryview(b"".join(buffers))
        for start in range(0, len(data), segment_size):
            datagram = data[start : start + segment_size]
            try:
                path.sendto(datagram, path.address)
            except OSError as error:
                return self._failed(path, error, len(datagram))
        if path.segmentation and len(data) > segment_size:
            # The run was refused, its datagrams were not.
            path.segmentation = False
            self._counts["segmentation_refused"] += 1
        return True

    def _failed(self, path: UdpPath, error: OSError, size: int) -> bool:
        """Count a failure. UDP sockets survive them all: the next datagram may fare better."""
        if error.errno in _FULL:
            return False
        if error.errno == errno.EMSGSIZE:
            self._counts["too_big"] += 1
            self._inbound.too_big(path, size)
        else:
            self._counts[f"send_{error_name(error)}"] += 1
        return True

    # Receiving

    def _stranger(self, listener: Listener, address: SocketAddress) -> UdpPath | None:
        """A path for one datagram; None where an answer would travel through the mesh itself."""
        if self._context.is_overlay(address[0]):
            self._counts["receive_overlay"] += 1
            return None
        return UdpPath(self, listener, address)

    def overruns(self) -> int:
        return sum(drops(listener.socket) for listener in self._listeners)

    def statistics(self) -> dict[str, int]:
        overruns = self.overruns()
        return {**self._counts, **({"receive_overruns": overruns} if overruns else {})}
