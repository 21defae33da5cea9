"""The tutorial for plugin authors, word by word, in a fresh environment that holds built wheels."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.tutorial import Commands, Edit, steps
from tests.packaging.installation import PROJECTS, build, lend_dependencies
from tests.system.node import PATIENCE

TUTORIAL = Path(__file__).parents[2] / "docs" / "plugins" / "tutorial.md"
#: What looks at something that takes a moment is tried again, as its reader would.
WATCHING = ("grep ", "tunmesh peers ")

pytestmark = pytest.mark.timeout(240)


class Shell:
    """One shell for the whole page: what it exports, and where it is, lasts.

    Args:
        directory: Where the reader begins.
        wheels: What the index has of tunmesh.
    """

    def __init__(self, directory: Path, wheels: Path) -> None:
        self.directory = directory
        environ = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("TUNMESH_", "PYTHON", "COV", "VIRTUAL_ENV"))
        }
        # `python3` is the one that these tests run with, but without their environment.
        base = Path(sys._base_executable).parent  # type: ignore[attr-defined]
        environ["PATH"] = f"{base}{os.pathsep}/usr/bin{os.pathsep}/bin"
        environ |= {
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(wheels),
            "PIP_NO_BUILD_ISOLATION": "0",  # 0 switches the isolation off: pip issue 5735
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        }
        self._output = directory / "output"
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                ["bash", "--norc"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                cwd=directory,
                env=environ,
                text=True,
                start_new_session=True,
            )

    def run(self, command: str) -> None:
        """Run one command, which must succeed."""
        if command.startswith(WATCHING):
            tries = int(100 * PATIENCE)
            command = (
                f"for _ in {{1..{tries}}}; do {command} && break || sleep 0.1; done && {command}"
            )
        done = "echo finished $? $PWD"
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(f"{{ {command}\n}} >&2; {done}", file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline().split()
        assert answer[:2] == ["finished", "0"], f"{command}\n{self._output.read_text()[-4000:]}"
        self.directory = Path(answer[2])

    def close(self) -> None:
        """End it, and what it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)  # a session of its own
        self._process.communicate()

    @property
    def output(self) -> str:
        """What the commands printed so far."""
        return self._output.read_text()


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    wheels = tmp_path / "index"
    for name in ("tunmesh", "tunmesh-transport-udp"):
        build(PROJECTS[name], wheels)
    home = tmp_path / "home"
    home.mkdir()
    found = Shell(home, wheels)
    yield found
    found.close()


def equip(environment: Path) -> None:
    """Put what an index would deliver into the reader's environment."""
    for bundled in environment.glob("lib/*/site-packages/pip*"):
        shutil.rmtree(bundled)  # an index has a newer one, which is lent
    lend_dependencies(environment)
    (environment / "bin" / "ruff").symlink_to(Path(sys.executable).with_name("ruff"))
    for tool in ("mypy", "pytest"):
        program = environment / "bin" / tool
        program.write_text(
            f'#!/bin/sh\nexec {shlex.quote(str(environment))}/bin/python -m {tool} "$@"\n'
        )
        program.chmod(0o755)


def test_the_tutorial_works_word_by_word(shell: Shell) -> None:
    home = shell.directory
    for step in steps(TUTORIAL.read_text()):
        if isinstance(step, Edit):
            step.apply(shell.directory)
            continue
        for command in step.lines:
            shell.run(command)
            if "-m venv" in command:
                equip(home / ".venv")
    output = shell.output
    assert "no plugin fills the role tun (tun_linux: is not installed, " in output
    assert "pong address=10.42.0.1 ms=" in output
    assert "hooks: tunmesh_tun_backends, tunmesh_peer_up" in output
    assert "tunmesh_hello/greeting.py" in output  # in the wheel
    shown = TUTORIAL.read_text().partition("```text\n")[2].partition("```")[0]
    assert shown in output


def test_a_page_is_read_as_its_reader_does() -> None:
    page = (
        "Do it:\n\n```console\n$ one\n$ two\n```\n\nIn `a.py`:\n\n```python\nx = 1\n```\n\n"
        "It prints:\n\n```text\nhello\n```\n\n"
        "In `a.py`, below the line `x = 1` and an empty one:\n\n"
        "```python\ny = 2\n```\n"
    )
    assert list(steps(page)) == [
        Commands(("one", "two")),
        Edit("a.py", "", "x = 1\n"),
        Edit("a.py", "x = 1", "y = 2\n"),
    ]


def test_an_edit_needs_its_line(tmp_path: Path) -> None:
    Edit("a.py", "", "x = 1\nz = 3\n").apply(tmp_path)
    Edit("a.py", "x = 1", "y = 2\n").apply(tmp_path)
    assert (tmp_path / "a.py").read_text() == "x = 1\n\ny = 2\nz = 3\n"
    with pytest.raises(AssertionError, match="has no line 'nothing'"):
        Edit("a.py", "nothing", "").apply(tmp_path)
