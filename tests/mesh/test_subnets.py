"""Networks behind nodes, in whole meshes in memory."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from tests.mesh.simulation import SETTINGS, Simulation, udp_frame
from tunmesh.testing.nodes import SimulatedNode

LAN = "192.168.7.0/24"
ACCEPTING = replace(SETTINGS, accept_subnets=(ip_network("192.168.0.0/16"),))


def way(simulation: Simulation, name: str, destination: str = "192.168.7.9") -> object:
    """The names of the nodes that a node sends packets to, or why it drops them."""
    node = simulation.nodes[name]
    own = node.mesh.directory.own
    peers = node.mesh.forwarding.fib().inside(own.hosts[0], ip_address(destination).packed)
    if isinstance(peers, str):
        return peers
    names = {other.key.node_id: other.name for other in simulation.nodes.values()}
    return [names[peer] for peer in peers]


def start() -> tuple[Simulation, SimulatedNode]:
    simulation = Simulation()
    simulation.start("c", settings=ACCEPTING)
    for name, metric in (("a", 5), ("b", 10)):
        simulation.start(name, subnets=((LAN, metric),), settings=ACCEPTING)
    simulation.until(simulation.meshed, 3)
    assert way(simulation, "c") == ["a"]
    return simulation, simulation.nodes["c"]


@pytest.mark.parametrize("silence", [0.0, 3.0, 20.0])
def test_another_node_takes_over_within_five_seconds_of_use(silence: float) -> None:
    simulation, client = start()
    simulation.run(5)
    simulation.nodes["a"].kill()
    simulation.run(silence)  # as long as nobody sends, nobody misses it
    used = simulation.network.now()
    while way(simulation, "c") == ["a"]:
        assert simulation.network.now() - used < 5
        client.tun.inject(udp_frame("10.42.0.1", "192.168.7.9", b"x"))
        simulation.run(0.1)
    assert way(simulation, "c") == ["b"]
    simulation.start("a", subnets=((LAN, 5),), settings=ACCEPTING, seed=9)
    simulation.until(lambda: way(simulation, "c") == ["a"], 10)


def test_it_is_withdrawn_when_the_node_says_goodbye() -> None:
    simulation, _ = start()
    simulation.nodes["a"].leave()
    simulation.until(lambda: way(simulation, "c") == ["b"], 1)
    simulation.nodes["b"].leave()
    simulation.until(lambda: way(simulation, "c") == "outside_network", 1)


def test_both_may_send_from_it() -> None:
    simulation, client = start()
    for name in "ab":
        simulation.nodes[name].tun.inject(udp_frame("192.168.7.9", "10.42.0.1", name.encode()))
    simulation.run(0.1)
    assert {frame[-1:] for frame in client.tun.written} == {b"a", b"b"}
    assert not client.mesh.drops["spoofed_source"]


def test_a_node_that_answers_again_takes_its_network_back() -> None:
    simulation, client = start()
    simulation.run(5)
    simulation.network.partition(["a"])
    flow = simulation.flow("c", "a")
    simulation.until(lambda: way(simulation, "c") == ["b"], 3)
    assert "peer down" not in {name.partition(":")[0] for name, _ in client.events}
    simulation.network.heal()
    simulation.until(lambda: way(simulation, "c") == ["a"], 3)
    flow.stop()
