"""Who is in which broadcast domain."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network

from tunmesh.routing import broadcast_routes
from tunmesh.routing.broadcast import broadcast_address

A, B, C = (digit * 32 for digit in "abc")
NODES = {
    A: [ip_address("10.42.1.2"), ip_address("fd42::2")],
    B: [ip_address("10.42.2.3")],
    C: [ip_address("fd42::3")],
}
NETWORKS = [ip_network("10.42.0.0/16"), ip_network("fd42::/48")]


def routes(*addresses: str) -> dict[str, tuple[str, ...]]:
    found = broadcast_routes(map(ip_interface, addresses), NETWORKS, NODES)
    assert all(route.kind == "broadcast" for route in found)
    return {str(route.prefix.network_address): route.peers for route in found}


def test_local_subnet_and_mesh() -> None:
    assert routes("10.42.1.1/24", "fd42::1/64") == {
        "255.255.255.255": (A,),
        "10.42.1.255": (A,),
        "10.42.255.255": (A, B),
    }


def test_local_subnet_that_is_the_whole_mesh() -> None:
    assert routes("10.42.1.1/16") == {"255.255.255.255": (A, B), "10.42.255.255": (A, B)}


def test_two_local_subnets() -> None:
    assert routes("10.42.1.1/24", "10.42.2.1/24")["255.255.255.255"] == (A, B)


def test_local_subnet_without_broadcast() -> None:
    assert routes("10.42.1.1/32") == {"255.255.255.255": (), "10.42.255.255": (A, B)}


def test_node_without_ipv4() -> None:
    assert routes("fd42::1/64") == {}


def test_broadcast_address() -> None:
    assert broadcast_address(ip_network("10.0.0.0/30")) == ip_address("10.0.0.3")
    assert broadcast_address(ip_network("10.0.0.0/31")) is None
    assert broadcast_address(ip_network("fd42::/64")) is None
