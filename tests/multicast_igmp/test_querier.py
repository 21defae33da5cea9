"""General queries: a few at the start, then one every query interval."""

from __future__ import annotations

from tunmesh_multicast_igmp.querier import Querier, Timing


def test_the_timers_are_those_of_the_rfc() -> None:
    timing = Timing()
    assert (timing.robustness, timing.query_interval) == (2, 125.0)
    assert timing.startup_query_interval == 31.25
    assert timing.group_membership_interval == 2 * 125.0 + timing.query_response_interval


def test_queries_at_the_start_are_closer() -> None:
    querier = Querier(Timing(robustness=3, query_interval=100.0), 1000.0)
    sent = []
    for _ in range(6):
        now = querier.next_deadline()
        assert not querier.due(now - 0.001)
        assert querier.due(now)
        assert not querier.due(now)
        sent.append(now - 1000.0)
    assert sent == [0.0, 25.0, 50.0, 150.0, 250.0, 350.0]
