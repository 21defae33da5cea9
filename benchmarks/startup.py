"""How long tunmesh takes to begin.

Run it as ``scripts/in-namespaces .venv/bin/python -m benchmarks.startup``. The first figure is that
of a command that only prints. The second is that of a mesh of two nodes with every plugin that is
published with tunmesh, from the start of the first process to the first reply of a ping.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import testbed
from benchmarks.measures import start_all
from benchmarks.tunnels import Tunmesh

ROUNDS = 7
#: Seconds.
HELP_LIMIT = 0.25
REPLY_LIMIT = 1.0


class EveryPlugin(Tunmesh):
    """With the plugins of the built-in default of ``plugins.enabled``."""

    configuration = "all plugins"
    more_plugins = ("ifaddr", "https", "igmp")


def help_seconds() -> float:
    """How long ``tunmesh --help`` takes."""
    program = Path(sys.executable).with_name("tunmesh")
    began = time.monotonic()
    subprocess.run([str(program), "--help"], check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - began


def reply_seconds() -> float:
    """How long two nodes take, from the start of the first to the first reply."""
    with testbed.wire() as bed:
        return start_all(EveryPlugin(), bed)


def verdict(title: str, seconds: Sequence[float], limit: float) -> tuple[str, bool]:
    """One line about a figure, and whether its median is within the limit."""
    median = statistics.median(seconds)
    kept = median <= limit
    line = (
        f"{title}: {median:.3f} s ({min(seconds):.3f} to {max(seconds):.3f} in {len(seconds)} "
        f"rounds), limit {limit:g} s: {'kept' if kept else 'MISSED'}"
    )
    return line, kept


def main() -> int:
    """Measure both; 1 if a limit is missed."""
    figures: tuple[tuple[str, Callable[[], float], float], ...] = (
        ("tunmesh --help", help_seconds, HELP_LIMIT),
        ("start to first reply, all plugins", reply_seconds, REPLY_LIMIT),
    )
    missed = 0
    for title, take, limit in figures:
        take()  # files come into the cache of the kernel
        line, kept = verdict(title, [take() for _ in range(ROUNDS)], limit)
        print(line, flush=True)
        missed |= not kept
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
