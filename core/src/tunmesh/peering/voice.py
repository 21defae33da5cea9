"""What is said to a peer beside packets: items, sealed and sent.

Contains no I/O but the transports' synchronous `send`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunmesh.peering.path import Path, probe_reply_untrusted
from tunmesh.session.units import CONTROL, ITEM_PREFIX, PROBE, PROBE_REPLY, TAG_SIZE, Sealer, item

if TYPE_CHECKING:
    from tunmesh.dataplane import Port
    from tunmesh.interfaces.transport import PathHandle
    from tunmesh.peering.channel import Channel
    from tunmesh.session.keypair import Keypair


class Voice:
    """Speaks to one peer, while there is a keypair to seal with.

    Args:
        port: Has the keypair.
        sealer: Seals and sends.
    """

    def __init__(self, port: Port, sealer: Sealer) -> None:
        self._port = port
        self._sealer = sealer
        self._overruns = 0

    def item(self, handle: PathHandle, kind: int, body: bytes) -> None:
        """Send an item that fits one datagram, or that shall see whether it does."""
        self._send(handle, item(kind, body), ITEM_PREFIX + len(body) + TAG_SIZE)

    def probe(self, path: Path, body: bytes) -> None:
        """Send a probe."""
        self.item(path.handle, PROBE, body)

    def answer(self, keypair: Keypair, handle: PathHandle, probe: bytes) -> None:
        """Answer a probe, with what was received so far under a keypair.

        Raises:
            BadPacket: It is malformed.
        """
        missed = max(keypair.replay.highest + 1 - keypair.rx_units, 0)
        overruns = handle.transport.overruns()
        reply = probe_reply_untrusted(
            probe,
            keypair.local_index,
            keypair.rx_expected + missed,
            keypair.rx_got,
            overrun=overruns != self._overruns,
        )
        self._overruns = overruns
        self.item(handle, PROBE_REPLY, reply)

    def control(self, channel: Channel, path: Path, now: float) -> None:
        """Send what the channel has; small bodies share a datagram."""
        room = path.slice_size - TAG_SIZE
        items = b""
        for body in channel.bodies_to_send(now):
            more = item(CONTROL, body)
            if items and len(items) + len(more) > room:
                self._send(path.handle, items, path.slice_size)
                items = b""
            items += more
        if items:
            self._send(path.handle, items, path.slice_size)

    def _send(self, handle: PathHandle, items: bytes, slice_size: int) -> None:
        keypair = self._port.tx_keypair
        if keypair is not None:
            self._sealer.send(keypair, items, handle, slice_size)
