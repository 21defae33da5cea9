"""The code on the pages for plugin authors runs; the tutorial has a test of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import blocks

RUN = [block for block in blocks("python") if block.page == "docs/plugins/testing.md"]


def test_there_is_code_to_run() -> None:
    assert len(RUN) >= 2


@pytest.mark.parametrize("number", range(len(RUN)))
def test_code_runs_as_it_stands(number: int, tmp_path: Path) -> None:
    program = tmp_path / "shown.py"
    program.write_text(RUN[number].text)
    done = subprocess.run(
        [sys.executable, str(program)], check=False, capture_output=True, text=True, cwd=tmp_path
    )
    assert (done.returncode, done.stderr) == (0, "")
