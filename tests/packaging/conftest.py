from __future__ import annotations

from pathlib import Path

import pytest

from tests.packaging.installation import PROJECTS, Installation, build


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The wheels of the workspace's distributions, by their names."""
    folder = tmp_path_factory.mktemp("wheels")
    return {name: build(project, folder) for name, project in PROJECTS.items()}


@pytest.fixture(scope="session")
def installation(tmp_path_factory: pytest.TempPathFactory, wheels: dict[str, Path]) -> Installation:
    """An environment that holds all of them. What a test installs there, it removes again."""
    return Installation(tmp_path_factory.mktemp("installation"), wheels.values())
