"""What can go wrong on the way of a datagram in the memory network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, TypeAlias


@dataclass(frozen=True)
class Faults:
    """How one direction between two hosts behaves.

    Attributes:
        delay: Seconds on the way.
        jitter: At most so many seconds more, drawn for each datagram. Datagrams that are sent less
            than this apart may overtake each other: this is how reordering is had.
        loss: Share of datagrams that are lost.
        duplicate: Share of datagrams that arrive twice.
        mtu: Bytes of the largest datagram that passes; larger ones vanish without notice.
    """

    delay: float = 0.001
    jitter: float = 0.0
    loss: float = 0.0
    duplicate: float = 0.0
    mtu: int | None = None

    @property
    def orderly(self) -> bool:
        """Whether all datagrams of one send share the same fate, but for the MTU."""
        return not (self.jitter or self.loss or self.duplicate)


NatKind: TypeAlias = Literal["full_cone", "restricted", "port_restricted", "symmetric"]


@dataclass
class _Mapping:
    """A port that the NAT opened to the outside for an endpoint inside."""

    inside: str
    outside: str
    used: float
    contacted: set[str] = field(default_factory=set)


@dataclass
class Nat:
    """A translator of endpoints (the kinds are those of RFC 3489, section 5).

    Made by `MemoryNetwork.add_nat`. Hosts behind the same one reach each other directly.

    Attributes:
        host: Its name outside.
        kind: To whom a mapping is open: ``full_cone`` to everybody, ``restricted`` to hosts and
            ``port_restricted`` to endpoints that were sent to; ``symmetric`` besides has a
            mapping of its own for each remote endpoint.
        timeout: Seconds without a datagram from inside after which a mapping is forgotten.
    """

    host: str
    kind: NatKind
    timeout: float
    format_endpoint: Callable[[str, int], str]
    _by_inside: dict[tuple[str, str], _Mapping] = field(default_factory=dict)
    _by_outside: dict[str, _Mapping] = field(default_factory=dict)
    _next_port: int = 20000

    def outbound(self, inside: str, remote: str, now: float) -> str:
        """The endpoint that the remote sees, opening a mapping if there is none."""
        key = (inside, remote if self.kind == "symmetric" else "")
        mapping = self._by_inside.get(key)
        if mapping is None or now - mapping.used > self.timeout:
            outside = self.format_endpoint(self.host, self._next_port)
            self._next_port += 1
            mapping = self._by_inside[key] = self._by_outside[outside] = _Mapping(
                inside, outside, now
            )
        mapping.used = now
        mapping.contacted.add(self._filter(remote))
        return mapping.outside

    def inbound(self, outside: str, remote: str, now: float) -> str | None:
        """The endpoint inside that a datagram is for; None if it is not let in."""
        mapping = self._by_outside.get(outside)
        if mapping is None or now - mapping.used > self.timeout:
            return None
        if self.kind != "full_cone" and self._filter(remote) not in mapping.contacted:
            return None
        return mapping.inside

    def forget(self) -> None:
        """Lose every mapping, as when the box restarts: the next datagrams have new ports."""
        self._by_inside.clear()
        self._by_outside.clear()

    def _filter(self, remote: str) -> str:
        return remote.rpartition(":")[0] if self.kind == "restricted" else remote
