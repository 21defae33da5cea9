from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tunmesh.identity.replays import ReplayCache


def test_an_id_is_remembered_for_its_life_and_for_its_issuer() -> None:
    cache = ReplayCache(60.0)
    assert cache.add("a", "1", 0.0)
    assert not cache.add("a", "1", 59.9)
    assert cache.add("b", "1", 59.9)
    assert cache.add("a", "1", 60.0)
    assert len(cache) == 2


def test_it_is_bounded_for_all_and_for_each() -> None:
    cache = ReplayCache(60.0, most=5, most_of_one=3)
    assert [cache.add("a", str(number), 0.0) for number in range(4)] == [True, True, True, False]
    assert cache.full_for("a")
    assert not cache.full_for("b")
    assert [cache.add("b", str(number), 0.0) for number in range(3)] == [True, True, False]
    assert len(cache) == 5
    assert cache.add("a", "later", 61.0)
    assert len(cache) == 1


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3), st.floats(0, 30))))
def test_it_agrees_with_a_plain_model(uses: list[tuple[int, int, float]]) -> None:
    cache = ReplayCache(60.0)
    accepted: dict[tuple[int, int], float] = {}
    now = 0.0
    for issuer, token, step in uses:
        now += step
        key = (issuer, token)
        fresh = key not in accepted or accepted[key] + 60.0 <= now
        assert cache.add(str(issuer), str(token), now) is fresh
        if fresh:
            accepted[key] = now
