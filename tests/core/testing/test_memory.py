from __future__ import annotations

import ipaddress
import select

import pytest

from tunmesh.errors import TransportError, TunError
from tunmesh.plugin import DeviceConfig, PathHandle
from tunmesh.testing import (
    FakeReactor,
    FakeTransportContext,
    MemoryNetwork,
    MemoryTransport,
    MemoryTun,
)


def transport(network: MemoryNetwork, name: str) -> tuple[MemoryTransport, FakeTransportContext]:
    context = FakeTransportContext(name="memory")
    return MemoryTransport(context, network, f"memory://{name}:1"), context


def handle_seen_by(context: FakeTransportContext) -> PathHandle:
    handle: PathHandle = context.inbound.received[-1].handle
    return handle


async def test_a_transport_listens_while_its_context_lasts() -> None:
    network = MemoryNetwork()
    (a, _), (b, inside_b) = transport(network, "a"), transport(network, "b")
    async with a, b:
        assert a.local_endpoints() == ("memory://a:1",)
        assert await a.resolve("memory://b:1") == ("memory://b:1",)
        a.send(a.connect("memory://b:1"), [b"x" * 10], 4)
        network.clock.advance(1)
        assert [len(datagram) for datagram in inside_b.inbound.datagrams()] == [4, 4, 2]
        assert a.statistics() == {"sent": 3}
    network.send("memory://a:1", "memory://b:1", b"late")
    network.clock.advance(1)
    assert network.statistics["unreachable"] == 1


def test_a_handle_is_the_same_object_only_while_it_is_adopted() -> None:
    network = MemoryNetwork()
    (a, _), (b, inside_b) = transport(network, "a"), transport(network, "b")
    a.open()
    b.open()
    to_b = a.connect("memory://b:1")

    def seen() -> PathHandle:
        a.send(to_b, [b"x"], 1)
        network.clock.advance(1)
        return handle_seen_by(inside_b)

    first, second = seen(), seen()
    assert first is not second
    assert first.source == b"a"
    b.adopt(second)
    assert seen() is second
    assert b.connect("memory://a:1") is second
    b.release(first)
    assert seen() is second
    b.release(second)
    assert seen() is not second


def test_a_transport_may_move() -> None:
    network = MemoryNetwork()
    (a, inside_a), (b, inside_b) = transport(network, "a"), transport(network, "b")
    a.open()
    b.open()
    a.move("elsewhere", 7)
    assert inside_a.inbound.changes == 1
    assert a.local_endpoints() == ("memory://elsewhere:7",)
    a.send(a.connect("memory://b:1"), [b"x"], 1)
    network.clock.advance(1)
    assert handle_seen_by(inside_b).endpoint == "memory://elsewhere:7"
    with pytest.raises(TransportError):
        a.move("b", 1)
    network.send("memory://b:1", "memory://elsewhere:7", b"still here")
    network.clock.advance(1)
    assert inside_a.inbound.datagrams() == [b"still here"]


def test_frames_are_read_up_to_the_fill_mark() -> None:
    tun = MemoryTun()
    buffer = memoryview(bytearray(100))
    frames = [b"a" * 10, b"b" * 20, b"c" * 30]
    for frame in frames:
        tun.inject(frame)
    assert tun.read_batch(buffer, 4, 30) == [10, 20]
    assert buffer[4:14] == frames[0]
    assert buffer[18:38] == frames[1]
    assert tun.read_batch(buffer, 0, 30) == [30]
    assert buffer[:30] == frames[2]
    assert tun.read_batch(buffer, 0, 30) == []


async def test_the_descriptor_is_readable_while_frames_wait() -> None:
    async with MemoryTun() as tun:
        tun.inject(b"x")  # before anybody asked for the descriptor
        buffer = memoryview(bytearray(100))
        read: list[int] = []
        reactor = FakeReactor()
        reactor.watch(tun.fileno(), lambda: read.extend(tun.read_batch(buffer, 0, 1)))
        for size in (2, 3):
            tun.inject(b"x" * size)
        while reactor.poll():
            pass
        assert read == [1, 2, 3]
        tun.inject(b"x" * 4)
        assert reactor.poll() == 1
        assert read == [1, 2, 3, 4]
        descriptor = tun.fileno()
    with pytest.raises(OSError, match="Bad file descriptor"):
        select.select([descriptor], [], [], 0)


def test_a_lost_device_is_readable_and_raises() -> None:
    for early in (True, False):
        tun = MemoryTun(name="memory7")
        if early:
            tun.lose("unplugged")
        descriptor = tun.fileno()
        tun.lose("unplugged")
        assert select.select([descriptor], [], [], 0)[0]
        with pytest.raises(TunError, match="memory7: unplugged"):
            tun.read_batch(memoryview(bytearray(10)), 0, 1)
        tun.close()
        tun.close()


def test_without_a_loop_the_test_is_told() -> None:
    tun = MemoryTun()
    calls: list[int] = []
    tun.on_readable = lambda: calls.append(1)
    tun.inject(b"x")
    assert calls == [1]


async def test_written_frames_and_configurations_are_kept() -> None:
    tun = MemoryTun(mtu=9000, offloads=frozenset({"csum"}))
    assert tun.mtu == 9000
    assert "csum" in tun.offloads
    tun.refuses = lambda frame: frame.startswith(b"bad")
    assert tun.write_batch([bytearray(b"one"), memoryview(b"bad"), b"two"]) == 1
    assert tun.written == [b"one", b"two"]
    config = DeviceConfig(networks=(ipaddress.ip_network("10.42.0.0/16"),))
    await tun.apply(config)
    assert tun.applied == [config]
