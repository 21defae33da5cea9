"""Keeps copies of packets for somebody who captures them, in a buffer that has an end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING

from tunmesh.admin.records import Batch, Point, Record
from tunmesh.dataplane.groups import GroupHop
from tunmesh.dataplane.tap import frames_of

if TYPE_CHECKING:
    from tunmesh.dataplane.port import Port
    from tunmesh.dataplane.tap import Way
    from tunmesh.interfaces.tun import Buffer

_VNET = 10
#: Bytes of frames that may wait for the one who captures. Beyond it new ones are lost, and counted.
_MOST_BYTES = 8 << 20
#: What a small frame costs besides its bytes.
_RECORD = 200


class Capture:
    """A `tunmesh.dataplane.tap.Tap`.

    Args:
        points: Where to look.
        snap: Bytes of a packet to keep. Superpackets are kept whole, to be cut into packets later.
        wall_ns: Nanoseconds since 1970.
        name: Names a node by its id.
        wake: Called when there is something, after there was nothing.
    """

    def __init__(
        self,
        points: Collection[Point],
        snap: int,
        *,
        wall_ns: Callable[[], int],
        name: Callable[[str], str],
        wake: Callable[[], None],
    ) -> None:
        self._points = frozenset(points)
        self._keep = _VNET + snap
        self._wall_ns = wall_ns
        self._name = name
        self._wake = wake
        self._records: list[Record] = []
        self._size = 0
        self._lost: Counter[str] = Counter()

    def take(self) -> Batch:
        """What was seen since the last time."""
        records, self._records, self._size = self._records, [], 0
        return Batch(records, dict(self._lost))

    def inside(self, way: Way, items: Buffer) -> None:
        if "inside" in self._points:
            self._add("inside", frames_of(items), self._told(way), incoming=False)

    def dropped_inside(self, reason: str, items: Buffer) -> None:
        if "dropped" in self._points:
            comment = f"{reason}: from this host"
            self._add("dropped", frames_of(items), comment, incoming=False)

    def outside(self, port: Port, frames: Sequence[Buffer]) -> None:
        if "outside" in self._points:
            comment = f"from {self._name(port.node_id)}, delivered"
            self._add("outside", frames, comment, incoming=True)

    def dropped_outside(self, reason: str, port: Port, frames: Sequence[Buffer]) -> None:
        name = self._name(port.node_id)
        if "outside" in self._points:
            self._add("outside", frames, f"from {name}, dropped: {reason}", incoming=True)
        if "dropped" in self._points:
            self._add("dropped", frames, f"{reason}: from {name}", incoming=True)

    def _told(self, way: Way) -> str:
        if isinstance(way, str):
            return f"dropped: {way}"
        ports = way.ports if isinstance(way, GroupHop) else way
        if not ports:  # a policy may take it, which is seen later
            return "to a policy, or to nobody"
        return "to " + ", ".join(self._name(port.node_id) for port in ports)

    def _add(self, point: Point, frames: Iterable[Buffer], comment: str, *, incoming: bool) -> None:
        now = self._wall_ns()
        if not self._records:
            self._wake()
        for frame in frames:
            size = len(frame)
            superpacket = size > _VNET and frame[1]
            kept = bytes(frame if superpacket else frame[: self._keep])
            if self._size + len(kept) + _RECORD > _MOST_BYTES:
                self._lost[point] += 1
                continue
            self._size += len(kept) + _RECORD
            self._records.append(Record(point, now, incoming, comment, size, kept))
