"""From announcements to routes: what is believed, and when it is compiled."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network

import pytest

from tunmesh.forwarding import Forwarding, Holding
from tunmesh.interfaces.policy import Route

OWN, A, B = "0" * 32, "a" * 32, "b" * 32
NETWORKS = tuple(map(ip_network, ("10.42.0.0/16", "fd42::/48")))


class Bench:
    """The routes of one node, and how often they were asked for."""

    def __init__(self, *, broadcast: bool = False) -> None:
        self.held: list[Holding] = []
        self.policies: dict[str, list[Route]] = {}
        self.asked = 0
        self.voided = 0
        self.forwarding = Forwarding(
            networks=NETWORKS,
            accept_subnets=(ip_network("192.168.0.0/16"),),
            broadcast=broadcast,
            holdings=self._holdings,
            policies=lambda: self.policies,
            node_id=OWN,
            invalidated=self._invalidated,
        )
        self.forwarding.set_own([ip_interface("10.42.0.1/24")], [ip_network("192.168.1.0/24")])

    def _holdings(self) -> list[Holding]:
        self.asked += 1
        return self.held

    def _invalidated(self) -> None:
        self.voided += 1

    def hold(
        self, node_id: str, *addresses: str, subnets: tuple[tuple[str, int], ...] = ()
    ) -> None:
        self.held.append(Holding(node_id, tuple(map(ip_address, addresses)), subnets))
        self.forwarding.invalidate()

    def inside(self, destination: str) -> tuple[str, ...] | str:
        return self.forwarding.fib().inside(
            ip_address("10.42.0.1").packed, ip_address(destination).packed
        )


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_addresses_and_subnets_become_routes(bench: Bench) -> None:
    bench.hold(A, "10.42.0.2", "fd42::2", subnets=(("192.168.7.0/24", 0),))
    bench.hold(B, "10.42.0.3")
    assert bench.inside("10.42.0.2") == (A,)
    assert bench.inside("10.42.0.3") == (B,)
    assert bench.inside("192.168.7.9") == (A,)
    assert bench.inside("10.42.0.4") == "no_route"
    assert bench.inside("192.168.1.9") == "loopback"
    assert bench.forwarding.kernel_routes() == (ip_network("192.168.7.0/24"),)
    routes = bench.forwarding.routes()
    assert {(str(route.prefix), route.kind, route.peers) for route in routes} == {
        ("10.42.0.2/32", "address", (A,)),
        ("fd42::2/128", "address", (A,)),
        ("10.42.0.3/32", "address", (B,)),
        ("192.168.7.0/24", "subnet", (A,)),
    }


def test_the_smaller_metric_wins(bench: Bench) -> None:
    bench.hold(A, subnets=(("192.168.7.0/24", 5),))
    bench.hold(B, subnets=(("192.168.7.0/24", 3),))
    assert bench.inside("192.168.7.9") == (B,)


def test_what_is_not_accepted_is_kept_with_its_reason(bench: Bench) -> None:
    bench.hold(A, "172.16.0.1", "10.42.0.2", subnets=(("8.8.8.0/24", 0),))
    assert bench.inside("10.42.0.2") == (A,)
    assert bench.inside("8.8.8.8") == "outside_network"
    assert bench.forwarding.refused == {
        A: [
            (ip_network("172.16.0.1/32"), "outside mesh.networks"),
            (ip_network("8.8.8.0/24"), "outside routing.accept_subnets"),
        ]
    }
    bench.held.clear()
    bench.forwarding.invalidate()
    bench.forwarding.routes()
    assert bench.forwarding.refused == {}


@pytest.mark.parametrize(("broadcast", "verdict"), [(True, (A,)), (False, "broadcast_disabled")])
def test_broadcasts(broadcast: bool, verdict: object) -> None:
    bench = Bench(broadcast=broadcast)
    bench.hold(A, "10.42.0.2")
    for destination in ("10.42.0.255", "10.42.255.255", "255.255.255.255"):
        assert bench.inside(destination) == verdict
    assert "broadcast" not in {str(route) for route in bench.forwarding.kernel_routes()}


def test_routes_are_compiled_when_they_are_needed_and_only_then(bench: Bench) -> None:
    bench.forwarding.fib()
    asked, voided = bench.asked, bench.voided
    for number in range(2, 100):
        bench.hold(f"{number:032x}", f"10.42.0.{number}")
    assert (bench.asked, bench.voided) == (asked, voided + 1)
    table = bench.forwarding.fib()
    assert bench.forwarding.fib() is table
    bench.forwarding.routes()
    bench.forwarding.kernel_routes()
    assert bench.asked == asked + 1
    bench.forwarding.invalidate()
    assert bench.voided == voided + 2
    assert bench.forwarding.fib() is not table


def test_looking_at_the_routes_makes_the_next_change_be_told(bench: Bench) -> None:
    bench.forwarding.routes()
    voided = bench.voided
    bench.forwarding.set_own([ip_interface("10.42.0.9/24")], [])
    assert bench.voided == voided + 1
    assert bench.forwarding.addresses == (ip_interface("10.42.0.9/24"),)
    assert bench.forwarding.subnets == ()
    assert bench.inside("10.42.0.2") == "unknown_source"


def test_a_new_node_has_no_routes_and_says_so() -> None:
    voided: list[bool] = []
    forwarding = Forwarding(
        networks=NETWORKS,
        accept_subnets=(),
        broadcast=True,
        holdings=lambda: (),
        invalidated=lambda: voided.append(True),
    )
    assert forwarding.routes() == ()
    forwarding.set_own([ip_interface("10.42.0.1/24")], [])
    assert voided == [True]


def test_routes_of_policies(bench: Bench) -> None:
    bench.hold(A, "10.42.0.2")
    group = Route(ip_network("239.1.1.1/32"), "multicast", (A, OWN), source="igmp")
    bench.policies["igmp"] = [group]
    bench.forwarding.invalidate()
    assert bench.inside("239.1.1.1") == (A,)
    assert group in bench.forwarding.routes()
    source, destination = ip_address("10.42.0.2").packed, ip_address("239.1.1.1").packed
    assert bench.forwarding.fib().outside(A, source, destination) is None
    bench.policies["igmp"] = []
    bench.forwarding.invalidate()
    assert bench.inside("239.1.1.1") == "no_group"
    assert bench.forwarding.fib().outside(A, source, destination) == "misrouted"


def test_a_node_that_cannot_be_reached_gives_way_whatever_its_metric(bench: Bench) -> None:
    subnets = (("192.168.7.0/24", 5),)
    bench.held = [
        Holding(A, (), subnets, reachable=False),
        Holding(B, (), (("192.168.7.0/24", 65_535),)),
    ]
    bench.forwarding.invalidate()
    assert bench.inside("192.168.7.9") == (B,)
    bench.held = [Holding(A, (), subnets, reachable=False)]
    bench.forwarding.invalidate()
    assert bench.inside("192.168.7.9") == (A,)  # there is no other


def test_both_announcers_of_a_subnet_may_send_from_it(bench: Bench) -> None:
    bench.hold(A, subnets=(("192.168.7.0/24", 5),))
    bench.hold(B, subnets=(("192.168.7.0/24", 10),))
    fib = bench.forwarding.fib()
    source, here = ip_address("192.168.7.9").packed, ip_address("10.42.0.1").packed
    assert fib.outside(A, source, here) is None
    assert fib.outside(B, source, here) is None
    assert fib.outside("c" * 32, source, here) == "spoofed_source"


def test_what_overlaps_the_underlay_is_refused_as_long_as_it_does(bench: Bench) -> None:
    bench.hold(A, subnets=(("192.168.7.0/24", 0),))
    assert bench.inside("192.168.7.9") == (A,)
    underlay = (ip_network("192.168.7.128/25"),)
    bench.forwarding.set_underlay(underlay)
    assert bench.inside("192.168.7.9") == "outside_network"
    reason = "overlaps the connected network 192.168.7.128/25"
    assert bench.forwarding.refused == {A: [(ip_network("192.168.7.0/24"), reason)]}
    voided = bench.voided
    bench.forwarding.set_underlay(underlay)
    assert bench.voided == voided
    bench.forwarding.set_underlay(())
    assert bench.inside("192.168.7.9") == (A,)


def test_the_host_takes_part_in_the_broadcasts() -> None:
    bench = Bench(broadcast=True)
    bench.hold(A, "10.42.0.2")
    assert set(map(str, bench.forwarding.broadcasts())) == {
        "255.255.255.255",
        "10.42.0.255",
        "10.42.255.255",
    }
    assert Bench().forwarding.broadcasts() == ()


def test_what_is_behind_this_node_is_not_routed_to_others(bench: Bench) -> None:
    bench.hold(A, subnets=(("192.168.1.0/24", 0), ("192.168.1.128/25", 0)))
    assert bench.inside("192.168.1.9") == "loopback"
    assert bench.inside("192.168.1.200") == (A,)
    assert bench.forwarding.kernel_routes() == (ip_network("192.168.1.128/25"),)
