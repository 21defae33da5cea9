"""What a new plugin is called: its entry point, distribution, package and scheme.

Contains no I/O: who has which name already is told to it.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from tunmesh.errors import PluginError
from tunmesh.shipped import DISTRIBUTIONS

#: What is always on and fills roles of its own: contributors of routes and of addresses.
_OF_THE_CORE = frozenset({"auto", "core", "static"})

#: As an import package, as part of a URL scheme (RFC 3986, section 3.1) and as a name of PEP 503.
_NAME = re.compile(r"[a-z][a-z0-9]*(?:[-_][a-z0-9]+)*")
_LONGEST = 24  # with it, the lines of the templates stay within 100 characters


@dataclass(frozen=True)
class Names:
    """The names of one plugin.

    Attributes:
        name: The plugin's name, that of its entry point.
        distribution: What is installed, and published.
        package: What is imported.
        scheme: Of a transport's endpoints.
    """

    name: str

    @property
    def distribution(self) -> str:
        return f"tunmesh-{self.scheme}"

    @property
    def package(self) -> str:
        return f"tunmesh_{self.name}"

    @property
    def scheme(self) -> str:
        return self.name.replace("_", "-")


def names_of(
    text: str, plugins: Collection[str] = (), distributions: Collection[str] = ()
) -> Names:
    """The names of a new plugin.

    Args:
        text: What its author calls it, words joined by ``_`` or ``-``.
        plugins: Plugins that are installed.
        distributions: Distributions that are installed, normalized as PEP 503 says.

    Raises:
        PluginError: It cannot be called that.
    """
    if not _NAME.fullmatch(text) or len(text) > _LONGEST:
        raise PluginError(
            "not a name for a plugin: lower-case letters and digits, words joined by _ or -, "
            f"a letter first, at most {_LONGEST} characters",
            name=repr(text),
        )
    names = Names(text.replace("-", "_"))
    if names.name in DISTRIBUTIONS or names.name in _OF_THE_CORE:
        raise PluginError("tunmesh itself has the name: choose another", name=names.name)
    if names.name in plugins:
        raise PluginError("is installed already: choose another name", name=names.name)
    if names.distribution in {*DISTRIBUTIONS.values(), *distributions}:
        raise PluginError(
            f"a distribution {names.distribution} exists already: choose another name",
            name=names.name,
        )
    return names
