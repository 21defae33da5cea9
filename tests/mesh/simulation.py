"""Whole nodes on a network in memory, and traffic between their hosts."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from ipaddress import ip_address, ip_network
from itertools import count, permutations
from typing import Any

from tunmesh.membership.records import RecordVerifier
from tunmesh.mesh import MeshSettings
from tunmesh.packet import checksum, pseudo_header_sum
from tunmesh.session.timing import Timing
from tunmesh.testing import MemoryNetwork
from tunmesh.testing.memory import DEFAULT_PORT
from tunmesh.testing.network import format_endpoint
from tunmesh.testing.nodes import NETWORKS, SimulatedNode

#: Of a frame without offloads.
VNET = bytes(10)
_UDP = 17
_STAMP = struct.Struct("!8sII")  # a flow's mark, its number, the packet's number
_MARK = b"tunmesh!"
#: A packet that was sent less than this ago, in seconds, is not lost yet.
_ON_ITS_WAY = 0.04

SETTINGS = MeshSettings(networks=tuple(map(ip_network, NETWORKS)))
#: Sessions that are renewed every few seconds.
SHORT_SESSIONS = replace(SETTINGS, session=Timing(rekey_after=5.0, reject_after=8.0))


def address4(number: int) -> str:
    """The IPv4 address of the node of a number, from 1."""
    return f"10.42.{number >> 8}.{number & 255}"


def address6(number: int) -> str:
    """The IPv6 address of the node of a number, from 1."""
    return f"fd00::{number:x}"


def addresses(number: int) -> tuple[str, ...]:
    """The addresses of the node of a number, with their prefixes."""
    return f"{address4(number)}/16", f"{address6(number)}/64"


def udp_packet(source: str, destination: str, payload: bytes) -> bytes:
    """A UDP packet, IPv4 or IPv6 as the addresses are."""
    sender, receiver = ip_address(source), ip_address(destination)
    length = 8 + len(payload)
    if sender.version == 4:
        head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + length, 0, 0, 64, _UDP, 0)
        addressed = sender.packed + receiver.packed
        head = head[:10] + struct.pack("!H", checksum(head + addressed))
    else:
        head = struct.pack("!IHBB", 6 << 28, length, _UDP, 64)
        addressed = sender.packed + receiver.packed
    segment = struct.pack("!HHHH", 4000, 4000, length, 0) + payload
    packet = head + addressed + segment
    proof = checksum(segment, pseudo_header_sum(packet, _UDP, length))
    at = len(packet) - length + 6
    return packet[:at] + struct.pack("!H", proof) + packet[at + 2 :]


def udp_frame(source: str, destination: str, payload: bytes) -> bytes:
    """A UDP packet behind a header without offloads, as a program sends it."""
    return VNET + udp_packet(source, destination, payload)


class Flow:
    """Numbered packets from one node's host to another's.

    Attributes:
        sent: Packets sent so far.
        copies: How often each packet arrived, by number.
    """

    _numbers = count()

    def __init__(
        self,
        simulation: Simulation,
        source: str,
        destination: str,
        *,
        interval: float = 0.05,
        size: int = 100,
        version: int = 4,
    ) -> None:
        address = address4 if version == 4 else address6
        self.sent = 0
        self._sent_at = float("-inf")
        self.copies: Counter[int] = Counter()
        self._simulation = simulation
        self._source, self._destination = source, destination
        self._addresses = tuple(address(simulation.numbers[n]) for n in (source, destination))
        self._interval = interval
        self._padding = bytes(max(0, size - 28 - _STAMP.size))
        self._number = next(self._numbers)
        self._seen: tuple[SimulatedNode | None, int] = None, 0
        self._running = True
        self._send()

    def stop(self) -> None:
        """Send no more."""
        self._running = False

    def arrived(self) -> set[int]:
        """The numbers of the packets that arrived."""
        node = self._simulation.nodes[self._destination]
        known, seen = self._seen
        if known is not node:  # it was started anew, with a new device
            seen = 0
        for frame in node.tun.written[seen:]:
            at = frame.find(_MARK)
            if at >= 0:
                _, flow, number = _STAMP.unpack_from(frame, at)
                if flow == self._number:
                    assert frame[-len(self._padding) :] == self._padding or not self._padding
                    self.copies[number] += 1
        self._seen = node, len(node.tun.written)
        return set(self.copies)

    def lost(self) -> set[int]:
        """The numbers of the packets that did not arrive; the last one may be on its way."""
        travelling = self._simulation.network.now() - self._sent_at < _ON_ITS_WAY
        return set(range(self.sent - travelling)) - self.arrived()

    def _send(self) -> None:
        if not self._running:
            return
        node = self._simulation.nodes[self._source]
        if node.running:
            payload = _STAMP.pack(_MARK, self._number, self.sent) + self._padding
            self.sent += 1
            self._sent_at = self._simulation.network.now()
            source, destination = self._addresses
            node.tun.inject(udp_frame(source, destination, payload))
        network = self._simulation.network
        network.clock.post(network.now() + self._interval, self._send)


class Simulation:
    """Nodes by name. The first one that is started is the seed of those that name no other.

    Attributes:
        network: Where they live.
        nodes: The nodes by name, also those that were killed.
        numbers: Which number, and so which addresses, each name has.
    """

    def __init__(self, seed: int = 0, **options: Any) -> None:
        self.network = MemoryNetwork(seed, **options)
        self.nodes: dict[str, SimulatedNode] = {}
        self.numbers: dict[str, int] = {}
        self._verifier = RecordVerifier(16_384)  # for all nodes
        self._starts = count()

    def start(self, name: str, via: Sequence[str] | None = None, **options: Any) -> SimulatedNode:
        """Start a node, or start it again: with a fresh key, unless `key` is given.

        Args:
            name: Its name. The same name has the same addresses and underlay endpoint again.
            via: The names of the nodes whose endpoints it is given, as they were at first.
            options: As `SimulatedNode`.
        """
        if via is None:
            via = list(self.nodes)[:1] if name not in list(self.nodes)[:1] else []
        number = self.numbers.setdefault(name, len(self.numbers) + 1)
        options.setdefault("addresses", addresses(number))
        options.setdefault("verifier", self._verifier)
        options.setdefault("seed", next(self._starts))
        bootstrap = [format_endpoint(other, DEFAULT_PORT) for other in via]
        node = SimulatedNode(self.network, name, bootstrap=bootstrap, **options)
        self.nodes[name] = node
        return node

    def start_all(self, number: int, gap: float = 0.02, **options: Any) -> list[str]:
        """Start so many nodes named n1, n2, …; all but the first know the first one only."""
        for index in range(1, number + 1):
            self.start(f"n{index}", **options)
            if index < number:
                self.run(gap)
        return list(self.nodes)

    def run(self, seconds: float) -> None:
        """Let time pass."""
        self.network.clock.advance(seconds)

    def until(self, condition: Callable[[], bool], limit: float, step: float = 0.02) -> float:
        """Let time pass until a condition holds; returns how long that took.

        Raises:
            AssertionError: It does not hold within the limit.
        """
        start = self.network.now()
        while not condition():
            passed = self.network.now() - start
            assert passed < limit, f"not within {limit} s"
            self.run(step)
        return self.network.now() - start

    def running(self) -> list[str]:
        """The names of the nodes that run."""
        return [name for name, node in self.nodes.items() if node.running]

    def meshed(self, names: Iterable[str] | None = None) -> bool:
        """Whether each of the nodes has a session with all the others, and routes to them."""
        everybody = set(self.running() if names is None else names)
        return all(
            self.nodes[name].up_peers() >= everybody - {name}
            and self.nodes[name].known() >= everybody - {name}
            for name in everybody
        )

    def pings(self, source: str, destination: str, version: int = 4, wait: float = 0.1) -> bool:
        """Whether a packet there and one back arrive at once."""
        there = self.flow(source, destination, interval=1e9, version=version)
        back = self.flow(destination, source, interval=1e9, version=version)
        for flow in (there, back):
            flow.stop()
        self.run(wait)
        return not there.lost() and not back.lost()

    def all_ping(self, names: Iterable[str] | None = None) -> bool:
        """Whether each pair pings, with both versions of IP; all at once."""
        everybody = self.running() if names is None else list(names)
        flows = [
            self.flow(source, destination, interval=1e9, version=version)
            for source, destination in permutations(everybody, 2)
            for version in (4, 6)
        ]
        for flow in flows:
            flow.stop()
        self.run(0.1)
        return not any(flow.lost() for flow in flows)

    def flow(self, source: str, destination: str, **options: Any) -> Flow:
        """Begin to send packets from one node's host to another's."""
        return Flow(self, source, destination, **options)

    def recovery(self, one: str, other: str, limit: float) -> float:
        """Seconds until packets pass in both directions; they are sent every 50 ms."""
        flows = [self.flow(one, other), self.flow(other, one)]
        try:
            return self.until(lambda: all(flow.arrived() for flow in flows), limit)
        finally:
            for flow in flows:
                flow.stop()


def drops(node: SimulatedNode) -> dict[str, int]:
    """What a node dropped so far, by reason."""
    return node.mesh.drops.seen()
