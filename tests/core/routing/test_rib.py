"""Which of several routes is in force."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunmesh.interfaces import Route
from tunmesh.interfaces.policy import RouteKind
from tunmesh.routing import Rib

A, B, C = (digit * 32 for digit in "abc")
SUBNET = ip_network("192.168.7.0/24")
GROUP = ip_network("239.1.2.3/32")


def subnet(peer: str, metric: int = 0) -> Route:
    return Route(SUBNET, "subnet", (peer,), metric)


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 3)), min_size=1))
def test_the_smallest_metric_wins_then_the_smallest_id(claims: list[tuple[str, int]]) -> None:
    rib = Rib()
    for number, (peer, metric) in enumerate(claims):
        rib.set_routes(f"contributor {number}", [subnet(peer, metric)])
    best = min((metric, peer) for peer, metric in claims)
    assert [(route.metric, route.peers[0]) for route in rib.best()] == [best]
    assert rib.routes()[0] == rib.best()[0]
    assert len(rib.routes()) == len(claims)


def test_a_loser_is_a_backup() -> None:
    rib = Rib()
    rib.set_routes(A, [subnet(A, 20)])
    rib.set_routes(B, [subnet(B, 10)])
    assert rib.best() == (subnet(B, 10),)
    rib.remove(B)
    assert rib.best() == (subnet(A, 20),)
    rib.set_routes(A, [])
    rib.remove("nobody")
    assert rib.best() == rib.routes() == ()


def test_members_add_up() -> None:
    rib = Rib()
    rib.set_routes("igmp", [Route(GROUP, "multicast", (C, A), source="igmp")])
    rib.set_routes("other", [Route(GROUP, "multicast", (A, B), source="other")])
    assert [route.peers for route in rib.best()] == [(A, B, C)]
    assert len(rib.routes()) == 2


def test_address_and_subnet_of_one_prefix_do_not_compete() -> None:
    host = ip_network("10.0.0.7/32")
    rib = Rib()
    rib.set_routes(A, [Route(host, "address", (A,), 5)])
    rib.set_routes(B, [Route(host, "subnet", (B,), 1)])
    assert {route.kind: route.peers for route in rib.best()} == {"address": (A,), "subnet": (B,)}


def test_routes_are_listed_by_prefix() -> None:
    rib = Rib()
    prefixes = ["fd00::/16", "10.2.0.0/16", "10.0.0.0/8", "10.0.0.0/16"]
    rib.set_routes(A, [Route(ip_network(prefix), "subnet", (A,)) for prefix in prefixes])
    assert [str(route.prefix) for route in rib.routes()] == [
        "10.0.0.0/8",
        "10.0.0.0/16",
        "10.2.0.0/16",
        "fd00::/16",
    ]


@pytest.mark.parametrize(
    ("prefix", "kind", "peers"),
    [
        ("10.0.0.0/8", "subnet", ()),
        ("10.0.0.0/8", "subnet", (A, B)),
        ("10.0.0.0/8", "address", (A,)),
        ("10.0.0.0/8", "broadcast", (A,)),
        ("10.0.0.1/32", "multicast", (A,)),
        ("239.0.0.0/8", "subnet", (A,)),
        ("ff02::1/128", "address", (A,)),
    ],
)
def test_impossible_routes_are_refused(
    prefix: str, kind: RouteKind, peers: tuple[str, ...]
) -> None:
    rib = Rib()
    rib.set_routes("core", [subnet(A)])
    with pytest.raises(ValueError, match=prefix):
        rib.set_routes("core", [subnet(B), Route(ip_network(prefix), kind, peers)])
    assert rib.best() == (subnet(A),)


def test_compile() -> None:
    rib = Rib()
    rib.set_routes(A, [subnet(A)])
    fib = rib.compile(addresses=[], networks=[], subnets=[ip_network("10.0.0.0/8")])
    assert fib.inside(bytes([10, 0, 0, 1]), bytes([192, 168, 7, 1])) == (A,)


def test_backups_are_what_is_not_in_force() -> None:
    rib = Rib()
    first = Route(ip_network("192.168.7.0/24"), "subnet", ("a",), 5)
    second = Route(ip_network("192.168.7.0/24"), "subnet", ("b",), 10)
    group = Route(ip_network("239.0.0.0/8"), "multicast", ("c",))
    rib.set_routes("a", [first])
    rib.set_routes("b", [second, group])
    assert rib.backups() == (second,)
    rib.remove("a")
    assert rib.backups() == ()
