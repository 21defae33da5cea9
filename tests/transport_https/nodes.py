"""What the tests of the HTTPS transport share: nodes on loopback, with real sockets and TLS."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio
from anyio.abc import TaskGroup

from tunmesh.plugin import PathHandle
from tunmesh.reactor import reactor
from tunmesh.testing import FakeTransportContext, RecordingInbound, VirtualClock
from tunmesh_transport_https.options import Options
from tunmesh_transport_https.paths import HttpsPath
from tunmesh_transport_https.transport import HttpsTransport

LOOPBACK = ("127.0.0.1:0",)


async def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    """Wait for something that other tasks bring about."""
    with anyio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110 - of both ends, and of counters
            await anyio.sleep(0.005)


class Node:
    """A transport, and what it delivered."""

    def __init__(self, tasks: TaskGroup, name: str, **settings: Any) -> None:
        options = {"listen": LOOPBACK, **settings.pop("options", {})}
        self.clock = settings.pop("clock", None) or VirtualClock()
        self.context = FakeTransportContext(
            Options(**options),
            name="https",
            node_name=name,
            clock=self.clock,
            tasks=tasks,
            reactor=reactor(tasks),
            **settings,
        )
        self.transport = HttpsTransport(self.context)

    @property
    def inbound(self) -> RecordingInbound:
        inbound: RecordingInbound = self.context.inbound
        return inbound

    @property
    def counts(self) -> dict[str, int]:
        return {name: count for name, count in self.transport.statistics().items() if count}

    @property
    def endpoint(self) -> str:
        return self.transport.local_endpoints()[0]

    @property
    def url(self) -> str:
        """The endpoint without its pin, as an operator writes it."""
        return self.endpoint.partition("#")[0]

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def path_to(self, other: Node | str) -> HttpsPath:
        handle = self.transport.connect(other if isinstance(other, str) else other.endpoint)
        self.transport.adopt(handle)
        assert isinstance(handle, HttpsPath)
        return handle

    def send(self, handle: PathHandle, *datagrams: bytes) -> bool:
        sent = [self.transport.send(handle, (datagram,), len(datagram)) for datagram in datagrams]
        return all(sent)

    async def received(self, count: int) -> list[bytes]:
        await until(lambda: len(self.inbound.datagrams()) >= count)
        return self.inbound.datagrams()

    async def answered_by(self, other: Node, handle: PathHandle) -> None:
        """See a datagram go there and another come back."""
        before, there = len(self.inbound.received), len(other.inbound.received)
        assert self.send(handle, b"question")
        await until(lambda: len(other.inbound.received) > there)
        assert other.send(other.inbound.received[-1].handle, b"answer")
        await until(lambda: len(self.inbound.received) > before)
        assert self.inbound.received[-1].data == b"answer"
        assert self.inbound.received[-1].handle is handle


@asynccontextmanager
async def started(*settings: dict[str, Any]) -> AsyncIterator[list[Node]]:
    """A node for each of the settings, named by the letters."""
    async with anyio.create_task_group() as tasks:
        async with AsyncExitStack() as stack:
            nodes = []
            for number, each in enumerate(settings):
                node = Node(tasks, "abcdefgh"[number], **each)
                await stack.enter_async_context(node.transport)
                nodes.append(node)
            yield nodes
        tasks.cancel_scope.cancel()


def careless() -> ssl.SSLContext:
    """A client that looks at nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def free_port() -> int:
    """A port where nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port
