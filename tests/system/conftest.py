"""What the system tests share: real nodes on real TUN devices in network namespaces."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system import delegation
from tests.system.lab import Lab
from tests.system.node import Mesh

DIRECTORY = Path(__file__).parent
_failed = pytest.StashKey[bool]()

MeshFactory = Callable[..., Mesh]


def pytest_configure(config: pytest.Config) -> None:
    """Send reports home, if this is the run in the user namespace."""
    delegation.register_sender(config)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> bool | None:
    """Run the tests of this directory in a user namespace, unless this is root."""
    if DIRECTORY not in item.path.parents or not delegation.needed():
        return None
    delegation.run_protocol(item, DIRECTORY)
    return True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give the tests of this directory their mark, and the time that real clocks need."""
    for item in items:
        if DIRECTORY in item.path.parents:
            item.add_marker(pytest.mark.system)
            if delegation.needed():  # the inner run keeps the time
                item.add_marker(pytest.mark.timeout(0), append=False)
            elif item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(90))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember a failure, for the clean-up."""
    report = yield
    if report.when == "call" and report.failed:
        item.stash[_failed] = True
    return report


@pytest.fixture
def meshes(request: pytest.FixtureRequest) -> Iterator[MeshFactory]:
    """Make meshes, given what `Lab` is given.

    In the end all nodes are stopped, which is part of every test: in time, with exit code 0, and
    with no traceback in the log.
    """
    made: list[Mesh] = []

    def make(*names: str, **options: Any) -> Mesh:
        made.append(Mesh(Lab(names, **options)))
        return made[-1]

    try:
        yield make
        if not request.node.stash.get(_failed, False):
            for mesh in made:
                stop_well(mesh)
    finally:
        for mesh in made:
            for node in mesh:
                print(f"--- log of {node.name}\n{node.log_tail()}")  # noqa: T201  # pytest shows it
            mesh.close()


def stop_well(mesh: Mesh) -> None:
    """Stop the nodes that run, all at once, and see that nothing went wrong unseen."""
    mesh.lab.faults("")
    stopped = [(node, node.kill(15)) for node in mesh.running()]
    for node, moment in stopped:
        node.ended(moment)
    for node in mesh:
        assert "Traceback" not in node.log_text(), f"{node.name} logged a traceback"


def _own_user_namespace() -> bool:
    """Whether root is root in a user namespace only."""
    return Path("/proc/self/uid_map").read_text().split()[2] != "4294967295"


@pytest.fixture
def program(request: pytest.FixtureRequest) -> Callable[[str], str]:
    """Find a program of the system. Root has to have it; others may lack it, and skip."""

    def find(name: str) -> str:
        path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
        if path is None and _own_user_namespace():
            pytest.skip(f"{name} is not installed")
        assert path is not None, f"{name} is not installed"
        return path

    return find
