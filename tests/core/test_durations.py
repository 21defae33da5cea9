from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunmesh.durations import UNITS, Duration


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (2, 2.0),
        (0.25, 0.25),
        (0, 0.0),
        ("250ms", 0.25),
        ("10s", 10.0),
        ("1.5s", 1.5),
        ("5m", 300.0),
        ("1h", 3600.0),
        ("1d", 86400.0),
        ("10 s", 10.0),
        ("10s..20s", 10.0),
    ],
)
def test_the_low_end_in_seconds(value: str | float, seconds: float) -> None:
    assert float(Duration(value)) == seconds


@pytest.mark.parametrize(
    "value",
    ["", "5", "s", "-1s", "1w", "1s..", "..1s", "20s..10s", "1s..2s..3s", "१s"],
)
def test_other_texts_are_no_durations(value: str) -> None:
    with pytest.raises(ValueError, match=r"duration|range"):
        Duration(value)


@pytest.mark.parametrize("value", [-1, float("inf"), float("nan")])
def test_other_numbers_are_no_durations(value: float) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        Duration(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (120, "2m"),
        (90, "90s"),
        ("250ms", "250ms"),
        (86400, "1d"),
        (0, "0s"),
        ("10s..1m", "10s..1m"),
        (0.0001, "0.0001s"),
    ],
)
def test_the_text_is_in_the_largest_whole_unit(value: str | float, text: str) -> None:
    assert str(Duration(value)) == text
    assert repr(Duration(value)) == f'Duration("{text}")'


def test_a_plain_duration_draws_itself() -> None:
    assert Duration("3s").draw() == 3.0


def test_a_range_draws_inside_itself() -> None:
    drawn = [Duration("10s..20s").draw(random.Random(seed)) for seed in range(100)]
    assert all(10 <= value <= 20 for value in drawn)
    assert len(set(drawn)) > 90


def test_equal_durations_are_equal_whatever_their_text() -> None:
    assert Duration("120s") == Duration(120) == Duration("2m..120s")
    assert len({Duration("120s"), Duration("2m")}) == 1
    assert Duration(1) != Duration("1s..2s")
    assert Duration(1) != 1


@given(
    count=st.integers(1, 10**6),
    unit=st.sampled_from(sorted(UNITS)),
    more=st.integers(0, 10**6),
)
def test_the_text_of_a_duration_is_that_duration(count: int, unit: str, more: int) -> None:
    duration = Duration(f"{count}{unit}..{count + more}{unit}")
    assert Duration(str(duration)) == duration
