"""Tests of transports: what is carried, and what is dropped."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio

from tunmesh.interfaces.transport import PathHandle
from tunmesh.testing.conformance.ends import End, free_port
from tunmesh.testing.conformance.leftovers import memory
from tunmesh.testing.conformance.registry import covers
from tunmesh.testing.conformance.stage import until
from tunmesh.testing.conformance.transport_base import TransportTests

#: Bytes sent without giving anybody the time to read them.
_FLOOD = 96 << 20
#: Bytes that a transport may keep of that.
_KEPT = 48 << 20
#: Seconds in which nothing more arrives when all is read.
_QUIET = 0.3


class TransportTraffic(TransportTests):
    """Datagrams on their way."""

    @covers("Transport.send", "Inbound.receive")
    async def test_datagrams_keep_their_bounds(self, folder: Path) -> None:
        """Buffers are joined and cut into segments; each arrives whole or not at all."""
        async with self.ends(folder) as (a, b):
            handle = a.path_to(b.endpoint)
            size = min(handle.max_datagram, 1200)
            await a.deliver(handle, b, b"x", _pattern(2), _pattern(size - 1), _pattern(size))
            many = min(a.transport.max_segments, 4, a.transport.max_send // 700)
            whole = _pattern(700 * many - 100)
            cut = [whole[at : at + 700] for at in range(0, len(whole), 700)]
            for buffers in ([whole], [whole[:1], whole[1:]], [whole[:650], whole[650:]]):
                b.inbound.received.clear()
                await self._run_arrives(a, handle, b, [bytearray(x) for x in buffers], cut)

    async def _run_arrives(
        self, a: End, handle: PathHandle, b: End, buffers: list[bytearray], cut: list[bytes]
    ) -> None:
        for _ in range(20):  # it may be lost
            a.transport.send(handle, [memoryview(buffer) for buffer in buffers], 700)
            with anyio.move_on_after(self.patience / 20):
                await until(lambda: set(cut) <= set(b.inbound.datagrams()), "a run", self.patience)
                break
        arrived = b.inbound.datagrams()
        assert set(arrived) == set(cut), (
            f"a run of {[len(one) for one in cut]} bytes arrived as {[len(one) for one in arrived]}"
        )

    @covers("Transport.send")
    async def test_the_largest_datagram_and_the_largest_run_arrive(self, folder: Path) -> None:
        """`max_datagram`, `max_segments` and `max_send` are promises."""
        async with self.ends(folder) as (a, b):
            handle = a.path_to(b.endpoint)
            await a.deliver(handle, b, b"first")
            largest = min(handle.max_datagram, a.transport.max_send)
            await a.deliver(handle, b, _pattern(largest))
            size = min(1200, largest)
            run = _pattern(min(size * a.transport.max_segments, a.transport.max_send))
            cut = {run[at : at + size] for at in range(0, len(run), size)}
            for _ in range(20):
                a.transport.send(handle, [run], size)
                with anyio.move_on_after(self.patience / 20):
                    await until(lambda: cut <= set(b.inbound.datagrams()), "", self.patience)
                    break
            assert cut <= set(b.inbound.datagrams()), "the largest run never arrived whole"

    @covers("Transport.send")
    async def test_buffers_are_not_kept(self, folder: Path) -> None:
        """What is written into a buffer after `send` returned does not arrive."""
        async with self.ends(folder) as (a, b):
            handle = a.path_to(b.endpoint)
            wanted = {b"the end"} | {b"go on %d" % number for number in range(0, 60, 20)}
            for number in range(60):
                buffers = [bytearray(b"%03d" % number), bytearray(b"good" * 100)]
                sent = b"".join(buffers)
                a.transport.send(handle, buffers, len(sent))
                wanted.add(sent)
                for buffer in buffers:
                    buffer[:] = b"b" * len(buffer)
                    if number % 2:
                        buffer.clear()  # raises BufferError if something still looks into it
                if number % 20 == 0:
                    await a.deliver(handle, b, b"go on %d" % number)
            await a.deliver(handle, b, b"the end")
            assert set(b.inbound.datagrams()) <= wanted, (
                "a buffer was kept: what was written into it later has arrived"
            )

    @covers("Transport.send", "Inbound.too_big")
    async def test_a_datagram_too_large_is_told_or_counted(self, folder: Path) -> None:
        """Beyond `max_datagram` it arrives whole, or `too_big` is called, or it is counted."""
        async with self.ends(folder) as (a, b):
            handle = a.path_to(b.endpoint)
            await a.deliver(handle, b, b"first")
            counted = a.counted() + b.counted()
            size = min(handle.max_datagram + 1, a.transport.max_send)
            b.inbound.received.clear()
            accepted = a.send(handle, _pattern(size))
            with anyio.move_on_after(_QUIET):
                await until(lambda: b.inbound.received, "", 10 * _QUIET)
            arrived = [len(one) for one in b.inbound.datagrams()]
            assert arrived in ([], [size]), f"of {size} bytes arrived {arrived}"
            if not arrived:
                told = a.inbound.refused or not accepted
                assert told or a.counted() + b.counted() > counted, "it vanished without a trace"
            await a.deliver(handle, b, b"the path still works")

    @covers("Transport.send")
    async def test_a_full_queue_drops_and_tells(self, folder: Path) -> None:
        """Without a reader `send` never blocks and keeps little; what is lost leaves a trace."""
        async with self.ends(folder) as (a, b):
            handle = a.path_to(b.endpoint)
            await a.deliver(handle, b, b"first")
            counted = a.counted() + b.counted()
            b.inbound.keeps, b.inbound.count = False, 0
            size = min(handle.max_datagram, 1200)
            run = [bytes(size)] * min(a.transport.max_segments, a.transport.max_send // size)
            sent = refused = 0
            before = memory()
            with _interrupted(self.patience, "send blocked"):
                while sent * size < _FLOOD:
                    refused += not a.transport.send(handle, run, size)
                    sent += len(run)
            kept = memory() - before
            assert kept < _KEPT, f"{kept >> 20} MiB are kept of {_FLOOD >> 20} MiB sent"
            arrived = await self._all_that_comes(b)
            lost = a.counted() + b.counted() - counted
            assert arrived >= sent or refused or lost, f"{sent - arrived} vanished without a trace"
            b.inbound.keeps = True
            await a.deliver(handle, b, b"the path still works")

    async def _all_that_comes(self, end: End) -> int:
        """How many datagrams have come when no more do."""
        seen = -1
        while seen < (seen := end.inbound.count):  # noqa: ASYNC110 - until none come
            await anyio.sleep(_QUIET)
        return seen

    @covers("Transport.send")
    async def test_both_ends_may_dial_at_once(self, folder: Path) -> None:
        """Each reaches the other, whoever was first."""
        async with self.ends(folder) as (a, b):
            there, back = a.path_to(b.endpoint), b.path_to(a.endpoint)
            async with anyio.create_task_group() as tasks:
                for number in range(5):
                    tasks.start_soon(a.deliver, there, b, b"there %d" % number)
                    tasks.start_soon(b.deliver, back, a, b"back %d" % number)

    @covers("Transport.send", "Transport.connect")
    async def test_one_serves_many(self, folder: Path) -> None:
        """Each of many peers has a handle of its own."""
        async with self.ends(folder, 5) as (hub, *others):
            handles = [
                await other.deliver(
                    other.path_to(hub.endpoint), hub, other.context.node_id.encode()
                )
                for other in others
            ]
            assert len(set(handles)) == len(others)
            for handle, other in zip(handles, others, strict=True):
                await hub.deliver(handle, other, b"to you")

    @covers("Inbound.receive")
    async def test_the_core_may_answer_while_it_receives(self, folder: Path) -> None:
        """Adopting, sending and releasing within `receive` is what handshakes do."""
        async with self.ends(folder) as (a, b):

            def answer(handle: PathHandle) -> None:
                b.transport.adopt(handle)
                b.send(handle, b"at once")
                if len(b.inbound.received) % 2:
                    b.transport.release(handle)

            b.inbound.on_receive = answer
            handle = a.path_to(b.endpoint)
            for number in range(4):
                await a.deliver(handle, b, b"question %d" % number)
            await until(lambda: b"at once" in a.inbound.datagrams(), "an answer", self.patience)

    @covers("Transport.send", "Inbound.path_closed")
    async def test_a_peer_that_comes_back_is_reached_again(self, folder: Path) -> None:
        """What is sent meanwhile is lost without an error; afterwards it arrives again."""
        ports = [free_port(), free_port()]
        async with self.ends(folder, ports=ports[:1]) as (a,):
            async with self.ends(folder, ports=ports[1:]) as (b,):
                handle = a.path_to(b.endpoint)
                await a.deliver(handle, b, b"before")
                endpoint = b.endpoint
            for _ in range(20):
                a.send(handle, b"nobody hears it")
                await anyio.sleep(0.005)
            async with self.ends(folder, ports=ports[1:]) as (b,):
                assert b.endpoint.partition("#")[0] == endpoint.partition("#")[0]
                deadline = a.context.now() + self.patience
                while b"after" not in b.inbound.datagrams():
                    assert a.context.now() < deadline, "it is not reached again"
                    handle = a.path_to(b.endpoint) if b.endpoint != endpoint else a.again(handle)
                    a.send(handle, b"after")
                    await anyio.sleep(0.02)


def _pattern(size: int) -> bytes:
    """Bytes in which a shift or a cut shows."""
    return b"".join(number.to_bytes(4, "big") for number in range(size // 4 + 1))[-size:]


@contextmanager
def _interrupted(seconds: float, what: str) -> Iterator[None]:
    """Fail if this takes so long, even where it waits in a system call."""

    def interrupt(*_: object) -> None:
        raise AssertionError(f"{what} for {seconds} s")

    previous = signal.signal(signal.SIGUSR2, interrupt)
    main = threading.get_ident()
    timer = threading.Timer(seconds, signal.pthread_kill, (main, signal.SIGUSR2))
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        signal.signal(signal.SIGUSR2, previous)
