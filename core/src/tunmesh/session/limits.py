"""Token buckets that bound what strangers can make this node do."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final


class TokenBucket:
    """Allows `rate` actions a second on average and `burst` at once.

    Args:
        rate: Tokens a second.
        burst: Tokens at most, and at the start.
        now: The time.
    """

    __slots__ = ("_burst", "_rate", "_tokens", "_updated")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._updated = now

    def available(self, now: float) -> float:
        """Tokens there are."""
        if now > self._updated:
            self._tokens = min(self._burst, self._tokens + (now - self._updated) * self._rate)
            self._updated = now
        return self._tokens

    def take(self, now: float, amount: float = 1.0) -> bool:
        """Take so many tokens, if there are as many."""
        if self.available(now) < amount:
            return False
        self._tokens -= amount
        return True


class SourceLimiter:
    """A token bucket for each source, in a table of bounded size.

    A source whose bucket is full again is as good as unknown and makes room. Beyond that the
    table grows no further: new sources are refused, but for those known otherwise.
    """

    #: As WireGuard: 20 a second, 5 at once.
    RATE: Final = 20.0
    BURST: Final = 5.0
    SIZE: Final = 4096

    __slots__ = ("_buckets",)

    def __init__(self) -> None:
        # Least recently used first, hence the fullest first, nearly.
        self._buckets: OrderedDict[bytes, TokenBucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, source: bytes, now: float, *, known: bool = False) -> bool:
        """Whether a source may act once more.

        Args:
            source: What identifies it.
            now: The time.
            known: Whether it belongs to a peer, so that a full table does not refuse it.
        """
        bucket = self._buckets.get(source)
        if bucket is None:
            self.expire(now)
            if len(self._buckets) >= self.SIZE:
                return known
            bucket = self._buckets[source] = TokenBucket(self.RATE, self.BURST, now)
        self._buckets.move_to_end(source)
        return bucket.take(now)

    def expire(self, now: float) -> None:
        """Forget the sources whose buckets are full again."""
        while self._buckets:
            source, bucket = next(iter(self._buckets.items()))
            if bucket.available(now) < self.BURST:
                return
            del self._buckets[source]
