"""HTTP for what watches a node: health checks, metrics, the status document. Only reading.

A small server around h11, for a handful of clients that ask for small documents. Who asks is not
known, so nothing secret is told, and who is slow or speaks no HTTP has to go. The ``Host`` of a
request must be an IP address or a name that the operator has listed: a web page that has its name
point here (DNS rebinding) gets nothing.
"""

from __future__ import annotations

import ipaddress
import logging
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import anyio
import h11
from anyio.abc import SocketAttribute, SocketStream

from tunmesh.config.scalars import parse_listen
from tunmesh.errors import AdminError

if TYPE_CHECKING:
    from anyio.abc import Listener

log = logging.getLogger(__name__)

#: Of more connections the one that has been idle for longest ends; if none is idle, the new one.
MAX_CONNECTIONS = 64
#: Bytes of a request, with its headers.
MAX_REQUEST = 16 * 1024
#: Seconds for a request to come, and for its answer to be taken.
TIMEOUT = 5.0
#: Seconds between two requests of one connection.
IDLE = 60.0
_CHUNK = 64 * 1024
#: After a page was made, none is for so many times as long as that took: packets come first.
_REST = 4.0
#: A ``Host`` header: an address in brackets, or what has no colon; and a port.
_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([^:\[\]%]+))(?::[0-9]{0,5})?")
_METHODS = (b"GET", b"HEAD")


@dataclass(frozen=True)
class Answer:
    """What is answered to a request.

    Attributes:
        status: The code of HTTP.
        body: The document.
        kind: Its media type.
    """

    status: int
    body: bytes
    kind: str = "application/json"


#: From the ``Accept`` header to the answer.
Page: TypeAlias = Callable[[str], Answer]


async def listen(text: str) -> Listener[SocketStream]:
    """Open the port.

    Raises:
        AdminError: It cannot be opened.
    """
    host, port = parse_listen(text)
    try:
        return await anyio.create_tcp_listener(local_host=host, local_port=port)
    except OSError as error:
        reason = error.strerror or str(error)
        raise AdminError(f"admin.listen: cannot listen on {text}: {reason}") from error


def host_allowed(header: str, allowed: Collection[str]) -> bool:
    """Whether a ``Host`` header names an IP address, localhost, or a listed name."""
    found = _HOST.fullmatch(header.strip().lower())
    if found is None:
        return False
    name = (found[1] or found[2]).rstrip(".")
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name in {"localhost", *(known.lower().rstrip(".") for known in allowed)}
    return True


