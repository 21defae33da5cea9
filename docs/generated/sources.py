"""What several parts are made of."""

from __future__ import annotations

import functools
import re

from tunmesh.cli.plugins import load_plugins
from tunmesh.config.types import DEFAULT_PLUGINS, Config, PluginsOptions
from tunmesh.loader import PluginHost


@functools.cache
def plugins() -> PluginHost:
    """The plugins of the default configuration, loaded."""
    return load_plugins(Config(plugins=PluginsOptions(enabled=DEFAULT_PLUGINS)), strict=True)


def prose(text: str) -> str:
    """Plain text as Markdown that shows it as it is; what stands in backquotes stays code."""
    parts = re.split(r"(`[^`]*`)", re.sub(r"\s+", " ", text))
    return "".join(
        part if part.startswith("`") else re.sub(r"([][\\<>*_|$#])", r"\\\1", part)
        for part in parts
    )
