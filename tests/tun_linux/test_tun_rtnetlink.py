"""What the kernel tells of a device, and the plugin ``ifaddr`` that passes it on."""

from __future__ import annotations

import ipaddress
import os
import socket
import struct
from collections.abc import Callable, Iterable, Iterator
from ipaddress import ip_interface, ip_network
from typing import Any

import pytest
from pyroute2 import IPRoute

from tunmesh.interfaces.tun import Interface
from tunmesh.testing import FakeContext
from tunmesh_tun_linux import ifaddr, rtnetlink
from tunmesh_tun_linux.ifaddr import InterfaceAddresses
from tunmesh_tun_linux.rtnetlink import Event
from tunmesh_tun_linux.tunfd import open_tun

MESSAGE = struct.Struct("=IHHII")
ATTRIBUTE = struct.Struct("=HH")


def message(kind: int, body: bytes) -> bytes:
    padding = bytes(-len(body) % 4)
    return MESSAGE.pack(MESSAGE.size + len(body), kind, 0, 0, 0) + body + padding


def attribute(kind: int, value: bytes) -> bytes:
    return ATTRIBUTE.pack(ATTRIBUTE.size + len(value), kind) + value + bytes(-len(value) % 4)


def link(kind: int, index: int, flags: int, family: int = 0) -> bytes:
    return message(kind, struct.pack("=BxHiII", family, 65534, index, flags, 0))


def ifaddr_message(kind: int, index: int) -> bytes:
    body = struct.pack("=BBBBI", 2, 24, 0, 0, index) + attribute(2, bytes([10, 0, 0, 1]))
    return message(kind, body)


def route(kind: int, index: int) -> bytes:
    return message(kind, bytes(12) + attribute(4, struct.pack("=I", index)))


@pytest.mark.parametrize(
    ("data", "events"),
    [
        (b"", set()),
        (link(17, 7, 1), {Event.GONE}),
        (link(17, 8, 1), set()),
        (link(17, 7, 1, family=7), set()),  # a bridge that loses its port
        (link(16, 7, 0), {Event.DOWN}),
        (link(16, 7, 1), set()),
        (ifaddr_message(20, 7), {Event.ADDRESSES_CHANGED}),
        (ifaddr_message(21, 7), {Event.ADDRESSES_CHANGED, Event.REMOVED}),
        (ifaddr_message(21, 8), set()),
        (route(25, 7), {Event.REMOVED}),
        (route(25, 8), set()),
        (route(24, 7), set()),
        (message(25, bytes(12)), set()),  # a route without a device
        (ifaddr_message(20, 7) + link(16, 7, 0), {Event.ADDRESSES_CHANGED, Event.DOWN}),
    ],
)
def test_events(data: bytes, events: set[Event]) -> None:
    assert rtnetlink.decode_events(data, 7) == events


@pytest.mark.parametrize(
    ("flags", "found"), [(0x80, True), (0x08, False), (0x40, False), (0x800, True)]
)
def test_addresses_that_cannot_be_used(flags: int, found: bool) -> None:
    body = struct.pack("=BBBBI", 10, 64, flags & 0xFF, 0, 7)
    body += attribute(1, ipaddress.ip_address("fd77::1").packed)
    body += attribute(8, struct.pack("=I", flags))
    expected = ip_interface("fd77::1/64") if found else None
    assert rtnetlink.decode_address(memoryview(body)) == expected


class FakeAddressContext(FakeContext):
    """An `AddressContext`."""

    device = "tun1"
    mesh_networks = (ip_network("10.77.0.0/16"), ip_network("fd77::/48"))

    def __init__(self) -> None:
        super().__init__()
        self.history: list[set[Interface]] = []

    def set_addresses(self, addresses: Iterable[Interface]) -> None:
        self.history.append(set(addresses))


@pytest.fixture
def device(fresh_netns: None) -> Iterator[Callable[..., None]]:
    opened = open_tun("tun1")

    def change(method: str, command: str, **arguments: Any) -> None:
        with IPRoute() as netlink:
            index = socket.if_nametoindex("tun1")
            getattr(netlink, method)(command, index=index, **arguments)

    change("link", "set", state="up")
    yield change
    os.close(opened.fd)


def enter(provider: InterfaceAddresses) -> None:
    with pytest.raises(StopIteration):  # it does not wait for anything
        provider.__aenter__().send(None)


def leave(provider: InterfaceAddresses) -> None:
    with pytest.raises(StopIteration):
        provider.__aexit__(None, None, None).send(None)


@pytest.mark.system
def test_addresses_come_and_go(device: Callable[..., None]) -> None:
    context = FakeAddressContext()
    (registration,) = ifaddr.tunmesh_address_providers()
    provider = registration.factory(context)
    assert isinstance(provider, InterfaceAddresses)
    assert not provider.configures_device
    enter(provider)
    assert len(context.history) == 1
    (own,) = context.history[0]
    assert own.is_link_local
    for text in ("10.77.1.1/24", "fd77::7/64"):
        address = ip_interface(text)
        settings = {"address": str(address.ip), "prefixlen": address.network.prefixlen}
        device("addr", "add", **settings)
        context.reactor.poll_until(lambda a=address: context.history[-1] == {own, a})  # type: ignore[misc]
        device("addr", "del", **settings)
        context.reactor.poll_until(lambda: context.history[-1] == {own})
    device("addr", "add", address="192.0.2.1", prefixlen=24)
    context.reactor.poll(1)
    assert context.history[-1] == {own}
    leave(provider)
    assert not context.reactor.watched


@pytest.mark.system
def test_a_device_that_is_no_interface_has_no_addresses(fresh_netns: None) -> None:
    context = FakeAddressContext()
    provider = InterfaceAddresses(context)
    with pytest.raises(StopIteration):
        provider.__aenter__().send(None)
    assert context.history == [frozenset()]
    assert not context.reactor.watched
    leave(provider)


@pytest.mark.system
def test_a_watch_that_lost_something(device: Callable[..., None]) -> None:
    index = socket.if_nametoindex("tun1")
    with rtnetlink.open_watch(rtnetlink.ALL_GROUPS) as watch:
        watch.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        with IPRoute() as netlink:
            for number in range(1, 40):
                netlink.addr("add", index=index, address=f"10.77.0.{number}", prefixlen=24)
        found: set[Event] = set()
        for _ in range(10):
            found |= rtnetlink.read_events(watch, index)
        assert found == {Event.ADDRESSES_CHANGED, Event.REMOVED}
