"""The replay window of a keypair (RFC 6479 in purpose, with a byte for each counter)."""

from __future__ import annotations

from typing import Final

#: Counters from here on are neither sent nor accepted: a unit's header has 44 bits for them.
COUNTER_LIMIT: Final = 2**44 - 2**13


class ReplayWindow:
    """Which counters were received. `check` before decryption, `mark` after it.

    Attributes:
        highest: The largest counter marked, -1 if there is none.
    """

    SIZE: Final = 8192

    __slots__ = ("_seen", "highest")

    def __init__(self) -> None:
        self.highest = -1
        # A ring with one byte for each of the last SIZE counters; made on first use, as many
        # keypairs never receive anything.
        self._seen = bytearray()

    def check(self, counter: int) -> bool:
        """Whether a unit with this counter may be accepted."""
        highest = self.highest
        if counter > highest:
            return counter < COUNTER_LIMIT
        return counter > highest - 8192 and not self._seen[counter & 8191]

    def mark(self, counter: int) -> None:
        """Remember an authentic counter for which `check` holds."""
        ahead = counter - self.highest
        if ahead == 1 and self._seen:
            self.highest = counter
        elif ahead > 0:
            self._advance(ahead)
        self._seen[counter & 8191] = 1

    def _advance(self, ahead: int) -> None:
        """Move the window, forgetting the counters that fall out of it."""
        if ahead >= self.SIZE or not self._seen:
            self._seen = bytearray(self.SIZE)
        else:
            start = (self.highest + 1) % self.SIZE
            first = min(ahead, self.SIZE - start)
            self._seen[start : start + first] = bytes(first)
            self._seen[: ahead - first] = bytes(ahead - first)
        self.highest += ahead
