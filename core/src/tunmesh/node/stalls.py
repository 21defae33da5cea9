"""Notices when the event loop is held up, and by which plugin.

A plugin that blocks, in whatever callback, stops the whole node for so long. Nothing is measured
around calls, which would cost each packet: the loop sets a mark a few times a second, and a thread
looks whether it does. If not, that thread looks at what the loop's thread is doing just then.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from types import TracebackType
from typing import Self

import anyio

from tunmesh import logs
from tunmesh.culprits import Culprits

log = logging.getLogger(__name__)

#: Seconds without a sign of life after which the loop counts as held up.
LIMIT = 0.5


class StallWatch:
    """Watches the event loop that runs in this thread; enter it there.

    Args:
        culprits: Knows the plugins.
        limit: Seconds without a sign of life.
    """

    def __init__(self, culprits: Culprits, limit: float = LIMIT) -> None:
        self._culprits = culprits
        self._limit = limit
        self._pause = limit / 2
        self._alive = time.monotonic()
        self._stopped = threading.Event()
        self._loop = threading.get_ident()
        self._thread = threading.Thread(target=self._look, name="stalls", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopped.set()
        self._thread.join()

    async def beat(self) -> None:
        """Give signs of life, for ever."""
        while True:
            self._alive = time.monotonic()
            await anyio.sleep(self._pause)

    def _look(self) -> None:
        told = 0.0
        while not self._stopped.wait(self._pause):
            alive = self._alive
            # A host that slept, or a thread that was stopped: then this one was late as well.
            if time.monotonic() - alive < self._limit + self._pause or told == alive:
                continue
            told = alive  # once for each time
            frame = sys._current_frames().get(self._loop)  # noqa: SLF001  # documented, in spite of its name
            if frame is not None:
                culprit = self._culprits.of_frame(frame)
                log.warning(
                    "event loop held up plugin=%s at=%s", culprit.plugin, logs.safe(culprit.at)
                )
