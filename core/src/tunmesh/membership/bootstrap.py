"""Bootstrap groups: URLs to try until a node answers, and again when all that did are gone."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from random import Random

#: A group whose nodes vanished starts again within this many seconds, at a random moment, so that
#: the nodes of a large mesh do not all knock at the same instant.
_AGAIN_WITHIN = 0.5


class BootstrapGroup:
    """One group.

    A URL may be a load balancer: each round tries all URLs, and whoever answers counts. A URL
    that led to this node itself is no failure, and is tried again like the others.

    Args:
        name: The group's name in the configuration.
        urls: What to try.
        retries: Rounds after the first one until the group gives up; -1 for ever.
        interval: Draws the seconds between two rounds.
        rng: Shuffles.
    """

    def __init__(
        self,
        name: str,
        urls: Iterable[str],
        retries: int,
        interval: Callable[[], float],
        rng: Random,
    ) -> None:
        self.name = name
        self.urls = tuple(dict.fromkeys(urls))
        self._retries = retries
        self._interval = interval
        self._rng = rng
        self._nodes: set[str] = set()
        self._selves: set[str] = set()
        self._pending: set[str] = set()
        self._rounds = 0
        self._round_at = -math.inf

    def change(
        self, urls: Iterable[str], retries: int, interval: Callable[[], float], now: float
    ) -> None:
        """Try other URLs, or otherwise; nodes that were reached count further."""
        urls = tuple(dict.fromkeys(urls))
        if urls != self.urls:
            self.urls = urls
            self._pending.intersection_update(urls)
            self._selves.intersection_update(urls)
            self._rounds, self._round_at = 0, now
        self._retries = retries
        self._interval = interval

    @property
    def nodes(self) -> frozenset[str]:
        """The live nodes that the group reached."""
        return frozenset(self._nodes)

    @property
    def satisfied(self) -> bool:
        """Whether the group has what it is for: a live node, or nobody else to reach."""
        return bool(self._nodes) or self._selves.issuperset(self.urls)

    @property
    def exhausted(self) -> bool:
        """Whether all rounds failed."""
        return self._used_up and not self._pending and not self.satisfied

    @property
    def next_deadline(self) -> float:
        """When `due` should be asked again."""
        if self._nodes or not self.urls or (self._used_up and not self._pending):
            return math.inf
        return self._round_at

    def due(self, now: float) -> list[str]:
        """The URLs to try now: all of the group, or none."""
        if self._nodes or now < self._round_at:
            return []
        self._pending.clear()
        if self._used_up:
            return []
        self._rounds += 1
        self._round_at = now + self._interval()
        self._pending.update(self.urls)
        return self._rng.sample(self.urls, len(self.urls))

    def answered(self, url: str, node_id: str) -> None:
        """A node that is not this one answered at a URL."""
        self._pending.discard(url)
        self._selves.discard(url)
        self._nodes.add(node_id)
        self._rounds = 0

    def failed(self, url: str) -> None:
        """Nobody answered at a URL in this round."""
        self._pending.discard(url)
        self._selves.discard(url)

    def is_self(self, url: str) -> None:
        """A URL led to this node itself."""
        self._pending.discard(url)
        self._selves.add(url)

    def node_gone(self, node_id: str, now: float) -> None:
        """A node is gone; after the last one the group starts again."""
        if node_id in self._nodes:
            self._nodes.remove(node_id)
            if not self._nodes:
                self._rounds = 0
                self._round_at = now + self._rng.uniform(0, _AGAIN_WITHIN)

    @property
    def _used_up(self) -> bool:
        return 0 <= self._retries < self._rounds
