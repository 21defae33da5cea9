"""By how much the event loop is late: how long what is due has to wait."""

from __future__ import annotations

#: The longest lag of the last one to two of these, in seconds, is what counts.
_WINDOW = 30.0


class Lag:
    """The longest lag of late."""

    def __init__(self) -> None:
        self._current = self._before = 0.0
        self._since = float("-inf")

    def observe(self, due: float, now: float) -> None:
        """Something that was due came to its turn."""
        self._turn(now)
        self._current = max(self._current, now - due)

    def longest(self, now: float) -> float:
        """Seconds."""
        self._turn(now)
        return max(self._current, self._before)

    def _turn(self, now: float) -> None:
        if now >= self._since + _WINDOW:
            late = now >= self._since + 2 * _WINDOW
            self._before = 0.0 if late else self._current
            self._current = 0.0
            self._since = now
