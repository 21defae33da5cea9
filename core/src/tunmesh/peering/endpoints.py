"""Where a peer says that it can be reached.

Contains no I/O.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import zip_longest
from typing import TYPE_CHECKING

from tunmesh.errors import EndpointError

if TYPE_CHECKING:
    from tunmesh.interfaces.transport import PathHandle

#: Endpoints of one peer that are tried.
_MOST = 6


class Endpoints:
    """The endpoints of one peer.

    Args:
        connect: Makes a handle for an endpoint.
    """

    def __init__(self, connect: Callable[[str], PathHandle]) -> None:
        self._connect = connect
        self._endpoints: dict[str, None] = {}

    def __contains__(self, endpoint: str) -> bool:
        return endpoint in self._endpoints

    def __iter__(self) -> Iterator[str]:
        return iter(self._endpoints)

    def replace(self, endpoints: Iterable[str]) -> bool:
        """Take what the peer announces, best first; whether that is news.

        Of many, the best ones of each transport are taken: one may work where another does not.
        """
        schemes: dict[str, list[str]] = defaultdict(list)
        for endpoint in dict.fromkeys(endpoints):
            schemes[endpoint.partition("://")[0]].append(endpoint)
        turns = (endpoint for turn in zip_longest(*schemes.values()) for endpoint in turn)
        announced = dict.fromkeys([endpoint for endpoint in turns if endpoint is not None][:_MOST])
        changed = announced != self._endpoints
        self._endpoints = announced
        return changed

    def add(self, endpoint: str) -> None:
        """An endpoint that was heard of elsewhere, as from the configuration."""
        if len(self._endpoints) < _MOST:
            self._endpoints.setdefault(endpoint)

    def handles(self) -> Iterator[PathHandle]:
        """Handles for those that some transport here can reach."""
        for endpoint in self._endpoints:
            try:
                yield self._connect(endpoint)
            except EndpointError:
                continue  # of a transport or an address family that this host lacks
