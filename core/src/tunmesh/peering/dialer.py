"""When which handshake initiation is sent where.

Contains no I/O but the transports' synchronous `send`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunmesh.peering.schedule import retry_delay

if TYPE_CHECKING:
    from tunmesh.interfaces.transport import PathHandle
    from tunmesh.peering.endpoints import Endpoints
    from tunmesh.peering.paths import Paths
    from tunmesh.peering.services import Services

#: Tries of a rekey on the active path alone, before all endpoints are tried.
_REKEY_ALONE = 3
#: Tries after which other ways are taken: through other nodes, and whoever answers at the URLs of
#: the configuration by now.
_DIRECT_ALONE = 4
_SOUGHT_ELSEWHERE = 5
#: Least time between two tries, however many packets wait for the peer.
_HASTE = 1.0


class Dialer:
    """Makes the sessions with one peer.

    Args:
        static: The peer's static key.
        endpoints: Where it may be.
        paths: Its paths.
        services: The mesh.

    Attributes:
        deadline: When to `run` next.
    """

    def __init__(
        self, static: bytes, endpoints: Endpoints, paths: Paths, services: Services
    ) -> None:
        self.deadline = float("inf")
        self._static = static
        self._endpoints = endpoints
        self._paths = paths
        self._services = services
        self._attempt = -1  # of the handshake being made; negative if none is
        self._tried = float("-inf")

    @property
    def running(self) -> bool:
        """Whether a session is being made."""
        return self._attempt >= 0

    @property
    def fails_directly(self) -> bool:
        """Whether ways through other nodes should be tried."""
        return self._attempt >= _DIRECT_ALONE

    @property
    def fails(self) -> bool:
        """Whether the peer should be looked for anew."""
        return self._attempt >= _SOUGHT_ELSEWHERE

    def begin(self, deadline: float) -> bool:
        """Make a session, unless that is under way already; whether it was not."""
        if self._attempt >= 0:
            return False
        self._attempt = 0
        self.deadline = deadline
        return True

    def hasten(self, now: float) -> bool:
        """Try soon; whether that is sooner than it would have been."""
        soon = max(now, self._tried + _HASTE)
        if soon >= self.deadline:
            return False
        self.deadline = soon
        return True

    def done(self) -> None:
        """There is a session."""
        self._attempt, self.deadline = -1, float("inf")

    def run(self, now: float) -> None:
        """Send an initiation to where the peer may be."""
        self._attempt += 1
        self._tried = now
        self.deadline = now + retry_delay(self._attempt, self._services.rng)
        datagram = self._services.initiation(self._static, now)
        if datagram is None:
            return
        active = self._paths.active
        handles: dict[PathHandle, None] = {}
        if active is not None:
            handles[active.handle] = None
        if active is None or self._attempt > _REKEY_ALONE:
            for handle in self._endpoints.handles():
                self._paths.ensure(handle, now)  # a stream has to be kept for the answer
            handles.update(dict.fromkeys(path.handle for path in self._paths))
        for handle in handles:
            handle.transport.send(handle, (datagram,), len(datagram))

    def retry(self, handle: PathHandle, now: float) -> None:
        """Send an initiation at once to where a cookie or a challenge came from."""
        datagram = self._services.initiation(self._static, now) if self.running else None
        if datagram is not None:
            handle.transport.send(handle, (datagram,), len(datagram))
