"""Whether a request for a session is new, or a recording of an old one."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

_MAX_TIMESTAMPS: Final = 16384


class Freshness:
    """The newest timestamp of each initiator.

    Clocks go wrong, so a timestamp that is not newer only means that the initiator has to meet
    a challenge. The challenge depends on the timestamp to exceed, which its acceptance changes:
    each holds once.

    Args:
        wall_ns: Nanoseconds since 1970.
    """

    __slots__ = ("_accepted", "_floor")

    def __init__(self, wall_ns: Callable[[], int]) -> None:
        # Timestamp of the last request accepted, and when that was; least recent first.
        self._accepted: OrderedDict[bytes, tuple[int, float]] = OrderedDict()
        # For unknown initiators: what was recorded before this process started is no news, and
        # neither is what was forgotten since.
        self._floor = max(0, wall_ns() - 1)

    def reference(self, static: bytes) -> int:
        """What the timestamp of an initiator has to exceed."""
        accepted = self._accepted.get(static)
        return self._floor if accepted is None else accepted[0]

    def accepted_at(self, static: bytes) -> float:
        """When a request of that initiator was last accepted; minus infinity if never."""
        accepted = self._accepted.get(static)
        return float("-inf") if accepted is None else accepted[1]

    def accept(self, static: bytes, timestamp: int, now: float) -> None:
        """Note an accepted request; its timestamp may be older if it met a challenge."""
        self._accepted[static] = (timestamp, now)
        self._accepted.move_to_end(static)
        if len(self._accepted) > _MAX_TIMESTAMPS:
            _, (forgotten, _) = self._accepted.popitem(last=False)
            self._floor = max(self._floor, forgotten)
