"""A mesh whose nodes are given other settings while packets flow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import ip_network

import pytest

from tests.mesh.simulation import SETTINGS, Flow, Simulation
from tunmesh.mesh import MeshSettings
from tunmesh.session import suites


@pytest.fixture
def simulation() -> Simulation:
    """Three nodes that know each other, since longer than sessions count as opened at once."""
    simulation = Simulation()
    simulation.start_all(3)
    simulation.until(simulation.meshed, 3)
    simulation.run(4.0)
    return simulation


@contextmanager
def traffic(simulation: Simulation) -> Iterator[None]:
    """Packets between two nodes, of which none is lost."""
    flows: list[Flow] = [simulation.flow("n1", "n2"), simulation.flow("n2", "n1", version=6)]
    yield
    simulation.run(0.5)
    for flow in flows:
        flow.stop()
    simulation.run(0.5)
    assert [flow.lost() for flow in flows] == [set(), set()]


def reconfigure(simulation: Simulation, name: str, settings: MeshSettings) -> None:
    simulation.nodes[name].mesh.reconfigure(settings)


def cipher(simulation: Simulation, name: str, other: str) -> str:
    mesh = simulation.nodes[name].mesh
    current = mesh.peers[simulation.nodes[other].key.node_id].session.current
    return suites.NAMES[current.suite] if current else ""


def test_another_cipher_makes_new_sessions(simulation: Simulation) -> None:
    assert cipher(simulation, "n1", "n2") == "aes256gcm"
    with traffic(simulation):
        reconfigure(simulation, "n1", replace(SETTINGS, suites=(suites.CHACHA20POLY1305,)))
        simulation.run(1.0)
        assert cipher(simulation, "n1", "n2") == "chacha20poly1305"
        assert cipher(simulation, "n2", "n1") == "chacha20poly1305"
    assert cipher(simulation, "n2", "n3") == "aes256gcm"


def test_another_cipher_right_after_the_start() -> None:
    simulation = Simulation()
    simulation.start_all(2)
    simulation.until(simulation.meshed, 3)
    with traffic(simulation):
        reconfigure(simulation, "n1", replace(SETTINGS, suites=(suites.CHACHA20POLY1305,)))
        simulation.until(lambda: cipher(simulation, "n1", "n2") == "chacha20poly1305", 4.0)


def test_what_a_node_says_of_itself(simulation: Simulation) -> None:
    other = simulation.nodes["n2"].mesh.directory.records
    node = simulation.nodes["n1"]
    with traffic(simulation):
        reconfigure(
            simulation, "n1", replace(SETTINGS, relay=False, advertise=("memory://elsewhere:1",))
        )
        simulation.run(1.0)
        record = other[node.key.node_id]
        assert not record.relay
        assert record.endpoints == ("memory://elsewhere:1",)
        assert not node.mesh.relaying.willing
        seq = record.seq
        reconfigure(
            simulation, "n1", replace(SETTINGS, relay=False, advertise=("memory://elsewhere:1",))
        )
        simulation.run(1.0)
        assert other[node.key.node_id].seq == seq, "nothing was new"


def test_what_others_may_announce(simulation: Simulation) -> None:
    simulation.start("n4", subnets=[("192.168.7.0/24", 0)])
    simulation.until(simulation.meshed, 3)
    forwarding = simulation.nodes["n1"].mesh.forwarding
    assert forwarding.kernel_routes() == ()
    accepting = replace(SETTINGS, accept_subnets=(ip_network("192.168.0.0/16"),))
    with traffic(simulation):
        reconfigure(simulation, "n1", accepting)
        assert forwarding.kernel_routes() == (ip_network("192.168.7.0/24"),)
        reconfigure(simulation, "n1", SETTINGS)
        assert forwarding.kernel_routes() == ()


def test_broadcasts(simulation: Simulation) -> None:
    forwarding = simulation.nodes["n1"].mesh.forwarding
    assert forwarding.broadcasts()
    reconfigure(simulation, "n1", replace(SETTINGS, broadcast=False))
    assert forwarding.broadcasts() == ()
    reconfigure(simulation, "n1", replace(SETTINGS, broadcast_rate=7))
    assert {route.limit for route in forwarding.routes() if route.kind == "broadcast"} == {7}


def test_a_peer_is_stale_by_the_new_threshold(simulation: Simulation) -> None:
    short = replace(SETTINGS.directory, stale_local=2.0, stale_mesh=2.0)
    gone = simulation.nodes["n3"]
    gone.kill()
    simulation.run(3.0)
    directory = simulation.nodes["n1"].mesh.directory
    assert directory.live(gone.key.node_id)
    reconfigure(simulation, "n1", replace(SETTINGS, directory=short))
    simulation.run(0.1)
    assert not directory.live(gone.key.node_id)
    assert simulation.nodes["n2"].mesh.directory.live(gone.key.node_id), "its times are its own"


def test_sessions_are_renewed_by_the_new_age(simulation: Simulation) -> None:
    with traffic(simulation):
        for name in ("n1", "n2"):
            shorter = replace(SETTINGS.session, rekey_after=3.0, reject_after=6.0)
            reconfigure(simulation, name, replace(SETTINGS, session=shorter))
        simulation.run(5.0)
        mesh = simulation.nodes["n1"].mesh
        current = mesh.peers[simulation.nodes["n2"].key.node_id].session.current
        assert current is not None
        assert simulation.network.now() - current.created < 5.0


def test_more_sessions_for_a_larger_mesh() -> None:
    simulation = Simulation()
    few = replace(SETTINGS, eager_peers=2)
    simulation.start_all(24, settings=few)
    simulation.run(10.0)
    assert len(simulation.nodes["n12"].up_peers()) < 23
    reconfigure(simulation, "n12", replace(few, eager_peers=64))
    simulation.until(lambda: len(simulation.nodes["n12"].up_peers()) == 23, 5.0)
