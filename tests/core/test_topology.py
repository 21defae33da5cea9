"""Which nodes keep sessions: the graph must hang together and be shallow."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunmesh.topology import chosen_peers


def ids(count: int, seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    return [rng.randbytes(16).hex() for _ in range(count)]


def graph(nodes: list[str], eager: int) -> dict[str, set[str]]:
    """Who has a session with whom, if everybody knows everybody."""
    sessions: dict[str, set[str]] = {node: set() for node in nodes}
    for node in nodes:
        for other in chosen_peers(node, nodes, eager):
            sessions[node].add(other)
            sessions[other].add(node)
    return sessions


def depth(sessions: dict[str, set[str]], start: str) -> int:
    """Steps until what one node says has reached all; fails if it does not."""
    reached = {start}
    edge = reached
    steps = 0
    while len(reached) < len(sessions):
        edge = set().union(*(sessions[node] for node in edge)) - reached
        assert edge
        reached |= edge
        steps += 1
    return steps


@pytest.mark.parametrize("known", [0, 1, 5, 9])
def test_in_a_small_mesh_all(known: int) -> None:
    own, *others = ids(1 + known)
    assert chosen_peers(own, others, 10) == frozenset(others)
    assert chosen_peers(own, [own, *others], 10) == frozenset(others)


def test_in_a_large_mesh_a_few() -> None:
    own, *others = ids(11)
    assert 3 <= len(chosen_peers(own, others, 10)) <= 4


def test_by_example() -> None:
    nodes = [f"{number:032x}" for number in range(256)]
    chosen = chosen_peers(nodes[250], nodes, 64)
    assert chosen == {nodes[(250 + distance) % 256] for distance in (1, 4, 16, 64)}


@given(st.integers(1, 200), st.integers(0, 99), st.integers(1, 64))
def test_choice_is_of_others_and_the_same_whatever_their_order(
    count: int, seed: int, eager: int
) -> None:
    own, *others = ids(1 + count, seed)
    chosen = chosen_peers(own, others, eager)
    assert chosen == chosen_peers(own, sorted(others), eager)
    assert chosen <= set(others)
    assert chosen
    assert len(chosen) <= max(eager, 4)
    successor = min((node for node in others if node > own), default=min(others))
    assert successor in chosen


@pytest.mark.parametrize(("count", "steps"), [(65, 6), (300, 7), (1000, 8)])
def test_the_graph_is_connected_and_shallow(count: int, steps: int) -> None:
    nodes = ids(count)
    sessions = graph(nodes, 64)
    assert max(depth(sessions, node) for node in nodes[:20]) <= steps
    assert max(map(len, sessions.values())) <= 20
    assert sum(map(len, sessions.values())) / count <= 8


@given(st.integers(2, 120), st.integers(0, 99), st.integers(1, 64))
def test_the_graph_is_connected_whatever_the_size(count: int, seed: int, eager: int) -> None:
    nodes = ids(count, seed)
    depth(graph(nodes, eager), nodes[0])
