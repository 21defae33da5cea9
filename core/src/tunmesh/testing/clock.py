"""A virtual clock: time passes only when a test says so, and what is due happens in order.

Two events of the same time happen in the order in which they were planned, so that a run with
the same seeds is the same run.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count
from typing import Any


class Timer:
    """A planned call. Calling `cancel` after it happened does nothing."""

    __slots__ = ("_args", "_function")

    def __init__(self, function: Callable[..., object], args: tuple[Any, ...]) -> None:
        self._function: Callable[..., object] | None = function
        self._args = args

    def cancel(self) -> None:
        """Do not make the call."""
        self._function = None
        self._args = ()

    def fire(self) -> None:
        """Make the call, once."""
        function, args = self._function, self._args
        self.cancel()
        if function is not None:
            function(*args)


class VirtualClock:
    """Time as an event heap.

    Args:
        start: The time at first. Not 0, so that a forgotten ``0.0`` is seen to be wrong.
    """

    def __init__(self, start: float = 1000.0) -> None:
        self._now = start
        self._order = count()
        self._heap: list[tuple[float, int, Callable[..., object], tuple[Any, ...]]] = []

    def now(self) -> float:
        """The time."""
        return self._now

    def call_at(self, when: float, function: Callable[..., object], *args: Any) -> Timer:
        """Plan a call; a time that has passed means as soon as the clock runs."""
        timer = Timer(function, args)
        self.post(when, timer.fire)
        return timer

    def post(self, when: float, function: Callable[..., object], *args: Any) -> None:
        """Like `call_at`, but cheaper, and it cannot be cancelled."""
        heapq.heappush(self._heap, (when, next(self._order), function, args))

    def next_event(self) -> float | None:
        """When the next call is planned (or was, before it was cancelled)."""
        return self._heap[0][0] if self._heap else None

    def run_until(self, deadline: float) -> None:
        """Let time pass up to `deadline`, making every call that falls due."""
        heap = self._heap
        while heap and heap[0][0] <= deadline:
            when, _, function, args = heapq.heappop(heap)
            self._now = max(self._now, when)
            function(*args)
        self._now = max(self._now, deadline)

    def advance(self, seconds: float) -> None:
        """Let so many seconds pass."""
        self.run_until(self._now + seconds)
