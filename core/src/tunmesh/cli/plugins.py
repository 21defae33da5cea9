"""``tunmesh plugins``: which there are, and what they offer."""

from __future__ import annotations

import argparse
import inspect
import json
import os
import sys

import msgspec

from tunmesh import hookspecs
from tunmesh.config import Config, ConfigErrors, load_config
from tunmesh.config.toml import plain, toml_value
from tunmesh.loader import PluginEntry, PluginErrors, PluginHost
from tunmesh.loader.validation import HOOKS


def load_plugins(config: Config, *, strict: bool) -> PluginHost:
    """The selected plugins of a configuration, and what fills the roles that they leave empty.

    Raises:
        PluginErrors: Some cannot be used, unless `strict` is false.
    """
    host = PluginHost(config)
    host.discover()
    try:
        host.load(config.plugins.enabled, explicit=config.explicit_plugins)
    except PluginErrors:
        if strict:
            raise
    return host


def list_command(args: argparse.Namespace) -> int:
    """List the plugins, or the hooks that they may have."""
    if args.hooks:
        print("\n\n".join(_hook(name) for name in HOOKS))
        return 0
    config = load_config(args.config, sets=args.set, plugins=args.plugins, environ=os.environ)
    host = load_plugins(config, strict=False)
    if args.json:
        entries = [{**entry.status_dict(), "enabled": entry.enabled} for entry in host.entries]
        json.dump({"schema": 1, "plugins": entries}, sys.stdout, indent=1)
        print()
        return 0
    head = ("NAME", "STATE", "ROLES", "DISTRIBUTION", "VERSION", "ERROR")
    rows = [head, *(_row(entry) for entry in host.entries)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    for row in rows:
        print("  ".join(map(str.ljust, row, widths)).rstrip())
    try:
        host.require("tun", "transport")
    except ConfigErrors as errors:  # a node could not run: tell, though the list is what was asked
        sys.stdout.flush()
        for line in str(errors).splitlines():
            print(f"tunmesh: {line}", file=sys.stderr)
    return 0


def _row(entry: PluginEntry) -> tuple[str, ...]:
    return (
        entry.name,
        entry.state,
        ",".join(entry.roles) or "-",
        entry.distribution or "-",
        entry.version or "-",
        entry.error or "",
    )


def _hook(name: str) -> str:
    function = getattr(hookspecs, name)
    signature = str(inspect.signature(function)).replace("'", "")
    return f"{name}{signature}\n    {(inspect.getdoc(function) or '').partition(chr(10))[0]}"


def check_command(args: argparse.Namespace) -> int:
    """Load one plugin, and tell what it offers or why it cannot be used."""
    host = PluginHost()
    host.discover()
    try:
        host.load([args.name], explicit=True, fill=False)
    except PluginErrors as errors:
        print(f"tunmesh: {errors}", file=sys.stderr)
        return 1
    entry = host.entry(args.name)
    print(f"plugin {entry.name} of {entry.distribution} {entry.version}: good")
    print(f"hooks: {', '.join(host.hooks_of(entry.name))}")
    for warning in entry.warnings:
        print(f"warning: {warning}")
    for role, registration in host.registrations_of(entry.name).items():
        print(f"{role}: {registration.summary}")
        for field in msgspec.structs.fields(registration.options()):
            default = getattr(registration.options(), field.name)
            print(f"  {field.encode_name} = {toml_value(plain(default))}")
    return 0
