"""Verdicts of the forwarding table, by example and against a naive model."""

from __future__ import annotations

from ipaddress import IPv4Network, ip_address, ip_interface, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunmesh.counters import DROP_REASONS
from tunmesh.interfaces import Route
from tunmesh.interfaces.policy import RouteKind
from tunmesh.interfaces.tun import Network
from tunmesh.routing import Fib, Rib

A, B, C, HERE = (digit * 32 for digit in "abc0")


def route(prefix: str, kind: RouteKind, *peers: str) -> Route:
    return Route(ip_network(prefix), kind, peers)


ROUTES = [
    route("10.42.1.2/32", "address", A),
    route("10.42.2.3/32", "address", B),
    route("fd42::2/128", "address", A),
    route("fe80::a/128", "address", A),
    route("192.168.0.0/16", "subnet", A),
    route("192.168.5.0/24", "subnet", B),
    route("10.42.9.0/24", "subnet", C),
    route("fd77::/16", "subnet", C),
    route("239.1.2.3/32", "multicast", A, C),
    route("239.8.0.0/16", "multicast", B),
    route("ff05::77/128", "multicast", A),
    route("ff05::78/128", "multicast"),
    route("239.5.5.5/32", "multicast", HERE),
    route("ff05::5/128", "multicast", HERE),
]
BROADCASTS = [
    route("255.255.255.255/32", "broadcast", A),
    route("10.42.1.255/32", "broadcast", A),
    route("10.42.255.255/32", "broadcast", A, B),
]


def table(*more: Route, subnets: tuple[str, ...] = ("172.16.0.0/24",)) -> Fib:
    return Fib(
        [*ROUTES, *more],
        addresses=map(ip_interface, ("10.42.1.1/24", "fd42::1/64", "fe80::1/64")),
        subnets=map(ip_network, subnets),
        networks=map(ip_network, ("10.42.0.0/16", "fd42::/48")),
        node_id=HERE,
    )


def packed(text: str) -> bytes:
    return ip_address(text).packed


@pytest.mark.parametrize(
    ("destination", "expected"),
    [
        ("10.42.1.2", (A,)),
        ("10.42.2.3", (B,)),
        ("10.42.1.1", "loopback"),
        ("172.16.0.9", "loopback"),
        ("192.168.1.1", (A,)),
        ("192.168.5.1", (B,)),
        ("10.42.9.9", (C,)),
        ("10.42.7.7", "no_route"),
        ("8.8.8.8", "outside_network"),
        ("127.0.0.1", "outside_network"),
        ("0.0.0.0", "outside_network"),
        ("239.1.2.3", (A, C)),
        ("239.8.1.1", (B,)),
        ("239.5.5.5", "no_group"),
        ("224.0.0.22", "no_group"),
        ("255.255.255.255", (A,)),
        ("10.42.1.255", (A,)),
        ("10.42.255.255", (A, B)),
    ],
)
def test_inside_ipv4(destination: str, expected: object) -> None:
    assert table(*BROADCASTS).inside(packed("10.42.1.1"), packed(destination)) == expected


@pytest.mark.parametrize(
    ("destination", "expected"),
    [
        ("fd42::2", (A,)),
        ("fe80::a", (A,)),
        ("fd77::5", (C,)),
        ("fd42::1", "loopback"),
        ("fe80::1", "loopback"),
        ("fd42::99", "no_route"),
        ("fe80::99", "no_route"),
        ("2001:db8::1", "outside_network"),
        ("::1", "outside_network"),
        ("::ffff:10.42.1.2", "outside_network"),
        ("ff05::77", (A,)),
        ("ff05::78", "no_group"),
        ("ff02::2", "no_group"),
    ],
)
def test_inside_ipv6(destination: str, expected: object) -> None:
    assert table().inside(packed("fd42::1"), packed(destination)) == expected


@pytest.mark.parametrize(
    ("source", "known"),
    [
        ("10.42.1.1", True),
        ("172.16.0.77", True),
        ("fd42::1", True),
        ("fe80::1", True),
        ("fe80::77", True),  # the device's own, not yet known
        ("febf::1", True),
        ("fec0::1", False),
        ("254.128.0.1", False),
        ("10.42.1.2", False),
        ("10.42.7.7", False),
        ("192.168.1.1", False),
        ("0.0.0.0", False),
        ("::", False),
        ("8.8.8.8", False),
    ],
)
def test_inside_source(source: str, known: bool) -> None:
    destination = packed("fd42::2" if ":" in source else "10.42.1.2")
    assert table().inside(packed(source), destination) == ((A,) if known else "unknown_source")


