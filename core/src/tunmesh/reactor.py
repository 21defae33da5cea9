"""Persistent readers on whatever event loop runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import anyio
import anyio.abc
import anyio.lowlevel

from tunmesh.interfaces import Reactor, Watch

log = logging.getLogger(__name__)

#: Consecutive exceptions of one reader after which it is no longer called.
_MOST_FAILURES = 100


def reactor(tasks: anyio.abc.TaskGroup, failed: Callable[[str], None]) -> Reactor:
    """The reactor for the loop that runs now.

    Args:
        tasks: Where readers run on a loop that has no persistent ones.
        failed: Called when a reader is given up, with the reason.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:  # another library's
        return _AnyioReactor(tasks, failed)
    return _AsyncioReactor(loop, failed)


class _Guard:
    """A reader's callback that cannot hurt the loop."""

    def __init__(self, callback: Callable[[], None], failed: Callable[[str], None]) -> None:
        self._callback = callback
        self._failed = failed
        self._failures = 0
        self.watch: Watch | None = None

    def __call__(self) -> None:
        try:
            self._callback()
        except Exception as error:
            # A task-group boundary: one packet that raises must not end the node.
            self._failures += 1
            log.exception("reader failed")
            if self._failures == _MOST_FAILURES:
                assert self.watch is not None
                self.watch.close()
                self._failed(f"a reader failed {self._failures} times in a row: {error}")
        else:
            self._failures = 0


class _AsyncioReactor:
    """``add_reader``: twice as fast as waiting in a task."""

    def __init__(self, loop: asyncio.AbstractEventLoop, failed: Callable[[str], None]) -> None:
        self._loop = loop
        self._failed = failed

    def watch(self, fd: int, callback: Callable[[], None]) -> Watch:
        """See `Reactor.watch`."""
        guard = _Guard(callback, self._failed)
        watch = guard.watch = _AsyncioWatch(self._loop, fd)
        self._loop.add_reader(fd, guard)
        return watch


class _AsyncioWatch:
    def __init__(self, loop: asyncio.AbstractEventLoop, fd: int) -> None:
        self._loop = loop
        self._fd = fd

    def close(self) -> None:
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            self._fd = -1


class _AnyioReactor:
    def __init__(self, tasks: anyio.abc.TaskGroup, failed: Callable[[str], None]) -> None:
        self._tasks = tasks
        self._failed = failed

    def watch(self, fd: int, callback: Callable[[], None]) -> Watch:
        """See `Reactor.watch`."""
        guard = _Guard(callback, self._failed)
        watch = guard.watch = _AnyioWatch(fd, guard)
        self._tasks.start_soon(watch.run)
        return watch


class _AnyioWatch:
    def __init__(self, fd: int, callback: Callable[[], None]) -> None:
        self._fd = fd
        self._callback = callback
        self._scope = anyio.CancelScope()

    async def run(self) -> None:
        with self._scope:
            while True:
                await anyio.wait_readable(self._fd)
                self._callback()
                await anyio.lowlevel.checkpoint()

    def close(self) -> None:
        self._scope.cancel()
