from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tunmesh.admin.explanation import Explanation, PlaceFound, Verdict
from tunmesh.cli import explain as command

Run = Callable[..., Any]

FOUND = Explanation(
    source="10.42.1.1",
    destination="10.42.9.9",
    mtu=1400,
    here=Verdict(
        "a\x1b[2J",
        "inside",
        "dropped",
        "no_route",
        PlaceFound("own_address", "10.42.1.1/32", ()),
        PlaceFound("unclaimed", "10.42.0.0/16", ()),
        (),
        None,
    ),
    counter="drops.no_route",
    count=3,
    routes=(),
    refused=(),
    hops=(),
)


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the node answers, the next first."""
    queue: list[Any] = []
    monkeypatch.setattr(command, "ask", lambda *_args, **_options: queue.pop(0))
    return queue


def test_text(run: Run, answers: list[Any], tmp_path: Path) -> None:
    answers.append(msgspec.to_builtins(FOUND))
    code, out, _ = run("explain", "-", "10.42.9.9", "--socket", str(tmp_path / "x"))
    assert code == 0
    assert "\x1b" not in out
    assert "counted in drops.no_route (now 3)" in out
    assert "DROPPED by a" in out.splitlines()[-1]


def test_json_is_handed_through(run: Run, answers: list[Any], tmp_path: Path) -> None:
    answers.append({"schema": 1, "new": "in a later version"})
    code, out, _ = run("explain", "-", "10.42.9.9", "--json", "--socket", str(tmp_path / "x"))
    assert code == 0
    assert json.loads(out) == {"schema": 1, "new": "in a later version"}


def test_an_answer_of_another_version(run: Run, answers: list[Any], tmp_path: Path) -> None:
    answers.append({"schema": 1})
    code, out, err = run("explain", "-", "10.42.9.9", "--socket", str(tmp_path / "x"))
    assert (code, out) == (1, "")
    assert "another version" in err