class HttpServer:
    """Answers requests until cancelled.

    Args:
        pages: By path.
        hosts: Names in the ``Host`` header that are allowed besides IP addresses and localhost.
        timeout: Seconds for each step of an exchange.
    """

    def __init__(
        self, pages: Mapping[str, Page], hosts: Collection[str], *, timeout: float = TIMEOUT
    ) -> None:
        self._pages = pages
        self._hosts = hosts
        self._timeout = timeout
        self._connections = 0
        self._turn = anyio.Lock()
        self._rests_until = float("-inf")
        self._idle: dict[anyio.CancelScope, None] = {}  # waiting for a request, oldest first

    async def serve(self, listener: Listener[SocketStream]) -> None:
        """Serve all who connect, and close the port in the end."""
        async with listener:
            await listener.serve(self._connected)

    async def _connected(self, stream: SocketStream) -> None:
        async with stream:
            if self._connections >= MAX_CONNECTIONS and not self._idle:
                return
            if self._connections >= MAX_CONNECTIONS:
                oldest = next(iter(self._idle))
                del self._idle[oldest]
                oldest.cancel()
            self._connections += 1
            try:
                await self._converse(stream)
            except (OSError, anyio.BrokenResourceError, anyio.ClosedResourceError, TimeoutError):
                return  # it has gone, or takes nothing
            except Exception:  # the boundary of the task: a defect here must not end the node
                log.exception("http connection failed")
            finally:
                self._connections -= 1

    async def _converse(self, stream: SocketStream) -> None:
        peer = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_REQUEST)
        patience = self._timeout
        while True:
            try:
                request = await self._request(stream, peer, patience)
            except h11.RemoteProtocolError as error:
                status = error.error_status_hint or 400
                await self._send(stream, peer, None, _text(status, "this is no request"))
                return
            if request is None:
                return
            await self._send(stream, peer, request, await self._make(request))
            if peer.our_state is not h11.DONE or peer.their_state is not h11.DONE:
                return
            peer.start_next_cycle()
            patience = IDLE

    async def _request(
        self, stream: SocketStream, peer: h11.Connection, patience: float
    ) -> h11.Request | None:
        """The next request, or None if none came in time.

        Raises:
            h11.RemoteProtocolError: It is no HTTP, or too long.
        """
        request: h11.Request | None = None
        size = 0
        with anyio.move_on_after(patience) as scope:
            self._idle[scope] = None
            try:
                while True:
                    event = peer.next_event()
                    if event is h11.NEED_DATA:
                        try:
                            data = await stream.receive(_CHUNK)
                        except anyio.EndOfStream:
                            data = b""
                        if data and request is None and not size:
                            scope.deadline = anyio.current_time() + self._timeout
                        size += len(data)
                        peer.receive_data(data)
                    elif isinstance(event, h11.Request):
                        request = event
                    elif isinstance(event, h11.EndOfMessage):
                        return request
                    elif isinstance(event, h11.ConnectionClosed) or event is h11.PAUSED:
                        return None
                    if size > MAX_REQUEST:  # with a body that nobody asked for
                        raise h11.RemoteProtocolError("too long", error_status_hint=413)
            finally:
                self._idle.pop(scope, None)
        return None

    async def _make(self, request: h11.Request) -> Answer:
        """Answer requests one at a time, with rests: who asks much gets no more of the loop."""
        async with self._turn:
            await anyio.sleep_until(self._rests_until)
            began = anyio.current_time()
            answer = self._answer(request)
            now = anyio.current_time()
            self._rests_until = now + _REST * (now - began)
            return answer

    def _answer(self, request: h11.Request) -> Answer:
        headers = {name: value.decode("latin-1") for name, value in request.headers}
        if not host_allowed(headers.get(b"host", "localhost"), self._hosts):
            return _text(421, "this Host is not in admin.hosts")
        if request.method not in _METHODS:
            return _text(405, "only GET and HEAD")
        path = request.target.partition(b"?")[0].decode("latin-1")
        page = self._pages.get(path)
        if page is None:
            return _text(404, f"there are: {' '.join(sorted(self._pages))}")
        try:
            return page(headers.get(b"accept", ""))
        except Exception:  # a page's defect must not end the node
            log.exception("http page failed path=%s", path)
            return _text(500, "see the log of the node")

    async def _send(
        self,
        stream: SocketStream,
        peer: h11.Connection,
        request: h11.Request | None,
        answer: Answer,
    ) -> None:
        if peer.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        headers = [
            ("Content-Type", answer.kind),
            ("Content-Length", str(len(answer.body))),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
            *([("Allow", "GET, HEAD")] if answer.status == 405 else []),
            *([("Connection", "close")] if request is None else []),
        ]
        data = peer.send(h11.Response(status_code=answer.status, headers=headers)) or b""
        if request is None or request.method != b"HEAD":
            data += peer.send(h11.Data(data=answer.body)) or b""
        data += peer.send(h11.EndOfMessage()) or b""
        with anyio.fail_after(self._timeout):
            await stream.send(data)


def port_of(listener: Listener[SocketStream]) -> int:
    """The port that a listener has, for those that asked for any."""
    return int(listener.extra(SocketAttribute.local_port))


def _text(status: int, message: str) -> Answer:
    return Answer(status, f"{message}\n".encode(), "text/plain; charset=utf-8")
