# these calls take microseconds, and nothing else runs
"""Answers that go on, until either side has enough."""

from __future__ import annotations

import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from anyio import to_thread

from tunmesh.admin import streams
from tunmesh.admin.client import ask, follow
from tunmesh.admin.server import serve
from tunmesh.errors import AdminError


class Numbers:
    """Counts, and can be closed."""

    def __init__(self, size: int = 1, last: int = 3) -> None:
        self.given = 0
        self.closed = anyio.Event()
        self._size, self._last = size, last

    async def next(self) -> bytes:
        if self.given == self._last:
            await anyio.sleep_forever()
        self.given += 1
        return bytes((self.given % 256,)) * self._size

    def close(self) -> None:
        self.closed.set()


@asynccontextmanager
async def serving(path: Path, numbers: Numbers) -> AsyncIterator[None]:
    handlers: dict[str, Any] = {"count": lambda _: numbers, "echo": lambda request: request}

    async def run(task_status: anyio.abc.TaskStatus[None]) -> None:
        await serve(path, handlers, task_status=task_status)

    async with anyio.create_task_group() as tasks:
        await tasks.start(run)
        with anyio.fail_after(5):
            yield
        tasks.cancel_scope.cancel()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "node.sock"


async def test_messages_come_until_the_client_goes(path: Path) -> None:
    numbers = Numbers()

    def listen() -> list[bytes]:
        with follow(path, "count") as messages:
            return [next(messages) for _ in range(3)]

    async with serving(path, numbers):
        assert await to_thread.run_sync(listen) == [b"\1", b"\2", b"\3"]
        await numbers.closed.wait()
        assert await to_thread.run_sync(lambda: ask(path, "echo")) == {"command": "echo"}


async def test_the_client_may_end_at_a_moment(path: Path) -> None:
    def listen() -> list[bytes]:
        with follow(path, "count", until=time.monotonic() + 0.05) as messages:
            return list(messages)

    numbers = Numbers(size=100_000)
    async with serving(path, numbers):
        assert [len(each) for each in await to_thread.run_sync(listen)] == [100_000] * 3
        await numbers.closed.wait()


async def test_a_client_that_takes_nothing_is_let_go(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams.pump, "__defaults__", (0.05,))
    numbers = Numbers(size=100_000, last=10_000)
    async with serving(path, numbers):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            client.sendall(b'{"command":"count"}\n')
            await numbers.closed.wait()
    assert numbers.given < 1000


async def test_a_client_that_goes_amid_messages_is_no_failure(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    numbers = Numbers(size=1_000_000, last=10_000)

    def listen() -> int:
        with follow(path, "count") as messages:
            return len(next(messages))

    async with serving(path, numbers):
        assert await to_thread.run_sync(listen) == 1_000_000
        await numbers.closed.wait()
        assert await to_thread.run_sync(lambda: ask(path, "echo")) == {"command": "echo"}
    assert caplog.records == []


async def test_whatever_the_client_says_ends_the_answer(path: Path) -> None:
    numbers = Numbers()
    async with serving(path, numbers):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            client.sendall(b'{"command":"count"}\n')
            while numbers.given < 3:
                await anyio.lowlevel.checkpoint()
            assert not numbers.closed.is_set()
            client.sendall(b"enough\n")
            await numbers.closed.wait()


async def test_a_node_that_ends_ends_the_answer(path: Path) -> None:
    numbers = Numbers()
    found: list[bytes] = []

    def listen() -> None:
        with follow(path, "count") as messages:
            found.extend(messages)

    async with anyio.create_task_group() as tasks:
        async with serving(path, numbers):
            tasks.start_soon(to_thread.run_sync, listen)
            while numbers.given < 3:
                await anyio.lowlevel.checkpoint()
        assert numbers.closed.is_set()
    assert len(found) <= 3


async def test_refusals_are_as_ever(path: Path) -> None:
    async with serving(path, Numbers()):
        with pytest.raises(AdminError, match="unknown command"):
            await to_thread.run_sync(follow(path, "nonsense").__enter__)


def test_no_node(path: Path) -> None:
    with pytest.raises(AdminError, match="is tunmesh running"):
        follow(path, "count").__enter__()
