"""A configuration file, the command line and the environment to one checked `Config`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import tomli

from tunmesh.config.checks import check_complete, check_document, node_name
from tunmesh.config.convert import INVALID, Converter, toml_or_text
from tunmesh.config.problems import ConfigErrors, Origin, Problem, join_key, suggestion
from tunmesh.config.scalars import kind_of
from tunmesh.config.types import DEFAULT_PLUGINS, Config, Document, NodeOptions, PluginsOptions
from tunmesh.errors import ConfigError

#: Read when no file is named; need not exist.
DEFAULT_PATH = "/etc/tunmesh/tunmesh.toml"


def load_config(
    path: str | None,
    *,
    sets: Sequence[str] = (),
    plugins: str | None = None,
    environ: Mapping[str, str],
    complete: bool = False,
) -> Config:
    """Read and check a configuration.

    Args:
        path: The file; None for ``$TUNMESH_CONFIG``, or else the default one, which may be absent.
        sets: ``key.path=value`` assignments of the command line.
        plugins: Comma-separated names that replace ``plugins.enabled``.
        environ: The environment.
        complete: Whether everything that a node needs must be there, too.

    Raises:
        ConfigErrors: With everything that is wrong.
    """
    config, problems = read_config(
        path, sets=sets, plugins=plugins, environ=environ, complete=complete
    )
    if problems:
        raise ConfigErrors(problems)
    return config


def read_config(
    path: str | None,
    *,
    sets: Sequence[str] = (),
    plugins: str | None = None,
    environ: Mapping[str, str],
    complete: bool = False,
) -> tuple[Config, list[Problem]]:
    """Like `load_config`, but go on with the defaults where something is wrong.

    Raises:
        ConfigErrors: The file cannot be read, or is no TOML at all.
    """
    document, name = _read_file(path, environ)
    origin = Origin(name)
    problems = _apply_sets(document, sets, origin)
    if plugins is not None:
        names = [part.strip() for part in plugins.split(",") if part.strip()]
        _assign(document, ["plugins", "enabled"], names)
        origin.overrides["plugins.enabled"] = "--plugins"
    converter = Converter(origin, environ)
    converter.problems += problems
    config = _convert(document, origin, converter)
    check_document(config, converter)
    if complete:
        check_complete(config, converter)
    return config, converter.problems


def _read_file(path: str | None, environ: Mapping[str, str]) -> tuple[dict[str, Any], str]:
    """The document, and the name of its file (empty if there is none)."""
    name = path or environ.get("TUNMESH_CONFIG") or DEFAULT_PATH
    try:
        content = Path(name).read_bytes()
    except FileNotFoundError as error:
        if name == DEFAULT_PATH and not path:
            return {}, ""
        raise ConfigErrors([Problem("no such file", path=name)]) from error
    except OSError as error:
        message = f"cannot be read: {error.strerror}"
        raise ConfigErrors([Problem(message, path=name)]) from error
    try:
        return tomli.loads(content.decode()), name
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigErrors([Problem(f"not UTF-8 (line {line})", path=name)]) from error
    except (ValueError, RecursionError) as error:
        raise ConfigErrors([Problem(f"not TOML: {error}", path=name)]) from error


def _apply_sets(document: dict[str, Any], sets: Sequence[str], origin: Origin) -> list[Problem]:
    """Put the assignments of the command line into the document."""
    problems = []
    for assignment in sets:
        name, equals, text = assignment.partition("=")
        try:
            keys = _parse_key(name if equals else "")
            value = toml_or_text(text)
            _refuse_secret(keys, value)
            _assign(document, keys, value)
        except ConfigError as error:
            problems.append(Problem(error.message, error.key or name.strip(), "--set"))
        else:
            key = ""
            for part in keys:
                key = join_key(key, part)
            origin.overrides[key] = "--set"
    return problems


def _refuse_secret(keys: Sequence[str], value: object) -> None:
    if list(keys) == ["mesh", "secret"] or (
        list(keys) == ["mesh"] and isinstance(value, dict) and "secret" in value
    ):
        raise ConfigError(
            "a secret on the command line is seen by every user of this host: "
            "use mesh.secret_file or $TUNMESH_SECRET",
            key="mesh.secret",
        )


def _parse_key(text: str) -> list[str]:
    """The parts of a dotted TOML key."""
    try:
        table = tomli.loads(f"{text} = 0")
    except (ValueError, RecursionError) as error:
        raise ConfigError("not a dotted key: write --set key.path=value") from error
    keys: list[str] = []
    value: Any = table
    while isinstance(value, dict) and len(value) == 1:
        key, value = next(iter(value.items()))
        keys.append(key)
    if value != 0:
        raise ConfigError("not a dotted key: write --set key.path=value")
    return keys


def _assign(document: dict[str, Any], keys: Sequence[str], value: object) -> None:
    table = document
    for key in keys[:-1]:
        table = table.setdefault(key, {})
        if not isinstance(table, dict):
            raise ConfigError(f"{key} is not a table")
    table[keys[-1]] = value


def _convert(document: dict[str, Any], origin: Origin, converter: Converter) -> Config:
    """The typed configuration; defaults stand where a value has a problem."""
    table = dict(document)
    plugins = table.pop("plugins", {})
    if not isinstance(plugins, dict):
        converter.problem("plugins", f"expected a table, got {kind_of(plugins)}")
        plugins = {}
    values = converter.fields(Document, table, "")
    node: NodeOptions = values.get("node", NodeOptions())
    values["node"] = msgspec.structs.replace(node, name=node_name(node.name, converter))
    enabled, tables = _plugins(plugins, converter)
    return Config(
        **values,
        plugins=PluginsOptions(
            enabled=DEFAULT_PLUGINS if enabled is None else enabled, tables=tables
        ),
        origin=origin,
        explicit_plugins=enabled is not None,
        from_environment=frozenset(converter.from_environment),
    )


def _plugins(
    table: dict[str, Any], converter: Converter
) -> tuple[tuple[str, ...] | None, dict[str, dict[str, Any]]]:
    """The plugins that are named, if any are, and the plugins' own tables."""
    tables = {name: value for name, value in table.items() if isinstance(value, dict)}
    for name in table:
        if name != "enabled" and name not in tables:
            hint = suggestion(name, ["enabled"]) or ": a plugin's options are a table"
            converter.problem(join_key("plugins", name), f"unknown key{hint}")
    if "enabled" not in table:
        return None, tables
    tables.pop("enabled", None)
    enabled = converter.value(tuple[str, ...], table["enabled"], "plugins.enabled", {})
    if enabled is INVALID:
        return None, tables
    for name in sorted({name for name in enabled if enabled.count(name) > 1}):
        converter.problem("plugins.enabled", f'"{name}" is named more than once')
    return tuple(dict.fromkeys(enabled)), tables
