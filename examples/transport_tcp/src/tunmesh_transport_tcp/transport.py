"""A transport over TCP. On the stream, each datagram has its length before it, in two bytes."""

from collections.abc import Sequence
from ipaddress import ip_address
from typing import Self, TypeAlias

import anyio
import anyio.abc
from anyio.abc import SocketAttribute, SocketStream
from anyio.streams.buffered import BufferedByteReceiveStream
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from tunmesh.interfaces.tun import Buffer
from tunmesh.plugin import (
    EndpointError,
    PathHandle,
    Transport,
    TransportContext,
    TransportError,
)

ENDED = (OSError, anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.IncompleteRead)
Listener: TypeAlias = anyio.abc.Listener[SocketStream]
Queue: TypeAlias = MemoryObjectSendStream[bytes]
Waiting: TypeAlias = MemoryObjectReceiveStream[bytes]


class TcpPath(PathHandle):
    """A remote endpoint, with a queue of what waits to be sent while there is a stream.

    Once its stream has ended it is over: the core is told, and asks for a new path.
    """

    def __init__(self, transport: Transport, host: str, port: int) -> None:
        ip = ip_address(host.strip("[]"))
        endpoint = f"tcp://[{ip}]:{port}" if ip.version == 6 else f"tcp://{ip}:{port}"
        super().__init__(transport, endpoint, source=ip.packed[:8], max_datagram=16384)
        self.remote = (str(ip), port)
        self.queue: Queue | None = None
        self.over = False


class TcpTransport(Transport):
    """Datagrams over TCP."""

    schemes = frozenset({"tcp"})
    priority = 10
    max_segments = 64

    def __init__(self, context: TransportContext) -> None:
        self.name = context.name
        self._context = context
        self._paths: dict[str, TcpPath] = {}  # by endpoint
        self._listener: Listener | None = None

    async def __aenter__(self) -> Self:
        host, _, port = self._context.options.listen.rpartition(":")
        try:
            own = TcpPath(self, host, int(port))
            self._listener = await anyio.create_tcp_listener(
                local_host=own.remote[0], local_port=own.remote[1]
            )
        except (OSError, ValueError) as exc:
            raise TransportError(f"cannot listen on tcp {host}:{port}: {exc}") from exc
        self._serving = anyio.CancelScope()
        self._context.start_soon(self._serve, self._listener)
        return self

    async def __aexit__(self, *_: object) -> None:
        for path in list(self._paths.values()):
            self.release(path)
        listener, self._listener = self._listener, None
        if listener is not None:
            self._serving.cancel()
            with anyio.CancelScope(shield=True):  # else it would stay open when cancelled here
                await listener.aclose()

    async def _serve(self, listener: Listener) -> None:
        with self._serving:
            try:
                await listener.serve(self._accept)
            except* ENDED:
                pass  # closed

    async def _accept(self, stream: SocketStream) -> None:
        self._open(TcpPath(self, *stream.extra(SocketAttribute.remote_address)[:2]), stream)

    def local_endpoints(self) -> tuple[str, ...]:
        if self._listener is None:
            return ()
        return (TcpPath(self, *self._listener.extra(SocketAttribute.local_address)[:2]).endpoint,)

    def connect(self, endpoint: str) -> PathHandle:
        host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
        try:
            path = TcpPath(self, host, int(port))
        except ValueError as exc:
            raise EndpointError(f"{endpoint!r} is not of the form tcp://address:port") from exc
        if self._context.is_overlay(path.remote[0]):
            raise EndpointError(f"{endpoint!r} lies inside the mesh")
        return self._paths.setdefault(path.endpoint, path)

    def adopt(self, handle: PathHandle) -> None:
        pass  # every handle is kept until its stream ends

    def release(self, handle: PathHandle) -> None:
        path: TcpPath = handle  # type: ignore[assignment]  # made here
        path.over = True
        if self._paths.get(path.endpoint) is path:
            del self._paths[path.endpoint]
        if path.queue is not None:
            path.queue.close()  # ends the stream once it is empty

    def send(self, handle: PathHandle, buffers: Sequence[Buffer], segment_size: int) -> bool:
        path: TcpPath = handle  # type: ignore[assignment]  # made here
        if path.over or self._listener is None:
            return True  # lost
        data = b"".join(buffers)
        datagrams = [data[at : at + segment_size] for at in range(0, len(data), segment_size)]
        try:
            (path.queue or self._open(path)).send_nowait(
                b"".join(len(datagram).to_bytes(2, "big") + datagram for datagram in datagrams)
            )
        except anyio.WouldBlock:
            return False
        except ENDED:
            pass  # its stream is ending: the datagrams are lost
        return True

    def _open(self, path: TcpPath, stream: SocketStream | None = None) -> Queue:
        path.queue, waiting = anyio.create_memory_object_stream[bytes](64)
        self._paths[path.endpoint] = path
        self._context.start_soon(self._carry, path, waiting, stream)
        return path.queue

    async def _carry(self, path: TcpPath, waiting: Waiting, accepted: SocketStream | None) -> None:
        reason = "closed"
        try:
            async with (
                waiting,
                accepted or await anyio.connect_tcp(*path.remote) as stream,
                anyio.create_task_group() as tasks,
            ):
                tasks.start_soon(self._read, path, stream)
                async for data in waiting:
                    await stream.send(data)
                tasks.cancel_scope.cancel()
        except* ENDED as errors:
            reason = str(errors.exceptions[0]) or "ended by the other side"
        finally:
            self.release(path)
        self._context.inbound.path_closed(path, reason)

    async def _read(self, path: TcpPath, stream: SocketStream) -> None:
        buffered = BufferedByteReceiveStream(stream)
        while True:
            size = int.from_bytes(await buffered.receive_exactly(2), "big")
            data = await buffered.receive_exactly(size)
            self._context.inbound.receive(path, memoryview(data), size)
