"""Which plugins are installed, from the metadata of distributions. Imports none of them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution, EntryPoint, distributions

from tunmesh.plugin import GROUP

#: What the names of the entry-point groups of all versions of the API begin with.
GROUPS = GROUP.rstrip("0123456789")


@dataclass(frozen=True)
class Found:
    """An installed plugin.

    Attributes:
        entry_point: Its entry point.
        distribution: Name of the distribution that holds it.
        version: Version of that distribution.
    """

    entry_point: EntryPoint
    distribution: str
    version: str

    @property
    def name(self) -> str:
        """The plugin's name."""
        return self.entry_point.name

    @property
    def usable(self) -> bool:
        """Whether it is written for this version of the API."""
        return self.entry_point.group == GROUP


def discover(path: Sequence[str] | None = None) -> dict[str, list[Found]]:
    """All installed plugins by name; more than one of a name is a conflict.

    Those written for another version of the API count only where no usable one has the name.

    Args:
        path: Directories to look in, instead of ``sys.path``.
    """
    plugins: dict[str, list[Found]] = {}
    for found in _all(path):
        plugins.setdefault(found.name, []).append(found)
    return {
        name: [one for one in several if one.usable] or several
        for name, several in sorted(plugins.items())
    }


def _all(path: Sequence[str] | None) -> Iterator[Found]:
    seen: set[str] = set()
    for distribution in distributions() if path is None else distributions(path=list(path)):
        # Reading the file before its entry points are parsed spares a start 10 ms and more.
        if GROUPS not in (distribution.read_text("entry_points.txt") or ""):
            continue
        name = _normalized(distribution)
        if name in seen:  # a directory further back in the path, shadowed
            continue
        seen.add(name)
        for entry_point in distribution.entry_points:
            version = entry_point.group.removeprefix(GROUPS)
            if version != entry_point.group and version.isdigit():
                yield Found(entry_point, distribution.name, distribution.version)


def _normalized(distribution: Distribution) -> str:
    return re.sub(r"[-_.]+", "-", distribution.name).lower()
