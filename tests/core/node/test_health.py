from __future__ import annotations

from tunmesh.node.health import health, registered
from tunmesh.testing import MemoryNetwork
from tunmesh.testing.nodes import SimulatedNode


def checks(
    node: SimulatedNode, *, failure: str = "", lag: float = 0.0, grace: bool = False
) -> set[str]:
    """The names of the checks that fail."""
    found = health(node.mesh, failure=failure, lag=lag, grace=grace)
    assert set(found) == {"device", "loop", "registered", "transports"}
    assert all(check.detail for check in found.values())
    return {name for name, check in found.items() if not check.ok}


def test_a_seed_needs_nobody() -> None:
    node = SimulatedNode(MemoryNetwork(), "one", ["10.42.0.1/16"])
    assert checks(node) == set()
    assert registered(node.mesh).detail == "no other node is needed"


def test_whoever_knows_a_url_needs_somebody_there_but_not_at_first() -> None:
    network = MemoryNetwork()
    node = SimulatedNode(network, "one", ["10.42.0.1/16"], bootstrap=["memory://two:4567"])
    network.clock.advance(20.0)
    assert checks(node) == {"registered"}
    assert checks(node, grace=True) == set()
    assert registered(node.mesh).detail == "nobody answers at the URLs of seeds"
    two = SimulatedNode(network, "two", ["10.42.0.2/16"])
    network.clock.advance(10.0)
    assert checks(node) == checks(two) == set()
    assert registered(node.mesh).detail == "1 peers up"
    two.kill()
    network.clock.advance(10.0)
    assert checks(node) == {"registered"}


def test_a_url_that_leads_to_itself_is_enough() -> None:
    network = MemoryNetwork()
    node = SimulatedNode(network, "one", ["10.42.0.1/16"], bootstrap=["memory://one:4567"])
    network.clock.advance(10.0)
    assert checks(node) == set()


def test_a_node_that_ends_or_does_not_keep_up_is_not_healthy() -> None:
    node = SimulatedNode(MemoryNetwork(), "one", ["10.42.0.1/16"])
    assert checks(node, failure="device lost: gone") == {"device"}
    assert checks(node, lag=6.0) == {"loop"}
