"""TOML, command line and environment to typed, frozen options.

Knows the core's options, and how to convert the options of plugins; does not know the plugins.
"""

from tunmesh.config.load import load_config, read_config
from tunmesh.config.problems import ConfigErrors, Origin, Problem
from tunmesh.config.secrets import resolve_secrets
from tunmesh.config.types import (
    DEFAULT_PLUGINS,
    AdminOptions,
    BootstrapOptions,
    Config,
    LogOptions,
    MeshOptions,
    NodeOptions,
    PluginsOptions,
    RoutingOptions,
    Subnet,
    TimingOptions,
)
from tunmesh.durations import Duration

__all__ = [
    "DEFAULT_PLUGINS",
    "AdminOptions",
    "BootstrapOptions",
    "Config",
    "ConfigErrors",
    "Duration",
    "LogOptions",
    "MeshOptions",
    "NodeOptions",
    "Origin",
    "PluginsOptions",
    "Problem",
    "RoutingOptions",
    "Subnet",
    "TimingOptions",
    "load_config",
    "read_config",
    "resolve_secrets",
]
