"""Reading one socket, in whichever of two ways is faster on this underlay.

With ``UDP_GRO`` the kernel hands on what it could join as one run: a system call for dozens of
datagrams, where the underlay or the network card keeps them together. Where it cannot, each
datagram costs a call of its own, and a `Batch` of ``recvmmsg`` is faster. Which of them holds is
watched, and tried again now and then.
"""

from __future__ import annotations

import socket
import sys
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from tunmesh_transport_udp.batch import Batch
from tunmesh_transport_udp.endpoints import SocketAddress, socket_address
from tunmesh_transport_udp.sockets import CONTROL_SPACE, UDP_GRO, error_name, set_coalescing

if TYPE_CHECKING:
    from tunmesh.plugin import PathHandle
    from tunmesh_transport_udp.listener import Listener

_BUFFER_BYTES = 1 << 16  # the largest run of datagrams that the kernel joins
_READS = 16  # a wake-up; then the other descriptors have their turn
_SINGLY = 8  # reads of one run after more than one was looked for in vain
_BATCHES = 4  # the same, of 64 datagrams each
#: Wake-ups in a row that found many large datagrams and none joined, before batches are used.
_PATIENCE = 8
_MANY = _READS - 4
_LARGE = 1000  # bytes; small datagrams are a unit each, there is nothing to join
#: Seconds after which it is tried whether the underlay joins datagrams by now.
_TRY_AGAIN = 5.0
_MOST_ADDRESSES = 1024

Deliver = Callable[["PathHandle", memoryview, int], None]
Stranger = Callable[["Listener", SocketAddress], "PathHandle | None"]


class Receiver:
    """Reads a socket and delivers what comes.

    Args:
        listener: The socket.
        adopted: The paths in use, by remote address.
        stranger: Makes a path for a datagram from somewhere else; None to drop it.
        deliver: Takes datagrams.
        counts: Where failures are counted.
        now: The time in seconds.
    """

    def __init__(
        self,
        listener: Listener,
        adopted: dict[SocketAddress, PathHandle],
        stranger: Stranger,
        deliver: Deliver,
        counts: Counter[str],
        now: Callable[[], float],
    ) -> None:
        self._listener = listener
        self._adopted = adopted
        self._stranger = stranger
        self._deliver = deliver
        self._counts = counts
        self._now = now
        self._view = memoryview(bytearray(_BUFFER_BYTES))
        self._alone = 0  # wake-ups in a row in which nothing was joined
        self._batch: Batch | None = None
        self._until = 0.0
        self._singly = 0  # reads of one run, before it is looked for more again
        self._addresses: dict[bytes, SocketAddress] = {}

    def readable(self) -> None:
        """Read a bounded amount."""
        if self._batch is None:
            self._read_runs()
        else:
            self._read_batches(self._batch)

    def _read_runs(self) -> None:
        recvmsg_into = self._listener.socket.recvmsg_into
        view = self._view
        buffers = [view]
        adopted, deliver = self._adopted, self._deliver
        alone = largest = 0
        for reads in range(_READS):
            try:
                size, control, _, address = recvmsg_into(buffers, CONTROL_SPACE)
            except BlockingIOError:
                self._singly = 0 if reads > 1 else _SINGLY
                break
            except OSError as error:  # what an ICMP message reported about an earlier datagram
                self._counts[f"receive_{error_name(error)}"] += 1
                continue
            path = adopted.get(address) or self._stranger(self._listener, address)
            if path is None or not size:
                continue
            segment_size = size
            for level, kind, value in control:
                if kind == UDP_GRO and level == socket.SOL_UDP:
                    segment_size = int.from_bytes(value, sys.byteorder)
            if segment_size < size:
                self._alone = alone = 0
            elif size >= _LARGE:
                alone += 1
                largest = max(largest, size)
            deliver(path, view[:size], segment_size)
            if self._singly:
                # Runs come one by one. To look for another costs as much as to read it, and if
                # there is one, the socket is readable still.
                self._singly -= 1
                break
        if alone >= _MANY:
            self._alone += 1
            if self._alone >= _PATIENCE:
                self._use_batches(largest)

    def _use_batches(self, size: int) -> None:
        if set_coalescing(self._listener.socket, on=False):
            self._batch = Batch(size)
            self._until = self._now() + _TRY_AGAIN
            self._counts["receive_batched"] += 1
        self._alone = 0

    def _read_batches(self, batch: Batch) -> None:
        adopted, deliver = self._adopted, self._deliver
        for _ in range(_BATCHES):
            try:
                count = batch.read(self._listener.socket)
            except BlockingIOError:
                break
            except OSError as error:  # what an ICMP message reported about an earlier datagram
                self._counts[f"receive_{error_name(error)}"] += 1
                continue
            for raw, run, segment_size in batch.runs(count):
                address = self._addresses.get(raw) or self._remember(raw)
                path = adopted.get(address) or self._stranger(self._listener, address)
                if path is not None:
                    deliver(path, run, segment_size)
        if batch.outgrown or self._now() > self._until:
            set_coalescing(self._listener.socket, on=True)
            self._batch = None
            # The one try that it gets is short, unless something is joined.
            self._alone = 0 if batch.outgrown else _PATIENCE - 2

    def _remember(self, raw: bytes) -> SocketAddress:
        if len(self._addresses) >= _MOST_ADDRESSES:
            self._addresses.clear()
        address = self._addresses[raw] = socket_address(raw)
        return address
