"""Running the commands of ``up`` and ``down``."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import IO, TypeAlias

#: A program with its arguments, or a line for a shell.
Command: TypeAlias = str | Sequence[str]

#: Seconds for all commands of one list.
LIMIT = 10.0
#: Where programs are looked for, whatever the node was started with.
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_MOST_OUTPUT = 4096


class CommandFailed(Exception):
    """A command did not do what it should; the message may have further lines: its output."""


def run(command: Command, environment: Mapping[str, str], deadline: float) -> None:
    """Run one command.

    Args:
        command: The command.
        environment: Its whole environment, but for ``PATH``.
        deadline: By which it has to end, on the clock of `time.monotonic`.

    Raises:
        CommandFailed: It cannot be run, it failed, or the time is over.
    """
    arguments = ["/bin/sh", "-c", command] if isinstance(command, str) else list(command)
    shown = command if isinstance(command, str) else shlex.join(command)
    # Not a pipe: a command that leaves something running would keep it open.
    with tempfile.TemporaryFile() as output:
        try:
            process = subprocess.Popen(  # noqa: S603  # from a file that only its owner can write
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={"PATH": PATH, **environment},
                start_new_session=True,
            )
        except (OSError, ValueError) as exc:
            raise CommandFailed(f"`{shown}` cannot be run: {exc}") from exc
        try:
            code = process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise CommandFailed(
                f"`{shown}` did not end: commands have {LIMIT:g} s{_tail(output)}"
            ) from None
        if code:
            how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
            raise CommandFailed(f"`{shown}` ended {how}{_tail(output)}")


def _tail(output: IO[bytes]) -> str:
    """The end of what a command wrote, each line on a line of its own, as it can be printed."""
    size = output.seek(0, os.SEEK_END)
    output.seek(max(0, size - _MOST_OUTPUT))
    lines = output.read().decode(errors="replace").splitlines()
    return "".join(
        "\n  " + "".join(char if char.isprintable() else "?" for char in line) for line in lines
    )


def interpreter_environment() -> dict[str, str]:
    """What a Python process needs of this one's environment; nothing that might be secret."""
    return {name: value for name, value in os.environ.items() if name.startswith("PYTHON")}
