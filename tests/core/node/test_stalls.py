"""An event loop that is held up by a plugin until that is noticed."""

from __future__ import annotations

import logging
import threading

import anyio
import pytest

from tunmesh.culprits import Culprits
from tunmesh.node.stalls import StallWatch

LIMIT = 0.02


class Noticed(logging.Handler):
    """Sets an event at the first line, so that a test need not know how long that takes."""

    def __init__(self) -> None:
        super().__init__()
        self.event = threading.Event()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())
        self.event.set()


async def test_who_holds_up_the_loop_is_named_once() -> None:
    noticed = Noticed()
    logger = logging.getLogger("tunmesh.node.stalls")
    logger.addHandler(noticed)
    try:
        with StallWatch(Culprits({__name__: "slow"}), LIMIT) as stalls:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(stalls.beat)
                await anyio.wait_all_tasks_blocked()
                assert noticed.event.wait(10), "blocks the loop until it is noticed"
                tasks.cancel_scope.cancel()
    finally:
        logger.removeHandler(noticed)
    (line,) = noticed.lines
    assert line.startswith("event loop held up plugin=slow at=")
    assert f"{__file__}:" in line


async def test_nothing_is_left_of_the_watch() -> None:
    before = threading.active_count()
    with StallWatch(Culprits()):
        assert threading.active_count() == before + 1
    assert threading.active_count() == before


@pytest.mark.parametrize("limit", [0.02])
async def test_a_loop_that_lives_is_not_mentioned(
    limit: float, caplog: pytest.LogCaptureFixture
) -> None:
    with StallWatch(Culprits(), limit) as stalls:
        stalls._alive += 3600  # whatever this machine does meanwhile
        stalls._stopped.wait(limit * 3)
    assert "held up" not in caplog.text
