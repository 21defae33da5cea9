"""Those who dial this node: from the first byte to an open stream, or to the door.

Everything here runs in readers' callbacks: no stranger gets a task, and none can end one. Before a
connection has shown a token it costs a bounded amount of memory and time; whoever comes last takes
the place of the one that has dallied longest, so that slow ones cannot keep others out.
"""

from __future__ import annotations

import logging
import socket
import ssl
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import msgspec
from websockets.http11 import Request
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from tunmesh.plugin import BadToken
from tunmesh_transport_https import admission
from tunmesh_transport_https.endpoints import rate_limit_key
from tunmesh_transport_https.pipe import READ_BYTES, Pipe
from tunmesh_transport_https.stream import MAX_DATAGRAM, quiet
from tunmesh_transport_https.wire import usable_mark

if TYPE_CHECKING:
    from tunmesh.plugin import TransportContext, Watch
    from tunmesh_transport_https.certificates import Certificates

log = logging.getLogger(__name__)

#: Seconds from the first byte to an accepted token.
AUTHENTICATE_SECONDS = 10.0
#: Connections that have not shown a token yet: of all, and of one source.
MOST_STRANGERS = 64
MOST_OF_SOURCE = 8
#: Bytes of a request, with its headers.
MOST_HEADER = 8192
_BACKLOG = 512
_ACCEPTS = 32  # for each time that the listener is readable
#: Seconds to wait when the process has no descriptors left.
_EXHAUSTED_SECONDS = 1.0

_PLAIN = memoryview(bytearray(READ_BYTES + (1 << 14)))


class Guest:
    """A connection that has not shown a token yet.

    Attributes:
        pipe: The connection.
        source: As of a path.
        address: Where it comes from.
        deadline: When it has to be done.
        watch: Of its socket.
        secure: Whether the TLS handshake is complete.
        received: Bytes of its request so far.
    """

    __slots__ = (
        "address", "deadline", "pipe", "protocol", "received", "secure", "source", "watch",
    )  # fmt: skip

    def __init__(self, pipe: Pipe, address: tuple[str, int], deadline: float) -> None:
        self.pipe = pipe
        self.address = address
        self.source = rate_limit_key(address[0])
        self.deadline = deadline
        self.watch: Watch | None = None
        self.secure = False
        self.received = 0
        self.protocol = ServerProtocol(max_size=MAX_DATAGRAM, logger=quiet)

    def close(self) -> None:
        """Show it to the door."""
        if self.watch is not None:
            self.watch.close()
        self.pipe.close()


