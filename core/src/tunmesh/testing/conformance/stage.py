"""Where plugins' objects live during a test: readers, tasks and time as a node gives them.

What a plugin does wrong there (a task that raises, a reader that raises, one that is left) fails
the test with a line that says so.
"""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.abc
import anyio.from_thread
import anyio.lowlevel
import pytest

from tunmesh.interfaces import Reactor, Watch
from tunmesh.reactor import reactor
from tunmesh.testing.clock import VirtualClock
from tunmesh.testing.conformance.leftovers import Belongings
from tunmesh.testing.context import FakeContext

#: Seconds between looks at what real sockets and tasks do.
_LOOK = 0.002


async def until(condition: Callable[[], object], what: str, patience: float) -> None:
    """Wait for something.

    Raises:
        AssertionError: It did not happen in time; `what` says what was expected.
    """
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, f"waited {patience} s in vain: {what}"
        await anyio.sleep(_LOOK)


class RealClock(VirtualClock):
    """The time that really passes."""

    def now(self) -> float:
        return time.monotonic()


class _Watch:
    """A watch that is known to the stage, and whose reader's failures are noted."""

    def __init__(self, stage: Stage, fd: int, callback: Callable[[], None]) -> None:
        self._stage = stage
        self._callback = callback
        self._fd = fd
        self._watch: Watch = stage.loop.watch(fd, self._call)
        stage.watched[self] = fd

    def _call(self) -> None:
        try:
            self._callback()
        except Exception as error:
            self._stage.blame("a reader raised", error)
            raise

    def close(self) -> None:
        """Stop watching."""
        self._stage.watched.pop(self, None)
        self._watch.close()


class Stage:
    """What a node is to the objects of its plugins.

    Args:
        tasks: Where their tasks run.
        patience: Seconds that something may take.

    Attributes:
        loop: The readers of the event loop.
        watched: What is watched, with the descriptors.
        faults: What plugins did wrong so far, one line each.
        running: Tasks that did not end yet.
    """

    def __init__(self, tasks: anyio.abc.TaskGroup, patience: float) -> None:
        self.loop: Reactor = reactor(tasks)
        self.watched: dict[Watch, int] = {}
        self.faults: list[str] = []
        self.running: list[str] = []
        self.patience = patience
        self.token = anyio.lowlevel.current_token()
        self.thread = threading.current_thread()
        self._tasks = tasks
        self._before = Belongings()

    def watch(self, fd: int, callback: Callable[[], None]) -> Watch:
        """As `tunmesh.interfaces.Reactor.watch`."""
        return _Watch(self, fd, callback)

    def start_soon(self, function: Callable[..., Awaitable[Any]], args: tuple[Any, ...]) -> None:
        """Run a plugin's task."""
        name = getattr(function, "__qualname__", repr(function))
        self.running.append(name)
        self._tasks.start_soon(self._run, name, function, args)

    async def _run(
        self, name: str, function: Callable[..., Awaitable[Any]], args: tuple[Any, ...]
    ) -> None:
        try:
            await function(*args)
        except Exception as error:  # noqa: BLE001  # the boundary of foreign code, as in a node
            self.blame(f"the task {name} raised", error)
        finally:
            self.running.remove(name)

    def blame(self, what: str, error: Exception | None = None) -> None:
        """Note what a plugin did wrong."""
        self.faults.append(what if error is None else f"{what}: {type(error).__name__}: {error}")

    def left(self) -> list[str]:
        """What is still there, one line each."""
        lines = [f"watch of descriptor {fd}" for fd in self.watched.values()]
        lines += [f"task {name}" for name in self.running]
        return lines + self._before.left()

    async def emptied(self) -> None:
        """Wait until nothing is left of the objects that were closed.

        Raises:
            AssertionError: Something is, or something else was wrong.
        """
        assert not self.watched, f"left open: {self.left()}"  # to be closed at once
        deadline = time.monotonic() + self.patience
        while (left := self.left()) and time.monotonic() < deadline:  # noqa: ASYNC110
            await anyio.sleep(_LOOK)  # of the kernel there are no events
        assert not left, f"left behind: {left}"
        assert not self.faults, f"went wrong: {self.faults}"


@asynccontextmanager
async def staged(patience: float) -> AsyncIterator[Stage]:
    """A stage that has to be empty at the end."""
    failure: BaseException | None = None
    async with anyio.create_task_group() as tasks:
        try:
            stage = Stage(tasks, patience)
            yield stage
            await stage.emptied()
        except (Exception, pytest.fail.Exception) as error:  # noqa: BLE001  # raised below, bare
            failure = error
        tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure


class Live(FakeContext):
    """What makes a context in `tunmesh.testing` one that lives on a stage."""

    def __init__(self, *args: Any, stage: Stage, **rest: Any) -> None:
        rest |= {"reactor": stage, "clock": RealClock()}
        super().__init__(*args, **rest)
        self._stage = stage

    def start_soon(self, function: Callable[..., Awaitable[Any]], *args: Any) -> None:
        """Run the task on the stage."""
        self._stage.start_soon(function, args)

    def call_soon_threadsafe(self, function: Callable[..., None], *args: Any) -> None:
        """Make the call on the stage's event loop."""
        anyio.from_thread.run_sync(function, *args, token=self._stage.token)
