"""The replay window: numbered cases, whole windows, and a set as the model."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunmesh.session.replay import COUNTER_LIMIT, ReplayWindow

SIZE = ReplayWindow.SIZE
L = COUNTER_LIMIT

#: In this order on one window; the cases of the Linux kernel's WireGuard (selftest/counter.c).
CASES = [
    (0, True),
    (1, True),
    (1, False),
    (9, True),
    (8, True),
    (7, True),
    (7, False),
    (SIZE, True),
    (SIZE - 1, True),
    (SIZE - 1, False),
    (SIZE - 2, True),
    (2, True),
    (2, False),
    (SIZE + 16, True),
    (3, False),
    (SIZE + 16, False),
    (SIZE * 4, True),
    (SIZE * 4 - (SIZE - 1), True),
    (10, False),
    (SIZE * 4 - SIZE, False),
    (SIZE * 4 - (SIZE + 1), False),
    (SIZE * 4 - (SIZE - 2), True),
    (SIZE * 4 + 1 - SIZE, False),
    (0, False),
    (L, False),
    (L - 1, True),
    (L, False),
    (L - 1, False),
    (L - 2, True),
    (L + 1, False),
    (L + 2, False),
    (L - 2, False),
    (L - 3, True),
    (0, False),
]


def accept(window: ReplayWindow, counter: int) -> bool:
    if not window.check(counter):
        return False
    window.mark(counter)
    return True


def test_numbered_cases() -> None:
    window = ReplayWindow()
    for number, (counter, expected) in enumerate(CASES):
        assert accept(window, counter) is expected, number


@pytest.mark.parametrize(
    ("counters", "after"),
    [
        (range(1, SIZE), [(0, True), (0, False)]),
        (range(2, SIZE + 1), [(1, True), (0, False)]),
        (range(SIZE - 1, -1, -1), [(0, False), (SIZE, True)]),
        (range(SIZE, 0, -1), [(0, False)]),
        (range(SIZE - 1, 0, -1), [(SIZE, True), (0, False)]),
        (range(SIZE - 1, 0, -1), [(0, True), (SIZE, True)]),
    ],
)
def test_whole_windows(counters: Iterable[int], after: list[tuple[int, bool]]) -> None:
    window = ReplayWindow()
    for counter in counters:
        assert accept(window, counter)
    for counter, expected in after:
        assert accept(window, counter) is expected


def test_highest() -> None:
    window = ReplayWindow()
    assert window.highest == -1
    for counter, highest in ((5, 5), (3, 5), (6, 6), (6 + 3 * SIZE, 6 + 3 * SIZE)):
        assert accept(window, counter)
        assert window.highest == highest


@given(
    st.lists(
        st.one_of(
            st.integers(0, 40),
            st.integers(SIZE - 20, SIZE + 20),
            st.integers(3 * SIZE - 20, 3 * SIZE + 20),
            st.integers(L - 20, L + 20),
        ),
        max_size=120,
    )
)
def test_against_a_set(counters: list[int]) -> None:
    window, seen = ReplayWindow(), set[int]()
    for counter in counters:
        highest = max(seen, default=-1)
        expected = counter < L and counter > highest - SIZE and counter not in seen
        assert accept(window, counter) is expected
        if expected:
            seen.add(counter)


@given(st.integers(0, 2**40), st.lists(st.integers(-SIZE - 2, SIZE + 2), max_size=60))
def test_against_a_set_while_moving(start: int, steps: list[int]) -> None:
    window, seen, counter = ReplayWindow(), set[int](), start
    for step in steps:
        counter = max(0, counter + step)
        expected = counter > max(seen, default=-1) - SIZE and counter not in seen
        assert accept(window, counter) is expected
        if expected:
            seen.add(counter)
