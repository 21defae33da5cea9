"""Persistent readers on whatever event loop runs.

What a reader raises is logged and hurts nobody else. One that fails again and again is called
less often: neither a plugin's defect nor a stranger's datagrams may keep the loop busy, or end the
node.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import anyio
import anyio.abc
import anyio.lowlevel

from tunmesh.interfaces import Reactor, Watch

log = logging.getLogger(__name__)

#: Failures in a row after which a reader has a pause.
_MOST_FAILURES = 100
#: The pause, in seconds.
_PAUSE = 0.1


def reactor(tasks: anyio.abc.TaskGroup) -> Reactor:
    """The reactor for the loop that runs now.

    Args:
        tasks: Where readers run on a loop that has no persistent ones.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:  # another library's
        return _AnyioReactor(tasks)
    return _AsyncioReactor(loop)


class _Guard:
    """Calls a reader; counts its failures."""

    def __init__(self, callback: Callable[[], None]) -> None:
        self._callback = callback
        self._failures = 0

    def call(self) -> bool:
        """Whether the reader may be called again at once."""
        try:
            self._callback()
        except Exception:
            # The boundary of foreign code: one datagram that raises must not end the node.
            self._failures += 1
            log.exception("reader failed")
            return self._failures % _MOST_FAILURES > 0
        self._failures = 0
        return True


class _AsyncioReactor:
    """``add_reader``: twice as fast as waiting in a task."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def watch(self, fd: int, callback: Callable[[], None]) -> Watch:
        """See `Reactor.watch`."""
        return _AsyncioWatch(self._loop, fd, callback)


class _AsyncioWatch:
    def __init__(
        self, loop: asyncio.AbstractEventLoop, fd: int, callback: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._fd = fd
        self._guard = _Guard(callback)
        self._open = True
        self._resume()

    def close(self) -> None:
        if self._open:
            self._open = False
            self._loop.remove_reader(self._fd)

    def _resume(self) -> None:
        if self._open:
            self._loop.add_reader(self._fd, self._readable)

    def _readable(self) -> None:
        if not self._guard.call() and self._open:
            self._loop.remove_reader(self._fd)
            self._loop.call_later(_PAUSE, self._resume)


class _AnyioReactor:
    def __init__(self, tasks: anyio.abc.TaskGroup) -> None:
        self._tasks = tasks

    def watch(self, fd: int, callback: Callable[[], None]) -> Watch:
        """See `Reactor.watch`."""
        watch = _AnyioWatch(fd, callback)
        self._tasks.start_soon(watch.run)
        return watch


class _AnyioWatch:
    def __init__(self, fd: int, callback: Callable[[], None]) -> None:
        self._fd = fd
        self._guard = _Guard(callback)
        self._scope = anyio.CancelScope()

    async def run(self) -> None:
        with self._scope:
            while True:
                await anyio.lowlevel.checkpoint()  # it may be closed by now, and the descriptor too
                await anyio.wait_readable(self._fd)
                if not self._guard.call():
                    await anyio.sleep(_PAUSE)

    def close(self) -> None:
        self._scope.cancel()
