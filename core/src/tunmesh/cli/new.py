"""``tunmesh plugins new``: the distribution of a new plugin."""

from __future__ import annotations

import argparse
import re
from importlib.metadata import distributions
from pathlib import Path

from tunmesh.loader import PluginHost
from tunmesh.scaffold import names_of, write_distribution


def new_command(args: argparse.Namespace) -> int:
    """Write the distribution of a new plugin, and tell how to go on."""
    host = PluginHost()
    host.discover()
    installed = {
        re.sub(r"[-_.]+", "-", distribution.name).lower() for distribution in distributions()
    }
    names = names_of(args.name, {entry.name for entry in host.entries}, installed)
    directory = Path(args.directory or names.distribution)
    for path in write_distribution(names, args.role, directory):
        print(directory / path)
    print(f"plugin {names.name}, role {args.role}: {directory}/README.md tells how to go on")
    return 0
