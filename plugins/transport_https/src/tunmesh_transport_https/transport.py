"""Datagrams over HTTPS: the transport itself.

A path that this node dials keeps its handle for as long as the core wants it; the stream behind it
is opened when something is to be sent, and again when it has ended. A path that another node dials
*is* its stream: both end together.
"""

from __future__ import annotations

import errno
import logging
import random
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import anyio

from tunmesh.plugin import EndpointError, PathHandle, Transport, TransportContext, TransportError
from tunmesh.underlay import Discovery
from tunmesh_transport_https.admission import NodeInfo
from tunmesh_transport_https.certificates import Certificates
from tunmesh_transport_https.client import Client, Unreachable
from tunmesh_transport_https.endpoints import (
    SCHEME,
    Endpoint,
    parse_endpoint,
    rate_limit_key,
    split_authority,
)
from tunmesh_transport_https.options import DEFAULT_LISTEN, Options
from tunmesh_transport_https.paths import HttpsPath
from tunmesh_transport_https.server import Guest, Server
from tunmesh_transport_https.stream import MAX_DATAGRAM, Stream

if TYPE_CHECKING:
    from websockets.protocol import Protocol

    from tunmesh.interfaces.tun import Buffer
    from tunmesh_transport_https.pipe import Pipe

log = logging.getLogger(__name__)

_FAMILY_MISSING = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
#: Streams of others, and handles of endpoints that nobody uses.
_MOST_ACCEPTED = 4096
_MOST_UNUSED = 1024
#: Seconds that a path is kept which the core does not use (any longer).
_LINGER = 15.0
_LINGER_ACCEPTED = 30.0
#: Seconds between looks at what has become too old, and at the certificate's files.
_HOUSEKEEPING = 1.0
#: Seconds between requests to a URL where nobody answers; the core allows ten in all.
_ASK_AGAIN = (0.25, 0.25, 0.5, 0.5, 1.0, 1.0)
#: Endpoints of a node that answered at a URL.
_MOST_TOLD = 6


