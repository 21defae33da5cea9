"""Random histories of three nodes: whatever happens, nothing forbidden does, and they recover."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.mesh.simulation import SETTINGS, Flow, Simulation
from tunmesh.session.timing import Timing
from tunmesh.session.units import DATA, HEADER
from tunmesh.testing import Faults
from tunmesh.testing.network import host_of

NAMES = ("n1", "n2", "n3")
names = st.sampled_from(NAMES)
#: Keys are renewed about once a rule.
TIMING = Timing(rekey_after=5.0, reject_after=9.0)
_REMEMBERED = 500


class Mesh(RuleBasedStateMachine):
    """Three nodes and a network at the mercy of hypothesis."""

    def __init__(self) -> None:
        super().__init__()
        self.simulation = Simulation()
        self.network = self.simulation.network
        self.settings = replace(SETTINGS, session=TIMING)
        self.recorded: list[tuple[str, str, bytes]] = []
        self.counters: set[tuple[str, int, int]] = set()
        self.flows: list[Flow] = []
        self.places = 0
        self.network.tap = self._watch
        for name in NAMES:
            self._start(name)
        self.simulation.until(self.simulation.meshed, 5.0)

    def _start(self, name: str, **options: Any) -> None:
        self.simulation.start(
            name,
            via=[other for other in NAMES if other != name],
            settings=self.settings,
            lookup=self._lookup,
            **options,
        )

    def _lookup(self, url: str) -> str:
        """Names are kept up to date, or else two nodes that move at once may never meet again."""
        node = self.simulation.nodes.get(host_of(url))
        return url if node is None else node.endpoint

    def _watch(self, source: str, destination: str, data: bytes) -> None:
        """No keypair seals two units under one counter."""
        if len(self.recorded) < _REMEMBERED:
            self.recorded.append((source, destination, data))
        if data[0] == DATA:
            size = HEADER.unpack_from(data)[2] + HEADER.size
            for start in range(0, len(data), size):
                _, number, _, receiver, word = HEADER.unpack_from(data, start)
                if number == 0:
                    used = (destination, receiver, word >> 20)
                    assert used not in self.counters
                    self.counters.add(used)

    def _quietly(self, action: Callable[[], None]) -> None:
        """Send something that no node sent."""
        self.network.tap = None
        action()
        self.network.tap = self._watch

    # What happens

    @rule(seconds=st.sampled_from([0.01, 0.3, 1.0, 4.0, 12.0]))
    def time_passes(self, seconds: float) -> None:
        self.simulation.run(seconds)

    @rule(source=names, destination=names, size=st.sampled_from([60, 1400, 5000]))
    def traffic(self, source: str, destination: str, size: int) -> None:
        if source != destination and len(self.flows) < 6:
            flow = self.simulation.flow(source, destination, size=size, interval=0.05)
            self.flows.append(flow)

    @rule(
        loss=st.sampled_from([0.0, 0.2, 0.5]),
        duplicate=st.sampled_from([0.0, 0.5]),
        jitter=st.sampled_from([0.0, 0.05]),
    )
    def the_network_changes(self, loss: float, duplicate: float, jitter: float) -> None:
        self.network.faults = Faults(loss=loss, duplicate=duplicate, jitter=jitter)

    @rule(alone=names)
    def partition(self, alone: str) -> None:
        self.network.partition([host_of(self.simulation.nodes[alone].endpoint)])

    @rule()
    def heal(self) -> None:
        self.network.heal()

    @rule(name=names, keep=st.booleans())
    def restart(self, name: str, *, keep: bool) -> None:
        before = self.simulation.nodes[name]
        before.kill()
        self._start(name, key=before.key if keep else None)

    @rule(name=names)
    def move(self, name: str) -> None:
        self.places += 1
        self.simulation.nodes[name].transport.move(f"place{self.places}")

    @precondition(lambda self: self.recorded)
    @rule(data=st.data(), disguised=st.booleans())
    def replay(self, data: st.DataObject, *, disguised: bool) -> None:
        chosen = data.draw(st.lists(st.integers(0, len(self.recorded) - 1), max_size=20))

        def act() -> None:
            for number in chosen:
                source, destination, datagram = self.recorded[number]
                source = source if disguised else "memory://stranger:9"
                self.network.send(source, destination, datagram, _segment(datagram))

        self._quietly(act)

    @precondition(lambda self: self.recorded)
    @rule(data=st.data(), flip=st.integers(0, 1500))
    def corrupt(self, data: st.DataObject, flip: int) -> None:
        number = data.draw(st.integers(0, len(self.recorded) - 1))
        source, destination, datagram = self.recorded[number]
        at = flip % len(datagram)
        changed = datagram[:at] + bytes((datagram[at] ^ 1,)) + datagram[at + 1 :]
        self._quietly(lambda: self.network.send(source, destination, changed, _segment(datagram)))

    # What must hold

    @invariant()
    def packets_are_delivered_once(self) -> None:
        for flow in self.flows:
            flow.arrived()
            assert all(copies == 1 for copies in flow.copies.values())

    @invariant()
    def tables_are_bounded(self) -> None:
        for node in self.simulation.nodes.values():
            mesh = node.mesh
            assert mesh.handshakes.half_open <= 16
            assert len(mesh.outside.keypairs) <= 11 * len(mesh.peers)
            assert all(len(list(peer.paths)) <= 8 for peer in mesh.peers.values())

    def teardown(self) -> None:
        """When the network is well again, so is the mesh."""
        for flow in self.flows:
            flow.stop()
        self.network.faults = Faults()
        self.network.heal()
        self.simulation.until(self.simulation.meshed, 20.0, step=0.1)
        self.simulation.until(self.simulation.all_ping, 20.0, step=0.1)
        self.packets_are_delivered_once()


def _segment(datagram: bytes) -> int:
    if datagram[0] != DATA:
        return len(datagram)
    size: int = HEADER.unpack_from(datagram)[2] + HEADER.size
    return min(len(datagram), size)


TestMesh = pytest.mark.timeout(120)(Mesh.TestCase)
TestMesh.settings = settings(max_examples=30, stateful_step_count=20)