def test_of_a_group_the_route_of_the_source_decides_else_the_one_without() -> None:
    def group(*peers: str, origin: str = "", limit: int = 0) -> Route:
        source = ip_address(origin) if origin else None
        prefix = ip_network("239.6.6.6/32")
        return Route(prefix, "multicast", peers, origin=source, limit=limit)

    fib = table(
        route("239.6.0.0/16", "multicast", A, B, C, HERE),
        group(A, HERE),
        group(B, origin="10.42.1.1"),
        group(A, B, HERE, origin="172.16.0.1", limit=7),
        group(HERE, origin="10.42.1.2"),
        group(origin="10.42.2.3"),
    )
    target = packed("239.6.6.6")
    assert fib.inside(packed("10.42.1.1"), target) == (B,)
    assert fib.inside(packed("172.16.0.1"), target) == (A, B)
    assert fib.inside(packed("172.16.0.2"), target) == (A,)
    assert fib.inside(packed("10.42.1.1"), packed("239.6.6.7")) == (A, B, C)
    assert fib.outside(A, packed("10.42.1.2"), target) is None
    assert fib.outside(A, packed("fd42::2"), packed("ff05::5")) is None
    assert fib.outside(B, packed("10.42.2.3"), target) == "misrouted"
    assert fib.outside(B, packed("10.42.2.3"), packed("239.6.6.7")) is None
    assert fib.limit(target) == 7
    assert fib.limit(packed("239.9.9.9")) == 0


@pytest.mark.parametrize("destination", ["255.255.255.255", "10.42.1.255", "10.42.255.255"])
def test_broadcast_without_routes_is_disabled(destination: str) -> None:
    fib = table()
    assert fib.inside(packed("10.42.1.1"), packed(destination)) == "broadcast_disabled"
    assert fib.outside(A, packed("10.42.1.2"), packed(destination)) == "broadcast_disabled"


def test_broadcast_that_nobody_hears() -> None:
    fib = table(route("10.42.1.255/32", "broadcast"))
    assert fib.inside(packed("10.42.1.1"), packed("10.42.1.255")) == "no_route"
    assert fib.outside(A, packed("10.42.1.2"), packed("10.42.1.255")) is None


@pytest.mark.parametrize(
    ("peer", "source"),
    [
        (A, "10.42.1.2"),
        (A, "192.168.1.1"),
        (B, "192.168.5.1"),
        (C, "10.42.9.1"),
    ],
)
@pytest.mark.parametrize(
    ("destination", "verdict"),
    [
        ("10.42.1.1", None),
        ("172.16.0.1", None),
        ("239.5.5.5", None),
        ("255.255.255.255", None),
        ("10.42.1.255", None),
        ("10.42.255.255", None),
        ("10.42.2.255", "misrouted"),
        ("10.42.2.3", "misrouted"),
        ("192.168.5.9", "misrouted"),
        ("239.1.2.3", "misrouted"),
        ("8.8.8.8", "misrouted"),
        ("127.0.0.1", "misrouted"),
    ],
)
def test_outside(peer: str, source: str, destination: str, verdict: str | None) -> None:
    fib = table(*BROADCASTS)
    assert fib.outside(peer, packed(source), packed(destination)) == verdict


@pytest.mark.parametrize(
    "source",
    [
        "10.42.2.3",  # another node's address
        "192.168.5.1",  # in the subnet of another node, inside a shorter one of the peer
        "10.42.1.1",  # this node's own
        "172.16.0.1",  # this node's subnet
        "10.42.1.77",  # in the peer's local subnet, but nobody's
        "10.42.1.255",
        "255.255.255.255",
        "0.0.0.0",
        "127.0.0.1",
        "224.0.0.1",
        "8.8.8.8",
    ],
)
def test_spoofed_ipv4_source(source: str) -> None:
    fib = table(*BROADCASTS)
    assert fib.outside(A, packed(source), packed("10.42.1.1")) == "spoofed_source"


@pytest.mark.parametrize(
    "source", ["fd42::1", "fd42::3", "fd77::1", "fe80::1", "fe80::b", "::", "::1", "ff02::1"]
)
def test_spoofed_ipv6_source(source: str) -> None:
    assert table().outside(A, packed(source), packed("fd42::1")) == "spoofed_source"


def test_ipv4_mapped_source_is_spoofed() -> None:
    fib = table(route("::/0", "subnet", A))
    assert fib.outside(A, packed("::ffff:10.42.1.2"), packed("fd42::1")) == "spoofed_source"
    assert fib.outside(A, packed("2001:db8::1"), packed("fd42::1")) is None


