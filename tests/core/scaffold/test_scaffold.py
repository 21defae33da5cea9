from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tunmesh.scaffold import ROLES, Role, ScaffoldError, names_of, write_distribution

#: With it, lines of the templates are as long as they can become.
LONGEST = "abcdefgh-ijklmnop-qrs-uv"
COMMON = {
    ".github/workflows/ci.yml",
    ".gitignore",
    "README.md",
    "pyproject.toml",
    "tests/test_plugin.py",
}


def run(directory: Path, *command: str, **environ: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *command],
        check=False,
        capture_output=True,
        text=True,
        cwd=directory,
        env={**os.environ, **environ},
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("name", ["a", LONGEST])
def test_what_is_written_is_complete_and_clean(tmp_path: Path, role: Role, name: str) -> None:
    names = names_of(name)
    directory = tmp_path / "deep" / "er"
    written = write_distribution(names, role, directory)
    texts = {str(path): (directory / path).read_text() for path in written}
    package = f"src/{names.package}"
    assert {*COMMON, f"{package}/__init__.py", f"{package}/py.typed", f"{package}/plugin.py"} < {
        *texts
    }
    assert {path for path in directory.rglob("*") if path.is_file()} == {
        directory / path for path in written
    }
    for text in texts.values():
        assert "%%" not in text
    run(directory, "ruff", "format", "--check", "--no-cache")
    run(directory, "ruff", "check", "--no-cache")


@pytest.mark.timeout(120)
def test_what_is_written_is_typed(tmp_path: Path) -> None:
    paths = []
    for role in ROLES:
        names = names_of(f"typed-{role}")
        write_distribution(names, role, tmp_path / role)
        paths.append(tmp_path / role / "src")
    run(
        tmp_path,
        "mypy",
        "--strict",
        f"--cache-dir={tmp_path / 'cache'}",
        *(str(path.parent / part) for path in paths for part in ("src", "tests")),
        "--explicit-package-bases",
        "--namespace-packages",
        MYPYPATH=os.pathsep.join(map(str, (tmp_path, *paths))),
    )


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious")
    with pytest.raises(ScaffoldError, match="is not empty: name another with --directory"):
        write_distribution(names_of("hello"), "tun", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_what_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ScaffoldError, match="Not a directory"):
        write_distribution(names_of("hello"), "tun", tmp_path / "file" / "below")
