from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from tunmesh.loader.discovery import discover

Install = Callable[..., None]


def test_plugins_have_names_distributions_and_versions(site: Path, install: Install) -> None:
    install("b", distribution="My.Dist", version="2.1")
    install("a")
    install("c", group="console_scripts")
    found = discover([str(site)])
    assert list(found) == ["a", "b"]
    (one,) = found["b"]
    assert (one.name, one.distribution, one.version, one.usable) == ("b", "My.Dist", "2.1", True)


def test_nothing_is_imported(site: Path, install: Install) -> None:
    install("a", "raise SystemExit")
    install("b", "raise SystemExit", group="tunmesh.plugins.v2")
    discover([str(site)])
    assert not [name for name in sys.modules if name.startswith("fixture_")]


def test_a_name_in_two_distributions_is_found_twice(site: Path, install: Install) -> None:
    install("a", distribution="one")
    install("b")
    install("a", distribution="two")
    assert {found.distribution for found in discover([str(site)])["a"]} == {"one", "two"}


def test_a_distribution_further_back_in_the_path_is_shadowed(
    site: Path, install: Install, tmp_path: Path
) -> None:
    install("a", distribution="one")
    copy = tmp_path / "copy"
    copy.mkdir()
    for info in site.glob("*.dist-info"):
        (copy / info.name).symlink_to(info)
    assert len(discover([str(site), str(copy)])["a"]) == 1


def test_other_versions_of_the_api_count_only_where_none_is_usable(
    site: Path, install: Install
) -> None:
    install("old", group="tunmesh.plugins.v0")
    install("both", distribution="one", group="tunmesh.plugins.v2")
    install("both", distribution="two")
    install("none", group="tunmesh.plugins.vx")
    found = discover([str(site)])
    assert list(found) == ["both", "old"]
    assert not found["old"][0].usable
    assert [one.distribution for one in found["both"]] == ["two"]
