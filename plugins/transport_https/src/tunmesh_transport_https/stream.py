"""Datagrams over a WebSocket (RFC 6455): one binary message each.

TCP delivers late what a network would have lost: a queue that grows is worse than a drop. So what
the connection does not take at once waits in two queues of its own, bounded in bytes and in time.
The oldest is dropped first. Small messages (acknowledgements, pings, all that keeps the mesh
together) go before large ones.
"""

from __future__ import annotations

import contextlib
import logging
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN, Protocol

from tunmesh_transport_https.pipe import READ_BYTES, Pipe

if TYPE_CHECKING:
    from tunmesh.interfaces.tun import Buffer

log = logging.getLogger(__name__)

#: A slice of the largest size that its header can tell, and that header.
MAX_DATAGRAM = 0xFFFF + 16
#: Messages up to this size go before others.
_SMALL = 640
#: Bytes of small messages sent between two large ones, so that none waits for ever.
_BURST = 1 << 14
#: Bytes that wait at most, of small and of large messages. TCP inside is slowed by its window
#: before it fills this; a drop of what is dozens of its segments would cost it more.
_SMALL_BYTES = 1 << 17
_LARGE_BYTES = 1 << 22
#: Seconds that something waits at most. TCP inside has sent it again by then.
_QUEUE_SECONDS = 0.2
#: The kernel is given what it sends in this many seconds. What is there nobody overtakes.
_UNSENT_SECONDS = 0.005
_UNSENT_BYTES = (1 << 14, 1 << 20)
#: Seconds of waiting for the network that tell how fast it is.
_MEASURED = 0.02
#: Reads for each time that the socket is readable; then it is the others' turn.
_READS = 4

#: What the library tells of each connection is not for the node's log.
quiet = logging.getLogger(f"{__name__}.websocket")
quiet.setLevel(logging.CRITICAL)

_PLAIN = memoryview(bytearray(READ_BYTES + (1 << 14)))


class Queue:
    """Messages that wait, oldest first; bounded in bytes and seconds.

    Args:
        limit: Bytes.

    Attributes:
        expired: Messages dropped so far.
    """

    __slots__ = ("_limit", "_messages", "_size", "expired")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._messages: deque[tuple[float, bytes]] = deque()
        self._size = 0
        self.expired = 0

    def __bool__(self) -> bool:
        return bool(self._messages)

    def put(self, message: bytes, now: float) -> None:
        """Add a message; the oldest make room for it."""
        self._messages.append((now, message))
        self._size += len(message)
        while self._size > self._limit:
            self._drop()

    def get(self, now: float) -> bytes | None:
        """The oldest message that is not too old."""
        oldest = now - _QUEUE_SECONDS
        while self._messages:
            if self._messages[0][0] >= oldest:
                message = self._messages.popleft()[1]
                self._size -= len(message)
                return message
            self._drop()
        return None

    def _drop(self) -> None:
        self._size -= len(self._messages.popleft()[1])
        self.expired += 1


