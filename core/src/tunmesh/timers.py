"""Deadlines in one heap, on whatever clock the caller has."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Hashable
from itertools import count


class Timers:
    """At most one pending deadline for each key, the earliest that was asked for.

    Args:
        wake: Called when the next deadline has become earlier.
    """

    def __init__(self, wake: Callable[[float], None] = lambda _: None) -> None:
        self._wake = wake
        self._due: dict[Hashable, float] = {}
        self._heap: list[tuple[float, int, Hashable, Callable[[float], None]]] = []
        self._order = count()

    def schedule(self, key: Hashable, deadline: float, callback: Callable[[float], None]) -> None:
        """Call `callback(now)` at `deadline`, unless the key is due earlier anyway."""
        if deadline >= self._due.get(key, float("inf")):
            return
        earliest = self._heap[0][0] if self._heap else float("inf")
        self._due[key] = deadline
        heapq.heappush(self._heap, (deadline, next(self._order), key, callback))
        if deadline < earliest:
            self._wake(deadline)

    def cancel(self, key: Hashable) -> None:
        """Forget a key's deadline."""
        self._due.pop(key, None)

    def next_deadline(self) -> float:
        """The earliest deadline, infinity if there is none."""
        heap = self._heap
        while heap and self._due.get(heap[0][2]) != heap[0][0]:
            heapq.heappop(heap)
        return heap[0][0] if heap else float("inf")

    def run(self, now: float) -> None:
        """Call what is due. What that makes due is left for the next run.

        When a call raises, the others are still due.
        """
        last = next(self._order)
        while self.next_deadline() <= now and self._heap[0][1] < last:
            _, _, key, callback = heapq.heappop(self._heap)
            del self._due[key]
            callback(now)
