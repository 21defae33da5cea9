"""Ways to a peer through other nodes: had at hand when the direct ones fail, let go afterwards.

A relay is a carrier like any other: session and packets stay end to end. Whether it can reach the
peer is found out by probes, or by handshakes while there is no session.

Contains no I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tunmesh.interfaces.transport import PathHandle
    from tunmesh.peering.path import Path
    from tunmesh.peering.paths import Paths

#: Scheme of the endpoints of such paths; no transport has it.
SCHEME = "relay"
#: Relays tried at a time.
_AT_A_TIME = 3
#: One that did not answer for so long gives way to the next.
_TRIED_FOR = 4.0
#: Least time between two looks for further ones.
_INTERVAL = 1.0
#: When a direct path works for so long, relays are let go.
_LET_GO = 30.0


def is_relayed(endpoint: str) -> bool:
    """Whether an endpoint is reached through another node."""
    return endpoint.startswith(f"{SCHEME}://")


class Relayed:
    """The relayed paths of one peer.

    Args:
        paths: All of its paths.
        candidates: Tells ways through other nodes, best first.
    """

    def __init__(self, paths: Paths, candidates: Callable[[], list[PathHandle]]) -> None:
        self._paths = paths
        self._candidates = candidates
        self._sought_at = float("-inf")
        self._turn = 0

    def _all(self) -> Iterator[Path]:
        return (path for path in self._paths if is_relayed(path.handle.endpoint))

    @property
    def needed(self) -> bool:
        """Whether no direct path carries the traffic beyond doubt."""
        active = self._paths.active
        return active is None or active.suspect or is_relayed(active.handle.endpoint)

    def seek(self, now: float) -> None:
        """Have some relays tried, others than those that were in vain."""
        if now < self._sought_at + _INTERVAL:
            return
        self._sought_at = now
        for path in self._all():
            if path.state != "up" and path.since < now - _TRIED_FOR:
                self._paths.forget(path)
        candidates = self._candidates()
        room = _AT_A_TIME - sum(1 for _ in self._all())
        for number in range(len(candidates)):
            handle = candidates[(self._turn + number) % len(candidates)]
            if room > 0 and self._paths.get(handle) is None:
                self._paths.ensure(handle, now)
                self._turn += 1
                room -= 1

    def tidy(self, now: float) -> None:
        """Let relays go that are not needed any longer."""
        if not self.needed and now - self._paths.since > _LET_GO:
            for path in self._all():
                self._paths.forget(path)
