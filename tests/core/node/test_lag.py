from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tunmesh.node.lag import Lag


def test_the_longest_of_late_counts() -> None:
    lag = Lag()
    assert lag.longest(0.0) == 0.0
    lag.observe(10.0, 10.5)
    lag.observe(11.0, 11.25)
    assert lag.longest(12.0) == 0.5
    assert lag.longest(55.0) == 0.5
    assert lag.longest(100.0) == 0.0


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 5)), max_size=60), st.floats(0, 1))
def test_it_is_a_lag_of_about_the_last_minute_and_none_of_the_last_half_is_missed(
    observed: list[tuple[float, float]], after: float
) -> None:
    lag, moment, seen = Lag(), 0.0, [(0.0, 0.0)]
    for pause, late in observed:
        moment += pause + late
        lag.observe(moment - late, moment)
        seen.append((moment, late))
    moment += after
    longest = lag.longest(moment)
    at_least = max((late for at, late in seen if at > moment - 30), default=0.0)
    at_most = max((late for at, late in seen if at >= moment - 75), default=0.0)
    assert at_least - 1e-9 <= longest <= at_most + 1e-9
