"""Cancellation at a chosen wait, so that each of them can be tried in turn."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from typing import Any, NamedTuple

import anyio


class Outcome(NamedTuple):
    """What became of a call that was to be cancelled.

    Attributes:
        reached: Whether it waited that often at all.
        finished: Whether it returned nevertheless, or before.
    """

    reached: bool
    finished: bool


class _Waits:
    """Passes on what something awaits, and cancels a scope when it waits for the n-th time."""

    def __init__(self, awaited: Awaitable[object], scope: anyio.CancelScope, n: int) -> None:
        self._awaited = awaited
        self._scope = scope
        self._left = n
        self.reached = False

    def __await__(self) -> Generator[Any, Any, object]:
        steps = self._awaited.__await__()
        try:
            waited = next(steps)
            while True:
                if self._left == 0:
                    self.reached = True
                    self._scope.cancel()
                self._left -= 1
                try:
                    value = yield waited
                except BaseException as error:  # noqa: BLE001  # what a cancellation looks like
                    waited = steps.throw(error)
                else:
                    waited = steps.send(value)
        except StopIteration as end:
            return end.value


async def cancel_at(n: int, function: Callable[..., Awaitable[object]], *args: object) -> Outcome:
    """Call an asynchronous function and cancel it when it waits for the n-th time, from 0 on."""
    finished = False
    with anyio.CancelScope() as scope:
        waits = _Waits(function(*args), scope, n)
        await waits
        finished = True
    return Outcome(waits.reached, finished)
