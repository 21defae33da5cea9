"""Routes from memberships: who gets what, by mode, scope, source and role."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunmesh.interfaces import Route
from tunmesh.interfaces.tun import Network
from tunmesh_multicast_igmp.attribute import Membership
from tunmesh_multicast_igmp.compilation import Surroundings, compile_routes
from tunmesh_multicast_igmp.messages import Address
from tunmesh_multicast_igmp.rules import Mode, Rules, Scope, is_source_specific
from tunmesh_multicast_igmp.state import Filter

HERE, A, B, FAR = (letter * 32 for letter in "0abf")
NODES = {
    A: (ip_address("10.42.1.2"), ip_address("fe80::2")),
    B: (ip_address("10.42.1.3"),),
    FAR: (ip_address("10.42.7.7"), ip_address("fe80::7")),
}
OWN = tuple(map(ip_interface, ("10.42.1.1/24", "fe80::1/64")))


def wants(*sources: str, exclude: bool = False) -> Filter:
    return Filter(exclude, frozenset(map(ip_address, sources)))


ANY = wants(exclude=True)


def compiled(
    groups: dict[str, dict[str, Filter]],
    *,
    routers: tuple[str, ...] = (),
    mode: dict[str, Mode] | None = None,
    scope: dict[str, Scope] | None = None,
) -> dict[tuple[str, str], set[str]]:
    """Peers by prefix and origin."""
    memberships = {
        node: Membership(
            {
                ip_address(g): f
                for g, by_node in groups.items()
                for n, f in by_node.items()
                if n == node
            },
            node in routers,
        )
        for node in (HERE, *NODES)
    }
    modes: dict[Network, Mode] = {ip_network(p): m for p, m in (mode or {}).items()}
    scopes: dict[Network, Scope] = {ip_network(p): s for p, s in (scope or {}).items()}
    routes = compile_routes(
        Surroundings(HERE, OWN, NODES, memberships), Rules(modes, scopes), limit=9, name="igmp"
    )
    assert all((r.kind, r.limit, r.source) == ("multicast", 9, "igmp") for r in routes)
    found = {(str(r.prefix), str(r.origin or "")): set(r.peers) for r in routes}
    assert len(found) == len(routes)
    return found


def test_nobody_wants_anything() -> None:
    assert compiled({}) == {}


def test_members_of_any_source() -> None:
    assert compiled({"239.1.2.3": {A: ANY, FAR: ANY, HERE: ANY}, "ff15::1": {B: ANY}}) == {
        ("239.1.2.3/32", ""): {A, FAR, HERE},
        ("ff15::1/128", ""): {B},
    }


def test_sources_that_filters_name_have_routes_of_their_own() -> None:
    filters = {A: ANY, B: wants("10.0.0.1", "10.0.0.2"), HERE: wants("10.0.0.1", exclude=True)}
    assert compiled({"239.1.2.3": filters}) == {
        ("239.1.2.3/32", ""): {A, HERE},
        ("239.1.2.3/32", "10.0.0.1"): {A, B},
        ("239.1.2.3/32", "10.0.0.2"): {A, B, HERE},
    }


def test_in_the_source_specific_ranges_only_sources_count() -> None:
    filters = {A: ANY, B: wants("10.0.0.1")}
    assert compiled({"232.1.1.1": filters}) == {("232.1.1.1/32", "10.0.0.1"): {B}}
    assert compiled({"232.1.1.1": {A: ANY}}) == {}
    assert compiled({"ff3e::1": {A: ANY, B: wants("fd00::1")}}) == {("ff3e::1/128", "fd00::1"): {B}}


@pytest.mark.parametrize(
    ("group", "expected"),
    [
        ("232.0.0.0", True),
        ("232.255.255.255", True),
        ("233.0.0.0", False),
        ("ff3e::8000:1", True),
        ("ff35:0:1::1", True),
        ("ff3e:1::1", False),
        ("ff15::1", False),
    ],
)
def test_source_specific_ranges(group: str, expected: bool) -> None:
    assert is_source_specific(ip_address(group)) == expected


def test_local_scope_is_the_local_subnet() -> None:
    filters = {A: ANY, FAR: ANY, HERE: ANY}
    scope: dict[str, Scope] = {"239.255.0.0/16": "local"}
    groups = {"239.255.0.1": filters, "239.254.0.1": filters}
    assert compiled(groups, scope=scope) == {
        ("239.255.0.1/32", ""): {A, HERE},
        ("239.254.0.1/32", ""): {A, FAR, HERE},
    }


def test_flooding_needs_no_members_and_ignores_them() -> None:
    mode: dict[str, Mode] = {
        "239.1.0.0/16": "flood",
        "239.1.9.0/24": "members",
        "239.1.8.0/24": "off",
    }
    groups = {"239.1.2.3": {A: wants("10.0.0.1")}, "239.1.9.1": {B: ANY}, "239.1.8.1": {B: ANY}}
    scope: dict[str, Scope] = {"239.1.128.0/17": "local"}
    assert compiled(groups, mode=mode, scope=scope) == {
        ("239.1.0.0/16", ""): {HERE, A, B, FAR},
        ("239.1.128.0/17", ""): {HERE, A, B},
        ("239.1.9.0/24", ""): set(),
        ("239.1.8.0/24", ""): set(),
        ("239.1.9.1/32", ""): {B},
    }


def test_groups_that_are_off() -> None:
    groups = {group: {A: ANY} for group in ("224.0.0.1", "ff02::1", "ff01::5", "ff10::5")}
    assert compiled(groups) == {}
    assert compiled(groups, mode={"224.0.0.1/32": "flood"}) == {
        ("224.0.0.1/32", ""): {HERE, A, B, FAR}
    }
    assert compiled({"239.1.2.3": {A: ANY}}, mode={"239.0.0.0/8": "off"}) == {}


def test_a_router_port_takes_everything_of_its_scope() -> None:
    groups = {"239.1.2.3": {A: ANY}, "239.255.0.1": {A: wants("10.0.0.1")}, "ff15::1": {A: ANY}}
    scope: dict[str, Scope] = {"239.255.0.0/16": "local"}
    found = compiled(groups, routers=(FAR, HERE), scope=scope)
    off = {key: peers for key, peers in found.items() if not peers}
    assert {prefix for prefix, _ in off} >= {"224.0.0.1/32", "ff02::1/128", "ff01::/16"}
    assert {key: peers for key, peers in found.items() if peers} == {
        ("224.0.0.0/4", ""): {FAR, HERE},
        ("239.255.0.0/16", ""): {HERE},
        ("ff00::/8", ""): {FAR, HERE},
        ("239.1.2.3/32", ""): {A, FAR, HERE},
        ("239.255.0.1/32", ""): {HERE},
        ("239.255.0.1/32", "10.0.0.1"): {A, HERE},
        ("ff15::1/128", ""): {A, FAR, HERE},
    }


def taken(routes: list[Route], group: Address, source: Address) -> set[str]:
    """Who takes a packet, by the rule of `Route`."""
    holding = [route for route in routes if group in route.prefix]
    longest = max((route.prefix.prefixlen for route in holding), default=-1)
    found = {r.origin: set(r.peers) for r in holding if r.prefix.prefixlen == longest}
    return found.get(source, found.get(None, set()))


some_groups = st.sampled_from([ip_address(g) for g in ("239.1.1.1", "239.2.2.2", "232.1.1.1")])
some_sources = st.sampled_from([ip_address(f"10.42.1.{n}") for n in range(1, 5)])
some_filters = st.builds(Filter, st.booleans(), st.frozensets(some_sources, max_size=3))
some_nodes = st.sampled_from([HERE, A, B, FAR])


@given(st.dictionaries(some_nodes, st.dictionaries(some_groups, some_filters)), some_groups,
       some_sources, st.sets(some_nodes))  # fmt: skip
def test_each_node_gets_what_its_filter_accepts(
    filters: dict[str, dict[Address, Filter]], group: Address, source: Address, routers: set[str]
) -> None:
    memberships = {
        node: Membership(
            {g: f for g, f in filters.get(node, {}).items() if f.exclude or f.sources},
            node in routers,
        )
        for node in (HERE, *NODES)
    }
    routes = compile_routes(
        Surroundings(HERE, OWN, NODES, memberships), Rules({}, {}), limit=0, name="igmp"
    )
    expected = set(routers)
    for node, membership in memberships.items():
        wanted = membership.groups.get(group)
        if wanted is not None and not (is_source_specific(group) and wanted.exclude):
            expected |= {node} if wanted.accepts(source) else set()
    assert taken(routes, group, source) == expected
