"""Flows that policies decide about one by one: by protocol and ports, not by addresses alone.

Nothing here is on the way of a packet unless a policy wants it. Then the flow of a pair of
addresses leads to a `JudgedHop`, and what a packet of it may do is remembered under a larger key:
the pair and a number made of protocol and ports.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from ipaddress import ip_address
from typing import TYPE_CHECKING, Literal, TypeAlias

from tunmesh.errors import BadPacket
from tunmesh.interfaces.policy import Direction, Flow
from tunmesh.packet import Buffer, transport_untrusted

if TYPE_CHECKING:
    from tunmesh.dataplane.groups import GroupHop
    from tunmesh.dataplane.port import Port

#: Why a flow is dropped: a policy does not want it, or failed to say.
Refusal: TypeAlias = Literal["denied", "error"]
#: Asks one policy: why the flow is dropped, None if it is not; and for how many seconds that holds.
Judge: TypeAlias = Callable[[Flow, Direction], tuple[Refusal | None, float]]
#: What is remembered of flows: until when, and why they are dropped, by the pair of addresses and
#: the flow's number.
Memory: TypeAlias = dict[tuple[int | bytes, int], tuple[float, Refusal | None]]

#: Protocols whose headers begin with both ports: TCP, UDP, DCCP, SCTP, UDP-Lite.
_WITH_PORTS = frozenset({6, 17, 33, 132, 136})
#: Of an IPv4 packet without options: first byte, flags and offset, protocol, both ports.
_PLAIN4 = struct.Struct("!B5xHxB10xI")
_PLAIN4_SIZE = 24
_FRAGMENTED = 0x3FFF
_FRAGMENT = 1 << 40


def flow_number(packet: Buffer) -> int:
    """What tells the flows of one pair of addresses apart.

    ::

        fragment 1 bit | protocol u8 | source port u16 | destination port u16

    Ports of fragments are 0, those of the first one too: so that all of a packet have one fate.

    Raises:
        BadPacket: The headers do not fit in the packet.
    """
    if len(packet) >= _PLAIN4_SIZE:
        first, fragmented, protocol, ports = _PLAIN4.unpack_from(packet)
        if first == 0x45 and not fragmented & _FRAGMENTED and protocol in _WITH_PORTS:
            number: int = protocol << 32 | ports
            return number
    protocol, offset, fragment = transport_untrusted(packet)
    if fragment:
        return _FRAGMENT | protocol << 32
    if protocol not in _WITH_PORTS:
        return protocol << 32
    if len(packet) < offset + 4:
        raise BadPacket(f"protocol {protocol} without its ports")
    return protocol << 32 | int.from_bytes(packet[offset : offset + 4], "big")


class JudgedHop:
    """Where the flows of a pair of addresses go, if policies let them.

    Attributes:
        key: The pair.
        source: Their source address.
        destination: Their destination address.
        hop: The peer or the group.
        peer: Id of the only peer that takes them, else empty.
    """

    __slots__ = ("destination", "hop", "key", "peer", "source")

    def __init__(
        self,
        key: int | bytes,
        source: bytes,
        destination: bytes,
        hop: tuple[Port, ...] | GroupHop,
    ) -> None:
        self.key = key
        self.source = source
        self.destination = destination
        self.hop = hop
        self.peer = hop[0].node_id if isinstance(hop, tuple) and len(hop) == 1 else ""


class Verdicts:
    """The policies that decide about flows; false if there is none."""

    __slots__ = ("_judges",)

    def __init__(self) -> None:
        self._judges: tuple[Judge, ...] = ()

    def __bool__(self) -> bool:
        return bool(self._judges)

    def add(self, judge: Judge) -> None:
        """Let a policy decide too."""
        self._judges = (*self._judges, judge)

    def decide(
        self,
        memory: Memory,
        most: int,
        key: tuple[int | bytes, int],
        source: bytes,
        destination: bytes,
        peer: str,
        direction: Direction,
        now: float,
    ) -> Refusal | None:
        """Ask about a flow that is not remembered, or not any longer, and remember it.

        Args:
            memory: Where it is remembered.
            most: Flows in there; beyond it the memory is dropped and learned again.
            key: Of the flow: the pair of addresses, and its number.
            source: Its source address.
            destination: Its destination address.
            peer: The node at the other end, as in `Flow`.
            direction: Where it comes from.
            now: The time.

        Returns:
            Why its packets are dropped, None if all policies let them pass.
        """
        number = key[1]
        flow = Flow(
            ip_address(source),
            ip_address(destination),
            number >> 32 & 0xFF,
            number >> 16 & 0xFFFF,
            number & 0xFFFF,
            fragment=number >= _FRAGMENT,
            peer=peer,
        )
        until, refusal = float("inf"), None
        for judge in self._judges:
            refusal, seconds = judge(flow, direction)
            if refusal is not None:
                until = now + seconds
                break
            until = min(until, now + seconds)
        if len(memory) >= most:
            memory.clear()
        memory[key] = until, refusal
        return refusal