class Server:
    """Listens, and admits those who have a token.

    Args:
        context: The transport's.
        certificates: What to show.
        node_info: What to tell of this node.
        admitted: Takes a guest whose stream is open, with the issuer of its token.
        counts: Where refusals are counted.
    """

    def __init__(
        self,
        context: TransportContext,
        certificates: Certificates,
        *,
        node_info: Callable[[], admission.NodeInfo],
        admitted: Callable[[Guest, str], None],
        counts: Counter[str],
    ) -> None:
        self._context = context
        self._certificates = certificates
        self._node_info = node_info
        self._admitted = admitted
        self._counts = counts
        self._listeners: list[tuple[socket.socket, Watch]] = []
        self._paused: list[tuple[socket.socket, float]] = []
        self._guests: dict[Guest, None] = {}  # oldest first
        self._of_source: Counter[bytes] = Counter()

    def __len__(self) -> int:
        return len(self._guests)

    def listen(self, family: socket.AddressFamily, address: tuple[str, int]) -> tuple[str, int]:
        """Listen at an address; return it with the port that was had.

        Raises:
            OSError: The family is missing, or the address cannot be bound.
        """
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if mark := usable_mark(self._context.mark):  # what is accepted inherits it
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind(address)
            sock.listen(_BACKLOG)
        except BaseException:
            sock.close()
            raise
        self._watch(sock)
        host, port, *_ = sock.getsockname()
        return host, port

    def _watch(self, sock: socket.socket) -> None:
        watch = self._context.reactor.watch(sock.fileno(), partial(self._accept, sock))
        self._listeners.append((sock, watch))

    def close(self) -> None:
        """Stop listening, and close what has not become a stream."""
        for sock, watch in self._listeners:
            watch.close()
            sock.close()
        for sock, _ in self._paused:
            sock.close()
        self._listeners.clear()
        self._paused.clear()
        for guest in list(self._guests):
            self._dismiss(guest)

    def expire(self, now: float) -> None:
        """Dismiss those who took too long, and listen again after a pause."""
        for guest in list(self._guests):
            if guest.deadline > now:
                break
            self._counts["refused_slow"] += 1
            self._dismiss(guest)
        paused, self._paused = self._paused, []
        for sock, until in paused:
            if until <= now:
                self._watch(sock)
            else:
                self._paused.append((sock, until))

    # Accepting

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(_ACCEPTS):
            try:
                sock, address = listener.accept()
            except BlockingIOError:
                return
            except ConnectionError:
                continue  # gone before it was accepted
            except OSError:
                self._pause(listener)
                return
            if self._context.is_overlay(address[0]):
                self._counts["refused_overlay"] += 1
                sock.close()  # an answer would travel through the mesh itself
                continue
            try:
                self._welcome(sock, address[:2])
            except OSError:
                self._counts["refused_gone"] += 1
                sock.close()

    def _pause(self, listener: socket.socket) -> None:
        """The process has no descriptors left: a listener stays readable and would spin."""
        self._counts["accept_failed"] += 1
        for index, (sock, watch) in enumerate(self._listeners):
            if sock is listener:
                watch.close()
                del self._listeners[index]
                break
        self._paused.append((listener, self._context.now() + _EXHAUSTED_SECONDS))

    def _welcome(self, sock: socket.socket, address: tuple[str, int]) -> None:
        pipe = Pipe(sock)
        guest = Guest(pipe, address, self._context.now() + AUTHENTICATE_SECONDS)
        if self._of_source[guest.source] >= MOST_OF_SOURCE:
            self._displace(next(one for one in self._guests if one.source == guest.source))
        elif len(self._guests) >= MOST_STRANGERS:
            self._displace(next(iter(self._guests)))
        pipe.start_tls(self._certificates.context, server_side=True)
        guest.watch = self._context.reactor.watch(sock.fileno(), partial(self._readable, guest))
        self._guests[guest] = None
        self._of_source[guest.source] += 1

    def _displace(self, guest: Guest) -> None:
        self._counts["refused_crowded"] += 1
        self._dismiss(guest)

    def _forget(self, guest: Guest) -> None:
        del self._guests[guest]
        self._of_source[guest.source] -= 1
        if not self._of_source[guest.source]:
            del self._of_source[guest.source]

    def _dismiss(self, guest: Guest) -> None:
        self._forget(guest)
        guest.close()

    # Admitting

    def _readable(self, guest: Guest) -> None:
        try:
            if not guest.secure:
                guest.secure = guest.pipe.handshake()
            if guest.secure:
                self._read_request(guest)
        except ssl.SSLError:
            self._counts["refused_tls"] += 1
            self._dismiss(guest)
        except OSError:
            self._counts["refused_gone"] += 1
            self._dismiss(guest)
        except Exception:
            # A boundary: whatever a stranger makes us do wrong costs that stranger's connection.
            log.exception("connection failed")
            self._counts["refused_failed"] += 1
            self._dismiss(guest)

    def _read_request(self, guest: Guest) -> None:
        size = guest.pipe.receive(_PLAIN)
        if size is None:
            return
        guest.received += size
        if not size or guest.received > MOST_HEADER:
            self._counts["refused_gone" if not size else "refused_size"] += 1
            self._dismiss(guest)
            return
        protocol = guest.protocol
        protocol.receive_data(bytes(_PLAIN[:size]))
        events = protocol.events_received()
        if events and isinstance(events[0], Request):
            self._serve(guest, events[0])
        elif protocol.handshake_exc is not None:
            protocol.data_to_send()  # it would tell what was wrong
            self._counts["refused_http"] += 1
            self._dismiss(guest)

    def _serve(self, guest: Guest, request: Request) -> None:
        protocol = guest.protocol
        digests = self._certificates.digests
        try:
            claims = admission.admit(self._context, request, digests, guest.source)
        except BadToken as error:
            self._counts["refused_token"] += 1
            protocol.send_response(admission.refusal(error))
            self._answer_and_dismiss(guest)
            return
        if request.path == admission.STREAM_PATH:
            accepted = protocol.accept(request)
            body = b""
        else:
            body = msgspec.json.encode(self._node_info())
            accepted = admission.response(200, "OK", body, **{"Content-Type": "application/json"})
        answer = admission.answer_claims(claims, accepted.status_code, body)
        accepted.headers[admission.ANSWER_HEADER] = self._context.issue_token("answer", answer).text
        protocol.send_response(accepted)
        if protocol.state is not OPEN:
            self._answer_and_dismiss(guest)
            return
        guest.pipe.write(b"".join(protocol.data_to_send()))
        self._forget(guest)
        if guest.watch is not None:
            guest.watch.close()
        self._admitted(guest, str(claims["iss"]))

    def _answer_and_dismiss(self, guest: Guest) -> None:
        guest.pipe.write(b"".join(guest.protocol.data_to_send()))
        guest.pipe.finish()
        self._dismiss(guest)
