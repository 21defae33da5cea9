"""Control packets that policies take: IGMP, MLD and their like. They never cross the mesh."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

from tunmesh.errors import BadPacket
from tunmesh.interfaces.tun import Buffer
from tunmesh.packet import HOP_BY_HOP, transport_untrusted

#: Takes a claimed packet, which is valid only until the call returns.
Take: TypeAlias = Callable[[memoryview], None]

_ICMPV6 = 58
#: IPv6 next headers behind which ICMPv6 may come: the extension headers, and ICMPv6 itself.
_BEFORE_ICMPV6 = frozenset({HOP_BY_HOP, 43, 44, 51, _ICMPV6, 60, 135, 139, 140})


class Claims:
    """Who takes which control packets.

    Attributes:
        suspects: Protocol of IPv4, or next header of IPv6, of every packet that may be claimed:
            what has another one is not worth a closer look.
    """

    __slots__ = ("_icmpv6", "_protocols", "suspects")

    def __init__(self) -> None:
        self.suspects: frozenset[int] = frozenset()
        self._protocols: dict[int, Take] = {}
        self._icmpv6: dict[int, Take] = {}

    def add(self, protocols: Iterable[int], icmpv6: Iterable[int], take: Take) -> None:
        """Let packets of IP protocols, and ICMPv6 messages of some types, be taken."""
        self._protocols.update(dict.fromkeys(protocols, take))
        self._icmpv6.update(dict.fromkeys(icmpv6, take))
        self.suspects = frozenset(self._protocols)
        if self._icmpv6:
            self.suspects |= _BEFORE_ICMPV6

    def find(self, packet: Buffer) -> Take | None:
        """Who takes a packet, None if nobody does; its IP header is known to be whole."""
        if packet[0] >> 4 == 4:
            return self._protocols.get(packet[9])
        try:
            protocol, offset, fragment = transport_untrusted(packet)
        except BadPacket:
            return None
        if protocol != _ICMPV6 or not self._icmpv6:
            return self._protocols.get(protocol)
        if fragment:
            # Where the type stands is unsure. Of those with hop-by-hop options, which MLD has and
            # nothing else, none shall be mistaken for ordinary traffic.
            return next(iter(self._icmpv6.values())) if packet[6] == HOP_BY_HOP else None
        return self._icmpv6.get(packet[offset]) if offset < len(packet) else None
