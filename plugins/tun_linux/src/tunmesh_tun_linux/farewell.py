"""The small process that runs the ``down`` commands when the node has ended, however it ended.

It is started with the node's first privileges and keeps them, as the node may give up its own. So
it listens to nobody: the commands are fixed at the start, and then the end of a pipe is all that
it waits for, of which the node holds the other end.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence

from tunmesh_tun_linux import commands
from tunmesh_tun_linux.commands import Command, CommandFailed

#: Seconds after which its end is no longer waited for: it ends by itself.
_PATIENCE = commands.LIMIT + 2.0


class Farewell:
    """The process, seen from the node.

    Args:
        down: The commands.
        environment: For the commands.

    Raises:
        OSError: It cannot be started.
    """

    def __init__(self, down: Sequence[Command], environment: Mapping[str, str]) -> None:
        theirs, self._pipe = os.pipe()
        try:
            self._process = subprocess.Popen(  # noqa: S603  # this module
                [sys.executable, "-P", "-m", __name__, str(theirs)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                pass_fds=(theirs,),
                env=commands.interpreter_environment(),
                start_new_session=True,  # what ends the node from a terminal must not end it
            )
        except BaseException:
            os.close(self._pipe)
            raise
        finally:
            os.close(theirs)
        assert self._process.stdin is not None
        with self._process.stdin as stdin:
            stdin.write(json.dumps([list(down), dict(environment)]).encode())

    def say(self) -> str:
        """Have the commands run now, and wait for them; what went wrong, empty if nothing did."""
        os.close(self._pipe)
        try:
            code = self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            return "down commands still run"
        return f"down commands failed with exit code {code}" if code else ""


def main(pipe: int) -> int:
    """Wait for the end of the pipe, then run the commands that stand on standard input.

    Each runs, even if another one failed.
    """
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # what stops a whole group of processes, say
    down, environment = json.load(sys.stdin)
    while os.read(pipe, 1):
        pass  # nobody has anything to tell us
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)  # for the commands
    failed = False
    deadline = time.monotonic() + commands.LIMIT
    for command in down:
        try:
            commands.run(command, environment, deadline)
        except CommandFailed as exc:
            failed = True
            print(f"tunmesh: plugins.tun_linux.down: {exc}", file=sys.stderr)  # noqa: T201  # its log
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
