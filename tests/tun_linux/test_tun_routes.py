"""Which routes a configuration needs."""

from __future__ import annotations

import ipaddress

from hypothesis import given
from hypothesis import strategies as st

from tunmesh.interfaces import DeviceConfig
from tunmesh.interfaces.tun import Interface, Network
from tunmesh_tun_linux.routes import KernelRoute, source_for, wanted_routes


def config(
    addresses: str = "", networks: str = "", routes: str = "", broadcasts: str = "", mark: int = 0
) -> DeviceConfig:
    return DeviceConfig(
        tuple(map(ipaddress.ip_interface, addresses.split())),
        tuple(map(ipaddress.ip_network, networks.split())),
        tuple(map(ipaddress.ip_network, routes.split())),
        tuple(map(ipaddress.IPv4Address, broadcasts.split())),
        mark,
    )


def described(routes: set[KernelRoute]) -> set[str]:
    def kind(route: KernelRoute) -> str:
        return f"{'broadcast ' * route.broadcast}{'apart ' * route.apart}"

    return {f"{kind(route)}{route.prefix} from {route.source}" for route in routes}


def test_networks_with_their_broadcast() -> None:
    broadcasts = "255.255.255.255 10.77.3.255 10.77.255.255"
    wanted = wanted_routes(
        config("10.77.3.1/24 fd77:3::1/64", "10.77.0.0/16 fd77::/32", broadcasts=broadcasts)
    )
    assert described(wanted) == {
        "10.77.0.0/16 from 10.77.3.1",
        "broadcast 10.77.255.255/32 from 10.77.3.1",
        "255.255.255.255/32 from 10.77.3.1",
        "fd77::/32 from fd77:3::1",
    }


def test_no_broadcast_that_is_not_asked_for() -> None:
    wanted = wanted_routes(config("10.77.3.1/24", "10.77.0.0/16"))
    assert described(wanted) == {"10.77.0.0/16 from 10.77.3.1"}


def test_a_broadcast_from_an_address_of_its_network() -> None:
    wanted = wanted_routes(
        config("10.1.0.1/24 10.2.0.1/24", "10.1.0.0/16 10.2.0.0/16", broadcasts="10.2.255.255")
    )
    assert "broadcast 10.2.255.255/32 from 10.2.0.1" in described(wanted)


def test_a_default_route_is_apart_where_the_mesh_has_a_mark() -> None:
    routes = "0.0.0.0/0 ::/0 192.168.7.0/24"
    assert described(wanted_routes(config("10.77.0.1/16 fd77::1/32", routes=routes, mark=7))) == {
        "apart 0.0.0.0/0 from 10.77.0.1",
        "apart ::/0 from fd77::1",
        "192.168.7.0/24 from 10.77.0.1",
    }
    assert "0.0.0.0/0 from 10.77.0.1" in described(
        wanted_routes(config("10.77.0.1/16", routes="0.0.0.0/0"))
    )


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
    wanted = wanted_routes(config(networks="10.77.0.0/16", broadcasts="10.77.255.255"))
    assert described(wanted) == {"10.77.0.0/16 from None"}


def interfaces() -> st.SearchStrategy[Interface]:
    return st.one_of(
        st.tuples(st.ip_addresses(v=4), st.integers(0, 32)),
        st.tuples(st.ip_addresses(v=6), st.integers(0, 128)),
    ).map(lambda pair: ipaddress.ip_interface(f"{pair[0]}/{pair[1]}"))


def prefixes() -> st.SearchStrategy[Network]:
    return interfaces().map(lambda interface: interface.network)


@given(
    st.lists(interfaces(), max_size=4),
    st.lists(prefixes(), max_size=4),
    st.lists(prefixes(), max_size=4),
    st.lists(prefixes(), max_size=4),
    st.lists(st.ip_addresses(v=4), max_size=4),
)
def test_every_prefix_once_and_from_an_own_address(
    addresses: list[Interface],
    networks: list[Network],
    routes: list[Network],
    extra: list[Network],
    broadcasts: list[ipaddress.IPv4Address],
) -> None:
    device = DeviceConfig(tuple(addresses), tuple(networks), tuple(routes), tuple(broadcasts), 7)
    wanted = wanted_routes(device, extra)
    limited = ipaddress.ip_network("255.255.255.255")
    unicast = [r.prefix for r in wanted if not r.broadcast and r.prefix != limited]
    assert len(unicast) == len(set(unicast))
    connected = {address.network for address in addresses}
    assert set(unicast) == {*networks, *routes, *extra} - connected - {limited}
    own = {address.ip for address in addresses}
    for route in wanted:
        assert route.source is None or route.source in own
        if route.prefix in unicast:
            assert route.source == source_for(route.prefix, addresses)
        if route.broadcast:
            assert route.prefix.num_addresses == 1
            assert route.prefix[0] in broadcasts
