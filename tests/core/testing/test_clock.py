from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tunmesh.testing import VirtualClock

TIMES = st.floats(0, 100, allow_nan=False)


@given(st.lists(TIMES, max_size=20), TIMES)
def test_calls_are_made_in_order_and_only_when_due(times: list[float], deadline: float) -> None:
    clock = VirtualClock(0.0)
    made: list[tuple[float, int]] = []
    for number, when in enumerate(times):
        clock.call_at(when, lambda number=number: made.append((clock.now(), number)))
    clock.run_until(deadline)
    due = sorted((when, number) for number, when in enumerate(times) if when <= deadline)
    assert made == due
    assert clock.now() == deadline
    later = [when for when in times if when > deadline]
    assert clock.next_event() == min(later, default=None)


def test_a_call_may_plan_and_cancel_others() -> None:
    clock = VirtualClock(0.0)
    made: list[str] = []
    second = clock.call_at(2, made.append, "second")

    def first() -> None:
        made.append("first")
        second.cancel()
        clock.call_at(clock.now() - 1, made.append, "overdue")
        clock.post(3, made.append, "third")

    timer = clock.call_at(1, first)
    clock.advance(2)
    assert made == ["first", "overdue"]
    timer.cancel()
    clock.advance(1)
    assert made == ["first", "overdue", "third"]
    clock.run_until(1)  # the past: nothing happens
    assert clock.now() == 3


def test_a_timer_fires_once() -> None:
    made: list[int] = []
    timer = VirtualClock().call_at(0, made.append, 1)
    timer.fire()
    timer.fire()
    assert made == [1]
