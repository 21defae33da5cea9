"""Nodes that crash, restart, leave, fall silent and come back."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

import pytest

from tests.mesh.simulation import SETTINGS, Simulation, address4
from tunmesh.testing import Faults


def formed(number: int, seed: int = 0, faults: Faults | None = None, **options: Any) -> Simulation:
    simulation = Simulation(seed, faults=faults)
    simulation.start_all(number, **options)
    simulation.until(simulation.meshed, 5.0)
    simulation.run(5.0)
    return simulation


def restart(
    simulation: Simulation, name: str, *, same_key: bool = False, down: float = 0.5
) -> None:
    before = simulation.nodes[name]
    before.kill()
    simulation.run(down)
    simulation.start(name, key=before.key if same_key else None)


@pytest.mark.parametrize("down", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("same_key", [False, True])
def test_a_restarted_node_is_reachable_again_within_three_seconds(
    same_key: bool, down: float
) -> None:
    simulation = formed(4)
    restart(simulation, "n3", same_key=same_key, down=down)
    assert simulation.recovery("n3", "n2", 3.0) <= 3.0
    simulation.until(simulation.meshed, 3.0)
    assert simulation.all_ping()
    owner = simulation.nodes["n1"].mesh.directory.claims.owner
    assert owner(IPv4Address(address4(3))) == simulation.nodes["n3"].key.node_id


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("same_key", [False, True])
def test_the_restarted_seed_which_knows_nobody_is_reachable_within_six_seconds(
    same_key: bool, seed: int
) -> None:
    simulation = formed(4, seed)
    restart(simulation, "n1", same_key=same_key)
    took = simulation.recovery("n1", "n2", 6.0)
    took += simulation.until(simulation.meshed, 6.0 - took)
    simulation.run(min(1.0, 6.0 - took))  # who still asks the former process needs a second
    assert simulation.all_ping()


def test_the_restarted_seed_of_an_idle_mesh_is_found_by_probes() -> None:
    simulation = formed(4)
    simulation.run(100.0)
    restart(simulation, "n1")
    simulation.until(simulation.meshed, 6.0)


def test_a_node_that_restarts_again_and_again_is_reachable_each_time() -> None:
    simulation = formed(3)
    for _ in range(10):
        restart(simulation, "n2", down=0.2)
        simulation.recovery("n2", "n3", 3.0)
        simulation.run(5.0)
    simulation.until(simulation.meshed, 3.0)
    # All that was kept for the old ones goes away with time.
    simulation.run(700.0)
    assert simulation.nodes["n1"].known() == {"n2", "n3"}
    assert len(simulation.nodes["n1"].mesh.peers) == 2
    assert len(simulation.nodes["n1"].mesh.directory.records) == 2


def test_all_nodes_restart_at_once() -> None:
    simulation = formed(8)
    for node in simulation.nodes.values():
        node.kill()
    for name in list(simulation.nodes):
        simulation.start(name)
    simulation.until(simulation.meshed, 10.0)
    assert simulation.all_ping()


def test_a_node_that_has_said_goodbye_answers_nobody() -> None:
    simulation = formed(3)
    gone = simulation.nodes["n1"]
    gone.mesh.stop()  # the others know its URL, and look who is there now
    for _ in range(10):
        simulation.run(0.5)
        for name in ("n2", "n3"):
            peer = simulation.nodes[name].mesh.peers.get(gone.key.node_id)
            assert peer is None or not peer.up


def test_a_node_that_leaves_is_gone_at_once_everywhere() -> None:
    simulation = formed(6)
    simulation.nodes["n4"].leave()
    simulation.run(0.05)
    others = [simulation.nodes[name] for name in simulation.running()]
    assert all("n4" not in node.known() and len(node.mesh.peers) == 4 for node in others)
    assert all(len(node.mesh.forwarding.fib().inside(*pair(simulation, 1, 4))) for node in others)
    simulation.run(60.0)
    assert all("n4" not in node.known() for node in others)


def pair(simulation: Simulation, source: int, destination: int) -> tuple[bytes, bytes]:
    return IPv4Address(address4(source)).packed, IPv4Address(address4(destination)).packed


def test_a_node_that_left_comes_back_with_its_key() -> None:
    simulation = formed(3)
    before = simulation.nodes["n2"]
    before.leave()
    simulation.run(5.0)
    simulation.start("n2", key=before.key)
    simulation.until(simulation.meshed, 3.0)
    assert simulation.all_ping()


@pytest.mark.parametrize("silence", [5.0, 20.0, 60.0, 200.0])
def test_a_node_that_was_silent_is_back_within_two_seconds(silence: float) -> None:
    simulation = formed(4)
    simulation.network.partition(["n3"])
    simulation.run(silence)
    simulation.network.heal()
    assert simulation.recovery("n3", "n2", 2.0) <= 2.0


def test_a_process_that_was_stopped_is_back_within_two_seconds() -> None:
    simulation = formed(4)
    node = simulation.nodes["n3"]
    simulation.network.partition(["n3"])
    node.running = False  # its timers do not fire
    simulation.run(20.0)
    node.running = True
    node._run()
    simulation.network.heal()
    assert simulation.recovery("n3", "n2", 2.0) <= 2.0
    simulation.until(simulation.meshed, 5.0)


def test_a_mesh_torn_in_two_for_five_minutes_heals_within_ten_seconds() -> None:
    simulation = formed(6)
    left, right = ["n1", "n2", "n3"], ["n4", "n5", "n6"]
    simulation.network.partition(left, right)
    simulation.run(300.0)
    assert simulation.all_ping(left)
    assert simulation.all_ping(right)
    assert simulation.nodes["n1"].up_peers() == {"n2", "n3"}
    simulation.network.heal()
    simulation.until(simulation.all_ping, 10.0)
    simulation.until(simulation.meshed, 10.0)


@pytest.mark.timeout(60)
def test_a_mesh_torn_in_two_for_an_hour_heals() -> None:
    simulation = formed(4)
    simulation.network.partition(["n1", "n2"], ["n3", "n4"])
    simulation.run(3600.0)
    simulation.network.heal()
    simulation.until(simulation.meshed, 20.0)
    assert simulation.all_ping()


def test_a_way_that_is_blocked_in_one_direction_recovers() -> None:
    simulation = formed(3, settings=replace(SETTINGS, relay=False))
    simulation.network.set_faults("n2", "n3", Faults(loss=1.0))
    simulation.run(30.0)
    assert "n3" not in simulation.nodes["n2"].up_peers()
    simulation.network.set_faults("n2", "n3", None)
    assert simulation.recovery("n2", "n3", 10.0) <= 10.0


def test_holds_sessions_and_addresses_through_bursts_of_loss() -> None:
    simulation = formed(3)
    flow = simulation.flow("n2", "n3")
    for _ in range(10):
        simulation.network.faults = Faults(loss=1.0)
        simulation.run(1.0)
        simulation.network.faults = Faults()
        simulation.run(3.0)
    lost = len(flow.lost())
    assert lost <= 10 * 21
    assert not any("down" in event for event, _ in simulation.nodes["n2"].events)
