"""The scripts that make shells complete the commands."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from tests.core.cli.test_examples import COMMANDS

Run = Callable[..., Any]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_knows_all_commands(run: Run, shell: str) -> None:
    code, out, err = run("completion", shell)
    assert (code, err) == (0, "")
    for name in COMMANDS:
        assert all(word in out for word in name.split()), name
    for option in ("--log-level", "--snaplen", "--nodes"):
        assert option.strip("-") in out


def test_an_unknown_shell(run: Run) -> None:
    assert run("completion", "dos").code == 2


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", {"run", "status", "explain", "capture", "doctor", "top", "demo", "multicast"}),
        ("config ", {"check", "example", "schema", "show"}),
        ("capture --po", {"--point"}),
        ("capture --point ", {"inside", "outside", "dropped"}),
    ],
)
def test_bash_completes(run: Run, line: str, expected: set[str]) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("bash is not installed")
    words = ["tunmesh", *line.split(" ")]
    quoted = " ".join(f"'{word}'" for word in words)
    program = (
        f"{run('completion', 'bash').out}\nCOMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}\n"
        "function_=$(complete -p tunmesh | sed 's/.*-F \\([^ ]*\\) .*/\\1/')\n"
        f"$function_ tunmesh '{words[-1]}' '{words[-2]}'; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    )
    done = subprocess.run(
        [bash, "--norc", "-c", program], capture_output=True, text=True, timeout=10, check=True
    )
    assert set(done.stdout.split()) >= expected, done.stderr
