"""Which nodes to keep a session with.

In a small mesh, with all. In a large one with a few that make a connected graph of low diameter:
on the ring of node ids the successors at distances 1, n^(1/4), n^(2/4) and n^(3/4). As many come
from the other side, so that a node has about eight sessions, and what is said reaches everybody
in a few steps. Sessions for packets are made when packets want them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

_FINGERS = 4


def chosen_peers(own_id: str, others: Iterable[str], eager: int) -> frozenset[str]:
    """The nodes of `others` to keep a session with, seen from `own_id`."""
    nodes = [node_id for node_id in others if node_id != own_id]
    if len(nodes) < eager:
        return frozenset(nodes)
    nodes.sort()
    start = bisect_left(nodes, own_id)
    size = len(nodes)
    distances = {round((size + 1) ** (finger / _FINGERS)) for finger in range(_FINGERS)}
    return frozenset(nodes[(start + distance - 1) % size] for distance in distances)
