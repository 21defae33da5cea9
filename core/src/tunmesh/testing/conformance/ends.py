"""The ends of a transport's paths: each a transport on a stage, and the core behind it."""

from __future__ import annotations

import secrets
import socket
import threading
from collections.abc import Callable, Sequence
from typing import Any

from tunmesh.interfaces.transport import PathHandle, Transport
from tunmesh.testing.conformance.stage import Live, Stage, until
from tunmesh.testing.context import FakeTransportContext, RecordingInbound

#: Seconds after which what did not arrive is sent again.
_AGAIN = 0.05
#: What names of counters end with that tell of no loss.
_SUCCESS = ("sent", "received", "delivered", "accepted", "dialed", "opened")
#: Ports that no kernel hands out by itself, by default.
_PORTS = range(20000, 30000)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody uses, neither for UDP nor for TCP."""
    while True:
        port = secrets.choice(_PORTS)
        with socket.socket(type=socket.SOCK_DGRAM) as udp, socket.socket() as tcp:
            try:
                udp.bind(("127.0.0.1", port))
                tcp.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


class CheckedInbound(RecordingInbound):
    """Remembers what a transport delivers, and checks that it may.

    Attributes:
        transport: Whose it is.
        on_receive: Called with the handle of each delivery, before it returns.
        keeps: Whether it remembers what arrives, or only counts it.
        count: Datagrams that arrived.
    """

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self._stage = stage
        self.transport: Transport | None = None
        self.on_receive: Callable[[PathHandle], None] = lambda _: None
        self.keeps = True
        self.count = 0
        self._over: set[PathHandle] = set()

    def receive(self, handle: PathHandle, data: memoryview, segment_size: int) -> None:
        self._check("receive", handle)
        kind: type = type(data)
        if kind is not memoryview:
            self._stage.blame(f"receive got {kind.__name__}, not a memoryview")
        elif not 1 <= segment_size <= len(data):
            self._stage.blame(f"receive got {len(data)} bytes in segments of {segment_size}")
        else:
            self.count += -(-len(data) // segment_size)
        if self.keeps:
            super().receive(handle, data, segment_size)
        self.on_receive(handle)

    def too_big(self, handle: PathHandle, size: int) -> None:
        self._check("too_big", handle)
        if size < 1:
            self._stage.blame(f"too_big got the size {size}")
        super().too_big(handle, size)

    def path_closed(self, handle: PathHandle, reason: str) -> None:
        self._check("path_closed", handle)
        if handle in self._over:
            self._stage.blame(f"path_closed was called twice for {handle!r}")
        self._over.add(handle)
        if not reason.strip() or not reason.isprintable():
            self._stage.blame(f"path_closed got the reason {reason!r}, not one line")
        super().path_closed(handle, reason)

    def _check(self, method: str, handle: object) -> None:
        if threading.current_thread() is not self._stage.thread:
            self._stage.blame(f"{method} was called in another thread than the event loop's")
        if not isinstance(handle, PathHandle) or handle.transport is not self.transport:
            self._stage.blame(f"{method} got {handle!r}, which is no handle of this transport")


class LiveTransportContext(Live, FakeTransportContext):
    """A transport's context on a stage."""


class End:
    """A transport, and what it delivered.

    Args:
        stage: Where it lives.
        build: Its factory.
        options: Its options.
        name: The plugin's name.
        number: Which of the nodes it belongs to.
        overlay: Prefixes inside the mesh.
    """

    def __init__(
        self,
        stage: Stage,
        build: Callable[[Any], Transport],
        options: object,
        *,
        name: str,
        number: int,
        overlay: Sequence[str] = (),
    ) -> None:
        self.stage = stage
        self.inbound = CheckedInbound(stage)
        self.context = LiveTransportContext(
            options,
            stage=stage,
            inbound=self.inbound,
            overlay=overlay,
            name=name,
            node_name=f"n{number}",
        )
        self.transport = build(self.context)
        self.transport.name = name  # as the node does
        self.inbound.transport = self.transport

    @property
    def endpoint(self) -> str:
        """Where others reach it."""
        return self.transport.local_endpoints()[0]

    def path_to(self, endpoint: str) -> PathHandle:
        """A path that this node's core uses."""
        handle = self.transport.connect(endpoint)
        self.transport.adopt(handle)
        return handle

    def send(self, handle: PathHandle, *datagrams: bytes) -> bool:
        """Send datagrams, each by itself; whether no queue was full."""
        sent = [self.transport.send(handle, [datagram], len(datagram)) for datagram in datagrams]
        for accepted in sent:
            if accepted not in (True, False):
                self.stage.blame(f"send returned {accepted!r}, not a bool")
        return all(sent)

    def again(self, handle: PathHandle) -> PathHandle:
        """The handle, or a new one if the transport has said that the path is gone."""
        gone = any(closed is handle for closed, _ in self.inbound.closed)
        return self.path_to(handle.endpoint) if gone else handle

    def counted(self) -> int:
        """What was counted so far, but for the counters that are named after success."""
        counters = self.transport.statistics().items()
        return self.transport.overruns() + sum(
            value for name, value in counters if not name.endswith(_SUCCESS)
        )

    async def deliver(self, handle: PathHandle, other: End, *datagrams: bytes) -> PathHandle:
        """Send until all has arrived, as a transport may lose; the handle that it arrived by.

        Raises:
            AssertionError: It did not arrive in time.
        """
        wanted = set(datagrams)
        deadline = self.context.now() + self.stage.patience
        before = len(other.inbound.received)
        while missing := wanted.difference(
            datagram for entry in other.inbound.received[before:] for datagram in entry.datagrams()
        ):
            left = deadline - self.context.now()
            assert left > 0, (
                f"{len(missing)} of {len(wanted)} datagrams did not arrive within "
                f"{self.stage.patience} s, though they were sent again and again; "
                f"counters: {self.transport.statistics()} there {other.transport.statistics()}"
            )
            handle = self.again(handle)
            self.send(handle, *[datagram for datagram in datagrams if datagram in missing])
            seen = len(other.inbound.received)
            try:
                await until(
                    lambda seen=seen: len(other.inbound.received) > seen,  # type: ignore[misc]
                    "a datagram",
                    _AGAIN,
                )
            except AssertionError:
                continue  # lost: it is sent again
        return other.inbound.received[-1].handle
