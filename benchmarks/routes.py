"""What a packet costs with few routes and with many: `python -m benchmarks.routes`.

Two nodes in one process, without sockets: one reads packets of its host, to many destinations in
turn, seals them and hands them to a network that drops them. Few and many routes are measured in
turns, so that what else the machine does meets both; the ratio of the medians is what counts.
"""

from __future__ import annotations

import statistics
import struct
import sys
import time
from ipaddress import ip_address, ip_network

from tunmesh.interfaces import Route, RoutingPolicy
from tunmesh.testing import Faults, MemoryNetwork
from tunmesh.testing.nodes import SimulatedNode

FEW, MANY = 10, 10_000
ROUNDS = 9
PACKETS = 20_000
BATCH = 50
LIMIT = 1.05
_BASE = int(ip_address("10.42.64.0"))


class Spread(RoutingPolicy):
    """Leads a number of addresses to the other node."""

    def __init__(self, number: int) -> None:
        """Have so many routes."""
        self._number = number
        self.peer = ""

    def routes(self) -> list[Route]:
        return [
            Route(ip_network((_BASE + index, 32)), "subnet", (self.peer,), source="spread")
            for index in range(self._number if self.peer else 0)
        ]


def sender(number: int, kind: type[Spread] = Spread) -> SimulatedNode:
    """A node with so many routes to another one, by a policy of some kind."""
    network = MemoryNetwork(0)
    other = SimulatedNode(network, "other", ["10.42.0.2/16"])
    policy = kind(number)
    node = SimulatedNode(
        network,
        "sender",
        ["10.42.0.1/16"],
        bootstrap=[other.endpoint],
        policies={"spread": (lambda _: policy, None)},
    )
    network.clock.advance(5.0)
    policy.peer = other.key.node_id
    node.mesh.forwarding.invalidate()
    network.faults = Faults(loss=1.0)
    return node


def frames(number: int) -> list[bytes]:
    """One UDP packet to each of the first destinations, without checksums."""
    source = ip_address("10.42.0.1").packed
    found = []
    for index in range(BATCH):
        destination = ip_address(_BASE + index * (number // min(number, BATCH)) % number).packed
        head = struct.pack("!BBHHHBBH", 0x45, 0, 92, 0, 0, 64, 17, 0) + source + destination
        found.append(bytes(10) + head + struct.pack("!HHHH", 4000, 4000, 72, 0) + bytes(64))
    return found


def cost(node: SimulatedNode, batch: list[bytes]) -> float:
    """Microseconds a packet."""
    tun, read = node.tun, node.mesh.inside.read
    tun.on_readable = lambda: None
    (peer,) = node.mesh.peers.values()
    before, spent = peer.port.tx_packets, 0.0
    for _ in range(PACKETS // BATCH):
        for frame in batch:
            tun.inject(frame)
        began = time.perf_counter()
        read()
        spent += time.perf_counter() - began
    if peer.port.tx_packets - before != PACKETS:
        sys.exit(f"not all packets were sent: {node.mesh.drops.seen()}")
    return spent / PACKETS * 1e6


def main() -> int:
    """Compare, and print one line; 1 if many routes cost more than they may."""
    nodes = {number: (sender(number), frames(number)) for number in (FEW, MANY)}
    costs: dict[int, list[float]] = {number: [] for number in nodes}
    for _ in range(ROUNDS):
        for number, (node, batch) in nodes.items():
            costs[number].append(cost(node, batch))
    few, many = (statistics.median(costs[number]) for number in (FEW, MANY))
    passed = many / few <= LIMIT
    print(
        f"{few:.2f} us a packet with {FEW} routes, {many:.2f} us with {MANY:,}: "
        f"ratio {many / few:.3f}, must be <= {LIMIT} ({'pass' if passed else 'FAIL'})"
    )
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
