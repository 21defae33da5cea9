"""Sealed units and their slices: what crosses an underlay.

A *unit* is what one AEAD call seals: a sequence of items, each with a prefix of four bytes::

    kind u8 | length u24 | body

On the wire it is cut into equal slices, each behind a clear header of 16 bytes (big-endian)::

    offset  size
    0       1     type, 4
    1       1     slice index
    2       2     slice size: bytes of payload in every slice but the last
    4       4     receiver index: names the receiver's keypair
    8       8     word: counter << 20 | length of the ciphertext with its tag

The nonce is the keypair's IV XOR the word, the associated data bytes 4 to 15. Index and size of a
slice are not authenticated: who forges them spoils one unit, as a drop would. A sealed unit is
never sliced a second time.

Contains no I/O. The sealer's buffers are reused: what it yields is valid until the next call.
"""

from __future__ import annotations

import struct
from array import array
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tunmesh.interfaces.transport import PathHandle
    from tunmesh.interfaces.tun import Buffer
    from tunmesh.session.keypair import Keypair

DATA = 4
HEADER_SIZE = 16
TAG_SIZE = 16
ITEM_PREFIX = 4
LENGTH_BITS = 20
LENGTH_MASK = (1 << LENGTH_BITS) - 1

#: Item kinds.
PAD, FRAME, CONTROL, PROBE, PROBE_REPLY, CONFIRM, RELAY, RELAYED = range(8)

#: virtio_net_hdr and the largest IP packet.
LARGEST_FRAME = 10 + 65535
LARGEST_UNIT = ITEM_PREFIX + LARGEST_FRAME + TAG_SIZE
#: Slices are counted in one byte.
MOST_SLICES = 256

HEADER = struct.Struct("!BBHIQ")
PREFIX = struct.Struct("!I")
AAD = struct.Struct("!IQ")
_WORD = struct.Struct("!Q")
_NATIVE = struct.Struct("=Q")
_FIRST = struct.Struct("!BBHI")


def item(kind: int, body: bytes) -> bytes:
    """One item of a unit."""
    return PREFIX.pack(kind << 24 | len(body)) + body


