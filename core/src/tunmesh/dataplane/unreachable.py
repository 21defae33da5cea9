"""Tells this host why its packets were dropped, as a router would: by ICMP errors, not too many."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunmesh import icmp
from tunmesh.session.limits import TokenBucket
from tunmesh.session.units import ITEM_PREFIX, PREFIX

if TYPE_CHECKING:
    from collections.abc import Callable

    from tunmesh.counters import Drops
    from tunmesh.dataplane.port import Control
    from tunmesh.interfaces.tun import Buffer, Tun

_VNET = 10
#: Errors a second, and at once (RFC 1812, section 4.3.2.8; RFC 4443, section 2.4 (f)).
_RATE = 100.0
_BURST = 50.0


class Unreachable:
    """Writes ICMP errors to the device.

    Args:
        tun: The device.
        control: Knows the routes.
        drops: Where those are counted that it refuses.
        clock: The time in seconds.
    """

    def __init__(
        self, tun: Tun, control: Control, drops: Drops, clock: Callable[[], float]
    ) -> None:
        self._tun = tun
        self._control = control
        self._drops = drops
        self._clock = clock
        self._bucket = TokenBucket(_RATE, _BURST, clock())

    def tell(self, items: Buffer, reason: str) -> None:
        """Answer packets that were dropped.

        Args:
            items: Frames with their prefixes.
            reason: One of `icmp.ANSWERED`.
        """
        now = self._clock()
        view = memoryview(items)
        offset = 0
        while offset < len(view) and self._bucket.available(now) >= 1:
            (word,) = PREFIX.unpack_from(view, offset)
            begin = offset + ITEM_PREFIX + _VNET
            offset = begin - _VNET + (word & 0xFFFFFF)
            error = icmp.unreachable(view[begin:offset], reason)
            if error is not None and not self._of_broadcast(error):
                self._bucket.take(now)
                self._drops["tun_error"] += self._tun.write_batch([bytes(_VNET) + error])

    def _of_broadcast(self, error: bytes) -> bool:
        """Whether an error is about a broadcast; it seems to come from where the packet went to.

        Broadcasts that waited for a peer in vain are not told from other packets before.
        """
        return error[0] >> 4 == 4 and self._control.fib().is_broadcast(error[12:16])
