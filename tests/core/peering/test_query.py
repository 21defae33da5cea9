"""Key queries: who is behind a URL."""

from __future__ import annotations

import random

import pytest

from tests.core.fakes import RecordingTransport
from tests.core.peering.services import MiddleRandom
from tunmesh.membership.bootstrap import BootstrapGroup
from tunmesh.peering.query import Queries

URL = "test://seed:1"


class Bench:
    """Queries that are numbered from 100."""

    def __init__(self) -> None:
        self.transport = RecordingTransport()
        self.made = 100
        self.attempts: list[int] = []
        self.queries = Queries(
            self._make, self.transport.adopt, self.transport.release, MiddleRandom(1)
        )
        self.group = BootstrapGroup("seeds", [URL], 0, lambda: 5.0, random.Random(1))
        self.group.due(0.0)

    def _make(self, now: float, attempt: int) -> tuple[int, bytes]:
        self.made += 1
        self.attempts.append(attempt)
        return self.made, b"query %d" % self.made

    def start(self, endpoint: str = "test://there:1", now: float = 0.0) -> None:
        self.queries.start(self.group, URL, self.transport.connect(endpoint), now)

    def run(self, until: float) -> list[float]:
        """Send what is due; the times at which something was."""
        times = []
        while (now := self.queries.next_deadline()) <= until:
            before = len(self.transport.sends)
            self.queries.handle_timer(now)
            if len(self.transport.sends) > before:
                times.append(round(now, 3))
        return times


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_query_is_sent_at_once_and_answered(bench: Bench) -> None:
    bench.start()
    handle = bench.transport.connect("test://there:1")
    assert bench.queries.next_deadline() == 0.0
    assert bench.transport.adopted == [handle]
    bench.queries.handle_timer(0.0)
    assert bench.transport.datagrams == [b"query 101"]
    assert bench.transport.sends[0].handle is handle
    query = bench.queries.answered(101)
    assert query is not None
    assert (query.group, query.url, query.handle) == (bench.group, URL, handle)
    assert bench.transport.adopted == []
    assert bench.queries.next_deadline() == float("inf")
    bench.queries.handle_timer(99.0)
    assert len(bench.transport.sends) == 1
    assert not bench.group.exhausted  # whether the answer is of use is not the queries' matter


def test_an_answer_to_any_try_counts_once(bench: Bench) -> None:
    bench.start()
    bench.run(1.0)
    assert bench.made == 104
    assert bench.queries.answered(102) is not None
    for index in (101, 102, 103, 104, 7):
        assert bench.queries.answered(index) is None


def test_tries_and_giving_up(bench: Bench) -> None:
    bench.start()
    assert bench.run(100.0) == [0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 2.5, 3.5, 4.5]
    assert bench.group.exhausted
    assert bench.transport.adopted == []
    assert bench.queries.answered(101) is None
    assert bench.queries._by_index == {}


def test_nothing_is_sent_before_its_time(bench: Bench) -> None:
    bench.start(now=5.0)
    bench.queries.handle_timer(4.9)
    assert bench.transport.sends == []
    bench.queries.handle_timer(5.0)
    bench.queries.handle_timer(5.2)
    assert len(bench.transport.sends) == 1


def test_an_endpoint_is_asked_once_at_a_time(bench: Bench) -> None:
    bench.start()
    bench.start()
    bench.start("test://elsewhere:1")
    bench.queries.handle_timer(0.0)
    assert bench.transport.datagrams == [b"query 101", b"query 102"]
    assert len(bench.transport.adopted) == 2
    assert bench.queries.answered(102) is not None
    assert len(bench.transport.adopted) == 1
    bench.start("test://elsewhere:1", now=0.1)
    assert len(bench.transport.adopted) == 2
