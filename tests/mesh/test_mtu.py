"""Holes in the path that swallow large datagrams and say nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.mesh.simulation import SETTINGS, Simulation
from tunmesh.peering.path import Path
from tunmesh.testing import Faults

#: What is left of an MTU of 1400, 1300 and 1124 bytes for UDP over IPv4 and IPv6.
HOLES = (1372, 1352, 1272, 1252, 1096, 1076)


def formed(number: int = 2, faults: Faults | None = None) -> Simulation:
    simulation = Simulation(faults=faults)
    simulation.start_all(number)
    simulation.until(simulation.meshed, 10.0)
    simulation.run(5.0)
    return simulation


def path(simulation: Simulation, name: str = "n1", peer: str = "n2") -> Path:
    """The path that a node uses to another one."""
    active = simulation.nodes[name].mesh.peers[simulation.nodes[peer].key.node_id].paths.active
    assert active is not None
    return active


def sizes(simulation: Simulation) -> tuple[int, int]:
    """The size of the path in each direction."""
    return path(simulation).max_datagram, path(simulation, "n2", "n1").max_datagram


@pytest.mark.parametrize("mtu", HOLES)
@pytest.mark.parametrize("size", [100, 1400])
def test_a_hole_that_appears_in_mid_flow_is_found_in_5_s(mtu: int, size: int) -> None:
    simulation = formed()
    flows = [simulation.flow("n1", "n2", size=size), simulation.flow("n2", "n1", size=size)]
    simulation.run(5.0)
    before = [flow.sent for flow in flows]
    simulation.network.faults = Faults(mtu=mtu)
    took = simulation.until(lambda: sizes(simulation) == (mtu, mtu), 5.0)
    simulation.run(5.0)
    assert took < 5.0
    for flow, sent in zip(flows, before, strict=True):
        assert max(flow.lost(), default=0) < sent + 3.0 / 0.05  # nothing is lost after 3 s


@pytest.mark.parametrize("mtu", HOLES)
def test_a_hole_that_was_there_before_is_found_in_5_s(mtu: int) -> None:
    simulation = Simulation(faults=Faults(mtu=mtu))
    simulation.start_all(3)
    simulation.until(simulation.meshed, 5.0)
    pairs = [(one, other) for one in simulation.nodes for other in simulation.nodes if one != other]
    simulation.until(
        lambda: all(path(simulation, *pair).max_datagram == mtu for pair in pairs), 5.0
    )
    flow = simulation.flow("n2", "n3", size=1400)
    simulation.run(5.0)
    flow.stop()
    simulation.run(0.1)
    assert not flow.lost()


def test_a_hole_that_appears_while_nothing_is_said_costs_little() -> None:
    simulation = formed()
    simulation.run(20.0)
    simulation.network.faults = Faults(mtu=1372)
    flow = simulation.flow("n1", "n2", size=1400)
    simulation.until(lambda: path(simulation).max_datagram == 1372, 5.0)
    simulation.run(5.0)
    assert max(flow.lost()) * 0.05 < 4.0


def test_one_direction_may_be_narrower() -> None:
    simulation = formed()
    simulation.network.set_faults("n1", "n2", Faults(mtu=1252))
    simulation.flow("n1", "n2", size=1400)
    simulation.flow("n2", "n1", size=1400)
    simulation.run(5.0)
    assert sizes(simulation) == (1252, 1472)


def test_a_hole_that_goes_is_forgotten_after_ten_minutes() -> None:
    simulation = formed()
    simulation.network.faults = Faults(mtu=1372)
    simulation.flow("n1", "n2", size=1400)
    simulation.run(10.0)
    simulation.network.faults = Faults()
    simulation.run(580.0)
    assert path(simulation).max_datagram == 1372
    simulation.run(30.0)
    assert path(simulation).max_datagram == 1472


@pytest.mark.parametrize("traffic", [True, False])
def test_a_fifth_lost_each_way_makes_no_path_smaller(traffic: bool) -> None:
    simulation = formed(3, Faults(loss=0.2))
    if traffic:
        for one, other in (("n1", "n2"), ("n2", "n3"), ("n3", "n1")):
            simulation.flow(one, other, size=1400)
    seen = set()
    for _ in range(600):
        simulation.run(0.2)
        for node in simulation.nodes.values():
            for peer in node.mesh.peers.values():
                seen |= {each.max_datagram for each in peer.paths if each.mtu is not None}
    assert seen == {1472}


def test_probes_that_hardly_arrive_are_no_loss() -> None:
    simulation = formed()
    simulation.network.faults = Faults(mtu=1372)
    flow = simulation.flow("n1", "n2", size=200, interval=0.01)
    simulation.run(10.0)
    assert path(simulation).max_datagram == 1372
    simulation.run(30.0)
    flow.stop()
    assert path(simulation).loss.loss < 0.002


def test_what_the_underlay_refuses_is_only_a_hint() -> None:
    simulation = formed()
    used = path(simulation)
    for _ in range(100):
        simulation.nodes["n1"].mesh.too_big(used.handle, 1472)
    simulation.run(2.0)
    assert used.max_datagram == 1472
    simulation.network.faults = Faults(mtu=1300)
    simulation.nodes["n1"].mesh.too_big(used.handle, 1472)
    simulation.run(2.0)
    assert used.max_datagram == 1300


def test_sessions_and_records_pass_the_narrowest_hole() -> None:
    simulation = Simulation(faults=Faults(mtu=1076))
    many = tuple((f"172.16.{number}.0/24", 0) for number in range(60))
    settings = replace(SETTINGS, accept_subnets=SETTINGS.networks)
    for number in range(1, 5):
        simulation.start(f"n{number}", subnets=many, settings=settings)
    simulation.until(simulation.meshed, 10.0)
