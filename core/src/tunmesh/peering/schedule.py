"""When something unanswered is sent again."""

from __future__ import annotations

import random

#: Seconds between tries. Short at first: at 20 % loss each way 99 % succeed within 4.5 s, where
#: a fixed second of retransmission would need three times as long.
_DELAYS = (0.0, 0.25, 0.25, 0.5, 0.5, 0.5, 0.5, 1.0, 1.0, 1.0, 1.0, 2.0)
_LATER = 5.0
_JITTER = 0.2


def retry_delay(attempt: int, rng: random.Random) -> float:
    """Seconds from try number `attempt` (from 0) to the one before it, with jitter."""
    delay = _DELAYS[attempt] if attempt < len(_DELAYS) else _LATER
    return delay * rng.uniform(1 - _JITTER, 1 + _JITTER)
