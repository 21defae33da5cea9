"""Peers with paths over two transports: which is used, when that changes, and why."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from tests.mesh.simulation import Simulation
from tunmesh.peering.peer import Peer
from tunmesh.testing import Faults
from tunmesh.testing.network import format_endpoint

#: The transport that every node has has priority 0.
LOWER = {"stream": -10}
BLOCKED = Faults(loss=1.0)


def formed(number: int = 2, faults: Faults | None = None, **options: Any) -> Simulation:
    simulation = Simulation(faults=faults)
    simulation.start_all(number, transports=LOWER, **options)
    simulation.until(simulation.meshed, 5.0)
    simulation.run(5.0)
    return simulation


def peer(simulation: Simulation, name: str = "n1", other: str = "n2") -> Peer:
    return simulation.nodes[name].mesh.peers[simulation.nodes[other].key.node_id]


def scheme(simulation: Simulation, name: str = "n1", other: str = "n2") -> str:
    """Over which transport a node sends to another one; empty for none."""
    active = peer(simulation, name, other).paths.active
    return active.handle.transport.name if active is not None else ""


def both(simulation: Simulation, name: str) -> bool:
    return scheme(simulation, "n1", "n2") == scheme(simulation, "n2", "n1") == name


def block(simulation: Simulation, *directions: tuple[str, str], kind: str = "") -> None:
    """Let nothing pass from one node to another, over the first transport unless told."""
    for one, other in directions:
        simulation.network.set_faults(f"{one}{kind}", f"{other}{kind}", BLOCKED)


def unblock(simulation: Simulation, *directions: tuple[str, str], kind: str = "") -> None:
    for one, other in directions:
        simulation.network.set_faults(f"{one}{kind}", f"{other}{kind}", None)


def switches(simulation: Simulation, name: str) -> list[str]:
    """The endpoints that a node switched to, each with the reason."""
    return [
        f"{event.removeprefix('path changed: ')} {endpoint}"
        for event, endpoint in simulation.nodes[name].events
        if event.startswith("path changed")
    ]


THERE, BACK = ("n1", "n2"), ("n2", "n1")


@pytest.mark.parametrize("directions", [(THERE, BACK), (THERE,), (BACK,)])
def test_a_blocked_transport_is_left_within_5_s_and_taken_again_within_35_s(
    directions: tuple[tuple[str, str], ...],
) -> None:
    simulation = formed()
    assert both(simulation, "memory")
    flows = [simulation.flow("n1", "n2"), simulation.flow("n2", "n1")]
    simulation.run(5.0)
    begin = flows[0].sent
    block(simulation, *directions)
    simulation.until(lambda: both(simulation, "stream"), 5.0)
    simulation.run(30.0)
    assert both(simulation, "stream")
    for flow in flows:  # what was lost was lost within 5 s of the block
        assert max(flow.lost(), default=0) < begin + 5.0 / 0.05
    unblock(simulation, *directions)
    simulation.until(lambda: both(simulation, "memory"), 35.0)
    lost = [flow.lost() for flow in flows]
    simulation.run(30.0)
    assert [flow.lost() for flow in flows] == lost  # coming back costs nothing
    for name, other in (THERE, BACK):
        assert switches(simulation, name)[-2:] == [
            f"no answer {format_endpoint(f'{other}.stream', 4567, 'stream')}",
            f"recovered {format_endpoint(other, 4567)}",
        ]
        assert not any("peer down" in event for event, _ in simulation.nodes[name].events)


def test_an_idle_mesh_switches_too() -> None:
    simulation = formed()
    simulation.run(60.0)
    block(simulation, THERE, BACK)
    simulation.until(lambda: both(simulation, "stream"), 8.0)


def test_of_several_paths_that_are_blocked_together_none_is_tried_in_vain() -> None:
    """Two endpoints of the better transport die at once: the other transport is next."""
    simulation = Simulation()
    for name in ("n1", "n2"):
        simulation.start(name, transports={"second": 0, **LOWER})
    simulation.until(simulation.meshed, 5.0)
    simulation.run(20.0)
    flow = simulation.flow("n1", "n2")
    simulation.run(3.0)
    begin = flow.sent
    for kind in ("", ".second"):
        block(simulation, THERE, BACK, kind=kind)
    simulation.run(30.0)
    flow.stop()
    simulation.run(0.1)
    assert both(simulation, "stream")
    assert max(flow.lost()) < begin + 5.0 / 0.05


def test_a_path_that_comes_and_goes_does_not_draw_the_traffic_each_time() -> None:
    simulation = formed()
    simulation.flow("n1", "n2")
    before = len(switches(simulation, "n1"))
    for _ in range(30):  # five minutes
        block(simulation, THERE, BACK)
        simulation.run(7.0)
        unblock(simulation, THERE, BACK)
        simulation.run(3.0)
    assert len(switches(simulation, "n1")) - before <= 12


def test_loss_does_not_make_the_traffic_swing() -> None:
    simulation = formed(3, Faults(loss=0.2))
    for one, other in (("n1", "n2"), ("n2", "n3"), ("n3", "n1")):
        simulation.flow(one, other)
    before = sum(len(switches(simulation, name)) for name in simulation.nodes)
    simulation.run(300.0)
    after = sum(len(switches(simulation, name)) for name in simulation.nodes)
    # Eight probes or their answers in a row get lost now and then; each time costs two switches.
    assert after - before <= 6


def test_the_lower_priority_is_not_used_because_it_is_faster() -> None:
    simulation = Simulation(faults=Faults(delay=0.05))
    for name, other in (("n1", "n2"), ("n2", "n1")):
        simulation.network.set_faults(f"{name}.stream", f"{other}.stream", Faults(delay=0.001))
    simulation.start_all(2, transports=LOWER)
    simulation.until(simulation.meshed, 5.0)
    simulation.run(60.0)
    assert both(simulation, "memory")


def test_a_mesh_forms_over_whatever_transport_works() -> None:
    simulation = Simulation()
    for one, other in product(("n1", "n2", "n3"), repeat=2):
        block(simulation, (one, other))
    simulation.start("n1", transports=LOWER)
    for name in ("n2", "n3"):
        node = simulation.start(name, via=[], transports=LOWER)
        url = format_endpoint("n1.stream", 4567, "stream")
        node.mesh.joining.add_group("stream", [url], -1, lambda: 5.0)
        node.mesh.joining.run(simulation.network.now())
    simulation.until(simulation.meshed, 10.0)
    assert simulation.all_ping()
    assert scheme(simulation, "n2", "n3") == "stream"
    for one, other in product(("n1", "n2", "n3"), repeat=2):
        unblock(simulation, (one, other))
    simulation.until(lambda: scheme(simulation, "n2", "n3") == "memory", 35.0)


def test_sessions_are_renewed_over_the_transport_that_is_left() -> None:
    simulation = formed()
    block(simulation, THERE, BACK)
    flow = simulation.flow("n1", "n2", interval=0.5)
    simulation.run(5.0)
    flow.arrived()
    lost = len(flow.lost())
    simulation.run(400.0)
    assert len(flow.lost()) == lost


def test_an_endpoint_of_each_transport_is_tried_though_there_are_many() -> None:
    simulation = formed()
    many = tuple(format_endpoint(f"nowhere{number}", 1) for number in range(20))
    own = simulation.nodes["n2"].mesh.carriers.endpoints()
    peer(simulation).set_endpoints((*many, *own), simulation.network.now())
    assert peer(simulation).has_endpoint(format_endpoint("n2.stream", 4567, "stream"))


def test_a_broken_stream_is_opened_again() -> None:
    simulation = formed()
    node = simulation.nodes["n1"]
    stream = next(p for p in peer(simulation).paths if p.handle.transport.name == "stream")
    node.mesh.path_closed(stream.handle, "connection reset")
    assert stream not in list(peer(simulation).paths)
    simulation.run(15.0)
    block(simulation, THERE, BACK)
    simulation.until(lambda: both(simulation, "stream"), 8.0)
