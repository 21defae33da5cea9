"""Multicast from this host: who gets it, and how much of it there may be."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tunmesh.dataplane.port import Port

#: Seconds for whose packets a group may send at once after a silence.
_BURST = 1.0


class GroupTraffic:
    """What this host sends to one group.

    Attributes:
        packets: Packets sent.
        bytes: Their bytes.
        replicas: Copies of them, one for each member.
        rate_limited: Packets that were too many.
    """

    __slots__ = ("_since", "_tokens", "bytes", "packets", "rate_limited", "replicas")

    def __init__(self) -> None:
        self.packets = self.bytes = self.replicas = self.rate_limited = 0
        self._tokens = 0.0
        self._since = float("-inf")

    def admit(self, packets: int, limit: int, now: float) -> bool:
        """Whether packets may be sent, at `limit` a second on average; 0 is no limit."""
        if limit:
            self._tokens = min(limit * _BURST, self._tokens + (now - self._since) * limit)
            self._since = now
            if self._tokens <= 0:
                self.rate_limited += packets
                return False
            self._tokens -= packets  # below zero too: a superpacket is not cut for this
        return True


class GroupHop:
    """Where packets of one source to one group go.

    Attributes:
        ports: The members.
        reason: Why they are dropped, if there are none.
        limit: Packets of the group that may be sent in a second, 0 for any number.
        traffic: Counts and limits the group.
    """

    __slots__ = ("limit", "ports", "reason", "traffic")

    def __init__(
        self, ports: tuple[Port, ...], reason: str, limit: int, traffic: GroupTraffic
    ) -> None:
        self.ports = ports
        self.reason = reason
        self.limit = limit
        self.traffic = traffic
