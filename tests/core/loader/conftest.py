"""Distributions written to a directory, as an installer would leave them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tunmesh.config import Config, PluginsOptions
from tunmesh.loader import PluginHost
from tunmesh.plugin import GROUP

Install = Callable[..., None]
MakeHost = Callable[..., PluginHost]

#: A plugin with one transport, and nothing wrong.
GOOD = """
from tunmesh.plugin import TransportRegistration, hookimpl

@hookimpl
def tunmesh_transports():
    return [TransportRegistration(summary="good", factory=object)]
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory of installed distributions; the modules in it are forgotten afterwards."""
    path = tmp_path / "site"
    path.mkdir()
    monkeypatch.syspath_prepend(path)
    before = set(sys.modules)
    yield path
    for name in set(sys.modules) - before:
        if name.startswith("fixture_"):
            del sys.modules[name]


@pytest.fixture
def install(site: Path) -> Install:
    """Install a plugin: ``install("udp", source, distribution="…", group="…")``."""

    def install(
        name: str,
        source: str = GOOD,
        *,
        distribution: str = "",
        version: str = "1.0",
        group: str = GROUP,
        target: str = "",
    ) -> None:
        distribution = distribution or f"dist-{name}"
        module = f"fixture_{distribution.replace('-', '_')}"
        (site / f"{module}.py").write_text(source)
        info = site / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir(exist_ok=True)
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n"
        )
        with (info / "entry_points.txt").open("a") as file:
            file.write(f"[{group}]\n{name} = {target or module}\n")

    return install


@pytest.fixture
def make_host(site: Path) -> MakeHost:
    """A host that sees only that directory, and has discovered."""

    def make_host(**tables: dict[str, object]) -> PluginHost:
        config = Config(plugins=PluginsOptions(tables=tables))
        host = PluginHost(config, environ={"PORT": "9"}, path=[str(site)])
        host.discover()
        return host

    return make_host
