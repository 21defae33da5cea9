"""A plugin that writes down, from inside the node, what cannot be seen from outside.

`dist_info` makes it installable from a folder. One line of JSON each period: the tasks of the event
loop, the objects of the interpreter and the sizes of all tables of the project.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
from pathlib import Path

from tests.soak.tables import objects, table_sizes
from tunmesh.plugin import hookimpl

#: Seconds.
PERIOD = 5.0


def dist_info(folder: Path) -> None:
    """Make the folder a place where the plugin is installed, as ``observer``."""
    info = folder / "observer-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: observer\nVersion: 1.0\n")
    points = f"[tunmesh.plugins.v1]\nobserver = {__name__}\n"
    (info / "entry_points.txt").write_text(points)


@hookimpl
def tunmesh_node_started(node: object) -> None:
    """Begin."""
    _observe(asyncio.get_running_loop(), Path(os.environ["OBSERVED"]))


def _observe(loop: asyncio.AbstractEventLoop, path: Path) -> None:
    gc.collect()
    roots = [task.get_coro() for task in asyncio.all_tasks(loop)]
    frames = [getattr(coroutine, "cr_frame", None) for coroutine in roots]
    known = [value for frame in frames if frame is not None for value in frame.f_locals.values()]
    sizes = {
        "tasks": len(roots),
        "objects": objects(),
        **table_sizes(known),
    }
    with path.open("a") as file:
        file.write(json.dumps(sizes) + "\n")
    loop.call_later(PERIOD, _observe, loop, path)
