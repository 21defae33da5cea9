"""Which tokens were used before. Bounded, and no issuer can use it up for the others."""

from __future__ import annotations

from collections import Counter

#: Ids that are remembered, of all issuers and of one.
MOST = 65_536
MOST_OF_ONE = MOST // 8


class ReplayCache:
    """Remembers ids for a time.

    Args:
        life: Seconds.
        most: Ids in all.
        most_of_one: Ids of one issuer.
    """

    def __init__(self, life: float, *, most: int = MOST, most_of_one: int = MOST_OF_ONE) -> None:
        self._life = life
        self._most = most
        self._most_of_one = most_of_one
        self._expiries: dict[tuple[str, str], float] = {}  # oldest first: all live equally long
        self._of_issuer: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._expiries)

    def full_for(self, issuer: str) -> bool:
        """Whether no further id of an issuer can be remembered."""
        return len(self._expiries) >= self._most or self._of_issuer[issuer] >= self._most_of_one

    def add(self, issuer: str, token_id: str, now: float) -> bool:
        """Remember an id; False if it is remembered already, or cannot be."""
        self._expire(now)
        key = (issuer, token_id)
        if key in self._expiries or self.full_for(issuer):
            return False
        self._expiries[key] = now + self._life
        self._of_issuer[issuer] += 1
        return True

    def _expire(self, now: float) -> None:
        while self._expiries:
            key = next(iter(self._expiries))
            if self._expiries[key] > now:
                return
            del self._expiries[key]
            self._of_issuer[key[0]] -= 1
            if not self._of_issuer[key[0]]:
                del self._of_issuer[key[0]]
