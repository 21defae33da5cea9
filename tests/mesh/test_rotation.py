"""The mesh secret is changed node by node, in three steps, while packets flow."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import permutations
from typing import Any

import pytest

from tests.mesh.simulation import SHORT_SESSIONS, Simulation, drops
from tunmesh.identity.secrets import Keyring
from tunmesh.testing import Faults
from tunmesh.testing.nodes import SECRET

NEW = b"another secret of the simulated mesh, 0987654321"
#: What is in a node's file before the first step, and after each.
STAGES = ((SECRET,), (SECRET, NEW), (NEW, SECRET), (NEW,))
#: Longer than the sessions live, so that each state sees sessions being made.
STEP = 6.0


class Rotation:
    """Nodes n1, n2, … and how far each of them is."""

    def __init__(self, nodes: int, seed: int = 0, **options: Any) -> None:
        self.simulation = Simulation(seed, **options)
        self.names = self.simulation.start_all(nodes, settings=SHORT_SESSIONS)
        self.simulation.until(self.simulation.meshed, 5)
        self.stages = dict.fromkeys(self.names, 0)

    def step(self, name: str) -> None:
        """Do a node's next step."""
        self.stages[name] += 1
        self.set(name, STAGES[self.stages[name]])

    def set(self, name: str, secrets: Sequence[bytes]) -> None:
        self.simulation.nodes[name].mesh.set_keyring(Keyring(secrets, "test"))

    def peers_with(self, secret: bytes) -> int:
        """Sessions of all nodes that use a secret."""
        psk_id = Keyring([secret], "test").current.psk_id
        return sum(
            peer.session.current is not None and peer.session.current.psk_id == psk_id
            for node in self.simulation.nodes.values()
            for peer in node.mesh.peers.values()
        )


def orders(names: list[str]) -> Iterator[tuple[str, ...]]:
    """Every order of the three steps of each node in which nobody retires before all have added."""
    for order in sorted(set(permutations(names * 3))):
        done = dict.fromkeys(names, 0)
        for name in order:
            if done[name] == 2 and not all(done.values()):
                break
            done[name] += 1
        else:
            yield order


def random_order(names: list[str], rng: random.Random) -> list[str]:
    """One of the orders of many nodes."""
    done = dict.fromkeys(names, 0)
    order = []
    while possible := [
        name for name in names if done[name] < 2 or (done[name] == 2 and all(done.values()))
    ]:
        order.append(rng.choice(possible))
        done[order[-1]] += 1
    return order


def rotate(rotation: Rotation, order: Sequence[str]) -> None:
    """Do the steps in an order, and see that no packet is lost meanwhile."""
    simulation = rotation.simulation
    flows = [
        simulation.flow(source, destination, interval=0.25)
        for source, destination in permutations(rotation.names, 2)
    ]
    for name in order:
        rotation.step(name)
        simulation.run(STEP)
    for flow in flows:
        flow.stop()
    simulation.run(0.5)
    assert [len(flow.lost()) for flow in flows] == [0] * len(flows), order
    assert rotation.peers_with(NEW) == len(flows)


@pytest.mark.parametrize("order", list(orders(["n1", "n2"])), ids="-".join)
def test_two_nodes_stay_connected_in_every_order_of_steps(order: tuple[str, ...]) -> None:
    rotate(Rotation(2), order)


@pytest.mark.parametrize("seed", range(5))
def test_five_nodes_stay_connected_in_random_orders_of_steps(seed: int) -> None:
    rotation = Rotation(5, seed)
    rotate(rotation, random_order(rotation.names, random.Random(seed)))


def test_five_nodes_each_step_everywhere_before_the_next() -> None:
    rotation = Rotation(5)
    rotate(rotation, rotation.names * 3)


def test_a_session_goes_on_under_a_secret_that_was_retired() -> None:
    rotation = Rotation(2)
    for _ in range(3):
        for name in rotation.names:
            rotation.step(name)
    assert rotation.peers_with(SECRET) == 2
    assert rotation.simulation.pings("n1", "n2")
    rotation.simulation.run(STEP)
    assert rotation.peers_with(SECRET) == 0


def test_a_node_that_is_ahead_joins_by_one_that_is_behind() -> None:
    rotation = Rotation(2)
    late = rotation.simulation.start("late", settings=SHORT_SESSIONS)
    late.mesh.set_keyring(Keyring([NEW, SECRET], "test"))
    rotation.simulation.until(rotation.simulation.meshed, 2.0)


def test_it_works_on_a_lossy_network() -> None:
    rotation = Rotation(3, faults=Faults(delay=0.01, loss=0.2))
    for stage in range(3):
        for name in rotation.names:
            rotation.step(name)
        rotation.simulation.run(2 * STEP)
        assert rotation.simulation.meshed(), stage
    assert rotation.peers_with(NEW) == 6


def test_without_a_common_secret_there_is_no_session() -> None:
    rotation = Rotation(2)
    rotation.set("n1", (NEW,))
    rotation.simulation.run(20.0)
    assert not rotation.simulation.nodes["n1"].up_peers()
    assert drops(rotation.simulation.nodes["n2"])["auth_failed"] > 0
    rotation.set("n2", (SECRET, NEW))
    rotation.simulation.until(rotation.simulation.meshed, 10.0)
