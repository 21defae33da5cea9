"""Copies of packets in a buffer that has an end."""

from __future__ import annotations

import pytest

from tests.core.fakes import frame, tcp_superframe, unit_of
from tunmesh.admin.records import POINTS, decode_batch, encode_batch
from tunmesh.dataplane import Port
from tunmesh.dataplane.groups import GroupHop, GroupTraffic
from tunmesh.mesh.capturing import Capture

A, B = Port("a" * 32), Port("b" * 32)
SMALL = frame("10.42.1.1", "10.42.1.2", bytes(100))


class Bench:
    def __init__(self, *points: str, snap: int = 65535) -> None:
        self.woken = 0
        self.capture = Capture(
            [point for point in POINTS if point in points or not points],
            snap,
            wall_ns=lambda: 7,
            name=lambda node_id: node_id[:1],
            wake=self._wake,
        )

    def _wake(self) -> None:
        self.woken += 1


def test_comments() -> None:
    bench = Bench()
    capture, items = bench.capture, unit_of(SMALL)
    capture.inside((A, B), items)
    capture.inside("no_route", items)
    capture.dropped_inside("no_route", items)
    capture.inside(GroupHop((A,), "no_group", 0, GroupTraffic()), items)
    capture.inside(GroupHop((), "no_group", 0, GroupTraffic()), items)
    capture.outside(A, [SMALL])
    capture.dropped_outside("spoofed_source", B, [SMALL])
    records = capture.take().records
    assert [(record.point, record.comment) for record in records] == [
        ("inside", "to a, b"),
        ("inside", "dropped: no_route"),
        ("dropped", "no_route: from this host"),
        ("inside", "to a"),
        ("inside", "to a policy, or to nobody"),
        ("outside", "from a, delivered"),
        ("outside", "from b, dropped: spoofed_source"),
        ("dropped", "spoofed_source: from b"),
    ]
    assert [record.incoming for record in records] == [False] * 5 + [True] * 3
    assert {record.frame for record in records} == {SMALL}
    assert {record.time_ns for record in records} == {7}
    assert bench.woken == 1
    assert capture.take().records == []
    capture.inside("loopback", items)
    assert bench.woken == 2


@pytest.mark.parametrize(("point", "number"), [("inside", 1), ("outside", 2), ("dropped", 2)])
def test_only_the_chosen_point(point: str, number: int) -> None:
    capture = Bench(point).capture
    capture.inside("no_route", unit_of(SMALL))
    capture.dropped_inside("no_route", unit_of(SMALL))
    capture.outside(A, [SMALL])
    capture.dropped_outside("misrouted", A, [SMALL])
    assert [record.point for record in capture.take().records] == [point] * number


def test_packets_are_cut_and_superpackets_are_not() -> None:
    capture = Bench(snap=20).capture
    large = tcp_superframe("10.42.1.1", "10.42.1.2", bytes(5000), 1400)
    capture.inside((A,), unit_of(SMALL, large))
    small, whole = capture.take().records
    assert (len(small.frame), small.length) == (30, len(SMALL))
    assert (len(whole.frame), whole.length) == (len(large), len(large))


def test_what_has_no_room_is_counted() -> None:
    capture = Bench().capture
    for _ in range(100_000):
        capture.inside((A,), unit_of(SMALL))
    batch = decode_batch(encode_batch(capture.take()))
    assert len(batch.records) + batch.lost["inside"] == 100_000
    assert sum(len(record.frame) for record in batch.records) < 8 << 20
    capture.inside((A,), unit_of(SMALL))
    assert len(capture.take().records) == 1
