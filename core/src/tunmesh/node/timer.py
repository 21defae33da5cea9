"""The node's timer: does what is due, sleeps until more is, and knows how late it was."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel

from tunmesh.node.lag import Lag

if TYPE_CHECKING:
    from tunmesh.culprits import Culprits

log = logging.getLogger(__name__)

#: The clock of everything goes on during suspend; sleeping does not, so it is looked at this often.
_LONGEST_SLEEP = 1.0
#: After something due has failed the next is done only this much later.
_PAUSE = 0.01


class NodeTimer:
    """Runs in one task; others may wake it.

    Args:
        clock: The time.
        culprits: Tells whose code failed.

    Attributes:
        lag: How late it was.
    """

    def __init__(self, clock: Callable[[], float], culprits: Culprits) -> None:
        self.lag = Lag()
        self._clock = clock
        self._culprits = culprits
        self._wake = anyio.Event()
        self._next = float("inf")

    def wake_at(self, deadline: float) -> None:
        """Something is due then, which may be earlier than all else."""
        if deadline < self._next:
            self.wake()

    def wake(self) -> None:
        """Look now what is due."""
        self._wake.set()

    async def run(
        self,
        handle: Callable[[], None],
        next_deadline: Callable[[], float],
        beat: Callable[[], float],
    ) -> None:
        """Do what is due until cancelled.

        Args:
            handle: Does it.
            next_deadline: When there is more.
            beat: Called each time after that; returns when to be called again at the latest.
        """
        next_beat = float("inf")
        while True:
            try:
                handle()
                next_beat = beat()
            except Exception as error:
                # Foreign code runs inside, as a transport's `send`: what else is due stays due.
                log.exception("timer failed plugin=%s", self._culprits.of_error(error).plugin)
                await anyio.sleep(_PAUSE)
            self._wake = anyio.Event()
            self._next = next_deadline()
            due = min(self._next, next_beat, self._clock() + _LONGEST_SLEEP)
            pause = due - self._clock()
            if pause > 0:
                with anyio.move_on_after(pause) as scope:
                    await self._wake.wait()
                if scope.cancelled_caught:
                    self.lag.observe(due, self._clock())
            else:
                await anyio.lowlevel.checkpoint()
