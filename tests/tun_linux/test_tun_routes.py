"""Which routes a configuration needs."""

from __future__ import annotations

import ipaddress

from hypothesis import given
from hypothesis import strategies as st

from tunmesh.interfaces import DeviceConfig
from tunmesh.interfaces.tun import Interface, Network
from tunmesh_tun_linux.routes import KernelRoute, source_for, wanted_routes


def config(addresses: str = "", networks: str = "", routes: str = "") -> DeviceConfig:
    return DeviceConfig(
        tuple(map(ipaddress.ip_interface, addresses.split())),
        tuple(map(ipaddress.ip_network, networks.split())),
        tuple(map(ipaddress.ip_network, routes.split())),
    )


def described(routes: set[KernelRoute]) -> set[str]:
    return {
        f"{'broadcast ' * route.broadcast}{route.prefix} from {route.source}" for route in routes
    }


def test_networks_with_their_broadcast() -> None:
    wanted = wanted_routes(config("10.77.3.1/24 fd77:3::1/64", "10.77.0.0/16 fd77::/32"))
    assert described(wanted) == {
        "10.77.0.0/16 from 10.77.3.1",
        "broadcast 10.77.255.255/32 from 10.77.3.1",
        "fd77::/32 from fd77:3::1",
    }


def test_the_kernel_routes_connected_prefixes_itself() -> None:
    assert wanted_routes(config("10.77.0.1/16 fd77::1/32", "10.77.0.0/16 fd77::/32")) == set()


def test_each_network_from_an_address_inside() -> None:
    wanted = wanted_routes(config("10.1.0.1/24 10.2.0.1/24", "10.1.0.0/16 10.2.0.0/16"))
    assert "10.2.0.0/16 from 10.2.0.1" in described(wanted)


def test_other_prefixes_from_a_routable_address() -> None:
    wanted = wanted_routes(
        config("fe80::7/64 fd77::1/64", routes="2001:db8::/32"),
        [ipaddress.ip_network("192.0.2.0/24")],
    )
    assert described(wanted) == {"2001:db8::/32 from fd77::1", "192.0.2.0/24 from None"}


def test_no_broadcast_without_an_address() -> None:
    assert described(wanted_routes(config(networks="10.77.0.0/16"))) == {"10.77.0.0/16 from None"}


def interfaces() -> st.SearchStrategy[Interface]:
    return st.one_of(
        st.tuples(st.ip_addresses(v=4), st.integers(0, 32)),
        st.tuples(st.ip_addresses(v=6), st.integers(0, 128)),
    ).map(lambda pair: ipaddress.ip_interface(f"{pair[0]}/{pair[1]}"))


def prefixes() -> st.SearchStrategy[Network]:
    return interfaces().map(lambda interface: interface.network)


@given(st.lists(interfaces()), st.lists(prefixes()), st.lists(prefixes()), st.lists(prefixes()))
def test_every_prefix_once_and_from_an_own_address(
    addresses: list[Interface],
    networks: list[Network],
    routes: list[Network],
    extra: list[Network],
) -> None:
    wanted = wanted_routes(DeviceConfig(tuple(addresses), tuple(networks), tuple(routes)), extra)
    unicast = [route.prefix for route in wanted if not route.broadcast]
    assert len(unicast) == len(set(unicast))
    connected = {address.network for address in addresses}
    assert set(unicast) == {*networks, *routes, *extra} - connected
    own = {address.ip for address in addresses}
    for route in wanted:
        assert route.source is None or route.source in own
        assert route.source == source_for(route.prefix, addresses) or route.broadcast
        if route.broadcast:
            assert route.prefix.num_addresses == 1
            assert any(route.prefix[0] == network.broadcast_address for network in networks)
