"""The routing information base: every route that anybody contributed, and the best of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TypeAlias

from tunmesh.interfaces.policy import Route
from tunmesh.interfaces.tun import Interface, Network
from tunmesh.routing.fib import Fib

_Key: TypeAlias = tuple[int, int, int, str, int]

_UNICAST = frozenset({"address", "subnet"})


class Rib:
    """Routes by contributor.

    Unicast routes to one prefix compete: the smallest metric wins, then the smallest peer id; the
    others stay as backups. The peers of broadcast and multicast routes to one prefix add up.
    """

    def __init__(self) -> None:
        self._contributed: dict[str, tuple[Route, ...]] = {}

    def set_routes(self, contributor: str, routes: Iterable[Route]) -> None:
        """Replace all routes of one contributor: a policy, or the node that announced them.

        Raises:
            ValueError: A route cannot be; nothing is replaced.
        """
        checked = tuple(routes)
        for route in checked:
            _check(route)
        if checked:
            self._contributed[contributor] = checked
        else:
            self.remove(contributor)

    def remove(self, contributor: str) -> None:
        """Forget all routes of one contributor, if there are any."""
        self._contributed.pop(contributor, None)

    def routes(self) -> tuple[Route, ...]:
        """All routes, backups too, in the order of their prefixes, the best first."""
        found = (route for routes in self._contributed.values() for route in routes)
        return tuple(sorted(found, key=lambda route: (_key(route), route.metric, route.peers)))

    def best(self) -> tuple[Route, ...]:
        """The routes that are in force: one for each prefix, kind and origin."""
        chosen: dict[_Key, Route] = {}
        for route in self.routes():
            key = _key(route)
            known = chosen.get(key)
            if known is None:
                chosen[key] = route
            elif route.kind not in _UNICAST:
                peers = tuple(sorted({*known.peers, *route.peers}))
                chosen[key] = replace(known, peers=peers)
        return tuple(chosen.values())

    def backups(self) -> tuple[Route, ...]:
        """The unicast routes that are not in force, since there are better ones."""
        best = set(self.best())
        return tuple(r for r in self.routes() if r.kind in _UNICAST and r not in best)

    def compile(
        self,
        *,
        addresses: Iterable[Interface],
        subnets: Iterable[Network] = (),
        networks: Iterable[Network],
        node_id: str = "",
    ) -> Fib:
        """The forwarding table of the routes in force; arguments as for `Fib`."""
        return Fib(
            self.best(),
            addresses=addresses,
            subnets=subnets,
            networks=networks,
            node_id=node_id,
            backups=self.backups(),
        )


def _key(route: Route) -> _Key:
    prefix = route.prefix
    origin = -1 if route.origin is None else int(route.origin)
    return prefix.version, int(prefix.network_address), prefix.prefixlen, route.kind, origin


def _check(route: Route) -> None:
    prefix = route.prefix
    if route.kind in _UNICAST and len(route.peers) != 1:
        raise ValueError(f"route to {prefix}: {len(route.peers)} peers, a unicast route has one")
    if route.kind in {"address", "broadcast"} and prefix.prefixlen != prefix.max_prefixlen:
        raise ValueError(f"route to {prefix}: not a single address, which {route.kind} needs")
    if prefix.is_multicast != (route.kind == "multicast"):
        raise ValueError(f"route to {prefix}: of kind {route.kind}")
