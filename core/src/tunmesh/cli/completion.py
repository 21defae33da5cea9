"""``tunmesh completion``: what makes a shell complete the commands, made of their parsers."""

from __future__ import annotations

import argparse
import os
import sys

import shtab

from tunmesh import cli
from tunmesh.cli.examples import parsers
from tunmesh.cli.plugins import load_plugins
from tunmesh.config import load_config

#: What an argument is, by its name in the help.
_KINDS = {"FILE": shtab.FILE, "PATH": shtab.FILE, "DIR": shtab.DIRECTORY}


def completion_command(args: argparse.Namespace) -> int:
    """Print the script of one shell."""
    parser, commands = cli.build()
    load_plugins(load_config(None, environ=os.environ), strict=False).add_commands(commands)
    for _, child in parsers(parser):
        for action in child._actions:  # noqa: SLF001  # argparse has no public way to look
            if isinstance(action.metavar, str) and action.metavar in _KINDS:
                action.complete = _KINDS[action.metavar]  # type: ignore[attr-defined]
    sys.stdout.write(shtab.complete(parser, args.shell) + "\n")
    return 0
