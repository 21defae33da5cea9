"""What plugins may use does not change unnoticed."""

from __future__ import annotations

import difflib
from pathlib import Path

from tests.core.public_api import FROZEN, MODULES, lines

PROJECT = Path(__file__).parents[2] / "pyproject.toml"

HOW = """
the public surface of tunmesh is not what tests/core/public_api.txt says (see above).
If that is meant: what goes or changes must have warned for one minor version (docs/plugins/
versioning.md); tell plugin authors in CHANGELOG.md; then write it down with
    .venv/bin/python -m tests.core.public_api
"""


def test_the_public_surface_is_the_one_that_was_written_down() -> None:
    now = lines()
    then = FROZEN.read_text().splitlines()
    difference = [
        line
        for line in difflib.unified_diff(then, now, "written down", "now", n=0, lineterm="")
        if not line.startswith("@@")
    ]
    assert not difference, "\n".join(difference) + HOW


def test_the_layers_forbid_none_of_it_to_plugins() -> None:
    contract = PROJECT.read_text().partition('name = "Plugins use the public modules only"')[2]
    forbidden = contract.partition("forbidden_modules = [")[2].partition("]")[0]
    for module in MODULES:
        assert f'"{module}"' not in forbidden
        assert f'"{module.rpartition(".")[0]}"' not in forbidden


def test_nothing_in_it_depends_on_the_run() -> None:
    assert lines() == lines()
    assert not [line for line in lines() if " at 0x" in line]
