"""A `Pipe` as httpcore and httpx use connections: while it is being made, a task waits for it."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import httpcore
import httpx

from tunmesh.plugin import EndpointError
from tunmesh_transport_https.pipe import READ_BYTES, Pipe

_RECORD = 1 << 14


class Wire(httpcore.AsyncNetworkStream):
    """A connection, for httpcore.

    Args:
        pipe: The connection.

    Attributes:
        pipe: The connection.
        released: Whether somebody else uses it now: it is not read, written or closed from here.
    """

    def __init__(self, pipe: Pipe) -> None:
        self.pipe = pipe
        self.released = False
        self._buffer = memoryview(bytearray(READ_BYTES + _RECORD))
        self._rest = memoryview(b"")

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        """See httpcore; empty at the end."""
        if self.released:
            return b""
        if not self._rest:
            try:
                with anyio.fail_after(timeout):
                    while (size := self.pipe.receive(self._buffer)) is None:
                        await anyio.wait_readable(self.pipe.socket)
            except TimeoutError as error:
                raise httpcore.ReadTimeout("no answer in time") from error
            except OSError as error:
                raise httpcore.ReadError(str(error)) from error
            self._rest = self._buffer[:size]
        data = bytes(self._rest[:max_bytes])
        self._rest = self._rest[max_bytes:]
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """See httpcore."""
        try:
            with anyio.fail_after(timeout):
                sent = self.pipe.write(buffer)
                while not sent:
                    await anyio.wait_writable(self.pipe.socket)
                    sent = self.pipe.flush()
        except TimeoutError as error:
            raise httpcore.WriteTimeout("the other end does not read") from error
        except OSError as error:
            raise httpcore.WriteError(str(error)) from error

    async def aclose(self) -> None:
        """See httpcore."""
        if not self.released:
            self.pipe.close()

    async def secure(self, context: ssl.SSLContext, host: str) -> None:
        """Put TLS on it.

        Raises:
            OSError: The other end is gone, or does not speak TLS as is demanded.
        """
        self.pipe.start_tls(context, server_side=False, host=host)
        while not self.pipe.handshake():
            await anyio.wait_readable(self.pipe.socket)

    def get_extra_info(self, info: str) -> Any:  # noqa: ANN401 - httpcore's signature
        """See httpcore."""
        return self.pipe.tls if info == "ssl_object" else None


async def connect(
    host: str, port: int, *, allowed: Callable[[str], bool], seconds_each: float, mark: int = 0
) -> Pipe:
    """Connect to one of the addresses of a host, in the order of the resolver.

    Args:
        host: Name or IP address.
        port: The port.
        allowed: Whether an address may be used.
        seconds_each: Seconds for each address.
        mark: Of what is sent (`SO_MARK`); 0 for none.

    Raises:
        EndpointError: It has none that may be used.
        OSError: None could be reached.
    """
    failure: Exception = EndpointError(f"{host} has no address that may be used")
    for family, kind, protocol, _, address in await anyio.getaddrinfo(
        host, port, type=socket.SOCK_STREAM
    ):
        if not allowed(str(address[0])):
            continue
        sock = socket.socket(family, kind | socket.SOCK_CLOEXEC, protocol)
        try:
            sock.setblocking(False)
            if mark:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
            with anyio.fail_after(seconds_each):
                await _connect(sock, address)
            return Pipe(sock)
        except OSError as error:  # of which TimeoutError is one
            failure = error
            sock.close()
        except BaseException:
            sock.close()
            raise
    raise failure


def usable_mark(mark: int) -> int:
    """A mark, or 0 where this process may not mark (CAP_NET_ADMIN).

    Such a node has no default route into the tunnel either. One that gives its privileges up later
    has, and then must not connect without the mark.
    """
    if mark:
        with socket.socket() as sock:
            try:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
            except PermissionError:
                return 0
    return mark


async def _connect(sock: socket.socket, address: Any) -> None:  # noqa: ANN401 - of any family
    try:
        sock.connect(address)
    except BlockingIOError:
        await anyio.wait_writable(sock)
        error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise OSError(error, f"{address[0]}: {os.strerror(error).lower()}") from None


class OneConnection(httpx.AsyncBaseTransport):
    """Sends the requests of an httpx client over a connection that is there already.

    Args:
        wire: The connection.
        origin: To whom it leads.
    """

    def __init__(self, wire: Wire, origin: httpcore.Origin) -> None:
        self._connection = httpcore.AsyncHTTP11Connection(origin=origin, stream=wire)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """See httpx."""
        answer = await self._connection.handle_async_request(
            httpcore.Request(
                request.method,
                httpcore.URL(
                    scheme=request.url.raw_scheme,
                    host=request.url.raw_host,
                    port=request.url.port,
                    target=request.url.raw_path,
                ),
                headers=request.headers.raw,
                content=request.stream,
                extensions=request.extensions,
            )
        )
        return httpx.Response(
            answer.status,
            headers=answer.headers,
            stream=_Body(answer),
            extensions=answer.extensions,
        )

    async def aclose(self) -> None:
        """See httpx."""
        await self._connection.aclose()


class _Body(httpx.AsyncByteStream):
    def __init__(self, answer: httpcore.Response) -> None:
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._answer.aiter_stream():
            yield part

    async def aclose(self) -> None:
        await self._answer.aclose()
