"""A transport between objects of one process that does everything right, to be broken."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any, Self

import msgspec

from tunmesh.interfaces.tun import Buffer
from tunmesh.plugin import (
    EndpointError,
    PathHandle,
    Transport,
    TransportContext,
    TransportError,
    Watch,
)

#: Who listens, by endpoint.
OPEN: dict[str, Wire] = {}


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The table of the plugin."""

    port: int = 1


class Wire(Transport):
    """Delivers at once. Parts of it are methods, so that each can be broken by itself."""

    schemes = frozenset({"wire"})
    max_segments = 64
    largest = 9000

    def __init__(self, context: TransportContext) -> None:
        self.context: Any = context
        self.own = f"wire://127.0.0.1:{context.options.port}"
        self.adopted: dict[str, PathHandle] = {}
        self.pair: tuple[socket.socket, ...] = ()
        self.watch: Watch | None = None
        self.counts = {"sent": 0}

    async def __aenter__(self) -> Self:
        if self.own in OPEN:
            raise TransportError(f"cannot listen on {self.own}: it is in use")
        OPEN[self.own] = self
        self.pair = socket.socketpair()  # something that can be forgotten
        self.watch = self.context.reactor.watch(self.pair[0].fileno(), lambda: None)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self.watch is not None:
            self.watch.close()
            self.watch = None
        for sock in self.pair:
            sock.close()
        self.pair = ()
        if OPEN.get(self.own) is self:
            del OPEN[self.own]

    def local_endpoints(self) -> tuple[str, ...]:
        return (self.own,) if OPEN.get(self.own) is self else ()

    def connect(self, endpoint: str) -> PathHandle:
        host, _, port = endpoint.removeprefix("wire://").rpartition(":")
        if not endpoint.startswith("wire://") or not port.isdecimal():
            raise EndpointError(f"{endpoint!r} is not of the form wire://address:port")
        if self.context.is_overlay(host):
            raise EndpointError(f"{endpoint!r} lies inside the mesh")
        return self.adopted.get(endpoint) or self.handle(endpoint)

    def handle(self, endpoint: str) -> PathHandle:
        return PathHandle(self, endpoint, source=b"wire", max_datagram=self.largest)

    def adopt(self, handle: PathHandle) -> None:
        self.adopted[handle.endpoint] = handle

    def release(self, handle: PathHandle) -> None:
        if self.adopted.get(handle.endpoint) is handle:
            del self.adopted[handle.endpoint]

    def send(self, handle: PathHandle, buffers: Sequence[Buffer], segment_size: int) -> bool:
        data = b"".join(buffers)
        for at in range(0, len(data), segment_size):
            self.carry(handle, data[at : at + segment_size])
        return True

    def carry(self, handle: PathHandle, datagram: bytes) -> None:
        if len(datagram) > handle.max_datagram:
            self.context.inbound.too_big(handle, len(datagram))
            return
        other = OPEN.get(handle.endpoint)
        if other is None or OPEN.get(self.own) is not self:
            self.counts["lost"] = self.counts.get("lost", 0) + 1
            return
        self.counts["sent"] += 1
        other.arrived(self.own, datagram)

    def arrived(self, source: str, datagram: bytes) -> None:
        handle = self.adopted.get(source) or self.handle(source)
        self.context.inbound.receive(handle, memoryview(datagram), len(datagram))

    def statistics(self) -> dict[str, int]:
        return dict(self.counts)
