from __future__ import annotations

import itertools
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.membership.gossip import Node, World
from tunmesh.membership.events import Added, Changed, Fresh, Removed, Stale
from tunmesh.membership.records import NodeRecord


@settings(max_examples=15)
@given(
    st.integers(0, 2**32),
    st.integers(5, 8),
    st.sampled_from([0.0, 0.2, 0.4]),
    st.sampled_from([0.0, 0.3]),
    st.sampled_from([0.01, 0.5]),
)
def test_any_gossip_ends_with_equal_records(
    seed: int, size: int, loss: float, duplicate: float, delay: float
) -> None:
    """Loss, duplicates, reordering, sessions that come and go, changes, leaving, a partition."""
    world = World(seed, loss=loss, duplicate=duplicate, delay=delay)
    nodes = [world.add(f"10.{i}.0.1/24") for i in range(size)]
    rng = Random(seed)
    for step in range(20):
        one, other = rng.sample(nodes, 2)
        choice = rng.random()
        if choice < 0.5:
            world.link(one, other)
        elif choice < 0.6:
            world.unlink(one, other)
        elif choice < 0.9:
            one.update(endpoints=(f"udp://192.0.2.1:{step}",))
        elif choice < 0.95:
            one.deaf = not one.deaf
        world.run(rng.uniform(0, 3))
    for node in nodes:
        node.deaf = False
    for one, other in itertools.pairwise(nodes):  # at least a chain
        world.link(one, other)
    if rng.random() < 0.5:
        world.loss = 0.0  # nobody repeats a goodbye
        leaver = nodes.pop()
        leaver.leave()
        world.run(1.0)
        world.loss = loss
    # A long chain with much loss takes its time; what matters is that it gets there.
    until = world.now + 600.0
    while not world.same() and world.now < until:
        world.run(10.0)
    assert world.same()
    for node in nodes:
        assert len(node.directory.records) == len(nodes) - 1
        assert _replay(node) == dict(node.directory.records)


def _replay(node: Node) -> dict[str, NodeRecord]:
    """The records as somebody knows them who only saw the events."""
    records: dict[str, NodeRecord] = {}
    stale: set[str] = set()
    for event in node.events:
        if isinstance(event, Added):
            assert event.record.node_id not in records
            records[event.record.node_id] = event.record
        elif isinstance(event, Changed):
            assert records[event.record.node_id] == event.previous
            records[event.record.node_id] = event.record
        elif isinstance(event, Removed):
            del records[event.node_id]
            stale.discard(event.node_id)
        elif isinstance(event, Stale):
            assert event.node_id in records
            assert event.node_id not in stale
            stale.add(event.node_id)
        elif isinstance(event, Fresh):
            stale.remove(event.node_id)
    for node_id in records:
        assert node.directory.live(node_id) == (node_id not in stale)
    return records


@pytest.mark.parametrize("small", [True, False])
def test_healed_partition_is_reconciled_by_digests(small: bool) -> None:
    """Both ways of comparing: a listing of everything, and by buckets."""
    world = World(5)
    size = 4 if small else 50
    sides = [[world.add(f"10.{s}.{i}.1/24") for i in range(size)] for s in range(2)]
    for side in sides:
        for node in side:
            for other in world.rng.sample(side, 3):
                if other is not node:
                    world.link(node, other)
    world.run(2.0)
    world.link(sides[0][0], sides[1][0])
    world.run(2.0)
    assert world.same()
    assert len(sides[0][1].directory.records) == 2 * size - 1
    # Now a change that every announcement misses.
    lonely = sides[1][1]
    world.loss = 1.0
    lonely.update(name="changed")
    world.run(1.0)
    world.loss = 0.0
    world.run(40.0)
    assert world.same()


def test_two_hundred_nodes_with_eight_sessions_each_converge_cheaply() -> None:
    world = World(7)
    nodes = [world.add(f"10.0.{i}.1/24") for i in range(200)]
    for node in nodes:
        for other in world.rng.sample(nodes, 4):
            if other is not node:
                world.link(node, other)
    world.run(1.5)
    assert world.same()
    assert all(len(node.directory.records) == 199 for node in nodes)
    assert world.messages < 150 * len(nodes)
    # Then it is quiet: digests only.
    before = world.messages
    world.run(10.0)
    assert world.messages - before < 20 * len(nodes)
    # And one change costs each node a few messages.
    before = world.messages
    nodes[0].update(name="changed")
    world.run(1.0)
    assert world.same()
    assert world.messages - before < 14 * len(nodes)


def test_runs_repeat() -> None:
    def run() -> tuple[int, list[list[str]]]:
        world = World(11, loss=0.2, duplicate=0.2)
        nodes = [world.add(f"10.{i}.0.1/24") for i in range(6)]
        world.mesh(*nodes)
        world.run(20.0)
        return world.messages, [[str(event) for event in node.events] for node in nodes]

    assert run() == run()
