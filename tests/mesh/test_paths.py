"""Nodes that move, sit behind NATs or are copied by somebody on the way."""

from __future__ import annotations

from itertools import product

import pytest

from tests.mesh.simulation import Simulation
from tunmesh.testing import Faults, NatKind
from tunmesh.testing.network import format_endpoint

#: NATs have addresses for names, since what a node is told of itself is an address.
KINDS: tuple[NatKind, ...] = ("full_cone", "restricted", "port_restricted", "symmetric")


def formed(number: int, faults: Faults | None = None) -> Simulation:
    simulation = Simulation(faults=faults)
    simulation.start_all(number)
    simulation.until(simulation.meshed, 5.0)
    simulation.run(2.0)
    return simulation


def active(simulation: Simulation, name: str, peer: str) -> str:
    """The endpoint at which a node reaches another one now."""
    path = simulation.nodes[name].mesh.peers[simulation.nodes[peer].key.node_id].paths.active
    return path.handle.endpoint if path is not None else ""


# --------------------------------------------------------------------- moving


@pytest.mark.parametrize("mover", ["n1", "n2"])
@pytest.mark.parametrize("delay", [0.001, 0.05])
def test_a_moved_node_is_reached_within_two_seconds(mover: str, delay: float) -> None:
    simulation = formed(3, Faults(delay=delay))
    simulation.nodes[mover].transport.move("elsewhere")
    assert simulation.recovery(mover, "n3", 2.0) <= 2.0
    simulation.run(2.0)
    endpoint = format_endpoint("elsewhere", 4567)
    for name in {"n1", "n2", "n3"} - {mover}:
        assert active(simulation, name, mover) == endpoint


def test_traffic_to_a_node_that_moves_is_not_interrupted_for_long() -> None:
    simulation = formed(3)
    flows = [simulation.flow("n2", "n3"), simulation.flow("n3", "n2")]
    for number in range(5):
        simulation.run(5.0)
        simulation.nodes["n2"].transport.move(f"place{number}")
    simulation.run(5.0)
    assert all(len(flow.lost()) <= 5 * 20 for flow in flows)  # a second each
    assert not any("peer down" in event for event, _ in simulation.nodes["n3"].events)


def test_both_ends_move_at_once() -> None:
    simulation = formed(3)
    simulation.nodes["n2"].transport.move("here")
    simulation.nodes["n3"].transport.move("there")
    assert simulation.recovery("n2", "n3", 5.0) <= 5.0


def test_a_silent_node_that_moved_is_found_by_its_own_probes() -> None:
    simulation = formed(3)
    simulation.run(60.0)
    simulation.nodes["n2"].transport.move("elsewhere")
    simulation.run(3.0)
    assert active(simulation, "n3", "n2") == format_endpoint("elsewhere", 4567)
    assert simulation.pings("n3", "n2")


def test_the_newer_of_two_paths_is_forgotten_when_it_dies() -> None:
    simulation = formed(2)
    node = simulation.nodes["n2"]
    for number in range(20):
        node.transport.move(f"place{number}")
        simulation.run(3.0)
    simulation.run(120.0)
    peer = simulation.nodes["n1"].mesh.peers[node.key.node_id]
    assert [path.handle.endpoint for path in peer.paths] == [node.endpoint]
    assert len(simulation.nodes["n1"].transport._adopted) == 1


# --------------------------------------------------- somebody on the way copies


def test_who_copies_datagrams_faster_than_the_original_does_not_draw_traffic() -> None:
    simulation = formed(2, Faults(delay=0.02))
    network = simulation.network
    before = active(simulation, "n1", "n2")
    evil = format_endpoint("evil", 1)
    network.set_faults("evil", "n1", Faults(delay=0.0))

    def copy(source: str, destination: str, data: bytes) -> None:
        if source == before:
            network.send(evil, destination, data)

    network.tap = copy
    flows = [simulation.flow("n1", "n2"), simulation.flow("n2", "n1")]
    simulation.run(30.0)
    for flow in flows:
        flow.stop()
    simulation.run(1.0)
    assert not any(flow.lost() for flow in flows)
    assert all(set(flow.copies.values()) == {1} for flow in flows)
    assert active(simulation, "n1", "n2") == before
    assert not any("path changed" in event for event, _ in simulation.nodes["n1"].events[2:])


