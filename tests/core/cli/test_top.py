from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from tests.core.cli.test_rates import sample
from tunmesh.cli import top as command
from tunmesh.errors import AdminError

Run = Callable[..., Any]


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the node answers, the next first; then Ctrl-C. No time passes."""
    queue: list[Any] = []
    moments = iter(range(1000))

    def ask(*_: object) -> Any:
        if not queue:
            raise KeyboardInterrupt
        answer = queue.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return msgspec.to_builtins(answer)

    monkeypatch.setattr(command, "ask", ask)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    monkeypatch.setattr(time, "monotonic", lambda: float(next(moments)))
    return queue


def test_once(run: Run, answers: list[Any]) -> None:
    answers += [sample(b=(0, 0)), sample(drops=3, b=(125_000, 2500))]
    code, out, _ = run("top", "--once", "--socket", "x")
    assert code == 0
    assert "1 of 1 peers up" in out
    row = next(line for line in out.splitlines() if line.startswith("b "))
    assert row.split()[:3] == ["b", "up", "direct"]
    assert "1.0 Mbit/s" in row
    assert "20.0 kbit/s" in row
    assert out.splitlines()[-1].split() == ["no_route", "3", "3.0"]
    assert "\x1b" not in out


def test_a_pipe_gets_frames_until_ctrl_c(run: Run, answers: list[Any]) -> None:
    answers += [sample(b=(0, 0))] * 3
    code, out, _ = run("top", "--socket", "x")
    assert (code, out.count("1 of 1 peers up")) == (0, 2)


def test_a_node_that_went_is_shown_as_it_was(run: Run, answers: list[Any]) -> None:
    answers += [sample(b=(0, 0)), AdminError("no node answers at x")]
    code, out, _ = run("top", "--socket", "x")
    assert code == 0
    assert "no node answers at x" in out
    assert "1 of 1 peers up" in out


def test_no_node_at_all(run: Run, answers: list[Any]) -> None:
    answers.append(AdminError("no node answers at x"))
    assert run("top", "--socket", "x") == (1, "", "tunmesh: no node answers at x\n")


def test_names_steer_nothing(run: Run, answers: list[Any]) -> None:
    evil = sample(b=(0, 0))
    peer = msgspec.structs.replace(evil.peers[0], name="[red]b\x1b[2J")
    answers += [msgspec.structs.replace(evil, peers=(peer,))] * 2
    out = run("top", "--once", "--socket", "x").out
    assert "[red]b" in out
    assert "\x1b" not in out


@pytest.mark.parametrize("interval", ["0", "nan", "x", "1e9"])
def test_intervals_that_cannot_be(run: Run, interval: str) -> None:
    assert run("top", "--interval", interval).code == 2
