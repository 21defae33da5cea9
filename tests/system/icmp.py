"""Pings many pairs at once, from any namespace, with the time of each answer."""

from __future__ import annotations

import contextlib
import ipaddress
import itertools
import select
import socket
import struct
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from tests.system.lab import Namespace

_ECHO = {4: (8, 0), 6: (128, 129)}  # request and reply: RFC 792, RFC 4443
_FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}
_PROTOCOL = {4: socket.IPPROTO_ICMP, 6: socket.IPPROTO_ICMPV6}
_HEADER = struct.Struct("!BBHHH")  # type, code, checksum, identifier, sequence
_identifiers = itertools.count(0x2000)


def _checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


class _Pinger:
    """A raw ICMP socket in a namespace."""

    def __init__(self, namespace: Namespace, version: int) -> None:
        self.version = version
        self.identifier = next(_identifiers) & 0xFFFF
        self.socket = namespace.socket(_FAMILY[version], socket.SOCK_RAW, _PROTOCOL[version])
        self.socket.setblocking(False)

    def send(self, address: str, sequence: int, size: int = 56) -> None:
        request, _ = _ECHO[self.version]
        body = bytes(size)
        header = _HEADER.pack(request, 0, 0, self.identifier, sequence)
        if self.version == 4:  # the kernel fills in the checksum of ICMPv6 only
            header = _HEADER.pack(request, 0, _checksum(header + body), self.identifier, sequence)
        with contextlib.suppress(OSError):  # no route yet, no buffer: as good as lost
            self.socket.sendto(header + body, (address, 0))

    def receive(self) -> list[tuple[int, str]]:
        """The sequence number and the source of every reply that waits."""
        replies: list[tuple[int, str]] = []
        _, expected = _ECHO[self.version]
        while True:
            try:
                data, source = self.socket.recvfrom(65536)
            except BlockingIOError:
                return replies
            if self.version == 4:
                data = data[(data[0] & 15) * 4 :]
            kind, _, _, identifier, sequence = _HEADER.unpack_from(data)
            if kind == expected and identifier == self.identifier:
                replies.append((sequence, source[0]))


def first_replies(
    pairs: Sequence[tuple[Namespace, str]], timeout: float, interval: float = 0.05
) -> dict[int, float]:
    """Ping every pair until it answers once.

    Args:
        pairs: From which namespace to which address.
        timeout: Seconds after which those without an answer are given up.
        interval: Seconds between two requests of a pair.

    Returns:
        When each pair answered first, by its index in `pairs`; those without an answer are absent.
    """
    answered: dict[int, float] = {}
    with contextlib.ExitStack() as open_sockets:
        pingers: dict[tuple[int, int], _Pinger] = {}
        senders: list[_Pinger] = []
        for namespace, address in pairs:
            version = ipaddress.ip_address(address).version
            key = (namespace.pid, version)
            if key not in pingers:
                pingers[key] = _Pinger(namespace, version)
                open_sockets.enter_context(pingers[key].socket)
            senders.append(pingers[key])
        by_socket = {pinger.socket: pinger for pinger in pingers.values()}
        deadline = time.monotonic() + timeout
        next_round = 0.0
        while len(answered) < len(pairs) and (now := time.monotonic()) < deadline:
            if now >= next_round:
                next_round = now + interval
                for index, (_, address) in enumerate(pairs):
                    if index not in answered:
                        senders[index].send(address, index)
            wait = max(0.0, next_round - time.monotonic())
            for ready in select.select(list(by_socket), [], [], wait)[0]:
                for index, source in by_socket[ready].receive():
                    if source == pairs[index][1]:
                        answered.setdefault(index, time.monotonic())
    return answered


@dataclass
class Echo:
    """One ping of a stream: when it was sent, and when it was answered, if it was."""

    sent: float
    received: float | None = None


class PingStream:
    """Pings one address steadily while the block runs.

    Args:
        namespace: Where from.
        address: Where to.
        interval: Seconds between two pings.
        size: Bytes of payload.
    """

    def __init__(
        self, namespace: Namespace, address: str, interval: float = 0.02, size: int = 56
    ) -> None:
        self._pinger = _Pinger(namespace, ipaddress.ip_address(address).version)
        self._address = address
        self._interval = interval
        self._size = size
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.echoes: list[Echo] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._pinger.socket.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            sequence = len(self.echoes)
            self.echoes.append(Echo(time.monotonic()))
            self._pinger.send(self._address, sequence & 0xFFFF, self._size)
            self._collect(self._interval)
        self._collect(0.5)  # what is on its way still counts

    def _collect(self, duration: float) -> None:
        end = time.monotonic() + duration
        while (wait := end - time.monotonic()) > 0:
            if not select.select([self._pinger.socket], [], [], wait)[0]:
                return
            now = time.monotonic()
            for sequence, _ in self._pinger.receive():
                index = sequence + (len(self.echoes) - 1 - sequence) // 0x10000 * 0x10000
                if 0 <= index < len(self.echoes) and self.echoes[index].received is None:
                    self.echoes[index].received = now

    def lost(self) -> int:
        """How many were not answered."""
        return sum(echo.received is None for echo in self.echoes)

    def recovery(self, moment: float) -> float:
        """Seconds from a moment to the first answer to a ping that was sent after it."""
        answers = [e.received for e in self.echoes if e.sent >= moment and e.received is not None]
        return min(answers, default=float("inf")) - moment

    def longest_gap(self) -> float:
        """The longest time without an answer, from the first answer to the last ping."""
        moments = sorted(e.received for e in self.echoes if e.received is not None)
        if not moments:
            return float("inf")
        moments.append(max(self.echoes[-1].sent, moments[-1]))
        return max(later - earlier for earlier, later in itertools.pairwise(moments))

    def round_trips(self) -> list[float]:
        """Seconds of every round trip, sorted."""
        return sorted(e.received - e.sent for e in self.echoes if e.received is not None)
