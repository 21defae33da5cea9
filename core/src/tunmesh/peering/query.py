"""Finding the node behind a URL: the transport resolves it, a key query asks who is there.

Contains no I/O; resolving is somebody else's.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tunmesh.peering.schedule import retry_delay

if TYPE_CHECKING:
    from tunmesh.interfaces.transport import PathHandle
    from tunmesh.membership.bootstrap import BootstrapGroup

#: Key queries sent for one endpoint, over about five seconds.
_TRIES = 9


@dataclass(eq=False)
class Query:
    """One endpoint of one URL that is being asked."""

    group: BootstrapGroup
    url: str
    handle: PathHandle
    attempt: int = 0
    deadline: float = 0.0
    indices: list[int] = field(default_factory=list)


class Queries:
    """The key queries under way.

    Args:
        make: Makes a key query, given the time and the number of the attempt: its index and the
            datagram.
        adopt: Keeps a handle while it is asked.
        release: Lets it go.
        rng: For jitter.
    """

    def __init__(
        self,
        make: Callable[[float, int], tuple[int, bytes]],
        adopt: Callable[[PathHandle], None],
        release: Callable[[PathHandle], None],
        rng: random.Random,
    ) -> None:
        self._make = make
        self._adopt = adopt
        self._release = release
        self._rng = rng
        self._running: list[Query] = []
        self._by_index: dict[int, Query] = {}

    def start(self, group: BootstrapGroup, url: str, handle: PathHandle, now: float) -> None:
        """Begin to ask an endpoint, unless it is being asked already."""
        if all(query.handle is not handle for query in self._running):
            self._adopt(handle)
            self._running.append(Query(group, url, handle, deadline=now))

    def answered(self, index: int) -> Query | None:
        """The query that an answer belongs to; it is over, and its handle may be released."""
        query = self._by_index.get(index)
        if query is not None:
            self._end(query)
        return query

    def handle_timer(self, now: float) -> None:
        """Send what is due, and give up what was tried often enough."""
        for query in list(self._running):
            if query.deadline > now:
                continue
            if query.attempt >= _TRIES:
                self._end(query)
                query.group.failed(query.url)
                continue
            index, datagram = self._make(now, query.attempt)
            query.indices.append(index)
            self._by_index[index] = query
            query.attempt += 1
            query.deadline = now + retry_delay(query.attempt, self._rng)
            query.handle.transport.send(query.handle, (datagram,), len(datagram))

    def next_deadline(self) -> float:
        """When `handle_timer` is to be called; infinity if nothing runs."""
        return min((query.deadline for query in self._running), default=float("inf"))

    def _end(self, query: Query) -> None:
        self._running.remove(query)
        self._release(query.handle)
        for index in query.indices:
            self._by_index.pop(index, None)