class Relay:
    """Passes everything between two nodes on, from an endpoint of its own, and faster."""

    def __init__(self, simulation: Simulation, one: str, other: str) -> None:
        self.endpoint = format_endpoint("evil", 1)
        self._network = simulation.network
        self._ends = {one: other, other: one}
        for end in self._ends:
            host = end.split("/")[2].split(":")[0]
            self._network.set_faults("evil", host, Faults(delay=0.0))
            self._network.set_faults(host, "evil", Faults(delay=0.0))
        self._network.bind(self.endpoint, self)
        self._network.tap = self._copy

    def deliver(self, source: str, data: bytes, segment_size: int) -> None:
        self._network.send(self.endpoint, self._ends[source], data, segment_size)

    def _copy(self, source: str, destination: str, data: bytes) -> None:
        if source in self._ends and destination != self.endpoint:
            self._network.send(self.endpoint, destination, data)


def test_who_relays_both_ways_and_faster_does_not_draw_traffic() -> None:
    simulation = formed(2, Faults(delay=0.02))
    relay = Relay(simulation, *(simulation.nodes[name].endpoint for name in ("n1", "n2")))
    flows = [simulation.flow("n1", "n2"), simulation.flow("n2", "n1")]
    simulation.run(60.0)
    for flow in flows:
        flow.stop()
    simulation.run(1.0)
    assert relay.endpoint not in {active(simulation, "n1", "n2"), active(simulation, "n2", "n1")}
    assert not any(flow.lost() for flow in flows)


# ------------------------------------------------------------------------ NATs


@pytest.mark.parametrize("kind", KINDS)
def test_a_node_behind_a_nat_reaches_all_and_is_reached(kind: NatKind) -> None:
    simulation = Simulation()
    simulation.network.add_nat("192.0.2.1", ["n3"], kind)
    simulation.start_all(4)
    simulation.until(simulation.meshed, 5.0)
    assert simulation.all_ping()
    simulation.run(120.0)
    assert simulation.all_ping()


@pytest.mark.parametrize(("one", "other"), list(product(KINDS, KINDS)))
def test_nodes_behind_two_nats_meet_where_their_kinds_allow(one: NatKind, other: NatKind) -> None:
    simulation = Simulation()
    simulation.network.add_nat("192.0.2.2", ["n2"], one)
    simulation.network.add_nat("192.0.2.3", ["n3"], other)
    simulation.start_all(3)
    hard = {"port_restricted", "symmetric"}
    impossible = {one, other} <= hard and "symmetric" in {one, other}
    simulation.until(simulation.meshed, 10.0)
    assert simulation.all_ping()
    simulation.run(120.0)
    assert simulation.all_ping()
    # Where they cannot meet, the third carries what they say.
    assert active(simulation, "n2", "n3").startswith("relay://") == impossible


def test_nodes_behind_one_nat_meet_directly() -> None:
    simulation = Simulation()
    simulation.network.add_nat("192.0.2.1", ["n2", "n3"])
    simulation.start_all(3)
    simulation.until(simulation.meshed, 5.0)
    assert active(simulation, "n2", "n3") == simulation.nodes["n3"].endpoint


@pytest.mark.parametrize("kind", KINDS)
def test_a_nat_that_restarts_interrupts_for_two_seconds_at_most(kind: NatKind) -> None:
    simulation = Simulation()
    nat = simulation.network.add_nat("192.0.2.1", ["n2"], kind)
    simulation.start_all(3)
    simulation.until(simulation.meshed, 5.0)
    flows = [simulation.flow("n2", "n3"), simulation.flow("n3", "n2")]
    simulation.run(10.0)
    nat.forget()
    simulation.run(10.0)
    assert all(len(flow.lost()) <= 2 * 20 for flow in flows)


def test_keepalives_hold_the_mapping_of_an_idle_node() -> None:
    simulation = Simulation()
    nat = simulation.network.add_nat("192.0.2.1", ["n2"], "port_restricted", timeout=5.0)
    simulation.start_all(2)
    simulation.until(simulation.meshed, 5.0)
    simulation.run(300.0)
    assert simulation.pings("n1", "n2")
    assert nat._next_port <= 20002
