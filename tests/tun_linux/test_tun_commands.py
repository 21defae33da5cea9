"""The commands of ``up`` and ``down``."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tunmesh_tun_linux.commands import CommandFailed, run
from tunmesh_tun_linux.farewell import Farewell


def soon(seconds: float = 5) -> float:
    return time.monotonic() + seconds


def test_a_list_is_no_shell_line(tmp_path: Path) -> None:
    file = tmp_path / "file"
    run(["sh", "-c", 'echo "$1" > "$0"', str(file), "$(id) $NAME"], {"NAME": "x"}, soon())
    assert file.read_text() == "$(id) $NAME\n"


def test_a_string_is_one(tmp_path: Path) -> None:
    run(f"echo $NAME $HOME > {tmp_path}/file", {"NAME": "x"}, soon())
    assert (tmp_path / "file").read_text() == "x\n"


def test_a_failure_shows_the_output() -> None:
    with pytest.raises(CommandFailed) as caught:
        run("echo one; printf 'two\\033[31m' >&2; exit 3", {}, soon())
    first, *rest = str(caught.value).splitlines()
    assert first.endswith("ended with exit code 3")
    assert rest == ["  one", "  two?[31m"]


def test_a_signal() -> None:
    with pytest.raises(CommandFailed, match="by signal 9"):
        run("kill -9 $$", {}, soon())


@pytest.mark.parametrize("command", [["/no/such/program"], [""], ["a\0b"]])
def test_what_cannot_be_run(command: list[str]) -> None:
    with pytest.raises(CommandFailed, match="cannot be run"):
        run(command, {}, soon())


def test_the_time_is_limited() -> None:
    began = time.monotonic()
    with pytest.raises(CommandFailed, match="did not end: commands have 10 s\n  begun"):
        run("echo begun; sleep 30 & sleep 30", {}, soon(0.3))
    assert time.monotonic() - began < 3


def test_what_stays_in_the_background_is_not_waited_for() -> None:
    began = time.monotonic()
    run("sleep 3 & true", {}, soon())
    assert time.monotonic() - began < 2


def test_farewell_goes_on_after_a_failure(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "log"
    farewell = Farewell(["echo so >&2; false", f"echo $NAME > {log}"], {"NAME": "x"})
    assert farewell.say() == "down commands failed with exit code 1"
    assert log.read_text() == "x\n"
    error = capfd.readouterr().err
    assert error.startswith("tunmesh: plugins.tun_linux.down: `echo so >&2; false` ended with")
    assert error.endswith("\n  so\n")


def test_farewell_survives_what_ends_the_node(tmp_path: Path) -> None:
    log = tmp_path / "log"
    farewell = Farewell([f"echo x > {log}"], {})
    time.sleep(0.5)  # it has to have come so far that it ignores signals
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(farewell._process.pid, number)
    assert farewell.say() == ""
    assert log.read_text() == "x\n"
