"""Persistent readers on whatever event loop runs.

What a reader raises is logged and hurts nobody else. One that fails again and again is called
less often: neither a plugin's defect nor a stranger's datagrams may keep the loop busy, or end the
node.

A reactor can tell whether its readers do get called: see `NodeReactor.overdue`.
"""

from __future__ import annotations

import asyncio
import logging
import select
from abc import ABC, abstractmethod
from collections.abc import Callable

import anyio
import anyio.abc
import anyio.lowlevel

from tunmesh.culprits import Culprits
from tunmesh.interfaces import Reactor, Watch

log = logging.getLogger(__name__)

#: Failures in a row after which a reader has a pause.
_MOST_FAILURES = 100
#: The pause, in seconds.
_PAUSE = 0.1


def reactor(tasks: anyio.abc.TaskGroup, culprits: Culprits | None = None) -> NodeReactor:
    """The reactor for the loop that runs now.

    Args:
        tasks: Where readers run on a loop that has no persistent ones.
        culprits: Knows whose readers fail.
    """
    culprits = culprits or Culprits()
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:  # another library's
        return _AnyioReactor(tasks, culprits)
    return _AsyncioReactor(loop, culprits)


class NodeReactor(ABC, Reactor):
    """A reactor that knows its readers."""

    def __init__(self, culprits: Culprits) -> None:
        self._culprits = culprits
        self._guards: set[_Guard] = set()

    @abstractmethod
    def watch(self, fd: int, callback: Callable[[], None]) -> Watch:
        """See `Reactor.watch`."""

    def overdue(self) -> list[int]:
        """The descriptors that were readable at the last call, too, and were not read since.

        A reader that is called empties its descriptor or is called again: one that has not been
        called for so long is one that the event loop has lost.
        """
        poll = select.poll()
        for guard in self._guards:
            poll.register(guard.fd, select.POLLIN)
        readable = {fd for fd, events in poll.poll(0) if not events & select.POLLNVAL}
        overdue = [guard.fd for guard in self._guards if guard.pending and guard.fd in readable]
        for guard in self._guards:
            guard.pending = guard.fd in readable
        return overdue


class _Guard:
    """Calls a reader; counts its failures.

    Attributes:
        fd: What it reads.
        pending: Whether there was something to read, and it has not been called since.
    """

    def __init__(self, fd: int, callback: Callable[[], None], culprits: Culprits) -> None:
        self.fd = fd
        self._culprits = culprits
        self.pending = False
        self._callback = callback
        self._failures = 0

    def call(self) -> bool:
        """Whether the reader may be called again at once."""
        self.pending = False
        try:
            self._callback()
        except Exception as error:
            # The boundary of foreign code: one datagram that raises must not end the node.
            self._failures += 1
            log.exception("reader failed plugin=%s", self._culprits.of_error(error).plugin)
            return self._failures % _MOST_FAILURES > 0
        self._failures = 0
        return True


class _AsyncioReactor(NodeReactor):
    """``add_reader``: twice as fast as waiting in a task."""

    def __init__(self, loop: asyncio.AbstractEventLoop, culprits: Culprits) -> None:
        super().__init__(culprits)
        self._loop = loop

    def watch(self, fd: int, callback: Callable[[], None]) -> Watch:
        return _AsyncioWatch(self._loop, _Guard(fd, callback, self._culprits), self._guards)


class _AsyncioWatch:
    def __init__(self, loop: asyncio.AbstractEventLoop, guard: _Guard, guards: set[_Guard]) -> None:
        self._loop = loop
        self._guard = guard
        self._guards = guards
        guards.add(guard)
        self._resume()

    @property
    def _open(self) -> bool:
        return self._guard in self._guards

    def close(self) -> None:
        if self._open:
            self._guards.remove(self._guard)
            self._loop.remove_reader(self._guard.fd)

    def _resume(self) -> None:
        if self._open:
            self._loop.add_reader(self._guard.fd, self._readable)

    def _readable(self) -> None:
        if not self._guard.call() and self._open:
            self._loop.remove_reader(self._guard.fd)
            self._loop.call_later(_PAUSE, self._resume)


class _AnyioReactor(NodeReactor):
    def __init__(self, tasks: anyio.abc.TaskGroup, culprits: Culprits) -> None:
        super().__init__(culprits)
        self._tasks = tasks

    def watch(self, fd: int, callback: Callable[[], None]) -> Watch:
        watch = _AnyioWatch(_Guard(fd, callback, self._culprits), self._guards)
        self._tasks.start_soon(watch.run)
        return watch


class _AnyioWatch:
    def __init__(self, guard: _Guard, guards: set[_Guard]) -> None:
        self._guard = guard
        self._guards = guards
        guards.add(guard)
        self._scope = anyio.CancelScope()

    async def run(self) -> None:
        with self._scope:
            while True:
                await anyio.lowlevel.checkpoint()  # it may be closed by now, and the descriptor too
                await anyio.wait_readable(self._guard.fd)
                if not self._guard.call():
                    await anyio.sleep(_PAUSE)

    def close(self) -> None:
        self._guards.discard(self._guard)
        self._scope.cancel()
