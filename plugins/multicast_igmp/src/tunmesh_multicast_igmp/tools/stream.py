"""Numbered datagrams, and what a receiver can tell from them. Contains no I/O.

::

    "tunmesh" 0x00 | stream u64, random for each sender | number u64 | sent at u64, ns since 1970
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

from tunmesh.errors import BadPacket

_HEADER = struct.Struct("!8sQQQ")
_MARK = b"tunmesh\0"
HEADER_SIZE = _HEADER.size
#: Numbers this far below the highest are remembered, to tell duplicates from stragglers.
_WINDOW = 4096


def encode_datagram(stream: int, number: int, sent_ns: int, size: int) -> bytes:
    """A datagram of `size` bytes, or of as many as the header needs."""
    return _HEADER.pack(_MARK, stream, number, sent_ns).ljust(size, b"\0")


def decode_datagram_untrusted(datagram: bytes) -> tuple[int, int, int]:
    """Read a datagram: stream, number, and when it was sent.

    Raises:
        BadPacket: It is of another program.
    """
    if len(datagram) < _HEADER.size:
        raise BadPacket("no datagram of `tunmesh multicast send`")
    mark, stream, number, sent_ns = _HEADER.unpack_from(datagram)
    if mark != _MARK:
        raise BadPacket("no datagram of `tunmesh multicast send`")
    return stream, number, sent_ns


@dataclass
class Stream:
    """What came of one sender.

    Attributes:
        source: Its address.
        first: The first number that came.
        highest: The highest one.
        received: Datagrams, without duplicates.
        duplicates: Those that came again.
        latency_s: Sum of the latencies.
        longest_s: The longest.
    """

    source: str
    first: int
    highest: int
    received: int = 0
    duplicates: int = 0
    latency_s: float = 0.0
    longest_s: float = 0.0
    _recent: set[int] = field(default_factory=set)

    def add(self, number: int, latency_s: float) -> None:
        """Count a datagram."""
        if number in self._recent or number < self.highest - _WINDOW:
            self.duplicates += 1
            return
        self._recent.add(number)
        self.first, self.highest = min(self.first, number), max(self.highest, number)
        self.received += 1
        self.latency_s += latency_s
        self.longest_s = max(self.longest_s, latency_s)
        if len(self._recent) > 2 * _WINDOW:
            self._recent = {each for each in self._recent if each >= self.highest - _WINDOW}

    @property
    def lost(self) -> int:
        """Datagrams between the first and the highest that did not come."""
        return self.highest - self.first + 1 - self.received

    def summary(self) -> Mapping[str, str | int | float]:
        """The outcome."""
        return {
            "source": self.source,
            "received": self.received,
            "lost": self.lost,
            "duplicates": self.duplicates,
            "latency_ms": round(self.latency_s / self.received * 1000, 3) if self.received else 0.0,
            "longest_ms": round(self.longest_s * 1000, 3),
        }


class Receiver:
    """Sorts what comes by its senders.

    Attributes:
        foreign: Datagrams of other programs.
    """

    def __init__(self) -> None:
        self.foreign = 0
        self._streams: dict[int, Stream] = {}

    def receive(self, datagram: bytes, source: str, now_ns: int) -> Stream | None:
        """Take a datagram; None if it is of another program."""
        try:
            identity, number, sent_ns = decode_datagram_untrusted(datagram)
        except BadPacket:
            self.foreign += 1
            return None
        stream = self._streams.get(identity)
        if stream is None:
            stream = self._streams[identity] = Stream(source, number, number)
        stream.add(number, (now_ns - sent_ns) / 1e9)
        return stream

    @property
    def received(self) -> int:
        """Datagrams of all senders, without duplicates."""
        return sum(stream.received for stream in self._streams.values())

    def summaries(self) -> list[Mapping[str, str | int | float]]:
        """The outcome for each sender."""
        return [stream.summary() for stream in self._streams.values()]
