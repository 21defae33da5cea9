"""The largest datagram that a path carries, found by authenticated probes (RFC 8899).

::

    steady ──a probe of the size in use stays away, or a hint──► judging
       ▲ ▲                                                         │  │
       │ └─────────────── one of that size is answered ────────────┘  │ none is, smaller ones are
       │                                                              ▼
       └──────── nothing left to learn ◄──────────── searching from a size that was answered
                                                     (also every ten minutes, for more)

A size is given up only if twelve probes of it in a row stay away while smaller ones, sent at the
same moments, are answered: loss and overload take both. Nothing that comes from outside the
session can make a path smaller. Contains no I/O.
"""

from __future__ import annotations

import enum
from typing import Final

#: Datagrams that common underlays carry: what UDP leaves of an MTU of 1124, 1280, 1300, 1380,
#: 1400, 1420, 1460, 1480, 1492 and 1500 bytes, for IPv6 and IPv4.
_USUAL: Final = (
    1076, 1096, 1232, 1252, 1272, 1332, 1352, 1372, 1392, 1412, 1432, 1444, 1452, 1464, 1472,
)  # fmt: skip
#: Sizes to fall back to: what nearly every tunnel leaves, and what every IPv4 host must take.
_FALLBACKS: Final = (1072, 508)
#: Rounds of probes before a size is given up: with a fifth lost each way one in 200,000 is lost
#: so often in a row.
_JUDGING_ROUNDS: Final = 12
#: Answers to smaller probes that it takes to believe that the size is to blame.
_EVIDENCE: Final = 8
#: Tries of a size while searching; a wrong guess costs little and is mended later.
_TRIES: Final = 5
#: Sizes probed at a time while searching.
_WIDTH: Final = 6
#: Least time between two rounds, and least time for an answer.
_JUDGING_GAP: Final = 0.08
_SEARCH_GAP: Final = 0.05
_PATIENCE: Final = 0.15
#: A larger size is looked for again after this.
_RAISE_AFTER: Final = 600.0
_MOST_OUTSTANDING: Final = 128


class _Phase(enum.Enum):
    STEADY = enum.auto()
    JUDGING = enum.auto()
    SEARCHING = enum.auto()


class PathMtu:
    """The search for one path.

    Args:
        largest: Bytes of the largest datagram to try, and what is believed at first.
        now: The time.

    Attributes:
        size: Bytes of the largest datagram that may be sent.
        checked_at: When it was last seen to that the size in use passes.
    """

    def __init__(self, largest: int, now: float) -> None:
        self.size = largest
        self._largest = largest
        self._phase = _Phase.STEADY
        self._deadline = float("inf")
        self._raise_at = now + _RAISE_AFTER
        self._outstanding: dict[bytes, int] = {}
        self._awaited: bytes | None = None  # a probe of the size in use while steady
        self.checked_at = float("-inf")
        self._round = 0
        self._evidence: dict[int, int] = {}
        self._candidates: list[int] = []
        self._high = largest + 1  # the smallest size that did not pass

    @property
    def steady(self) -> bool:
        """Whether nothing is being looked for."""
        return self._phase is _Phase.STEADY

    def next_deadline(self) -> float:
        """When `due` has something to say; infinity if it waits for a check."""
        return self._deadline

    def check(self, now: float, rtt: float | None) -> list[int]:
        """Look whether the size in use passes; the sizes to probe now."""
        if self._phase is not _Phase.STEADY:
            return []
        if now >= self._raise_at:
            self._raise_at = now + _RAISE_AFTER
            if self.size < self._largest:
                self._search(now, self._largest + 1)
                return self.due(now, rtt, now)
        if self._awaited is None:
            self.checked_at = now
            self._deadline = now + max(_PATIENCE, 3 * (rtt or 0.0))
            return [self.size]
        return []

    def doubt(self, now: float) -> None:
        """Something says that the size in use is too large; that may be a lie."""
        if self._phase is _Phase.STEADY:
            self._judge(now)

    def sent(self, token: bytes, size: int) -> None:
        """A probe that was asked for was sent."""
        while len(self._outstanding) >= _MOST_OUTSTANDING:
            del self._outstanding[next(iter(self._outstanding))]
        self._outstanding[token] = size
        if self._phase is _Phase.STEADY:
            self._awaited = token

    def answered(self, token: bytes, now: float) -> bool:
        """A probe was answered; False if it is not one of these."""
        size = self._outstanding.pop(token, None)
        if size is None:
            return False
        if size > self.size:
            self.size = size
            if self._phase is _Phase.SEARCHING and not self._open_candidates():
                self._narrow(now)
        elif size < self.size:
            self._evidence[size] = self._evidence.get(size, 0) + 1
        if size >= self.size and self._phase is not _Phase.SEARCHING:
            self._rest()
        return True

    def due(self, now: float, rtt: float | None, heard: float) -> list[int]:
        """The sizes to probe now.

        Args:
            now: The time.
            rtt: Of the path.
            heard: When the path answered last, whatever the size.
        """
        if now < self._deadline:
            return []
        if self._phase is _Phase.STEADY:
            silent = heard < self.checked_at  # then it is not the size that is to blame
            self._rest()
            if silent:
                return []
            self._judge(now)
        if self._phase is _Phase.JUDGING:
            return self._judging(now, rtt)
        return self._searching(now, rtt)

    # ------------------------------------------------------------------ phases

    def _rest(self) -> None:
        self._phase = _Phase.STEADY
        self._deadline = float("inf")
        self._awaited = None

    def _judge(self, now: float) -> None:
        self._phase = _Phase.JUDGING
        self._round = 0
        self._evidence.clear()
        self._deadline = now

    def _judging(self, now: float, rtt: float | None) -> list[int]:
        if self._round < _JUDGING_ROUNDS:
            self._round += 1
            last = self._round == _JUDGING_ROUNDS
            self._deadline = now + (max(_PATIENCE, 2 * (rtt or 0.0)) if last else _JUDGING_GAP)
            return [self.size, *self._fallbacks()]
        for size in self._fallbacks():
            if self._evidence.get(size, 0) >= _EVIDENCE:
                high, self.size = self.size, size
                self._raise_at = now + _RAISE_AFTER
                self._search(now, high)
                return self._searching(now, rtt)
        self._rest()
        return []

    def _fallbacks(self) -> list[int]:
        return [size for size in _FALLBACKS if size < self.size]

    def _search(self, now: float, high: int) -> None:
        self._phase = _Phase.SEARCHING
        self._high = high
        self._narrow(now)

    def _searching(self, now: float, rtt: float | None) -> list[int]:
        if self._round >= _TRIES:
            self._high = min(self._open_candidates(), default=self._high)
            self._narrow(now)
            if self._phase is _Phase.STEADY:
                return []
        self._round += 1
        self._deadline = now + max(_SEARCH_GAP, 1.5 * (rtt or 0.0))
        return self._open_candidates()

    def _open_candidates(self) -> list[int]:
        return [size for size in self._candidates if size > self.size]

    def _narrow(self, now: float) -> None:
        """Choose the sizes to try between what passes and what does not."""
        low, high = self.size, self._high
        usual = [size for size in (*_USUAL, self._largest) if low < size < high]
        if not usual:
            usual = list(range(low + 1, high))
        if not usual:
            self._rest()
            return
        step = max(1, -(-len(usual) // _WIDTH))
        self._candidates = usual[::-1][::step]
        self._round = 0
        self._deadline = now
