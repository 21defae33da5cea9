"""From status documents, one after another, to rates and their history. Contains no I/O."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tunmesh.admin.status import Status

#: Rates remembered of each peer.
DEPTH = 30
_BARS = "▁▂▃▄▅▆▇█"
_UNITS = ("bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s")


def _history() -> deque[float]:
    return deque(maxlen=DEPTH)


@dataclass
class Traffic:
    """What one peer received from and sent to this host: bits a second, the newest last."""

    received: deque[float] = field(default_factory=_history)
    sent: deque[float] = field(default_factory=_history)


class Rates:
    """The rates of a node.

    Attributes:
        peers: By node id.
        total: Of all peers together.
        drops: Packets dropped a second, by the reason.
    """

    def __init__(self) -> None:
        self.peers: dict[str, Traffic] = {}
        self.total = Traffic()
        self.drops: dict[str, float] = {}
        self._last: tuple[float, dict[str, tuple[int, int]], Mapping[str, int]] | None = None

    def add(self, status: Status, now: float) -> None:
        """Take the next document, got at a moment of a clock that only goes forward.

        The first one, and the first of a peer, only begin the count.
        """
        bytes_ = {peer.id: (peer.rx_bytes, peer.tx_bytes) for peer in status.peers}
        if self._last is not None and now > self._last[0]:
            then, before, drops = self._last
            seconds = now - then
            self.peers = {node_id: self.peers.get(node_id, Traffic()) for node_id in bytes_}
            sums = [0.0, 0.0]
            for node_id, (received, sent) in bytes_.items():
                was = before.get(node_id, (received, sent))
                rates = [
                    _rate(new, old, seconds) for new, old in zip((received, sent), was, strict=True)
                ]
                self.peers[node_id].received.append(rates[0])
                self.peers[node_id].sent.append(rates[1])
                sums = [total + rate for total, rate in zip(sums, rates, strict=True)]
            self.total.received.append(sums[0])
            self.total.sent.append(sums[1])
            self.drops = {
                reason: max(0, count - drops.get(reason, 0)) / seconds
                for reason, count in status.drops.items()
            }
        self._last = now, bytes_, status.drops


def _rate(new: int, old: int, seconds: float) -> float:
    """Bits a second; nothing if the count began anew, as after a restart."""
    return max(0, new - old) * 8 / seconds


def bits(rate: float) -> str:
    """A rate for a person: ``0 bit/s``, ``17.3 Mbit/s``."""
    if rate < 1000:
        return f"{rate:.0f} {_UNITS[0]}"
    unit = 0
    while rate >= 1000 and unit < len(_UNITS) - 1:
        rate /= 1000
        unit += 1
    return f"{rate:.1f} {_UNITS[unit]}"


def sparkline(values: Iterable[float], width: int) -> str:
    """The last values as bars, the largest of them the highest; of nothing, nothing."""
    shown = list(values)[-width:]
    highest = max(shown, default=0.0)
    if highest <= 0:
        return (_BARS[0] * len(shown)).rjust(width)
    top = len(_BARS) - 1
    return "".join(_BARS[round(value / highest * top)] for value in shown).rjust(width)
