"""A transport and a TUN device in memory. Usable without an event loop: see `open` and `close`."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from tunmesh.errors import EndpointError, TunError
from tunmesh.interfaces.transport import PathHandle, Transport, TransportContext
from tunmesh.interfaces.tun import Buffer, DeviceConfig, Tun
from tunmesh.testing.network import MemoryNetwork, format_endpoint, host_of

DEFAULT_PORT = 4567


class MemoryTransport(Transport):
    """A transport over a `MemoryNetwork`. Several of one node differ by their endpoints' schemes.

    Args:
        context: As any transport's.
        network: Where it is bound.
        endpoint: Its own endpoint, ``memory://host:port``.
        max_datagram: What its paths say that they carry.
        max_segments: What it takes in one send.
        priority: As any transport's.
        probes_mtu: As any transport's.

    Attributes:
        endpoint: Its own endpoint.
        sent: Datagrams handed to the network.
    """

    def __init__(
        self,
        context: TransportContext,
        network: MemoryNetwork,
        endpoint: str,
        *,
        max_datagram: int = 1472,
        max_segments: int = 64,
        priority: int = 0,
        probes_mtu: bool = True,
    ) -> None:
        self.name = context.name
        self._scheme = endpoint.partition("://")[0]
        self.schemes = frozenset({self._scheme})
        self.priority = priority
        self.probes_mtu = probes_mtu
        self.max_segments = max_segments
        self.endpoint = endpoint
        self.sent = 0
        self._inbound = context.inbound
        self._network = network
        self._max_datagram = max_datagram
        self._adopted: dict[str, PathHandle] = {}

    def open(self) -> None:
        """Start listening: what entering the context does."""
        self._network.bind(self.endpoint, self)

    def close(self) -> None:
        """Stop: what leaving the context does."""
        self._network.unbind(self.endpoint)
        self._adopted.clear()

    async def __aenter__(self) -> Self:
        self.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def move(self, host: str, port: int = DEFAULT_PORT) -> None:
        """Get another endpoint while running, as when the host changes its network."""
        endpoint = format_endpoint(host, port, self._scheme)
        self._network.bind(endpoint, self)
        self._network.unbind(self.endpoint)
        self.endpoint = endpoint
        self._inbound.endpoints_changed()

    def local_endpoints(self) -> tuple[str, ...]:
        return (self.endpoint,)

    def connect(self, endpoint: str) -> PathHandle:
        if endpoint.partition("://")[0] != self._scheme:
            raise EndpointError(f"{endpoint!r} is of another transport")
        handle = self._adopted.get(endpoint)
        return handle if handle is not None else self._handle(endpoint)

    def send(self, handle: PathHandle, buffers: Sequence[Buffer], segment_size: int) -> bool:
        data = b"".join(buffers)
        self.sent += -(-len(data) // segment_size)
        self._network.send(self.endpoint, handle.endpoint, data, segment_size)
        return True

    def adopt(self, handle: PathHandle) -> None:
        self._adopted[handle.endpoint] = handle

    def release(self, handle: PathHandle) -> None:
        if self._adopted.get(handle.endpoint) is handle:
            del self._adopted[handle.endpoint]

    def statistics(self) -> dict[str, int]:
        return {"sent": self.sent}

    def deliver(self, source: str, data: bytes, segment_size: int) -> None:
        """Take datagrams from the network."""
        handle = self._adopted.get(source)
        if handle is None:
            handle = self._handle(source)
        self._inbound.receive(handle, memoryview(data), segment_size)

    def _handle(self, endpoint: str) -> PathHandle:
        source = host_of(endpoint).encode()
        return PathHandle(self, endpoint, source=source, max_datagram=self._max_datagram)


class MemoryTun(Tun):
    """A TUN device whose other side is the test.

    Args:
        mtu: As a real device's.
        offloads: As a real device's.
        name: As a real device's.

    Attributes:
        written: The frames that were written, oldest first.
        applied: The configurations that were applied, oldest first.
        refuses: Decides which frames are refused; none are by default.
        on_readable: Called for each injected frame, in place of an event loop.
    """

    def __init__(
        self, *, mtu: int = 1400, offloads: frozenset[str] = frozenset(), name: str = "memory0"
    ) -> None:
        self.name = name
        self.mtu = mtu
        self.offloads = offloads
        self.written: list[bytes] = []
        self.applied: list[DeviceConfig] = []
        self.refuses: Callable[[bytes], bool] = lambda _: False
        self.on_readable: Callable[[], None] = lambda: None
        self._waiting: deque[bytes] = deque()
        self._event: int | None = None
        self._lost = ""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give back the descriptor, if there is one."""
        if self._event is not None:
            os.close(self._event)
            self._event = None

    def inject(self, frame: Buffer) -> None:
        """Let the host send a frame: a ``virtio_net_hdr`` and an IP packet."""
        self._waiting.append(bytes(frame))
        self._signal()
        self.on_readable()

    def lose(self, reason: str) -> None:
        """Be gone: reading raises from now on."""
        self._lost = reason
        self._signal()

    def fileno(self) -> int:
        """A descriptor that is readable while frames wait; made at the first call."""
        if self._event is None:
            self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            if self._waiting or self._lost:
                self._signal()
        return self._event

    def read_batch(self, buffer: memoryview, headroom: int, fill: int) -> list[int]:
        if self._lost:
            raise TunError(f"{self.name}: {self._lost}")
        lengths = []
        end = 0
        while self._waiting and end < fill:
            frame = self._waiting.popleft()
            start = end + headroom
            end = start + len(frame)
            buffer[start:end] = frame
            lengths.append(len(frame))
        if not self._waiting and self._event is not None and lengths:
            os.eventfd_read(self._event)
        return lengths

    def write_batch(self, frames: Sequence[Buffer]) -> int:
        refused = 0
        for frame in map(bytes, frames):
            if self.refuses(frame):
                refused += 1
            else:
                self.written.append(frame)
        return refused

    async def apply(self, config: DeviceConfig) -> None:
        self.applied.append(config)

    def _signal(self) -> None:
        if self._event is not None:
            os.eventfd_write(self._event, 1)