class Stream:
    """A WebSocket that is open.

    Args:
        pipe: Its connection.
        protocol: Its state, open.
        deliver: Called with each datagram; the bytes are valid until it returns.
        ended: Called once when the stream is at its end, with the reason.
        blocked: Called when the connection does not take more: `flush` is to be called when it
            is writable again.
        clock: The time.
        counts: Where ``expired`` is counted.

    Attributes:
        pipe: Its connection.
        active_at: When something came last.
    """

    def __init__(
        self,
        pipe: Pipe,
        protocol: Protocol,
        *,
        deliver: Callable[[memoryview], None],
        ended: Callable[[str], None],
        blocked: Callable[[], None],
        clock: Callable[[], float],
        counts: Counter[str],
    ) -> None:
        self.pipe = pipe
        self.active_at = clock()
        self._protocol = protocol
        self._deliver = deliver
        self._ended = ended
        self._wait = blocked
        self._clock = clock
        self._counts = counts
        self._small = Queue(_SMALL_BYTES)
        self._large = Queue(_LARGE_BYTES)
        self._waiting = False
        self._over = False
        #: While the network does not take more: when that was looked at, what it has taken then.
        self._measured_from = (0.0, 0)
        self._waited = 0.0
        self._taken = 0
        self._fragments: list[Buffer] = []

    # Sending

    def send(self, messages: Sequence[Buffer]) -> None:
        """Send datagrams, now or soon; valid only until the call returns."""
        if self._waiting:
            for message in messages:
                self._queue(message)
            return
        send = self._protocol.send_binary
        for message in messages:
            send(message)
        self._transmit()

    def _queue(self, message: Buffer) -> None:
        queue = self._small if len(message) <= _SMALL else self._large
        before = queue.expired
        queue.put(bytes(message), self._clock())
        self._counts["expired"] += queue.expired - before

    def _transmit(self) -> None:
        """Hand what the protocol wants to send to the connection."""
        try:
            if not self.pipe.write(self._to_send()):
                self._waiting = True
                self._measured_from = self._clock(), self.pipe.sent
                self._wait()
        except OSError as error:
            self.end(error.strerror or str(error))

    def _to_send(self) -> bytes:
        pieces = self._protocol.data_to_send()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def flush(self) -> bool:
        """The connection is writable: send what waits; whether all of it went."""
        if self.pipe.closed:
            return True
        try:
            self._measure()
            if not self.pipe.flush():
                return False
            while batch := self._next_batch():
                for message in batch:
                    self._protocol.send_binary(message)
                if not self.pipe.write(self._to_send()):
                    return False
        except OSError as error:
            self.end(error.strerror or str(error))
        self._waiting = False
        return True

    def _measure(self) -> None:
        """Follow the network's speed with what the kernel is given ahead."""
        now, sent = self._clock(), self.pipe.sent
        since, before = self._measured_from
        self._waited += now - since
        self._taken += sent - before
        self._measured_from = now, sent
        if self._waited >= _MEASURED:
            least, most = _UNSENT_BYTES
            unsent = int(self._taken / self._waited * _UNSENT_SECONDS)
            self.pipe.limit_unsent(min(max(unsent, least), most))
            self._waited = 0.0
            self._taken = 0

    def _next_batch(self) -> list[bytes]:
        """Small messages that wait, up to a burst, and then one large one."""
        now = self._clock()
        small, large = self._small, self._large
        before = small.expired + large.expired
        batch: list[bytes] = []
        size = 0
        while size < _BURST and (message := small.get(now)) is not None:
            batch.append(message)
            size += len(message)
        if (message := large.get(now)) is not None:
            batch.append(message)
        self._counts["expired"] += small.expired + large.expired - before
        return batch

    # Receiving

    def readable(self) -> None:
        """The socket is readable: deliver what came."""
        protocol = self._protocol
        try:
            for _ in range(_READS):
                size = self.pipe.receive(_PLAIN)
                if size is None:
                    return
                if not size:
                    self.end("closed by the other end")
                    return
                self.feed(_PLAIN[:size])
                if protocol.state is not OPEN:
                    self.end("closed by the other end")
                if self.pipe.closed or size < READ_BYTES // 2:
                    return
        except OSError as error:  # of which TLS errors are a kind
            self.end(error.strerror or str(error))
        except Exception:
            # A boundary: whatever the other end makes us do wrong costs its stream, and no more.
            log.exception("stream failed")
            self.end("internal error")

    def feed(self, data: Buffer) -> None:
        """Take bytes that came, and deliver the messages in them."""
        protocol = self._protocol
        protocol.receive_data(data)  # type: ignore[arg-type]  # any buffer
        for event in protocol.events_received():
            if isinstance(event, Frame):
                self._frame(event)
        if protocol.writes:  # an answer to a ping, or to a close
            if self._waiting:
                protocol.data_to_send()  # nobody may fill the memory by asking
            else:
                self._transmit()

    def _frame(self, frame: Frame) -> None:
        data = frame.data
        if frame.opcode is Opcode.BINARY and frame.fin:
            pass
        elif frame.opcode is Opcode.BINARY or frame.opcode is Opcode.CONT:
            # Whoever is in between may cut messages up, though few do.
            self._fragments.append(data)
            if not frame.fin:
                return
            data = b"".join(self._fragments)
            self._fragments.clear()
        else:
            return
        self.active_at = self._clock()
        if data:
            self._deliver(memoryview(data))

    # End

    def close(self) -> None:
        """Say goodbye and close, without waiting for an answer; the watch is closed already."""
        if not self.pipe.closed and not self._waiting and self._protocol.state is OPEN:
            self._over = True
            with contextlib.suppress(OSError):
                self._protocol.send_close(1001)
                self.pipe.write(self._to_send())
        self.pipe.close()

    def end(self, reason: str) -> None:
        """The stream is at its end."""
        if not self._over:
            self._over = True
            self._ended(reason)  # closes the watch, which must be before the descriptor
            self.pipe.close()
