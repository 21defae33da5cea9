"""Giving up privileges in a process that has threads.

Linux keeps capabilities and "no new privileges" for each thread; only the change of the user
reaches all of them, by the C library. So every worker thread that waits for its next job gets one
here, all at the same time: none can take two of them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import anyio
from anyio.to_thread import run_sync

from tunmesh.errors import TunmeshError
from tunmesh.privileges.accounts import Account
from tunmesh.privileges.capabilities import capabilities, set_capabilities
from tunmesh.privileges.process import (
    become,
    clear_ambient,
    forbid_core_dumps,
    lock_down,
    make_private,
)

_TIMEOUT = 5.0  # of the threads to come together


class PrivilegesKept(TunmeshError):
    """The privileges of this process cannot be given up."""


async def drop_everything(account: Account) -> None:
    """Turn this process into that user's, without any capability, in every thread, for good.

    Call it from the event loop's thread, which must be the process's first. Threads that start
    later inherit what this one has then: nothing.

    Raises:
        PrivilegesKept: Some would remain.
    """
    try:
        forbid_core_dumps()
        await _everywhere(lock_down)
        become(account)
        await _everywhere(_forget_capabilities)
        make_private()
    except (OSError, threading.BrokenBarrierError) as error:
        raise PrivilegesKept(f"cannot give up privileges: {error}") from error
    _check()


def _check() -> None:
    for task in Path("/proc/self/task").iterdir():
        if capabilities(int(task.name)).usable:
            name = (task / "comm").read_text().strip()
            raise PrivilegesKept(
                f"cannot give up privileges: thread {name} of a plugin or a library keeps its own"
            )


def _forget_capabilities() -> None:
    set_capabilities(0)
    clear_ambient()


async def _everywhere(function: Callable[[], None]) -> None:
    """Call a function in every idle worker thread, and in this one.

    Raises:
        OSError: The function failed in one of them.
    """
    count = threading.active_count() - 1
    together = threading.Barrier(count, timeout=_TIMEOUT) if count else None
    errors: list[Exception] = []

    def work() -> None:
        assert together is not None
        try:
            together.wait()
            function()
        except (OSError, threading.BrokenBarrierError) as error:
            errors.append(error)

    limiter = anyio.CapacityLimiter(max(count, 1))
    async with anyio.create_task_group() as tasks:
        for _ in range(count):
            tasks.start_soon(partial(run_sync, work, limiter=limiter))
    if errors:
        raise errors[0]
    function()
