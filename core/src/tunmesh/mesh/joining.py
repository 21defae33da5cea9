"""Joining a mesh: bootstrap groups, their URLs, and who answers there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from tunmesh.errors import EndpointError
from tunmesh.membership.bootstrap import BootstrapGroup
from tunmesh.peering.query import Queries

if TYPE_CHECKING:
    import random

    from tunmesh.mesh.carriers import Carriers
    from tunmesh.mesh.settings import Observer, Resolve
    from tunmesh.session.events import KeyLearned
    from tunmesh.timers import Timers


class Joining:
    """The bootstrap groups of a node.

    Args:
        own_id: This node's id.
        carriers: The transports.
        make_query: Makes a key query.
        resolve: Finds the endpoints of a URL.
        timers: Where deadlines go.
        clock: The time.
        observer: Who is told what goes wrong.
        rng: For jitter.

    Attributes:
        groups: The groups.
    """

    def __init__(
        self,
        own_id: str,
        carriers: Carriers,
        make_query: Callable[[float, int], tuple[int, bytes]],
        *,
        resolve: Resolve,
        timers: Timers,
        clock: Callable[[], float],
        observer: Observer,
        rng: random.Random,
    ) -> None:
        self.groups: list[BootstrapGroup] = []
        self._own_id = own_id
        self._carriers = carriers
        self._queries = Queries(make_query, carriers.adopt, carriers.release, rng)
        self._resolve = resolve
        self._timers = timers
        self._clock = clock
        self._observer = observer
        self._rng = rng

    def add_group(
        self, name: str, urls: Iterable[str], retries: int, interval: Callable[[], float]
    ) -> None:
        """Join by these URLs."""
        self.groups.append(BootstrapGroup(name, list(urls), retries, interval, self._rng))

    def set_groups(
        self, groups: Mapping[str, tuple[Iterable[str], int, Callable[[], float]]]
    ) -> None:
        """Join by these groups, and no others: their URLs, retries and intervals by name.

        A group that was there keeps the nodes that it reached.
        """
        now = self._clock()
        known = {group.name: group for group in self.groups}
        self.groups = [known[name] for name in groups if name in known]
        for name, (urls, retries, interval) in groups.items():
            if name in known:
                known[name].change(urls, retries, interval, now)
            else:
                self.add_group(name, urls, retries, interval)
        self.run(now)

    def run(self, now: float) -> None:
        """Ask at the URLs whose turn it is."""
        for group in self.groups:
            for url in group.due(now):
                self._look_up(group, url)
        deadline = min((group.next_deadline for group in self.groups), default=float("inf"))
        self._timers.schedule("bootstrap", deadline, self.run)

    def node_gone(self, node_id: str, now: float) -> None:
        """A node does not answer: see who does at the URL that led to it."""
        for group in self.groups:
            group.node_gone(node_id, now)
        self.run(now)

    def answered(self, event: KeyLearned) -> bool:
        """A key query was answered; whether that led to another node."""
        query = self._queries.answered(event.query_index)
        if query is None:
            return False
        if event.node_id == self._own_id:
            query.group.is_self(query.url)
            return False
        query.group.answered(query.url, event.node_id)
        return True

    def _look_up(self, group: BootstrapGroup, url: str) -> None:
        transport = self._carriers.of(url)
        if transport is None:
            self._observer.event("no transport for url", group=group.name, url=url)
            group.failed(url)
            return

        def found(endpoints: tuple[str, ...]) -> None:
            if not endpoints:
                group.failed(url)
            for endpoint in endpoints:
                try:
                    handle = transport.connect(endpoint)
                except EndpointError as error:
                    self._observer.event("bad url", group=group.name, url=url, error=error)
                    group.failed(url)
                else:
                    self._queries.start(group, url, handle, self._clock())
            self._ask(self._clock())

        self._resolve(transport, url, found)

    def _ask(self, now: float) -> None:
        self._queries.handle_timer(now)
        self._timers.schedule("queries", self._queries.next_deadline(), self._ask)
