"""A day of a mesh in memory, with churn: nodes die, come back, leave, move, lose their network.

Time is virtual. ``SOAK_HOURS`` makes the day shorter.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from itertools import pairwise

import pytest

from tests.mesh.simulation import Simulation, address4, udp_frame
from tests.soak.tables import growth, objects, rss_kib, table_sizes
from tunmesh.membership.records import RecordVerifier

pytestmark = [pytest.mark.soak, pytest.mark.timeout(0)]

HOURS = float(os.environ.get("SOAK_HOURS", "24"))
NODES = 6
#: Virtual seconds between two events of the churn.
CHURN = 60.0
#: Virtual seconds between packets of a flow; there is one flow from each node to its neighbour.
INTERVAL = 5.0
#: How often things are counted, in virtual seconds.
SAMPLE = 1800.0
#: Samples at first that do not count: by then everything is as full as it gets.
WARM_UP = 8
#: What one sample may take of real memory more than another, in KiB.
RSS_SLACK = 8 * 1024


class Churn:
    """What happens to the nodes.

    Args:
        simulation: Where they are, all running.
        seed: Of every decision.
        verifier: The one of all nodes.
    """

    def __init__(self, simulation: Simulation, seed: int, verifier: RecordVerifier) -> None:
        self.simulation = simulation
        self.verifier = verifier
        self.random = random.Random(seed)
        self.names = list(simulation.nodes)
        self.done: Counter[str] = Counter()

    def start(self, name: str, **options: object) -> None:
        """Start a node that knows all the others."""
        others = [other for other in self.names if other != name]
        self.simulation.start(name, via=others, verifier=self.verifier, **options)

    def event(self) -> None:
        """Let one thing happen, and its end a little later."""
        name = self.random.choice(self.names)
        kind = self.random.choice(("crash", "restart", "leave", "move", "partition"))
        self.done[kind] += 1
        node = self.simulation.nodes[name]
        away = self.random.uniform(0.1, CHURN / 2)
        if kind == "move":
            host = name if node.endpoint.startswith(f"memory://{name}-") else f"{name}-away"
            node.transport.move(host)
            return
        if kind == "partition":
            self.simulation.network.partition([name, f"{name}-away"])
            self.simulation.run(away)
            self.simulation.network.heal()
            return
        if kind == "leave":
            node.leave()
        else:
            node.kill()
        self.simulation.run(away)
        if kind == "restart":
            self.start(name, key=node.key)
        else:
            self.start(name)


def send(simulation: Simulation) -> None:
    """One packet from each node to its neighbour; forget what arrived."""
    for source, destination in pairwise(simulation.nodes):
        if simulation.nodes[source].running:
            here, there = (address4(simulation.numbers[name]) for name in (source, destination))
            simulation.nodes[source].tun.inject(udp_frame(here, there, b"once more"))
    for node in simulation.nodes.values():
        node.tun.written.clear()
        node.events.clear()
    clock = simulation.network.clock
    clock.post(clock.now() + INTERVAL, send, simulation)


def test_a_day() -> None:
    simulation = Simulation(seed=1)
    verifier = RecordVerifier(256)  # so small that it fills while things warm up
    simulation.start_all(NODES, verifier=verifier)
    simulation.until(simulation.meshed, 10)
    churn = Churn(simulation, 2, verifier)
    send(simulation)
    end = simulation.network.now() + HOURS * 3600
    samples: list[dict[str, int]] = []
    began = time.monotonic()
    next_sample = simulation.network.now() + SAMPLE
    while simulation.network.now() < end:
        simulation.run(CHURN / 2)
        churn.event()
        if simulation.network.now() >= next_sample:
            next_sample += SAMPLE
            simulation.run(30.0)
            assert simulation.meshed(), f"not one mesh after {churn.done}"
            sizes = table_sizes([node.mesh for node in simulation.nodes.values()])
            samples.append({**sizes, "objects": objects(), "rss": rss_kib()})
            print(  # noqa: T201  # the figures are what it is run for
                f"{simulation.network.now() / 3600:6.2f} h  {samples[-1]['objects']} objects  "
                f"{samples[-1]['rss']} KiB  {sum(churn.done.values())} events  "
                f"{time.monotonic() - began:.0f} s",
                flush=True,
            )
    assert simulation.all_ping()
    counted = samples[WARM_UP:]
    assert len(counted) >= 3, "too short: set SOAK_HOURS to 6 at least"
    rss = [sample.pop("rss") for sample in counted]
    assert growth(counted) == {}
    assert growth([{"objects": sample["objects"]} for sample in counted], 1.02, 0) == {}
    assert rss[-1] - rss[0] < RSS_SLACK, rss