class _Plan:
    """The buffer list for one slice size, built once: header and payload in turn."""

    __slots__ = ("buffers", "headers", "receiver", "words")

    def __init__(self, payload: memoryview, slice_size: int) -> None:
        count = min(-(-LARGEST_UNIT // slice_size), MOST_SLICES)
        self.headers = bytearray(HEADER_SIZE * count)
        #: The headers as native 64-bit words: even ones name the slice, odd ones the unit.
        self.words = memoryview(self.headers).cast("Q")
        self.receiver = -1
        self.buffers: list[memoryview] = []
        clear = memoryview(self.headers)
        for index in range(count):
            self.buffers.append(clear[HEADER_SIZE * index : HEADER_SIZE * (index + 1)])
            self.buffers.append(payload[index * slice_size : (index + 1) * slice_size])

    def address(self, receiver: int, slice_size: int) -> None:
        """Write the receiver into all headers; needed only when it changes."""
        self.receiver = receiver
        for index in range(len(self.headers) // HEADER_SIZE):
            _FIRST.pack_into(self.headers, HEADER_SIZE * index, DATA, index, slice_size, receiver)


class Sealer:
    """Seals units and sends their slices, one AEAD call and few system calls a unit."""

    #: Plans kept; paths have few different sizes.
    _MOST_PLANS = 16

    def __init__(self) -> None:
        self._payload = memoryview(bytearray(LARGEST_UNIT))
        #: A unit of one slice lies behind its header, in one piece.
        self._single = memoryview(bytearray(HEADER_SIZE + LARGEST_UNIT))
        self._plans: dict[int, _Plan] = {}

    def send(self, keypair: Keypair, plain: Buffer, handle: PathHandle, slice_size: int) -> bool:
        """Seal `plain` and send it along a path.

        Args:
            keypair: Whose next counter is used.
            plain: Items, at most `LARGEST_UNIT` less the tag.
            handle: Where to send.
            slice_size: Payload bytes of a slice: the path's datagram less the header.

        Returns:
            False if some of it was dropped because the transport's queue is full.
        """
        size = len(plain) + TAG_SIZE
        counter = keypair.send_counter
        keypair.send_counter = counter + 1
        keypair.sent_bytes += size
        word = counter << LENGTH_BITS | size
        nonce = (keypair.send_iv ^ word).to_bytes(12, "big")
        receiver = keypair.remote_index
        aad = AAD.pack(receiver, word)
        transport = handle.transport
        if size <= slice_size:
            end = HEADER_SIZE + size
            handle.tx_bytes += end
            single = self._single
            HEADER.pack_into(single, 0, DATA, 0, slice_size, receiver, word)
            keypair.send_aead.encrypt_into(nonce, plain, aad, single[HEADER_SIZE:end])
            return transport.send(handle, (single[:end],), end)
        payload = self._payload
        keypair.send_aead.encrypt_into(nonce, plain, aad, payload[:size])
        plan = self._plans.get(slice_size) or self._plan(slice_size)
        if plan.receiver != receiver:
            plan.address(receiver, slice_size)
        count = -(-size // slice_size)
        handle.tx_bytes += size + HEADER_SIZE * count
        (native,) = _NATIVE.unpack(_WORD.pack(word))
        plan.words[1 : 2 * count : 2] = memoryview(array("Q", (native,)) * count)
        datagram = slice_size + HEADER_SIZE
        most = min(transport.max_segments, transport.max_send // datagram) or 1
        buffers = plan.buffers
        last = payload[(count - 1) * slice_size : size]
        if count <= most:
            pieces = buffers[: 2 * count - 1]
            pieces.append(last)
            return transport.send(handle, pieces, datagram)
        sent = True
        for first in range(0, count, most):
            pieces = buffers[2 * first : 2 * min(first + most, count)]
            if first + most >= count:
                pieces[-1] = last
            sent &= transport.send(handle, pieces, datagram)
        return sent

    def send_each(
        self, keypair: Keypair, plains: list[bytes], handle: PathHandle, slice_size: int
    ) -> bool:
        """Seal each of `plains` as a unit of its own, at most one slice long, and send them all.

        Neighbours of one size share a system call.
        """
        transport = handle.transport
        sent = True
        batch: list[bytes] = []
        batch_size = 0
        most = transport.max_segments
        for plain in plains:
            size = len(plain) + TAG_SIZE
            word = keypair.send_counter << LENGTH_BITS | size
            keypair.send_counter += 1
            keypair.sent_bytes += size
            receiver = keypair.remote_index
            nonce = (keypair.send_iv ^ word).to_bytes(12, "big")
            sealed = keypair.send_aead.encrypt(nonce, plain, AAD.pack(receiver, word))
            datagram = HEADER.pack(DATA, 0, slice_size, receiver, word) + sealed
            length = len(datagram)
            handle.tx_bytes += length
            if batch and (
                length > batch_size
                or len(batch) == most
                or (len(batch) + 1) * batch_size > transport.max_send
            ):
                sent &= transport.send(handle, batch, batch_size)
                batch = []
            if not batch:
                batch_size = length
            batch.append(datagram)
            if length < batch_size:  # a shorter one can only be the last of its call
                sent &= transport.send(handle, batch, batch_size)
                batch = []
        if batch:
            sent &= transport.send(handle, batch, batch_size)
        return sent

    def _plan(self, slice_size: int) -> _Plan:
        if len(self._plans) >= self._MOST_PLANS:
            self._plans.clear()
        plan = self._plans[slice_size] = _Plan(self._payload, slice_size)
        return plan


class _Partial:
    """A unit of which some slices have come."""

    __slots__ = ("deadline", "missing", "slice_size", "slices")

    def __init__(self, slice_size: int, count: int, deadline: float) -> None:
        self.slice_size = slice_size
        self.slices: list[bytes | None] = [None] * count
        self.missing = count
        self.deadline = deadline


class Reassembler:
    """Joins the slices of one peer's units, in whatever order they come.

    Bounded: at most `MOST_UNITS` units of at most `LARGEST_UNIT` bytes, each for at most `TIMEOUT`
    seconds. Which unit is given up is decided by age alone, since slices are not authenticated.
    """

    MOST_UNITS = 32
    #: Reordering beyond this is loss for every protocol inside.
    TIMEOUT = 1.0

    def __init__(self) -> None:
        self._partials: dict[tuple[Keypair, int], _Partial] = {}

    def __len__(self) -> int:
        return len(self._partials)

    def add(
        self,
        keypair: Keypair,
        index: int,
        count: int,
        slice_size: int,
        word: int,
        payload: bytes,
        now: float,
    ) -> tuple[bytes | None, int]:
        """Take one slice, or several consecutive ones.

        Args:
            keypair: Theirs.
            index: Of the first one.
            count: How many there are.
            slice_size: As their headers say.
            word: As their headers say.
            payload: Their payloads, joined.
            now: The time.

        Returns:
            The whole ciphertext if it is complete, else None; and how many units were given up.
            What does not fit is ignored.
        """
        length = word & LENGTH_MASK
        if not slice_size or not TAG_SIZE <= length <= LARGEST_UNIT:
            return None, 0
        total = -(-length // slice_size)
        end = index + count
        due = slice_size * count if end < total else length - slice_size * index
        if total > MOST_SLICES or end > total or len(payload) != due:
            return None, 0
        if count == total:
            return payload, 0
        given_up = 0
        key = (keypair, word)
        partial = self._partials.get(key)
        if partial is None:
            if len(self._partials) >= self.MOST_UNITS:
                given_up = self.expire(now) or self._give_up(next(iter(self._partials)))
            partial = self._partials[key] = _Partial(slice_size, total, now + self.TIMEOUT)
        if partial.slice_size != slice_size or partial.slices[index:end].count(None) != count:
            return None, given_up
        partial.slices[index] = payload
        for other in range(index + 1, end):
            partial.slices[other] = b""
        partial.missing -= count
        if partial.missing:
            return None, given_up
        del self._partials[key]
        return b"".join(partial.slices), given_up  # type: ignore[arg-type]  # none is missing

    def expire(self, now: float) -> int:
        """Give up units that waited too long; returns how many."""
        given_up = 0
        for key in list(self._partials):
            if self._partials[key].deadline > now:
                break  # kept in the order of their deadlines
            given_up += self._give_up(key)
        return given_up

    def forget(self, keypair: Keypair) -> None:
        """Drop what waits for a keypair that is gone."""
        for key in [key for key in self._partials if key[0] is keypair]:
            del self._partials[key]

    def _give_up(self, key: tuple[Keypair, int]) -> int:
        partial = self._partials.pop(key)
        keypair = key[0]
        keypair.rx_units += 1
        keypair.rx_expected += len(partial.slices)
        keypair.rx_got += len(partial.slices) - partial.missing
        return 1
