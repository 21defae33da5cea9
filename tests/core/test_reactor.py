"""Readers on both event loops: called while there is something, contained, given up at last."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator

import anyio
import anyio.abc
import pytest

from tunmesh.interfaces import Reactor
from tunmesh.reactor import NodeReactor, reactor

pytestmark = pytest.mark.anyio


class Bench:
    """A reactor, a pair of sockets, and what happened."""

    def __init__(self, tasks: anyio.abc.TaskGroup) -> None:
        self.reactor: Reactor = reactor(tasks)
        self.here, self.there = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.here.setblocking(False)
        self.received: list[bytes] = []
        self.happened = anyio.Event()

    def close(self) -> None:
        self.here.close()
        self.there.close()

    def read(self) -> None:
        self.received.append(self.here.recv(100))
        self.happened.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        with anyio.fail_after(5):
            while not condition():
                await self.happened.wait()
                self.happened = anyio.Event()


@pytest.fixture
def silent(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.ERROR, logger="tunmesh.reactor"):
        yield caplog


async def test_a_reader_is_called_until_it_is_closed() -> None:
    async with anyio.create_task_group() as tasks:
        bench = Bench(tasks)
        watch = bench.reactor.watch(bench.here.fileno(), bench.read)
        for body in (b"one", b"two"):
            bench.there.send(body)
            await bench.until(lambda body=body: body in bench.received)  # type: ignore[misc]
        watch.close()
        watch.close()
        bench.there.send(b"three")
        await anyio.wait_all_tasks_blocked()
        assert bench.received == [b"one", b"two"]
        bench.close()


async def test_what_is_left_makes_it_be_called_again() -> None:
    async with anyio.create_task_group() as tasks:
        bench = Bench(tasks)
        for number in range(5):
            bench.there.send(b"%d" % number)
        watch = bench.reactor.watch(bench.here.fileno(), bench.read)
        await bench.until(lambda: len(bench.received) == 5)
        assert bench.received == [b"%d" % number for number in range(5)]
        watch.close()
        bench.close()


async def test_a_watch_may_be_closed_before_anything_happens() -> None:
    async with anyio.create_task_group() as tasks:
        bench = Bench(tasks)
        bench.there.send(b"early")
        bench.reactor.watch(bench.here.fileno(), bench.read).close()
        await anyio.wait_all_tasks_blocked()
        assert bench.received == []
        bench.close()


async def test_a_reader_may_close_its_own_watch() -> None:
    async with anyio.create_task_group() as tasks:
        bench = Bench(tasks)

        def once() -> None:
            bench.read()
            watch.close()

        watch = bench.reactor.watch(bench.here.fileno(), once)
        bench.there.send(b"one")
        bench.there.send(b"two")
        await bench.until(lambda: bool(bench.received))
        await anyio.wait_all_tasks_blocked()
        assert bench.received == [b"one"]
        bench.close()


async def test_a_reader_that_raises_goes_on(silent: pytest.LogCaptureFixture) -> None:
    async with anyio.create_task_group() as tasks:
        bench = Bench(tasks)

        def fail() -> None:
            bench.read()
            if len(bench.received) % 100:
                raise ValueError("odd packet")

        watch = bench.reactor.watch(bench.here.fileno(), fail)
        for number in range(250):  # never a hundred in a row
            bench.there.send(b"%d" % number)
            await bench.until(lambda number=number: len(bench.received) > number)  # type: ignore[misc]
        assert "odd packet" in silent.text
        watch.close()
        bench.close()


async def test_a_reader_that_only_raises_has_pauses(silent: pytest.LogCaptureFixture) -> None:
    async with anyio.create_task_group() as tasks:
        bench = Bench(tasks)
        started = anyio.current_time()

        def fail() -> None:
            bench.happened.set()
            raise ValueError("gone")

        bench.there.send(b"stays")
        watch = bench.reactor.watch(bench.here.fileno(), fail)
        await bench.until(lambda: len(silent.records) > 300)
        assert anyio.current_time() - started > 0.25, "three pauses of a tenth of a second"
        watch.close()
        calls = len(silent.records)
        await anyio.sleep(0.15)  # as long as a pause: it must not come back
        assert len(silent.records) == calls
        bench.close()


async def test_a_reader_that_the_loop_has_lost_is_overdue() -> None:
    async with anyio.create_task_group() as tasks:
        bench = Bench(tasks)
        reactor = bench.reactor
        assert isinstance(reactor, NodeReactor)
        watch = reactor.watch(bench.here.fileno(), bench.read)
        assert reactor.overdue() == []
        bench.there.send(b"one")
        assert reactor.overdue() == [], "it has just come"
        await bench.until(lambda: bench.received == [b"one"])
        bench.there.send(b"two")
        assert reactor.overdue() == [], "the first was read in between"
        assert reactor.overdue() == [bench.here.fileno()]
        await bench.until(lambda: bench.received == [b"one", b"two"])
        assert reactor.overdue() == []
        bench.there.send(b"three")
        reactor.overdue()
        watch.close()
        assert reactor.overdue() == [], "nobody wants it any more"
        bench.close()
