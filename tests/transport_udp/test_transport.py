"""The transport on real sockets: on loopback, or in network namespaces of the tests' own."""

from __future__ import annotations

import errno
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio
import msgspec
import pytest

from tunmesh.plugin import EndpointError, PathHandle, TransportError, TransportRegistration
from tunmesh.testing import FakeReactor, FakeTransportContext, RecordingInbound
from tunmesh_transport_udp.options import Options
from tunmesh_transport_udp.plugin import tunmesh_transports
from tunmesh_transport_udp.sockets import (
    SO_RCVBUFFORCE,
    SO_SNDBUFFORCE,
    UDP_GRO,
    UDP_SEGMENT,
)
from tunmesh_transport_udp.transport import UdpTransport

OnHost = Callable[..., None]
Refusal = tuple[str, int, int, int]  # call, argument, its value, error number

SO_NO_CHECK = 11
UDP_NO_CHECK6_TX = 101
IP_RECVERR = 11
PROTECTED = "10.42.0.0/16"
VERSIONS = pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])


class Node:
    """A transport, and what it delivered."""

    def __init__(self, reactor: FakeReactor, *listen: str, overlay: tuple[str, ...] = ()) -> None:
        self.context = FakeTransportContext(
            Options(listen=listen) if listen else Options(),
            reactor=reactor,
            overlay=overlay,
            name="udp",
        )
        self.reactor = reactor
        self.transport = UdpTransport(self.context)

    @property
    def inbound(self) -> RecordingInbound:
        inbound: RecordingInbound = self.context.inbound
        return inbound

    def path_to(self, other: Node) -> PathHandle:
        handle = self.transport.connect(other.transport.local_endpoints()[0])
        self.transport.adopt(handle)
        return handle

    def wait_for(self, datagrams: int) -> list[bytes]:
        self.reactor.poll_until(lambda: len(self.inbound.datagrams()) >= datagrams)
        return self.inbound.datagrams()


@asynccontextmanager
async def started(*listens: str) -> AsyncIterator[list[Node]]:
    """One node for each address to listen on; closing must leave nothing watched."""
    reactor = FakeReactor()
    async with AsyncExitStack() as stack:
        nodes = [Node(reactor, listen) for listen in listens]
        for node in nodes:
            await stack.enter_async_context(node.transport)
        yield nodes
    assert not reactor.watched


def socket_of(handle: PathHandle) -> socket.socket:
    owner: socket.socket = handle.sendmsg.__self__  # type: ignore[attr-defined]
    return owner


def refuse_runs(handle: PathHandle) -> None:
    """Have runs of datagrams refused as on some tunnels: without checksums none are cut up."""
    sock = socket_of(handle)
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.SOL_UDP, UDP_NO_CHECK6_TX, 1)
    else:
        sock.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, 1)


@VERSIONS
async def test_datagrams_arrive_with_their_bounds_and_are_answered(host: str) -> None:
    async with started(f"{host}:0", f"{host}:0") as (a, b):
        there = a.path_to(b)
        assert a.transport.send(there, [b"head", b"body"], 1452)
        assert a.transport.send(there, [b"x" * 3000], 1000)
        assert a.transport.send(there, [b"y" * 700, b"y" * 700, b"y" * 300], 500)
        expected = [b"headbody", *[b"x" * 1000] * 3, *[b"y" * 500] * 3, b"y" * 200]
        assert b.wait_for(8) == expected
        back = b.inbound.received[0].handle
        assert back.endpoint == a.transport.local_endpoints()[0]
        assert b.transport.send(back, [b"answer"], 6)
        assert a.wait_for(1) == [b"answer"]
        assert a.inbound.received[0].handle is there


async def test_there_may_be_any_number_of_segment_sizes() -> None:
    async with started("127.0.0.1:0", "127.0.0.1:0") as (a, b):
        there = a.path_to(b)
        for size in range(100, 300):
            assert a.transport.send(there, [bytes(size), b"end"], size)
            received = b.wait_for(2)
            assert [len(datagram) for datagram in received] == [size, 3]
            b.inbound.received.clear()


