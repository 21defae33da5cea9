"""What a peer's traffic was carried by: packets and bytes for each transport.

The data plane counts a peer's packets, whatever carries them. What was counted while a transport's
path was the active one is that transport's: exact for what is sent; what is received may come along
another path for a moment around a switch. It costs nothing for a packet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from tunmesh.dataplane import Port


class Traffic(NamedTuple):
    """Packets of IP, and their bytes."""

    rx_packets: int = 0
    rx_bytes: int = 0
    tx_packets: int = 0
    tx_bytes: int = 0


class Carried:
    """The traffic of one peer by transport.

    Args:
        port: Counts it.
    """

    def __init__(self, port: Port) -> None:
        self._port = port
        self._transport = ""
        self._settled = Traffic()
        self._sums: dict[str, Traffic] = {}

    def switch(self, transport: str) -> None:
        """From now on a path of this transport is the active one."""
        self._sums = self.traffic()
        self._settled = self._counted()
        self._transport = transport

    def traffic(self) -> dict[str, Traffic]:
        """What each transport has carried so far."""
        sums = dict(self._sums)
        counted = self._counted()
        if self._transport and counted != self._settled:
            before = sums.get(self._transport, Traffic())
            added = zip(before, counted, self._settled, strict=True)
            sums[self._transport] = Traffic(*(old + new - last for old, new, last in added))
        return sums

    def _counted(self) -> Traffic:
        port = self._port
        return Traffic(port.rx_packets, port.rx_bytes, port.tx_packets, port.tx_bytes)
