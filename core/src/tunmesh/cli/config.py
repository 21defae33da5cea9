"""``tunmesh config``: an example, a check, what is in force, and a schema."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

import msgspec

from tunmesh.cli.plugins import load_plugins
from tunmesh.config import Config, ConfigErrors, load_config, read_config, resolve_secrets
from tunmesh.config.checks import hints
from tunmesh.config.importing import import_config
from tunmesh.config.render import PluginTable, example, show
from tunmesh.config.schema import schema
from tunmesh.config.secrets import VARIABLE
from tunmesh.config.types import DEFAULT_PLUGINS, PluginsOptions
from tunmesh.errors import ConfigError
from tunmesh.loader import PluginErrors, PluginHost


def example_command(args: argparse.Namespace) -> int:
    """Print a complete configuration with comments."""
    host = _chosen(args)
    active = [entry for entry in host.entries if entry.state == "active"]
    tables = []
    for entry in active:
        registrations = host.registrations_of(entry.name).values()
        options = tuple(registration.options() for registration in registrations)
        tables.append(_table(host, entry.name, options))
    sys.stdout.write(example([entry.name for entry in active], tables))
    return 0


def check_command(args: argparse.Namespace) -> int:
    """Tell everything that is wrong with a configuration."""
    config, found = read_config(
        args.config, sets=args.set, plugins=args.plugins, environ=os.environ, complete=True
    )
    problems = [str(problem) for problem in found]
    warnings: list[str] = []
    if not any(problem.key.startswith("mesh.secret") for problem in found):
        try:
            warnings += resolve_secrets(config, os.environ)[1]
        except ConfigError as error:
            problems.append(str(error))
    problems += _plugin_problems(config)
    warnings += hints(config)
    if not config.node.addresses and not problems:
        warnings.append("node.addresses: empty, so only addresses found on the device are used")
    name = config.path or "the default configuration"
    for line in problems:
        print(line, file=sys.stderr)
    for line in warnings:
        print(f"{name}: warning: {line}", file=sys.stderr)
    if problems:
        return 2
    print(f"{name}: good")
    return 0


def _plugin_problems(config: Config) -> list[str]:
    """What is wrong with the selection of plugins, and with their tables."""
    host = PluginHost(config)
    host.discover()
    try:
        host.load(config.plugins.enabled, explicit=config.explicit_plugins)
        host.require("transport", "tun")
    except PluginErrors as errors:
        where = config.origin.problem
        problems = [str(where("plugins.enabled", str(error))) for error in errors.errors]
    except ConfigErrors as errors:
        problems = list(errors.problems)
    else:
        problems = []
    return problems + [str(problem) for problem in host.option_problems()]


def show_command(args: argparse.Namespace) -> int:
    """Print the configuration in force, secrets masked."""
    config = load_config(args.config, sets=args.set, plugins=args.plugins, environ=os.environ)
    host = load_plugins(config, strict=False)
    if problems := host.option_problems():
        raise ConfigErrors(problems)
    if not (config.mesh.secret or config.mesh.secret_file) and VARIABLE in os.environ:
        mesh = msgspec.structs.replace(config.mesh, secret=os.environ[VARIABLE])  # masked below
        config = msgspec.structs.replace(config, mesh=mesh)
    tables = []
    others = dict(config.plugins.tables)
    for entry in host.entries:
        if entry.state == "active":
            roles = host.registrations_of(entry.name)
            options = tuple(host.options(entry.name, role) for role in roles)
            tables.append(_table(host, entry.name, options))
            others.pop(entry.name, None)
    sys.stdout.write(show(config, tables, others))
    return 0


def import_command(args: argparse.Namespace) -> int:
    """Translate a configuration of the predecessor."""
    try:
        text = Path(args.file).read_text(encoding="utf-8")
        imported = import_config(text)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read: {error}", path=args.file) from error
    except ConfigError as error:
        raise ConfigError(error.message, key=error.key, path=args.file) from error
    sys.stdout.write(imported.text())
    for note in imported.notes:
        print(f"{args.file}: warning: {note}", file=sys.stderr)
    return 0


def schema_command(args: argparse.Namespace) -> int:
    """Print the JSON Schema of the configuration.

    Plugins that are installed but not selected are not imported: their tables may hold anything.
    """
    host = _chosen(args)
    plugins = {
        entry.name: tuple(
            registration.options for registration in host.registrations_of(entry.name).values()
        )
        for entry in host.entries
        if entry.distribution
    }
    json.dump(schema(plugins), sys.stdout, indent=1, ensure_ascii=False)
    print()
    return 0


def _chosen(args: argparse.Namespace) -> PluginHost:
    """The plugins that ``--plugins`` names, or else those of the default that are installed."""
    if args.plugins is None:
        return load_plugins(Config(plugins=PluginsOptions(enabled=DEFAULT_PLUGINS)), strict=False)
    names = tuple(name.strip() for name in args.plugins.split(",") if name.strip())
    chosen = Config(plugins=PluginsOptions(enabled=names), explicit_plugins=True)
    return load_plugins(chosen, strict=True)


def _table(host: PluginHost, name: str, options: tuple[msgspec.Struct, ...]) -> PluginTable:
    summaries = [registration.summary for registration in host.registrations_of(name).values()]
    return PluginTable(name, "; ".join(summaries), options)
