"""Addresses and routes on a real device, as the kernel shows them."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from pyroute2 import IPRoute, NetlinkError

from tunmesh.errors import TunError
from tunmesh.interfaces import DeviceConfig
from tunmesh_tun_linux.hostnet import (
    GSO_MAX_SIZE,
    ROUTE_PROTOCOL,
    HostNet,
    forwards,
    underlay_addresses,
)
from tunmesh_tun_linux.rules import PROTOCOL, TABLE
from tunmesh_tun_linux.tunfd import open_tun

pytestmark = pytest.mark.system

DEVICE = "tun1"
_PROTO_STATIC = 4
_SCOPE_LINK = 253


@pytest.fixture
def host(fresh_netns: None) -> Iterator[HostNet]:
    fd, *_ = open_tun(DEVICE)
    host = HostNet(DEVICE)
    host.bring_up(1400, 500)
    yield host
    os.close(fd)


def config(addresses: str = "", networks: str = "", routes: str = "") -> DeviceConfig:
    known = tuple(map(ipaddress.ip_network, networks.split()))
    return DeviceConfig(
        tuple(map(ipaddress.ip_interface, addresses.split())),
        known,
        tuple(map(ipaddress.ip_network, routes.split())),
        tuple(n.broadcast_address for n in known if isinstance(n, ipaddress.IPv4Network)),
    )


def addresses(device: str = DEVICE) -> set[str]:
    """The addresses of a device, without those that the kernel makes for itself."""
    with IPRoute() as netlink:
        messages = netlink.get_addr(index=socket.if_nametoindex(device))
        found = {f"{item.get_attr('IFA_ADDRESS')}/{item['prefixlen']}" for item in messages}
    return {address for address in found if not address.startswith("fe80::")}


def routes(protocol: int = ROUTE_PROTOCOL) -> set[str]:
    with IPRoute() as netlink:
        return {
            f"{message.get_attr('RTA_DST')}/{message['dst_len']}"
            for family in (socket.AF_INET, socket.AF_INET6)
            for message in netlink.get_routes(family=family)
            if message["proto"] == protocol
        }


def test_the_link(host: HostNet) -> None:
    with IPRoute() as netlink:
        (link,) = netlink.get_links(socket.if_nametoindex(DEVICE))
    assert link["state"] == "up"
    assert link.get_attr("IFLA_MTU") == 1400
    assert link.get_attr("IFLA_TXQLEN") == 500
    assert link.get_attr("IFLA_GSO_MAX_SIZE") == GSO_MAX_SIZE


def test_other_link_settings(host: HostNet) -> None:
    host.bring_up(9000, 77)
    with IPRoute() as netlink:
        (link,) = netlink.get_links(socket.if_nametoindex(DEVICE))
    assert (link.get_attr("IFLA_MTU"), link.get_attr("IFLA_TXQLEN")) == (9000, 77)


def test_each_address_keeps_its_prefix(host: HostNet) -> None:
    host.apply(
        config(
            "10.77.3.1/24 10.77.9.1/30 fd77:0:0:3::1/64", "10.77.0.0/16 fd77::/48", "10.9.0.0/16"
        )
    )
    assert addresses() == {"10.77.3.1/24", "10.77.9.1/30", "fd77:0:0:3::1/64"}
    assert routes() == {"10.77.0.0/16", "10.77.255.255/32", "fd77::/48", "10.9.0.0/16"}


def test_the_host_talks_from_the_right_address(host: HostNet) -> None:
    host.apply(config("10.1.0.1/24 10.2.0.1/24 fd02::1/64", "10.1.0.0/16 10.2.0.0/16 fd02::/32"))
    for target, source in (("10.2.99.9", "10.2.0.1"), ("fd02:0:99::1", "fd02::1")):
        with socket.socket(
            socket.AF_INET6 if ":" in target else socket.AF_INET, socket.SOCK_DGRAM
        ) as sock:
            sock.connect((target, 9))
            assert sock.getsockname()[0] == source


def test_applying_again_changes_nothing(host: HostNet) -> None:
    wanted = config("10.77.0.1/24 fd77::1/64", "10.77.0.0/16 fd77::/48", "10.9.0.0/16")
    host.apply(wanted)
    with IPRoute() as netlink:
        netlink.bind()  # from here on it hears of every change
        host.apply(wanted)
        netlink.link("set", index=socket.if_nametoindex("lo"), mtu=60000)
        (first, *_) = netlink.get()
    assert first["event"] == "RTM_NEWLINK"


def test_only_what_differs_changes(host: HostNet) -> None:
    host.apply(config("10.77.0.1/24 fd77::1/64", "10.77.0.0/16 fd77::/48", "10.9.0.0/16"))
    host.apply(config("10.77.0.2/24 fd77::1/64", "10.77.0.0/16 fd77::/48", "10.8.0.0/16"))
    assert addresses() == {"10.77.0.2/24", "fd77::1/64"}
    assert routes() == {"10.77.0.0/16", "10.77.255.255/32", "fd77::/48", "10.8.0.0/16"}


def test_the_first_of_two_addresses_in_a_subnet_goes(host: HostNet) -> None:
    # The kernel removes the second one as well, which is then added again.
    host.apply(config("10.77.0.1/24 10.77.0.2/24", "10.77.0.0/16"))
    host.apply(config("10.77.0.2/24", "10.77.0.0/16"))
    assert addresses() == {"10.77.0.2/24"}
    assert "10.77.0.0/16" in routes()


def test_a_prefix_changes(host: HostNet) -> None:
    host.apply(config("10.77.0.1/24 fd77::1/64", "10.77.0.0/16 fd77::/48"))
    host.apply(config("10.77.0.1/16 fd77::1/48", "10.77.0.0/16 fd77::/48"))
    assert addresses() == {"10.77.0.1/16", "fd77::1/48"}
    assert routes() == set()


def test_nothing_is_left_when_nothing_is_wanted(host: HostNet) -> None:
    host.apply(config("10.77.0.1/24 fd77::1/64", "10.77.0.0/16 fd77::/48", "10.9.0.0/16"))
    host.apply(config())
    assert addresses() == set()
    assert routes() == set()


def test_what_others_set_up_stays(host: HostNet) -> None:
    with IPRoute() as netlink:
        index = socket.if_nametoindex(DEVICE)
        netlink.addr("add", index=index, address="192.0.2.1", prefixlen=24)
        netlink.route("add", dst="198.51.100.0/24", oif=index, proto=_PROTO_STATIC)
    host.apply(config("10.77.0.1/24", "10.77.0.0/16"))
    host.apply(config())
    assert addresses() == {"192.0.2.1/24"}
    assert routes(_PROTO_STATIC) == {"198.51.100.0/24"}


def test_what_was_removed_behind_our_back_comes_back(host: HostNet) -> None:
    wanted = config("10.77.0.1/24 fd77::1/64", "10.77.0.0/16 fd77::/48")
    host.apply(wanted)
    with IPRoute() as netlink:
        index = socket.if_nametoindex(DEVICE)
        netlink.link("set", index=index, state="down")  # removes routes and IPv6 addresses
        netlink.link("set", index=index, state="up")
    host.apply(wanted)
    assert addresses() == {"10.77.0.1/24", "fd77::1/64"}
    assert routes() == {"10.77.0.0/16", "10.77.255.255/32", "fd77::/48"}


def test_a_route_of_another_device_is_not_taken_over(host: HostNet) -> None:
    with IPRoute() as netlink:
        netlink.link("add", ifname="lan", kind="veth", peer="cable")
        lan = socket.if_nametoindex("lan")
        netlink.link("set", index=lan, state="up")
        netlink.route("add", dst="10.9.0.0/16", oif=lan, proto=_PROTO_STATIC, scope=_SCOPE_LINK)
    with pytest.raises(TunError, match=r"^cannot route 10\.9\.0\.0/16 into tun1: another device"):
        host.apply(config("10.77.0.1/24", "10.77.0.0/16", "10.9.0.0/16"))
    assert routes(_PROTO_STATIC) == {"10.9.0.0/16"}
    assert "10.77.0.0/16" in routes()  # the rest is done all the same


def test_extra_routes(host: HostNet) -> None:
    host.apply(config("10.77.0.1/24"), [ipaddress.ip_network("198.51.100.0/24")])
    assert routes() == {"198.51.100.0/24"}


def _disable_ipv6() -> None:
    Path(f"/proc/sys/net/ipv6/conf/{DEVICE}/disable_ipv6").write_text("1")


@pytest.mark.parametrize("asked", [{"addresses": "fd77::1/64"}, {"networks": "fd77::/48"}])
def test_ipv6_that_is_disabled_is_an_error_when_asked_for(
    host: HostNet, asked: dict[str, str]
) -> None:
    _disable_ipv6()
    with pytest.raises(TunError, match="IPv6 is disabled on this host: run `sysctl"):
        host.apply(config(**asked))


def test_ipv6_that_is_disabled_does_not_matter_otherwise(host: HostNet) -> None:
    _disable_ipv6()
    host.apply(config("10.77.0.1/24", "10.77.0.0/16", "2001:db8::/32 10.9.0.0/16"))
    assert routes() == {"10.77.0.0/16", "10.77.255.255/32", "10.9.0.0/16"}


def test_a_device_that_is_gone(fresh_netns: None) -> None:
    with pytest.raises(TunError, match="device tun7 is gone"):
        HostNet("tun7").apply(config("10.77.0.1/24"))


def test_an_mtu_that_the_kernel_refuses(host: HostNet) -> None:
    with pytest.raises(TunError, match="cannot set up device tun1: Invalid argument"):
        host.bring_up(70_000, 500)


def rules(family: int) -> list[str]:
    with IPRoute() as netlink:
        return [
            f"{rule.get_attr('FRA_PRIORITY')} table {rule.get_attr('FRA_TABLE')}"
            for rule in netlink.get_rules(family=family)
            if rule.get_attr("FRA_PROTOCOL") == PROTOCOL
        ]


def device_of(target: str, **more: object) -> str:
    """The device by which packets to an address leave."""
    with IPRoute() as netlink:
        try:
            (route,) = netlink.route("get", dst=target, **more)
        except NetlinkError:
            return ""
        return socket.if_indextoname(route.get_attr("RTA_OIF"))


def underlay() -> None:
    """Another device, with a default route."""
    with IPRoute() as netlink:
        netlink.link("add", ifname="eth0", kind="veth", peer="eth1")
        index = socket.if_nametoindex("eth0")
        netlink.addr("add", index=index, address="198.51.100.1", prefixlen=24)
        netlink.link("set", index=index, state="up")
        netlink.link("set", index=socket.if_nametoindex("eth1"), state="up")
        netlink.route("add", dst="0.0.0.0/0", gateway="198.51.100.254")


def test_a_default_route_leaves_the_mesh_itself_alone(host: HostNet) -> None:
    underlay()
    wanted = DeviceConfig(
        (ipaddress.ip_interface("10.77.0.1/16"), ipaddress.ip_interface("fd77::1/32")),
        routes=(ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0")),
        mark=7,
        underlay=underlay_addresses(DEVICE),
    )
    for _ in range(2):  # applying again changes nothing
        host.apply(wanted)
        first, last = f"{TABLE - 2} table 254", f"{TABLE} table {TABLE}"
        assert rules(socket.AF_INET) == [first, f"{TABLE - 1} table 254", last]
        assert rules(socket.AF_INET6) == [first, last]
        assert device_of("203.0.113.1") == DEVICE
        assert device_of("203.0.113.1", mark=7) == "eth0"
        assert device_of("203.0.113.1", src="198.51.100.1") == "eth0"
        assert device_of("198.51.100.7") == "eth0"  # what is more specific comes first
    with IPRoute() as netlink:  # the host gets one more address
        index = socket.if_nametoindex("eth0")
        netlink.addr("add", index=index, address="192.0.2.1", prefixlen=24)
    host.apply(replace(wanted, underlay=underlay_addresses(DEVICE)))
    assert len(rules(socket.AF_INET)) == 4
    host.apply(config("10.77.0.1/16 fd77::1/32"))
    assert rules(socket.AF_INET) == rules(socket.AF_INET6) == []
    assert device_of("203.0.113.1") == "eth0"


def test_no_rules_are_left(host: HostNet) -> None:
    routes = (ipaddress.ip_network("0.0.0.0/0"),)
    host.apply(DeviceConfig((ipaddress.ip_interface("10.77.0.1/16"),), routes=routes, mark=7))
    assert rules(socket.AF_INET)
    host.close(device_stays=False)
    assert not rules(socket.AF_INET)


def test_the_addresses_of_other_interfaces(host: HostNet) -> None:
    underlay()
    host.apply(config("10.77.0.1/16 fd77::1/32"))
    assert list(map(str, underlay_addresses(DEVICE))) == ["198.51.100.1/24"]


@pytest.mark.parametrize(
    ("version", "name"), [(4, "ipv4/ip_forward"), (6, "ipv6/conf/all/forwarding")]
)
def test_whether_the_host_forwards(fresh_netns: None, version: int, name: str) -> None:
    setting = Path("/proc/sys/net", name)
    setting.write_text("0")
    assert not forwards(version)
    setting.write_text("1")
    assert forwards(version)