def test_default_route_owns_only_what_is_outside() -> None:
    fib = table(route("0.0.0.0/0", "subnet", C), *BROADCASTS)
    own = packed("10.42.1.1")
    assert fib.inside(own, packed("8.8.8.8")) == (C,)
    assert fib.inside(own, packed("10.42.7.7")) == "no_route"
    assert fib.inside(own, packed("10.42.1.255")) == (A,)
    assert fib.outside(C, packed("8.8.8.8"), own) is None
    for source in ("10.42.7.7", "10.42.1.1", "10.42.1.255", "127.0.0.1", "240.0.0.1", "0.0.0.0"):
        assert fib.outside(C, packed(source), own) == "spoofed_source", source


def test_node_that_is_the_way_out() -> None:
    fib = table(subnets=("0.0.0.0/0",))
    assert fib.outside(A, packed("10.42.1.2"), packed("8.8.8.8")) is None
    assert fib.outside(A, packed("10.42.1.2"), packed("10.42.7.7")) == "misrouted"
    assert fib.outside(A, packed("10.42.1.2"), packed("127.0.0.1")) == "misrouted"
    assert fib.inside(packed("8.8.8.8"), packed("10.42.1.2")) == (A,)
    assert fib.inside(packed("10.42.7.7"), packed("10.42.1.2")) == "unknown_source"


def test_address_of_another_node_inside_a_subnet_of_this_one() -> None:
    fib = table(subnets=("10.42.2.0/24",))
    assert fib.inside(packed("10.42.2.3"), packed("10.42.1.2")) == "unknown_source"
    assert fib.outside(A, packed("10.42.1.2"), packed("10.42.2.3")) == "misrouted"
    assert fib.outside(A, packed("10.42.1.2"), packed("10.42.2.4")) is None


def test_nobody_can_take_this_nodes_address_or_a_special_range() -> None:
    fib = table(
        route("10.42.1.1/32", "address", B),
        route("10.42.1.0/24", "subnet", B),
        route("10.42.1.2/32", "subnet", B),
        route("127.0.0.0/16", "subnet", B),
        route("fe80::/64", "subnet", B),
    )
    own = packed("10.42.1.1")
    assert fib.inside(own, own) == "loopback"
    assert fib.inside(own, packed("10.42.1.2")) == (A,)
    assert fib.inside(own, packed("127.0.0.1")) == "outside_network"
    assert fib.outside(B, own, own) == "spoofed_source"
    assert fib.outside(B, packed("10.42.1.2"), own) == "spoofed_source"
    assert fib.outside(B, packed("fe80::99"), packed("fd42::1")) == "spoofed_source"


def small(base: int, length: int) -> Network:
    """A prefix in 10.0.0.0/24, whose addresses are then all there is."""
    return IPv4Network((0x0A000000 | base, length), strict=False)


hosts = st.integers(min_value=1, max_value=254)
peers = st.sampled_from([A, B, C])


@given(
    st.dictionaries(hosts, peers, max_size=6),
    st.dictionaries(st.builds(small, hosts, st.integers(25, 32)), peers, max_size=6),
    st.lists(st.builds(small, hosts, st.integers(25, 32)), max_size=3),
    hosts,
    hosts,
    peers,
)
def test_against_a_naive_model(
    claimed: dict[int, str],
    behind: dict[Network, str],
    subnets: list[Network],
    own: int,
    other: int,
    peer: str,
) -> None:
    def owner(number: int) -> str:
        if number == own:
            return "this node"
        if number in claimed:
            return claimed[number]
        entries = [(prefix.prefixlen, 1, "this node") for prefix in subnets if holds(prefix)]
        entries += [(prefix.prefixlen, 0, who) for prefix, who in behind.items() if holds(prefix)]
        return max(entries, default=(0, 0, "nobody"))[2]

    def holds(prefix: Network) -> bool:
        return ip_address(0x0A000000 | other) in prefix

    rib = Rib()
    rib.set_routes("addresses", (route(f"10.0.0.{n}", "address", p) for n, p in claimed.items()))
    rib.set_routes("subnets", (Route(prefix, "subnet", (p,)) for prefix, p in behind.items()))
    rib.set_routes("sender", [route("10.0.0.0/32", "address", A)])
    fib = rib.compile(
        addresses=[ip_interface(f"10.0.0.{own}/32")],
        subnets=subnets,
        networks=[ip_network("10.0.0.0/24")],
    )
    mine, theirs = bytes([10, 0, 0, own]), bytes([10, 0, 0, other])
    found = owner(other)
    expected = {"this node": "loopback", "nobody": "no_route"}.get(found, (found,))
    assert fib.inside(mine, theirs) == expected
    assert fib.inside(theirs, mine) == ("loopback" if found == "this node" else "unknown_source")
    verdict = fib.outside(A, bytes([10, 0, 0, 0]), theirs)
    assert verdict == (None if found == "this node" else "misrouted")
    assert fib.outside(peer, theirs, mine) == (None if found == peer else "spoofed_source")


