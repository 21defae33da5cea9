"""``tunmesh reload``: the running node reads its configuration again, and tells what that means."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from tunmesh.admin.client import ask
from tunmesh.cli.status import find_socket, safe_line
from tunmesh.errors import AdminError

_TAKES = {
    "live": "applied",
    "reconnect": "applied, sessions are made anew",
    "restart": "after a restart",
}


class _Change(msgspec.Struct):
    key: str
    old: str
    new: str
    applies: str


class _Plan(msgspec.Struct):
    changes: list[_Change]
    problems: list[str]
    warnings: list[str]


def reload_command(args: argparse.Namespace) -> int:
    """Have the running node read its configuration again."""
    return reload_node(find_socket(args), as_json=args.json)


def reload_node(socket: Path, *, as_json: bool = False, quiet: bool = False) -> int:
    """Have a node read its configuration again; returns the exit code.

    Args:
        socket: Its admin socket.
        as_json: Print its answer as it came.
        quiet: Print only what went wrong.

    Raises:
        AdminError: There is no node, or it is of another version.
    """
    answer: Any = ask(socket, "reload")
    if as_json:
        print(json.dumps(answer, indent=1, ensure_ascii=False))
    try:
        plan = msgspec.convert(answer, _Plan)
    except msgspec.ValidationError as error:
        raise AdminError(f"the node's answer is of another version: {error}") from error
    for line in (*plan.problems, *(f"warning: {warning}" for warning in plan.warnings)):
        print(safe_line(line), file=sys.stderr)
    if plan.problems:
        print("the configuration in force stays", file=sys.stderr)
        return 2
    if not as_json and not quiet:
        for line in _lines(plan.changes):
            print(safe_line(line))
    return 0


def _lines(changes: Iterable[_Change]) -> list[str]:
    """One line for each change, and what it takes."""
    lines = [
        f"{change.key}: {change.old or 'nothing'} -> {change.new or 'nothing'} "
        f"({_TAKES.get(change.applies, change.applies)})"
        for change in changes
    ]
    return lines or ["nothing has changed"]
