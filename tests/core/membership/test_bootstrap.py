from __future__ import annotations

import math
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from tunmesh.membership.bootstrap import BootstrapGroup

A, B = "udp://a:1", "udp://b:1"


def satisfied(seeds: BootstrapGroup) -> bool:
    return seeds.satisfied


def exhausted(seeds: BootstrapGroup) -> bool:
    return seeds.exhausted


def group(*urls: str, retries: int = -1, interval: float = 5.0) -> BootstrapGroup:
    return BootstrapGroup("seeds", urls, retries, lambda: interval, Random(1))


def test_no_urls_needs_nothing() -> None:
    empty = group()
    assert satisfied(empty)
    assert not exhausted(empty)
    assert empty.due(0.0) == []
    assert empty.next_deadline == math.inf


def test_all_urls_are_tried_at_once_and_again_after_the_interval() -> None:
    seeds = group(A, B, A)
    assert sorted(seeds.due(0.0)) == [A, B]
    assert seeds.due(4.9) == []
    assert seeds.next_deadline == 5.0
    seeds.failed(A)
    seeds.failed(B)
    assert sorted(seeds.due(5.0)) == [A, B]
    assert not satisfied(seeds)


def test_one_answer_satisfies() -> None:
    seeds = group(A, B)
    seeds.due(0.0)
    seeds.answered(A, "n")
    assert satisfied(seeds)
    assert seeds.nodes == {"n"}
    assert seeds.due(100.0) == []
    assert seeds.next_deadline == math.inf


def test_starts_again_soon_after_all_its_nodes_vanished() -> None:
    seeds = group(A)
    seeds.due(0.0)
    seeds.answered(A, "n")
    seeds.answered(A, "m")
    seeds.node_gone("n", 10.0)
    seeds.node_gone("stranger", 10.0)
    assert satisfied(seeds)
    seeds.node_gone("m", 20.0)
    assert not satisfied(seeds)
    assert 20.0 <= seeds.next_deadline <= 20.5
    assert seeds.due(20.5) == [A]


def test_retries_count_rounds_after_the_first() -> None:
    seeds = group(A, retries=1)
    assert seeds.due(0.0) == [A]
    seeds.failed(A)
    assert not exhausted(seeds)
    assert seeds.due(5.0) == [A]
    assert not exhausted(seeds)
    seeds.failed(A)
    assert exhausted(seeds)
    assert seeds.next_deadline == math.inf
    assert seeds.due(100.0) == []


def test_last_round_ends_with_the_interval_if_nobody_says_so() -> None:
    seeds = group(A, retries=0)
    assert seeds.due(0.0) == [A]
    assert seeds.next_deadline == 5.0
    assert seeds.due(5.0) == []
    assert exhausted(seeds)


def test_late_answer_ends_exhaustion_and_renews_the_retries() -> None:
    seeds = group(A, retries=0)
    seeds.due(0.0)
    seeds.due(5.0)
    seeds.answered(A, "n")
    assert satisfied(seeds)
    assert not exhausted(seeds)
    seeds.node_gone("n", 10.0)
    assert seeds.due(11.0) == [A]


def test_url_that_leads_to_this_node_is_no_failure_but_is_tried_again() -> None:
    seeds = group(A, B)
    seeds.due(0.0)
    seeds.is_self(A)
    assert not satisfied(seeds)
    seeds.is_self(B)
    assert satisfied(seeds)
    assert sorted(seeds.due(5.0)) == [A, B]  # the balancer may choose another one now
    seeds.failed(B)
    assert not satisfied(seeds)
    seeds.answered(A, "n")
    assert satisfied(seeds)


@given(
    st.integers(-1, 3),
    st.lists(
        st.tuples(
            st.sampled_from(["due", "answered", "failed", "self", "gone"]),
            st.sampled_from([A, B]),
            st.floats(0, 10),
        ),
        max_size=40,
    ),
)
def test_against_a_model(retries: int, steps: list[tuple[str, str, float]]) -> None:
    seeds = group(A, B, retries=retries)
    now = 0.0
    last_round = -math.inf
    rounds = 0  # without an answer
    alive: set[str] = set()
    for action, url, pause in steps:
        now += pause
        node = f"node of {url}"
        if action == "due":
            urls = seeds.due(now)
            if urls:
                assert not alive
                assert now - last_round >= 5.0 or rounds == 0
                rounds += 1
                assert retries < 0 or rounds <= retries + 1
                last_round = now
            elif not alive and not seeds.exhausted and seeds.next_deadline != math.inf:
                assert seeds.next_deadline > now
        elif action == "answered":
            seeds.answered(url, node)
            alive.add(node)
            rounds = 0
        elif action == "failed":
            seeds.failed(url)
        elif action == "self":
            seeds.is_self(url)
        else:
            seeds.node_gone(node, now)
            if node in alive:
                alive.discard(node)
                rounds = 0
        assert seeds.nodes == alive
        assert not (seeds.satisfied and seeds.exhausted)
        assert seeds.satisfied or not alive


def test_other_urls_are_tried_at_once() -> None:
    seeds = group(A, retries=0)
    seeds.due(0.0)
    seeds.failed(A)
    assert exhausted(seeds)
    seeds.change([B, B], 0, lambda: 7.0, 1.0)
    assert seeds.due(1.0) == [B]
    assert seeds.urls == (B,)
    assert not exhausted(seeds)


def test_a_changed_group_keeps_its_nodes_and_forgets_what_was_asked() -> None:
    seeds = group(A, B)
    seeds.due(0.0)
    seeds.answered(A, "n")
    seeds.change([B], -1, lambda: 5.0, 1.0)
    assert seeds.nodes == {"n"}
    assert seeds.due(1.0) == []
    itself = group(A, B)
    itself.due(0.0)
    itself.is_self(A)
    itself.change([A], -1, lambda: 5.0, 1.0)
    assert satisfied(itself)


def test_another_interval_leaves_the_round_that_is_under_way() -> None:
    seeds = group(A)
    seeds.due(0.0)
    seeds.change([A], -1, lambda: 1.0, 0.5)
    assert seeds.next_deadline == 5.0
    assert seeds.due(5.0) == [A]
    assert seeds.next_deadline == 6.0
