"""Writes the distribution of a new plugin: code that works, with tests, checks and a README.

The templates lie beside this module, one tree that all roles share and one for each role. They
are plain files in which ``%%{name}`` stands for a name; a folder ``package`` is the import package.
"""

from __future__ import annotations

import string
from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path, PurePath
from typing import Literal, TypeAlias, get_args

from tunmesh import __version__
from tunmesh.errors import TunmeshError
from tunmesh.plugin import GROUP
from tunmesh.scaffold.names import Names, names_of

__all__ = ["ROLES", "Names", "Role", "ScaffoldError", "names_of", "write_distribution"]

Role: TypeAlias = Literal["transport", "tun", "policy", "address"]

#: The roles of which there are templates.
ROLES: tuple[Role, ...] = get_args(Role)

#: Templates carry it, so that no tool takes them for what they will be.
_SUFFIX = ".in"
_PACKAGE = "package"


class ScaffoldError(TunmeshError):
    """The distribution cannot be written."""


class _Template(string.Template):
    """With a delimiter that neither Python nor TOML, YAML or Markdown has a use for."""

    delimiter = "%%"


def write_distribution(names: Names, role: Role, directory: Path) -> list[Path]:
    """Write a complete distribution into a new directory.

    Args:
        names: The plugin's names.
        role: What it shall be.
        directory: Where; made, unless it is there and empty.

    Returns:
        The files, relative to the directory.

    Raises:
        ScaffoldError: Something is there already, or it cannot be written.
    """
    values = _values(names, role)
    templates = files(__name__) / "templates"
    written = []
    try:
        if directory.exists() and any(directory.iterdir()):
            raise ScaffoldError(f"{directory} is not empty: name another with --directory")
        for part in ("common", role):
            for path, text in _walk(templates / part, PurePath()):
                target = PurePath(*(names.package if p == _PACKAGE else p for p in path.parts))
                _write_new(directory / target, _Template(text).substitute(values))
                written.append(Path(target))
    except OSError as error:
        where = error.filename or directory
        raise ScaffoldError(f"cannot write {where}: {error.strerror or error}") from error
    return sorted(written)


def _values(names: Names, role: Role) -> dict[str, str]:
    major, minor, *_ = __version__.split(".")
    return {
        "name": names.name,
        "distribution": names.distribution,
        "package": names.package,
        "scheme": names.scheme,
        "role": role,
        "group": GROUP,
        # What is added to the API comes with a new minor version, what goes has left one before.
        "requirement": f"tunmesh>={major}.{minor},<{major}.{int(minor) + 1}",
    }


def _walk(folder: Traversable, path: PurePath) -> Iterator[tuple[PurePath, str]]:
    """The templates below a folder: the paths of what they become, and their texts."""
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _walk(entry, path / entry.name)
        elif entry.name.endswith(_SUFFIX):
            name = entry.name.removesuffix(_SUFFIX)
            yield path / name, entry.read_text(encoding="utf-8")


def _write_new(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("x", encoding="utf-8") as file:  # never over something
        file.write(text)
