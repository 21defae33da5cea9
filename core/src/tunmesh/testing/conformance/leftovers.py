"""What of the process a plugin's object may leave behind: descriptors, threads, child processes."""

from __future__ import annotations

import os
import resource
import threading
from collections import Counter
from pathlib import Path

_DESCRIPTORS = Path("/proc/self/fd")
_TASKS = Path("/proc/self/task")
#: Threads of the event loop libraries, which keep them for the next job.
_KEPT = ("AnyIO worker thread", "Trio thread", "asyncio_")


class Belongings:
    """Descriptors, threads and child processes that the process has now."""

    def __init__(self) -> None:
        self._descriptors = _descriptors()
        self._threads = set(threading.enumerate())
        self._children = _children()

    def left(self) -> list[str]:
        """What has come since, one line each."""
        lines = [f"descriptor of {target}" for target in _descriptors() - self._descriptors]
        lines += [
            f"thread {thread.name}"
            for thread in set(threading.enumerate()) - self._threads
            if not thread.name.startswith(_KEPT)
        ]
        lines += [f"child process {pid}" for pid in _children() - self._children]
        return lines


def _descriptors() -> Counter[str]:
    found: Counter[str] = Counter()
    for entry in os.listdir(_DESCRIPTORS):  # noqa: PTH208  # the listing's own is gone afterwards
        try:
            found[os.readlink(_DESCRIPTORS / entry)] += 1  # noqa: PTH115  # need not be a path
        except FileNotFoundError:
            continue
    return found


def _children() -> set[str]:
    return {
        pid
        for file in _TASKS.glob("*/children")
        for pid in file.read_text(encoding="ascii").split()
    }


def memory() -> int:
    """Bytes of main memory that the process has."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize()
