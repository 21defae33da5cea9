"""Deadlines, by example and against a naive model."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunmesh.timers import Timers

INF = float("inf")


class Log:
    """What was called, and which earlier deadlines were told."""

    def __init__(self) -> None:
        self.called: list[tuple[str, float]] = []
        self.woken: list[float] = []
        self.timers = Timers(self.woken.append)

    def call(self, name: str) -> Callable[[float], None]:
        return lambda now: self.called.append((name, now))

    def schedule(self, name: str, deadline: float) -> None:
        self.timers.schedule(name, deadline, self.call(name))


def test_what_is_due_is_called_in_order_with_the_time() -> None:
    log = Log()
    for name, deadline in (("c", 3.0), ("a", 1.0), ("b", 2.0), ("d", 4.0)):
        log.schedule(name, deadline)
    assert log.timers.next_deadline() == 1.0
    log.timers.run(0.9)
    assert log.called == []
    log.timers.run(3.0)
    assert log.called == [("a", 3.0), ("b", 3.0), ("c", 3.0)]
    assert log.timers.next_deadline() == 4.0
    log.timers.run(9.0)
    log.timers.run(9.0)
    assert log.called[3:] == [("d", 9.0)]
    assert log.timers.next_deadline() == INF


def test_deadlines_of_one_time_are_called_in_the_order_of_planning() -> None:
    log = Log()
    for name in "cab":
        log.schedule(name, 1.0)
    log.timers.run(1.0)
    assert [name for name, _ in log.called] == ["c", "a", "b"]


def test_a_key_has_its_earliest_deadline_only() -> None:
    log = Log()
    log.schedule("a", 2.0)
    log.schedule("a", 3.0)
    assert log.timers.next_deadline() == 2.0
    log.schedule("a", 1.0)
    log.timers.run(1.0)
    assert log.called == [("a", 1.0)]
    log.timers.run(9.0)
    assert log.called == [("a", 1.0)]
    log.schedule("a", 10.0)
    assert log.timers.next_deadline() == 10.0


def test_a_cancelled_key_is_not_called_and_may_be_planned_later() -> None:
    log = Log()
    log.schedule("a", 1.0)
    log.schedule("b", 2.0)
    log.timers.cancel("a")
    log.timers.cancel("never planned")
    assert log.timers.next_deadline() == 2.0
    log.schedule("a", 3.0)
    log.timers.run(9.0)
    assert log.called == [("b", 9.0), ("a", 9.0)]


def test_what_a_call_makes_due_is_left_for_the_next_run() -> None:
    called: list[float] = []
    timers = Timers()

    def again(now: float) -> None:
        called.append(now)
        timers.schedule("again", now, again)

    timers.schedule("again", 1.0, again)
    timers.run(1.0)
    assert called == [1.0]
    timers.run(1.0)
    assert called == [1.0, 1.0]


def test_when_a_call_raises_the_others_stay_due() -> None:
    timers = Timers()
    called: list[str] = []

    def fail(_: float) -> None:
        raise ValueError("foreign")

    timers.schedule("a", 1.0, lambda _: called.append("a"))
    timers.schedule("bad", 2.0, fail)
    timers.schedule("c", 3.0, lambda _: called.append("c"))
    with pytest.raises(ValueError, match="foreign"):
        timers.run(5.0)
    assert called == ["a"]
    timers.run(5.0)
    assert called == ["a", "c"]


def test_only_an_earlier_deadline_wakes() -> None:
    log = Log()
    for name, deadline in (("a", 5.0), ("b", 7.0), ("c", 5.0), ("d", 3.0), ("d", 4.0)):
        log.schedule(name, deadline)
    assert log.woken == [5.0, 3.0]


def test_infinity_is_never() -> None:
    log = Log()
    log.schedule("a", INF)
    assert log.timers.next_deadline() == INF
    log.timers.run(1e12)
    assert log.called == []


steps = st.lists(
    st.tuples(
        st.sampled_from(["schedule", "schedule", "cancel", "run"]),
        st.sampled_from("abcd"),
        st.integers(0, 20),
    ),
    max_size=60,
)


@given(steps)
def test_against_a_naive_model(chosen: list[tuple[str, str, int]]) -> None:
    log = Log()
    model: dict[str, float] = {}
    for what, key, time in chosen:
        if what == "schedule":
            log.schedule(key, time)
            model[key] = min(model.get(key, INF), time)
        elif what == "cancel":
            log.timers.cancel(key)
            model.pop(key, None)
        else:
            log.called.clear()
            log.timers.run(time)
            due = {key for key, deadline in model.items() if deadline <= time}
            assert sorted(name for name, _ in log.called) == sorted(due)
            order = [model[name] for name, _ in log.called]
            assert order == sorted(order)
            for each in due:
                del model[each]
        assert log.timers.next_deadline() == min(model.values(), default=INF)
