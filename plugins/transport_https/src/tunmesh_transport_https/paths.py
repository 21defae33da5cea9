"""The paths of the transport: what the core holds, and the streams behind them."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from tunmesh.plugin import PathHandle
from tunmesh_transport_https.stream import MAX_DATAGRAM

if TYPE_CHECKING:
    from tunmesh.interfaces.tun import Buffer
    from tunmesh.plugin import Transport, Watch
    from tunmesh_transport_https.endpoints import Endpoint
    from tunmesh_transport_https.stream import Stream

#: What is kept while a stream is being opened: handshakes and the like.
_MOST_WAITING = 64
_MOST_WAITING_BYTES = 1 << 15
#: Seconds after which that is of no use.
_WAITING_SECONDS = 3.0
#: Seconds until a stream is opened again, doubled with each failure.
_RETRY_SECONDS = 0.25
_LONGEST_RETRY = 5.0
#: A stream that lives for less counts as a failure.
_SHORT_LIFE = 2.0


class HttpsPath(PathHandle):
    """A path over HTTPS.

    Attributes:
        target: Whom to dial; None if the other end dialled.
        stream: The stream, None while there is none.
        watch: Of the stream's socket.
        adopted: Whether the core uses it.
        dialing: Whether a stream is being opened.
        touched: When the core asked for it or let it go.
    """

    __slots__ = (
        "_failures",
        "_next_dial",
        "_opened",
        "_waiting",
        "_waiting_bytes",
        "adopted",
        "dialing",
        "stream",
        "target",
        "touched",
        "watch",
    )

    def __init__(
        self,
        transport: Transport,
        endpoint: str,
        *,
        source: bytes,
        target: Endpoint | None,
        now: float,
    ) -> None:
        super().__init__(transport, endpoint, source=source, max_datagram=MAX_DATAGRAM)
        self.target = target
        self.stream: Stream | None = None
        self.watch: Watch | None = None
        self.adopted = False
        self.dialing = False
        self.touched = now
        self._failures = 0
        self._next_dial = now
        self._opened = now
        self._waiting: list[tuple[float, bytes]] = []
        self._waiting_bytes = 0

    def keep(self, message: Buffer, now: float) -> bool:
        """Keep a message until there is a stream; False if there is no room."""
        if self._waiting and self._waiting[0][0] < now - _WAITING_SECONDS:
            self.waiting(now)
        room = _MOST_WAITING_BYTES - self._waiting_bytes
        if len(self._waiting) >= _MOST_WAITING or len(message) > room:
            return False
        self._waiting.append((now, bytes(message)))
        self._waiting_bytes += len(message)
        return True

    def waiting(self, now: float) -> list[bytes]:
        """What was kept, and is of use; it is kept no longer."""
        messages = [text for since, text in self._waiting if since >= now - _WAITING_SECONDS]
        self._waiting.clear()
        self._waiting_bytes = 0
        return messages

    def may_dial(self, now: float) -> bool:
        """Whether a stream is to be opened for what waits."""
        return self.target is not None and not self.dialing and now >= self._next_dial

    def opened(self, now: float) -> None:
        """A stream is open."""
        self._opened = now

    def failed(self, now: float) -> None:
        """A stream could not be opened."""
        delay = min(_RETRY_SECONDS * 2**self._failures, _LONGEST_RETRY)
        self._failures += 1
        self._next_dial = now + delay * random.uniform(0.8, 1.2)

    def ended(self, now: float) -> None:
        """The stream has ended."""
        if now - self._opened < _SHORT_LIFE:
            self.failed(now)
        else:
            self._failures = 0
            self._next_dial = now + _RETRY_SECONDS * random.random()

    def idle_since(self) -> float:
        """Since when nothing has come and nobody has asked for it."""
        return max(self.touched, self.stream.active_at if self.stream is not None else 0.0)
