"""From datagrams to opened units: joining slices, replay window, authentication.

Slices come whole units at a time where the underlay or the kernel rejoins what was sent together,
in runs where a transport reads many datagrams at once, and otherwise one by one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidTag

from tunmesh.session.units import (
    AAD,
    DATA,
    HEADER,
    HEADER_SIZE,
    LARGEST_UNIT,
    LENGTH_BITS,
    LENGTH_MASK,
    TAG_SIZE,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tunmesh.counters import Drops
    from tunmesh.dataplane.port import Control, Port
    from tunmesh.interfaces.transport import PathHandle
    from tunmesh.interfaces.tun import Buffer
    from tunmesh.session.keypair import Keypair

_SMALLEST_DATAGRAM = HEADER_SIZE + TAG_SIZE
_WORD = 8  # bytes of each half of a slice's header
#: Slice sizes for which views are kept; paths have few different ones, but a stranger may send any.
_MOST_VIEWS = 16


class Opener(ABC):
    """Opens units and hands their plaintext on.

    Args:
        control: Takes handshakes, and knows who sent what.
        drops: Where dropped datagrams are counted.
        clock: The time in seconds, for what waits.

    Attributes:
        keypairs: By receiver index.
    """

    def __init__(self, control: Control, drops: Drops, clock: Callable[[], float]) -> None:
        self.keypairs: dict[int, Keypair] = {}
        self._control = control
        self._drops = drops
        self._clock = clock
        self._buffer: bytearray | None = None
        self._views: dict[int, list[memoryview]] = {}

    @abstractmethod
    def _deliver(self, keypair: Keypair, handle: PathHandle, plain: bytes) -> None:
        """Take the items of an authentic unit."""

    def receive(self, handle: PathHandle, data: memoryview, segment_size: int) -> None:
        """Take datagrams from a transport (`Inbound.receive`)."""
        length = len(data)
        handle.rx_bytes += length
        if length < _SMALLEST_DATAGRAM or data[0] != DATA:
            self._receive_each(handle, data, segment_size)
            return
        _, index, slice_size, receiver, word = HEADER.unpack_from(data)
        keypair = self.keypairs.get(receiver)
        size = word & LENGTH_MASK
        if keypair is None or not slice_size or size > LARGEST_UNIT:
            self._receive_each(handle, data, segment_size)
            return
        count = -(-size // slice_size)
        if (
            index
            or length != size + HEADER_SIZE * count
            or (count > 1 and not _is_run(data, segment_size, slice_size, count))
        ):
            if length > segment_size > HEADER_SIZE and not segment_size % _WORD:
                self._receive_run(handle, data, segment_size)
            else:
                self._receive_each(handle, data, segment_size)
            return
        # Exactly one whole unit, in order: the usual case.
        if not keypair.replay.check(word >> LENGTH_BITS):
            self._drops["replay"] += 1
            return
        sealed: Buffer
        if count == 1:
            sealed = data[HEADER_SIZE:]
        else:
            sealed = b"".join(self._payloads(data, slice_size, count))
        self._open(keypair, handle, word, sealed, count)

    def _payloads(self, data: memoryview, slice_size: int, count: int) -> list[memoryview]:
        """The payloads of `count` datagrams in a row, of which the last may be shorter.

        A transport that reads into one buffer passes its beginning each time: views of that are
        made once for each slice size.
        """
        step = slice_size + HEADER_SIZE
        buffer = data.obj
        if isinstance(buffer, bytearray):
            if buffer is not self._buffer:
                self._buffer, self._views = buffer, {}
            if (views := self._views.get(slice_size)) is None:
                if len(self._views) >= _MOST_VIEWS:
                    self._views.clear()
                whole = memoryview(buffer)
                begins = range(HEADER_SIZE, len(whole), step)
                views = [whole[:HEADER_SIZE], *(whole[at : at + slice_size] for at in begins)]
                self._views[slice_size] = views
            if views[0] == data[:HEADER_SIZE]:  # so it is the beginning
                payloads = views[1:count]
                payloads.append(data[step * (count - 1) + HEADER_SIZE :])
                return payloads
        return [data[at : at + slice_size] for at in range(HEADER_SIZE, len(data), step)]

    def _receive_run(self, handle: PathHandle, data: memoryview, segment_size: int) -> None:
        """Take datagrams of one size that are slices of any units, in any order."""
        full = len(data) // segment_size
        words = data[: full * segment_size].cast("Q")[1 :: segment_size // _WORD].tolist()
        begin = 0
        while begin < full:
            end = begin + 1
            while end < full and words[end] == words[begin]:
                end += 1
            first = begin * segment_size
            last = end * segment_size
            if (
                end == full
                and data[last + _WORD : last + 2 * _WORD] == data[first + _WORD : first + 2 * _WORD]
            ):
                last = len(data)  # the shorter one at the end belongs to this unit, too
            self._receive_slices(handle, data[first:last], segment_size)
            begin = end
            if last == len(data):
                return
        self._receive_each(handle, data[full * segment_size :], segment_size)

    def _receive_slices(self, handle: PathHandle, data: memoryview, segment_size: int) -> None:
        """Take datagrams of one size that have the same word."""
        length = len(data)
        count = -(-length // segment_size)
        if data[0] != DATA or data[1] + count - 1 != data[(count - 1) * segment_size + 1]:
            self._receive_each(handle, data, segment_size)
            return
        _, index, slice_size, receiver, word = HEADER.unpack_from(data)
        keypair = self.keypairs.get(receiver)
        if keypair is None or slice_size != segment_size - HEADER_SIZE:
            self._receive_each(handle, data, segment_size)
            return
        if not keypair.replay.check(word >> LENGTH_BITS):
            self._drops["replay"] += 1
            return
        payload = b"".join(
            [data[at : at + slice_size] for at in range(HEADER_SIZE, length, segment_size)]
        )
        self._join(keypair, handle, index, count, slice_size, word, payload)

    def _receive_each(self, handle: PathHandle, data: memoryview, segment_size: int) -> None:
        """Take datagrams one by one: slices in any order, handshakes, nonsense."""
        for begin in range(0, len(data), max(segment_size, 1)):
            datagram = data[begin : begin + segment_size]
            if datagram[0] != DATA:
                self._control.handshake(handle, bytes(datagram))
                continue
            if len(datagram) <= HEADER_SIZE:
                self._drops["bad_packet"] += 1
                continue
            _, index, slice_size, receiver, word = HEADER.unpack_from(datagram)
            keypair = self.keypairs.get(receiver)
            if keypair is None:
                self._drops["auth_failed"] += 1
                self._control.unknown_index(handle)
            elif not keypair.replay.check(word >> LENGTH_BITS):
                self._drops["replay"] += 1
            else:
                payload = bytes(datagram[HEADER_SIZE:])
                self._join(keypair, handle, index, 1, slice_size, word, payload)

    def _join(
        self,
        keypair: Keypair,
        handle: PathHandle,
        index: int,
        count: int,
        slice_size: int,
        word: int,
        payload: bytes,
    ) -> None:
        """Add consecutive slices to what is there of their unit."""
        sealed, given_up = keypair.peer.reassembler.add(
            keypair, index, count, slice_size, word, payload, self._clock()
        )
        if given_up:
            self._drops["incomplete"] += given_up
        if sealed is not None:
            self._open(keypair, handle, word, sealed, -(-len(sealed) // slice_size))

    def _open(
        self, keypair: Keypair, handle: PathHandle, word: int, sealed: Buffer, count: int
    ) -> None:
        """Open a unit of `count` slices whose counter is acceptable."""
        try:
            plain = keypair.recv_aead.decrypt(
                (keypair.recv_iv ^ word).to_bytes(12, "big"),
                sealed,
                AAD.pack(keypair.local_index, word),
            )
        except InvalidTag:
            self._drops["auth_failed"] += 1
            if count > 1:  # somebody spoiled it: for its sender the same as loss
                keypair.rx_expected += count
            return
        keypair.replay.mark(word >> LENGTH_BITS)
        keypair.rx_units += 1
        keypair.rx_expected += count
        keypair.rx_got += count
        keypair.received_bytes += len(plain)
        port: Port = keypair.peer
        if handle is not port.rx_handle or keypair is not port.rx_keypair:
            self._control.heard(keypair, handle)
        self._deliver(keypair, handle, plain)


def _is_run(data: memoryview, segment_size: int, slice_size: int, count: int) -> bool:
    """Whether datagrams look like the slices of one unit: the last one belongs to the first."""
    last = segment_size * (count - 1)
    return (
        segment_size == slice_size + HEADER_SIZE
        and data[last + 1] == count - 1
        and data[last + _WORD : last + HEADER_SIZE] == data[_WORD:HEADER_SIZE]
    )
