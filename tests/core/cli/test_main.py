from __future__ import annotations

import os
import re
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable
from typing import Any

import pytest

from tunmesh import __version__, node
from tunmesh.errors import TransportError

Run = Callable[..., Any]


def test_the_version(run: Run) -> None:
    assert run("--version") == (0, f"tunmesh {__version__}\n", "")


def test_help_lists_the_commands(run: Run) -> None:
    code, out, err = run("--help")
    assert (code, err) == (0, "")
    for command in (
        "run",
        "status",
        "peers",
        "routes",
        "groups",
        "stop",
        "top",
        "explain",
        "capture",
        "doctor",
        "completion",
        "plugins",
        "config",
        "secret",
    ):
        assert re.search(rf"\n    {command}\s", out)
    assert "Selected plugins may add commands" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "tunmesh: the following arguments are required: COMMAND (see tunmesh --help)\n"),
        (
            ("run", "--colour"),
            "tunmesh: unrecognized arguments: --colour (see tunmesh --help)\n",
        ),
        (
            ("run", "--log-level", "loud"),
            (
                "tunmesh run: argument --log-level: invalid choice: 'loud' (choose from 'debug', "
                "'info', 'warning', 'error') (see tunmesh run --help)\n"
            ),
        ),
        (
            ("status", "--sock", "x"),
            "tunmesh: unrecognized arguments: --sock x (see tunmesh --help)\n",
        ),
        (
            ("status", "-c", "x", "--socket", "y"),
            (
                "tunmesh status: argument --socket: not allowed with argument -c/--config "
                "(see tunmesh status --help)\n"
            ),
        ),
        (
            ("sttus",),
            "tunmesh: there is no command sttus, did you mean status? (see tunmesh --help)\n",
        ),
    ],
)
def test_wrong_usage_is_one_line(run: Run, arguments: tuple[str, ...], message: str) -> None:
    assert run(*arguments) == (2, "", message)


def test_run_hands_over_its_arguments(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Namespace] = []

    def accept(args: Namespace) -> int:
        seen.append(args)
        return 0

    monkeypatch.setattr(node, "run_command", accept)
    options = ("-c", "f", "--plugins", "a,b", "--set", "x=1", "--log-level", "debug")
    assert run("run", *options, "--log-format", "json", "--set", "y=2").code == 0
    (args,) = seen
    assert (args.config, args.plugins) == ("f", "a,b")
    assert args.set == ["x=1", 'log.level="debug"', 'log.format="json"', "y=2"]
    assert run("run").code == 0
    assert seen[1].set == []


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (TransportError("port in use"), 1, "tunmesh: port in use\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_errors_of_commands(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, message: str
) -> None:
    def fail(_args: Namespace) -> int:
        raise error

    monkeypatch.setattr(node, "run_command", fail)
    assert run("run") == (code, "", message)


def test_debugging_adds_a_traceback(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_args: Namespace) -> int:
        raise TransportError("port in use")

    monkeypatch.setattr(node, "run_command", fail)
    err = run("run", "--log-level", "debug").err
    assert "Traceback" in err
    assert err.endswith("tunmesh: port in use\n")


def test_a_file_that_is_missing(run: Run) -> None:
    assert run("plugins", "-c", "/nowhere/x.toml") == (
        2,
        "",
        "tunmesh: /nowhere/x.toml: no such file\n",
    )


@pytest.mark.usefixtures("shouter")
def test_selected_plugins_add_commands(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    assert run("shout", "hello").code == 2
    path = tmp_path / "x.toml"
    path.write_text("plugins.enabled = ['shouter', 'broken']")
    monkeypatch.setenv("TUNMESH_CONFIG", str(path))
    assert run("shout", "hello") == (0, "HELLO\n", "")
    assert run("shout").err.startswith("tunmesh shout: the following arguments are required: word")
    assert run("shuot") == (
        2,
        "",
        (
            "tunmesh: there is no command shuot, did you mean shout?; "
            "plugin broken (from shouter): import failed: OSError: no luck (see tunmesh --help)\n"
        ),
    )


def tunmesh(*arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tunmesh", *arguments],
        capture_output=True,
        text=True,
        timeout=15,
        check=False,
        **more,
    )


def test_it_runs_as_a_module() -> None:
    result = tunmesh("--version")
    assert (result.returncode, result.stdout) == (0, f"tunmesh {__version__}\n")


def test_help_imports_little() -> None:
    script = (
        "import sys\n"
        "from tunmesh.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'msgspec', 'pluggy', 'stevedore', 'anyio', 'nacl', 'cryptography', 'asyncio'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=15, check=False
    )
    assert (result.returncode, result.stderr) == (0, "")


def test_a_reader_that_goes_away_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as pipe:
        result = subprocess.run(
            [sys.executable, "-m", "tunmesh", "config", "example"],
            stdout=pipe,
            stderr=subprocess.PIPE,
            text=True,
            timeout=15,
            check=False,
        )
    assert (result.returncode, result.stderr) == (1, "")


def test_wrong_usage_of_the_program() -> None:
    result = tunmesh("config", "check", "/nowhere/x.toml")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == "tunmesh: /nowhere/x.toml: no such file\n"
