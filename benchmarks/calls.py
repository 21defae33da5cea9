"""What a call costs, for authors of plugins: ``.venv/bin/python -m benchmarks.calls``.

Each figure is the best of several runs, since everything that disturbs a run only adds to it. The
cost of the empty loop around the call is taken off.
"""

from __future__ import annotations

import functools
import platform
import time
from collections.abc import Awaitable, Callable

import anyio
import anyio.lowlevel
import pluggy

from tunmesh import hookspecs
from tunmesh.interfaces.events import PeerInfo
from tunmesh.loader.notifier import Notifier

_RUNS = 7
_PEER = PeerInfo("0" * 32, "peer", ())


class Implementation:
    """A plugin with one hook, which does nothing."""

    @hookspecs.hookimpl
    def tunmesh_peer_up(self, peer: PeerInfo) -> None:
        """Nothing."""


def hook(plugins: int) -> pluggy.HookCaller:
    """A hook of a manager as the loader makes it, with plugins."""
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    for _ in range(plugins):
        manager.register(Implementation())
    found: pluggy.HookCaller = manager.hook.tunmesh_peer_up
    return found


def nanoseconds(call: Callable[[], object], times: int) -> float:
    """Of one call."""

    def empty() -> None:
        pass

    def run(function: Callable[[], object]) -> float:
        began = time.perf_counter_ns()
        for _ in range(times):
            function()
        return (time.perf_counter_ns() - began) / times

    return min(run(call) for _ in range(_RUNS)) - min(run(empty) for _ in range(_RUNS))


async def awaited(call: Callable[[], Awaitable[object]], times: int) -> float:
    """Nanoseconds of one awaited call."""

    async def run() -> float:
        began = time.perf_counter_ns()
        for _ in range(times):
            await call()
        return (time.perf_counter_ns() - began) / times

    return min([await run() for _ in range(_RUNS)])


async def _nothing() -> None:
    pass


def figures(times: int) -> dict[str, float]:
    """Nanoseconds by what was called.

    Args:
        times: Calls in a run; those that suspend are made a tenth as often.
    """
    method = Implementation().tunmesh_peer_up
    found = {"bound method": nanoseconds(lambda: method(_PEER), times)}
    for plugins in (0, 1, 3):
        call = functools.partial(hook(plugins), peer=_PEER)
        found[f"pluggy hook, {plugins} plugins"] = nanoseconds(call, times)
    notifier = Notifier()
    found["notification, 0 plugins"] = nanoseconds(lambda: notifier.notify_peer_up(_PEER), times)
    for backend, options in (
        ("asyncio", {}),
        ("uvloop", {"use_uvloop": True}),
        ("trio", {}),
    ):
        loop = "trio" if backend == "trio" else "asyncio"
        for name, function, often in (
            ("await that does not suspend", _nothing, times),
            ("anyio checkpoint", anyio.lowlevel.checkpoint, times // 10),
        ):
            found[f"{name}, {backend}"] = anyio.run(
                awaited, function, often, backend=loop, backend_options=options
            )
    return found


def main() -> None:
    """Print the figures as a table."""
    print(f"{platform.python_implementation()} {platform.python_version()}, {platform.machine()}")
    for name, value in figures(100_000).items():
        print(f"{name:40} {value:8.0f} ns")


if __name__ == "__main__":
    main()