class HttpsTransport(Transport):
    """Datagrams over HTTPS."""

    schemes = frozenset({SCHEME})
    priority = 50
    max_segments = 64
    max_send = 2 * MAX_DATAGRAM
    reveals_endpoint = False

    def __init__(self, context: TransportContext) -> None:
        self.name = context.name
        self._context = context
        self._inbound = context.inbound
        self._counts: Counter[str] = Counter()
        self._dialed: dict[str, HttpsPath] = {}
        self._accepted: dict[HttpsPath, None] = {}
        self._scopes: set[anyio.CancelScope] = set()
        self._running = False
        self._discovery: Discovery | None = None
        self._certificates: Certificates
        self._client: Client
        self._server: Server

    # Life

    async def __aenter__(self) -> Self:
        options: Options = self._context.options
        self._certificates = Certificates(options)
        self._client = Client(self._context, options)
        self._server = Server(
            self._context,
            self._certificates,
            node_info=self._node_info,
            admitted=self._admitted,
            counts=self._counts,
        )
        self._running = True
        try:
            self._listen(options)
        except BaseException:
            self._close()
            raise
        self._start(self._keep_house)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()

    def _listen(self, options: Options) -> None:
        bound: list[tuple[str, int]] = []
        missing = ""
        for text in options.listen:
            host, port = split_authority(text)
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            try:
                bound.append(self._server.listen(family, (host, port)))
            except OSError as exc:
                reason = f"{text}: {(exc.strerror or str(exc)).lower()}"
                if options.listen != DEFAULT_LISTEN or exc.errno not in _FAMILY_MISSING:
                    raise TransportError(
                        f"cannot listen on https {reason} (plugins.https.listen)"
                    ) from exc
                missing = reason  # a host without IPv6, or without IPv4
        if options.listen and not bound:
            raise TransportError(f"cannot listen on https {missing} (plugins.https.listen)")
        self._discovery = Discovery(self._context, SCHEME, bound, self._inbound.endpoints_changed)
        self._discovery.open()

    def _close(self) -> None:
        if not self._running:
            return
        self._running = False
        if self._discovery is not None:
            self._discovery.close()
        self._server.close()
        for path in (*self._dialed.values(), *self._accepted):
            self._close_stream(path)
        self._dialed.clear()
        self._accepted.clear()
        for scope in self._scopes:
            scope.cancel()

    def _start(self, function: Callable[..., Awaitable[Any]], *args: Any) -> None:
        """Run a task that ends with the transport."""
        self._context.start_soon(self._scoped, function, args)

    async def _scoped(self, function: Callable[..., Awaitable[Any]], args: tuple[Any, ...]) -> None:
        if not self._running:  # closed before the task began
            return
        with anyio.CancelScope() as scope:
            self._scopes.add(scope)
            try:
                await function(*args)
            finally:
                self._scopes.discard(scope)

    async def _keep_house(self) -> None:
        while True:
            await anyio.sleep(_HOUSEKEEPING)
            now = self._context.now()
            self._server.expire(now)
            for path in list(self._dialed.values()):
                if not path.adopted and not path.dialing and path.idle_since() < now - _LINGER:
                    self._forget(path)
            for path in list(self._accepted):
                if not path.adopted and path.idle_since() < now - _LINGER_ACCEPTED:
                    self._forget(path)
            self._renew()

    def _renew(self) -> None:
        before = self._certificates.pin
        try:
            if not self._certificates.renew():
                return
        except TransportError as error:
            log.warning("certificate not renewed error=%s", error)
            return
        log.info("certificate renewed")
        if self._certificates.pin != before:
            self._inbound.endpoints_changed()

    # Endpoints

    def local_endpoints(self) -> tuple[str, ...]:
        if self._discovery is None:
            return ()
        return tuple(f"{known}#{self._certificates.pin}" for known in self._discovery.endpoints)

    def _node_info(self) -> NodeInfo:
        return NodeInfo(self._context.node_id, self.local_endpoints())

    async def resolve(self, url: str) -> tuple[str, ...]:
        """The endpoints that the node who answers at a URL tells, and the URL itself.

        Behind a load balancer each request may be answered by another node; from then on it is
        that one which is dialled.
        """
        endpoint = parse_endpoint(url)
        info = await self._ask(endpoint)
        found: dict[str, None] = {}
        if info.id != self._context.node_id:
            for text in info.endpoints[:_MOST_TOLD]:
                try:
                    self._check(parse_endpoint(text))
                except EndpointError:
                    continue  # of a newer version, or inside the mesh
                found[text] = None
        found[endpoint.url] = None
        return tuple(found)

    async def _ask(self, endpoint: Endpoint) -> NodeInfo:
        """Who is there; nodes that know each other may well be started at the same time."""
        for delay in _ASK_AGAIN:
            try:
                return await self._client.node_info(endpoint)
            except Unreachable:
                await anyio.sleep(delay * random.uniform(0.8, 1.2))
        return await self._client.node_info(endpoint)

    def _check(self, target: Endpoint) -> None:
        """Refuse what would travel through the mesh itself; of names their addresses are looked at.

        Raises:
            EndpointError: It is inside the mesh.
        """
        if target.literal and self._context.is_overlay(target.host):
            raise EndpointError(f"{target.url!r} lies inside the mesh")

    def connect(self, endpoint: str) -> PathHandle:
        path = self._dialed.get(endpoint)
        if path is None:
            target = parse_endpoint(endpoint)
            self._check(target)
            if len(self._dialed) >= _MOST_UNUSED:
                self._forget_unused()
            source = rate_limit_key(target.host) if target.literal else target.host.encode()
            now = self._context.now()
            path = HttpsPath(self, endpoint, source=source, target=target, now=now)
            self._dialed[endpoint] = path
        path.touched = self._context.now()
        return path

    def _forget_unused(self) -> None:
        for path in list(self._dialed.values()):
            if not path.adopted and not path.dialing:
                self._forget(path)

    def adopt(self, handle: PathHandle) -> None:
        path: HttpsPath = handle  # type: ignore[assignment]  # made here
        path.adopted = True
        if path.target is not None:
            self._dialed[path.endpoint] = path

    def release(self, handle: PathHandle) -> None:
        path: HttpsPath = handle  # type: ignore[assignment]  # made here
        path.adopted = False  # it lingers: it may be wanted again at once
        path.touched = self._context.now()

    def _forget(self, path: HttpsPath) -> None:
        self._close_stream(path)
        self._accepted.pop(path, None)
        if self._dialed.get(path.endpoint) is path:
            del self._dialed[path.endpoint]

    # Sending

    def send(self, handle: PathHandle, buffers: Sequence[Buffer], segment_size: int) -> bool:
        path: HttpsPath = handle  # type: ignore[assignment]  # made here
        messages = buffers
        if len(buffers) > 1 or len(buffers[0]) > segment_size:
            data = memoryview(b"".join(buffers))
            messages = [
                data[start : start + segment_size] for start in range(0, len(data), segment_size)
            ]
        if path.stream is not None:
            path.stream.send(messages)
            return True
        return self._send_later(path, messages)

    def _send_later(self, path: HttpsPath, messages: Sequence[Buffer]) -> bool:
        """Keep what is to be sent, and open a stream for it."""
        now = self._context.now()
        if path.target is None:
            self._counts["send_closed"] += 1  # the stream has ended; the core has been told
            return True
        kept = True
        for message in messages:
            kept &= path.keep(message, now)
        if path.may_dial(now):
            path.dialing = True
            self._start(self._dial, path, path.target)
        return kept

    async def _dial(self, path: HttpsPath, target: Endpoint) -> None:
        try:
            pipe, protocol, early = await self._client.open_stream(target)
        except EndpointError as error:
            self._counts["dial_failed"] += 1
            path.failed(self._context.now())
            log.debug("dial failed error=%s", error)
            return
        finally:
            path.dialing = False
        self._counts["dialed"] += 1
        self._open(path, pipe, protocol)
        if path.stream is not None:
            path.stream.feed(early)
        if path.stream is not None and (waiting := path.waiting(self._context.now())):
            path.stream.send(waiting)

    # Streams

    def _admitted(self, guest: Guest, issuer: str) -> None:
        """Another node has dialled this one."""
        if len(self._accepted) >= _MOST_ACCEPTED:
            self._counts["refused_crowded"] += 1
            guest.pipe.close()
            return
        self._counts["accepted"] += 1
        endpoint = Endpoint(*guest.address).url
        source = guest.source + issuer.encode()
        path = HttpsPath(self, endpoint, source=source, target=None, now=self._context.now())
        self._accepted[path] = None
        self._open(path, guest.pipe, guest.protocol)

    def _open(self, path: HttpsPath, pipe: Pipe, protocol: Protocol) -> None:
        stream = Stream(
            pipe,
            protocol,
            deliver=partial(self._deliver, path),
            ended=partial(self._ended, path),
            blocked=partial(self._blocked, path),
            clock=self._context.now,
            counts=self._counts,
        )
        path.opened(self._context.now())
        path.stream = stream
        path.watch = self._context.reactor.watch(pipe.socket.fileno(), stream.readable)

    def _deliver(self, path: HttpsPath, data: memoryview) -> None:
        self._inbound.receive(path, data, len(data))

    def _blocked(self, path: HttpsPath) -> None:
        assert path.stream is not None
        self._start(self._drain, path.stream)

    async def _drain(self, stream: Stream) -> None:
        """Send what waits for the connection to take it."""
        try:
            while not stream.flush():
                await anyio.wait_writable(stream.pipe.socket)
        except (anyio.ClosedResourceError, OSError, ValueError):
            return  # it was closed meanwhile

    def _ended(self, path: HttpsPath, reason: str) -> None:
        """A stream has ended by itself."""
        if path.watch is not None:
            path.watch.close()
        path.stream = path.watch = None
        self._counts["ended"] += 1
        log.debug("stream ended endpoint=%s reason=%s", path.endpoint, reason)
        path.ended(self._context.now())
        if path.target is None:
            self._accepted.pop(path, None)
            if path.adopted:
                self._inbound.path_closed(path, reason)

    def _close_stream(self, path: HttpsPath) -> None:
        if path.watch is not None:
            path.watch.close()
        if path.stream is not None:
            path.stream.close()
        path.stream = path.watch = None

    def statistics(self) -> dict[str, int]:
        return dict(self._counts)
