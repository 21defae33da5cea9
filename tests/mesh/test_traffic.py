"""Packets cross the mesh once, whole and unharmed, whatever the network does to datagrams."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.mesh.simulation import SETTINGS, SHORT_SESSIONS, Simulation, drops
from tunmesh.session.timing import Timing
from tunmesh.testing import Faults


def formed(number: int, faults: Faults | None = None, **options: Any) -> Simulation:
    simulation = Simulation(faults=faults)
    simulation.start_all(number, **options)
    simulation.until(simulation.meshed, 10.0)
    simulation.run(2.0)
    return simulation


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("size", [48, 1280, 1400, 9000, 65_535])
def test_packets_of_every_size_arrive(size: int, version: int) -> None:
    simulation = formed(2)
    flow = simulation.flow("n1", "n2", size=size - (20 if version == 6 else 0), version=version)
    simulation.run(1.0)
    flow.stop()
    simulation.run(0.1)
    assert flow.sent >= 20
    assert not flow.lost()
    assert drops(simulation.nodes["n2"]) == {}


def test_packets_for_a_peer_without_session_wait_for_it() -> None:
    simulation = Simulation()
    names = simulation.start_all(24, settings=replace(SETTINGS, eager_peers=8))
    simulation.until(lambda: all(len(n.known()) == 23 for n in simulation.nodes.values()), 10.0)
    simulation.run(5.0)
    source = simulation.nodes["n2"]
    distant = next(name for name in names[2:] if name not in source.up_peers())
    flow = simulation.flow("n2", distant, interval=0.01)
    simulation.run(1.0)
    flow.stop()
    simulation.run(1.0)
    assert not flow.lost()
    assert distant in source.up_peers()


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_duplicated_datagrams_deliver_each_packet_once(share: float) -> None:
    simulation = formed(3, Faults(duplicate=share, jitter=0.002))
    flows = [
        simulation.flow("n1", "n2", interval=0.01),
        simulation.flow("n2", "n1", interval=0.01, size=5000),
        simulation.flow("n2", "n3", interval=0.01, version=6),
    ]
    simulation.run(10.0)
    for flow in flows:
        flow.stop()
    simulation.run(1.0)
    for flow in flows:
        assert not flow.lost()
        assert set(flow.copies.values()) == {1}


@pytest.mark.parametrize(("size", "rate"), [(100, 5000), (5000, 300)])
def test_reordering_within_50_ms_loses_nothing(size: int, rate: int) -> None:
    simulation = formed(2, Faults(delay=0.01, jitter=0.05))
    flow = simulation.flow("n1", "n2", interval=1 / rate, size=size)
    simulation.run(2.0)
    flow.stop()
    simulation.run(1.0)
    assert not flow.lost()
    assert drops(simulation.nodes["n2"]).get("replay", 0) == 0


def test_inner_loss_is_the_loss_of_the_way() -> None:
    simulation = formed(2)
    simulation.network.faults = Faults(loss=0.05)
    flow = simulation.flow("n1", "n2", interval=0.005)
    simulation.run(30.0)
    flow.stop()
    simulation.run(1.0)
    assert len(flow.lost()) <= 0.07 * flow.sent
    assert not any("peer down" in event for event, _ in simulation.nodes["n1"].events)


def test_large_packets_cross_a_lossy_way_in_small_units() -> None:
    """Once the loss is known, a superpacket goes as many units and most of it arrives."""
    simulation = formed(2)
    simulation.network.faults = Faults(loss=0.02)
    peer = simulation.nodes["n1"].mesh.peers[simulation.nodes["n2"].key.node_id]
    flow = simulation.flow("n1", "n2", interval=0.005, size=9000)
    simulation.until(lambda: 0 < peer.port.bulk_limit <= 1472, 30.0)
    flow.stop()
    simulation.network.faults = Faults()
    flow = simulation.flow("n1", "n2", interval=0.005)
    simulation.until(lambda: peer.port.bulk_limit == 0, 60.0)


# -------------------------------------------------------------------- renewal


@pytest.mark.timeout(60)  # 24,000 packets
def test_renewing_keys_under_traffic_loses_nothing() -> None:
    simulation = formed(2, settings=SHORT_SESSIONS)
    flows = [
        simulation.flow("n1", "n2", interval=0.005),
        simulation.flow("n2", "n1", interval=0.005, size=4000),
    ]
    before = simulation.nodes["n1"].mesh.handshakes.counters["ok"]
    simulation.run(60.0)
    for flow in flows:
        flow.stop()
    simulation.run(1.0)
    assert not any(flow.lost() for flow in flows)
    made = simulation.nodes["n1"].mesh.handshakes.counters["ok"] - before
    assert 10 <= made <= 16
    assert drops(simulation.nodes["n1"]) == drops(simulation.nodes["n2"]) == {}


def test_renewing_keys_on_a_bad_way_loses_what_the_way_loses() -> None:
    faults = Faults(delay=0.02, jitter=0.02, loss=0.1)
    simulation = formed(2, faults, settings=SHORT_SESSIONS)
    flow = simulation.flow("n1", "n2", interval=0.01)
    simulation.run(60.0)
    flow.stop()
    simulation.run(1.0)
    assert len(flow.lost()) <= 0.13 * flow.sent


def test_old_keys_are_forgotten() -> None:
    simulation = formed(3, settings=SHORT_SESSIONS)
    simulation.run(60.0)
    for node in simulation.nodes.values():
        assert len(node.mesh.outside.keypairs) <= 2 * 3
    for node in simulation.nodes.values():
        node.kill()
    survivor = simulation.nodes["n1"]
    survivor.running = True
    survivor._run()
    simulation.run(30.0)
    assert not survivor.mesh.outside.keypairs


def test_keys_are_renewed_after_so_many_bytes() -> None:
    timing = Timing(rekey_bytes=100_000, reject_bytes=400_000)
    simulation = formed(2, settings=replace(SETTINGS, session=timing))
    flow = simulation.flow("n1", "n2", interval=0.01, size=1000)
    before = simulation.nodes["n2"].mesh.handshakes.counters["ok"]
    simulation.run(20.0)  # 2 MB
    flow.stop()
    simulation.run(1.0)
    assert not flow.lost()
    assert simulation.nodes["n2"].mesh.handshakes.counters["ok"] - before >= 6


def test_both_sides_dial_at_once_and_agree() -> None:
    for seed in range(20):
        simulation = Simulation(seed, faults=Faults(delay=0.1, jitter=0.1 * (seed % 2)))
        one = simulation.start("n1", via=[])
        # Neither knows of the other before: both are given each other's endpoint.
        other = simulation.start("n2", via=["n1"])
        one.mesh.joining.add_group("other", [other.endpoint], -1, lambda: 5.0)
        one.mesh.joining.run(simulation.network.now())
        simulation.until(simulation.meshed, 5.0)
        flows = [simulation.flow("n1", "n2"), simulation.flow("n2", "n1")]
        simulation.run(5.0)
        for flow in flows:
            flow.stop()
        simulation.run(1.0)
        assert not any(flow.lost() for flow in flows)
