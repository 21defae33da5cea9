"""Many nodes in one process."""

from __future__ import annotations

import pytest

from tests.mesh.simulation import Simulation


@pytest.mark.parametrize(
    "count",
    [
        pytest.param(250, marks=pytest.mark.timeout(120)),
        pytest.param(1000, marks=(pytest.mark.long, pytest.mark.timeout(600))),
    ],
)
def test_all_nodes_of_a_large_mesh_hold_all_records(count: int) -> None:
    simulation = Simulation()
    simulation.start_all(count, gap=0.002)
    directories = [node.mesh.directory for node in simulation.nodes.values()]
    simulation.until(lambda: all(len(d.records) == count - 1 for d in directories), 30.0, step=0.5)
    peers = [len(node.mesh.peers) for node in simulation.nodes.values()]
    assert sum(peers) / count < 32  # about eight, and those that it began with
    # Any two reach each other, though few have a session.
    source = simulation.nodes["n100"]
    distant = next(name for name in simulation.nodes if name not in source.up_peers())
    assert simulation.recovery("n100", distant, 1.0) <= 1.0
