from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]


def test_a_distribution_in_its_own_directory(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run("plugins", "new", "my-hello", "--role", "transport")
    assert (code, err) == (0, "")
    *files, last = out.splitlines()
    assert "tunmesh-my-hello/src/tunmesh_my_hello/transport.py" in files
    assert all((tmp_path / file).is_file() for file in files)
    assert last == (
        "plugin my_hello, role transport: tunmesh-my-hello/README.md tells how to go on"
    )

    again = run("plugins", "new", "my-hello", "--role", "tun")
    assert (again.code, again.out) == (1, "")
    assert again.err == ("tunmesh: tunmesh-my-hello is not empty: name another with --directory\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("Hello", "--role", "tun"), "tunmesh: plugin 'Hello': not a name for a plugin: "),
        (("udp", "--role", "tun"), "tunmesh: plugin udp: tunmesh itself has the name: "),
        (("shouter", "--role", "tun"), "tunmesh: plugin shouter: is installed already: "),
        (("hello",), "the following arguments are required: --role"),
        (("hello", "--role", "router"), "argument --role: invalid choice: 'router'"),
    ],
)
@pytest.mark.usefixtures("shouter")
def test_what_cannot_be_written_is_told_in_one_line(
    run: Run, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    code, out, err = run("plugins", "new", *arguments, "--directory", str(tmp_path / "new"))
    assert (code, out) == (2, "")
    assert message in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "new").exists()
