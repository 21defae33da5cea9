"""What policies let pass of the packets from this host."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tunmesh.dataplane.groups import GroupHop
from tunmesh.dataplane.superpacket import VNET, measure
from tunmesh.dataplane.verdicts import JudgedHop, Memory, Verdicts, flow_number
from tunmesh.errors import BadPacket
from tunmesh.session.units import ITEM_PREFIX, PREFIX

if TYPE_CHECKING:
    from tunmesh.dataplane.claims import Claims
    from tunmesh.dataplane.inside import Hop, Run

#: Flows remembered; beyond it the memory is dropped and learned again.
_MOST_JUDGED = 65_536


class Judging:
    """Replaces the judged hops of runs by what policies say of each packet.

    Args:
        verdicts: The policies.
        claims: Who takes which packets to groups instead of the mesh: nobody decides about those.
        clock: The time in seconds.
    """

    def __init__(self, verdicts: Verdicts, claims: Claims, clock: Callable[[], float]) -> None:
        self._verdicts = verdicts
        self._claims = claims
        self._clock = clock
        self._memory: Memory = {}

    def forget(self) -> None:
        """Decide about every flow anew."""
        self._memory.clear()

    def judge(self, runs: list[Run], view: memoryview, longest: int) -> list[Run]:
        """The same frames in runs that lead to peers, to groups, or nowhere.

        Args:
            runs: Runs of frames.
            view: The buffer that they lie in.
            longest: Bytes that a run made of several frames may have.
        """
        now = self._clock()
        found: list[Run] = []
        for run in runs:
            hop, offset, end, _, _ = run
            if not isinstance(hop, JudgedHop):
                found.append(run)
                continue
            while offset < end:
                (word,) = PREFIX.unpack_from(view, offset)
                begin, packet = offset, offset + ITEM_PREFIX + VNET
                offset = packet - VNET + (word & 0xFFFFFF)
                fate = self._fate(hop, view[packet:offset], now)
                if view[packet - VNET + 1]:
                    packets, size = measure(view, packet, offset)
                else:
                    packets, size = 1, offset - packet
                if found and found[-1][0] is fate and found[-1][2] == begin:
                    _, first, _, before, bytes_before = found[-1]
                    if offset - first <= longest:
                        found[-1] = fate, first, offset, before + packets, bytes_before + size
                        continue
                found.append((fate, begin, offset, packets, size))
        return found

    def _fate(self, hop: JudgedHop, packet: memoryview, now: float) -> Hop:
        """Where a packet goes; a string is the reason of its drop."""
        try:
            key = hop.key, flow_number(packet)
        except BadPacket:
            return "bad_packet"
        if isinstance(hop.hop, GroupHop) and self._claims.find(packet) is not None:
            return hop.hop  # it is taken there; others of its flow may be judged
        known = self._memory.get(key)
        if known is not None and known[0] > now:
            return known[1] or hop.hop
        refusal = self._verdicts.decide(
            self._memory, _MOST_JUDGED, key, hop.source, hop.destination, hop.peer, "inside", now
        )
        return refusal or hop.hop
