"""A thousand nodes in one process."""

from __future__ import annotations

import pytest

from tests.mesh.simulation import Simulation

NODES = 1000


@pytest.mark.timeout(240)  # 60 s on a machine that does nothing else
def test_a_thousand_nodes_all_hold_all_records() -> None:
    simulation = Simulation()
    simulation.start_all(NODES, gap=0.002)
    directories = [node.mesh.directory for node in simulation.nodes.values()]
    simulation.until(lambda: all(len(d.records) == NODES - 1 for d in directories), 30.0, step=0.5)
    peers = [len(node.mesh.peers) for node in simulation.nodes.values()]
    assert sum(peers) / NODES < 32  # about eight, and those that it began with
    # Any two reach each other, though few have a session.
    source = simulation.nodes["n500"]
    distant = next(name for name in simulation.nodes if name not in source.up_peers())
    assert simulation.recovery("n500", distant, 1.0) <= 1.0
