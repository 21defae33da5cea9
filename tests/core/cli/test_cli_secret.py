"""Commands that change the secret, with a node that the test plays."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.core.cli.conftest import Run
from tunmesh.cli import reload as reload_module
from tunmesh.cli import secret as secret_module
from tunmesh.errors import AdminError
from tunmesh.identity.secrets import derive

OLD, NEW = "the-secret-that-was-0123456789abcdef", "the-secret-that-comes-0123456789abc"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The file of secrets; a configuration that names it is beside it."""
    config = tmp_path / "mesh.toml"
    config.write_text(
        f'[mesh]\nsecret_file = "mesh.secret"\n[admin]\nsocket = "{tmp_path}/none.sock"\n'
    )
    file = tmp_path / "mesh.secret"
    file.write_text(f"{OLD}\n")
    file.chmod(0o600)
    return file


class Node:
    """A running node, as the commands see it."""

    def __init__(self) -> None:
        self.behind = 0
        self.reloads = 0
        self.problems: list[str] = []

    def ask(self, _path: object, command: str) -> Any:
        if command == "status":
            return {"mesh": {"peers_old_secret": self.behind}}
        self.reloads += 1
        change = {"key": "x", "old": "1", "new": "", "applies": "live"}
        return {"changes": [change], "problems": self.problems, "warnings": []}


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Node:
    node = Node()
    for module in (secret_module, reload_module):
        monkeypatch.setattr(module, "ask", node.ask)
    return node


def fingerprints(*secrets: str) -> str:
    return " ".join(derive(secret.encode(), "tunmesh").psk_id.hex() for secret in secrets)


def rotate(run: Run, file: Path, *arguments: str) -> Any:
    return run("secret", "rotate", "-c", str(file.with_name("mesh.toml")), *arguments)


def test_all_steps(run: Run, file: Path, node: Node) -> None:
    added = rotate(run, file, "--add")
    new = added.out.strip()
    assert added.code == 0
    assert len(new) == 43
    assert file.read_text() == f"{OLD}\n{new}\n"
    assert fingerprints(OLD, new) in added.err
    used = rotate(run, file, "--use")
    assert (used.code, used.out) == (0, "")
    assert file.read_text() == f"{new}\n\n{OLD}\n"
    assert rotate(run, file, "--retire").code == 0
    assert file.read_text() == f"{new}\n"
    assert node.reloads == 3


def test_the_others_take_the_secret_from_stdin_or_a_file(
    run: Run, file: Path, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{NEW}\n"))
    done = rotate(run, file, "--add", "--from", "-")
    assert (done.code, done.out) == (0, "")
    assert NEW not in done.err
    assert file.read_text() == f"{OLD}\n{NEW}\n"
    other = file.with_name("other")
    other.write_text(NEW)
    assert "(as before)" in rotate(run, file, "--add", "--from", str(other)).err
    assert file.read_text() == f"{OLD}\n{NEW}\n"


@pytest.mark.parametrize("text", ["short", f"{NEW}\n{OLD}\n", ""])
def test_what_is_no_secret_is_not_taken(run: Run, file: Path, text: str) -> None:
    other = file.with_name("other")
    other.write_text(text)
    done = rotate(run, file, "--add", "--from", str(other))
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert NEW not in done.err
    assert file.read_text() == f"{OLD}\n"


def test_nobody_is_left_behind(run: Run, file: Path, node: Node) -> None:
    file.write_text(f"{NEW}\n\n{OLD}\n")
    node.behind = 2
    done = rotate(run, file, "--retire")
    assert done.code == 1
    assert "2 peers" in done.err
    assert file.read_text() == f"{NEW}\n\n{OLD}\n"
    assert rotate(run, file, "--retire", "--force").code == 0
    assert file.read_text() == f"{NEW}\n"


def test_without_a_node_only_the_file_changes(run: Run, file: Path) -> None:
    done = rotate(run, file, "--add")
    assert done.code == 0
    assert "nobody was told" in done.err
    assert file.read_text().startswith(OLD)


def test_a_node_that_refuses_is_told_of(run: Run, file: Path, node: Node) -> None:
    node.problems = ["mesh.networks: is required"]
    done = rotate(run, file, "--add")
    assert done.code == 2
    assert "mesh.networks: is required" in done.err


def test_usage(run: Run, file: Path, tmp_path: Path) -> None:
    assert rotate(run, file).code == 2
    assert rotate(run, file, "--add", "--use").code == 2
    assert "--from belongs to --add" in rotate(run, file, "--use", "--from", "-").err
    file.with_name("mesh.toml").write_text("")
    assert "secret_file: is not set" in rotate(run, file, "--add").err


def test_the_plan_is_printed(run: Run, node: Node) -> None:
    done = run("reload", "--socket", "/nowhere")
    assert (done.code, done.out) == (0, "x: 1 -> nothing (applied)\n")
    assert '"applies": "live"' in run("reload", "--socket", "/nowhere", "--json").out
    node.problems = ["a: wrong", "b: wrong"]
    done = run("reload", "--socket", "/nowhere")
    assert (done.code, done.out) == (2, "")
    assert done.err == "a: wrong\nb: wrong\nthe configuration in force stays\n"


def test_a_reload_without_a_node(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(*_: object) -> None:
        raise AdminError("no node answers")

    monkeypatch.setattr(reload_module, "ask", nobody)
    assert run("reload", "--socket", "/nowhere").code == 1
