"""What ``tunmesh doctor`` asks plugins: to look at the host, and tell what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from tunmesh.interfaces.tun import Network

#: All is well; worth knowing; works, but not well; does not work.
Level: TypeAlias = Literal["ok", "notice", "warning", "broken"]


@dataclass(frozen=True)
class Finding:
    """What was found.

    Attributes:
        check: What was looked at, in a word or two.
        level: How bad it is.
        text: One line: what is so, and what follows.
        mend: The command, or the change of the configuration, that mends it; empty if all is well.
    """

    check: str
    level: Level
    text: str
    mend: str = ""


@dataclass(frozen=True)
class HostView:
    """The host as a check sees it.

    Attributes:
        options: Those of the plugin: its table of the configuration, or the defaults.
        networks: The mesh networks.
        addresses: The node's addresses as configured.
        subnets: Prefixes behind the node.
        device: Name of the running node's device; empty if no node answers. A node that runs has
            its ports and its device itself.
        root: Where the host's files begin; elsewhere in tests.
    """

    options: Any = None
    networks: tuple[Network, ...] = ()
    addresses: tuple[str, ...] = ()
    subnets: tuple[Network, ...] = ()
    device: str = ""
    root: Path = Path("/")

    def read(self, path: str) -> str | None:
        """The text of a file as ``/proc/sys/kernel/osrelease``; None if it cannot be read."""
        try:
            return (self.root / path.lstrip("/")).read_text(errors="replace").strip()
        except OSError:
            return None

    def number(self, path: str) -> int | None:
        """The number that a file consists of; None if it has none."""
        text = self.read(path)
        return int(text) if text is not None and text.isdecimal() else None

    def names(self, path: str) -> Iterator[str]:
        """The names in a directory, in order; none if it cannot be read."""
        try:
            yield from sorted(entry.name for entry in (self.root / path.lstrip("/")).iterdir())
        except OSError:
            return

    def versions(self) -> set[int]:
        """The versions of IP that the mesh has."""
        return {network.version for network in self.networks}