@VERSIONS
async def test_a_full_run_travels_as_one(host: str) -> None:
    async with started(f"{host}:0", f"{host}:0") as (a, b):
        there = a.path_to(b)
        assert a.transport.max_segments == 64
        payload = bytes(range(256)) * 256
        payload = payload[: a.transport.max_send]
        assert a.transport.send(there, [payload], there.max_datagram)
        b.wait_for(-(-len(payload) // there.max_datagram))
        (received,) = b.inbound.received
        assert received.data == payload
        assert received.segment_size == there.max_datagram
        assert a.transport.statistics() == {}


async def test_max_datagram_is_what_ethernet_leaves() -> None:
    async with started("127.0.0.1:0", "[::1]:0") as (a, b):
        assert a.transport.connect("udp://192.0.2.1:1").max_datagram == 1472
        assert b.transport.connect("udp://[2001:db8::1]:1").max_datagram == 1452


async def test_a_handle_is_the_same_object_only_while_it_is_adopted() -> None:
    async with started("127.0.0.1:0", "127.0.0.1:0") as (a, b):
        to_a = b.transport.connect(a.transport.local_endpoints()[0])
        for _ in range(2):
            b.transport.send(to_a, [b"?"], 1)
        a.wait_for(2)
        first, second = (entry.handle for entry in a.inbound.received)
        assert first is not second
        a.transport.adopt(second)
        b.transport.send(to_a, [b"?"], 1)
        a.wait_for(3)
        assert a.inbound.received[2].handle is second
        assert a.transport.connect(second.endpoint) is second
        a.transport.release(first)  # not the one that is adopted
        assert a.transport.connect(second.endpoint) is second
        a.transport.release(second)
        assert a.transport.connect(second.endpoint) is not second


async def test_more_datagrams_than_a_wake_up_takes_are_not_lost() -> None:
    async with started("127.0.0.1:0", "127.0.0.1:0") as (a, b):
        there = a.path_to(b)
        for number in range(40):
            a.transport.send(there, [bytes([number]) * (100 + number)], 200)
        b.reactor.poll()
        assert len(b.inbound.received) <= 16
        assert len(b.wait_for(40)) == 40


async def test_empty_datagrams_are_ignored() -> None:
    async with started("127.0.0.1:0", "127.0.0.1:0") as (a, b):
        there = a.path_to(b)
        a.transport.send(there, [b""], 100)
        a.transport.send(there, [b"x"], 100)
        assert b.wait_for(1) == [b"x"]


async def test_what_cannot_be_an_endpoint_is_refused() -> None:
    reactor = FakeReactor()
    async with Node(reactor, "127.0.0.1:0", overlay=(PROTECTED,)).transport as transport:
        with pytest.raises(EndpointError, match="inside the mesh"):
            transport.connect("udp://10.42.1.1:4567")
        with pytest.raises(EndpointError, match="IP version"):
            transport.connect("udp://[2001:db8::1]:4567")


async def test_names_are_resolved_to_addresses_of_versions_that_can_be_reached() -> None:
    async with started("127.0.0.1:0") as (a,):
        resolve = a.transport.resolve
        assert await resolve("udp://localhost:4567") == ("udp://127.0.0.1:4567",)
        assert await resolve("udp://192.0.2.1:4567") == ("udp://192.0.2.1:4567",)
        with pytest.raises(EndpointError, match="IP version"):
            await resolve("udp://[2001:db8::1]:4567")
        with pytest.raises(EndpointError, match="cannot resolve"):
            await resolve("udp://nonesuch.invalid:4567")
        with pytest.raises(EndpointError, match="udp://host:port"):
            await resolve("https://192.0.2.1:4567")


async def test_ipv6_urls_are_resolved() -> None:
    async with started("[::1]:0") as (a,):
        resolved = await a.transport.resolve("udp://[2001:db8::1]:4567")
        assert resolved == ("udp://[2001:db8::1]:4567",)
        assert a.transport.connect(resolved[0]).endpoint == resolved[0]


async def test_a_port_in_use_is_one_readable_line() -> None:
    async with started("127.0.0.1:0") as (a,):
        taken = a.transport.local_endpoints()[0].removeprefix("udp://")
        other = Node(FakeReactor(), "127.0.0.1:0", taken)
        expected = rf"cannot listen on udp {taken}: address already in use \(plugins.udp.listen\)"
        with pytest.raises(TransportError, match=expected):
            await other.transport.__aenter__()
        assert not other.reactor.watched


async def test_a_refused_datagram_leaves_the_socket_alive() -> None:
    async with started("127.0.0.1:0", "127.0.0.1:0") as (a, b):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unheard:
            unheard.bind(("127.0.0.1", 0))
            port = unheard.getsockname()[1]
        nobody = a.transport.connect(f"udp://127.0.0.1:{port}")
        there = a.path_to(b)
        socket_of(nobody).setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)  # so that it is told
        for _ in range(3):
            assert a.transport.send(nobody, [b"x"], 1)
        a.reactor.poll()
        assert a.transport.send(there, [b"y"], 1)
        assert b.wait_for(1) == [b"y"]
        refused = a.transport.statistics()
        assert sum(refused.values()) > 0
        assert refused.keys() <= {"send_econnrefused", "receive_econnrefused"}


async def test_a_route_that_refuses_runs_gets_single_datagrams() -> None:
    async with started("127.0.0.1:0", "127.0.0.1:0") as (a, b):
        there = a.path_to(b)
        refuse_runs(there)
        for _ in range(2):
            assert a.transport.send(there, [b"a" * 700, b"b" * 800], 500)
        assert b.wait_for(6) == [b"a" * 500, b"a" * 200 + b"b" * 300, b"b" * 500] * 2
        assert a.transport.statistics() == {"segmentation_refused": 1}


def test_datagrams_that_do_not_fit_are_told(on_host: OnHost, anyio_backend: str) -> None:
    async def scenario() -> None:
        for host in ("127.0.0.1", "[::1]"):
            async with started(f"{host}:0", f"{host}:0") as (a, b):
                there = a.path_to(b)
                assert a.transport.send(there, [b"x" * 1400], 1400)
                assert a.transport.send(there, [b"x" * 3000], 1400)
                assert a.transport.send(there, [b"x" * 3000], 1200)
                assert b.wait_for(3) == [b"x" * 1200, b"x" * 1200, b"x" * 600]
                assert a.inbound.refused == [(there, 1400), (there, 1400)]
                assert a.transport.statistics() == {"too_big": 2}
                refuse_runs(there)
                assert a.transport.send(there, [b"x" * 1000], 500)
                assert a.transport.send(there, [b"x" * 3000], 1400)  # now one by one
                assert a.inbound.refused[2:] == [(there, 1400)]
                assert a.transport.statistics() == {"too_big": 3, "segmentation_refused": 1}

    def body(host: Any) -> None:
        host.ipr.link("set", index=1, mtu=1300)
        anyio.run(scenario, backend=anyio_backend)

    on_host(body)


def test_a_full_queue_is_told(on_host: OnHost, anyio_backend: str) -> None:
    async def scenario() -> None:
        async with started("0.0.0.0:0") as (a,):
            silent = a.transport.connect("udp://10.9.0.2:4567")
            # Datagrams wait for an address resolution that nobody answers.
            socket_of(silent).setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
            results = [a.transport.send(silent, [b"x" * 1000], 1000) for _ in range(20)]
            assert results[0]
            assert not results[-1]
            results = [a.transport.send(silent, [b"x" * 3000], 1000) for _ in range(2)]
            assert not any(results)
            assert a.transport.statistics() == {}

    def body(host: Any) -> None:
        host.ipr.link("add", ifname="udp0", kind="veth", peer="udp1")
        for name in ("udp0", "udp1"):
            host.ipr.link("set", index=host.ipr.link_lookup(ifname=name)[0], state="up")
        index = host.ipr.link_lookup(ifname="udp0")[0]
        host.ipr.addr("add", index=index, address="10.9.0.1", prefixlen=24)
        anyio.run(scenario, backend=anyio_backend)

    on_host(body)


def test_a_missing_route_is_counted(on_host: OnHost, anyio_backend: str) -> None:
    async def scenario() -> None:
        async with started("0.0.0.0:0") as (a,):
            nowhere = a.transport.connect("udp://192.0.2.1:4567")
            assert a.transport.send(nowhere, [b"x"], 1)
            assert a.transport.send(nowhere, [b"x" * 10], 4)
            assert a.transport.statistics() == {"send_enetunreach": 2}

    on_host(lambda _: anyio.run(scenario, backend=anyio_backend))


def test_datagrams_that_came_through_the_mesh_are_dropped(
    on_host: OnHost, anyio_backend: str
) -> None:
    async def scenario() -> None:
        reactor = FakeReactor()
        node = Node(reactor, "127.0.0.1:0", overlay=(PROTECTED,))
        async with node.transport, Node(reactor, "10.42.0.1:0").transport as other:
            endpoint = node.transport.local_endpoints()[0]
            other.send(other.connect(endpoint), [b"x"], 1)
            reactor.poll_until(lambda: bool(node.transport.statistics()))
            assert node.transport.statistics() == {"receive_overlay": 1}
            assert node.inbound.received == []

    def body(host: Any) -> None:
        host.ipr.addr("add", index=1, address="10.42.0.1", prefixlen=32)
        anyio.run(scenario, backend=anyio_backend)

    on_host(body)


def test_changes_of_the_hosts_addresses_are_told(on_host: OnHost, anyio_backend: str) -> None:
    async def scenario(host: Any) -> None:
        async with started("0.0.0.0:4567") as (a,):
            assert a.transport.local_endpoints() == ("udp://127.0.0.1:4567",)
            there = a.path_to(a)
            refuse_runs(there)
            for refusals in (1, 2):  # a change of addresses gives runs another chance
                a.transport.send(there, [b"x" * 10], 5)
                assert a.transport.statistics() == {"segmentation_refused": refusals}
                host.configure("add", f"192.0.2.{refusals}")
                a.reactor.poll_until(lambda: bool(a.context.started))
                assert len(a.context.started) == 1
                await a.context.run_started()
                assert a.inbound.changes == refusals
            assert a.transport.local_endpoints() == (
                "udp://192.0.2.1:4567",
                "udp://192.0.2.2:4567",
            )
            host.configure("del", "192.0.2.2")
            host.configure("add", "192.0.2.2")
            a.reactor.poll_until(lambda: bool(a.context.started))
            await a.context.run_started()  # gone and back at once: nothing to tell
            assert a.inbound.changes == 2
            host.configure("add", "192.0.2.3")
            a.reactor.poll_until(lambda: bool(a.context.started))
        await a.context.run_started()  # closed meanwhile
        assert a.inbound.changes == 2

    on_host(lambda host: anyio.run(scenario, host, backend=anyio_backend))


def test_an_explicit_address_that_the_host_lacks_is_an_error(
    on_host: OnHost, anyio_backend: str
) -> None:
    async def scenario() -> None:
        node = Node(FakeReactor(), "0.0.0.0:4567", "[2001:db8::1]:4567")
        with pytest.raises(TransportError, match=r"udp \[2001:db8::1\]:4567: cannot assign"):
            await node.transport.__aenter__()
        assert not node.reactor.watched

    on_host(lambda _: anyio.run(scenario, backend=anyio_backend))


def without(family: int) -> Refusal:
    return ("socket", 0, family, errno.EAFNOSUPPORT)


@pytest.mark.parametrize("missing", [socket.AF_INET, socket.AF_INET6])
def test_by_default_a_host_with_one_ip_version_works(
    on_host: OnHost, anyio_backend: str, missing: int
) -> None:
    async def scenario() -> None:
        node = Node(FakeReactor())
        explicit = Node(FakeReactor(), "0.0.0.0:4568", "[::]:4568")
        async with node.transport:
            (endpoint,) = node.transport.local_endpoints()
            assert ("[" in endpoint) is (missing == socket.AF_INET)
        with pytest.raises(TransportError, match="address family not supported"):
            await explicit.transport.__aenter__()

    on_host(lambda _: anyio.run(scenario, backend=anyio_backend), without(missing))


@pytest.mark.parametrize(
    ("refusals", "message"),
    [
        ((without(socket.AF_INET), without(socket.AF_INET6)), "address family not supported"),
        ((without(socket.AF_NETLINK),), "cannot watch the addresses"),
        ((("setsockopt", 2, socket.IPV6_V6ONLY, errno.EINVAL),), "invalid argument"),
    ],
)
def test_a_host_that_refuses_is_an_error_of_one_line(
    on_host: OnHost, anyio_backend: str, refusals: tuple[Refusal, ...], message: str
) -> None:
    async def scenario() -> None:
        node = Node(FakeReactor())
        with pytest.raises(TransportError, match=message):
            await node.transport.__aenter__()
        assert not node.reactor.watched

    on_host(lambda _: anyio.run(scenario, backend=anyio_backend), *refusals)


@pytest.mark.parametrize(
    "refusals",
    [
        (("getsockopt", 2, UDP_SEGMENT, errno.ENOPROTOOPT),),
        (("setsockopt", 2, UDP_GRO, errno.ENOPROTOOPT),),
        (
            ("setsockopt", 2, SO_RCVBUFFORCE, errno.EPERM),
            ("setsockopt", 2, SO_SNDBUFFORCE, errno.EPERM),
        ),
    ],
)
def test_older_kernels_and_fewer_privileges_will_do(
    on_host: OnHost, anyio_backend: str, refusals: tuple[Refusal, ...]
) -> None:
    async def scenario() -> None:
        async with started("127.0.0.1:0", "127.0.0.1:0") as (a, b):
            there = a.path_to(b)
            known = refusals[0][1:3] != (2, UDP_SEGMENT)
            assert a.transport.max_segments == (64 if known else 1)
            a.transport.send(there, [b"x" * 2500], 1000)
            assert [len(datagram) for datagram in b.wait_for(3)] == [1000, 1000, 500]
            assert a.transport.statistics() == {}

    on_host(lambda _: anyio.run(scenario, backend=anyio_backend), *refusals)


def test_the_registration_builds_the_transport() -> None:
    (registration,) = tunmesh_transports()
    assert isinstance(registration, TransportRegistration)
    transport = registration.factory(FakeTransportContext(Options(), name="udp"))
    assert transport.name == "udp"
    assert transport.schemes == {"udp"}
    assert transport.local_endpoints() == ()


@pytest.mark.parametrize("listen", [[], [""], ["4567"], ["host:1"], ["[::]"], ["0.0.0.0:123456"]])
def test_options_that_cannot_be_addresses_are_refused(listen: list[str]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"listen": listen}, Options)


def test_options_have_the_documented_default() -> None:
    assert msgspec.convert({}, Options).listen == ("0.0.0.0:4567", "[::]:4567")
