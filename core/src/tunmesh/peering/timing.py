"""The intervals of paths."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class PathTiming:
    """How often paths are probed, in seconds.

    Not frozen: whoever holds it follows a changed configuration.

    Attributes:
        path_probe: The active path, while it carries traffic or does not answer.
        keepalive: The active path while idle.
        standby_probe: The others, and dead ones.
    """

    path_probe: float = 0.4
    keepalive: float = 2.0
    standby_probe: float = 10.0
