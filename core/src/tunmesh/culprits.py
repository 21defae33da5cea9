"""Whose code it was: the plugin behind an exception, or behind a thread that gets no further.

Plugins are called on the way of packets, too, where nothing may be noted down before each call.
Afterwards the frames still tell.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Mapping
from types import FrameType
from typing import NamedTuple


class Culprit(NamedTuple):
    """Whose code it was.

    Attributes:
        plugin: Its name; ``core`` if no plugin had to do with it.
        at: Where, ``file:line``.
    """

    plugin: str
    at: str


class Culprits:
    """Tells plugins by their modules.

    Args:
        modules: The plugins' names, by the modules of their entry points.
    """

    def __init__(self, modules: Mapping[str, str] | None = None) -> None:
        self._modules = dict(modules or {})
        self._packages: dict[str, str] = {}
        for module, name in self._modules.items():
            self._packages.setdefault(module.partition(".")[0], name)

    def of_error(self, error: BaseException) -> Culprit:
        """Who raised it: of several plugins the one that was called last."""
        return self._last(traceback.walk_tb(error.__traceback__))

    def of_frame(self, frame: FrameType) -> Culprit:
        """Who is running there."""
        return self._last(reversed(list(traceback.walk_stack(frame))))

    def _last(self, frames: Iterable[tuple[FrameType, int]]) -> Culprit:
        found = Culprit("core", "")
        for frame, line in frames:
            module = str(frame.f_globals.get("__name__", ""))
            name = self._modules.get(module) or self._packages.get(module.partition(".")[0], "")
            if name or found.plugin == "core":
                found = Culprit(name or "core", f"{frame.f_code.co_filename}:{line}")
        return found
