"""What is shown of packets on their way to somebody who looks at them.

Nobody looks, usually, and then nothing of this is called: a tap takes the places of the methods
that forward and count. What was not opened, as a replayed datagram, is no packet and not shown;
neither is what the device refuses.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol, TypeAlias

from tunmesh.session.units import ITEM_PREFIX, PREFIX

if TYPE_CHECKING:
    from tunmesh.dataplane.groups import GroupHop
    from tunmesh.dataplane.port import Port
    from tunmesh.interfaces.tun import Buffer

#: Where packets go, once everybody has decided: to peers, to a group, or nowhere for a reason.
Way: TypeAlias = "tuple[Port, ...] | GroupHop | str"


class Tap(Protocol):
    """Looks at packets. What it is shown is valid only until it returns, and it must not raise."""

    def inside(self, way: Way, items: Buffer) -> None:
        """Frames from the device, with their prefixes, and where they go or why they do not."""

    def dropped_inside(self, reason: str, items: Buffer) -> None:
        """Frames from the device, with their prefixes, are dropped."""

    def outside(self, port: Port, frames: Sequence[Buffer]) -> None:
        """Frames of a peer are given to this host."""

    def dropped_outside(self, reason: str, port: Port, frames: Sequence[Buffer]) -> None:
        """Frames of a peer are dropped."""


def frames_of(items: Buffer) -> Iterator[memoryview]:
    """The frames behind their prefixes."""
    view = memoryview(items)
    offset = 0
    while offset < len(view):
        (word,) = PREFIX.unpack_from(view, offset)
        begin = offset + ITEM_PREFIX
        offset = begin + (word & 0xFFFFFF)
        yield view[begin:offset]
