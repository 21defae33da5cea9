"""When to ask this host for its groups: RFC 3376, section 8; RFC 3810, section 9.

Contains no I/O; the time is an argument. The node is the only querier of its own device, so there
is no election (section 6.6.2), and it speaks the newest versions only: an older query would make
the host forget its source filters.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Timing:
    """The timers by their names in the RFCs, in seconds.

    Attributes:
        robustness: How often what may be lost is repeated (8.1).
        query_interval: Between general queries (8.2).
        query_response_interval: Within which the host answers (8.3). The 10 seconds of the RFC
            spread the answers of many hosts; here is one.
    """

    robustness: int = 2
    query_interval: float = 125.0
    query_response_interval: float = 0.5

    @property
    def group_membership_interval(self) -> float:
        """After which what was not reported again is over (8.4)."""
        return self.robustness * self.query_interval + self.query_response_interval

    @property
    def startup_query_interval(self) -> float:
        """Between the queries of the start (8.6), of which there are `robustness` (8.7)."""
        return self.query_interval / 4


class Querier:
    """Plans general queries.

    Args:
        timing: The timers.
        now: The time; the first query is due at once.
    """

    def __init__(self, timing: Timing, now: float) -> None:
        self._timing = timing
        self._startup = timing.robustness
        self._due = now

    def set_timing(self, timing: Timing, now: float) -> None:
        """Go on with other timers; the next query is due no later than by them."""
        self._timing = timing
        self._due = min(self._due, now + timing.query_interval)

    def due(self, now: float) -> bool:
        """Whether a general query is to be sent; if so, the next one is planned."""
        if now < self._due:
            return False
        self._startup = max(0, self._startup - 1)
        timing = self._timing
        pause = timing.startup_query_interval if self._startup else timing.query_interval
        self._due = now + pause
        return True

    def next_deadline(self) -> float:
        """When the next general query is due."""
        return self._due
