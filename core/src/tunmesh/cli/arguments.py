"""Arguments that several commands have."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001  # has no public name

#: What carries out a command; returns the exit code.
Handler: TypeAlias = Callable[[argparse.Namespace], int]

FILE_HELP = "the configuration (default: $TUNMESH_CONFIG, or /etc/tunmesh/tunmesh.toml)"


def lazy(target: str) -> Handler:
    """A handler whose module is imported when it is called."""

    def handler(args: argparse.Namespace) -> int:
        module, _, name = target.partition(":")
        function: Handler = getattr(importlib.import_module(module), name)
        return function(args)

    return handler


def add_file(parser: argparse._ActionsContainer) -> None:
    """Which configuration is meant."""
    parser.add_argument("-c", "--config", metavar="FILE", help=FILE_HELP)


def add_node(parser: argparse.ArgumentParser) -> None:
    """Which running node is meant."""
    which = parser.add_mutually_exclusive_group()
    add_file(which)
    which.add_argument("--socket", metavar="PATH", help="the node's admin socket")


def add_json(parser: argparse._ActionsContainer) -> None:
    """Whether a program reads what is printed."""
    parser.add_argument("--json", action="store_true", help="as JSON")
