"""The reliable channel of a peer: control messages that may be lost on the way, but not for good.

A message travels in CONTROL items of sealed units, is acknowledged, and sent again until it is.
Order is not kept. The first try carries a message whole; if that is not acknowledged it goes in
fragments of one datagram each, since on a lossy path a unit of many datagrams hardly arrives.

::

    message   1 | epoch u32 | id u32 | fragment u16 | fragments u16 | payload
    ack       2 | epoch u32 | id u32 | fragment u16 | fragments u16

The epoch is drawn anew whenever the sender starts over, so that the receiver does, too.

Contains no I/O.
"""

from __future__ import annotations

import random
import struct
from collections import deque

from tunmesh.errors import BadPacket
from tunmesh.peering.schedule import retry_delay

_HEAD = struct.Struct("!BIIHH")
_MESSAGE, _ACK = 1, 2
#: Payload of a fragment: fits one slice on every path of 1280 bytes and more.
_FRAGMENT = 1100
#: Messages under way at once; further ones wait.
_WINDOW = 64
#: Messages that may wait. Beyond it the oldest is dropped: anti-entropy repairs that.
_MOST_WAITING = 1024
#: Bytes of the largest message.
LARGEST_MESSAGE = 48 * 1024
_MOST_FRAGMENTS = -(-LARGEST_MESSAGE // _FRAGMENT)
#: Acknowledgements that wait while there is no path to send them on. What is not acknowledged
#: comes again.
_MOST_ACKS = 1024
#: Ids remembered as delivered.
_REMEMBERED = 4096
#: Incomplete messages kept.
_MOST_PARTIAL = 16


class _Outgoing:
    __slots__ = ("attempt", "deadline", "fragmented", "payload", "unacked")

    def __init__(self, payload: bytes) -> None:
        self.payload = payload
        self.attempt = 0
        self.deadline = 0.0
        self.fragmented = False
        self.unacked: set[int] = {0}

    def fragments(self) -> int:
        return max(1, -(-len(self.payload) // _FRAGMENT)) if self.fragmented else 1

    def piece(self, index: int) -> bytes:
        if not self.fragmented:
            return self.payload
        return self.payload[index * _FRAGMENT : (index + 1) * _FRAGMENT]


class Channel:
    """Both directions of one peer's control messages.

    `bodies_to_send` gives the bodies of CONTROL items; only small ones should share a unit.
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._epoch = rng.getrandbits(32)
        self._next_id = 0
        self._waiting: deque[bytes] = deque()
        self._outgoing: dict[int, _Outgoing] = {}
        self._acks: list[bytes] = []
        self._remote_epoch = -1
        self._delivered: dict[int, None] = {}
        self._partial: dict[tuple[int, int], dict[int, bytes]] = {}

    def restart(self) -> None:
        """Forget everything: the peer is another process now, or was away for long."""
        self.__init__(self._rng)  # type: ignore[misc]  # the same as a new one

    @property
    def backlog(self) -> int:
        """Messages that are not acknowledged yet."""
        return len(self._waiting) + len(self._outgoing)

    def send(self, payload: bytes, now: float) -> None:
        """Queue a message of at most `LARGEST_MESSAGE` bytes."""
        if len(payload) > LARGEST_MESSAGE:
            raise ValueError(f"control message of {len(payload)} bytes")
        if len(self._waiting) >= _MOST_WAITING:
            self._waiting.popleft()
        self._waiting.append(payload)
        self._fill(now)

    def receive(self, body: bytes, now: float) -> bytes | None:
        """Take a CONTROL item; returns a message when it is whole and new.

        Raises:
            BadPacket: It is malformed.
        """
        if len(body) < _HEAD.size:
            raise BadPacket("control item too short")
        kind, epoch, number, index, count = _HEAD.unpack_from(body)
        if kind == _ACK:
            self._acknowledged(epoch, number, index, count, now)
            return None
        if kind != _MESSAGE or not 0 < count <= _MOST_FRAGMENTS or index >= count:
            raise BadPacket("control item of an unknown kind")
        payload = body[_HEAD.size :]
        if len(payload) > (_FRAGMENT if count > 1 else LARGEST_MESSAGE):
            raise BadPacket("control message too large")
        if len(self._acks) < _MOST_ACKS:
            self._acks.append(_HEAD.pack(_ACK, epoch, number, index, count))
        if epoch != self._remote_epoch:
            self._remote_epoch = epoch
            self._delivered.clear()
            self._partial.clear()
        if number in self._delivered:
            return None
        if count > 1:
            whole = self._join(number, index, count, payload)
            if whole is None:
                return None
            payload = whole
        for key in [key for key in self._partial if key[0] == number]:
            del self._partial[key]  # fragments, too, of what came whole after all
        if len(self._delivered) >= _REMEMBERED:
            del self._delivered[next(iter(self._delivered))]
        self._delivered[number] = None
        return payload

    def bodies_to_send(self, now: float) -> list[bytes]:
        """Acknowledgements, and messages whose time has come."""
        bodies, self._acks = self._acks, []
        for number, message in self._outgoing.items():
            if message.deadline > now:
                continue
            if message.attempt == 1 and len(message.payload) > _FRAGMENT:
                message.fragmented = True
                message.unacked = set(range(message.fragments()))
            message.attempt += 1
            message.deadline = now + retry_delay(message.attempt, self._rng)
            count = message.fragments()
            for index in sorted(message.unacked):
                head = _HEAD.pack(_MESSAGE, self._epoch, number, index, count)
                bodies.append(head + message.piece(index))
        return bodies

    def next_deadline(self) -> float:
        """When `bodies_to_send` has something again; infinity if never."""
        if self._acks:
            return float("-inf")
        return min((m.deadline for m in self._outgoing.values()), default=float("inf"))

    def _fill(self, now: float) -> None:
        while self._waiting and len(self._outgoing) < _WINDOW:
            message = _Outgoing(self._waiting.popleft())
            message.deadline = now
            self._outgoing[self._next_id] = message
            self._next_id = (self._next_id + 1) & 0xFFFFFFFF

    def _acknowledged(self, epoch: int, number: int, index: int, count: int, now: float) -> None:
        message = self._outgoing.get(number)
        if epoch != self._epoch or message is None:
            return
        if count == 1:  # the whole message arrived, even if we have begun to cut it up
            message.unacked.clear()
        elif message.fragmented:
            message.unacked.discard(index)
        if not message.unacked:
            del self._outgoing[number]
            self._fill(now)

    def _join(self, number: int, index: int, count: int, payload: bytes) -> bytes | None:
        partial = self._partial.get((number, count))
        if partial is None:
            if len(self._partial) >= _MOST_PARTIAL:
                del self._partial[next(iter(self._partial))]
            partial = self._partial[number, count] = {}
        partial[index] = payload
        if len(partial) < count:
            return None
        return b"".join(partial[i] for i in range(count))