any_address = st.binary(min_size=4, max_size=4) | st.binary(min_size=16, max_size=16)


@given(any_address, any_address, peers)
def test_every_verdict_is_peers_or_a_counted_reason(
    source: bytes, destination: bytes, peer: str
) -> None:
    fib = table(*BROADCASTS, route("0.0.0.0/0", "subnet", A))
    for origin in (source, packed("10.42.1.1")):
        found = fib.inside(origin, destination)
        assert found in DROP_REASONS if isinstance(found, str) else {*found} <= {A, B, C}
    verdict = fib.outside(peer, source, destination)
    assert verdict is None or verdict in DROP_REASONS


def test_broadcasts_that_are_switched_off_are_told_from_what_is_misrouted() -> None:
    for destination in ("255.255.255.255", "10.42.1.255", "10.42.255.255"):
        assert table().is_broadcast(packed(destination))
    assert table().outside(A, packed("10.42.1.2"), packed("10.42.2.255")) == "misrouted"
    assert not table().is_broadcast(packed("10.42.2.255"))


def test_all_broadcasts_have_one_limit() -> None:
    fib = table(Route(ip_network("10.42.1.255/32"), "broadcast", (A,), limit=7))
    assert fib.limit(packed("10.42.1.255")) == fib.limit(packed("255.255.255.255")) == 7
    assert fib.limit(packed("239.1.2.3")) == 0


def shared_table(*backups: Route) -> Fib:
    return Fib(
        ROUTES,
        addresses=[ip_interface("10.42.1.1/24")],
        subnets=[ip_network("172.16.0.0/24")],
        networks=[ip_network("10.42.0.0/16")],
        backups=backups,
    )


@pytest.mark.parametrize(
    ("peer", "source", "verdict"),
    [
        (B, "192.168.9.9", None),  # it announces that subnet too
        (A, "192.168.9.9", None),
        (C, "192.168.9.9", "spoofed_source"),
        (A, "192.168.5.9", "spoofed_source"),  # of a longer prefix
        (B, "192.168.5.9", None),
        (C, "172.16.0.9", "spoofed_source"),  # behind this node itself
        (C, "10.42.1.1", "spoofed_source"),
        (C, "10.42.1.2", "spoofed_source"),  # another node's address
        (C, "10.42.9.9", None),
        (B, "10.42.9.9", None),
    ],
)
def test_who_announces_a_subnet_may_send_from_it_though_another_is_used(
    peer: str, source: str, verdict: str | None
) -> None:
    fib = shared_table(
        route("192.168.0.0/16", "subnet", B),
        route("172.16.0.0/24", "subnet", C),
        route("10.42.9.0/24", "subnet", B),
        route("10.42.1.2/32", "address", C),
    )
    assert fib.outside(peer, packed(source), packed("10.42.1.1")) == verdict
    assert fib.inside(packed("10.42.1.1"), packed("192.168.9.9")) == (A,)


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("10.42.1.1", ("own_address", "10.42.1.1/32", ())),
        ("172.16.0.9", ("own_subnet", "172.16.0.0/24", ())),
        ("10.42.1.2", ("address", "10.42.1.2/32", (A,))),
        ("192.168.5.9", ("subnet", "192.168.5.0/24", (B,))),
        ("192.168.6.9", ("subnet", "192.168.0.0/16", (A,))),
        ("10.42.3.3", ("unclaimed", "10.42.0.0/16", ())),
        ("239.1.2.3", ("group", "239.1.2.3/32", (A, C))),
        ("239.1.2.4", ("group", None, ())),
        ("10.42.255.255", ("broadcast", "10.42.255.255/32", (A, B))),
        ("8.8.8.8", ("outside", None, ())),
        ("127.0.0.1", ("outside", "127.0.0.0/8", ())),
        ("fd77::9", ("subnet", "fd77::/16", (C,))),
        ("::1", ("outside", "::1/128", ())),
    ],
)
def test_places(address: str, place: tuple[str, str | None, tuple[str, ...]]) -> None:
    found = table(*BROADCASTS).place(packed(address))
    assert (found.kind, found.prefix and str(found.prefix), found.peers) == place
