from __future__ import annotations

import ipaddress
import os

import anyio
import pytest

from tunmesh.plugin import Inbound, PathHandle, TransportContext, TunContext
from tunmesh.testing import (
    FakeContext,
    FakeReactor,
    FakeTransportContext,
    FakeTunContext,
    MemoryNetwork,
    MemoryTransport,
    RecordingInbound,
    VirtualClock,
)


def test_a_reactor_calls_back_while_something_is_readable() -> None:
    reader, writer = os.pipe()
    reactor = FakeReactor()
    calls: list[bytes] = []
    watch = reactor.watch(reader, lambda: calls.append(os.read(reader, 1)))
    assert reactor.poll() == 0
    os.write(writer, b"ab")
    reactor.poll_until(lambda: len(calls) == 2)
    assert calls == [b"a", b"b"]
    with pytest.raises(TimeoutError):
        reactor.poll_until(lambda: False, timeout=0.01)
    with pytest.raises(ValueError, match="watched already"):
        reactor.watch(reader, lambda: None)
    assert reactor.watched == {reader}
    watch.close()
    watch.close()
    assert reactor.watched == frozenset()
    os.write(writer, b"c")
    assert reactor.poll() == 0
    os.close(reader)
    os.close(writer)


def test_a_callback_may_close_another_watch() -> None:
    pipes = [os.pipe(), os.pipe()]
    reactor = FakeReactor()
    calls: list[int] = []

    def callback() -> None:
        calls.append(1)
        for watch in watches:
            watch.close()

    watches = [reactor.watch(reader, callback) for reader, _ in pipes]
    for _, writer in pipes:
        os.write(writer, b"x")
    assert reactor.poll() == 2
    assert calls == [1]
    for descriptor in (descriptor for pipe in pipes for descriptor in pipe):
        os.close(descriptor)


async def test_tasks_and_calls_wait_for_the_test() -> None:
    clock = VirtualClock()
    context = FakeContext({"key": 1}, name="x", node_name="alpha", clock=clock)
    assert (context.name, context.options, context.node_name) == ("x", {"key": 1}, "alpha")
    assert len(bytes.fromhex(context.node_id)) == 16
    clock.advance(5)
    assert context.now() == clock.now()
    done: list[int] = []

    async def task(number: int) -> None:
        done.append(number)
        if number == 1:
            context.start_soon(task, 2)

    context.start_soon(task, 1)
    context.call_soon_threadsafe(done.append, 3)
    assert len(context.started) == 1
    assert done == []
    await context.run_started()
    context.run_calls()
    context.run_calls()
    assert done == [1, 2, 3]


async def test_tasks_run_where_the_test_says() -> None:
    done: list[int] = []

    async def task(number: int) -> None:
        done.append(number)

    async with anyio.create_task_group() as tasks:
        context = FakeContext(tasks=tasks)
        context.start_soon(task, 1)
        assert not context.started
    assert done == [1]


def test_a_transports_context_knows_the_overlay() -> None:
    context: TransportContext = FakeTransportContext(overlay=["10.42.0.0/16", "fd42::/48"])
    assert context.is_overlay("10.42.9.9")
    assert context.is_overlay("fd42::1")
    assert not context.is_overlay("192.0.2.1")


def test_a_given_inbound_is_used() -> None:
    inbound: Inbound = RecordingInbound()
    assert FakeTransportContext(inbound=inbound).inbound is inbound


def test_an_inbound_remembers_everything() -> None:
    transport = MemoryTransport(FakeTransportContext(), MemoryNetwork(), "memory://a:1")
    handle = PathHandle(transport, "memory://b:1", source=b"b", max_datagram=1472)
    inbound = RecordingInbound()
    buffer = bytearray(b"aabbc")
    inbound.receive(handle, memoryview(buffer), 2)
    buffer[:] = bytes(5)
    inbound.receive(handle, memoryview(b"dd"), 2)
    inbound.too_big(handle, 1500)
    inbound.path_closed(handle, "end of stream")
    inbound.endpoints_changed()
    assert inbound.datagrams() == [b"aa", b"bb", b"c", b"dd"]
    assert inbound.refused == [(handle, 1500)]
    assert inbound.closed == [(handle, "end of stream")]
    assert inbound.changes == 1


def test_a_backends_context_remembers_a_lost_device() -> None:
    context = FakeTunContext(networks=["10.42.0.0/16"])
    typed: TunContext = context
    assert typed.mesh_networks == (ipaddress.ip_network("10.42.0.0/16"),)
    typed.device_lost("gone")
    assert context.lost == ["gone"]
